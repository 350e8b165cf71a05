"""The model alone: a session of the same file, without the runtime around it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from edgecascade.benchmarks.latency.recorder import Outcome
from edgecascade.runtime.batch import concatenated, stacked
from edgecascade.runtime.engine import open_session
from edgecascade.runtime.local_model import OUTPUTS
from edgecascade.runtime.model_inputs import model_inputs

__all__ = ["Bare"]

Feeds = dict[str, NDArray[Any]]


class Bare:
    """Runs inputs that were decoded, tokenized and batched beforehand.

    Its outputs go to buffers that were made once and bound, where the engine has such.

    Single stream, server and offline run one input at a time, as the cascade does with what comes one by one; multi
    stream runs its eight in one batch, if the file takes batches of any size and they have one shape. The server's
    queue is one thread that runs them in the order of arrival.

    Args:
        path: a cascade model.
        given: inputs as an application has them.
        options: of `open_session`.
    """

    def __init__(self, path: str | os.PathLike[str], given: Sequence[Any], **options: Any) -> None:
        self._session: Any = open_session(path, **options)
        inputs = model_inputs(self._session, path)
        self._batched = inputs.batch is None
        # A file's pixels, a sentence's tokens: what the runtime would make of each input before it runs the graph.
        self._feeds = [inputs.feeds("x", stacked(inputs.read(x)[0])) for x in given]
        self._bound = _Bound(self._session, self._feeds[0]) if hasattr(self._session, "io_binding") else None
        self._queue = ThreadPoolExecutor(1, thread_name_prefix="bare")

    @property
    def provider(self) -> str:
        """The execution provider that really runs it."""
        return str(self._session.get_providers()[0])

    def one(self, index: int) -> Outcome:
        """One run."""
        if self._bound is not None:
            return Outcome(self._bound(self._feeds[index]))
        return Outcome(int(self._session.run(OUTPUTS, self._feeds[index])[0][0]))

    def several(self, indices: Sequence[int]) -> Iterator[Outcome]:
        """One run of all, if they are a batch; else one after the other."""
        feeds = [self._feeds[index] for index in indices]
        if self._batched and len({tuple(array.shape for array in one.values()) for one in feeds}) == 1:
            labels = self._session.run(OUTPUTS, concatenated(feeds))[0]
            return iter([Outcome(int(label)) for label in labels])
        return self.many(indices)

    def many(self, indices: Sequence[int]) -> Iterator[Outcome]:
        """One run after the other."""
        return map(self.one, indices)

    def submit(self, index: int, done: Callable[[Outcome | BaseException], None]) -> None:
        """Wait in line."""
        self._queue.submit(self._answer, index, done)

    def _answer(self, index: int, done: Callable[[Outcome | BaseException], None]) -> None:
        try:
            done(self.one(index))
        except BaseException as error:  # whoever waits must hear of it
            done(error)

    def close(self) -> None:
        """Let those in line go first."""
        self._queue.shutdown()


class _Bound:
    """One run at a time, into the same buffers."""

    def __init__(self, session: Any, example: Feeds) -> None:
        self._run, self._binding = session.run_with_iobinding, session.io_binding()
        first = session.run(OUTPUTS, example)
        self._kept = [ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array)) for array in first]
        for name, value in zip(OUTPUTS, self._kept, strict=True):
            self._binding.bind_ortvalue_output(name, value)

    def __call__(self, feeds: Feeds) -> int:
        for name, array in feeds.items():
            self._binding.bind_cpu_input(name, array)
        self._run(self._binding)
        return int(self._kept[0].numpy()[0])
