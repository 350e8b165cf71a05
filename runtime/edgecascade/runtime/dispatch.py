"""Forward inputs to a remote: check that they may leave the device, group them, and end each by its deadline.

A `Request` is made when an input is to be forwarded, and finished once: by a refusal, by the remote's reply, or by its
caller when the deadline passes. Once a deadline has passed, the caller's thread only returns the answer: it logs,
refunds, packs and stores nothing itself.
"""

from __future__ import annotations

import os
from _thread import RLock
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property, partial
from math import ceil
from typing import TYPE_CHECKING, Any

from edgecascade.runtime.background import Background, DaemonPool
from edgecascade.runtime.batch import Batch, bytes_of, concatenated, first_of, read_only, rows, size
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.reply import Reader, failure_of
from edgecascade.runtime.request import TOO_LATE, Failure, Purpose, Request, State, allows
from edgecascade.types.answer import NO_OUTPUTS, Prediction, Reason
from edgecascade.types.errors import RemoteRefusal

if TYPE_CHECKING:
    from edgecascade.runtime.budget import Budget
    from edgecascade.runtime.metrics.event_log import EventLog
    from edgecascade.runtime.outbox import Outbox
    from edgecascade.runtime.outbox.outbox import OnLate
    from edgecascade.runtime.remotes.remote import Remote
    from edgecascade.runtime.watch.watch import Watch

__all__ = ["AT_ONCE", "Dispatcher"]

AT_ONCE = Deadline(0.0)
_AUDIT = 1.0  # seconds of an audit that is due at once: no caller waits for it
_GRACE = 1.0  # seconds before an input is sent again whose first request may still be answered
_EXTRA = 0.003  # seconds that a request outlives its deadline: if all callers woke at the same time, they would be late
_MOST_BYTES = 16 << 20  # of the inputs in one request, unless it is a single one or the remote takes less
_SMALLER = 600.0  # seconds for which requests are smaller after the remote has refused one as too large
_AT_LEAST = 0.1  # seconds to wait for the remote after slow parts
_CLAIMED = 0.05  # seconds to wait for another thread that stores the same input
_MOST_LOGS = 10_000  # events that wait to be logged; refunds are not bounded, but by the budget

_NO_REMOTE = Failure(Reason.OFFLINE, "no remote was given")
_NOT_ALLOWED = Failure(Reason.EGRESS, "the application does not let this input leave the device", about_input=True)
_SPENT = Failure(Reason.BUDGET, "the budget for forwards is short, and other inputs need it more")
_NOT_SENT = Failure(Reason.DEADLINE, "no request was free in time: all are waiting for the remote")
_CLOSED = Failure(Reason.OFFLINE, "the remote cannot be asked: the cascade was closed")


class Dispatcher:
    """Sends requests to a remote from worker threads, so that a caller can leave at its deadline.

    Inputs that wait while all requests are under way, from any number of callers, leave together in one request as soon
    as one is free: micro-batching without a delay. A request that outlives its deadline occupies its worker until it
    ends. Safe to share between threads.

    Args:
        remote: the remote, or None.
        read: reads what the remote replies.
        budget: limit on forwards.
        egress: whether an input, as it would be sent, may leave the device; if it raises an `Exception`, the input
            stays. It cannot write to the input.
        outbox: stores forwards that failed, to be sent later.
        watch: is shown the remote's replies.
        in_flight: most requests under way at the same time.
        request_inputs: most inputs in one request, unless the remote has an attribute of this name.
        waiting: most inputs that wait for a request. Beyond it, callers wait for room, until their deadlines.
    """

    def __init__(
        self,
        remote: Remote | None,
        *,
        read: Reader,
        budget: Budget | None = None,
        egress: Callable[[Any], bool] | None = None,
        outbox: Outbox | None = None,
        watch: Watch | None = None,
        in_flight: int = 4,
        request_inputs: int = 32,
        waiting: int = 1024,
    ) -> None:
        self.remote, self.budget, self.outbox, self.watch = remote, budget, outbox, watch
        self.read, self.egress = read, egress
        self._in_flight, self._most, self._most_bytes = in_flight, waiting, _MOST_BYTES
        self._smaller = AT_ONCE  # until when `_most_bytes` is what the remote takes
        self._request_inputs = int(getattr(remote, "request_inputs", request_inputs))
        self._lock, self._closing = RLock(), RLock()  # a signal handler may close it, in any line of this thread
        self._waiting: deque[Request] = deque()
        self._working = 0
        self.closed = False
        self._open: set[Request] = set()  # forwards that may have to be stored
        self._background = Background("edgecascade-log")
        if remote is not None:  # a cascade without a remote does not import these
            from threading import Condition

            read.expect(remote)
            self._changed = Condition(self._lock)
            self._workers = DaemonPool(in_flight, "edgecascade-forward")

    @property
    def encoded(self) -> bool:
        """Whether the remote takes image files as they are."""
        return bool(getattr(self.remote, "encoded", False))

    def start(self, on_late: OnLate | None) -> None:
        """Begin to send what the outbox stores."""
        if self.outbox is not None and self.remote is not None:
            self.outbox.start(self._ask_later, on_late)

    def refusal(self, sent: Batch, rank: tuple[float, float]) -> Failure | None:
        """Return why an input, a batch of one, may not be sent; if it may, the budget is charged.

        Args:
            sent: what would be sent.
            rank: advantage and confidence, by which a budget ranks it.
        """
        if not self._may_leave(sent):  # first, because such an input must not be stored for a later remote
            return _NOT_ALLOWED
        if self.remote is None:
            return _NO_REMOTE
        if self.closed:
            return _CLOSED
        if self.budget is not None and not self.budget.admits(*rank, bytes_of(sent)):
            return _SPENT
        return None

    def begin(self, requests: Sequence[Request], *, room_by: Deadline | None = None) -> None:
        """Send requests, without waiting for replies.

        Args:
            requests: new requests. Call `end` for each forward; audits need no further call.
            room_by: how long to wait for room among the inputs that wait; by default until the deadline.
        """
        if going := self.admit(requests):
            self._submit(going, room_by)

    def admit(self, requests: Sequence[Request]) -> list[Request]:
        """Return the new requests that may be sent; the others are finished. Call `end` for each forward."""
        going = []
        for one in requests:
            refusal = self.refusal(one.sent, one.rank)
            worth_keeping = refusal is None or refusal.worth_keeping
            if worth_keeping and self.outbox is not None and one.purpose is Purpose.FORWARD:
                self._open.add(one)
            if refusal is not None:
                self.finish(one, refusal)
                continue
            one.state, one.paid = State.WAITING, True
            if one.purpose is Purpose.AUDIT and one.ready:
                one.deadline = Deadline.after(_AUDIT)
            if one.purpose is Purpose.FORWARD and one.deadline.at <= one.started:  # of 0 seconds: the outbox sends it
                self.finish(one, _NOT_SENT)
            else:
                going.append(one)
        return going

    def end(self, one: Request) -> Prediction | Failure:
        """Return the outcome as soon as there is one, or once the deadline has passed.

        A forward that failed goes to the outbox if it is worth keeping; `queued` is then its key.
        """
        if one.done.acquire(True, one.deadline.remaining()):
            one.done.release()
        outcome = self._leave(one)
        if isinstance(outcome, Failure) and one.purpose is Purpose.FORWARD:
            self.log("forward failed", reason=outcome.reason, error=outcome.error)
            if outcome.worth_keeping and self.outbox is not None:
                self._store(one, self.outbox)
        self._open.discard(one)
        return outcome

    def cancel(self, one: Request) -> None:
        """Forget a request. If it has not been sent, it is not sent."""
        self._leave(one)
        self._open.discard(one)

    def when_done(self, one: Request, listener: Callable[[], object]) -> None:
        """Call `listener` once there is an outcome, in any thread."""
        with self._lock:
            if one.outcome is None:
                one.listener = listener
                return
        listener()

    def close(self, timeout: float) -> None:
        """Stop asking, store the forwards without an answer, and close the remote, outbox, watch and budget.

        Args:
            timeout: seconds to wait for a remote or a callback that hangs.
        """
        until = Deadline.after(timeout)
        with self._closing:  # before another thread closes the outbox
            with self._lock:
                closing, self.closed = not self.closed, True
                waiting, self._waiting = self._waiting, deque()
                unstored, self._open = self._open, set()
                under_way = {one for one in unstored if one.outcome is None}
                for one in under_way:
                    one.outcome = _CLOSED
                if self.remote is not None:
                    self._changed.notify_all()
            if self.outbox is not None:
                for one in unstored:  # here, since their callers may wake up too late for it
                    try:
                        self._store(one, self.outbox)
                        if one in under_way:
                            self._announce(one)
                    except Exception as error:  # of a listener; the others must be told, and everything closed
                        self.log("callback failed", error=error)
        for one in waiting:
            self.finish(one, _CLOSED)
        if self.outbox is not None:
            self.outbox.close(timeout)
        try:
            if self.remote is not None and closing:
                self._workers.close()
                _close(self.remote, max(until, Deadline.after(_AT_LEAST)))
        finally:
            self._background.close()  # first: it may have something to refund
            for part in (self.watch, self.budget):
                if part is not None:
                    part.close()

    def _may_leave(self, sent: Batch) -> bool:
        if self.egress is None:
            return True
        try:
            return allows(self.egress, first_of(read_only(sent)))  # what is sent is what it saw
        except Exception as error:  # the application's own error: the input stays on the device
            self.log("egress failed", error=error)
            return False

    def _submit(self, requests: Sequence[Request], room_by: Deadline | None) -> None:
        with self._changed:
            failed = [(one, why) for one in requests if (why := self._enqueue(one, room_by or one.deadline))]
            failed += self._start_workers()
        for one, why in failed:
            self.finish(one, why)

    def _enqueue(self, one: Request, room_by: Deadline) -> Failure | None:
        if len(self._waiting) >= self._most:
            self._start_workers()
        has_room = self._changed.wait_for(lambda: self.closed or len(self._waiting) < self._most, room_by.remaining())
        if self.closed:
            return _CLOSED
        if has_room:
            self._waiting.append(one)
        return None if has_room else _NOT_SENT

    def _start_workers(self) -> list[tuple[Request, Failure]]:
        """Start the workers that the waiting inputs need; return the requests that fail if no thread can start."""
        wanted = min(self._in_flight, self._working + ceil(len(self._waiting) / self._request_inputs))
        try:
            while self._working < wanted:
                self._workers.submit(self._work)
                self._working += 1
        except RuntimeError as error:  # the system has no thread left, or the interpreter is exiting
            if not self._working:
                waiting, self._waiting = self._waiting, deque()
                return [(one, Failure(Reason.OFFLINE, f"the remote cannot be asked: {error}")) for one in waiting]
        return []

    def _work(self) -> None:
        try:
            while group := self._next_group():
                for one, outcome in zip(group, self._ask(group), strict=True):
                    try:
                        self.finish(one, outcome)
                    except BaseException as error:  # of foreign code, such as a callback
                        self.log("callback failed", error=error)
        except BaseException:  # a worker that ends makes room for another
            with self._changed:
                self._working -= 1
            raise

    def _next_group(self) -> list[Request]:
        """Return the oldest request with a caller and others of its kind; an empty list ends the worker.

        They have at most 16 MiB together, so that a few large images do not become one request that is late, and less
        for ten minutes after the remote has refused so much: then another server may answer at its address.
        """
        with self._changed:
            if not self._smaller.remaining():
                self._most_bytes = _MOST_BYTES
            group, others, total = list[Request](), deque[Request](), 0
            while self._waiting and len(group) < self._request_inputs:
                one = self._waiting.popleft()
                if one.outcome is not None:
                    continue
                nbytes = bytes_of(one.sent)
                if group and (one.kind != group[0].kind or total + nbytes > self._most_bytes):
                    others.append(one)
                else:
                    one.state = State.SENT
                    group.append(one)
                    total += nbytes
            self._waiting.extendleft(reversed(others))
            self._working -= not group
            if group and self._waiting:
                self._start_workers()
            self._changed.notify_all()
            return group

    def _ask(self, group: list[Request]) -> Sequence[Prediction | Failure]:
        assert self.remote is not None
        deadline = Deadline(max(one.deadline.at for one in group) + _EXTRA)
        try:
            replied = self.remote.infer(concatenated([one.sent for one in group]), deadline)
            return self.read(replied, len(group), self.remote)
        except (
            BaseException
        ) as error:  # a remote is the application's code, and any exception of it means that it failed
            if len(group) > 1 and isinstance(error, RemoteRefusal) and error.too_large:  # each may be small enough
                self._most_bytes = min(self._most_bytes, sum(bytes_of(one.sent) for one in group) // 2)
                self._smaller = Deadline.after(_SMALLER)
                half = len(group) // 2
                return [*self._ask(group[:half]), *self._ask(group[half:])]
            return [failure_of(error)] * len(group)

    def _announce(self, one: Request) -> None:
        """Wake the caller of a forward that `close` gave its outcome."""
        one.done.release()
        with self._lock:
            listener = one.listener
        if listener is not None:
            listener()
        if one.state is State.WAITING:
            self._refund(one)

    def finish(self, one: Request, outcome: Prediction | Failure) -> None:
        """Give a request its outcome; if its caller has left, the reply is a late answer."""
        with self._lock:
            left = one.outcome is not None
            if not left:
                one.outcome = outcome
                one.done.release()
                if isinstance(outcome, Prediction):
                    self._open.discard(one)
            elif isinstance(outcome, Prediction):
                one.late = outcome
            listener, queued = one.listener, one.queued
        if listener is not None and not left:
            listener()
        if isinstance(outcome, Failure):
            if one.state is State.WAITING or outcome.reason is Reason.CIRCUIT_OPEN:
                self._refund(one)
            return
        if self.watch is not None and one.local is not None:
            seen = one.sent if one.seen is None else one.seen
            try:
                self.watch.compared(seen, one.local, outcome, audited=one.purpose is Purpose.AUDIT)
            except Exception as error:  # never end a worker
                self.log("watch failed", error=error)
        if self.outbox is not None:
            if left and queued:
                self.outbox.answer(one.sent, outcome)
            elif one.purpose is Purpose.FORWARD:
                self.outbox.nudge()

    def _leave(self, one: Request) -> Prediction | Failure:
        """Return the outcome; an open request ends here with a missed deadline."""
        with self._lock:
            if one.outcome is not None:
                return one.outcome
            outcome = one.outcome = TOO_LATE if one.state is State.SENT else _NOT_SENT
            if one.state is State.WAITING:
                self._forget(one)
            refunded = one.state is State.WAITING and one.paid
            one.paid = one.paid and not refunded
        if refunded and self.budget is not None:
            self._background.run(partial(self.budget.refund, bytes_of(one.sent)))
        return outcome

    def _forget(self, one: Request) -> None:
        """Remove a request that waits, so that a remote that hangs does not keep inputs in memory. Needs the lock."""
        with suppress(ValueError):  # it is in no queue yet, or no longer
            self._waiting.remove(one)
            self._changed.notify()

    def _refund(self, one: Request) -> None:
        with self._lock:
            paid, one.paid = one.paid, False
        if self.budget is not None and paid:
            self.budget.refund(bytes_of(one.sent))

    def _store(self, one: Request, outbox: Outbox) -> None:
        """Hand a failed request to the outbox, which writes it in its own thread."""
        assert one.local is not None
        if not one.storing.acquire(timeout=_CLAIMED):  # by `close` or by the caller, whichever is later
            return
        try:
            if one.queued:
                return
            key = ("" if one.key is None else _text(one.key)) or os.urandom(16).hex()
            at_once = one.state is State.WAITING and one.deadline.at <= one.started  # a deadline of 0 seconds
            grace = 0.0 if at_once or one.state is State.REFUSED else _GRACE
            if not outbox.offer(key, one.sent, one.local._replace(outputs=NO_OUTPUTS), grace=grace):
                return
            with self._lock:
                one.queued, late = key, one.late
        finally:
            one.storing.release()
        if late is not None:  # it came between the deadline and now
            outbox.answer(one.sent, late)

    def _ask_later(self, inputs: Batch, deadline: Deadline) -> list[Prediction | Failure]:
        """Ask on behalf of the outbox: within the same budget, last in line, and only if `egress` still allows it."""
        requests = [Request(rows(inputs, [i]), None, deadline, purpose=Purpose.LATE) for i in range(size(inputs))]
        self.begin(requests)
        return [self.end(one) for one in requests]

    def log(self, event: str, *, reason: Reason | None = None, error: BaseException | str = "") -> None:
        """Log an event, in the background."""
        self._background.run(lambda: self._events.event(event, reason=reason, error=error), most=_MOST_LOGS)

    @cached_property
    def _events(self) -> EventLog:
        from edgecascade.runtime.metrics.event_log import EventLog

        return EventLog()


def _text(key: object) -> str:
    """Return a key as text; of one that cannot be shown, nothing."""
    try:
        return str(key)
    except Exception:  # the application's own object
        return ""


def _close(remote: Remote, until: Deadline) -> None:
    """Close a remote in a thread of its own, and wait for it until the deadline at most.

    Raises:
        Exception: the remote's own, if it came in time.
    """
    from threading import Thread

    raised = list[BaseException]()

    def close() -> None:
        try:
            remote.close()
        except BaseException as error:
            raised.append(error)

    thread = Thread(target=close, name="edgecascade-close", daemon=True)
    thread.start()
    thread.join(until.remaining())
    if raised:
        raise raised.pop()
