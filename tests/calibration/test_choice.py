"""The default calibrator of scores is Platt scaling, unless isotonic regression is clearly better."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.calibration import CalibrationError, ConfidenceMap, Platt, choose_calibrator, fit_isotonic, fit_platt

Scored = tuple[NDArray[np.float64], NDArray[np.bool_]]


def logistic(n: int, seed: int) -> Scored:
    """Draw scores whose log-odds of being right are linear."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=n)
    return score, rng.random(n) < 1 / (1 + np.exp(-2 * score))


def stepped(n: int, seed: int) -> Scored:
    """Draw scores that are right half the time below a point and nearly always above it."""
    rng = np.random.default_rng(seed)
    score = rng.uniform(0.5, 8.0, n)
    return score, rng.random(n) < np.where(score < 2.0, 0.4, 0.95)


def losses(calibrator: Platt | ConfidenceMap | None, scored: Scored) -> NDArray[np.float64]:
    """Return the negative log-likelihood of each answer."""
    assert calibrator is not None
    probability = calibrator(scored[0])
    return -np.log(np.where(scored[1], probability, 1 - probability))


def test_platt_scaling_is_chosen_for_linear_log_odds() -> None:
    """Isotonic regression gains nothing there, and is chosen by chance only."""
    found = [choose_calibrator(*logistic(500, seed)) for seed in range(40)]
    platt = [(seed, one.calibrator) for seed, one in enumerate(found) if one.method == "platt"]
    assert len(platt) >= 34
    assert all(calibrator == fit_platt(*logistic(500, seed)) for seed, calibrator in platt)


@pytest.mark.parametrize("seed", range(3))
def test_isotonic_regression_is_chosen_for_a_step(seed: int) -> None:
    """It has the higher likelihood on new inputs too."""
    scored, fresh = stepped(2000, seed), stepped(5000, seed + 100)
    chosen = choose_calibrator(*scored)
    assert chosen.method == "isotonic"
    assert losses(chosen.calibrator, fresh).mean() < losses(fit_platt(*scored), fresh).mean()


def test_the_choice_follows_from_the_figures() -> None:
    """Isotonic regression is chosen only if its gain in likelihood exceeds one standard error."""
    methods = set()
    for seed in range(20):
        chosen = choose_calibrator(*stepped(60, seed), seed=seed)
        platt, isotonic = chosen.candidates
        assert (platt.method, isotonic.method, platt.gain, platt.gain_error) == ("platt", "isotonic", 0.0, 0.0)
        assert isotonic.gain == pytest.approx(platt.nll - isotonic.nll)
        assert chosen.method == ("isotonic" if isotonic.gain > isotonic.gain_error else "platt")
        methods.add(chosen.method)
    assert methods == {"platt", "isotonic"}


@pytest.mark.parametrize(("position", "fit"), [(0, fit_platt), (1, partial(fit_isotonic, groups=16))])
def test_every_row_is_scored_by_a_fit_without_it(position: int, fit: Callable[..., Platt]) -> None:
    """With as many folds as rows, the likelihood is the mean over leave-one-out fits."""
    score, correct = logistic(30, 0)
    left_out = [
        losses(fit(np.delete(score, i), np.delete(correct, i)), (score[[i]], correct[[i]])).item() for i in range(30)
    ]
    found = choose_calibrator(score, correct, folds=30).candidates[position]
    assert found.nll == pytest.approx(np.mean(left_out))
    assert found.nll_error == pytest.approx(np.std(left_out, ddof=1) / np.sqrt(30))


def test_the_same_seed_gives_the_same_figures() -> None:
    """Another seed gives different figures."""
    first, again, other = (choose_calibrator(*logistic(100, 0), seed=seed).candidates for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(
    ("score", "correct", "folds", "message"),
    [
        ([0.1, 0.2, 0.3], [True, False, True], 1, "^folds: expected 2 to 3.* got 1"),
        ([0.1, 0.2, 0.3], [True, False, True], 4, "^folds: .* got 4"),
        ([0.1, 0.2, 0.3], [True, False], 2, r"^correct: .*\[3\].*\[2\]"),
        ([0.5, 0.5, 0.5, 0.5], [True, False, True, False], 2, "^score: .*distinct"),
    ],
)
def test_invalid_arguments_are_refused(score: list[float], correct: list[bool], folds: int, message: str) -> None:
    """The error names the argument and the value."""
    with pytest.raises(CalibrationError, match=message):
        choose_calibrator(np.array(score), np.array(correct), folds=folds)
