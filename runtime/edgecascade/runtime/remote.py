"""The large model, wherever it is: one method, and the one that needs no network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.batch import Batch
from edgecascade.runtime.deadline import Deadline

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


Scores: TypeAlias = NDArray[Any] | Opinions  # logits or probabilities [n, classes], or no more than opinions


class Remote(Protocol):
    """Anything that can be asked."""

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
    """A model in this process: any function from inputs [n, ...] to logits [n, classes].

    The function cannot be interrupted: past the deadline its answer is dropped, not its work.
    """

    def __init__(self, function: Callable[[Any], NDArray[Any]]) -> None:
        self._function = function

    def infer(self, inputs: Batch, deadline: Deadline) -> NDArray[Any]:  # noqa: ARG002
        """Logits [n, classes] of inputs [n, ...]; whatever the function raises is raised."""
        return np.asarray(self._function(inputs))

    def close(self) -> None:
        """Nothing to let go of."""
