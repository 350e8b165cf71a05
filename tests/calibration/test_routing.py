"""Score and merge rule are chosen on inputs that had no say in the plan that is judged."""

import numpy as np
import pytest

from edgecascade.calibration import (
    CalibrationError,
    LeastOffload,
    MostAccuracy,
    Outcomes,
    WhileItHelps,
    choose_routing,
)

RNG = np.random.default_rng(0)
N = 1000
RIGHT = RNG.random(N) < 0.7


def outcomes(score: str, merge: str) -> Outcomes:
    """Margin knows where the local model is wrong, confidence half knows, entropy knows nothing; averaging helps."""
    noise = {"margin": 0.3, "confidence": 1.0, "entropy": 100.0}[score]
    order = RIGHT + noise * np.random.default_rng(1).normal(size=N)
    remote = np.random.default_rng(2).random(N) < 0.9
    merged = {"replace": remote, "average": remote | (np.random.default_rng(3).random(N) < 0.5)}[merge]
    some = np.full(N, 0.5, np.float32)
    return Outcomes(order.astype(np.float32), some, some, RIGHT, remote, merged)


def test_the_better_score_and_rule_are_found() -> None:
    """At 30 % offload, all six are judged, the best first."""
    found = choose_routing(outcomes, MostAccuracy(0.3), merges=["replace", "average"])
    assert len(found) == 6
    assert (found[0].score, found[0].merge) == ("margin", "average")
    assert found[-1].score == "entropy"
    assert [c.merit for c in found] == sorted((c.merit for c in found), reverse=True)


def test_what_is_judged_is_held_to_the_rate() -> None:
    """Cross-fitted offload is the planned one, within chance."""
    for candidate in choose_routing(outcomes, MostAccuracy(0.3), merges=["replace"]):
        assert candidate.offload_rate <= 0.3 + 3 * np.sqrt(0.3 * 0.7 / N)


def test_a_score_of_noise_is_not_flattered() -> None:
    """Judged on the inputs that planned it, noise would beat random offloading; cross-fitted it does not."""
    (noise,) = choose_routing(outcomes, WhileItHelps(), scores=["entropy"], merges=["replace"])
    remote = outcomes("entropy", "replace").remote_correct
    at_random = (1 - noise.offload_rate) * RIGHT.mean() + noise.offload_rate * remote.mean()
    assert abs(noise.accuracy - at_random) < 0.03


def test_least_offload_prefers_what_needs_least() -> None:
    """For the same accuracy."""
    found = choose_routing(outcomes, LeastOffload(accuracy=0.85), merges=["replace"])
    assert found[0].score == "margin"
    assert found[0].offload_rate == min(c.offload_rate for c in found)


def test_an_objective_out_of_reach_for_all_is_refused() -> None:
    """With the reason of the first."""
    with pytest.raises(CalibrationError, match=r"^accuracy: 100\.0% is out of reach"):
        choose_routing(outcomes, LeastOffload(accuracy=1.0), merges=["replace"])
