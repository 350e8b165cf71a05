"""The choice among calibrators: temperature scaling, unless cross-validation shows that another is better.

The one-standard-error rule of Breiman et al., "Classification and Regression Trees" (1984), section 3.4.3: of
methods that cross-validation cannot separate, choose the simplest.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration._checks import check_labelled_logits
from edgecascade.calibration.scaling.isotonic import fit_top_label_isotonic
from edgecascade.calibration.scaling.temperature import fit_temperature
from edgecascade.calibration.scaling.vector import fit_vector_scaling
from edgecascade.types.errors import CalibrationError

__all__ = ["Calibrator", "Candidate", "Selection", "TemperatureScaling", "choose_calibrator"]


class Calibrator(Protocol):
    """From the logits [n, classes] of a model to logits whose softmax is calibrated."""

    def __call__(self, logits: NDArray[np.floating], /) -> NDArray[np.floating]:
        """Return calibrated logits [n, classes]."""


@dataclass(frozen=True)
class TemperatureScaling:
    """Logits z become z / T.

    Attributes:
        temperature: T.
    """

    temperature: float

    def __call__(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return logits float64 [n, classes] whose softmax is calibrated."""
        return np.asarray(logits, np.float64) / self.temperature


@dataclass(frozen=True)
class Candidate:
    """A method and its cross-validated likelihood.

    Attributes:
        method: `temperature`, `vector scaling` or `isotonic`.
        nll: mean negative log-likelihood of rows outside the fit, in nats.
        nll_error: its standard error.
        gain: temperature scaling's `nll` minus this one, in nats.
        gain_error: standard error of the gain, from paired differences.
    """

    method: str
    nll: float
    nll_error: float
    gain: float
    gain_error: float


@dataclass(frozen=True)
class Selection:
    """The chosen calibrator and the evidence for it.

    Attributes:
        method: the candidate with the largest gain above one standard error of it, or `temperature`.
        calibrator: that method fitted to all rows.
        candidates: every method that could be fitted, temperature scaling first.
        n: number of labelled rows.
        folds: number of parts that they were split into.
    """

    method: str
    calibrator: Calibrator
    candidates: tuple[Candidate, ...]
    n: int
    folds: int


def choose_calibrator(
    logits: NDArray[np.floating], labels: NDArray[np.integer], *, folds: int = 5, seed: int = 0
) -> Selection:
    """Choose temperature scaling, vector scaling or isotonic regression by cross-fitted negative log-likelihood.

    Each is fitted to all folds but one and measured on that one; folds are stratified by correctness. The standard
    errors take the rows as independent, which ignores that the fits share data.

    Args:
        logits: [n, classes], floating; -inf masks a class.
        labels: [n], integer, in 0..classes - 1.
        folds: at least 2.
        seed: of the split.

    Raises:
        CalibrationError: there are fewer rows than folds, or a temperature cannot be fitted without one of them.

    >>> rng = np.random.default_rng(0)
    >>> logits = rng.normal(0.0, 2.0, (1000, 3))
    >>> labels = (logits / 2 + rng.gumbel(size=logits.shape)).argmax(axis=1)
    >>> chosen = choose_calibrator(logits, labels)
    >>> chosen.method, [f"{c.method} {c.nll:.3f} ± {c.nll_error:.3f}" for c in chosen.candidates]
    ('temperature', ['temperature 0.874 ± 0.019', 'vector scaling 0.879 ± 0.019', 'isotonic 0.897 ± 0.022'])
    """
    check_labelled_logits(logits, labels)
    if not 2 <= folds <= len(labels):
        raise CalibrationError(f"folds: expected 2 to {len(labels)}, the number of rows, got {folds}")
    fold = _deal(logits.argmax(axis=1) == labels, folds, seed)
    baseline = _cross_fitted(_fit_temperature_scaling, logits, labels, fold)
    losses = {"temperature": baseline}
    for method in ("vector scaling", "isotonic"):
        with suppress(CalibrationError):  # temperature scaling remains
            losses[method] = _cross_fitted(_METHODS[method], logits, labels, fold)
    candidates = tuple(
        Candidate(method, *_mean_and_error(loss), *_mean_and_error(baseline - loss)) for method, loss in losses.items()
    )
    pays = [candidate for candidate in candidates if candidate.gain > candidate.gain_error]
    method = max(pays, key=lambda candidate: candidate.gain).method if pays else "temperature"
    return Selection(method, _METHODS[method](logits, labels), candidates, len(labels), folds)


def _fit_temperature_scaling(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> TemperatureScaling:
    return TemperatureScaling(fit_temperature(logits, labels))


_METHODS: dict[str, Callable[[NDArray[np.floating], NDArray[np.integer]], Calibrator]] = {
    "temperature": _fit_temperature_scaling,
    "vector scaling": fit_vector_scaling,
    "isotonic": fit_top_label_isotonic,
}


def _deal(correct: NDArray[np.bool_], folds: int, seed: int) -> NDArray[np.intp]:
    """Return the fold [n] of each row, at random but stratified by correctness."""
    shuffled = np.random.default_rng(seed).permutation(len(correct))
    order = shuffled[np.argsort(correct[shuffled], kind="stable")]
    fold = np.empty(len(correct), np.intp)
    fold[order] = np.arange(len(correct)) % folds
    return fold


def _cross_fitted(
    fit: Callable[[NDArray[np.floating], NDArray[np.integer]], Calibrator],
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    fold: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Return the negative log-likelihood [n] of each label under the fit that has not seen it."""
    loss = np.empty(len(labels))
    for left_out in np.unique(fold):
        out = fold == left_out
        try:
            calibrator = fit(logits[~out], labels[~out])
        except CalibrationError as reason:
            raise CalibrationError(f"folds: the fit without one of them failed: {reason}") from reason
        loss[out] = _losses(calibrator(logits[out]), labels[out])
    return loss


def _losses(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    from scipy.special import log_softmax

    return np.asarray(-log_softmax(np.asarray(logits, np.float64), axis=1)[np.arange(len(labels)), labels])


def _mean_and_error(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
