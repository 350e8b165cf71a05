"""The converter onnx2tf, in an environment of its own: it pins every package it needs, to versions unlike ours."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx
from onnx import ModelProto

from edgecascade.export.cache import cache_folder
from edgecascade.types.errors import ExportError

__all__ = ["convert"]

_ONNX2TF = "onnx2tf==2.6.9"
_PATIENCE = 600  # seconds


def convert(model: ModelProto) -> bytes:
    """The `.tflite` flatbuffer of an ONNX model of fixed shapes; inputs keep their names and layout.

    The first call makes the environment (700 MB, under a minute) in the user's cache folder.

    Raises:
        ExportError: the environment cannot be made, or the converter refuses the model.
    """
    python = _environment()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "model.onnx")
        onnx.save(model, source)
        kept = [one.name for one in model.graph.input]
        command = [python, "-m", "onnx2tf", "-i", source, "-o", folder, "-n", "-kat", *kept]
        said = _run([str(part) for part in command], folder)
        written = Path(folder, "model_float32.tflite")
        if not written.is_file():
            raise ExportError(f"model: onnx2tf cannot convert it: {_reason(said)}")
        return written.read_bytes()


def _environment() -> Path:
    """Its Python; `ready` is written last, so that an interrupted installation is begun anew."""
    folder = cache_folder() / f"{_ONNX2TF.replace('==', '-')}-python{sys.version_info[0]}.{sys.version_info[1]}"
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    if not (folder / "ready").exists():
        print(f"installing {_ONNX2TF} into {folder} (once; 700 MB)", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        made = _run([sys.executable, "-m", "venv", str(folder)])
        # It asks for Python 3.12 and runs on 3.11 all the same; parity is checked whatever it runs on.
        quiet = ["--quiet", "--disable-pip-version-check", "--ignore-requires-python"]
        said = _run([str(python), "-m", "pip", "install", *quiet, _ONNX2TF]) if python.exists() else made
        if _run([str(python), "-c", "import onnx2tf"]) is None:
            raise ExportError(f"{_ONNX2TF} could not be installed into {folder}: {_reason(said)}")
        (folder / "ready").touch()
    return python


def _run(command: list[str], folder: str | None = None) -> str:
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stdout + done.stderr


def _reason(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["no explanation"])[-1]
