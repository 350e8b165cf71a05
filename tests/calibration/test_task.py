"""The plan of a general task."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.calibration import (
    AdvantageTable,
    CalibrationError,
    CertifiedLoss,
    ConfidenceMap,
    LeastCost,
    LeastOffload,
    MostAccuracy,
    Objective,
    Platt,
    TaskPlan,
    TaskRule,
    WhileItHelps,
    accuracy_interval,
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


def test_0_and_1_are_planned_as_right_and_wrong() -> None:
    """Floats, integers and bool of two values give one plan, with exact intervals."""
    score, local, remote = draw(graded=False)
    plain = plan_task(score, local == 1, remote == 1, CertifiedLoss(0.1))
    for kind in (np.float64, np.float32, np.int64):
        found = plan_task(score, local.astype(kind), remote.astype(kind), CertifiedLoss(0.1))
        assert found.to_dict() == plain.to_dict()
    exact = accuracy_interval(remote == 1)
    assert (plain.remote.low, plain.remote.high) == exact


def test_a_score_on_another_scale_makes_the_same_decisions() -> None:
    """The plan depends on the order of the score alone."""
    score, local, remote = draw()
    one, other = (plan_task(some, local, remote, MostAccuracy(0.3)) for some in (score, 100 * score - 7))
    forward = [decide_task(some, plan.rule).forward for some, plan in ((score, one), (100 * score - 7, other))]
    assert (forward[0] == forward[1]).mean() > 0.999
    assert one.calibration.value == other.calibration.value


def test_weights_are_those_of_repeated_inputs() -> None:
    """The figures of weighted inputs are those of a population in which they are more frequent."""
    score, local, remote = draw(4000)
    weight = np.where(score > score.mean(), 3.0, 1.0)
    found = plan_task(score, local, remote, MostAccuracy(0.3), weight=weight)
    assert found.calibration.value.value == pytest.approx(np.average(local, weights=weight))
    assert found.remote.value == pytest.approx(np.average(remote, weights=weight))
    assert found.effective_n == pytest.approx(weight.sum() ** 2 / (weight**2).sum())


def test_a_certificate_by_groups_holds_in_every_group() -> None:
    """With a largest loss within groups, the inputs are split, and each group is tested."""
    score, local, remote = draw(6000)
    groups = np.arange(6000) % 3
    found = plan_task(score, local, remote, CertifiedLoss(0.05), groups=groups, max_group_loss=0.1)
    assert found.certificate is not None
    assert (found.certificate.n, found.certificate.group_loss) == (4800, 0.1)
    assert found.policy.groups is not None
    assert all(one.cascade.value > one.remote.value - 0.1 for one in found.policy.groups.groups)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"score": np.full(100, 2.0)}, "score"),
        ({"score": np.full(100, np.nan)}, "score"),
        ({"score": np.full(100, 1e39)}, "score"),
        ({"score": np.zeros((100, 1))}, "score"),
        ({"score": np.zeros(5)}, "score"),
        ({"local_value": np.full(100, 1.2)}, "local_value"),
        ({"local_value": np.full(100, -0.2)}, "local_value"),
        ({"remote_value": np.full(100, np.nan)}, "remote_value"),
        ({"remote_value": np.ones(99)}, "remote_value"),
        ({"remote_value": np.array(["right"] * 100)}, "remote_value"),
        ({"objective": LeastCost(0, 1, 1, [1.0, 2.0])}, "objective"),
        ({"estimate": "confidences"}, "estimate"),
        ({"calibrator": "temperature"}, "calibrator"),
        ({"groups": np.zeros(9, int)}, "groups"),
        ({"weight": np.zeros(100)}, "weight"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_cannot_be_planned_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    """One sentence names the argument."""
    score, local, remote = draw(100)
    arguments = {"score": score, "local_value": local, "remote_value": remote, "objective": MostAccuracy(0.3), **change}
    with pytest.raises(CalibrationError, match=f"^{named}"):
        plan_task(**arguments)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"score": -draw(100)[0]}, id="the other sign"),
        pytest.param({"local_value": np.zeros(100)}, id="all wrong"),
        pytest.param({"remote_value": draw(100)[1]}, id="the same values"),
    ],
)
def test_what_looks_wrong_is_said(change: dict[str, Any]) -> None:
    """A plan of such data warns, in its text and in its record; one of usual data does not."""
    score, local, remote = draw(100)
    assert plan_task(score, local, remote, MostAccuracy(0.3)).warnings == ()
    arguments: dict[str, Any] = {"score": score, "local_value": local, "remote_value": remote, **change}
    found = plan_task(objective=MostAccuracy(0.3), **arguments)
    assert len(found.warnings) == 1
    assert found.warnings[0] in str(found)
    assert found.record.advice[0] == found.warnings[0]


# --- several scores


def several(n: int, seed: int, signal: float) -> tuple[dict[str, NDArray[np.float64]], NDArray[Any], NDArray[Any]]:
    """Return three scores that show as much, by independent noise, and whether both models are right."""
    rng = np.random.default_rng(seed)
    ease = rng.normal(size=n)
    local, remote = rng.random(n) < 1 / (1 + np.exp(-ease)), rng.random(n) < 0.8
    return {name: signal * ease + rng.normal(size=n) for name in ("a", "b", "c")}, local, remote


def test_the_score_that_shows_more_is_chosen() -> None:
    """Whatever its place; the plan is then that of the score by itself, but for what was considered."""
    scores, local, remote = several(600, 0, 0.0)
    for name in scores:
        given = {**scores, name: several(600, 0, 2.0)[0][name]}
        found = plan_task(given, local, remote, MostAccuracy(0.3))
        alone = plan_task(given[name], local, remote, MostAccuracy(0.3), score_name=name)
        assert found.score_name == name
        for part in ("edges", "values", "threshold", "estimate"):
            assert getattr(found.record, part) == getattr(alone.record, part)
        assert found.calibration == alone.calibration
        assert {one.score for one in found.routing} == set(scores)


def test_one_score_by_name_is_one_score() -> None:
    """The two ways to give it are the same."""
    score, local, remote = draw()
    one = plan_task(score, local, remote, MostAccuracy(0.3), score_name="x")
    assert plan_task({"x": score}, local, remote, MostAccuracy(0.3)).to_dict() == one.to_dict()


def test_scores_that_tell_nothing_apart_are_left_out() -> None:
    """If all do, that is an error; so is one that is not finite."""
    scores, local, remote = several(100, 1, 1.0)
    found = plan_task({"flat": np.ones(100), **scores}, local, remote, MostAccuracy(0.3))
    assert {one.score for one in found.routing} == set(scores)
    with pytest.raises(CalibrationError, match="score: expected different numbers"):
        plan_task({"flat": np.ones(100), "level": np.zeros(100)}, local, remote, MostAccuracy(0.3))
    with pytest.raises(CalibrationError, match="score b: expected finite numbers"):
        plan_task({**scores, "b": np.full(100, np.nan)}, local, remote, MostAccuracy(0.3))
    with pytest.raises(CalibrationError, match="of the same inputs"):
        plan_task({**scores, "b": np.ones(99)}, local, remote, MostAccuracy(0.3))


def test_a_test_on_all_inputs_is_about_the_first_score() -> None:
    """A choice by the same inputs would void the certificate; a held-out test allows one."""
    scores, local, remote = several(400, 2, 0.0)
    scores["c"] = several(400, 2, 2.0)[0]["c"]
    found = plan_task(scores, local, remote, CertifiedLoss(0.2))
    alone = plan_task(scores["a"], local, remote, CertifiedLoss(0.2), score_name="a")
    assert found.to_dict() == alone.to_dict()
    chosen = plan_task(scores, local, remote, CertifiedLoss(0.2), estimate="labels")
    assert {one.score for one in chosen.routing} == set(scores)
    assert chosen.certificate is not None
    assert chosen.certificate.n == 320


@pytest.mark.slow
@pytest.mark.parametrize("signal", [0.0, 1.0])
def test_the_choice_of_the_score_does_not_make_the_estimate_too_good(signal: float) -> None:
    """Over draws, what is printed is what the plan does on new inputs; the best of three plans promises too much."""
    errors, lucky, inside = [], [], []
    for seed in range(60):
        given, new = several(200, seed, signal), several(20_000, 10_000 + seed, signal)

        def truth(plan: TaskPlan, new: Any = new) -> float:
            scores, local, remote = new
            return float(np.where(decide_task(scores[plan.score_name], plan.rule).forward, remote, local).mean())

        def plan(scores: Any, given: Any = given, seed: int = seed, **options: Any) -> TaskPlan:
            _, local, remote = given
            return plan_task(scores, local, remote, MostAccuracy(0.3), even_without_gain=True, seed=seed, **options)

        found = plan(given[0])
        errors.append(found.policy.chosen.accuracy - truth(found))
        low, high = found.policy.chosen.accuracy_interval
        inside.append(low <= truth(found) <= high)
        best = max((plan(given[0][name], score_name=name) for name in given[0]), key=lambda p: p.policy.chosen.accuracy)
        lucky.append(best.policy.chosen.accuracy - truth(best))
    assert abs(np.mean(errors)) < 0.009  # about twice its standard error
    assert np.mean(lucky) > np.mean(errors) + 0.005
    assert np.mean(inside) >= 0.9
