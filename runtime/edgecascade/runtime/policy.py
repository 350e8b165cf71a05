"""What a cascade decides and merges by, apart from its models: it may change while they run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecascade.runtime.errors import ArgumentError, ModelFileError
from edgecascade.runtime.metadata import MERGES, Metadata
from edgecascade.runtime.remote_calibration import RemoteCalibration

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Policy"]


@dataclass(frozen=True)
class Policy:
    """Change one with `dataclasses.replace`. None, in a file of an older edgecascade, is what the graph holds.

    Attributes:
        merge: `replace`, `confident` or `average`.
        calibrate_remote: how to read the remote's scores.
        threshold: inputs whose advantage is below it are forwarded.
        temperature: T that divides the local model's logits.
        edges: scores at which the advantage table steps, ascending.
        values: advantages between them, one more than the edges.

    Raises:
        ArgumentError: a value that cannot mean anything.
    """

    merge: str
    calibrate_remote: RemoteCalibration
    threshold: float | None = None
    temperature: float | None = None
    edges: tuple[float, ...] | None = None
    values: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.merge not in MERGES:
            raise ArgumentError(f"merge: expected one of {', '.join(MERGES)}, got {self.merge!r}")
        if self.threshold is not None and math.isnan(self.threshold):
            raise ArgumentError("threshold: expected a number, got NaN")
        if self.temperature is not None and not (0 < self.temperature < math.inf):
            raise ArgumentError(f"temperature: expected a number above 0, got {self.temperature}")
        if (self.edges is None) != (self.values is None):
            raise ArgumentError("edges, values: expected both or neither")
        if self.edges is not None and self.values is not None:
            if len(self.values) != len(self.edges) + 1 or not np.isfinite([*self.edges, *self.values]).all():
                raise ArgumentError(
                    f"values: expected one finite advantage more than there are edges, got {len(self.values)} "
                    f"and {len(self.edges)}"
                )
            if (np.diff(np.array(self.edges, np.float32)) < 0).any():
                raise ArgumentError("edges: expected ascending scores")

    @classmethod
    def of(cls, metadata: Metadata) -> Policy:
        """The policy that a file holds.

        Raises:
            ModelFileError: its document is damaged.
        """
        policy, calibration = metadata.document["policy"], metadata.document.get("calibration", {})
        try:
            return cls(
                merge=metadata.merge,
                calibrate_remote=metadata.calibrate_remote,
                threshold=policy.get("threshold"),
                temperature=calibration.get("temperature"),
                edges=_tuple(policy.get("edges")),
                values=_tuple(policy.get("values")),
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise ModelFileError(f"the file's policy is damaged: {error}") from error

    def overrides(self, own: Policy) -> dict[str, NDArray[np.float32]]:
        """What to feed a file whose own policy is `own`, so that it decides by this one: arrays by input name."""
        names = {
            "temperature": "temperature",
            "threshold": "threshold",
            "edges": "advantage_edges",
            "values": "advantage_values",
        }
        ours: dict[str, Any] = {field: getattr(self, field) for field in names}
        return {
            name: np.asarray(ours[field], np.float32)
            for field, name in names.items()
            if ours[field] is not None and ours[field] != getattr(own, field)
        }


def _tuple(values: Any) -> tuple[float, ...] | None:
    return None if values is None else tuple(float(value) for value in values)
