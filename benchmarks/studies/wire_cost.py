"""CPU time of a forward over REST, ours against tritonclient's, on a real Triton in an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import numpy as np

from edgecascade.benchmarks.ratio import Ratio, ratio
from edgecascade.benchmarks.server import free_port
from edgecascade.types.errors import BenchmarkError

__all__ = ["measure_wire_cost"]

_PACKAGES = ("nvidia-pytriton==0.7.0", "numpy==1.26.4", "onnxruntime==1.23.2")  # pytriton brings tritonclient
_SCRIPT = Path(__file__).with_name("wire_script.py")
_PATIENCE = 60.0  # seconds until the server answers


def measure_wire_cost(cache: Path, *, forwards: int = 500, rounds: int = 15, goal: float = 0.8) -> list[Ratio]:
    """Compare both clients in one process, in turn; for three numbers, and for an image of 588 kB.

    Args:
        cache: The folder of the environment with Triton, its client and the runtime.
        forwards: Forwards in one round.
        rounds: Rounds of each client.
        goal: The goal for the ratio.

    Raises:
        BenchmarkError: The environment cannot be made, or the server does not start.
    """
    python = _environment(cache)
    with _triton(python, cache / "wire.log") as port:
        found = json.loads(_run([python, _SCRIPT, "measure", port, forwards, rounds]))
    return [
        ratio(
            f"CPU of a forward against tritonclient's, {sent}",
            np.array(found[model]["ours"]),
            np.array(found[model]["theirs"]),
            goal=goal,
        )
        for model, sent in (("small", "12 bytes"), ("image", "588 kB"))
    ]


def _environment(cache: Path) -> Path:
    folder = cache / "servers" / f"wire-pytriton-0.7.0-python{sys.version_info[0]}.{sys.version_info[1]}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():  # written last: an interrupted installation starts again
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", folder])
        _run([python, "-m", "pip", "install", "--quiet", "--only-binary=:all:", *_PACKAGES])
        (folder / "ready").touch()
    return python


@contextmanager
def _triton(python: Path, log: Path) -> Iterator[int]:
    http_port, grpc_port = free_port(), free_port()
    libraries = f"{sysconfig.get_config_var('LIBDIR')}:{os.environ.get('LD_LIBRARY_PATH', '')}"  # Triton embeds Python
    with log.open("w") as output:
        process = subprocess.Popen(
            [python, _SCRIPT, "serve", str(http_port), str(grpc_port)],
            env={**os.environ, "LD_LIBRARY_PATH": libraries},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + _PATIENCE
        while not _is_ready(http_port):
            if time.monotonic() > end or process.poll() is not None:
                last = (log.read_text().strip().splitlines() or ["no output"])[-1]
                raise BenchmarkError(f"Triton did not start: {last}")
            time.sleep(0.1)
        yield http_port
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/image/ready", timeout=1):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _run(command: list[object]) -> str:
    roots = os.pathsep.join(str(Path(root).parent) for root in import_module("edgecascade").__path__)
    ran = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, "PYTHONPATH": roots},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise BenchmarkError(f"{command[1]}: {(ran.stderr.strip().splitlines() or ['no output'])[-1]}")
    return ran.stdout.strip().splitlines()[-1] if ran.stdout.strip() else ""
