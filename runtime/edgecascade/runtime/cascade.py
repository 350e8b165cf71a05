"""A local model that knows when to ask a remote one."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgecascade.runtime.batch import as_batch, copied, rows, size
from edgecascade.runtime.counts import Tally
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.failure import Failure
from edgecascade.runtime.forwarding import AT_ONCE, Forwarding, Inquiry
from edgecascade.runtime.local_model import LocalModel
from edgecascade.runtime.model_inputs import ModelInputs
from edgecascade.runtime.stream import in_order
from edgecascade.types.answer import Answer, LateAnswer, Prediction, Reason, Source
from edgecascade.types.document import CascadeDocument
from edgecascade.types.errors import ArgumentError, InputError
from edgecascade.types.merge import merge
from edgecascade.types.policy import Policy

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from numpy.typing import ArrayLike, NDArray

    from edgecascade.runtime.budget import Budget
    from edgecascade.runtime.counts import Counts
    from edgecascade.runtime.outbox.outbox import Late, Outbox
    from edgecascade.runtime.remotes.remote import Remote
    from edgecascade.runtime.watch.watch import Watch

__all__ = ["Cascade"]

_LONGEST = 86_400.0  # seconds
_LOCAL, _CONFIDENT = Source.LOCAL, Reason.CONFIDENT  # looked up once: an attribute of an Enum is a slow one


class _Begun(NamedTuple):
    """An input that is to be forwarded, until it is answered."""

    inquiry: Inquiry
    advantage: float
    started: float
    deadline: Deadline


class Cascade:
    """One cascade model file, and optionally the remote it may ask. Make one with `Cascade.load`.

    Safe to share between threads, not with a fork. A context manager: leaving it closes whatever it was given.
    """

    def __init__(self, local: LocalModel, forwarding: Forwarding, deadline: float) -> None:
        self._local, self._forwarding, self._deadline = local, forwarding, deadline
        self._labels = local.document.labels
        self._watch = forwarding.watch
        self._tally = Tally()
        self._decider_pool: ThreadPoolExecutor | None = None

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        remote: str | os.PathLike[str] | Remote | Callable[[Any], NDArray[Any]] | None = None,
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
    ) -> Cascade:
        """Load a cascade model. Opens no connection; the first forward does.

        Args:
            path: a file written by `edgecascade calibrate`.
            remote: an Open Inference Protocol v2 address (`http://host:8000/v2/models/large`, or `grpc://`), an ONNX
                file or a function from inputs [n, ...] to logits [n, classes] to run in this process, or
                anything with the methods of `Remote`. None keeps every answer local.
            deadline: seconds from a call to its answer; what has not come back by then is not waited for.
            threshold: forward inputs whose advantage is below this, instead of the file's threshold.
            budget: how much may be forwarded; when it runs short, the worst-placed inputs still are.
            egress: whether an input, as it would be sent, may leave the device at all.
            outbox: keeps on disk what could not be sent or came too late, and sends it when the remote is back.
            on_late: gets the late answers that the outbox brings; without it, `late` gives them.
            watch: audits a share of the confident answers, and raises alarms.
            threads: the engine's threads for the local model.
            providers: execution providers by preference, such as `("cuda", "cpu")`, or `auto`.
            fallback: whether another provider may do the work of the first; see `provider`.
            engine_cache: a folder in which providers that compile the model keep what they compiled.

        Raises:
            ModelFileError: the file is missing, damaged, no cascade model, or of a newer format.
            ArgumentError: another argument cannot mean anything.
        """
        if not 0 < deadline <= _LONGEST:
            raise ArgumentError(f"deadline: expected seconds above 0, and at most a day, got {deadline}")
        local = LocalModel.load(
            path, threads=threads, providers=providers, fallback=fallback, engine_cache=engine_cache
        )
        if threshold is not None:
            local.swap(replace(local.policy, threshold=threshold))
        connected = None
        if remote is not None:
            from edgecascade.runtime.remotes.remote import connect

            connected = connect(remote, threads=threads)
        forwarding = Forwarding(
            connected,
            document=local.document,
            policy=lambda: local.policy,
            budget=budget,
            egress=egress,
            outbox=outbox,
            watch=watch,
        )
        cascade = cls(local, forwarding, deadline)
        forwarding.start(None if on_late is None else lambda late: on_late(cascade._settle(late)))
        return cascade

    def predict(self, x: Any, *, original: Any = None, key: str | None = None) -> Answer:
        """The answer to one input, by the deadline.

        Args:
            x: one input as the file declares it, without the batch axis; one array by name if it takes several;
                a sentence, if it takes text; an image file's bytes or path, or a PIL image, if it takes images.
            original: what to send to the remote, if not `x` itself: the pixels of an image, or its file as it is
                if the remote has `encoded` set.
            key: names the input in a late answer; by default a hash of what is sent.

        Raises:
            InputError: `x` has another type or shape than the file declares.
            ModuleNotFoundError: an image file, and the `images` extra is not installed. Nothing else is raised, but
                for a `ForkedError` in a fork of the process that loaded the file.
        """
        return self._finish(self._start(x, original, key))

    async def predict_async(self, x: Any, *, original: Any = None, key: str | None = None) -> Answer:
        """As `predict`, for asyncio: the local model runs in a thread of its own, one input at a time.

        Cancelled, it forgets the forward; one that has not been sent is not sent.
        """
        import asyncio

        started = time.monotonic()
        loop = asyncio.get_running_loop()
        begun = await loop.run_in_executor(self._decider(), self._start, x, original, key, started, AT_ONCE)
        if isinstance(begun, _Begun) and not isinstance(begun.inquiry.reply, Failure):
            try:
                reply = asyncio.wrap_future(begun.inquiry.reply)
                reply.add_done_callback(lambda one: one.cancelled() or one.exception())  # else asyncio would print it
                await asyncio.wait({reply}, timeout=begun.deadline.remaining())
            except asyncio.CancelledError:
                begun.inquiry.reply.cancel()
                raise
        return self._finish(begun)

    def stream(self, inputs: Iterable[Any], *, ahead: int = 1024) -> Iterator[Answer]:
        """The answers to inputs, in order, each by its own deadline, while many forwards are under way.

        An answer is given out as soon as it is there and the next input has been taken: a source that waits for its
        next input delays those before it. A single call of `predict` or `predict_async` does not.

        Args:
            inputs: as `predict` takes them; taken as room allows.
            ahead: the most inputs decided and not yet answered, since an earlier one still waits for the remote.

        Raises:
            InputError: an input does not fit. The answers to those before it come first; iterate over the rest of
                `inputs` with another call.
        """
        if ahead < 1:
            raise ArgumentError(f"ahead: expected 1 or more, got {ahead}")
        return in_order(inputs, start=self._start, ready=_is_ready, finish=self._finish, ahead=ahead)

    def predict_batch(
        self, x: ArrayLike | Mapping[str, ArrayLike], *, originals: ArrayLike | Mapping[str, ArrayLike] | None = None
    ) -> list[Answer]:
        """The answers to inputs [n, ...], in order, all by one deadline.

        Args:
            x: inputs as the file declares them; one array [n, ...] by name if it takes several.
            originals: [n, ...], what to send to the remote, if not `x` itself.

        Raises:
            InputError: `x` or `originals` does not fit.
            ModelFileError: the file has not as many names as classes. Nothing else is raised, but as by `predict`.
        """
        started = time.monotonic()
        batch = as_batch(x)
        decided = self._local.many(batch)
        sent = batch if originals is None else as_batch(originals)
        if size(sent) != len(decided):
            raise InputError(f"originals: expected {len(decided)}, one per input, got {size(sent)}")
        deadline = Deadline(started + self._deadline)
        audited = [self._watch is not None and self._watch.saw(one.advantage, one.forward) for one in decided]
        asked = [i for i, one in enumerate(decided) if one.forward]
        inquiries = self._forwarding.begin(
            [rows(sent, [i]) for i in asked],
            [decided[i].prediction for i in asked],
            [decided[i].advantage for i in asked],
            deadline,
            taken=[rows(batch, [i]) for i in asked],
        )
        begun = dict(zip(asked, inquiries, strict=True))
        for i in np.flatnonzero(audited).tolist():
            self._forwarding.audit(rows(sent, [i]), decided[i].prediction, deadline, rows(batch, [i]))
        return [
            self._finish(_Begun(begun[i], one.advantage, started, deadline))
            if i in begun
            else self._keep(one.prediction, one.advantage, started)
            for i, one in enumerate(decided)
        ]

    @property
    def policy(self) -> Policy:
        """What it decides and merges by now."""
        return self._local.policy

    def swap(self, policy: Policy) -> Policy:
        """From now on, decide inputs and read and merge replies by another policy.

        Returns:
            The policy until now, to go back to.

        Raises:
            ArgumentError: the file cannot decide by it.
        """
        before = self._local.swap(policy)
        if self._watch is not None:
            self._watch.begin(self.document, policy)
        return before

    @property
    def document(self) -> CascadeDocument:
        """What the file says about itself."""
        return self._local.document

    @property
    def inputs(self) -> ModelInputs:
        """What the file takes."""
        return self._local.inputs

    @property
    def provider(self) -> str:
        """The execution provider that really runs the local model."""
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
        """The late answers that have come; none if there is no outbox. Each is let go when the next is asked for.

        Args:
            timeout: seconds to wait for the next one; None waits until the cascade is closed.
        """
        outbox = self._forwarding.outbox
        return iter(()) if outbox is None else map(self._settle, outbox.late(timeout))

    def counts(self) -> Counts:
        """How many answers there were so far, by reason and by source."""
        return self._tally.snapshot()

    def metrics(self) -> dict[str, Any]:
        """Everything that is counted, as plain numbers by name; `prometheus_text` and others present it."""
        from edgecascade.runtime.metrics.snapshot import snapshot

        return snapshot(self._tally, self._forwarding)

    def close(self) -> None:
        """Close the remote's connections. Calls under way still get their answers."""
        self._forwarding.close()
        if self._decider_pool is not None:
            self._decider_pool.shutdown(wait=False)

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

    def _start(
        self,
        x: Any,
        original: Any = None,
        key: str | None = None,
        started: float | None = None,
        room_by: Deadline | None = None,
    ) -> Answer | _Begun:
        """Decide about one input, and send it off if need be."""
        started = time.monotonic() if started is None else started
        encoded = None
        if type(x) is not np.ndarray:
            x, encoded = self._local.inputs.read(x)
        label, confidence, advantage, forward, probabilities = self._local.one(x)
        local = Prediction(label, confidence, probabilities)
        audited = self._watch is not None and self._watch.saw(advantage, forward)
        if not (forward or audited):
            return self._keep(local, advantage, started)
        if original is None:
            original = encoded if encoded is not None and self._forwarding.encoded else x
        sent = copied(original)
        taken = sent if self._watch is None or original is x else copied(x)
        deadline = Deadline(started + self._deadline)
        if not forward:
            self._forwarding.audit(sent, local, deadline, taken)
            return self._keep(local, advantage, started)
        (inquiry,) = self._forwarding.begin(
            [sent], [local], [advantage], deadline, room_by=room_by, keys=[key], taken=[taken]
        )
        return _Begun(inquiry, advantage, started, deadline)

    def _keep(self, local: Prediction, advantage: float, started: float) -> Answer:
        """The local answer, which nothing was sent for."""
        label, confidence, _ = local
        elapsed = time.monotonic() - started
        self._tally.keep(elapsed)
        return Answer(label, self._labels[label], confidence, _LOCAL, _CONFIDENT, advantage, local, None, "", elapsed)

    def _finish(self, begun: Answer | _Begun) -> Answer:
        """The answer, as soon as there is a reply or the deadline has passed."""
        if isinstance(begun, Answer):
            return begun
        reply = self._forwarding.end(begun.inquiry, begun.deadline)
        answer = self._answer(begun.inquiry.local, reply, begun.advantage)
        answer = answer._replace(elapsed=time.monotonic() - begun.started)
        self._tally.add(answer)
        return answer

    def _answer(self, local: Prediction, reply: Prediction | Failure, advantage: float) -> Answer:
        final, source, remote, detail, queued = local, Source.LOCAL, None, "", ""
        if isinstance(reply, Failure):
            reason, detail, queued = reply.reason, reply.detail, reply.queued
        else:
            remote = reply
            final, source = merge(self.policy.merge, local, remote)
            reason = Reason.NOT_A_NUMBER if np.isnan(local.confidence) else Reason.OFFLOADED
        name = self._labels[final.label]
        return Answer(
            final.label, name, final.confidence, source, reason, advantage, local, remote, detail, 0.0, queued
        )

    def _settle(self, late: Late) -> LateAnswer:
        answer = self._answer(late.local, late.remote, math.nan)
        return LateAnswer(late.key, answer._replace(elapsed=late.waited))


def _is_ready(begun: Answer | _Begun) -> bool:
    """Whether there is nothing to wait for: a reply, a reason why there is none, or no time left."""
    if isinstance(begun, Answer) or isinstance(begun.inquiry.reply, Failure):
        return True
    return begun.inquiry.reply.done() or begun.deadline.remaining() == 0
