"""The plan of a general task."""

import numpy as np
import pytest

from edgecascade.calibration import AdvantageTable, ConfidenceMap, Platt, TaskRule, decide_task

TABLE = AdvantageTable(np.array([-1, 2], np.float32), np.array([-0.3, 0, 0.2], np.float32), np.array([10, 10, 10]))


@pytest.mark.parametrize("confidence", [Platt(0.7, -0.2), ConfidenceMap((-3.0, 0.0, 4.0), (0.1, 0.5, 0.9))])
def test_a_decision_looks_up_the_score_and_maps_it(confidence: Platt | ConfidenceMap) -> None:
    """The table decides, the map gives the confidence, and both are those of float64 within float32's rounding."""
    score = np.random.default_rng(0).normal(0.0, 3.0, 500)
    found = decide_task(score, TaskRule(confidence, TABLE, threshold=-0.1))

    assert found.score.dtype == found.confidence.dtype == found.advantage.dtype == np.float32
    np.testing.assert_array_equal(found.score, score.astype(np.float32))
    np.testing.assert_allclose(found.confidence, confidence(score), atol=1e-6)
    np.testing.assert_array_equal(found.forward, score < -1.0)


def test_a_score_that_is_not_a_number_is_forwarded() -> None:
    """The confidence of such an input is unknown, so it goes to the remote whatever the threshold."""
    maps: tuple[Platt | ConfidenceMap, ...] = (Platt(0.7, -0.2), ConfidenceMap((0.0,), (0.5,)))
    for confidence in maps:
        found = decide_task(np.array([np.nan, 5.0, np.inf, -np.inf]), TaskRule(confidence, TABLE, threshold=-1.0))

        assert found.forward.tolist() == [True, False, False, False]
        assert np.isnan(found.confidence).tolist() == [True, False, False, False]
