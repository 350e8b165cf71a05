"""A chain of models, with thresholds chosen together."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from edgecascade.calibration import CalibrationError, MostAccuracy, Outcomes, plan
from edgecascade.calibration.chain import Stage, plan_chain


def stages(n: int = 1000, seed: int = 0) -> list[Stage]:
    """Small, medium and large: each is right below its own limit of difficulty, and knows about how close that is."""
    rng = np.random.default_rng(seed)
    difficulty = rng.random(n)

    def stage(name: str, limit: float, cost: float) -> Stage:
        wrong = difficulty > limit + rng.normal(0, 0.05, n)
        score = limit - difficulty + rng.normal(0, 0.1, n)
        return Stage(name, score.astype(np.float32), ~wrong, cost)

    return [stage("small", 0.6, 1.0), stage("medium", 0.8, 5.0), stage("large", 0.97, 50.0)]


def test_two_stages_are_a_cascade() -> None:
    """The same threshold as `plan` chooses, for the cost that its offload rate has."""
    small, _, large = stages()
    chain = plan_chain([small, large], cost=1.0 + 0.3 * 50)
    seen = Outcomes(small.score, small.score, small.score, small.correct, large.correct, large.correct)
    policy = plan(seen, MostAccuracy(0.3))
    assert chain.thresholds == (policy.threshold,)
    assert chain.chosen.accuracy == policy.chosen.accuracy
    assert chain.chosen.reach == (1.0, policy.chosen.offload_rate)


@pytest.mark.parametrize("aim", [{"cost": 12.0}, {"accuracy": 0.9}])
def test_no_other_thresholds_do_better(aim: dict[str, Any]) -> None:
    """By brute force over scores, one input after another, on as many thresholds as the tables have."""
    chain = plan_chain(stages(300), **aim)
    tables, three = chain.tables, stages(300)
    cuts = [np.append(np.unique(table.values), 2.0) for table in tables]
    found = []
    for first, second in product(*cuts):
        right, cost = 0, 0.0
        for i in range(300):
            cost += 1.0
            stop = 0
            if tables[0](three[0].score[i : i + 1])[0] < first:
                cost, stop = cost + 5.0, 1
                if tables[1](three[1].score[i : i + 1])[0] < second:
                    cost, stop = cost + 50.0, 2
            right += bool(three[stop].correct[i])
        found.append((right / 300, cost / 300))
    if "cost" in aim:
        assert chain.chosen.accuracy == pytest.approx(max(a for a, c in found if c <= aim["cost"] + 1e-9))
    else:
        assert chain.chosen.cost == pytest.approx(min(c for a, c in found if a >= aim["accuracy"] - 1e-9))


def test_the_middle_model_earns_its_place() -> None:
    """At the same mean cost the three are more accurate than small and large alone, also on inputs held out."""
    small, medium, large = stages(2000)
    three, two = plan_chain([small, medium, large], cost=10.0), plan_chain([small, large], cost=10.0)
    assert three.held_out.accuracy > two.held_out.accuracy + 0.02
    assert three.held_out.cost == pytest.approx(10.0, abs=1.0)


def test_what_is_held_out_is_not_flattered() -> None:
    """On fresh inputs the policy does what `held_out` said, within chance."""
    chain, fresh = plan_chain(stages(1500), cost=10.0), stages(20_000, seed=1)
    stop = np.full(20_000, 2)
    for one in (1, 0):
        stop[chain.tables[one](fresh[one].score) >= np.float32(chain.thresholds[one])] = one
    right = np.choose(stop, [stage.correct for stage in fresh])
    assert right.mean() == pytest.approx(chain.held_out.accuracy, abs=0.025)


@pytest.mark.parametrize(
    ("change", "aim", "message"),
    [
        (slice(0, 1), {"cost": 9.0}, "^stages: expected two or more, got 1"),
        (slice(0, 3), {}, "^cost, accuracy: expected one of the two"),
        (slice(0, 3), {"cost": 9.0, "accuracy": 0.9}, "^cost, accuracy: expected one of the two"),
        (slice(0, 3), {"cost": 0.5}, "^cost: 0.5 per input is out of reach; the least is 1"),
        (slice(0, 3), {"accuracy": 1.0}, "^accuracy: 100.0% is out of reach; the best"),
    ],
)
def test_what_cannot_be_planned_is_refused(change: slice, aim: dict[str, Any], message: str) -> None:
    """One sentence."""
    with pytest.raises(CalibrationError, match=message):
        plan_chain(stages()[change], **aim)


def test_stages_that_do_not_fit_are_refused() -> None:
    """By the name of the stage."""
    small, medium, large = stages()
    short = Stage("short", medium.score[:9], medium.correct[:9], 1.0)
    with pytest.raises(CalibrationError, match=r"^stages: expected score and correct \[1000\] .* in 'short'"):
        plan_chain([small, short, large], cost=9.0)
    with pytest.raises(CalibrationError, match=r"^stages: expected a cost of 0 or more in 'free', got -1"):
        plan_chain([small, Stage("free", medium.score, medium.correct, -1.0)], cost=9.0)
