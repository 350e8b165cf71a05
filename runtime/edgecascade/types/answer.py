"""What `Cascade.predict` returns: a label, where it came from, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple

import numpy as np

__all__ = ["NO_OUTPUTS", "Answer", "Decode", "LateAnswer", "Outputs", "Prediction", "Reason", "Source"]

Array = np.ndarray[Any, np.dtype[Any]]
Outputs = Mapping[str, Array]
"""The output arrays of a model for one input, by name, without the batch axis."""

Decode = Callable[[Outputs], Any]
"""From the outputs of a model for one input to the application's object, such as a text or a list of boxes."""


class Source(str, Enum):
    """Which model the label came from."""

    LOCAL = "local"
    REMOTE = "remote"
    MERGED = "merged"


class Reason(str, Enum):
    """Why the answer has that source. All but the first mean that the policy wanted to forward the input."""

    CONFIDENT = "confident"  # the local model was not at a disadvantage, and nothing was sent
    OFFLOADED = "offloaded"  # the remote replied in time
    DEADLINE = "deadline"  # the remote did not reply in time, or no request was free in time
    BUDGET = "budget"  # the budget for forwards is short, and other inputs need it more
    EGRESS = "egress"  # the application does not allow this input to leave the device
    CIRCUIT_OPEN = "circuit open"  # the remote failed so often that it is not asked for a while
    OFFLINE = "offline"  # there is no remote, or it could not be reached
    REMOTE_ERROR = "remote error"  # the remote sent a reply that is not a valid answer
    NOT_A_NUMBER = "not a number"  # the local confidence is NaN; the remote, if any, replied


class _NoOutputs(Mapping[str, Array]):
    """A mapping that is empty and stays so. Copies and pickles of it are the one instance."""

    def __getitem__(self, name: str) -> Array:
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "{}"

    def __reduce__(self) -> str:
        return "NO_OUTPUTS"


NO_OUTPUTS: Outputs = _NoOutputs()
"""The outputs of a prediction that has none."""


# Tuples, because a frozen dataclass takes four times as long to create, and one is created for every input.
class Prediction(NamedTuple):
    """The prediction of one model for one input.

    Attributes:
        label: index of the class; -1 for a general task.
        confidence: calibrated probability that the label is right, in [0, 1], or NaN. For a general task, the expected
            value of the local answer; NaN for the remote's.
        probabilities: float32 [classes], calibrated; [0] for a general task.
        outputs: the model's output arrays by name, without the batch axis, as far as they were asked for.
        result: what the decode function of this side returned for these outputs; None without one, and for a local
            prediction that is not the answer.
    """

    label: int
    confidence: float
    probabilities: np.ndarray[Any, np.dtype[np.float32]]
    outputs: Outputs = NO_OUTPUTS
    result: Any = None


class Answer(NamedTuple):
    """The answer to one input.

    Attributes:
        label: index of the class; -1 for a general task.
        name: name of the class, or its index as text if the file has no names; empty for a general task.
        confidence: calibrated probability that the label is right, in [0, 1], or NaN. For a general task, the expected
            value of the answer if it is local, and NaN if it is the remote's.
        source: which model the label came from.
        reason: why the answer has that source.
        advantage: expected accuracy, or value, of the local model minus the remote's on such an input, in [-1, 1].
        local: the local model's prediction.
        remote: the remote's prediction, or None if it was not asked or did not reply in time.
        detail: one sentence about why the remote failed; otherwise empty.
        elapsed: seconds from the call to the answer; in a batch, of the whole batch.
        queued: the key of the late answer, if the input was stored to be sent later; otherwise empty.
        outputs: the output arrays, by name, of the model that answered; empty for a merged answer. Those of the local
            model are also in `local.outputs`.
        result: what the decode function of that side returned for them; None without one.
    """

    label: int
    name: str
    confidence: float
    source: Source
    reason: Reason
    advantage: float
    local: Prediction
    remote: Prediction | None
    detail: str
    elapsed: float
    queued: str = ""
    outputs: Outputs = NO_OUTPUTS
    result: Any = None

    @property
    def forwarded(self) -> bool:
        """Whether the policy wanted this input forwarded."""
        return self.reason is not Reason.CONFIDENT


class LateAnswer(NamedTuple):
    """The answer to an input that was stored to be sent later.

    Attributes:
        key: the caller's key, or the generated one in `Answer.queued`.
        answer: its `elapsed` is the seconds since the input was stored; its advantage is NaN.
    """

    key: str
    answer: Answer
