"""Forward many inputs without a deadline: large requests, a few at a time, whose replies are waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from edgecascade.runtime.background import DaemonPool
from edgecascade.runtime.batch import Batch, alone, bytes_of, concatenated, rows
from edgecascade.runtime.columns import REASONS, SOURCES, Columns, column_of
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.reply import ScoresRead, failure_of
from edgecascade.runtime.request import TOO_LATE, Failure, Request, State
from edgecascade.types.answer import Prediction, Reason, Source
from edgecascade.types.errors import ArgumentError, RemoteError, RemoteRefusal, RemoteUnreachable
from edgecascade.types.merge import PredictionRows, merge_rows
from edgecascade.types.policy import Policy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgecascade.runtime.dispatch import Dispatcher
    from edgecascade.runtime.remotes.remote import Remote, Replied

__all__ = ["Bulk", "compared", "merge_outputs", "merge_scores"]

_LONGEST = 600.0  # seconds that one request may take
_MOST_BYTES = 16 << 20  # of the inputs in one request
_PAUSE = 0.5  # seconds until a remote that fails is asked again
T = TypeVar("T")


class Bulk(NamedTuple):
    """How to forward without a deadline.

    Attributes:
        request_inputs: most inputs in one request; fewer if they have more than 16 MiB, or the remote takes fewer.
        in_flight: most requests under way at the same time.
        patience: seconds for which a remote that cannot be reached is asked again before its inputs are given up.
    """

    request_inputs: int = 256
    in_flight: int = 4
    patience: float = 60.0

    def check(self) -> Bulk:
        """Return this; an `ArgumentError` if a number is out of range."""
        for name in ("request_inputs", "in_flight"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name}: expected 1 or more, got {getattr(self, name)}")
        if not self.patience >= 0:
            raise ArgumentError(f"patience: expected seconds, 0 or more, got {self.patience}")
        return self

    def ask(
        self,
        dispatcher: Dispatcher,
        sent: Batch | list[NDArray[Any]],
        places: NDArray[np.intp],
        read: Callable[[Replied, int, Remote], T],
    ) -> Iterator[tuple[NDArray[np.intp], T | Failure]]:
        """Yield positions of inputs, and what `read` made of the reply about them or why there is none.

        Args:
            dispatcher: has the remote.
            sent: what may be sent, [n, ...]; a list if shapes differ.
            places: the positions of the inputs to send.
            read: as `Reader`; a `RemoteError` of it is a failure.
        """
        if not len(places):
            return
        remote = dispatcher.remote
        most = min(self.request_inputs, int(getattr(remote, "request_inputs", self.request_inputs)))
        asking = _Asking(dispatcher, sent, read, self.patience)
        pool = DaemonPool(self.in_flight, "edgecascade-bulk")
        try:
            for future in [pool.submit(asking, group) for group in _groups(sent, places, most)]:
                yield from future.result()
        finally:
            asking.ended.set()
            pool.close()

    def ask_about(
        self, dispatcher: Dispatcher, sent: Batch | list[NDArray[Any]], columns: Columns, read: Any
    ) -> Iterator[tuple[NDArray[np.intp], Any]]:
        """Do the same for the inputs that columns forward, as far as egress and budget let them go."""
        places, going = np.flatnonzero(columns.forward), list[int]()
        alike = dispatcher.egress is None and dispatcher.budget is None
        refusal = dispatcher.refusal(alone(sent, places[0]), (0.0, 0.0)) if alike and len(places) else None
        if refusal is not None:
            yield places, refusal
            return
        for i in () if alike else places.tolist():
            rank = float(columns.advantage[i]), float(columns.confidence[i])
            refusal = dispatcher.refusal(alone(sent, i), rank)
            if refusal is None:
                going.append(i)
            else:
                yield np.array([i]), refusal
        for asked, outcome in self.ask(dispatcher, sent, places if alike else np.array(going, np.intp), read):
            if isinstance(outcome, Failure) and outcome.reason is Reason.CIRCUIT_OPEN and dispatcher.budget is not None:
                for i in asked.tolist():  # it was not sent
                    dispatcher.budget.refund(bytes_of(alone(sent, i)))
            yield asked, outcome

    def finish(self, dispatcher: Dispatcher, sent: Batch | list[NDArray[Any]], requests: Mapping[int, Request]) -> None:
        """Send the new requests about the inputs at some positions, and give each its outcome."""
        admitted = {*dispatcher.admit([*requests.values()])}
        going = {i: one for i, one in requests.items() if one in admitted}
        for one in going.values():
            one.state = State.SENT
        try:
            for places, found in self.ask(dispatcher, sent, np.array([*going], np.intp), dispatcher.read):
                outcomes = [found] * len(places) if isinstance(found, Failure) else found
                for i, outcome in zip(places.tolist(), outcomes, strict=True):
                    dispatcher.finish(going.pop(i), outcome)
        finally:  # if the caller was interrupted
            for one in going.values():
                dispatcher.finish(one, TOO_LATE)


class _Asking:
    """Asks about some inputs; one for each call of `Bulk.ask`, shared by its threads."""

    def __init__(
        self, dispatcher: Dispatcher, sent: Any, read: Callable[[Any, int, Any], Any], patience: float
    ) -> None:
        self._dispatcher, self._sent, self._read, self._patience = dispatcher, sent, read, patience
        self._until: Deadline | None = None  # when to give up a remote that fails; None while it answers
        self.ended = Event()

    def __call__(self, places: NDArray[np.intp]) -> list[tuple[NDArray[np.intp], Any]]:
        remote: Any = self._dispatcher.remote
        listed = isinstance(self._sent, list)
        sent = concatenated([alone(self._sent, i) for i in places]) if listed else rows(self._sent, places)
        while True:
            try:
                replied = remote.infer(sent, Deadline.after(_LONGEST))
                self._until = None
                return [(places, self._read(replied, len(places), remote))]
            except BaseException as error:  # of a remote, which is the application's code
                if len(places) > 1 and isinstance(error, RemoteRefusal) and error.too_large:
                    half = len(places) // 2
                    return [*self(places[:half]), *self(places[half:])]
                if not self._is_worth_another(error):
                    failure = failure_of(error)
                    self._dispatcher.log("forward failed", reason=failure.reason, error=failure.error)
                    return [(places, failure)]

    def _is_worth_another(self, error: BaseException) -> bool:
        """Wait, and return whether to ask again. Once the patience has ended, each request is sent once."""
        passes = isinstance(error, RemoteUnreachable) or (isinstance(error, RemoteError) and error.retry)
        if not passes or self._dispatcher.closed:
            return False
        self._until = self._until or Deadline.after(self._patience)
        pause = min(_PAUSE, self._until.remaining())
        return pause > 0 and not self.ended.wait(pause)


def _groups(sent: Any, places: NDArray[np.intp], most: int) -> list[NDArray[np.intp]]:
    """Return the positions of each request: inputs of one type and shape."""
    alike: dict[Any, list[int]] = {}
    if isinstance(sent, list):
        for i in places.tolist():
            one = sent[i]
            alike.setdefault(bytes if isinstance(one, bytes) else (one.dtype, one.shape), []).append(i)
    found = []
    for group in map(np.array, alike.values()) if alike else [places]:
        step = max(1, min(most, _MOST_BYTES // max(1, bytes_of(alone(sent, group[0])))))
        found += [group[start : start + step] for start in range(0, len(group), step)]
    return found


def compared(
    dispatcher: Dispatcher, batch: Any, local: Columns, outcomes: Iterable[tuple[NDArray[np.intp], Any]]
) -> Iterator[tuple[NDArray[np.intp], Any]]:
    """Pass on what `Bulk.ask_about` yields, and show the watch of a dispatcher the replies.

    Args:
        dispatcher: may have a watch.
        batch: the inputs [n, ...] as the local model takes them.
        local: the decisions about them.
        outcomes: positions, and `ScoresRead`, or a prediction or a failure for each; or a failure of all.
    """
    watch = dispatcher.watch
    for places, outcome in outcomes:
        if watch is not None and not isinstance(outcome, Failure):
            found = outcome.predictions() if isinstance(outcome, ScoresRead) else outcome
            for i, one in zip(places.tolist(), found, strict=True):
                if isinstance(one, Prediction):
                    try:
                        watch.compared(alone(batch, i), local.prediction(i), one, audited=False)
                    except Exception as error:
                        dispatcher.log("watch failed", error=error)
        yield places, outcome


def merge_scores(
    columns: Columns, outcomes: Iterable[tuple[NDArray[np.intp], ScoresRead | Failure]], policy: Policy
) -> Columns:
    """Return columns with the answers of a classifier's remote.

    Args:
        columns: the decisions.
        outcomes: positions, and the scores that were read, or the reason why there are none.
        policy: has the merge rule.
    """
    reasons = columns.reason_codes.copy()
    places, read = [np.zeros(0, np.intp)], list[PredictionRows]()
    for asked, outcome in outcomes:
        failure = outcome if isinstance(outcome, Failure) else outcome.failure
        reasons[asked] = REASONS.index(failure.reason)
        if not isinstance(outcome, Failure):
            places.append(asked[outcome.usable])
            read.append(outcome.rows.at(outcome.usable))
    if not read:
        return replace(columns, reason_codes=reasons)
    there = np.concatenate(places)
    local = PredictionRows(columns.label, columns.confidence, columns.probabilities).at(there)
    remote = PredictionRows(*map(np.concatenate, zip(*read, strict=True)))
    merged, sources = merge_rows(policy.merge, local, remote, policy.costs)
    reasons[there] = _reasons(local.confidence)
    return replace(
        columns,
        label=_with(columns.label, there, merged.label),
        confidence=_with(columns.confidence, there, merged.confidence),
        probabilities=_with(columns.probabilities, there, merged.probabilities),
        source_codes=_with(columns.source_codes, there, sources),
        reason_codes=reasons,
    )


def merge_outputs(
    columns: Columns, outcomes: Iterable[tuple[NDArray[np.intp], Sequence[Prediction | Failure] | Failure]]
) -> Columns:
    """Return columns with the answers of a general task's remote. Arguments are as in `merge_scores`."""
    reasons, theirs = columns.reason_codes.copy(), dict[int, Prediction]()
    for asked, outcome in outcomes:
        alike = [outcome] * len(asked) if isinstance(outcome, Failure) else outcome
        for i, one in zip(asked.tolist(), alike, strict=True):
            if isinstance(one, Failure):
                reasons[i] = REASONS.index(one.reason)
            else:
                theirs[i] = one
    there = np.array([*theirs], np.intp)
    reasons[there] = _reasons(columns.confidence[there])
    names = dict.fromkeys([*columns.outputs, *(name for one in theirs.values() for name in one.outputs)])
    outputs = {}
    for name in names if theirs else ():
        ours = columns.outputs.get(name)
        local = [None] * len(columns) if ours is None else list(ours)
        outputs[name] = column_of([theirs[i].outputs.get(name) if i in theirs else local[i] for i in range(len(local))])
    return replace(
        columns,
        confidence=_with(columns.confidence, there, np.float32(np.nan)),
        source_codes=_with(columns.source_codes, there, SOURCES.index(Source.REMOTE)),
        reason_codes=reasons,
        outputs=outputs or columns.outputs,
    )


def _reasons(confidence: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the codes of the reasons of inputs that the remote answered."""
    unknown, known = REASONS.index(Reason.NOT_A_NUMBER), REASONS.index(Reason.OFFLOADED)
    return np.where(np.isnan(confidence), np.uint8(unknown), np.uint8(known))


def _with(column: NDArray[Any], places: NDArray[np.intp], values: Any) -> NDArray[Any]:
    changed = column.copy()
    changed[places] = values
    return changed
