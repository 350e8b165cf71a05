"""P-values that hold at any n: never too small where the loss is at the bound, and small where it is below."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multinomial

from edgecascade.calibration import CalibrationError
from edgecascade.calibration.noninferiority import betting_p_value, exact_p_value, sample_size


@pytest.mark.parametrize("n", [8, 15])
@pytest.mark.parametrize("bound", [0.05, 0.3])
def test_the_exact_test_is_exact(n: int, bound: float) -> None:
    """Over all outcomes of n inputs, and every rate of disagreement at the bound, P(p <= a) <= a."""
    outcomes = [(w, b) for w, b in product(range(n + 1), repeat=2) if w + b <= n]
    p_values = np.array([exact_p_value(w, b, n, bound) for w, b in outcomes])
    counts = [(w, b, n - w - b) for w, b in outcomes]
    for better in np.linspace(0, (1 - bound) / 2, 15):
        probability = multinomial.pmf(counts, n, [better + bound, better, 1 - 2 * better - bound])
        for level in (0.01, 0.05, 0.1, 0.3):
            assert probability[p_values <= level].sum() <= level


@pytest.mark.parametrize(("rate", "n"), [(0.02, 400), (0.1, 1000)])
def test_the_exact_test_wastes_little(rate: float, n: int) -> None:
    """At the bound it rejects nearly as often as it may: 3 to 5.5 % of the time at 5 %."""
    worse, better = (rate + 0.01) / 2, (rate - 0.01) / 2
    drawn = np.random.default_rng(0).multinomial(n, [worse, better, 1 - rate], size=1000)
    seen, index = np.unique(drawn[:, :2], axis=0, return_inverse=True)
    p_values = np.array([exact_p_value(int(w), int(b), n, 0.01) for w, b in seen])[index.ravel()]
    assert 0.03 < np.mean(p_values <= 0.05) < 0.071


@given(st.integers(1, 60), st.data())
@settings(max_examples=50)
def test_more_losses_are_more_evidence_of_loss(n: int, data: st.DataObject) -> None:
    """One more wrong answer, in place of a right one, never lowers the p-value."""
    worse = data.draw(st.integers(0, n - 1))
    better = data.draw(st.integers(0, n - 1 - worse))
    assert exact_p_value(worse, better, n, 0.1) <= exact_p_value(worse + 1, better, n, 0.1) + 1e-9


@pytest.mark.parametrize(("mean", "spread"), [(0.01, 0.0), (0.01, 0.2), (0.1, 0.5)])
def test_the_bet_is_lost_where_the_loss_is_at_the_bound(mean: float, spread: float) -> None:
    """Over repeated draws with a loss at the bound, at most 5 % have p <= 5 %, whatever the losses look like."""
    rng = np.random.default_rng(0)
    draws = mean + spread * rng.choice([-1.0, 1.0], (1000, 500))
    rejected = np.mean([betting_p_value(row, mean) <= 0.05 for row in draws])
    assert rejected <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 1000)


def test_both_see_a_cascade_that_loses_nothing() -> None:
    """2,000 inputs, 4 % disagreement, no loss: both certify 2 %."""
    losses = np.random.default_rng(0).permutation(np.repeat([1.0, -1.0, 0.0], [40, 40, 1920]))
    assert exact_p_value(40, 40, 2000, 0.02) < 0.001 + 1e-4
    assert betting_p_value(losses, 0.02) < 0.01


@pytest.mark.parametrize(("bound", "risk"), [(0.01, 0.05), (0.05, 0.1)])
def test_the_least_sample_is_the_least(bound: float, risk: float) -> None:
    """With no disagreement at all, that many inputs show it and one fewer do not."""
    n = sample_size(bound, risk)
    assert exact_p_value(0, 0, n, bound) <= risk < exact_p_value(0, 0, n - 1, bound)


def test_the_usual_sample_shows_it_four_times_in_five() -> None:
    """Drawn with the loss and the disagreement that it was made for."""
    n = sample_size(0.02, 0.05, disagreement=0.06, loss=0.0)
    drawn = np.random.default_rng(0).multinomial(n, [0.03, 0.03, 0.94], size=300)
    shown = np.mean([exact_p_value(int(w), int(b), n, 0.02) <= 0.05 for w, b, _ in drawn])
    assert 0.7 < shown < 0.9


@pytest.mark.parametrize(
    ("worse", "better", "n", "bound"), [(1, 1, 1, 0.1), (-1, 0, 5, 0.1), (0, 0, 0, 0.1), (0, 0, 9, 0.0)]
)
def test_counts_that_cannot_be_are_refused(worse: int, better: int, n: int, bound: float) -> None:
    """One sentence that names them."""
    with pytest.raises(CalibrationError, match=r"^worse, better, n, bound: "):
        exact_p_value(worse, better, n, bound)


@pytest.mark.parametrize("losses", [[], [2.0], [np.nan], [[0.0]]])
def test_losses_that_cannot_be_are_refused(losses: list[float]) -> None:
    """Outside [-1, 1] no bet is safe."""
    with pytest.raises(CalibrationError, match=r"^losses: "):
        betting_p_value(np.array(losses), 0.1)
