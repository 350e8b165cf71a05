"""The policy of a cascade: how it decides and merges. It may change while the cascade runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgecascade.types.confidence_map import ConfidenceMap
from edgecascade.types.costs import ErrorCosts
from edgecascade.types.errors import ArgumentError
from edgecascade.types.merge import MERGES
from edgecascade.types.platt import Platt
from edgecascade.types.softmax import SMALLEST, log_probabilities

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Policy", "RemoteCalibration", "confidence_inputs"]


class RemoteCalibration(NamedTuple):
    """How to turn a remote's scores into calibrated probabilities on the device.

    Attributes:
        temperature: T that divides its logits.
        probabilities: whether its scores are probabilities, whose logarithms serve as logits.
        confidence_map: from the calibrated probability of its label to its confidence; None if
            the two are the same.
        floor: the number that smaller probabilities are raised to before the logarithm.
        columns: the column of its scores for each class; None if they are in the order of the classes.
    """

    temperature: float
    probabilities: bool
    confidence_map: ConfidenceMap | None = None
    floor: float = SMALLEST
    columns: tuple[int, ...] | None = None

    def __call__(self, scores: NDArray[Any]) -> NDArray[np.float32]:
        """Return calibrated probabilities float32 [n, classes], in the order of the classes, of scores [n, classes]."""
        logits = self.logits(scores) / self.temperature  # float64: `softmax` would round the temperature
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float32)

    def inverse(self, probabilities: NDArray[Any]) -> NDArray[np.float64]:
        """Return scores [n, classes] of the remote's kind and order that are read as these calibrated probabilities."""
        logits = self.temperature * np.log(np.maximum(probabilities.astype(np.float64), SMALLEST))
        scores = np.exp(logits - logits.max(axis=1, keepdims=True)) if self.probabilities else logits
        scores = scores / scores.sum(axis=1, keepdims=True) if self.probabilities else scores
        if self.columns is None:
            return scores
        placed = np.empty_like(scores)
        placed[:, list(self.columns)] = scores
        return placed

    def confidence(self, probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the confidence float32 [n] in labels [n], from calibrated probabilities [n, classes]."""
        chosen: NDArray[np.float32] = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
        return chosen if self.confidence_map is None else self.confidence_map(chosen).astype(np.float32)

    def logits(self, scores: NDArray[Any]) -> NDArray[np.float64]:
        """Return the scores as logits in the order of the classes, up to a constant per row."""
        wide = scores.astype(np.float64)
        if self.columns is not None:
            wide = wide[:, list(self.columns)]
        return log_probabilities(wide, self.floor) if self.probabilities else wide


@dataclass(frozen=True)
class Policy:
    """The rule that decides which inputs to forward and how to merge replies. Change it with `dataclasses.replace`.

    A value of None means the one in the graph, for a file that does not repeat it in its document.

    Attributes:
        merge: `replace`, `confident` or `average`.
        calibrate_remote: how to read the remote's scores; None for a general task, whose remote gives none.
        threshold: inputs whose advantage is below it are forwarded.
        temperature: T that divides the local model's logits.
        edges: scores at which the advantage table steps, ascending.
        values: advantages between them, one more than the edges.
        costs: of the errors, or None if all cost the same. Labels are then those of least expected cost. The graph
            decides by the costs that it was made with, so a running cascade cannot change them.
        confidence: of a general task, from the score to the confidence; a running cascade can change it to another of
            the same type. None for a classifier.

    Raises:
        ArgumentError: a value is invalid.
    """

    merge: str
    calibrate_remote: RemoteCalibration | None
    threshold: float | None = None
    temperature: float | None = None
    edges: tuple[float, ...] | None = None
    values: tuple[float, ...] | None = None
    costs: ErrorCosts | None = None
    confidence: Platt | ConfidenceMap | None = None

    def __post_init__(self) -> None:
        if self.merge not in MERGES:
            raise ArgumentError(f"merge: expected one of {', '.join(MERGES)}, got {self.merge!r}")
        if self.threshold is not None and math.isnan(self.threshold):
            raise ArgumentError("threshold: expected a number, got NaN")
        if self.temperature is not None and not 0 < self.temperature < math.inf:
            raise ArgumentError(f"temperature: expected a number above 0, got {self.temperature}")
        if self.calibrate_remote is not None:
            _check_remote(self.calibrate_remote)
        found = self.confidence
        if isinstance(found, Platt) and not np.isfinite([found.slope, found.intercept]).all():
            raise ArgumentError(f"confidence: expected a finite slope and intercept, got {found}")
        if (self.edges is None) != (self.values is None):
            raise ArgumentError(
                f"edges, values: expected both or neither, got only {'values' if self.edges is None else 'edges'}"
            )
        if self.edges is not None and self.values is not None:
            if len(self.values) != len(self.edges) + 1 or not np.isfinite([*self.edges, *self.values]).all():
                raise ArgumentError(
                    f"values: expected one finite advantage more than there are edges, got {len(self.values)} "
                    f"and {len(self.edges)}"
                )
            if (np.diff(np.array(self.edges, np.float32)) < 0).any():
                raise ArgumentError(f"edges: expected ascending scores, got {list(self.edges)[:5]}...")

    def overrides(self, own: Policy) -> dict[str, NDArray[np.float32]]:
        """Return the arrays, by input name, to feed a file whose own policy is `own` so that it decides by this one."""
        names = {
            "temperature": "temperature",
            "threshold": "threshold",
            "edges": "advantage_edges",
            "values": "advantage_values",
        }
        ours: dict[str, Any] = {field: getattr(self, field) for field in names}
        changed = {
            name: np.asarray(ours[field], np.float32)
            for field, name in names.items()
            if ours[field] is not None and ours[field] != getattr(own, field)
        }
        if self.confidence is not None and self.confidence != own.confidence:
            changed.update(confidence_inputs(self.confidence))
        return changed


def confidence_inputs(confidence: Platt | ConfidenceMap) -> dict[str, NDArray[np.float32]]:
    """Return the arrays, by input name, that the graph of a general task computes a confidence with.

    A map is a sum of shares of its rises: a column per segment, and before them one for the lowest value. The share is
    (score - start) * rate, clipped to [0, 1]; that of the first column is 1 for every score.

    >>> confidence_inputs(ConfidenceMap((0.0, 4.0), (0.5, 0.75)))["confidence_rates"]
    array([1.  , 0.25], dtype=float32)
    """
    if isinstance(confidence, Platt):
        return {
            "confidence_slope": np.array(confidence.slope, np.float32),
            "confidence_intercept": np.array(confidence.intercept, np.float32),
        }
    knots, values = np.array(confidence.knots, np.float64), np.array(confidence.values, np.float64)
    lowest = float(np.finfo(np.float32).min)
    with np.errstate(over="ignore"):
        return {
            "confidence_starts": np.append(lowest, knots[:-1]).astype(np.float32),
            "confidence_rates": np.append(1.0, 1 / np.diff(knots)).astype(np.float32),
            "confidence_rises": np.append(values[0], np.diff(values)).astype(np.float32),
        }


def _check_remote(calibration: RemoteCalibration) -> None:
    if not 0 < calibration.temperature < math.inf:
        raise ArgumentError(f"remote temperature: expected a number above 0, got {calibration.temperature}")
    if not 0 < calibration.floor < 1:
        raise ArgumentError(f"remote floor: expected a probability, got {calibration.floor}")
    columns = calibration.columns
    if columns is not None and sorted(columns) != list(range(len(columns))):
        raise ArgumentError(f"remote columns: expected each of 0 to {len(columns) - 1} once, got {columns}")
