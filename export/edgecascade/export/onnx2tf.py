"""The converter onnx2tf, which the user installs: it pins every package it needs, to versions unlike ours."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import onnx
from onnx import ModelProto

from edgecascade.types.errors import ExportError

__all__ = ["convert", "converter_command"]

_TIMEOUT = 600  # seconds
_HOW_TO_INSTALL = (
    "install it with `pipx install onnx2tf==2.6.9`, or into an environment of its own and give that environment's "
    "command with --converter"
)


def convert(model: ModelProto, converter: str | None = None) -> bytes:
    """Convert an ONNX model of fixed shapes to a `.tflite` flatbuffer; its inputs keep their names and layout.

    Args:
        model: the ONNX model.
        converter: the command that runs onnx2tf, as `converter_command` takes it.

    Raises:
        ExportError: onnx2tf is not installed, or cannot convert the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "model.onnx")
        onnx.save(model, source)
        inputs = [one.name for one in model.graph.input]
        command = [*converter_command(converter), "-i", str(source), "-o", folder, "-n", "-kat", *inputs]
        try:
            done = subprocess.run(
                command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT
            )
            said = done.stdout + done.stderr
        except (OSError, subprocess.TimeoutExpired) as error:
            said = str(error)
        written = Path(folder, "model_float32.tflite")
        if not written.is_file():
            raise ExportError(f"model: onnx2tf cannot convert it: {_reason(said)}")
        return written.read_bytes()


def converter_command(converter: str | None = None) -> list[str]:
    """Return the command that runs onnx2tf.

    Args:
        converter: a path or a command, such as `/opt/onnx2tf/bin/python -m onnx2tf`. By default onnx2tf is run from
            the environment of this process, or else from the search path.

    Raises:
        ExportError: there is no such command, or onnx2tf is not installed.
    """
    if converter is not None:
        command = [converter] if Path(converter).is_file() else shlex.split(converter)
        found = shutil.which(command[0]) if command else None
        if found is None:
            raise ExportError(
                f"--converter: expected a command that runs onnx2tf, got {converter!r}, which is not found"
            )
        return [str(Path(found).absolute()), *command[1:]]
    if find_spec("onnx2tf") is not None:
        return [sys.executable, "-m", "onnx2tf"]
    found = shutil.which("onnx2tf")
    if found is None:
        raise ExportError(f"the converter onnx2tf is not installed; {_HOW_TO_INSTALL}")
    return [str(Path(found).absolute())]


def _reason(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["it gave no reason"])[-1]
