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
    chosen = MostAccuracy(rate).choose(curve, 1.0, 100)
    allowed = [p for p in curve if p.offload_rate <= rate and p.threshold <= 0]
    assert chosen.offload_rate == max(p.offload_rate for p in allowed)
    assert WhileItHelps().choose(curve, 1.0, 100) == MostAccuracy(1.0).choose(curve, 1.0, 100)


@given(curves(), SHARES)
def test_least_offload_goes_down_from_the_most_accurate_point(curve: list[Point], accuracy: float) -> None:
    """It stops before the first point that misses the accuracy; if all do, the error names the best one."""
    enough = [p.accuracy >= accuracy for p in curve]
    best = max(range(len(curve)), key=lambda at: (curve[at].accuracy, -at))
    if enough[best]:
        last = max((at + 1 for at in range(best) if not enough[at]), default=0)
        assert LeastOffload(accuracy=accuracy).choose(curve, 1.0, 100) == curve[last]
        assert LeastOffload(loss=1 - accuracy).choose(curve, 1.0, 100).accuracy >= accuracy - 1e-6
    else:
        with pytest.raises(CalibrationError, match=r"^accuracy: .* is out of reach .*; the best is"):
            LeastOffload(accuracy=accuracy).choose(curve, 1.0, 100)


def test_a_higher_confidence_forwards_more() -> None:
    """The margin above the aim shrinks with the number of inputs, and what no rate reaches is refused."""
    curve = [Point(0.0, rate / 100, 0.8 + 0.1 * rate / 100) for rate in range(101)]
    half, sure = LeastOffload(accuracy=0.85), LeastOffload(accuracy=0.85, confidence=0.95)
    assert half.choose(curve, 1.0, 1000).offload_rate == half.choose(curve, 1.0, 10**6).offload_rate == 0.5
    rates = [sure.choose(curve, 1.0, n).offload_rate for n in (1000, 10_000, 10**6)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(0.5 + 10 * 1.645 * np.sqrt(0.85 * 0.15 / 1000), abs=0.02)
    with pytest.raises(CalibrationError, match=r"^confidence: expected at most 8\d%, .* got 0\.99"):
        LeastOffload(accuracy=0.89, confidence=0.99).choose(curve, 1.0, 1000)


def test_an_offload_rate_is_held_with_the_confidence() -> None:
    """The share of all inputs below the order statistic is within the rate in that share of draws, and barely."""
    rng = np.random.default_rng(0)
    for n, rate in ((50, 0.2), (1000, 0.05), (1000, 0.5)):
        count = round(MostAccuracy(rate, confidence=0.9).largest_rate(n) * n)
        drawn = np.sort(rng.random((4000, n)), axis=1)
        assert np.mean(drawn[:, count] <= rate) > 0.88  # the first input that stays local
        assert np.mean(drawn[:, count + 1] <= rate) < 0.92
    assert MostAccuracy(1.0, confidence=0.9).largest_rate(10) == 1.0
    assert MostAccuracy(0.001, confidence=0.9).largest_rate(10) == 0.0


@given(curves(), *(st.floats(0, 10) for _ in range(3)), st.floats(1e-3, 10))
def test_least_cost_is_the_minimum(
    curve: list[Point], local: float, remote: float, transfer: float, error: float
) -> None:
    """No point has a lower cost."""
    objective = LeastCost(local, remote, transfer, error)
    chosen = objective.choose(curve, 1.0, 100)
    costs = [local + p.offload_rate * (remote + transfer) + (1 - p.accuracy) * error for p in curve]
    assert objective.cost(chosen) == pytest.approx(min(costs))


def test_the_price_of_a_forward_is_in_wrong_answers() -> None:
    """Only a cost makes a forward worth less than the accuracy that it gains."""
    assert LeastCost(1.0, 2.0, 3.0, 10.0).price == 0.5
    assert LeastCost(1.0, 0.0, 0.0, 0.0).price == 0.0
    assert LeastCost(1.0, 1.0, 0.0, 0.0).price > 1.0
    for objective in (MostAccuracy(0.3), WhileItHelps(), LeastOffload(loss=0.01), LeastOffload(accuracy=0.8)):
        assert objective.price == 0.0


@pytest.mark.parametrize("share", [-0.1, 1.1, np.nan, np.inf])
def test_a_rate_outside_0_to_1_is_refused(share: float) -> None:
    """The error names the argument."""
    with pytest.raises(CalibrationError, match=r"^offload_rate: .*0 to 1"):
        MostAccuracy(share)
    with pytest.raises(CalibrationError, match=r"^accuracy: .*0 to 1"):
        LeastOffload(accuracy=share)
    with pytest.raises(CalibrationError, match=r"^loss: .*0 to 1"):
        LeastOffload(loss=share)
    for objective in (lambda: MostAccuracy(0.2, confidence=share), lambda: LeastOffload(loss=0.1, confidence=share)):
        with pytest.raises(CalibrationError, match=r"^confidence: .*between 0 and 1"):
            objective()


def test_an_accuracy_and_a_loss_exclude_each_other() -> None:
    """Giving neither or both is refused."""
    for arguments in ({}, {"accuracy": 0.9, "loss": 0.1}):
        with pytest.raises(CalibrationError, match=r"^accuracy, loss: expected one"):
            LeastOffload(**arguments)


def test_costs_of_nothing_are_refused() -> None:
    """Without any cost all plans are equal."""
    with pytest.raises(CalibrationError, match=r"^costs: .*zeros only"):
        LeastCost(0.0, 0.0, 0.0, 0.0)


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
    assert words[0] == "most accuracy at about 20% offload"
    assert str(MostAccuracy(0.2, 0.95)) == "most accuracy at 20% offload or less, with a probability of 0.95"
    assert str(LeastOffload(accuracy=0.9, confidence=0.8)).endswith("90 %, met with a probability of 0.8")
    assert all(a != b for a, b in pairwise(words))
