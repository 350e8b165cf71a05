"""What `Cascade.predict` returns: a label, where it came from, and why."""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Answer", "LateAnswer", "Prediction", "Reason", "Source"]


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


# Tuples, because a frozen dataclass takes four times as long to create, and one is created for every input.
class Prediction(NamedTuple):
    """The prediction of one model for one input.

    Attributes:
        label: index of the class.
        confidence: calibrated probability that the label is right, in [0, 1], or NaN.
        probabilities: float32 [classes], calibrated.
    """

    label: int
    confidence: float
    probabilities: np.ndarray[Any, np.dtype[np.float32]]


class Answer(NamedTuple):
    """The answer to one input.

    Attributes:
        label: index of the class.
        name: name of the class, or its index as text if the file has no names.
        confidence: calibrated probability that the label is right, in [0, 1], or NaN.
        source: which model the label came from.
        reason: why the answer has that source.
        advantage: expected accuracy of the local model minus the remote's on such an input, in [-1, 1].
        local: the local model's prediction.
        remote: the remote's prediction, or None if it was not asked or did not reply in time.
        detail: one sentence about why the remote failed; otherwise empty.
        elapsed: seconds from the call to the answer; in a batch, of the whole batch.
        queued: the key of the late answer, if the input was stored to be sent later; otherwise empty.
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
