"""What the other tests allow a busy machine is what it took, and nothing else."""

import sys
import threading
import time
from collections.abc import Callable


def test_a_process_that_stands_still_is_noticed(stalled: Callable[[], float]) -> None:
    """Here because one thread does not let go of the interpreter."""
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


def test_a_wait_is_none(stalled: Callable[[], float]) -> None:
    """However long: a call that waits for something else than the machine gets no allowance for it."""
    lost = []
    for _ in range(5):  # the least of five, since a busy machine may really stand still during one
        before = stalled()
        threading.Event().wait(0.2)
        lost.append(stalled() - before)
    assert min(lost) < 0.1
