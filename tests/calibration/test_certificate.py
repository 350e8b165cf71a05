"""A promise that holds as often as it says, is not dearer than it must be, and is refused where it cannot be made."""

import contextlib
import re

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.calibration import CalibrationError, Certificate, certify

THRESHOLDS = np.linspace(-0.5, 0.5, 21)


def drawn(n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Inputs whose advantage is what it says: local is right with .9 + min(advantage, 0), the remote with .9."""
    rng = np.random.default_rng(seed)
    advantage = rng.uniform(-0.5, 0.5, n).astype(np.float32)
    chance = rng.random(n)
    remote = chance < 0.9
    local = np.where(rng.random(n) < 0.7, chance, rng.random(n)) < 0.9 + np.minimum(advantage, 0)
    return advantage, local, remote


def true_loss(threshold: float) -> float:
    """Integral of the disadvantage over what is kept, advantages uniform on [-.5, .5]."""
    kept = min(threshold, 0.0)
    return kept**2 / 2


def promise(n: int, seed: int, loss: float = 0.01, risk: float = 0.05) -> Certificate:
    """On n fresh inputs, with the remote's answer replacing."""
    advantage, local, remote = drawn(n, seed)
    return certify(advantage, local, remote, remote, THRESHOLDS, loss=loss, risk=risk)


def test_it_is_broken_as_rarely_as_it_says() -> None:
    """Over 200 draws at risk 20 %, the true loss is above the promised one in at most 20 % or so."""
    broken = []
    for seed in range(200):
        with contextlib.suppress(CalibrationError):  # no promise is no broken promise
            broken.append(true_loss(promise(800, seed, risk=0.2).threshold) > 0.01)
    assert len(broken) > 100
    assert np.mean(broken) <= 0.2 + 2 * np.sqrt(0.16 / len(broken))


def test_it_comes_near_the_least_that_would_do() -> None:
    """With 20,000 inputs the certified threshold is close to the one whose true loss is the bound."""
    least = -np.sqrt(2 * 0.01)
    found = [promise(20_000, seed).threshold for seed in range(5)]
    assert np.mean(found) == pytest.approx(least, abs=0.05)


def test_more_inputs_promise_more() -> None:
    """Less has to be forwarded for the same promise."""
    few, many = (np.mean([promise(n, seed).offload_rate for seed in range(10)]) for n in (2000, 10_000))
    assert many < few


def test_it_says_what_it_rests_on() -> None:
    """Loss, risk, n, the rate and a p-value within the risk, and a sentence with all but the last."""
    found = promise(2000, 0)
    advantage, _, _ = drawn(2000, 0)
    assert (found.loss, found.risk, found.n) == (0.01, 0.05, 2000)
    assert found.offload_rate == np.mean(advantage < np.float32(found.threshold))
    assert found.p_value <= 0.05
    assert str(found).startswith("loss against asking the remote always at most 1.0% with probability 0.95 (n = 2000)")


def test_it_stops_at_the_first_threshold_that_fails() -> None:
    """A lucky threshold further down is not looked at: testing on would be paid for by the risk."""
    advantage = np.repeat(np.array([-0.3, -0.1, 0.1], np.float32), 500)
    remote = np.ones(1500, bool)
    local = np.repeat([True, False, True], 500)
    found = certify(advantage, local, remote, remote, np.array([-0.2, 0.0, 0.2, -0.4]), loss=0.02, risk=0.05)
    assert found.threshold == 0.0


def test_a_verifiers_scores_can_be_promised_too() -> None:
    """Scores in [0, 1] in place of right and wrong, tested by betting."""
    advantage, local, remote = drawn(4000, 0)
    local_score, remote_score = local * 0.9 + 0.05, remote * 0.9 + 0.05
    found = certify(advantage, local_score, remote_score, remote_score, THRESHOLDS, loss=0.02, risk=0.05)
    assert true_loss(found.threshold) <= 0.02
    assert found.offload_rate < 0.6


@pytest.mark.parametrize("risk", [0.05, 0.001])
def test_too_few_inputs_are_refused_with_the_number_that_would_do(risk: float) -> None:
    """One sentence; with twice as many as it says, the same is promised."""
    half = np.array([0.0])
    advantage, local, remote = drawn(1000, 2)
    with pytest.raises(
        CalibrationError, match=r"^certificate: 1000 inputs do not show .* about \d+ would do"
    ) as refusal:
        certify(advantage, local, remote, remote, half, loss=0.005, risk=risk)
    (enough,) = re.findall(r"about (\d+) would do", str(refusal.value))
    advantage, local, remote = drawn(2 * int(enough), 1)
    assert certify(advantage, local, remote, remote, half, loss=0.005, risk=risk).threshold == 0.0


def test_a_remote_that_merging_makes_worse_is_refused() -> None:
    """Where even forwarding everything loses more than the bound, no number of inputs helps."""
    advantage, local, remote = drawn(3000, 0)
    with pytest.raises(CalibrationError, match="only if chance alone made it lose"):
        certify(advantage, local, remote & (advantage > -0.3), remote, THRESHOLDS, loss=0.01, risk=0.05)


@pytest.mark.parametrize(("loss", "risk", "name"), [(0.0, 0.05, "loss"), (1.0, 0.05, "loss"), (0.01, 0.0, "risk")])
def test_what_is_no_promise_is_refused(loss: float, risk: float, name: str) -> None:
    """One sentence that names it."""
    with pytest.raises(CalibrationError, match=rf"^{name}: expected a number between 0 and 1"):
        promise(500, 0, loss, risk)
