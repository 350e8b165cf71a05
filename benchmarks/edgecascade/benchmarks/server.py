"""A second process that serves an ONNX file, as a real remote on this machine."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgecascade.types.errors import BenchmarkError

__all__ = ["free_port", "serving", "wait_until_ready"]

_PATIENCE = 60.0  # seconds until the server answers


@contextmanager
def serving(model: Path, *, name: str, threads: int, log: Path, further: Sequence[str] = ()) -> Iterator[str]:
    """Run `edgecascade serve` on a free port; give the address of the model, and stop the server at the end.

    Args:
        model: The ONNX file.
        name: The name of the model in its address.
        threads: The number of threads of its session.
        log: The file for its output.
        further: Other arguments of the command.

    Raises:
        BenchmarkError: The server did not start; the message ends with its last line.
    """
    port = free_port()
    command = [sys.executable, "-m", "edgecascade.cli", "serve", str(model)]
    command += ["--name", name, "--port", str(port), "--threads", str(threads), *further]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        address = f"http://127.0.0.1:{port}/v2/models/{name}"
        wait_until_ready(f"{address}/ready", process, log)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers at an address.

    Raises:
        BenchmarkError: It ended, or does not answer; the message ends with the last line of its log.
    """
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    last = (log.read_text(errors="replace").strip().splitlines() or ["no output"])[-1]
    raise BenchmarkError(f"the server did not start: {last}")


def free_port() -> int:
    """Return a TCP port of this machine that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
