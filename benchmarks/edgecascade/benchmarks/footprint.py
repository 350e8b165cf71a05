"""What the device pays before the first input: import, memory, and what lies on its disk."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.ratio import Ratio, ratio
from edgecascade.calibration import quantile
from edgecascade.types.estimate import Estimate

__all__ = ["installed_size", "measure_import", "measure_memory"]

_IMPORT = "import time; a = time.perf_counter(); {}; print(time.perf_counter() - a)"
_THEIRS = "import onnxruntime"
_OURS = "from edgecascade.runtime import Cascade"
_BARE = """
import onnxruntime as ort, numpy as np, sys
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
options.log_severity_level = 3
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
x = np.load(sys.argv[2], allow_pickle=False)
for _ in range(200):
    session.run(None, {session.get_inputs()[0].name: x[None]})
"""
_CASCADE = """
from edgecascade.runtime import Cascade
import numpy as np, sys
cascade = Cascade.load(sys.argv[1], threshold=-2.0)
x = np.load(sys.argv[2], allow_pickle=False)
for _ in range(200):
    cascade.predict(x)
"""
# Not getrusage's figure: a new process inherits that from the one that starts it.
_RESIDENT = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"


def measure_import(rounds: int = 41, goal: float = 1.10) -> Ratio:
    """Importing `Cascade` against importing onnxruntime, in turn, in new processes; compiled, as pip leaves them."""
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as compiled:
        for _ in range(rounds + 1):
            theirs.append(float(_python(_IMPORT.format(_THEIRS), compiled=compiled)))
            ours.append(float(_python(_IMPORT.format(_OURS), compiled=compiled)))
    return ratio(
        "import Cascade against import onnxruntime",
        np.array(ours[1:]),  # the first of each compiles
        np.array(theirs[1:]),
        goal=goal,
        unit="ms",
        scale=1e3,
    )


def measure_memory(path: str | os.PathLike[str], x: NDArray[Any], rounds: int = 7) -> tuple[Estimate, Estimate]:
    """Resident MiB at most of a process that answers by `predict`, and of one with a bare session of the same file.

    On Linux only, which tells.

    Args:
        path: a cascade model with one input.
        x: one input; each process answers it 200 times.
        rounds: processes of each, in turn.
    """
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        saved = os.path.join(folder, "x.npy")
        np.save(saved, x)
        for _ in range(rounds):
            theirs.append(int(_python(_BARE + _RESIDENT, os.fspath(path), saved)) / 1024)
            ours.append(int(_python(_CASCADE + _RESIDENT, os.fspath(path), saved)) / 1024)
    return quantile(np.array(ours), 0.5), quantile(np.array(theirs), 0.5)


def installed_size() -> float:
    """MiB of the files that `pip install edgecascade` unpacks, before Python compiles them: all but the benchmarks."""
    namespace = (Path(root) for root in import_module("edgecascade").__path__)
    files = ((file, root) for root in namespace for file in root.rglob("*") if file.is_file())
    own = (file for file, root in files if file.relative_to(root).parts[0] != "benchmarks" and file.suffix != ".pyc")
    return sum(file.stat().st_size for file in own) / 2**20


def _python(code: str, *arguments: str, compiled: str | None = None) -> str:
    """What a new Python prints that runs this code, and keeps what it compiles in a folder, if one is given."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    if compiled is not None:
        environment["PYTHONPYCACHEPREFIX"] = compiled
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()
