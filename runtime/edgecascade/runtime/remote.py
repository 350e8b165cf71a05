"""The large model, wherever it is: one method, and the one that needs no network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.batch import Batch
from edgecascade.runtime.deadline import Deadline
from edgecascade.types.errors import RemoteError

__all__ = ["InProcess", "Opinions", "Remote", "Scores"]


@dataclass(frozen=True)
class Opinions:
    """What a remote says that gives no more than a label and a confidence for each input.

    Attributes:
        labels: integers [n], indices of classes.
        confidences: floating [n], in [0, 1].
    """

    labels: NDArray[Any]
    confidences: NDArray[Any]

    def probabilities(self, classes: int) -> NDArray[np.float64]:
        """Probabilities [n, classes]: what confidence leaves is shared equally by the other classes.

        Raises:
            RemoteError: a label is no class, or a confidence no probability.
        """
        labels, confidences = np.asarray(self.labels), np.asarray(self.confidences)
        if labels.ndim != 1 or labels.shape != confidences.shape or labels.dtype.kind not in "iu":
            raise RemoteError(
                f"remote: expected integer labels [n] and as many confidences, got {labels.dtype} "
                f"{list(labels.shape)} and {confidences.dtype} {list(confidences.shape)}"
            )
        if not ((labels >= 0) & (labels < classes)).all() or not ((confidences >= 0) & (confidences <= 1)).all():
            raise RemoteError(f"remote: expected labels below {classes} and confidences from 0 to 1")
        rest = (1 - confidences.astype(np.float64)) / max(1, classes - 1)
        table = np.repeat(rest[:, None], classes, axis=1)
        table[np.arange(len(labels)), labels] = confidences
        return table


Scores: TypeAlias = NDArray[Any] | Opinions  # logits or probabilities [n, classes], or no more than opinions


class Remote(Protocol):
    """Anything that can be asked.

    One with an attribute `encoded` that is true gets image files as they are, as an object array of bytes [n], where
    the application gave files. One with an attribute `request_inputs` gets no more inputs than that in one request.
    """

    def infer(self, inputs: Batch, deadline: Deadline) -> Scores:
        """Scores [n, classes] of original inputs [n, ...]; by name where the application gave several.

        Called from several threads at once. Should give up at the deadline; the caller does in any case.

        Raises:
            RemoteUnreachable: nobody is there.
            RemoteError: somebody is, and has no answer.
        """
        ...

    def close(self) -> None:
        """Let go of connections and memory."""
        ...


class InProcess:
    """A model in this process: any function from inputs [n, ...] to scores [n, classes], or to `Opinions`.

    The function cannot be interrupted: past the deadline its answer is dropped, not its work.
    """

    def __init__(self, function: Callable[[Any], Scores]) -> None:
        self._function = function

    def infer(self, inputs: Batch, deadline: Deadline) -> Scores:  # noqa: ARG002
        """Scores of inputs [n, ...]; whatever the function raises is raised."""
        return self._function(inputs)

    def close(self) -> None:
        """Nothing to let go of."""
