"""The plan of a general task."""

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.calibration import (
    AdvantageTable,
    CertifiedLoss,
    ConfidenceMap,
    LeastCost,
    LeastOffload,
    MostAccuracy,
    Objective,
    Platt,
    TaskRule,
    WhileItHelps,
    decide_task,
    plan_task,
)

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


def draw(n: int = 1500, seed: int = 0, *, graded: bool = True) -> tuple[NDArray[np.float64], ...]:
    """Return scores and the values of both models, of which the remote's is better where the score is low."""
    rng = np.random.default_rng(seed)
    ease = rng.random(n)
    local, remote = rng.beta(1 + 6 * ease, 1.5), rng.beta(6, 1.5 + 0.3 * ease)
    if not graded:
        local, remote = (np.where(rng.random(n) < mean, 1.0, 0.0) for mean in (local, remote))
    return 5 * ease + rng.normal(0.0, 0.7, n) - 2, local, remote


@pytest.mark.parametrize(
    "objective",
    [
        MostAccuracy(0.3),
        WhileItHelps(),
        LeastOffload(accuracy=0.75),
        LeastOffload(loss=0.05),
        LeastCost(0.0, 0.05, 0.02, 1.0),
        CertifiedLoss(0.05),
    ],
    ids=str,
)
@pytest.mark.parametrize("graded", [True, False])
def test_every_objective_plans_graded_values(objective: Objective, graded: bool) -> None:
    """The chosen point is on the curve, its loss is what was asked for, and the record has the table of the rule."""
    score, local, remote = draw(graded=graded)
    found = plan_task(score, local, remote, objective, score_name="log-probability")

    chosen, loss = found.policy.chosen, found.policy.chosen.loss
    assert chosen in found.policy.curve
    assert loss is not None
    assert 0 < chosen.offload_rate < 1
    assert chosen.accuracy > local.mean()
    if isinstance(objective, LeastOffload) and objective.loss is not None:
        assert loss.value <= objective.loss
    if isinstance(objective, CertifiedLoss):
        assert found.certificate is not None
        assert loss.value < objective.loss
    decided = decide_task(score, found.rule)
    assert decided.forward.mean() == pytest.approx(chosen.offload_rate, abs=0.02)
    assert (found.record.merge, found.record.score) == ("replace", "log-probability")
    assert found.record.values == tuple(found.rule.table.values.tolist())
