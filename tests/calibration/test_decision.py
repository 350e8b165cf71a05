"""The reference decision on rows with a known answer; `tests/export/test_fold.py` compares the graph with it."""

import numpy as np
import pytest

from edgecascade.calibration import AdvantageTable, DecisionRule, decide, softmax

TABLE = AdvantageTable(np.array([0.6], np.float32), np.array([-0.25, 0.25], np.float32), np.array([10, 10]))
RULE = DecisionRule(temperature=2.0, table=TABLE, threshold=0.25)


@pytest.mark.parametrize(
    ("row", "label", "advantage", "forward"),
    [
        pytest.param([9.0, 0.0, 0.0], 0, 0.25, False, id="sure: an advantage equal to the threshold stays"),
        pytest.param([0.0, 0.1, 0.0], 1, -0.25, True, id="unsure"),
        pytest.param([0.0, 9.0, 9.0], 1, -0.25, True, id="of equal logits the first"),
        pytest.param([0.0, -np.inf, 9.0], 2, 0.25, False, id="a masked class"),
    ],
)
def test_a_row_is_decided(row: list[float], label: int, advantage: float, forward: bool) -> None:
    """The label, advantage and forward decision follow their definitions, and the confidence is the calibrated one."""
    decision = decide(np.array([row], np.float32), RULE)
    assert (decision.label[0], decision.advantage[0], decision.forward[0]) == (label, advantage, forward)
    assert decision.confidence[0] == softmax(np.array([row]), 2.0).max() == decision.probabilities.max()


@pytest.mark.parametrize("row", [[np.nan, 0.0], [np.inf, 0.0], [-np.inf, -np.inf]])
def test_a_row_without_confidence_is_forwarded_at_any_threshold(row: list[float]) -> None:
    """A NaN confidence is below no threshold, yet the row is forwarded."""
    decision = decide(np.array([row], np.float32), DecisionRule(1.0, TABLE, threshold=-1.0))
    assert decision.forward[0]
    assert np.isnan([decision.confidence[0], decision.advantage[0]]).all()
