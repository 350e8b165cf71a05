"""The example in C, compiled and run with the library in the wheel of onnxruntime."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgecascade.runtime import Cascade

ROOT = Path(__file__).parent.parent.parent
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the compiled example.

    The header is that of a release, if `ORT_INCLUDE` names its folder; otherwise the part of it beside these tests.
    """
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    (library,) = (*Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"), None)[:1]
    if compiler is None or library is None:
        pytest.skip("there is no C compiler, or no libonnxruntime.so in the wheel of onnxruntime")
    folder = tmp_path_factory.mktemp("c")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(library)
    include = os.environ.get("ORT_INCLUDE", str(Path(__file__).parent / "c"))
    source = ROOT / "runtime" / "c" / "cascade.c"
    linked = (f"-L{folder}", "-lonnxruntime", f"-Wl,-rpath,{folder}")
    command: list[str | Path] = [compiler, source, *STRICT, f"-I{include}", *linked]
    compiled = subprocess.run(
        [*command, "-o", folder / "cascade"], capture_output=True, text=True, timeout=60, check=False
    )
    assert compiled.returncode == 0, compiled.stderr
    return folder / "cascade"


@pytest.mark.parametrize("threshold", [None, -0.3, 2.0])
def test_it_decides_as_python(program: Path, pair: Path, tmp_path: Path, threshold: float | None) -> None:
    """Labels, forwards and numbers are the same, under another threshold too; it warns of nothing."""
    images = np.load(pair / "test.npz")["x"][:20]
    given = [] if threshold is None else [str(threshold)]
    with Cascade.load(pair / "local.onnx", threshold=threshold) as cascade:
        expected = cascade.predict_batch(images)
    for image, answer in zip(images, expected, strict=True):
        (tmp_path / "image.rgb").write_bytes(image.tobytes())
        command: list[str | Path] = [program, pair / "local.onnx", tmp_path / "image.rgb", "8", "8", *given]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (ran.returncode, ran.stderr) == (0, "")
        _, label, _, confidence, _, advantage, _, forward = ran.stdout.split()
        assert (int(label), bool(int(forward))) == (answer.label, answer.forwarded)
        np.testing.assert_allclose(
            [float(confidence), float(advantage)], [answer.confidence, answer.advantage], atol=1e-6
        )
    assert {one.forwarded for one in expected} == ({True} if threshold == 2.0 else {True, False})


def test_a_file_that_is_no_cascade_is_refused(program: Path, pair: Path, tmp_path: Path) -> None:
    """The error is that of ONNX Runtime, and the exit code 1; an image of another size has its own."""
    (tmp_path / "image.rgb").write_bytes(bytes(192))
    for file, height, said in (
        ("corner.onnx", "8", "Invalid output name"),
        ("local.onnx", "9", "expected 216 bytes"),
        ("local.onnx", "7", "expected 168 bytes"),
    ):
        command: list[str | Path] = [program, pair / file, tmp_path / "image.rgb", height, "8"]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 1
        assert said in ran.stderr


@pytest.mark.parametrize("threshold", ["", "much", "0.1x", "nan"])
def test_a_threshold_that_is_no_number_is_refused(program: Path, pair: Path, tmp_path: Path, threshold: str) -> None:
    """It would be taken for 0."""
    (tmp_path / "image.rgb").write_bytes(bytes(192))
    command: list[str | Path] = [program, pair / "local.onnx", tmp_path / "image.rgb", "8", "8", threshold]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "expected a number" in ran.stderr
