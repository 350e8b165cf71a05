"""A local model that knows when to ask a remote one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.runtime.answer import Answer, Reason, Source, Verdict
from edgecascade.runtime.batch import Batch, as_batch, rows, size, stacked
from edgecascade.runtime.connect import connect
from edgecascade.runtime.counts import Counts, Tally
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.errors import ArgumentError, InputError, ModelFileError
from edgecascade.runtime.forwarder import Failure, Forwarder
from edgecascade.runtime.merge import merge
from edgecascade.runtime.metadata import Metadata, read_metadata
from edgecascade.runtime.remote import Remote
from edgecascade.runtime.session import model_inputs, open_session

__all__ = ["Cascade"]

_OUTPUTS = ["label", "confidence", "advantage", "forward", "probabilities"]


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
        threshold: float | None,
    ) -> None:
        self.metadata = metadata
        self._session = session
        self._inputs = model_inputs(session, path)
        self._step = self._inputs.batch
        self._deadline = deadline
        self._overrides = {} if threshold is None else {"threshold": np.asarray(threshold, np.float32)}
        self._tally = Tally()
        self._forwarder = None
        if remote is not None:
            self._forwarder = Forwarder(remote, classes=len(metadata.labels), calibrate=metadata.calibrate_remote)

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
        missing = set(_OUTPUTS) - {output.name for output in session.get_outputs()}
        if missing:
            raise ModelFileError(f"{path}: not a cascade model: it lacks the outputs {sorted(missing)}")
        return cls(path, session, metadata, connect(remote, threads=threads), deadline, threshold)

    def predict(
        self, x: ArrayLike | Mapping[str, ArrayLike], *, original: ArrayLike | Mapping[str, ArrayLike] | None = None
    ) -> Answer:
        """The answer to one input, by the deadline.

        Args:
            x: one input as the file declares it, without the batch axis; one array by name if it takes several.
            original: what to send to the remote, if not `x` itself.

        Raises:
            InputError: `x` has another type or shape than the file declares. Nothing else is raised.
        """
        return self.predict_batch(stacked(x), originals=None if original is None else stacked(original))[0]

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
        deadline = Deadline(started + self._deadline)
        batch = as_batch(x)
        feeds = self._inputs.feeds("x", batch)
        n = size(feeds)
        sent = batch if originals is None else as_batch(originals)
        if size(sent) != n:
            raise InputError(f"originals: expected {n}, one per input, got {size(sent)}")
        if n == 0:
            return []
        label, confidence, advantage, forward, probabilities = self._decide(feeds, n)
        if probabilities.shape[1] != len(self.metadata.labels):
            raise ModelFileError(
                f"the file names {len(self.metadata.labels)} classes and gives {probabilities.shape[1]}"
            )
        asked = np.flatnonzero(forward)
        replies = dict(zip(asked.tolist(), self._ask(sent, asked, deadline), strict=True))
        elapsed = time.monotonic() - started
        answers = [
            self._answer(
                Verdict(int(label[i]), float(confidence[i]), probabilities[i]),
                float(advantage[i]),
                replies.get(i),
                elapsed,
            )
            for i in range(n)
        ]
        self._tally.add(answers)
        return answers

    def counts(self) -> Counts:
        """How many answers there were so far, by reason and by source."""
        return self._tally.snapshot()

    def close(self) -> None:
        """Close the remote's connections. Calls under way still get their answers."""
        if self._forwarder is not None:
            self._forwarder.close()

    def __enter__(self) -> Cascade:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _decide(self, feeds: Mapping[str, NDArray[Any]], n: int) -> list[NDArray[Any]]:
        """The graph's five outputs; a file made for batches of one is run once per input."""
        step = self._step or n
        if n % step:
            raise InputError(f"x: expected a multiple of {step} inputs (the file's batch), got {n}")
        if n == step:
            decided: list[NDArray[Any]] = self._session.run(_OUTPUTS, {**feeds, **self._overrides})
            return decided
        parts = [
            self._session.run(_OUTPUTS, {**rows(feeds, slice(i, i + step)), **self._overrides})
            for i in range(0, n, step)
        ]
        return [np.concatenate(columns) for columns in zip(*parts, strict=True)]

    def _ask(self, sent: Batch, asked: NDArray[np.intp], deadline: Deadline) -> list[Verdict | Failure]:
        if len(asked) == 0:
            return []
        if self._forwarder is None:
            return [Failure(Reason.OFFLINE, "no remote was given")] * len(asked)
        return self._forwarder.ask(rows(sent, asked), deadline)

    def _answer(self, local: Verdict, advantage: float, reply: Verdict | Failure | None, elapsed: float) -> Answer:
        final, source, reason, detail = local, Source.LOCAL, Reason.CONFIDENT, ""
        if isinstance(reply, Failure):
            reason, detail = reply.reason, reply.detail
        elif reply is not None:
            final, source = merge(self.metadata.merge, local, reply)
            reason = Reason.NOT_A_NUMBER if np.isnan(local.confidence) else Reason.OFFLOADED
        return Answer(
            label=final.label,
            name=self.metadata.labels[final.label],
            confidence=final.confidence,
            source=source,
            reason=reason,
            advantage=advantage,
            local=local,
            remote=reply if isinstance(reply, Verdict) else None,
            detail=detail,
            elapsed=elapsed,
        )
