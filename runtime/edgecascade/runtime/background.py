"""Run jobs in threads that neither a caller with a deadline nor the interpreter's exit waits for."""

from __future__ import annotations

import atexit
import os
from _thread import RLock, allocate_lock
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future
    from threading import Thread

T = TypeVar("T")

__all__ = ["Background", "DaemonPool"]

_IDLE = 10.0  # seconds after which a thread without work ends


class Background:
    """One daemon thread that runs jobs in the order given. It starts with the first job and ends with `close`.

    At the interpreter's exit, the waiting jobs are still run. In a fork of the process there is no thread, and no job
    runs.

    Args:
        name: name of the thread.
        patience: seconds that `close` waits for the jobs.
        each: whether it waits so long for each job, and so as long as they make progress.
    """

    def __init__(self, name: str, *, patience: float = 1.0, each: bool = False) -> None:
        self._name, self._patience, self._each = name, patience, each
        self._process = os.getpid()
        self._jobs: deque[Callable[[], object]] = deque()
        self._lock, self._wake = RLock(), allocate_lock()  # a signal handler may close it while it holds the lock
        self._wake.acquire()
        self._thread: Thread | None = None
        self.closed = False

    def run(self, job: Callable[[], object], *, most: int | None = None) -> bool:
        """Schedule `job`, unless `most` jobs wait; return whether it was accepted. Its exceptions are dropped."""
        with self._lock:
            if self.closed or (most is not None and len(self._jobs) >= most):
                return False
            if self._thread is None and not self._start():
                return False
            self._jobs.append(job)
            self._notify()
        return True

    def close(self) -> None:
        """Run the waiting jobs, and end the thread. From then on, `run` refuses every job.

        If they take longer than `patience`, they go on while the process lives.
        """
        if os.getpid() != self._process:
            return
        with self._lock:
            self.closed = True
            thread = self._thread
            self._notify()
        atexit.unregister(self.close)
        if thread is not None:
            from threading import current_thread

            left = len(self._jobs) + 1
            while thread is not current_thread() and thread.is_alive() and len(self._jobs) < left:
                left = len(self._jobs) if self._each else 0
                thread.join(self._patience)

    def _start(self) -> bool:
        from threading import Thread

        thread = Thread(target=self._work, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left, or the interpreter is exiting
            return False
        self._thread = thread
        atexit.register(self.close)
        return True

    def _notify(self) -> None:
        if self._wake.locked():
            self._wake.release()

    def _work(self) -> None:
        while True:
            self._wake.acquire()
            while self._jobs:
                with suppress(BaseException):
                    self._jobs.popleft()()
            if self.closed:
                return


class DaemonPool:
    """Daemon threads that run calls, where a `ThreadPoolExecutor` would delay the exit until each call has returned.

    Args:
        most: largest number of threads.
        name: name of the threads.
    """

    def __init__(self, most: int, name: str) -> None:
        from concurrent import futures
        from threading import Condition

        self._future = futures.Future[Any]  # imported here: the first call has a deadline
        self._most, self._name = most, name
        self._came = Condition()
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._threads = self._idle = 0
        self._closed = False

    def submit(self, function: Callable[..., T], *given: Any) -> Future[T]:
        """Schedule a call.

        Raises:
            RuntimeError: the pool was closed, or no thread can be started.
        """
        from threading import Thread

        future: Future[T] = self._future()
        with self._came:
            if self._closed:
                raise RuntimeError("the pool was closed")
            if self._idle <= len(self._calls) and self._threads < self._most:
                Thread(target=self._work, name=self._name, daemon=True).start()
                self._threads += 1
            self._calls.append((future, lambda: function(*given)))
            self._came.notify()
        return future

    def close(self) -> None:
        """Cancel the calls that wait. Those under way end by themselves."""
        with self._came:
            self._closed = True
            waiting, self._calls = self._calls, deque()
            self._came.notify_all()
        for future, _ in waiting:
            future.cancel()

    def _work(self) -> None:
        while True:
            with self._came:
                self._idle += 1
                self._came.wait_for(lambda: self._calls or self._closed, _IDLE)
                self._idle -= 1
                if not self._calls:
                    self._threads -= 1
                    return
                future, call = self._calls.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:  # the caller raises it
                    future.set_exception(error)
            del future, call
