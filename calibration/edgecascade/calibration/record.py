"""What a calibration was fitted on and what it changed, in a form that travels with the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.reliability import expected_calibration_error
from edgecascade.calibration.softmax import softmax
from edgecascade.calibration.temperature import fit_temperature, negative_log_likelihood

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
        ece_before: expected calibration error, 15 equal-width bins.
        ece_after: the same at T.
    """

    method: str
    temperature: float
    n: int
    accuracy: float
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float


def calibrate_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> Calibration:
    """Fit T on logits [n, classes] and labels [n], and record what it did to them."""
    temperature = fit_temperature(logits, labels)
    correct = logits.argmax(axis=1) == labels
    return Calibration(
        method="temperature",
        temperature=temperature,
        n=len(labels),
        accuracy=float(correct.mean()),
        nll_before=negative_log_likelihood(logits, labels),
        nll_after=negative_log_likelihood(logits, labels, temperature),
        ece_before=expected_calibration_error(softmax(logits).max(axis=1), correct),
        ece_after=expected_calibration_error(softmax(logits, temperature).max(axis=1), correct),
    )
