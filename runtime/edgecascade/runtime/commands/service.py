"""Run under a service manager: say when it is ready, feed its watchdog, and take new files.

The messages are those of systemd: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from edgecascade.types.errors import ArgumentError, EdgecascadeError

if TYPE_CHECKING:
    from edgecascade.runtime.cascade import Cascade

__all__ = ["Reloads", "Watchdog", "notify"]

_LOG = logging.getLogger("edgecascade.service")
_PATIENCE = 30.0  # seconds for a file that is being loaded when the service ends
_HANG_UP = getattr(signal, "SIGHUP", None)  # Windows has none


def notify(*lines: str) -> None:
    """Send lines such as `READY=1` to the service manager, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(1.0)
        manager.sendto("\n".join(lines).encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)


class Watchdog:
    """Feeds the service manager's watchdog as long as the local model runs, and the event loop goes round.

    Args:
        cascade: whose model is run on a golden input, twice in the watchdog's interval; None runs nothing.
    """

    def __init__(self, cascade: Cascade | None) -> None:
        self._cascade = cascade
        self._went_round: float | None = None  # None: there is no event loop

    def tick(self) -> None:
        """Report that the event loop goes round; call it some times a second."""
        self._went_round = time.monotonic()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within this context, feed the watchdog; does nothing without one."""
        given, process = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
        if not given.isdecimal() or int(given) == 0 or process not in ("", str(os.getpid())):
            yield
            return
        seconds, ended = int(given) / 1e6, threading.Event()

        def feed() -> None:
            while not ended.is_set():
                try:
                    if self._works(seconds):
                        notify("WATCHDOG=1")
                except Exception as error:
                    _LOG.warning("the model fails for a golden input: %s; the watchdog is not fed", error)
                ended.wait(seconds / 2)

        feeding = threading.Thread(target=feed, name="edgecascade-watchdog", daemon=True)
        feeding.start()
        try:
            yield
        finally:
            ended.set()
            feeding.join(seconds)

    def _works(self, seconds: float) -> bool:
        if self._cascade is not None:
            with suppress(ArgumentError):  # the file has no golden inputs
                self._cascade.warm_up()
        return self._went_round is None or time.monotonic() - self._went_round < seconds


class Reloads:
    """Takes a new file on SIGHUP, and when it changes if asked; a context manager, entered before the file is loaded.

    A signal that comes while a file is being loaded, the first or a later one, leads to another look afterwards. A
    signal that is ignored, as under nohup, stays ignored.

    Args:
        path: of the cascade file.
        every: seconds between two looks at the file, which is taken once it is the same in both; None never looks.
        say: shows a sentence.
    """

    def __init__(self, path: str, every: float | None, say: Callable[[str], None]) -> None:
        self._path, self._every, self._say = path, every, say
        self._asked: SimpleQueue[bool] = SimpleQueue()  # a signal handler may put, while another one does
        self._in_use = _stamp(path)
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Reloads:
        self._handles = _HANG_UP is not None and signal.getsignal(_HANG_UP) is signal.SIG_DFL
        self._handles = self._handles and threading.current_thread() is threading.main_thread()
        if _HANG_UP is not None and self._handles:
            signal.signal(_HANG_UP, lambda *_: self._asked.put(True))
        return self

    def __exit__(self, *_: object) -> None:
        self._asked.put(False)
        if self._thread is not None:
            self._thread.join(_PATIENCE)
        if _HANG_UP is not None and self._handles:
            signal.signal(_HANG_UP, signal.SIG_DFL)

    def start(self, cascade: Cascade) -> None:
        """Begin to take new files for a cascade."""
        self._thread = threading.Thread(target=self._work, args=(cascade,), name="edgecascade-reload", daemon=True)
        self._thread.start()

    def _work(self, cascade: Cascade) -> None:
        seen = self._in_use
        while True:
            try:
                if not self._asked.get(timeout=self._every):
                    return
                while not self._asked.empty():  # all that came until now
                    if not self._asked.get():
                        return
            except Empty:
                now = _stamp(self._path)
                if now in (None, self._in_use) or now != seen:
                    seen = now
                    continue
            self._in_use = seen = _stamp(self._path)  # before it is read: what is written meanwhile is another
            self._take(cascade)

    def _take(self, cascade: Cascade) -> None:
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            cascade.reload()
        except Exception as error:
            why = str(error) if isinstance(error, EdgecascadeError) else type(error).__name__
            said = f"kept the file in use: {why}"
            _LOG.warning("%s", said)
        else:
            said = f"took the new file: {os.path.abspath(self._path)}: it decides about its golden inputs as calibrated"
            self._say(said)
        notify("READY=1", f"STATUS={said.splitlines()[0]}")


def _stamp(path: str) -> tuple[int, int, int] | None:
    """Return what changes when a file does, or None while there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
