"""A hostile remote costs its own requests: not the deadline, not the memory, and not the answers of other threads."""

import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from edgecascade.runtime import Cascade, Reason, Source

SERVERS = Path(__file__).parent / "servers"
STATUS = Path("/proc/self/status")
DEADLINE = 0.3
SLACK = 0.25  # allowed for a busy machine
WATCH = """
import select, sys, time
lost, before = 0.0, time.monotonic()
while not select.select([sys.stdin], [], [], 0.005)[0]:
    late, before = time.monotonic() - before - 0.005, time.monotonic()
    lost += late if late > 0.01 else 0
print(lost)
"""
UNSURE, SURE = np.array([0, 0.5, 0], np.float32), np.array([0, 9, 0], np.float32)


@contextmanager
def attacking(scheme: str, attack: str) -> Iterator[str]:
    """Start the server in a process of its own; return the address of its model."""
    script = SERVERS / ("serve_hostile.py" if scheme == "http" else "serve_hostile_grpc.py")
    with subprocess.Popen([sys.executable, str(script), attack], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"{scheme}://127.0.0.1:{server.stdout.readline().strip()}/v2/models/m"
        server.kill()


@contextmanager
def machine() -> Iterator[Callable[[], float]]:
    """Yield a function that ends the watch and returns the seconds for which the machine let nothing run.

    Another process watches: in this one, a thread could not tell a busy machine from a held interpreter.
    """
    with subprocess.Popen([sys.executable, "-c", WATCH], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as watch:
        yield lambda: float(watch.communicate(b"\n")[0])
        watch.kill()


def peak_memory() -> int:
    """Return the most memory that this process has had, in MiB; since `forget_peak`, where the system can."""
    if STATUS.exists():
        (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) >> 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def forget_peak() -> None:
    """Let the peak start at what is in use: an earlier test in this process may have had more."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


OVER_HTTP = [
    *("many lists", "lists", "objects", "numbers", "escapes", "nested", "gzip", "a page of empty lines"),
    *("a page of short lines", "small chunks", "headers", "interim responses", "trailers"),
]
OVER_GRPC = [
    *("huge", "many outputs", "many contents", "many names", "many numbers", "many sides", "deep", "nested", "noise"),
    *("a long number", "a field beyond the end", "large sides", "wrong shape", "text", "integers", "an unknown type"),
    *("not a number", "truncated", "no contents", "empty", "no answer"),
    *("huge metadata", "metadata of many inputs", "metadata of noise"),
]


@pytest.mark.parametrize(
    ("scheme", "attack"), [*(("http", one) for one in OVER_HTTP), *(("grpc", one) for one in OVER_GRPC)]
)
def test_a_hostile_reply_costs_only_its_request(scheme: str, attack: str, file: Path) -> None:
    """Meanwhile inputs that stay on the device are answered as if it were not there."""
    over, waits = threading.Event(), []
    with (
        attacking(scheme, attack) as address,
        Cascade.load(file, remote=address, deadline=DEADLINE) as cascade,
        machine() as stalled,
    ):

        def answer_locally() -> None:
            while not over.wait(0.002):
                begun = time.monotonic()
                assert cascade.predict(SURE).reason is Reason.CONFIDENT
                waits.append(time.monotonic() - begun)

        beside = threading.Thread(target=answer_locally)
        beside.start()
        forget_peak()
        before = peak_memory()
        try:
            answers = [cascade.predict(UNSURE) for _ in range(8)]
        finally:
            over.set()
            beside.join()
        lost = stalled()
    assert peak_memory() - before < 64
    for answer in answers:
        assert (answer.source, answer.name) == (Source.LOCAL, "green")
        assert answer.reason in (Reason.REMOTE_ERROR, Reason.DEADLINE, Reason.CIRCUIT_OPEN)
        assert answer.elapsed < DEADLINE + SLACK + lost
        assert answer.detail
        assert answer.detail.isprintable()
    assert max(waits, default=0) < 0.05 + lost
