"""Inputs that come when they come, such as lines that somebody types: each is answered as soon as it can be."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import TypeVar

from edgecascade.runtime.cascade import Cascade
from edgecascade.runtime.run.given import Answered, Given, Refused
from edgecascade.runtime.run.stop import Stop
from edgecascade.runtime.run.stored import AHEAD
from edgecascade.types.errors import InputError

__all__ = ["answer_live", "from_thread"]

T = TypeVar("T")


async def answer_live(
    cascade: Cascade,
    items: AsyncIterator[Given | Refused],
    write: Callable[[Answered | Refused], Awaitable[None]],
    *,
    stop: Stop,
) -> None:
    """Answer inputs in order; none waits for a later one to come.

    Args:
        cascade: that answers.
        items: the inputs, and what could not be read; taken as room allows: back pressure.
        write: is given what became of each.
        stop: no more are taken when it is time to end. Those that are, are still answered.
    """
    room = asyncio.Semaphore(AHEAD)
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
        with stop.telling(lambda: loop.call_soon_threadsafe(taking.cancel)):
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


async def from_thread(chunks: Iterable[Sequence[T]]) -> AsyncIterator[T]:
    """What an iterable gives that may wait as long as it likes, which it does in a thread of its own.

    The thread may be in the middle of a wait when the process ends.
    """
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[Sequence[T] | BaseException | None](1)

    def give(chunk: Sequence[T] | BaseException | None) -> None:
        asyncio.run_coroutine_threadsafe(queue.put(chunk), loop).result()

    def read() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
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


async def _answer(cascade: Cascade, item: Given | Refused) -> Answered | Refused:
    if isinstance(item, Refused):
        return item
    try:
        return Answered(item.name, item.key, await cascade.predict_async(item.x, key=item.key))
    except InputError as error:
        return Refused(item.name, str(error), item.key)
