"""A local model that knows when to ask a remote one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.runtime.answer import Answer, Reason, Source, Verdict
from edgecascade.runtime.batch import Batch, as_batch, rows, size, stacked
from edgecascade.runtime.connect import connect
from edgecascade.runtime.counts import Counts, Tally
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.errors import ArgumentError, InputError, ModelFileError
from edgecascade.runtime.forwarder import Failure, Forward, Forwarder, outcome
from edgecascade.runtime.local import OUTPUTS, LocalModel
from edgecascade.runtime.merge import merge
from edgecascade.runtime.metadata import Metadata, read_metadata
from edgecascade.runtime.model_inputs import model_inputs
from edgecascade.runtime.policy import Policy
from edgecascade.runtime.remote import Remote
from edgecascade.runtime.session import open_session
from edgecascade.runtime.stream import in_order

__all__ = ["Cascade"]

_AT_ONCE = Deadline(0.0)
_LOCAL, _CONFIDENT = Source.LOCAL, Reason.CONFIDENT  # looked up once: an attribute of an Enum is a slow one


class _Live(NamedTuple):
    """What `swap` exchanges, in one assignment."""

    policy: Policy
    local: LocalModel


class _Begun(NamedTuple):
    """An input that is decided about, until it is answered."""

    local: Verdict
    advantage: float
    reply: Forward | Failure | None
    started: float
    deadline: Deadline


class Cascade:
    """One cascade model file, and optionally the remote it may ask. Make one with `Cascade.load`.

    Safe to share between threads. A context manager: leaving it closes the remote's connections.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        session: Any,
        metadata: Metadata,
        remote: Remote | None,
        deadline: float,
    ) -> None:
        self.metadata = metadata
        self._session = session
        self._inputs = model_inputs(session, path)
        self._labels = metadata.labels
        self._deadline = deadline
        self._own = Policy.of(metadata)
        self._live = self._under(self._own)
        self._tally = Tally()
        self._decider_pool: ThreadPoolExecutor | None = None
        self._encoded = bool(getattr(remote, "encoded", False))
        self._forwarder = None
        if remote is not None:
            self._forwarder = Forwarder(
                remote, classes=len(metadata.labels), calibration=lambda: self._live.policy.calibrate_remote
            )

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        remote: str | os.PathLike[str] | Remote | Callable[[Any], NDArray[Any]] | None = None,
        deadline: float = 1.0,
        threshold: float | None = None,
        threads: int = 1,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> Cascade:
        """Load a cascade model. Opens no connection; the first forward does.

        Args:
            path: a file written by `edgecascade calibrate`.
            remote: an Open Inference Protocol v2 address (`http://host:8000/v2/models/large`), an ONNX
                file or a function from inputs [n, ...] to logits [n, classes] to run in this process, or
                anything with the methods of `Remote`. None keeps every answer local.
            deadline: seconds from a call to its answer; what has not come back by then is not waited for.
            threshold: forward inputs whose advantage is below this, instead of the file's threshold.
            threads: onnxruntime's threads for the local model.
            providers: onnxruntime execution providers by preference.

        Raises:
            ModelFileError: the file is missing, damaged, no cascade model, or of a newer format.
            ArgumentError: another argument cannot mean anything.
        """
        if not deadline > 0:
            raise ArgumentError(f"deadline: expected seconds above 0, got {deadline}")
        session = open_session(path, threads=threads, providers=providers)
        metadata = read_metadata(session, path)
        missing = set(OUTPUTS) - {output.name for output in session.get_outputs()}
        if missing:
            raise ModelFileError(f"{path}: not a cascade model: it lacks the outputs {sorted(missing)}")
        cascade = cls(path, session, metadata, connect(remote, threads=threads), deadline)
        if threshold is not None:
            cascade.swap(replace(cascade.policy, threshold=threshold))
        return cascade

    def predict(self, x: Any, *, original: Any = None) -> Answer:
        """The answer to one input, by the deadline.

        Args:
            x: one input as the file declares it, without the batch axis; one array by name if it takes several;
                a sentence, if it takes text; an image file's bytes or path, or a PIL image, if it takes images.
            original: what to send to the remote, if not `x` itself: the pixels of an image, or its file as it is
                if the remote has `encoded` set.

        Raises:
            InputError: `x` has another type or shape than the file declares.
            ModuleNotFoundError: an image file, and the `images` extra is not installed. Nothing else is raised.
        """
        return self._finish(self._start(x, original))

    async def predict_async(self, x: Any, *, original: Any = None) -> Answer:
        """As `predict`, for asyncio: the local model runs in a thread of its own, one input at a time.

        Cancelled, it forgets the forward; one that has not been sent is not sent.
        """
        import asyncio

        started = time.monotonic()
        loop = asyncio.get_running_loop()
        begun = await loop.run_in_executor(self._decider(), self._start, x, original, started, _AT_ONCE)
        if not isinstance(begun, Answer) and not isinstance(begun.reply, Failure | None):
            try:
                await asyncio.wait({asyncio.wrap_future(begun.reply)}, timeout=begun.deadline.remaining())
            except asyncio.CancelledError:
                begun.reply.cancel()
                raise
        return self._finish(begun)

    def stream(self, inputs: Iterable[Any], *, ahead: int = 1024) -> Iterator[Answer]:
        """The answers to inputs, in order, each by its own deadline, while many forwards are under way.

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
            ModelFileError: the file has not as many names as classes. Nothing else is raised.
        """
        started = time.monotonic()
        batch = as_batch(x)
        feeds = self._inputs.feeds("x", batch)
        n = size(feeds)
        sent = batch if originals is None else as_batch(originals)
        if size(sent) != n:
            raise InputError(f"originals: expected {n}, one per input, got {size(sent)}")
        if n == 0:
            return []
        label, confidence, advantage, forward, probabilities = self._live.local.many(feeds, n)
        deadline = Deadline(started + self._deadline)
        asked = np.flatnonzero(forward)
        replies = dict(zip(asked.tolist(), self._ask(rows(sent, asked), deadline), strict=True))
        verdicts = zip(label.tolist(), confidence.tolist(), probabilities, strict=True)
        return [
            self._finish(_Begun(Verdict(*verdict), float(advantage[i]), replies.get(i), started, deadline))
            for i, verdict in enumerate(verdicts)
        ]

    @property
    def policy(self) -> Policy:
        """What it decides and merges by now."""
        return self._live.policy

    def swap(self, policy: Policy) -> Policy:
        """From now on, decide inputs and read and merge replies by another policy.

        Returns:
            The policy until now, to go back to.

        Raises:
            ArgumentError: the file cannot decide by it.
        """
        before, self._live = self._live, self._under(policy)
        return before.policy

    def counts(self) -> Counts:
        """How many answers there were so far, by reason and by source."""
        return self._tally.snapshot()

    def close(self) -> None:
        """Close the remote's connections. Calls under way still get their answers."""
        if self._forwarder is not None:
            self._forwarder.close()
        if self._decider_pool is not None:
            self._decider_pool.shutdown(wait=False)

    def __enter__(self) -> Cascade:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _under(self, policy: Policy) -> _Live:
        overrides = policy.overrides(self._own)
        fixed = overrides.keys() - {one.name for one in self._session.get_overridable_initializers()}
        if fixed:
            raise ArgumentError(f"policy: this file cannot change its {', '.join(sorted(fixed))} without a new file")
        return _Live(policy, LocalModel(self._session, self._inputs, len(self.metadata.labels), overrides))

    def _decider(self) -> ThreadPoolExecutor:
        if self._decider_pool is None:
            self._decider_pool = ThreadPoolExecutor(1, thread_name_prefix="edgecascade-decide")
        return self._decider_pool

    def _start(
        self, x: Any, original: Any = None, started: float | None = None, room_by: Deadline | None = None
    ) -> Answer | _Begun:
        """Decide about one input, and send it off if need be."""
        started = time.monotonic() if started is None else started
        encoded = None
        if type(x) is not np.ndarray:
            x, encoded = self._inputs.read(x)
        label, confidence, advantage, forward, probabilities = self._live.local.one(x)
        local = Verdict(label, confidence, probabilities)
        if not forward:
            name, elapsed = self._labels[label], time.monotonic() - started
            answer = Answer(label, name, confidence, _LOCAL, _CONFIDENT, advantage, local, None, "", elapsed)
            self._tally.add((answer,))
            return answer
        deadline = Deadline(started + self._deadline)
        if original is None:
            original = encoded if encoded is not None and self._encoded else x
        (reply,) = self._ask(stacked(original), deadline, room_by)
        return _Begun(local, advantage, reply, started, deadline)

    def _ask(self, sent: Batch, deadline: Deadline, room_by: Deadline | None = None) -> Sequence[Forward | Failure]:
        """Send inputs [n, ...] off, without waiting for the replies."""
        if self._forwarder is None:
            return [Failure(Reason.OFFLINE, "no remote was given")] * size(sent)
        return self._forwarder.submit(sent, deadline, room_by=room_by)

    def _finish(self, begun: Answer | _Begun) -> Answer:
        """The answer, as soon as there is a reply or the deadline has passed."""
        if isinstance(begun, Answer):
            return begun
        reply = begun.reply if isinstance(begun.reply, Failure | None) else outcome(begun.reply, begun.deadline)
        return self._answer(begun.local, begun.advantage, reply, begun.started)

    def _answer(self, local: Verdict, advantage: float, reply: Verdict | Failure | None, started: float) -> Answer:
        final, source, reason, detail = local, Source.LOCAL, Reason.CONFIDENT, ""
        remote = None
        if isinstance(reply, Failure):
            reason, detail = reply.reason, reply.detail
        elif reply is not None:
            final, source = merge(self._live.policy.merge, local, reply)
            reason = Reason.NOT_A_NUMBER if np.isnan(local.confidence) else Reason.OFFLOADED
            remote = reply
        answer = Answer(
            label=final.label,
            name=self._labels[final.label],
            confidence=final.confidence,
            source=source,
            reason=reason,
            advantage=advantage,
            local=local,
            remote=remote,
            detail=detail,
            elapsed=time.monotonic() - started,
        )
        self._tally.add((answer,))
        return answer


def _is_ready(begun: Answer | _Begun) -> bool:
    return isinstance(begun, Answer) or isinstance(begun.reply, Failure | None) or begun.reply.done()
