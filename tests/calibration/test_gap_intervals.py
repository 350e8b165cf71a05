"""Intervals of calibration errors: they hold the truth as often as they say, at 0 too, where the bootstrap's do not."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.calibration import bootstrap, expected_calibration_error, reliability, softmax
from edgecascade.calibration.classwise import classwise_calibration_error, classwise_reliability
from edgecascade.calibration.gap_intervals import calibration_error_interval, maximum_error_interval
from edgecascade.calibration.reliability import maximum_calibration_error

Draw = tuple[NDArray[np.float64], NDArray[np.float64]]


def calibrated(n: int, rng: np.random.Generator) -> Draw:
    """Confidences that are right as often as they say, and that probability."""
    confidence = rng.uniform(0.0, 1.0, n)
    return confidence, confidence


def overconfident(n: int, rng: np.random.Generator) -> Draw:
    """A twentieth too sure, everywhere."""
    confidence = rng.uniform(0.5, 1.0, n)
    return confidence, confidence - 0.05


def saturated(n: int, rng: np.random.Generator) -> Draw:
    """Most confidences near 1, where bins are skewed, and too high."""
    confidence = rng.beta(20.0, 1.0, n)
    return confidence, confidence**1.5


def curved(n: int, rng: np.random.Generator) -> Draw:
    """Too sure in the middle, right at the ends."""
    confidence = rng.uniform(0.1, 1.0, n)
    return confidence, confidence**1.3


DRAWS = pytest.mark.parametrize("draw", [calibrated, overconfident, saturated, curved])
SPACINGS = pytest.mark.parametrize("spacing", ["width", "mass"])


@DRAWS
@SPACINGS
@pytest.mark.parametrize("n", [100, 1000])
def test_the_error_is_held_19_times_in_20(draw: Callable[..., Draw], spacing: str, n: int) -> None:
    """Over repeated draws, the interval holds the error that a hundred thousand have in expectation."""
    truth = expected_calibration_error(*draw(100_000, np.random.default_rng(1)), spacing=spacing)  # type: ignore[arg-type]
    held = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        confidence, chance = draw(n, rng)
        low, high = calibration_error_interval(reliability(confidence, rng.random(n) < chance, spacing=spacing))
        held.append(low <= truth + 1e-9 and truth <= high)
    assert np.mean(held) > 0.93


def test_a_calibrated_model_is_not_said_to_be_miscalibrated() -> None:
    """Its error of 0 is in the interval all but rarely; the basic bootstrap's leaves it out a quarter of the time."""
    ours, theirs = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        confidence, chance = calibrated(500, rng)
        correct = rng.random(500) < chance
        ours.append(calibration_error_interval(reliability(confidence, correct))[0] == 0.0)
        theirs.append(bootstrap(expected_calibration_error, confidence, correct, resamples=100).low <= 0.0)
    assert np.mean(ours) > 0.95
    assert np.mean(theirs) < 0.75


def test_a_plain_error_is_found() -> None:
    """A gap of 0.1 everywhere, on 5,000 inputs, within two hundredths."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.6, 1.0, 5000)
    low, high = calibration_error_interval(reliability(confidence, rng.random(5000) < confidence - 0.1))
    assert 0.08 < low < 0.1 < high < 0.12


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("confidence", [0.0, 0.95, 1.0])
def test_five_inputs_that_agree_leave_room_for_doubt(right: bool, confidence: float) -> None:
    """No variance was seen, but five are few."""
    table = reliability(np.full(5, confidence), np.full(5, right))
    for low, high in (calibration_error_interval(table), maximum_error_interval(table)):
        assert 0.0 <= low <= abs(confidence - right) + 1e-12
        assert abs(confidence - right) - 1e-12 <= high <= 1.0
        assert high - low > 0.09


@pytest.mark.parametrize("sharpness", [1.0, 2.0])
@pytest.mark.parametrize("classes", [2, 5])
def test_the_classwise_error_is_held_19_times_in_20(classes: int, sharpness: float) -> None:
    """Though the classes depend on each other: two are each other's mirror image."""

    def draw(n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        rng = np.random.default_rng(seed)
        logits = rng.normal(0, 1.5, (n, classes))
        return softmax(sharpness * logits), (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)

    truth = classwise_calibration_error(*draw(400_000, 1)) if sharpness > 1 else 0.0
    intervals = [calibration_error_interval(*classwise_reliability(*draw(400, seed))) for seed in range(2, 102)]
    assert np.mean([low <= truth <= high for low, high in intervals]) > 0.93


@DRAWS
@SPACINGS
def test_the_largest_gap_is_held_19_times_in_20(draw: Callable[..., Draw], spacing: str) -> None:
    """Of these inputs' bins, against the chance that their answers had of being right."""
    held = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        confidence, chance = draw(300, rng)
        table = reliability(confidence, rng.random(300) < chance, spacing=spacing)
        low, high = maximum_error_interval(table)
        truth = maximum_calibration_error(confidence, chance, spacing=spacing)  # type: ignore[arg-type]
        held.append(low <= truth + 1e-9 and truth <= high)
    assert np.mean(held) > 0.95


def test_one_input_in_a_bin_leaves_its_gap_open() -> None:
    """Nearly anything is possible there, however many are in the other bins."""
    confidence = np.concatenate([np.full(1000, 0.9), [0.5]])
    low, high = maximum_error_interval(reliability(confidence, np.arange(1001) < 900))
    assert low == 0.0
    assert high > 0.45
