"""One input on its way to a remote, why it is sent, and why it got no prediction."""

from __future__ import annotations

import math
from _thread import RLock, allocate_lock
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, NamedTuple

import numpy as np

from edgecascade.runtime.batch import Batch
from edgecascade.runtime.deadline import Deadline
from edgecascade.types.answer import Prediction, Reason

__all__ = ["TOO_LATE", "Failure", "Purpose", "Request", "State", "allows"]


def allows(egress: Callable[[Any], bool], sent: Any) -> bool:
    """Return whether the application's egress lets an input leave the device.

    Raises:
        TypeError: it says neither true nor false, such as the coroutine of an `async def`, which is true to Python.
        Exception: whatever it raises.
    """
    said = egress(sent)
    if isinstance(said, (bool, np.bool_)):
        return bool(said)
    if hasattr(said, "close"):
        said.close()  # a coroutine, which would warn that nothing waits for it
    raise TypeError(f"egress: expected True or False, got {type(said).__name__}")


class Failure(NamedTuple):
    """The reason why the remote gave no prediction.

    Attributes:
        reason: the answer's reason.
        detail: one sentence for the user; it may quote the remote.
        about_input: whether the failure may be due to this input, so that the remote may answer others; see
            `RemoteError.about_input`.
        error: the class of the exception, and the status of a refusal; nothing of the remote's own words.
    """

    reason: Reason
    detail: str
    about_input: bool = False
    error: str = ""

    @property
    def worth_keeping(self) -> bool:
        """Whether an outbox stores the input and sends it again.

        It stores every input that the remote did not answer, for any reason: a token that has expired, a page of a
        captive portal, a model that is not loaded yet. It does not store what the application (egress) or its budget
        held back. An input that the remote refuses while it answers others is dropped later, see `Outbox.start`.
        """
        return self.reason is not Reason.EGRESS and self.reason is not Reason.BUDGET


TOO_LATE = Failure(Reason.DEADLINE, "the remote did not answer in time")


class Purpose(Enum):
    """Why an input is sent."""

    FORWARD = "forward"  # the caller waits for the answer
    AUDIT = "audit"  # its local answer stands; the watch compares the two
    LATE = "late"  # it was stored in the outbox


class State(Enum):
    """How far a request has come."""

    REFUSED = "refused"  # or not started
    WAITING = "waiting"  # in no request yet
    SENT = "sent"


class Request:
    """One input on its way to the remote.

    Args:
        sent: what is sent, a batch of one in memory that no other code writes to.
        local: the local prediction; None if it is not known, for `Purpose.LATE`.
        deadline: when the caller leaves.
        purpose: why it is sent.
        advantage: the advantage by which the budget ranks a forward.
        seen: the input as the local model takes it, a batch of one, if it differs from `sent`.
        key: the application's name for the input.
        started: when the call began, on the monotonic clock.

    Attributes:
        outcome: the remote's prediction or a failure; None while the request is open.
        queued: the key of the late answer; empty if the input is not stored.
    """

    __slots__ = (
        *("advantage", "deadline", "done", "key", "kind", "late", "listener", "local", "outcome", "paid", "purpose"),
        *("queued", "seen", "sent", "started", "state", "storing"),
    )

    def __init__(
        self,
        sent: Batch,
        local: Prediction | None,
        deadline: Deadline,
        *,
        purpose: Purpose = Purpose.FORWARD,
        advantage: float = math.nan,
        seen: Batch | None = None,
        key: str | None = None,
        started: float = 0.0,
    ) -> None:
        self.sent, self.local, self.deadline, self.purpose = sent, local, deadline, purpose
        self.advantage, self.seen, self.key, self.started = advantage, seen, key, started
        self.outcome: Prediction | Failure | None = None
        self.late: Prediction | None = None  # a reply after the deadline
        self.queued = ""
        self.storing = RLock()  # held by the thread that hands it to the outbox
        self.listener: Callable[[], object] | None = None
        self.state, self.paid = State.REFUSED, False
        self.done = allocate_lock()  # free once there is an outcome
        self.done.acquire()
        arrays: Mapping[str, Any] = sent if isinstance(sent, Mapping) else {"": sent}
        # Late ones stay among themselves: a bad input fails all in its request.
        self.kind = (purpose is Purpose.LATE, [(name, a.dtype, a.shape) for name, a in arrays.items()])

    @property
    def rank(self) -> tuple[float, float]:
        """Advantage and confidence by which a budget ranks it: audits first, forwards next, late ones last."""
        if self.purpose is Purpose.FORWARD and self.local is not None:
            return self.advantage, self.local.confidence
        return (math.nan, math.nan) if self.purpose is Purpose.AUDIT else (math.inf, math.inf)

    @property
    def ready(self) -> bool:
        """Whether `Dispatcher.end` would return at once."""
        return self.outcome is not None or self.deadline.remaining() == 0
