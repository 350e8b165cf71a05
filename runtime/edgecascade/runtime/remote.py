"""The large model, wherever it is: one method, and the one that needs no network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.batch import Batch
from edgecascade.runtime.deadline import Deadline

__all__ = ["InProcess", "Remote"]


class Remote(Protocol):
    """Anything that can be asked."""

    def infer(self, inputs: Batch, deadline: Deadline) -> NDArray[Any]:
        """Logits [n, classes] of original inputs [n, ...]; by name where the application gave several.

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
