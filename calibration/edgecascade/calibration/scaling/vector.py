"""Vector scaling: a scale and a bias for each class.

Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration._checks import check_labelled_logits
from edgecascade.calibration.scaling.temperature import fit_temperature
from edgecascade.types.errors import CalibrationError

__all__ = ["VectorScaling", "fit_vector_scaling"]

_CHUNK_ELEMENTS = 1 << 16
_CONVERGED = 1e-5  # largest derivative of the mean loss at an optimum, in nats


@dataclass(frozen=True)
class VectorScaling:
    """Logits z become scale * z + bias, class by class.

    Attributes:
        scale: float64 [classes].
        bias: float64 [classes], nats.
    """

    scale: NDArray[np.float64]
    bias: NDArray[np.float64]

    def __call__(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return logits float64 [n, classes] whose softmax is calibrated; infinite ones, such as masks, stay."""
        infinite = np.isinf(logits)
        return np.where(infinite, logits, self.scale * np.where(infinite, 0, logits) + self.bias)


def fit_vector_scaling(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> VectorScaling:
    """Fit the scales and biases by maximum a posteriori around temperature scaling.

    Two parameters per class overfit few rows, so each has a Gaussian prior of unit variance around temperature
    scaling: on the relative departure of the scale from 1 / T, and on the bias at the mean logit of the class, in
    nats. A class without rows stays near its temperature, and the optimum is finite and unique.

    Args:
        logits: [n, classes], floating; -inf masks a class.
        labels: [n], integer, in 0..classes - 1.

    Raises:
        CalibrationError: there is no finite temperature, or the fit does not converge.

    >>> rng = np.random.default_rng(0)
    >>> truth = rng.normal(0.0, 2.0, (4000, 2))
    >>> labels = (truth + rng.gumbel(size=truth.shape)).argmax(axis=1)
    >>> found = fit_vector_scaling(truth * [1.0, 4.0], labels)    # class 1 is four times too sharp
    >>> found.scale.round(1)
    array([1. , 0.2])
    """
    from scipy.optimize import minimize

    check_labelled_logits(logits, labels)
    objective = _Objective(logits, labels, fit_temperature(logits, labels))
    start = np.zeros(2 * logits.shape[1])
    options = {"maxiter": 1000, "maxfun": 2000, "gtol": 1e-8, "ftol": 1e-14}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    if not np.abs(found.jac).max() <= _CONVERGED:
        raise CalibrationError("logits: vector scaling did not converge on them; are some of them huge by mistake?")
    return objective.scaling(found.x)


class _Objective:
    """Mean loss and gradient in [relative departures from 1 / T, biases at the mean logits], each [classes]."""

    def __init__(self, logits: NDArray[np.floating], labels: NDArray[np.integer], temperature: float) -> None:
        self.logits, self.labels, self.temperature = logits, labels, temperature
        masked = np.isneginf(logits)
        usable = np.maximum(1, np.count_nonzero(~masked, axis=0))
        self.mean = np.sum(logits, axis=0, dtype=np.float64, where=~masked) / usable

    def scaling(self, parameters: NDArray[np.float64]) -> VectorScaling:
        departure, bias = np.split(parameters, 2)
        return VectorScaling((1 + departure) / self.temperature, bias - departure * self.mean / self.temperature)

    def __call__(self, parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        n, classes = self.logits.shape
        scaling = self.scaling(parameters)
        loss, gradient = 0.5 * float(parameters @ parameters), parameters.copy()
        rows = max(1, _CHUNK_ELEMENTS // classes)
        for start in range(0, n, rows):
            logits, labels = self.logits[start : start + rows], self.labels[start : start + rows]
            residual = scaling(logits)
            residual -= residual.max(axis=1, keepdims=True)
            every = np.arange(len(labels))
            loss -= residual[every, labels].sum()
            np.exp(residual, out=residual)
            total = residual.sum(axis=1, keepdims=True)
            loss += np.log(total).sum()
            residual /= total
            residual[every, labels] -= 1
            centred = (np.where(np.isneginf(logits), self.mean, logits) - self.mean) / self.temperature
            gradient += np.concatenate([np.einsum("ij,ij->j", residual, centred), residual.sum(axis=0)])
        return loss / n, gradient / n
