"""The operating curve measures what each threshold does, with pointwise and simultaneous intervals."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.stats import binom

from edgecascade.calibration import operating_curve, operating_points
from edgecascade.calibration.intervals import accuracy_interval, paired_difference_interval, simultaneous_band

Right = NDArray[np.bool_]
Situation = tuple[NDArray[np.float32], Right, Right]


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Draw advantages in exact eighths, with ties, and the correctness of both models."""
    n = draw(st.integers(1, 40))
    advantage = draw(arrays(np.int64, n, elements=st.integers(-8, 8))).astype(np.float32) / np.float32(8)
    right = arrays(np.bool_, n, elements=st.booleans())
    return advantage, draw(right), draw(right)


def by_hand(advantage: NDArray[np.float32], local: Right, merged: Right) -> list[tuple[float, float]]:
    """Return the offload rate and accuracy of each distinct advantage as threshold, and of forwarding everything."""
    found = []
    for bound in [*sorted(set(advantage.tolist())), np.inf]:
        asked = [a < bound for a in advantage]
        right = [r if ask else own for ask, own, r in zip(asked, local, merged, strict=True)]
        found.append((sum(asked) / len(asked), sum(right) / len(right)))
    return found


@given(situations())
def test_the_curve_has_a_point_for_each_threshold(situation: Situation) -> None:
    """It has exactly the points that the advantages can reach, from no offload to everything."""
    curve = operating_curve(*situation)
    assert [(p.offload_rate, p.accuracy) for p in curve] == by_hand(*situation)
    assert all(a.threshold < b.threshold for a, b in pairwise(curve))
    for point in curve:
        assert np.mean(situation[0] < np.float32(point.threshold)) == point.offload_rate
        assert point.offload_interval[0] <= point.offload_rate <= point.offload_interval[1]
        assert point.accuracy_interval[0] <= point.accuracy <= point.accuracy_interval[1]
        assert point.accuracy_band[0] <= point.accuracy <= point.accuracy_band[1]
        assert point.n == len(situation[0])


@given(situations())
def test_points_without_intervals_equal_those_of_the_curve(situation: Situation) -> None:
    """The faster function used for choosing gives the same numbers."""
    quick = [(p.threshold, p.offload_rate, p.accuracy) for p in operating_points(*situation)]
    assert quick == [(p.threshold, p.offload_rate, p.accuracy) for p in operating_curve(*situation)]


def test_the_band_covers_the_whole_curve_at_95_percent() -> None:
    """Over repeated draws, all true accuracies lie in the band about 95 % of the time."""
    rng = np.random.default_rng(0)
    truth = np.linspace(0.6, 0.9, 15)
    held, held_pointwise, repeats = 0, 0, 300
    for _ in range(repeats):
        correct = rng.random((300, 1)) < truth  # one draw for all points
        correct[:150] = rng.random((150, 15)) < truth
        low, high = simultaneous_band(correct)
        held += bool(((low <= truth) & (truth <= high)).all())
        half = 1.96 * correct.std(axis=0) / np.sqrt(300)
        held_pointwise += bool((np.abs(correct.mean(axis=0) - truth) <= half).all())
    assert 0.92 < held / repeats <= 0.99
    assert held_pointwise / repeats < 0.85


@pytest.mark.parametrize(("local", "remote", "n"), [(0.979, 0.992, 1000), (0.989, 0.996, 1000), (0.9, 0.8, 200)])
@pytest.mark.parametrize("against", [False, True])
def test_the_band_covers_accuracies_near_1_and_differences(local: float, remote: float, n: int, against: bool) -> None:
    """All thresholds of a score that orders the errors of both models are held at once, in 95 % of the draws."""
    share, repeats, held = np.linspace(0.0, 1.0, 15), 100, 0  # forwarded inputs
    errors = (1 - local) * (1 - share) ** 4, (1 - remote) * (1 - (1 - share) ** 1.5)  # local above, remote below
    truth = 1 - errors[0] - errors[1]
    rng = np.random.default_rng(0)
    for _ in range(repeats):
        score, luck, other = rng.random((3, n))
        local_wrong = luck < 4 * (1 - local) * (1 - score) ** 3
        remote_wrong = np.where(score < 0.5, luck, other) < 1.5 * (1 - remote) * (1 - score) ** 0.5
        correct = ~np.where(score[:, None] < share, remote_wrong[:, None], local_wrong[:, None])
        low, high = simultaneous_band(correct, against=~remote_wrong if against else None)
        wanted = truth - remote if against else truth
        held += bool(((low <= wanted + 1e-12) & (wanted <= high + 1e-12)).all())
    assert binom.cdf(held, repeats, 0.95) > 0.001


def test_a_band_of_one_column_is_the_interval_of_its_share() -> None:
    """There is nothing to allow for, so the level is the pointwise one, up to the draws of the critical value."""
    correct = np.arange(400) < 380
    low, high = simultaneous_band(correct[:, None])
    assert (low[0], high[0]) == pytest.approx(accuracy_interval(correct.astype(float), np.ones(400)), abs=0.002)
    low, high = simultaneous_band(correct[:, None], against=correct[::-1])
    assert (low[0], high[0]) == pytest.approx(paired_difference_interval(correct, correct[::-1]), abs=0.002)


def test_a_point_without_errors_has_an_interval() -> None:
    """For 30 of 30 right, the interval contains accuracies below 1."""
    low, high = simultaneous_band(np.ones((30, 2), bool))
    assert (low < 0.9).all()
    assert high == pytest.approx(1.0)
