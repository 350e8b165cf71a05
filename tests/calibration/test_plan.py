"""The plan serves its objective on the inputs given, and says what it rests on."""

import numpy as np
import pytest

from edgecascade.calibration import (
    CalibrationError,
    LeastOffload,
    MostAccuracy,
    Outcomes,
    WhileItHelps,
    advantage_intervals,
    advantage_table,
    operating_curve,
    plan,
    plan_certified,
    shrunk_advantage_table,
)


def outcomes(n: int = 1000, seed: int = 0) -> Outcomes:
    """A local model whose confidence is honest, a remote that is right 90 % of the time."""
    rng = np.random.default_rng(seed)
    score = rng.uniform(0.3, 1.0, n).astype(np.float32)
    remote = rng.random(n) < 0.9
    return Outcomes(score, score, np.full(n, 0.9, np.float32), rng.random(n) < score, remote, remote)


@pytest.mark.parametrize("estimate", ["confidences", "labels", "shrunk"])
def test_the_policy_is_the_chosen_point_of_its_curve(estimate: str) -> None:
    """Threshold, curve, intervals and words all belong to the table of that estimate."""
    seen = outcomes()
    policy = plan(seen, MostAccuracy(0.3), estimate=estimate)
    advantage = policy.table(seen.score)
    assert policy.curve == operating_curve(advantage, seen.local_correct, seen.merged_correct)
    assert policy.chosen == MostAccuracy(0.3).choose(policy.curve, 1.0)
    assert np.mean(advantage < np.float32(policy.threshold)) == policy.chosen.offload_rate <= 0.3
    assert policy.intervals == advantage_intervals(policy.table, seen.score, seen.local_correct, seen.merged_correct)
    assert (policy.estimate, policy.objective) == (estimate, str(MostAccuracy(0.3)))
    assert policy.verdict


def test_each_estimate_is_the_table_it_says() -> None:
    """Confidences of both models; correctness; correctness in many small bins."""
    seen = outcomes()
    tables = {
        "confidences": advantage_table(seen.score, seen.local_confidence, seen.remote_confidence, 15),
        "labels": advantage_table(seen.score, seen.local_correct, seen.remote_correct, 15),
        "shrunk": shrunk_advantage_table(seen.score, seen.local_correct, seen.remote_correct, 50),
    }
    for estimate, table in tables.items():
        np.testing.assert_array_equal(plan(seen, WhileItHelps(), estimate=estimate).table.values, table.values)


@pytest.mark.parametrize("bins", [1, 5])
def test_a_remote_that_is_better_everywhere_is_always_asked(bins: int) -> None:
    """With no limit on the budget, and a disadvantage in every bin, every input is forwarded."""
    score = np.linspace(0.3, 0.9, 100, dtype=np.float32)
    right = np.ones(100, bool)
    seen = Outcomes(score, score, np.ones_like(score), ~right, right, right)
    assert plan(seen, MostAccuracy(1.0), estimate="confidences", bins=bins).chosen.offload_rate == 1.0


def test_no_budget_forwards_nothing() -> None:
    """Not even the worst conceivable advantage."""
    policy = plan(outcomes(), MostAccuracy(0.0))
    assert policy.chosen.offload_rate == 0.0
    assert not (np.float32(-1.0) < np.float32(policy.threshold))


def test_a_loss_is_against_the_remote_and_not_against_the_merged_answer() -> None:
    """Merging that is always right does not raise the bar."""
    seen = outcomes()
    merged = Outcomes(**{**vars(seen), "merged_correct": np.ones(len(seen), bool)})
    chosen = plan(merged, LeastOffload(loss=0.01)).chosen
    assert chosen.accuracy >= seen.remote_correct.mean() - 0.01
    assert chosen.offload_rate < 0.6


def test_a_certified_plan_forwards_what_its_certificate_says() -> None:
    """Table and thresholds from one part, the promise from the other."""
    planning, testing = outcomes(1000, 1), outcomes(3000, 2)
    policy, certificate = plan_certified(planning, testing, loss=0.02, risk=0.05)
    forward = policy.table(testing.score) < np.float32(policy.threshold)
    assert (certificate.n, certificate.offload_rate) == (3000, forward.mean())
    lost = testing.remote_correct.astype(int) - np.where(forward, testing.remote_correct, testing.local_correct)
    assert lost.mean() <= 0.02
    assert str(certificate) in policy.objective


def test_a_certificate_costs_more_than_a_guess() -> None:
    """It forwards more than the plan that takes the same loss at its word."""
    planning = outcomes(1000, 1)
    _, certificate = plan_certified(planning, outcomes(3000, 2), loss=0.02, risk=0.05)
    assert certificate.offload_rate > plan(planning, LeastOffload(loss=0.02)).chosen.offload_rate


def test_an_unknown_estimate_is_refused() -> None:
    """One sentence with the three that there are."""
    with pytest.raises(CalibrationError, match=r"^estimate: expected one of confidences, labels, shrunk, got 'guess'"):
        plan(outcomes(), WhileItHelps(), estimate="guess")
