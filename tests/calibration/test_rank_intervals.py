"""Intervals of AUROC and monotonicity hold the truth as often as they say."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import spearmanr

from edgecascade.calibration import CalibrationError
from edgecascade.calibration.discrimination import auroc, monotonicity
from edgecascade.calibration.rank_intervals import auroc_interval, monotonicity_interval

Draw = tuple[NDArray[np.float64], NDArray[np.float64]]


def honest(n: int, rng: np.random.Generator) -> Draw:
    """Calibrated confidences, and the chance of being right."""
    confidence = rng.uniform(0.5, 1.0, n)
    return confidence, confidence


def rarely_wrong(n: int, rng: np.random.Generator) -> Draw:
    """One in twenty is wrong."""
    confidence = rng.beta(20.0, 1.0, n)
    return confidence, confidence


def blind(n: int, rng: np.random.Generator) -> Draw:
    """Confidences that mean nothing."""
    return rng.uniform(0.5, 1.0, n), np.full(n, 0.8)


def sharp(n: int, rng: np.random.Generator) -> Draw:
    """Right above 0.3, wrong below, but for a few."""
    confidence = rng.random(n)
    return confidence, 1 / (1 + np.exp(-12 * (confidence - 0.3)))


def dipping(n: int, rng: np.random.Generator) -> Draw:
    """Accuracy rises with confidence but for a dip between 0.8 and 0.9."""
    confidence = rng.uniform(0.3, 1.0, n)
    return confidence, confidence - 0.3 * ((confidence > 0.8) & (confidence < 0.9))


@pytest.mark.parametrize("draw", [honest, rarely_wrong, blind, sharp])
@pytest.mark.parametrize("n", [100, 500])
def test_the_area_is_held_19_times_in_20(draw: Callable[..., Draw], n: int) -> None:
    """Over repeated draws, few errors among them."""
    rng = np.random.default_rng(1000)
    confidence, chance = draw(400_000, rng)
    truth = auroc(confidence, rng.random(400_000) < chance)
    held = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        confidence, chance = draw(n, rng)
        correct = rng.random(n) < chance
        if not correct.all():
            low, high = auroc_interval(confidence, correct)
            held.append(low <= truth <= high)
    assert np.mean(held) > 0.92


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=20))
def test_the_area_is_in_its_interval(rows: list[tuple[int, bool]]) -> None:
    """Which is in [0, 1], has a width, and belongs to the opposite score upside down."""
    score, correct = (np.array(column) for column in zip(*rows, (2, True), (2, False), strict=True))
    low, high = auroc_interval(score / 5, correct)
    assert 0.0 <= low <= auroc(score / 5, correct) <= high <= 1.0
    assert high - low > 0.01
    assert auroc_interval(-score / 5, correct) == pytest.approx((1 - high, 1 - low), abs=1e-6)


def test_ten_told_from_ten_may_be_luck() -> None:
    """What was told apart perfectly once may not be the next time."""
    low, high = auroc_interval(np.arange(20.0), np.arange(20) >= 10)
    assert 0.7 < low < 0.9
    assert high == 1.0


@pytest.mark.parametrize("draw", [honest, rarely_wrong, sharp, dipping])
@pytest.mark.parametrize("n", [150, 2000])
def test_the_monotonicity_is_held_19_times_in_20(draw: Callable[..., Draw], n: int) -> None:
    """The rank correlation that the bins' chances have, though chance disorders the bins."""
    confidence, chance = draw(150_000, np.random.default_rng(1000))
    bins = chance[np.argsort(confidence)].reshape(15, -1).mean(axis=1)
    truth = spearmanr(np.arange(15), bins).statistic
    held = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        confidence, chance = draw(n, rng)
        low, high = monotonicity_interval(confidence, rng.random(n) < chance, resamples=200)
        held.append(low <= truth + 1e-9 and truth <= high + 1e-9)
    assert np.mean(held) > 0.93


def test_a_clear_dip_is_not_called_monotone() -> None:
    """With enough inputs, 1 is outside the interval; and so is 0."""
    rng = np.random.default_rng(0)
    confidence, chance = dipping(20_000, rng)
    low, high = monotonicity_interval(confidence, rng.random(20_000) < chance)
    assert 0.5 < low < high < 0.97


def test_falling_is_rising_upside_down() -> None:
    """The interval of 1 - confidence is the opposite one."""
    rng = np.random.default_rng(0)
    confidence, chance = honest(600, rng)
    correct = rng.random(600) < chance
    low, high = monotonicity_interval(confidence, correct)
    assert monotonicity_interval(1 - confidence, correct) == pytest.approx((-high, -low), abs=0.1)


def test_the_same_seed_gives_the_same_interval() -> None:
    """A report can be made again."""
    rng = np.random.default_rng(0)
    confidence, chance = honest(300, rng)
    correct = rng.random(300) < chance
    first, again = (monotonicity_interval(confidence, correct, seed=3) for _ in range(2))
    assert first == again
    assert first[0] <= monotonicity(confidence, correct) <= first[1]


@pytest.mark.parametrize("interval", [auroc_interval, monotonicity_interval])
def test_what_has_no_value_has_no_interval(interval: Callable[..., tuple[float, float]]) -> None:
    """All answers are right: one sentence that names the argument."""
    with pytest.raises(CalibrationError, match=r"^correct: "):
        interval(np.array([0.2, 0.7]), np.array([True, True]))
