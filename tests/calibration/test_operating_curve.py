"""The operating curve measures what each threshold does, with pointwise and simultaneous intervals."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgecascade.calibration import operating_curve, operating_points
from edgecascade.calibration.intervals import simultaneous_band

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
        low, high = simultaneous_band(correct, resamples=500)
        held += bool(((low <= truth) & (truth <= high)).all())
        half = 1.96 * correct.std(axis=0) / np.sqrt(300)
        held_pointwise += bool((np.abs(correct.mean(axis=0) - truth) <= half).all())
    assert 0.92 < held / repeats <= 0.99
    assert held_pointwise / repeats < 0.85


def test_a_point_without_errors_has_an_interval() -> None:
    """For 30 of 30 right, the interval contains accuracies below 1."""
    low, high = simultaneous_band(np.ones((30, 2), bool))
    assert (low < 0.9).all()
    assert high == pytest.approx(1.0)
