"""A cascade, asked as an application asks it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgecascade.benchmarks.latency.recorder import Outcome
from edgecascade.runtime import Answer, Cascade
from edgecascade.runtime.batch import Batch, concatenated, stacked

__all__ = ["HOW", "Cascading"]

HOW = (
    "The cascade is asked as an application would: `predict` in single stream, `predict_batch` in multi stream (or "
    "`stream`, for what is no batch of one shape), `predict_async` in server, `stream` in offline. The model alone "
    "runs one input at a time, eight in one batch in multi stream where it can, the server's in order of arrival."
)


class Cascading:
    """`predict` for single stream; `predict_batch` for multi stream, where the eight fit into one batch, else `stream`;
    `stream` for offline, as for a folder of files; `predict_async` on a loop in a thread of its own for the server.

    In a batch, all answers come together, by one deadline from its start; in a stream, in order, each by its own.

    Args:
        path: a cascade model.
        given: inputs as an application has them.
        merge: what is made of a reply, if not what the file says.
        options: of `Cascade.load`.
    """

    def __init__(
        self, path: str | os.PathLike[str], given: Sequence[Any], *, merge: str | None = None, **options: Any
    ) -> None:
        self._given = given
        self._cascade = Cascade.load(path, **options)
        if merge is not None:
            self._cascade.swap(replace(self._cascade.policy, merge=merge))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def provider(self) -> str:
        """The execution provider that really runs the local model."""
        return self._cascade.provider

    def wake_remote(self, indices: Sequence[int]) -> None:
        """Forward these inputs, whatever the policy, so that the connection is open and the remote has run once."""
        before = self._cascade.swap(replace(self._cascade.policy, threshold=2.0))
        for index in indices:
            self._cascade.predict(self._given[index])
        self._cascade.swap(before)

    def one(self, index: int) -> Outcome:
        """`predict`."""
        return _outcome(self._cascade.predict(self._given[index]))

    def several(self, indices: Sequence[int]) -> Iterator[Outcome]:
        """`predict_batch`, or `stream` for what is no batch: files, and arrays of several shapes."""
        batch = _batch([self._given[index] for index in indices])
        return self.many(indices) if batch is None else map(_outcome, self._cascade.predict_batch(batch))

    def many(self, indices: Sequence[int]) -> Iterator[Outcome]:
        """`stream`."""
        return map(_outcome, self._cascade.stream(self._given[index] for index in indices))

    def submit(self, index: int, done: Callable[[Outcome | BaseException], None]) -> None:
        """`predict_async`."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="cascade loop", daemon=True)
            self._thread.start()
        self._loop.call_soon_threadsafe(self._spawn, index, done)

    def _spawn(self, index: int, done: Callable[[Outcome | BaseException], None]) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(index, done))
        self._tasks.add(task)  # a loop holds its tasks by weak references only
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, index: int, done: Callable[[Outcome | BaseException], None]) -> None:
        try:
            done(_outcome(await self._cascade.predict_async(self._given[index])))
        except BaseException as error:  # whoever waits must hear of it
            done(error)

    def close(self) -> None:
        """Stop the loop, and close the cascade and its connections."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
        self._cascade.close()


def _outcome(answer: Answer) -> Outcome:
    return Outcome(answer.label, answer.reason, answer.elapsed)


def _batch(given: Sequence[Any]) -> Batch | None:
    """Arrays of one shape as one, by name if need be; None if they are something else."""
    if all(isinstance(one, np.ndarray) for one in given):
        return np.stack(given) if len({one.shape for one in given}) == 1 else None
    if all(isinstance(one, dict) for one in given):
        batches = [stacked(one) for one in given]
        shapes = {tuple(array.shape for array in one.values()) for one in batches if isinstance(one, dict)}
        return concatenated(batches) if len(shapes) == 1 else None
    return None
