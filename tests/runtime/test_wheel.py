"""The wheel alone is what a device installs."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent.parent
USE = """
import numpy as np
from edgecascade.runtime import Cascade

with Cascade.load("local.onnx") as cascade:
    answers = cascade.predict_batch(np.load("images.npy"))
    print(*(answer.name for answer in answers))
    assert cascade.counts().inputs == 6
"""


@pytest.mark.parametrize(
    ("name", "roots"),
    [("edgecascade", ["runtime", "calibration", "export"]), ("edgecascade_benchmarks", ["benchmarks"])],
)
def test_a_wheel_contains_every_file_of_its_parts(wheels: dict[str, Path], name: str, roots: list[str]) -> None:
    """These are modules, templates, schemas and `py.typed` files, and no others."""
    files = {
        path.relative_to(ROOT / root).as_posix()
        for root in roots
        for path in (ROOT / root / "edgecascade").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheels[name]) as wheel:
        assert {file for file in wheel.namelist() if ".dist-info/" not in file} == files


def test_a_device_needs_only_the_wheel(pair: Path, wheels: dict[str, Path], tmp_path: Path) -> None:
    """Installed without extras in its own environment, it runs a cascade file outside the source tree."""

    def run(*command: object) -> str:
        ran = subprocess.run([str(c) for c in command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    wheel = wheels["edgecascade"]
    run(sys.executable, "-m", "venv", tmp_path / "device")
    device = tmp_path / "device" / "bin"
    run(device / "python", "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", f"{wheel}[cpu]")
    installed = {entry["name"] for entry in json.loads(run(device / "python", "-m", "pip", "list", "--format", "json"))}
    assert {"numpy", "onnxruntime", "edgecascade"} <= installed
    assert installed & {"onnx", "torch", "scipy", "pillow", "starlette", "matplotlib", "scikit-learn"} == set()
    parts = next((tmp_path / "device").glob("lib/python*/site-packages/edgecascade"))
    assert sum(file.stat().st_size for file in parts.rglob("*") if file.suffix != ".pyc" and file.is_file()) < 1 << 20
    (tmp_path / "local.onnx").write_bytes((pair / "local.onnx").read_bytes())
    np.save(tmp_path / "images.npy", np.load(pair / "test.npz")["x"][:6])
    assert len(run(device / "python", "-c", USE).split()) == 6
    assert "<- chosen" in run(device / "edgecascade", "inspect", "local.onnx")
    assert len(run(device / "edgecascade", "run", "local.onnx", "images.npy").splitlines()) == 6
    benched = subprocess.run([device / "edgecascade", "bench", "table"], capture_output=True, text=True, check=False)
    assert benched.returncode == 2
    assert benched.stderr == "edgecascade: bench needs edgecascade.benchmarks: pip install 'edgecascade[bench]'\n"
