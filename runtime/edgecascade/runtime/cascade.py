"""Answer inputs with a local model, and forward some of them to a remote one."""

from __future__ import annotations

import math
import os
import time
from _thread import RLock
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from types import EllipsisType, TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from edgecascade.runtime.batch import Batch, alone, as_batch, copied, run_together
from edgecascade.runtime.counts import CascadeHealth, Tally
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.dispatch import AT_ONCE, Dispatcher
from edgecascade.runtime.engine import Declared
from edgecascade.runtime.local_model import LocalModel
from edgecascade.runtime.model_inputs import ModelInputs
from edgecascade.runtime.recipe import Recipe
from edgecascade.runtime.reply import OutputReader, Reader, ScoreReader
from edgecascade.runtime.request import Failure, Purpose, Request
from edgecascade.types.answer import Answer, LateAnswer, Prediction, Reason, Source
from edgecascade.types.errors import ArgumentError, InputError, RemoteError
from edgecascade.types.merge import merge
from edgecascade.types.policy import Policy

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from numpy.typing import ArrayLike

    from edgecascade.runtime.budget import Budget
    from edgecascade.runtime.columns import Columns
    from edgecascade.runtime.counts import Counts
    from edgecascade.runtime.decisions import Decided
    from edgecascade.runtime.outbox import Late, Outbox
    from edgecascade.runtime.remotes.remote import Remote, Replied
    from edgecascade.runtime.watch.watch import Watch
    from edgecascade.types.answer import Decode

__all__ = ["Cascade"]

_LONGEST = 86_400.0  # seconds
_OF_THE_FILE = ("outputs", "threshold", "threads", "providers", "fallback", "engine_cache")  # arguments of `load`
_LOCAL, _CONFIDENT = Source.LOCAL, Reason.CONFIDENT  # looked up once: attribute access on an Enum is slow
_new = tuple.__new__  # of a NamedTuple with every field given, without the Python call that a constructor is
T = TypeVar("T")


class Cascade:
    """One cascade model file, and optionally a remote that it may ask. Make one with `Cascade.load`.

    Safe to share between threads, but not with a fork of the process. A context manager: leaving it closes the remote,
    outbox, budget and watch that it was given. It can be pickled unless an argument of `load` cannot: see `__reduce__`.
    """

    def __init__(
        self,
        local: LocalModel,
        dispatcher: Dispatcher,
        deadline: float,
        *,
        decode: Decode | None = None,
        remote_decode: Decode | None = None,
        shown: str = "",
        recipe: Recipe | None = None,
    ) -> None:
        self.recipe = recipe
        self._local, self._dispatcher, self._deadline, self._shown = local, dispatcher, deadline, shown
        self._decode, self._remote_decode = decode, remote_decode
        self._labels = local.labels or ("",)  # label -1 of a general task has no name
        self._watch = dispatcher.watch
        self._tally = Tally()
        self._overridden = local.policy != local.document.device_policy()
        self._reloading, self._reloads = RLock(), {"taken": 0, "refused": 0}
        self._inputs_before, self._missed_before = 0, Counter[Reason]()  # under the files before
        self._decider_pool: ThreadPoolExecutor | None = None

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        remote: str | os.PathLike[str] | Remote | Callable[[Any], Replied] | None = None,
        deadline: float = 1.0,
        threshold: float | None = None,
        budget: Budget | None = None,
        egress: Callable[[Any], bool] | None = None,
        outbox: Outbox | None = None,
        on_late: Callable[[LateAnswer], None] | None = None,
        watch: Watch | None = None,
        threads: int = 1,
        providers: str | Sequence[str] = "cpu",
        fallback: bool = False,
        engine_cache: str | os.PathLike[str] | None = None,
        outputs: Sequence[str] = (),
        decode: Decode | None = None,
        remote_decode: Decode | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Cascade:
        """Load a cascade model. Opens no connection; the first forward does.

        Args:
            path: a file written by `edgecascade calibrate`.
            remote: an Open Inference Protocol v2 address (`http://host:8000/v2/models/large`, or `grpc://`), that of
                chat completions (`http://host:8080/v1`), which are asked as in calibration, an ONNX
                file or a function from inputs [n, ...] to logits [n, classes] to run in this process, or an object
                with the methods of `Remote`. For a general task, it answers with arrays by name: see `Remote`. None
                makes every answer local.
            deadline: seconds from a call to its answer. A reply that comes later is not waited for. With an outbox, 0
                answers at once with the local prediction; the remote's follow as late answers.
            threshold: forward inputs whose advantage is below this, instead of the file's threshold.
            budget: limits forwards in time; when it runs short, it admits the inputs of lowest advantage.
            egress: returns whether an input, in the form in which it would be sent, may leave the device. The arrays
                that it gets are read-only. An input about which it raises an `Exception` stays on the device.
            outbox: stores on disk the inputs that were not sent or answered in time, and sends them later.
            on_late: is called with each late answer that the outbox brings; without it, `late` returns them.
            watch: audits a share of the confident answers, and raises alarms.
            threads: the engine's threads for the local model.
            providers: execution providers by preference, such as `("cuda", "cpu")`, or `auto`.
            fallback: whether another provider may run what the first cannot; see `provider`.
            engine_cache: a folder for the engines that providers compile from the model.
            outputs: names of the model's outputs, such as an embedding, to return in `Answer.outputs`, which then takes
                slightly longer; by default none of a classifier, and all those of a general task.
            decode: returns the application's object, `Answer.result`, for the named outputs of the local model for one
                input. It is called only where the local answer is final, and its exceptions reach the caller.
            remote_decode: the same for the outputs of the remote of a general task; `decode` where it is None. Its
                exceptions are failures of the remote.
            headers: to send to a remote that is an address, such as `{"Authorization": "Bearer ..."}`.

        Raises:
            ModelFileError: the file is missing, damaged, not a cascade model, or of a newer format.
            ArgumentError: another argument has an invalid value.
        """
        given = {name: value for name, value in locals().items() if name not in ("cls", "path")}
        _check_deadline(deadline, outbox)
        local = LocalModel.load(
            path, outputs=outputs, threads=threads, providers=providers, fallback=fallback, engine_cache=engine_cache
        )
        for name, function in (("decode", decode), ("remote_decode", remote_decode)):
            if function is not None and not callable(function):
                raise ArgumentError(f"{name}: expected a function of the outputs of one input, got {function!r:.80}")
        if decode is not None and not local.outputs:
            raise ArgumentError(
                "decode: expected with `outputs` of a classifier, or the file of a general task, got neither"
            )
        if remote_decode is not None and local.labels:
            raise ArgumentError("remote_decode: expected with the file of a general task, got that of a classifier")
        if not local.labels and remote_decode is None:
            remote_decode = decode
        if decode is not None or remote_decode is not None:
            from edgecascade.runtime.decode import check_names

            if decode is not None:
                check_names(decode, local.outputs)
            if remote_decode is not None and remote is not None:
                check_names(remote_decode, local.remote_outputs, "remote_decode")
        if threshold is not None:
            local.swap(replace(local.policy, threshold=threshold))
        connected = None
        if remote is not None or headers:
            from edgecascade.runtime.remotes.remote import connect

            connected = connect(remote, threads=threads, headers=headers)
        dispatcher = Dispatcher(
            connected,
            read=_reader(local, remote_decode),
            budget=budget,
            egress=egress,
            outbox=outbox,
            watch=watch,
        )
        if watch is not None:
            watch.begin(local.document, local.policy, decode=decode, remote_decode=remote_decode)
        shown = f"{os.fspath(path)!r}, remote={_shown(remote)}"
        recipe = Recipe(path, given)
        cascade = cls(
            local, dispatcher, deadline, decode=decode, remote_decode=remote_decode, shown=shown, recipe=recipe
        )
        dispatcher.start(None if on_late is None else lambda late: on_late(cascade._settle(late)))
        return cascade

    def predict(self, x: Any, *, original: Any = None, key: str | None = None) -> Answer:
        """Return the answer to one input, by the deadline.

        Args:
            x: one input as the file declares it, without the batch axis; one array by name if it takes several;
                a sentence, if it takes text; an image file's bytes or path, or a PIL image, if it takes images.
            original: what to send to the remote instead of `x`: by default the pixels of an image, or the image file
                itself if the remote has `encoded` set.
            key: your name for the input, under which a late answer comes; those of several inputs may come under one.
                By default a unique key; see `Answer.queued`.

        Raises:
            InputError: `x` has another type or shape than the file declares.
            ModuleNotFoundError: `x` is an image file, and the `images` extra is not installed.
            ForkedError: this is a fork of the process that loaded the file. Nothing else is raised.
        """
        begun = self._start(x, original, key)
        return begun if isinstance(begun, Answer) else self._finish(begun)

    async def predict_async(self, x: Any, *, original: Any = None, key: str | None = None) -> Answer:
        """Do the same as `predict`, for asyncio: the local model runs in its own thread, one input at a time.

        Cancelling it drops the forward: a request that has not been sent is not sent, and the input is neither stored
        in the outbox nor counted.
        """
        import asyncio

        started = time.monotonic()
        deciding = self._decider().submit(self._start, x, original, key, started, AT_ONCE)
        try:
            begun = await asyncio.wrap_future(deciding)
        except asyncio.CancelledError:
            deciding.add_done_callback(self._forget)
            raise
        return await self.finish_async(begun)

    def begin(self, calls: Sequence[tuple[Batch, float]]) -> list[list[Answer | Request] | Exception]:
        """Decide about the inputs of several calls in one run of the local model, for a server of its own clients.

        Forwards are begun and not waited for: pass each to `finish_async`.

        Args:
            calls: inputs [n, ...] as arrays, alike in names, types and shapes but for n, and the time of `monotonic` at
                which their deadline begins.

        Returns:
            For each call, the answers to its inputs that stay on the device, and the requests for the others; or its
            error, which is one of those that `predict_batch` raises.
        """

        def split(decided: list[Decided], sizes: Sequence[int]) -> list[list[Decided]]:
            left = iter(decided)
            return [[*islice(left, n)] for n in sizes]

        found: list[list[Answer | Request] | Exception] = []
        together = run_together([batch for batch, _ in calls], self._local.many, split)
        for (batch, started), decided in zip(calls, together, strict=True):
            try:
                found.append(decided if isinstance(decided, Exception) else self._begin(batch, decided, started))
            except Exception as error:  # of the application's `decode`
                found.append(error)
        return found

    async def finish_async(self, begun: Answer | Request) -> Answer:
        """Return the answer to an input that `begin` has begun, by its deadline. Cancelling it drops the forward."""
        import asyncio

        if isinstance(begun, Answer):
            return begun
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(done.set)

        self._dispatcher.when_done(begun, tell)
        try:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(done.wait(), begun.deadline.remaining())
        except asyncio.CancelledError:
            self._dispatcher.cancel(begun)
            raise
        return self._finish(begun)

    def stream(
        self,
        inputs: Iterable[Any],
        *,
        keys: Iterable[str | None] | None = None,
        originals: Iterable[Any] | None = None,
        ahead: int = 1024,
    ) -> Iterator[Answer]:
        """Return the answers to inputs, in order, each by its own deadline, while many forwards are under way.

        The iterator yields an answer once it exists and the next input has been taken, so a source that waits for its
        next input delays the answers before it. Calls of `predict` or `predict_async` have no such delay.

            cascade.stream(frames, keys=(f"frame {i}" for i in itertools.count()))

        Args:
            inputs: as `predict` takes them; taken when there is room.
            keys: as `predict` takes them, one per input; taken after their input. They may be endless.
            originals: as `predict` takes them, one per input or None; taken after their input.
            ahead: most inputs that are decided and not answered yet, since an earlier one waits for the remote.

        Raises:
            InputError: an input does not fit. The answers to those before it come first; iterate over the rest of
                `inputs` with another call.
            ArgumentError: `ahead` is below 1, or `keys` or `originals` end before the inputs do.
        """
        if ahead < 1:
            raise ArgumentError(f"ahead: expected 1 or more, got {ahead}")
        return self._stream(inputs, _beside("keys", keys), _beside("originals", originals), ahead)

    def predict_batch(
        self,
        x: Any,
        *,
        keys: Sequence[str | None] | None = None,
        originals: ArrayLike | Mapping[str, ArrayLike] | Sequence[Any] | None = None,
        deadline: float | EllipsisType | None = ...,
        request_inputs: int = 256,
        in_flight: int = 4,
        patience: float = 60.0,
    ) -> list[Answer]:
        """Return the answers to inputs [n, ...], in order, all by one deadline or without one.

        Args:
            x: inputs as the file declares them; one array [n, ...] by name if it takes several; a list of sentences,
                if it takes text; if it takes images, a list of images in any form that `predict` takes, whose sizes
                may differ. A table or a tensor, as `decide` takes it.
            keys: as `predict` takes them, one per input.
            originals: [n, ...], what to send to the remote instead of `x`.
            deadline: seconds from the call to its answers, by default those of the cascade; None waits for the remote.
            request_inputs: without a deadline, as `predict_columns` takes it; with one, there are 32.
            in_flight: likewise.
            patience: likewise.

        Raises:
            InputError: `x`, or the number of `keys` or `originals`, does not fit.
            ArgumentError: the deadline or another number is out of range.
            ModelFileError: the number of class names differs from the number of classes. Otherwise as `predict`.
        """
        started = time.monotonic()
        seconds = self._deadline if isinstance(deadline, EllipsisType) else _LONGEST if deadline is None else deadline
        _check_deadline(seconds, self._dispatcher.outbox)
        bulk = None
        if deadline is None:
            from edgecascade.runtime.bulk import Bulk

            bulk = Bulk(request_inputs, in_flight, patience).check()
        batch, sent = self._read(x, originals)
        decided = self._local.many(batch)
        _check_rows(len(decided), originals=sent, keys=keys)
        until = Deadline(started + seconds)

        def request(i: int, purpose: Purpose) -> Request:
            return Request(
                alone(sent, i),
                decided[i].prediction,
                until,
                purpose=purpose,
                advantage=decided[i].advantage,
                seen=None if sent is batch else alone(batch, i),
                key=None if keys is None else keys[i],
                started=started,
            )

        audited = [self._watch is not None and self._watch.saw(one.advantage, one.forward) for one in decided]
        begun = {i: request(i, Purpose.FORWARD) for i, one in enumerate(decided) if one.forward}
        if bulk is None:
            self._dispatcher.begin([*begun.values()])
        self._dispatcher.begin(
            [request(i, Purpose.AUDIT) for i, chosen in enumerate(audited) if chosen], room_by=AT_ONCE
        )
        if bulk is not None:
            bulk.finish(self._dispatcher, sent, begun)
        answers = []
        try:
            for i, one in enumerate(decided):
                forwarded = begun.pop(i, None)
                answers.append(
                    self._answer_local(one.prediction, one.advantage, started)
                    if forwarded is None
                    else self._finish(forwarded)
                )
        finally:  # if decoding one raises, the others are still counted and stored
            self._drain(begun.values())
        return answers

    def decide(self, x: Any) -> Columns:
        """Return the decisions of the local model about inputs [n, ...], as arrays.

        Nothing is sent, stored, audited or counted. The reason of inputs to forward is `offline`, until `merged` has
        the remote's scores.

        Args:
            x: as `predict_batch` takes it; or a table of pyarrow, pandas, polars or another library that exports Arrow
                data, or a tensor. A table has a column of the name of each input of the model; or, for a model with one
                input, `x`, `image` or `text`, or a single column, or one column for each feature. Rows of several
                values are lists or tensors.

        Raises:
            InputError: `x` does not fit.
            ModelFileError: the number of class names differs from the number of classes.
            ForkedError: this is a fork of the process that loaded the file.
        """
        return self._local.columns(self._local.inputs.read_batch(x)[0])

    def merged(self, columns: Columns, scores: Replied, *, class_names: Sequence[str] = ()) -> Columns:
        """Return columns with the remote's answers, merged by the policy. Nothing is counted, and no remote is needed.

        Args:
            columns: as `decide` returned them, also in another process: see `Columns.decided`.
            scores: what the remote says about the k inputs to forward, in order: scores [k, classes] as in calibration,
                or arrays by name for a general task. Where a row of scores is not finite, the answer stays local, with
                the reason `remote error`.
            class_names: of the remote's classes, in the order of its scores; by default the order is as in calibration.

        Raises:
            InputError: `scores` are not those of k inputs, or `columns` have answers of the remote.
        """
        from edgecascade.runtime.bulk import merge_outputs, merge_scores
        from edgecascade.runtime.columns import REASONS
        from edgecascade.runtime.reply import read_scores

        if hasattr(scores, "detach"):
            from edgecascade.types.arrays import as_array

            scores = as_array(scores, "scores", InputError)
        places = np.flatnonzero(columns.forward)
        if not len(places):
            return columns
        if (columns.reason_codes[places] != REASONS.index(Reason.OFFLINE)).any():
            raise InputError("columns: expected those of decide, got some for which the remote was asked already")
        try:
            if not self.labels:
                reader: Any = self._dispatcher.read
                return merge_outputs(columns, [(places, reader(scores, len(places), None))])
            read = read_scores(scores, len(places), self.labels, self.policy, names=tuple(class_names))
        except (RemoteError, ValueError, TypeError) as error:  # the last two of numpy
            raise InputError(f"scores: {str(error).removeprefix('remote: ')}") from error
        return merge_scores(columns, [(places, read)], self.policy)

    def predict_columns(
        self,
        x: Any,
        *,
        originals: ArrayLike | Mapping[str, ArrayLike] | Sequence[Any] | None = None,
        request_inputs: int = 256,
        in_flight: int = 4,
        patience: float = 60.0,
    ) -> Columns:
        """Return the answers to inputs [n, ...] as arrays, without a deadline.

        They are counted, and egress and budget hold, as for `predict`; a watch compares and audits. Nothing is stored
        in the outbox, and `decode` is not called: the reasons say which inputs the remote did not answer.

        Args:
            x: as `decide` takes it.
            originals: [n, ...], what to send to the remote instead of `x`.
            request_inputs: most inputs in one request; fewer if they have more than 16 MiB, or the remote takes fewer.
            in_flight: most requests under way at the same time.
            patience: seconds for which a remote that cannot be reached is asked again before answers are local.

        Raises:
            InputError: `x`, or the number of `originals`, does not fit.
            ArgumentError: a number is out of range. Otherwise as `decide`.
        """
        from edgecascade.runtime.bulk import Bulk, compared, merge_outputs, merge_scores

        started = time.monotonic()
        bulk = Bulk(request_inputs, in_flight, patience).check()
        batch, sent = self._read(x, originals)
        local = self._local.columns(batch)
        _check_rows(len(local), originals=sent)
        self._audit(batch, sent, local)
        read, columns = self._dispatcher.read, local
        if isinstance(read, ScoreReader):
            outcomes = bulk.ask_about(self._dispatcher, sent, local, read.rows)
            columns = merge_scores(local, compared(self._dispatcher, batch, local, outcomes), self.policy)
        else:
            outcomes = bulk.ask_about(self._dispatcher, sent, local, read)
            columns = merge_outputs(local, compared(self._dispatcher, batch, local, outcomes))
        self._tally.add_many(columns.counts(), time.monotonic() - started)
        return columns

    @property
    def policy(self) -> Policy:
        """The policy in force, by which it decides and merges."""
        return self._local.policy

    def swap(self, policy: Policy) -> Policy:
        """Decide inputs, and read and merge replies, by another policy from now on.

        Returns:
            The policy until now, to go back to.

        Raises:
            ArgumentError: the file does not allow this policy.
        """
        before = self._local.swap(policy)
        if policy != self.document.device_policy():
            self._overridden = True  # `|=` could undo what another thread sets meanwhile
        if self._watch is not None:
            self._watch.begin(self.document, policy, decode=self._decode, remote_decode=self._remote_decode)
        return before

    def reload(self, path: str | os.PathLike[str] | None = None) -> None:
        """Decide by a new file from now on, if it decides about its golden inputs as its calibration did.

        Calls under way are finished; those that begin meanwhile are answered by the old file. The policy is that of the
        new file, with the `threshold` of `load`. Estimates of the watch restart, and `health` is about the answers from
        now on. Both files are in memory for a moment.

        Args:
            path: the new file; by default what is now at the path of the old one.

        Raises:
            ModelFileError: the file cannot be loaded; has no golden inputs, or decides about one of them otherwise; or
                has other classes, inputs or outputs, or asks the remote in another way. The old one stays in use.
            ArgumentError: the cascade was not made by `load`.
        """
        if (recipe := self.recipe) is None:
            raise ArgumentError("cascade: expected one made by `Cascade.load`, which can be loaded anew, got another")
        with self._reloading:
            given, there = recipe.arguments, recipe.path if path is None else path
            new = Recipe(there, given)  # before the file is read: what is written meanwhile is another
            try:
                local = self._local.successor(there, **{name: given[name] for name in _OF_THE_FILE})
            except BaseException:
                self._reloads["refused"] += 1
                raise
            counts = self._tally.snapshot()
            self._inputs_before, self._missed_before = counts.inputs, Counter(counts.missed)
            self._local, self._dispatcher.read = local, _reader(local, self._remote_decode)
            self._overridden = local.policy != local.document.device_policy()
            self.recipe = new
            self._reloads["taken"] += 1
            if path is not None:
                self._shown = f"{os.fspath(path)!r}, remote={_shown(given['remote'])}"
            if self._watch is not None:
                self._watch.begin(local.document, local.policy, decode=self._decode, remote_decode=self._remote_decode)

    @property
    def document(self) -> Any:
        """The document in the file: a `CascadeDocument`, or the `TaskDocument` of a general task."""
        return self._local.document

    @property
    def inputs(self) -> ModelInputs:
        """The inputs that the file declares."""
        return self._local.inputs

    @property
    def outputs(self) -> Mapping[str, Declared]:
        """The outputs of the local model that its answers have, by name, as the file declares them."""
        return self._local.outputs

    @property
    def decodes(self) -> bool:
        """Whether it decodes outputs, so that its answers have a `result`."""
        return self._decode is not None or self._remote_decode is not None

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes; empty for a general task."""
        return self._local.labels

    @property
    def provider(self) -> str:
        """The execution provider that runs the local model."""
        return self._local.provider

    def warm_up(self, x: Any = None) -> float:
        """Run the local model once, so that engines are compiled and buffers made; nothing is counted or sent.

        Args:
            x: as `predict` takes it; by default the file's golden inputs.

        Returns:
            Seconds that it took.

        Raises:
            ArgumentError: the file has no golden inputs, and `x` is not given.
        """
        return self._local.warm_up(x)

    def late(self, timeout: float | None = 0.0) -> Iterator[LateAnswer]:
        """Iterate over the late answers that have come; there are none without an outbox.

        Each answer is removed from the outbox when the next one is asked for.

        Args:
            timeout: seconds to wait for the next one; None waits until the cascade is closed.
        """
        outbox = self._dispatcher.outbox
        return iter(()) if outbox is None else map(self._settle, outbox.late(timeout))

    def counts(self) -> Counts:
        """Return the number of answers so far, by reason and by source."""
        return self._tally.snapshot()

    def health(self) -> CascadeHealth:
        """Return whether the certificate in the file applies to its answers so far, and what they add to its loss."""
        counts = self._tally.snapshot()
        inputs, missed = counts.inputs - self._inputs_before, Counter(counts.missed) - self._missed_before
        alarms = frozenset[str]() if self._watch is None else self._watch.health().active
        if getattr(self._dispatcher.remote, "other_model", 0):
            alarms |= {"remote model"}
        return CascadeHealth(self.document.certificate, inputs, missed, self._overridden, alarms)

    def metrics(self) -> dict[str, Any]:
        """Return all counts as plain numbers by name, for `prometheus_text`, `export_to_opentelemetry` or JSON."""
        from edgecascade.runtime.metrics.snapshot import snapshot

        return snapshot(self._tally, self._dispatcher, self.health(), self._reloads)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._dispatcher.closed

    def close(self, timeout: float = 1.0) -> None:
        """Store what the outbox was given, and close remote, outbox, watch and budget.

        Calls under way still return their answers. With an outbox, those that wait for the remote return the local one
        at once, and their inputs are stored.

        Args:
            timeout: seconds to wait for a remote or a callback that hangs. The disk is waited for as long as it stores
                one input after another.
        """
        self._dispatcher.close(timeout)
        pool, self._decider_pool = self._decider_pool, None  # a later call makes another
        if pool is not None:
            pool.shutdown(wait=False)

    def __repr__(self) -> str:
        threshold = self.policy.threshold
        rest = f"deadline={self._deadline}, threshold={threshold}, provider={self.provider!r}"
        return f"Cascade({self._shown}, {rest})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path and the hash of the file, the arguments of `load` and the policy in force.

        A process opens the cascade once: what is unpickled there again is the same object, until it is closed.
        """
        if self.recipe is None:
            raise ArgumentError("cascade: expected one made by `Cascade.load`, which can be pickled, got another")
        return self.recipe.reduced(self.policy)

    def __enter__(self) -> Cascade:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _decider(self) -> ThreadPoolExecutor:
        if self._decider_pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._decider_pool = ThreadPoolExecutor(1, thread_name_prefix="edgecascade-decide")
        return self._decider_pool

    def _forget(self, deciding: Future[Answer | Request]) -> None:
        """Cancel a request that was begun after its caller had been cancelled."""
        if not deciding.cancelled() and deciding.exception() is None:
            begun = deciding.result()
            if isinstance(begun, Request):
                self._dispatcher.cancel(begun)

    def _start(
        self,
        x: Any,
        original: Any = None,
        key: str | None = None,
        started: float | None = None,
        room_by: Deadline | None = None,
    ) -> Answer | Request:
        """Decide about one input. Return its answer, or the request for it, which is under way."""
        started = time.monotonic() if started is None else started
        encoded = None
        if type(x) is not np.ndarray:
            x, encoded = self._local.inputs.read(x)
        local, advantage, forward = self._local.one(x)
        audited = self._watch is not None and self._watch.saw(advantage, forward)
        if not (forward or audited):
            return self._answer_local(local, advantage, started)
        if original is None:
            original = encoded if encoded is not None and self._dispatcher.encoded else x
        request = Request(
            copied(original),
            local,
            Deadline(started + self._deadline),
            purpose=Purpose.FORWARD if forward else Purpose.AUDIT,
            advantage=advantage,
            seen=None if self._watch is None or original is x else copied(x),
            key=key,
            started=started,
        )
        self._dispatcher.begin([request], room_by=room_by if forward else AT_ONCE)
        return request if forward else self._answer_local(local, advantage, started)

    def _read(self, x: Any, originals: Any) -> tuple[Any, Any]:
        """Return inputs [n, ...] as the local model takes them, and as they are sent."""
        batch, files = self._local.inputs.read_batch(x)
        if originals is not None:
            return batch, as_batch("originals", originals)
        if files is None or not self._dispatcher.encoded:
            return batch, batch
        return batch, [pixels if file is None else file for pixels, file in zip(batch, files, strict=True)]

    def _audit(self, batch: Any, sent: Any, local: Columns) -> None:
        """Show the watch the decisions about inputs, and begin to ask the remote about those that it draws."""
        if self._watch is None:
            return
        seen = enumerate(zip(local.advantage.tolist(), local.forward.tolist(), strict=True))
        drawn = [i for i, (advantage, forward) in seen if self._watch.saw(advantage, forward)]
        until = Deadline.after(self._deadline)
        requests = [
            Request(
                alone(sent, i),
                local.prediction(i),
                until,
                purpose=Purpose.AUDIT,
                seen=None if sent is batch else alone(batch, i),
            )
            for i in drawn
        ]
        self._dispatcher.begin(requests, room_by=AT_ONCE)

    def _begin(self, batch: Batch, decided: Sequence[Decided], started: float) -> list[Answer | Request]:
        """Return the answers to inputs that stay on the device, and the requests for the others, which are sent."""

        def request(i: int, purpose: Purpose) -> Request:
            prediction, advantage, _ = decided[i]
            deadline = Deadline(started + self._deadline)
            return Request(alone(batch, i), prediction, deadline, purpose=purpose, advantage=advantage, started=started)

        audited = [self._watch is not None and self._watch.saw(one.advantage, one.forward) for one in decided]
        begun = [
            request(i, Purpose.FORWARD) if one.forward else self._answer_local(one.prediction, one.advantage, started)
            for i, one in enumerate(decided)
        ]
        going = [one for one in begun if isinstance(one, Request)]
        audits = [request(i, Purpose.AUDIT) for i, chosen in enumerate(audited) if chosen]
        self._dispatcher.begin(going + audits, room_by=AT_ONCE)
        return begun

    def _drain(self, requests: Iterable[Request]) -> None:
        """Finish requests whose answers no caller waits for."""
        for one in requests:
            with suppress(Exception):  # of the application's `decode`
                self._finish(one)

    def _answer_local(self, local: Prediction, advantage: float, started: float) -> Answer:
        """Return the local answer to an input that stays on the device."""
        if self._decode is not None:
            local = self._decoded(local)
        label, confidence, _, outputs, result = local
        elapsed = time.monotonic() - started
        self._tally.add_local(elapsed)
        name = self._labels[label]
        return _new(
            Answer,
            (label, name, confidence, _LOCAL, _CONFIDENT, advantage, local, None, "", elapsed, "", outputs, result),
        )

    def _decoded(self, local: Prediction) -> Prediction:
        """Return a local prediction that is the answer, with its result; exceptions of `decode` pass through.

        One that the outbox has stored has no outputs, and so no result.
        """
        if self._decode is None or not local.outputs:
            return local
        return local._replace(result=self._decode(local.outputs))

    def _finish(self, request: Request) -> Answer:
        """Return the answer as soon as there is a reply, or once the deadline has passed."""
        outcome = self._dispatcher.end(request)
        assert request.local is not None
        answer = self._answer(request.local, outcome, request.advantage)
        answer = answer._replace(elapsed=time.monotonic() - request.started, queued=request.queued)
        self._tally.add(answer)
        return answer

    def _answer(self, local: Prediction, outcome: Prediction | Failure, advantage: float) -> Answer:
        final, source, remote, detail = local, Source.LOCAL, None, ""
        if isinstance(outcome, Failure):
            reason, detail, *_ = outcome
        else:
            remote, policy = outcome, self.policy
            final, source = merge(policy.merge, local, remote, policy.costs)
            reason = Reason.NOT_A_NUMBER if np.isnan(local.confidence) else Reason.OFFLOADED
        if source is Source.LOCAL:
            final = local = self._decoded(local)
        name = self._labels[final.label]
        label, confidence, _, outputs, result = final
        return Answer(
            label,
            name,
            confidence,
            source,
            reason,
            advantage,
            local,
            remote,
            detail,
            0.0,
            outputs=outputs,
            result=result,
        )

    def _settle(self, late: Late) -> LateAnswer:
        remote, detail = late.remote, ""
        if self._remote_decode is not None:  # the outbox stores arrays only
            try:
                remote = remote._replace(result=self._remote_decode(remote.outputs))
            except Exception as error:  # it was another function when the reply came
                detail = f"remote_decode fails for the stored outputs: {type(error).__name__}"
        answer = self._answer(late.local, remote, math.nan)._replace(detail=detail)
        return LateAnswer(late.key, answer._replace(elapsed=late.waited))

    def _stream(
        self, inputs: Iterable[Any], keys: Iterator[str | None], originals: Iterator[Any], ahead: int
    ) -> Iterator[Answer]:
        started: deque[Answer | Request] = deque()

        def finished() -> Answer:
            one = started.popleft()
            return one if isinstance(one, Answer) else self._finish(one)

        try:
            for x in inputs:
                try:
                    started.append(self._start(x, next(originals), next(keys)))
                except Exception:
                    while started:
                        yield finished()
                    raise
                while started and (len(started) >= ahead or isinstance(started[0], Answer) or started[0].ready):
                    yield finished()
            while started:
                yield finished()
        finally:  # if the reader stops early, the started inputs are still counted
            self._drain(one for one in started if isinstance(one, Request))


def _check_deadline(seconds: float, outbox: Outbox | None) -> None:
    if not 0 <= seconds <= _LONGEST or (seconds == 0 and outbox is None):
        least = "above 0" if outbox is None else "of 0 or more"
        raise ArgumentError(f"deadline: expected seconds {least}, and at most a day, got {seconds}")


def _reader(local: LocalModel, remote_decode: Decode | None) -> Reader:
    """Return what reads the replies of the remote under the policy of a file."""
    if local.labels:
        return ScoreReader(local.labels, lambda: local.policy, getattr(local.document, "remote_chat", None))
    return OutputReader(local.remote_outputs, remote_decode)


def _check_rows(n: int, *, originals: Any, keys: Sequence[str | None] | None = None) -> None:
    arrays = originals.values() if isinstance(originals, Mapping) else [originals]
    sizes = [("originals", len(one) if isinstance(one, list) or one.ndim else 0) for one in arrays]
    for name, found in (*(sizes or [("originals", 0)]), ("keys", n if keys is None else len(keys))):
        if found != n:
            raise InputError(f"{name}: expected {n}, one per input, got {found}")


def _beside(name: str, given: Iterable[T] | None) -> Iterator[T | None]:
    """Iterate over values given along with the inputs, and raise an `ArgumentError` if they end first."""
    if given is None:
        while True:
            yield None
    n = 0
    for n, one in enumerate(given, 1):  # noqa: B007  # read after the loop
        yield one
    raise ArgumentError(f"{name}: expected one per input, got {n}")


def _shown(remote: Any) -> str:
    """Describe a remote in a few words, without what may be secret in an address."""
    if isinstance(remote, (str, os.PathLike)):
        address = os.fspath(remote)
        if "://" not in address:
            return repr(address)
        from edgecascade.runtime.remotes.remote import shown

        return repr(shown(address))
    return str(None if remote is None else getattr(remote, "__name__", type(remote).__name__))
