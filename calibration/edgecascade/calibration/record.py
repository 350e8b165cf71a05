"""What a calibration was fitted on and what it changed, in a form that travels with the model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.estimate import calibration_error, proportion
from edgecascade.calibration.temperature import fit_temperature, row_losses
from edgecascade.types.document import Calibration
from edgecascade.types.estimate import Estimate
from edgecascade.types.softmax import softmax

__all__ = ["calibrate_temperature"]


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
