"""Answer stored inputs as a stream and live ones as they arrive, until a signal ends the run."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TypeVar

from edgecascade.runtime.cascade import Cascade
from edgecascade.runtime.commands.lines import Answered, Given, Refused
from edgecascade.types.answer import Reason
from edgecascade.types.errors import InputError

__all__ = ["FAILED", "REPLIED", "Stop", "answer_live", "answer_stored", "from_thread", "unanswered"]

FAILED = (Reason.DEADLINE, Reason.OFFLINE, Reason.CIRCUIT_OPEN, Reason.REMOTE_ERROR)
REPLIED = (Reason.OFFLOADED, Reason.NOT_A_NUMBER)
_AHEAD = 128  # inputs decided and not answered yet: four requests of 32
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

T = TypeVar("T")


class Stop:
    """Notes the first SIGINT or SIGTERM; a second one ends the process at once. A context manager, used once.

    Attributes:
        signal: number of the signal, or 0 before one has arrived.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._before: dict[signal.Signals, Any] = {}
        self._calls: list[Callable[[], object]] = []

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():  # only there can signals be handled
            for one in _SIGNALS:
                if signal.getsignal(one) is not signal.SIG_IGN:  # as in a background job
                    self._before[one] = signal.signal(one, self._came)
        return self

    def __exit__(self, *_: object) -> None:
        for one, before in self._before.items():
            signal.signal(one, before)

    def __bool__(self) -> bool:
        """Return whether a signal has arrived."""
        return self.signal != 0

    @property
    def exit_code(self) -> int:
        """128 plus the number of the signal, as in shells."""
        return 128 + self.signal

    @contextmanager
    def calling(self, call: Callable[[], object]) -> Iterator[None]:
        """Within this context, call a function when the signal arrives, or at once if it has arrived."""
        self._calls.append(call)
        try:
            if self.signal:
                call()
            yield
        finally:
            self._calls.remove(call)

    def _came(self, number: int, _frame: FrameType | None) -> None:
        if self.signal:
            # Not by an exception: the interpreter would wait for threads in the middle of a request.
            os.write(2, b"edgecascade: interrupted\n")
            os._exit(128 + number)
        self.signal = number
        for call in self._calls:
            call()


def answer_stored(cascade: Cascade, items: Iterable[Given | Refused], stop: Stop) -> Iterator[Answered | Refused]:
    """Yield the answer to each input in order, while many forwards are under way.

    After `stop`, no more items are taken; those already taken are still answered.
    """
    source = _Resumed(items, stop)
    while not source.ended:
        try:
            for answer in cascade.stream(source, keys=source.keys(), ahead=_AHEAD):
                one = source.taken.popleft()
                yield Answered(one.name, one.key, answer)
        except InputError as error:  # those before it have been answered, so it is the only one left
            one = source.taken.popleft()
            yield Refused(one.name, str(error), one.key)
        if source.refused is not None:
            yield source.refused


class _Resumed:
    """Yields the inputs, and pauses at each that could not be read until it is iterated over again."""

    def __init__(self, items: Iterable[Given | Refused], stop: Stop) -> None:
        self._items, self._stop = iter(items), stop
        self.taken: deque[Given] = deque()
        self.refused: Refused | None = None
        self.ended = False

    def __iter__(self) -> Iterator[Any]:
        self.refused = None
        while not self._stop:
            one = next(self._items, None)
            if one is None:
                break
            if isinstance(one, Refused):
                self.refused = one
                return
            self.taken.append(one._replace(x=None))
            yield one.x
        self.ended = True

    def keys(self) -> Iterator[str | None]:
        """Yield the key of the input that was taken last, each time."""
        while True:
            yield self.taken[-1].key


async def answer_live(
    cascade: Cascade,
    items: AsyncIterator[Given | Refused],
    write: Callable[[Answered | Refused], Awaitable[None]],
    stop: Stop,
) -> None:
    """Write the answer to each input in order, without waiting for a later input to arrive.

    Items are taken while there is room, which gives back pressure. After `stop`, no more items are taken; those already
    taken are still answered.
    """
    room = asyncio.Semaphore(_AHEAD)
    started: asyncio.Queue[asyncio.Task[Answered | Refused] | None] = asyncio.Queue()

    async def take() -> None:
        try:
            async for item in items:
                await room.acquire()
                started.put_nowait(asyncio.create_task(_answer(cascade, item)))
        finally:
            started.put_nowait(None)

    loop, taking = asyncio.get_running_loop(), asyncio.create_task(take())
    try:
        with stop.calling(lambda: loop.call_soon_threadsafe(taking.cancel)):
            while (one := await started.get()) is not None:
                await write(await one)
                room.release()
            with suppress(asyncio.CancelledError):
                await taking
    finally:
        taking.cancel()
        while not started.empty():
            left = started.get_nowait()
            if left is not None:
                left.cancel()


async def _answer(cascade: Cascade, item: Given | Refused) -> Answered | Refused:
    if isinstance(item, Refused):
        return item
    try:
        return Answered(item.name, item.key, await cascade.predict_async(item.x, key=item.key))
    except InputError as error:
        return Refused(item.name, str(error), item.key)


async def from_thread(chunks: Iterable[Sequence[T]]) -> AsyncIterator[T]:
    """Yield the items of a blocking iterable, which runs in a daemon thread."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[Sequence[T] | BaseException | None](1)

    def give(chunk: Sequence[T] | BaseException | None) -> None:
        waiting = queue.put(chunk)
        try:
            asyncio.run_coroutine_threadsafe(waiting, loop).result()
        finally:
            waiting.close()  # of a loop that is closed, which would warn that nothing waits for it

    def read() -> None:
        with suppress(RuntimeError):  # the loop is closed
            try:
                for chunk in chunks:
                    give(chunk)
                give(None)
            except Exception as error:
                give(error)

    threading.Thread(target=read, name="edgecascade-read", daemon=True).start()
    while (chunk := await queue.get()) is not None:
        if isinstance(chunk, BaseException):
            raise chunk
        for one in chunk:
            yield one


def unanswered(counts: Mapping[Reason, int]) -> int:
    """Return how many forwards failed, if the remote replied to none."""
    return 0 if any(counts.get(reason) for reason in REPLIED) else sum(counts.get(reason, 0) for reason in FAILED)
