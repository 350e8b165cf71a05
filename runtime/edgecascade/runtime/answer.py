"""What `predict` returns: a label, and why it is the one it is."""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Answer", "LateAnswer", "Reason", "Source", "Verdict"]


class Source(str, Enum):
    """Whose label it is."""

    LOCAL = "local"
    REMOTE = "remote"
    MERGED = "merged"


class Reason(str, Enum):
    """Why that source. All but the first mean that the input was to be forwarded."""

    CONFIDENT = "confident"  # the local model was not at a disadvantage: nothing was sent
    OFFLOADED = "offloaded"  # the remote replied in time
    DEADLINE = "deadline"  # the remote's reply, or a free slot to ask in, did not come in time
    BUDGET = "budget"  # the budget for forwards is spent, and other inputs are worse placed
    EGRESS = "egress"  # the application's own policy keeps this input on the device
    CIRCUIT_OPEN = "circuit open"  # the remote failed so often that it is left alone for a while
    OFFLINE = "offline"  # there is no remote, or it could not be reached
    REMOTE_ERROR = "remote error"  # the remote replied with something that is no answer
    NOT_A_NUMBER = "not a number"  # the local confidence is NaN; the remote, if any, replied


# Tuples, because a frozen dataclass takes four times as long to make, and one is made for every input.
class Verdict(NamedTuple):
    """One model's opinion of one input.

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
        name: the class's name, if the file has names, else the index as text.
        confidence: calibrated probability that the label is right, in [0, 1], or NaN.
        source: whose label it is.
        reason: why that source.
        advantage: expected accuracy of the local model minus the remote's on such an input, in [-1, 1].
        local: the local model's verdict.
        remote: the remote's, or None if it was not asked or did not answer in time.
        detail: one sentence about a remote that failed, else empty.
        elapsed: seconds from the call to the answer; for a batch, of the whole batch.
        queued: the key under which a late answer will come, if the input was kept to be sent later, else empty.
    """

    label: int
    name: str
    confidence: float
    source: Source
    reason: Reason
    advantage: float
    local: Verdict
    remote: Verdict | None
    detail: str
    elapsed: float
    queued: str = ""

    @property
    def forwarded(self) -> bool:
        """Whether this input was to leave the device."""
        return self.reason is not Reason.CONFIDENT


class LateAnswer(NamedTuple):
    """The answer to an input that was kept to be sent later.

    Attributes:
        key: the caller's, or what `Answer.queued` said.
        answer: with `elapsed` the seconds since it was kept, and no advantage (NaN).
    """

    key: str
    answer: Answer
