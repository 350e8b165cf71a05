"""Each objective chooses the point that an exhaustive search finds."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecascade.calibration import CalibrationError, LeastCost, LeastOffload, MostAccuracy, Point, WhileItHelps

SHARES = st.integers(0, 20).map(lambda i: i / 20)


@st.composite
def curves(draw: st.DrawFn) -> list[Point]:
    """Draw curves with rising thresholds and offload rates from 0 to 1, and any accuracies."""
    rates = sorted({0.0, *draw(st.sets(SHARES, max_size=8)), 1.0})
    thresholds = sorted(draw(st.sets(st.floats(-0.9, 2.0), min_size=len(rates) - 1, max_size=len(rates) - 1)))
    return [Point(t, r, draw(SHARES)) for t, r in zip([-1.0, *thresholds], rates, strict=True)]


@given(curves(), SHARES)
def test_most_accuracy_forwards_up_to_the_rate_where_it_helps(curve: list[Point], rate: float) -> None:
    """The point is within the rate, its threshold is not positive, and no such point forwards more."""
    chosen = MostAccuracy(rate).choose(curve, 1.0)
    allowed = [p for p in curve if p.offload_rate <= rate and p.threshold <= 0]
    assert chosen.offload_rate == max(p.offload_rate for p in allowed)
    assert WhileItHelps().choose(curve, 1.0) == MostAccuracy(1.0).choose(curve, 1.0)


@given(curves(), SHARES)
def test_least_offload_is_the_first_point_with_the_accuracy(curve: list[Point], accuracy: float) -> None:
    """If no point reaches the accuracy, the error names the best one."""
    enough = [p for p in curve if p.accuracy >= accuracy]
    if enough:
        assert LeastOffload(accuracy=accuracy).choose(curve, 1.0) == min(enough, key=lambda p: p.offload_rate)
        assert LeastOffload(loss=1 - accuracy).choose(curve, 1.0).accuracy >= accuracy - 1e-6
    else:
        with pytest.raises(CalibrationError, match=r"^accuracy: .* is out of reach .*; the best is"):
            LeastOffload(accuracy=accuracy).choose(curve, 1.0)


@given(curves(), *(st.floats(0, 10) for _ in range(4)))
def test_least_cost_is_the_minimum(
    curve: list[Point], local: float, remote: float, transfer: float, error: float
) -> None:
    """No point has a lower cost, and the merit orders points by cost."""
    objective = LeastCost(local, remote, transfer, error)
    chosen = objective.choose(curve, 1.0)
    costs = [local + p.offload_rate * (remote + transfer) + (1 - p.accuracy) * error for p in curve]
    assert objective.cost(chosen) == pytest.approx(min(costs))
    assert objective.merit(chosen) == max(objective.merit(p) for p in curve)


def test_the_merit_follows_the_objective() -> None:
    """It prefers more accuracy at a rate, or less offload at an accuracy."""
    points = [Point(0.0, 0.2, 0.9), Point(0.0, 0.3, 0.8)]
    for objective in (MostAccuracy(0.3), WhileItHelps(), LeastOffload(loss=0.01), LeastOffload(accuracy=0.8)):
        better, worse = map(objective.merit, points)
        assert better > worse


@pytest.mark.parametrize("share", [-0.1, 1.1, np.nan, np.inf])
def test_a_rate_outside_0_to_1_is_refused(share: float) -> None:
    """The error names the argument."""
    with pytest.raises(CalibrationError, match=r"^offload_rate: .*0 to 1"):
        MostAccuracy(share)
    with pytest.raises(CalibrationError, match=r"^accuracy: .*0 to 1"):
        LeastOffload(accuracy=share)
    with pytest.raises(CalibrationError, match=r"^loss: .*0 to 1"):
        LeastOffload(loss=share)


def test_an_accuracy_and_a_loss_exclude_each_other() -> None:
    """Giving neither or both is refused."""
    for arguments in ({}, {"accuracy": 0.9, "loss": 0.1}):
        with pytest.raises(CalibrationError, match=r"^accuracy, loss: expected one"):
            LeastOffload(**arguments)


@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("cost", [-1.0, np.nan, np.inf])
def test_an_invalid_cost_is_refused(position: int, cost: float) -> None:
    """The error names the argument."""
    costs = [1.0] * 4
    costs[position] = cost
    with pytest.raises(CalibrationError, match=rf"^{['local', 'remote', 'transfer', 'error'][position]}: "):
        LeastCost(*costs)


def test_every_objective_describes_itself() -> None:
    """Its text can be printed in a report."""
    words = [str(o) for o in (MostAccuracy(0.2), WhileItHelps(), LeastOffload(accuracy=0.9), LeastOffload(loss=0.01))]
    assert words[0] == "most accuracy at 20% offload or less"
    assert all(a != b for a, b in pairwise(words))
