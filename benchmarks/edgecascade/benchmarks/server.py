"""A second process that serves an ONNX file: a real remote on this machine."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgecascade.types.errors import BenchmarkError

__all__ = ["free_port", "serving"]

_PATIENCE = 60.0  # seconds for the server to come up


@contextmanager
def serving(model: Path, *, name: str, threads: int, log: Path) -> Iterator[str]:
    """Run `edgecascade serve` on a free port; gives the model's address and stops it at the end.

    Raises:
        BenchmarkError: it did not come up; the message ends with its last line.
    """
    port = free_port()
    command = [sys.executable, "-m", "edgecascade.cli", "serve", str(model)]
    command += ["--name", name, "--port", str(port), "--threads", str(threads)]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        address = f"http://127.0.0.1:{port}/v2/models/{name}"
        _wait_until_ready(f"{address}/ready", process, log)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    last = (log.read_text().strip().splitlines() or ["it said nothing"])[-1]
    raise BenchmarkError(f"the server did not come up: {last}")


def free_port() -> int:
    """A TCP port of this machine that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
