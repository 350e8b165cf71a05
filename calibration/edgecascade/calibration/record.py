"""What a calibration was fitted on and what it changed, in a form that travels with the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.estimate import Estimate, calibration_error, proportion
from edgecascade.calibration.softmax import softmax
from edgecascade.calibration.temperature import fit_temperature, row_losses

__all__ = ["Calibration", "calibrate_temperature"]


@dataclass(frozen=True)
class Calibration:
    """A fitted temperature. "Before" is T = 1; both are measured on the fitting data itself.

    Attributes:
        method: `temperature`.
        temperature: T, which divides the logits.
        n: labelled inputs it was fitted on.
        accuracy: share of right labels among them; a temperature does not change it.
        nll_before: mean negative log-likelihood, nats.
        nll_after: the same at T.
        ece_before: expected calibration error, 15 equal-width bins, less the bias that finite data gives it.
        ece_after: the same at T.
    """

    method: str
    temperature: float
    n: int
    accuracy: Estimate
    nll_before: Estimate
    nll_after: Estimate
    ece_before: Estimate
    ece_after: Estimate


def calibrate_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> Calibration:
    """Fit T on logits [n, classes] and labels [n], and record what it did to them, with 95 % intervals."""
    temperature = fit_temperature(logits, labels)
    correct = logits.argmax(axis=1) == labels
    return Calibration(
        method="temperature",
        temperature=temperature,
        n=len(labels),
        accuracy=proportion(float(correct.mean()), len(labels)),
        nll_before=_likelihood(logits, labels, 1.0),
        nll_after=_likelihood(logits, labels, temperature),
        ece_before=calibration_error(softmax(logits).max(axis=1), correct),
        ece_after=calibration_error(softmax(logits, temperature).max(axis=1), correct),
    )


def _likelihood(logits: NDArray[np.floating], labels: NDArray[np.integer], temperature: float) -> Estimate:
    """With the interval of the normal approximation, whose spread is that of the rows."""
    losses = row_losses(logits, labels, temperature)
    half = 1.96 * float(losses.std()) / np.sqrt(len(losses))
    mean = float(losses.mean())
    return Estimate(mean, mean - half, mean + half, len(losses))
