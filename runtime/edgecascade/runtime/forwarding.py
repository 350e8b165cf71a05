"""From the decision to forward until the reply: what may leave the device, and what becomes of what got no reply."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from edgecascade.runtime.batch import Batch, bytes_of, first_of, rows, size
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.failure import Failure
from edgecascade.types.answer import Prediction, Reason
from edgecascade.types.document import CascadeDocument
from edgecascade.types.errors import CircuitOpen
from edgecascade.types.policy import Policy

if TYPE_CHECKING:
    from edgecascade.runtime.budget import Budget
    from edgecascade.runtime.forwarder import Forward
    from edgecascade.runtime.metrics.event_log import EventLog
    from edgecascade.runtime.outbox.outbox import Outbox
    from edgecascade.runtime.remotes.remote import Remote
    from edgecascade.runtime.watch.watch import Watch

__all__ = ["AT_ONCE", "Forwarding", "Inquiry"]

AT_ONCE = Deadline(0.0)
_GRACE = 1.0  # seconds before an input is sent again whose first request may still be answered
_NO_REMOTE = Failure(Reason.OFFLINE, "no remote was given", later=True)
_KEPT_HERE = Failure(Reason.EGRESS, "the application keeps this input on the device")
_SPENT = Failure(Reason.BUDGET, "the budget for forwards is short, and other inputs are worse placed")


class Inquiry(NamedTuple):
    """An input that is decided to be forwarded, until there is an answer.

    Attributes:
        sent: what is or would be sent, [1, ...].
        local: the local model's verdict on it.
        reply: what will come, or why nothing will.
        key: the application's name for the input, if it gave one.
    """

    sent: Batch
    local: Prediction
    reply: Forward | Failure
    key: str | None


class Forwarding:
    """What stands between a cascade and its remote.

    Args:
        remote: whom to ask, or None.
        document: of the file: how many classes there are, and what a watch compares with.
        policy: of the cascade, asked for each time, since it may change: how to read the remote's scores.
        budget: how much may be forwarded.
        egress: whether an input, as it would be sent, may leave the device at all; one that raises says no.
        outbox: keeps forwards that failed, to be sent later.
        watch: is shown the remote's replies.
    """

    def __init__(
        self,
        remote: Remote | None,
        *,
        document: CascadeDocument,
        policy: Callable[[], Policy],
        budget: Budget | None = None,
        egress: Callable[[Any], bool] | None = None,
        outbox: Outbox | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.remote, self.budget, self.outbox, self.watch = remote, budget, outbox, watch
        self._egress = egress
        self._forwarder = None
        if remote is not None:
            from edgecascade.runtime.forwarder import Forwarder  # threads and futures: not for those who never ask

            classes = len(document.labels)
            self._forwarder = Forwarder(remote, classes=classes, calibration=lambda: policy().calibrate_remote)
        if watch is not None:
            watch.begin(document, policy())

    @property
    def encoded(self) -> bool:
        """Whether the remote wants image files as they are."""
        return bool(getattr(self.remote, "encoded", False))

    def begin(
        self,
        sent: Sequence[Batch],
        locals: Sequence[Prediction],
        advantages: Sequence[float],
        deadline: Deadline,
        *,
        room_by: Deadline | None = None,
        keys: Sequence[str | None] | None = None,
        taken: Sequence[Batch] | None = None,
    ) -> list[Inquiry]:
        """Send inputs off, without waiting for replies; `end` does.

        Args:
            sent: inputs [1, ...] in memory that nobody else writes to.
            locals: the local verdict on each.
            advantages: and its advantage.
            deadline: until when a reply is of use.
            room_by: how long to wait for room among those that wait for a request; by default until the deadline.
            keys: the application's names for them.
            taken: the inputs as the local model takes them, [1, ...], if not what is sent.
        """
        replies: list[Any] = [
            self._refusal(one, advantage, local.confidence)
            for one, local, advantage in zip(sent, locals, advantages, strict=True)
        ]
        going = [i for i, refusal in enumerate(replies) if refusal is None]
        if self._forwarder is not None and going:
            forwards = self._submit([sent[i] for i in going], deadline, room_by)
            for i, forward in zip(going, forwards, strict=True):
                replies[i] = forward
                if self.watch is not None:
                    forward.add_done_callback(partial(self._compare, (taken or sent)[i], locals[i], False))
        return [Inquiry(*one) for one in zip(sent, locals, replies, keys if keys else [None] * len(sent), strict=True)]

    def end(self, inquiry: Inquiry, deadline: Deadline) -> Prediction | Failure:
        """The reply, as soon as it is there or the deadline has passed; what failed is kept for later, if it can be."""
        reply: Prediction | Failure
        if isinstance(inquiry.reply, Failure):
            reply = inquiry.reply
        else:
            from edgecascade.runtime.forwarder import outcome

            reply = outcome(inquiry.reply, deadline)
        if not isinstance(reply, Failure):
            if self.outbox is not None:
                self.outbox.nudge()
            return reply
        self._log.event("forward failed", reason=reply.reason)
        return self._kept(inquiry, reply) if reply.later and self.outbox is not None else reply

    def audit(self, sent: Batch, local: Prediction, deadline: Deadline, taken: Batch | None = None) -> None:
        """Ask about an input whose local answer stands, and show the watch both verdicts; arguments as of `begin`.

        The deadline is that of any forward: a silent remote must not hold a request for an audit longer than for those
        who wait for one.
        """
        # As the worst placed of all: by its advantage it would only be let through where the local model is unsure.
        if self._forwarder is None or self._refusal(sent, math.nan, math.nan) is not None:
            return
        (forward,) = self._submit([sent], deadline, AT_ONCE)
        forward.add_done_callback(partial(self._compare, sent if taken is None else taken, local, True))

    def start(self, on_late: Callable[[Any], None] | None) -> None:
        """Begin to send what the outbox kept."""
        if self.outbox is not None and self._forwarder is not None:
            self.outbox.start(self._ask_later, on_late)

    def close(self) -> None:
        """Stop asking, and let go of everything that was given."""
        for part in (self.outbox, self._forwarder, self.watch, self.budget):
            if part is not None:
                part.close()

    def _refusal(self, sent: Batch, advantage: float, confidence: float) -> Failure | None:
        if not self._may_leave(sent):  # asked first: what may not leave is not kept for a remote to come, either
            return _KEPT_HERE
        if self._forwarder is None:
            return _NO_REMOTE
        if self.budget is not None and not self.budget.admits(advantage, confidence, bytes_of(sent)):
            return _SPENT
        return None

    @cached_property
    def _log(self) -> EventLog:
        from edgecascade.runtime.metrics.event_log import EventLog

        return EventLog()

    def _may_leave(self, sent: Batch) -> bool:
        if self._egress is None:
            return True
        try:
            return bool(self._egress(first_of(sent)))
        except Exception as error:  # of the application: what it cannot judge stays
            self._log.event("egress failed", error=error)
            return False

    def _submit(
        self, sent: Sequence[Batch], deadline: Deadline, room_by: Deadline | None, *, apart: bool = False
    ) -> list[Forward]:
        """Send off what the budget has paid for; what is never sent after all is paid back."""
        assert self._forwarder is not None
        forwards = self._forwarder.submit(sent, deadline, room_by=room_by, apart=apart)
        if self.budget is not None:
            for one, forward in zip(sent, forwards, strict=True):
                forward.add_done_callback(partial(self._refund, bytes_of(one)))
        return forwards

    def _refund(self, size: int, forward: Forward) -> None:
        if self.budget is not None and (forward.cancelled() or isinstance(forward.exception(), CircuitOpen)):
            self.budget.refund(size)

    def _kept(self, inquiry: Inquiry, failure: Failure) -> Failure:
        assert self.outbox is not None
        try:
            key = inquiry.key or _hash(inquiry.sent)
        except Exception as error:  # of what no queue can hold, which is no reason to lose an answer
            self._log.event("input cannot be kept", error=error)
            return failure
        grace = 0.0 if isinstance(inquiry.reply, Failure) else _GRACE
        if not self.outbox.put(key, inquiry.sent, inquiry.local, grace=grace):
            return failure
        if not isinstance(inquiry.reply, Failure):
            inquiry.reply.add_done_callback(partial(self._came_late, key))
        return failure._replace(queued=key)

    def _came_late(self, key: str, forward: Forward) -> None:
        if self.outbox is not None and not forward.cancelled() and forward.exception() is None:
            self.outbox.answer(key, forward.result())

    def _compare(self, taken: Batch, local: Prediction, audited: bool, forward: Forward) -> None:
        if self.watch is not None and not forward.cancelled() and forward.exception() is None:
            self.watch.compared(taken, local, forward.result(), audited=audited)

    def _ask_later(self, inputs: Batch, deadline: Deadline) -> list[Prediction | Failure]:
        """For the outbox: within the same budget, last in line, and only what may leave even now."""
        from edgecascade.runtime.forwarder import outcome

        one_by_one = [rows(inputs, [i]) for i in range(size(inputs))]
        refusals = [self._refusal(one, math.inf, math.inf) for one in one_by_one]
        going = [one for one, refusal in zip(one_by_one, refusals, strict=True) if refusal is None]
        forwards = iter(self._submit(going, deadline, None, apart=True))
        return [refusal or outcome(next(forwards), deadline) for refusal in refusals]


def _hash(sent: Batch) -> str:
    from hashlib import blake2b

    from edgecascade.runtime.outbox.packed import pack

    return blake2b(pack(sent)[0], digest_size=16).hexdigest()
