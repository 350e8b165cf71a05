"""A plan meets its objective on the given inputs and on new ones."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.calibration import (
    ESTIMATES,
    MERGES,
    SCORES,
    CalibrationError,
    CascadePlan,
    CertifiedLoss,
    LeastCost,
    LeastOffload,
    MostAccuracy,
    Objective,
    Outcomes,
    Pair,
    WhileItHelps,
    advantage_intervals,
    advantage_table,
    choose_routing,
    decide,
    fit_temperature,
    monotone_advantage_table,
    operating_curve,
    operating_points,
    plan,
    plan_cascade,
    plan_certified,
    routing_score,
    shrunk_advantage_table,
)
from edgecascade.calibration.certificate import exact_p_value
from edgecascade.calibration.cross_fit import cross_fit, estimate_advantage
from edgecascade.calibration.intervals import proportion_interval
from edgecascade.calibration.selection import points_of, select

Sampled = Callable[..., tuple[NDArray[np.float64], NDArray[np.int64]]]


def outcomes(n: int = 1000, seed: int = 0) -> Outcomes:
    """Draw a local model with calibrated confidence and a remote that is right 90 % of the time."""
    rng = np.random.default_rng(seed)
    score = rng.uniform(0.3, 1.0, n).astype(np.float32)
    remote = rng.random(n) < 0.9
    return Outcomes(score, score, np.full(n, 0.9, np.float32), rng.random(n) < score, remote, remote)


@pytest.mark.parametrize("estimate", ["confidences", "labels", "shrunk"])
def test_the_policy_is_the_chosen_point_of_its_curve(estimate: str) -> None:
    """The threshold, curve, intervals and text all belong to the table of that estimate."""
    seen = outcomes()
    policy = plan(seen, MostAccuracy(0.3), estimate=estimate)
    advantage = policy.table(seen.score)
    fixed = operating_curve(advantage, seen.local_correct, seen.merged_correct)
    assert [(p.threshold, p.offload_rate) for p in policy.curve] == [(p.threshold, p.offload_rate) for p in fixed]
    assert (policy.curve[0].accuracy, policy.curve[-1].accuracy) == (fixed[0].accuracy, fixed[-1].accuracy)
    assert policy.chosen == MostAccuracy(0.3).choose(policy.curve, 1.0, 1000)
    assert np.mean(advantage < np.float32(policy.threshold)) == policy.chosen.offload_rate <= 0.3
    assert policy.intervals == advantage_intervals(policy.table, seen.score, seen.local_correct, seen.merged_correct)
    assert (policy.estimate, policy.objective) == (estimate, str(MostAccuracy(0.3)))
    assert policy.advice


def test_each_estimate_uses_its_table() -> None:
    """They use the confidences of both models, correctness, or correctness in many bins, shrunk or monotone."""
    seen = outcomes()
    tables = {
        "confidences": advantage_table(seen.score, seen.local_confidence, seen.remote_confidence, 15),
        "labels": advantage_table(seen.score, seen.local_correct, seen.remote_correct, 15),
        "shrunk": shrunk_advantage_table(seen.score, seen.local_correct, seen.remote_correct, 50),
        "monotone": monotone_advantage_table(seen.score, seen.local_correct, seen.remote_correct, 50),
    }
    for estimate, table in tables.items():
        np.testing.assert_array_equal(plan(seen, WhileItHelps(), estimate=estimate).table.values, table.values)


@pytest.mark.parametrize("bins", [1, 5])
def test_a_remote_better_everywhere_gets_every_input(bins: int) -> None:
    """Without a limit on the rate and with a negative advantage in every bin, every input is forwarded."""
    score = np.linspace(0.3, 0.9, 100, dtype=np.float32)
    right = np.ones(100, bool)
    seen = Outcomes(score, score, np.ones_like(score), ~right, right, right)
    assert plan(seen, MostAccuracy(1.0), estimate="confidences", bins=bins).chosen.offload_rate == 1.0


def test_an_offload_rate_of_zero_forwards_nothing() -> None:
    """Not even the lowest possible advantage is forwarded."""
    policy = plan(outcomes(), MostAccuracy(0.0))
    assert policy.chosen.offload_rate == 0.0
    assert not (np.float32(-1.0) < np.float32(policy.threshold))


def test_the_allowed_loss_is_relative_to_the_remote() -> None:
    """A merge that is always right does not raise the required accuracy."""
    seen = outcomes()
    merged = Outcomes(**{**vars(seen), "merged_correct": np.ones(len(seen), bool)})
    chosen = plan(merged, LeastOffload(loss=0.01)).chosen
    assert chosen.accuracy >= seen.remote_correct.mean() - 0.01
    assert chosen.offload_rate < 0.6


def test_a_certified_plan_forwards_at_the_certified_rate() -> None:
    """Table and thresholds come from one part of the inputs, the certificate from the other."""
    planning, testing = outcomes(1000, 1), outcomes(3000, 2)
    policy, certificate = plan_certified(planning, testing, CertifiedLoss(0.02))
    forward = policy.table(testing.score) < np.float32(policy.threshold)
    assert (certificate.n, certificate.offload_rate) == (3000, forward.mean())
    lost = testing.remote_correct.astype(int) - np.where(forward, testing.remote_correct, testing.local_correct)
    assert lost.mean() <= 0.02
    assert str(certificate) in policy.objective


def test_a_certificate_needs_more_offload_than_an_estimate() -> None:
    """The certified plan forwards more than a plan with the same loss as a point estimate."""
    planning = outcomes(1000, 1)
    _, certificate = plan_certified(planning, outcomes(3000, 2), CertifiedLoss(0.02))
    assert certificate.offload_rate > plan(planning, LeastOffload(loss=0.02)).chosen.offload_rate


def test_a_certified_loss_requires_test_inputs() -> None:
    """A `CertifiedLoss` can choose a point, but a plan with a certificate needs inputs of its own."""
    with pytest.raises(CalibrationError, match=r"^objective: .*plan_certified"):
        plan(outcomes(), CertifiedLoss(0.02))


@pytest.mark.parametrize("estimate", ["auto", *ESTIMATES])
@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("score", SCORES)
def test_identical_models_forward_nothing(sampled: Sampled, score: str, merge: str, estimate: str) -> None:
    """A remote that always agrees gains nothing, so every objective that is about gains keeps all inputs, and says so.

    Its logits are on another scale, so the fitted temperatures leave rounding errors in the confidences.
    """
    logits, labels = sampled(n=400, classes=4, seed=7)
    pair = Pair(logits, fit_temperature(logits, labels), 3 * logits, fit_temperature(3 * logits, labels), labels)
    for objective in (WhileItHelps(), MostAccuracy(0.3), LeastCost(1.0, 1.0, 1.0, 10.0)):
        found = plan(pair.outcomes(score, merge), objective, estimate=estimate)
        assert found.chosen.offload_rate == 0.0
        assert not (found.table(pair.outcomes(score, merge).score) < np.float32(found.threshold)).any()
        assert found.advice[0].startswith("nothing will be forwarded: cross-fitting shows no gain from it")


def test_equal_bins_never_forward_an_input_without_an_advantage() -> None:
    """The tie-break orders bins of one value and leaves their signs alone, for all gains of six bins."""
    score = np.arange(60, dtype=np.float32)
    for gains in product((-1, 0, 1), repeat=6):
        gain = np.repeat(gains, 10)
        monotone, shrunk = (
            estimate(score, gain < 0, gain > 0, 6) for estimate in (monotone_advantage_table, shrunk_advantage_table)
        )
        for table in (monotone, shrunk):
            assert len(set(table.values.tolist())) == 6
            assert any(gains) or (table.values >= 0).all()
        points = operating_points(monotone(score), gain < 0, gain > 0)
        sums = [sum(gains[:bins]) for bins in range(7)]  # what forwarding the lowest bins gains
        assert WhileItHelps().choose(points, 1.0, 60).offload_rate == sums.index(max(sums)) / 6


def test_a_plan_without_gain_forwards_if_told_to() -> None:
    """Where the table has bins that seem to gain and cross-fitting shows no gain, only the option forwards them."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        score, local, remote = rng.random(300).astype(np.float32), rng.random(300) < 0.8, rng.random(300) < 0.78
        seen = Outcomes(score, score, score, local, remote, remote)
        told = plan(seen, WhileItHelps(), even_without_gain=True)
        if told.chosen.offload_rate > 0 and told.chosen.accuracy <= local.mean():
            kept = plan(seen, WhileItHelps())
            assert kept.chosen.offload_rate == 0.0
            assert "cross-fitting shows no gain" in kept.advice[0]
            assert "nothing will be forwarded" not in str(told)
            return
    raise AssertionError("no draw of 20 showed the case")


@pytest.mark.parametrize("aim", [LeastOffload(accuracy=0.85), LeastOffload(loss=0.02, confidence=0.9)], ids=str)
def test_the_printed_chance_is_how_often_the_aim_is_met(aim: LeastOffload) -> None:
    """Over draws, the aim is met as often as the plans say, and at least with the confidence that was asked for."""
    pool, rng = outcomes(100_000, 12345), np.random.default_rng(1)
    met, said = [], []
    for draw in range(50):
        found = plan(pool[rng.integers(0, len(pool), 400)], aim, seed=draw)
        assert found.chance is not None
        forward = found.table(pool.score) < np.float32(found.threshold)
        accuracy = np.where(forward, pool.merged_correct, pool.local_correct).mean()
        met.append(accuracy >= aim.wanted(float(pool.remote_correct.mean())))
        said.append(found.chance)
    assert np.mean(met) >= aim.confidence - 2 * np.sqrt(aim.confidence * (1 - aim.confidence) / 50)
    assert abs(np.mean(met) - np.mean(said)) < 0.2


def test_the_printed_chance_holds_at_every_level() -> None:
    """Over aims from below the local model's accuracy to above the best, many, half and few of the aims are met."""
    pool, rng, said, met = outcomes(50_000, 12345), np.random.default_rng(2), [], []
    for draw in range(500):
        seen, aim = pool[rng.integers(0, len(pool), 300)], LeastOffload(accuracy=rng.uniform(0.58, 0.92))
        fit = cross_fit(lambda *_, seen=seen: seen, aim, scores=("",), merges=("",), estimate="monotone", seed=draw)
        try:
            selected = select(fit, aim)
        except CalibrationError:  # out of reach on these inputs
            continue
        table = estimate_advantage(seen, "monotone", at=selected.rate)
        points = points_of(seen, table)
        threshold = next(point.threshold for point in points if point.offload_rate >= selected.rate - 1e-9)
        forward = table(pool.score) < np.float32(threshold)
        met.append(np.where(forward, pool.merged_correct, pool.local_correct).mean() >= aim.wanted(1.0))
        assert selected.chance is not None
        said.append(selected.chance)
    chances, hits = np.array(said), np.array(met)
    for low, high in ((0.5, 0.55), (0.55, 0.7), (0.7, 1.0)):
        some = (chances >= low) & (chances <= high)
        assert some.sum() > 60
        least, most = proportion_interval(int(hits[some].sum()), int(some.sum()), 0.99)
        assert least <= chances[some].mean() <= most


def test_an_aim_that_one_fold_misses_is_not_refused() -> None:
    """What forwarding everything reaches on these inputs is never called out of reach, whatever the folds say."""
    for seed in range(20):
        seen = outcomes(300, seed)
        aim = float(seen.remote_correct.mean())
        found = plan(seen, LeastOffload(accuracy=aim))
        assert found.chance is not None
        assert 0 < found.chance < 1
        with pytest.raises(CalibrationError, match=r"^accuracy: .* is out of reach .*; the best is"):
            plan(seen, LeastOffload(accuracy=1.0))
        with pytest.raises(
            CalibrationError, match=r"^confidence: expected at most \d+%, the chance of meeting the aim"
        ):
            plan(seen, LeastOffload(accuracy=aim, confidence=0.99))


def test_some_outcomes_keep_their_weights() -> None:
    """Weights travel with their inputs and keep a mean of 1, so that no total depends on the choice of inputs."""
    seen = outcomes(4)
    assert seen[np.array([1, 3])].weight is None
    weighted = replace(seen, weight=np.array([0.5, 1.0, 1.5, 1.0]))
    some = weighted[np.array([0, 2])]
    assert some.weight is not None
    np.testing.assert_allclose(some.weight, [0.5, 1.5])
    assert some.mean(np.array([True, False])) == pytest.approx(0.25)
    assert seen.size == 4.0
    assert weighted.size == pytest.approx(16 / 4.5)


def test_an_unknown_estimate_is_refused() -> None:
    """The error lists the estimates."""
    with pytest.raises(CalibrationError, match=r"^estimate: expected auto or one of monotone, shrunk, .* got 'guess'"):
        plan(outcomes(), WhileItHelps(), estimate="guess")


RNG = np.random.default_rng(0)


N = 1000


LOCAL_RIGHT = RNG.random(N) < 0.7


def routed(score: str, merge: str) -> Outcomes:
    """Draw scores: margin predicts local errors, confidence partly does, entropy does not; averaging helps."""
    noise = {"margin": 0.3, "confidence": 1.0, "entropy": 100.0}[score]
    order = LOCAL_RIGHT + noise * np.random.default_rng(1).normal(size=N)
    remote = np.random.default_rng(2).random(N) < 0.9
    merged = {"replace": remote, "average": remote | (np.random.default_rng(3).random(N) < 0.5)}[merge]
    some = np.full(N, 0.5, np.float32)
    return Outcomes(order.astype(np.float32), some, some, LOCAL_RIGHT, remote, merged)


def test_the_best_score_and_merge_rule_are_chosen() -> None:
    """At 30 % offload, all twelve combinations are rated, with intervals, the chosen first."""
    found = choose_routing(routed, MostAccuracy(0.3), merges=["replace", "average"])
    assert len(found) == 12
    assert (found[0].score, found[0].merge, found[0].estimate) == ("margin", "average", "monotone")
    assert found[-1].score == "entropy"
    assert [c.merit for c in found[1:]] == sorted((c.merit for c in found[1:]), reverse=True)
    for candidate in found:
        assert candidate.accuracy_interval is not None
        assert candidate.offload_interval is not None
        assert candidate.accuracy_interval[0] < candidate.accuracy < candidate.accuracy_interval[1]
        assert candidate.offload_interval[0] < candidate.offload_rate < candidate.offload_interval[1]


def test_the_compared_offload_rate_is_the_planned_one() -> None:
    """Cross-fitted offload rates equal the planned one within sampling error."""
    for candidate in choose_routing(routed, MostAccuracy(0.3), merges=["replace"]):
        assert candidate.offload_rate <= 0.3 + 3 * np.sqrt(0.3 * 0.7 / N)


def test_cross_fitting_does_not_favour_noise() -> None:
    """Rated on its own planning inputs, noise would beat random offloading; cross-fitted, it does not."""
    (noise,) = choose_routing(routed, WhileItHelps(), scores=["entropy"], merges=["replace"], estimate="shrunk")
    remote = routed("entropy", "replace").remote_correct
    at_random = (1 - noise.offload_rate) * LOCAL_RIGHT.mean() + noise.offload_rate * remote.mean()
    assert abs(noise.accuracy - at_random) < 0.03


def test_least_offload_prefers_the_lowest_rate() -> None:
    """The candidates are compared at the same rate, and the chosen one reaches the accuracy on others' inputs."""
    found = choose_routing(routed, LeastOffload(accuracy=0.85), merges=["replace"])
    assert found[0].score == "margin"
    assert len({round(c.offload_rate, 3) for c in found}) == 1
    assert found[0].accuracy >= 0.85


def test_an_objective_that_no_candidate_reaches_is_refused() -> None:
    """The error names the best that any candidate reaches."""
    with pytest.raises(CalibrationError, match=r"^accuracy: 100 % is out of reach"):
        choose_routing(routed, LeastOffload(accuracy=1.0), merges=["replace"])


@pytest.fixture(scope="module")
def outputs(sampled: Sampled) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Draw a remote three times too sharp, and a local model twice too sharp that sees it through noise."""
    logits, labels = sampled(n=4000, classes=4, seed=5)
    logits = 2 * logits
    noise = np.random.default_rng(6).normal(0, 3, logits.shape)
    return 2 * (logits + noise) / 3, 3 * logits, labels


def planned(outputs: tuple[NDArray[Any], ...], *rows: slice, **options: Any) -> CascadePlan:
    """Plan for 30 % offload on some rows, with defaults otherwise."""
    local, remote, labels = (array[rows] for array in outputs)
    return plan_cascade(local, remote, labels, options.pop("objective", MostAccuracy(0.3)), **options)


def test_the_rule_has_the_fitted_temperatures_and_the_policy(outputs: tuple[NDArray[Any], ...]) -> None:
    """The device's decision forwards at the planned rate."""
    plan = planned(outputs)
    local, remote, labels = outputs
    assert plan.local.temperature == fit_temperature(local, labels)
    assert plan.remote.temperature == fit_temperature(remote, labels)
    assert (plan.rule.score, plan.rule.threshold) == (plan.score, plan.policy.threshold)
    assert decide(local, plan.rule).forward.mean() == plan.policy.chosen.offload_rate
    assert plan.certificate is None
    assert len(plan.routing) == 21


def test_a_plan_holds_on_new_inputs(outputs: tuple[NDArray[Any], ...]) -> None:
    """Planned on 1,500 inputs, the rate and accuracy on 2,500 others are within the plan's bands."""
    plan = planned(outputs, slice(0, 1500), merges=["replace"])
    local, remote, labels = (array[1500:] for array in outputs)
    decision = decide(local, plan.rule)
    right = np.where(decision.forward, remote.argmax(axis=1), decision.label) == labels
    low, high = plan.policy.chosen.accuracy_band
    assert low - 0.01 < right.mean() < high + 0.01
    assert abs(decision.forward.mean() - 0.3) < 4 * np.sqrt(0.21 * (1 / 1500 + 1 / 2500))


def test_a_given_score_and_merge_rule_are_used(outputs: tuple[NDArray[Any], ...]) -> None:
    """With one score and one merge rule there is no comparison."""
    plan = planned(outputs, scores=["entropy"], merges=["confident"])
    assert (plan.score, plan.merge, len(plan.routing)) == ("entropy", "confident", 2)


def test_a_certificate_of_the_margin_is_tested_on_all_inputs(outputs: tuple[NDArray[Any], ...]) -> None:
    """The rule forwards the inputs of lowest margin at the certified rate, exactly, whatever the temperature."""
    plan = planned(outputs, objective=CertifiedLoss(0.03))
    assert (plan.score, plan.merge, plan.policy.estimate) == ("margin", "replace", "monotone")
    assert plan.certificate is not None
    assert plan.certificate.n == plan.local.n == 4000
    assert plan.certificate.threshold == plan.policy.threshold
    forward = decide(outputs[0], plan.rule).forward
    assert plan.certificate.offload_rate == forward.mean() == plan.policy.chosen.offload_rate
    margin = routing_score("margin", outputs[0])
    assert margin[forward].max() <= margin[~forward].min()
    local_right, remote_right = (logits.argmax(axis=1) == outputs[2] for logits in outputs[:2])
    worse, better = (
        int(np.sum(~forward & (first & ~second)))
        for first, second in ((remote_right, local_right), (local_right, remote_right))
    )
    assert plan.certificate.p_value == exact_p_value(worse, better, 4000, 0.03) <= 0.05


def test_a_certificate_of_another_policy_is_tested_on_inputs_that_chose_nothing(
    outputs: tuple[NDArray[Any], ...],
) -> None:
    """The calibration uses a fifth of the inputs and the test the other four."""
    for options in ({"scores": ["confidence"]}, {"merges": ["average"]}, {"estimate": "shrunk"}):
        plan = planned(outputs, objective=CertifiedLoss(0.05), **options)
        assert plan.certificate is not None
        assert (plan.local.n, plan.certificate.n) == (800, 3200)
        assert plan.certificate.threshold == plan.policy.threshold
        assert plan.merge == ("average" if "merges" in options else "replace")


def test_a_planned_test_uses_the_inputs_of_its_size(outputs: tuple[NDArray[Any], ...]) -> None:
    """Of more inputs the first are used, and each test has its share of the risk."""
    whole = planned(outputs, objective=CertifiedLoss(0.03, looks=(1000, 2000, 8000)))
    first = planned(tuple(array[:2000] for array in outputs), objective=CertifiedLoss(0.03, looks=(1000, 2000, 8000)))
    assert whole.certificate == first.certificate
    assert whole.certificate is not None
    assert (whole.certificate.n, whole.certificate.looks, whole.certificate.attempt) == (2000, 3, 2)
    assert whole.certificate.p_value <= 0.05 / 3
    assert "test 2 of 3 planned" in str(whole)
    with pytest.raises(CalibrationError, match=r"^looks: expected at least the first planned size, 5000, got 4000"):
        planned(outputs, objective=CertifiedLoss(0.03, looks=(5000, 8000)))
    with pytest.raises(CalibrationError, match=r"^looks: expected ascending sizes"):
        CertifiedLoss(0.03, looks=(2000, 1000))
    with pytest.raises(CalibrationError, match=r"^looks: expected sizes of at least 122, .* got 5$"):
        CertifiedLoss(0.03, looks=(5, 1000))  # no error in 122 inputs shows 3 % at half of the risk, in 121 it does not


def test_inputs_beyond_a_planned_test_are_not_judged(outputs: tuple[NDArray[Any], ...]) -> None:
    """What a plan warns of is about the inputs that it uses."""
    few, objective = tuple(array[:90] for array in outputs), CertifiedLoss(0.1, looks=(80, 2000))
    assert any("only 80 labelled inputs" in one for one in planned(few, objective=objective).warnings)


def test_a_score_is_not_a_string_of_scores(outputs: tuple[NDArray[Any], ...]) -> None:
    """One name must be put into a sequence; else each of its letters would be a name."""
    for name in ("scores", "merges"):
        with pytest.raises(CalibrationError, match=rf"^{name}: .*'margin'"):
            planned(outputs, **{name: "margin"})
    with pytest.raises(CalibrationError, match=r"^score: .*learned, cost, got 'sureness'"):
        planned(outputs, scores=["sureness"])


@pytest.mark.parametrize("options", [{}, {"objective": CertifiedLoss(0.03)}])
def test_the_same_seed_gives_the_same_plan(outputs: tuple[NDArray[Any], ...], options: dict[str, Any]) -> None:
    """A plan is reproducible."""
    first, again = (planned(outputs, **options) for _ in range(2))
    assert first.policy.threshold == again.policy.threshold
    assert first.routing == again.routing


def test_models_with_other_classes_are_refused(outputs: tuple[NDArray[Any], ...]) -> None:
    """The error names both shapes."""
    local, remote, labels = outputs
    with pytest.raises(CalibrationError, match=r"^remote_logits: expected \[4000, 4\] .* got \[4000, 3\]"):
        plan_cascade(local, remote[:, :3], labels, MostAccuracy(0.3))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint64])
@pytest.mark.parametrize("objective", [MostAccuracy(0.3), LeastCost(0.0, 0.1, 0.1, [1.0, 2.0, 3.0, 4.0])])
def test_labels_may_be_integers_of_any_type(
    outputs: tuple[NDArray[Any], ...], objective: Objective, dtype: type[np.integer[Any]]
) -> None:
    """Data sets of images often have uint8 labels."""
    local, remote, labels = (one[:500] for one in outputs)
    wanted = plan_cascade(local, remote, labels, objective)
    assert plan_cascade(local, remote, labels.astype(dtype), objective).to_dict() == wanted.to_dict()


@pytest.mark.parametrize("name", ["scores", "merges"])
def test_nothing_to_choose_among_is_refused(outputs: tuple[NDArray[Any], ...], name: str) -> None:
    """The error names the argument."""
    with pytest.raises(CalibrationError, match=rf"^{name}: expected at least one to choose among, got none"):
        planned(outputs, **{name: ()})
