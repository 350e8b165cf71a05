"""The allowance of the other tests for a busy machine equals the time for which it stopped the process."""

import sys
import threading
import time
from collections.abc import Callable


def test_a_stopped_process_is_detected(stalled: Callable[[], float]) -> None:
    """Here one thread holds the interpreter lock."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5)
    try:
        end = time.monotonic() + 0.4
        while time.monotonic() < end:
            pass
    finally:
        sys.setswitchinterval(before)
    time.sleep(0.05)
    assert stalled() > 0.3


def test_waiting_gives_no_allowance(stalled: Callable[[], float]) -> None:
    """A call that waits for anything but the machine gets no allowance, whatever its length."""
    lost = []
    for _ in range(5):  # the least of five, since a busy machine may really stop the process during one
        before = stalled()
        threading.Event().wait(0.2)
        lost.append(stalled() - before)
    assert min(lost) < 0.1
