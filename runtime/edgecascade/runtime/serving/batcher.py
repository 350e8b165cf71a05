"""Run requests together that wait for the same model, as soon as it is free: dynamic batching without a delay."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

__all__ = ["Batcher", "Batching"]

T = TypeVar("T")
R = TypeVar("R")


class Batching(NamedTuple):
    """How requests for a model are run.

    Attributes:
        most: most inputs of several requests in one batch; a request of more runs alone.
        instances: most batches that run at once.
    """

    most: int = 32
    instances: int = 1


class _Waiting(NamedTuple):
    item: Any
    kind: Hashable
    rows: int
    done: asyncio.Future[Any]


class Batcher(Generic[T, R]):
    """Collects requests while batches are run, on one event loop.

    The oldest request goes first, and takes with it those of its kind that fit into its batch.

    Args:
        run: returns for every request of a batch its result or its error; called in threads of this object.
        batching: the largest batch, and how many run at once.
    """

    def __init__(self, run: Callable[[Sequence[T]], Sequence[R | Exception]], batching: Batching) -> None:
        self._run, self._batching = run, batching
        self._threads = ThreadPoolExecutor(batching.instances, thread_name_prefix="edgecascade-batch")
        self._waiting: deque[_Waiting] = deque()
        self._running = 0
        self.batches = self.rows = 0

    async def __call__(self, item: T, *, kind: Hashable, rows: int) -> R:
        """Return the result of a request, or raise its error.

        Args:
            item: the request.
            kind: is equal for requests that can run together; None lets this one run alone.
            rows: number of its inputs.
        """
        done: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(item, kind, rows, done))
        self._start()
        return await done

    def _start(self) -> None:
        while self._running < self._batching.instances and (batch := self._next()):
            self._running += 1
            self.batches, self.rows = self.batches + 1, self.rows + sum(one.rows for one in batch)
            items = [one.item for one in batch]
            ran = asyncio.get_running_loop().run_in_executor(self._threads, self._run, items)
            ran.add_done_callback(partial(self._settle, batch))

    def _next(self) -> list[_Waiting]:
        """Return the next batch; it is empty if no request waits."""
        batch: list[_Waiting] = []
        passed: list[_Waiting] = []
        room = self._batching.most
        while self._waiting and (room > 0 or not batch):
            one = self._waiting.popleft()
            if one.done.done():  # its client is gone
                continue
            if not batch or (one.kind == batch[0].kind and one.rows <= room):
                batch.append(one)
                room = 0 if one.kind is None else room - one.rows
            else:
                passed.append(one)
        self._waiting.extendleft(reversed(passed))
        return batch

    def _settle(self, batch: Sequence[_Waiting], ran: asyncio.Future[Sequence[R | Exception]]) -> None:
        self._running -= 1
        try:
            results: Sequence[Any] = ran.result()
        except (Exception, asyncio.CancelledError) as error:
            results = [error] * len(batch)
        for one, result in zip(batch, results, strict=True):
            if one.done.done():
                continue
            if isinstance(result, BaseException):
                one.done.set_exception(result)
            else:
                one.done.set_result(result)
        self._start()
