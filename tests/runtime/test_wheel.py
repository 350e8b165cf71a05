"""The wheel alone is what a device installs."""

import email
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

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


def test_only_the_extras_of_engines_require_a_build_of_onnx_runtime(wheels: dict[str, Path]) -> None:
    """All builds install one package: a required one would be put over the build of a Jetson or another GPU.

    No other extra requires a build, not even by way of an extra of an engine.
    """
    required: dict[str, set[str]] = {}
    for wheel in wheels.values():
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            metadata = email.message_from_bytes(archive.read(name))
        for line in metadata.get_all("Requires-Dist", []):
            requirement = Requirement(line)
            extra = str(requirement.marker or "").partition("extra == ")[2].strip("'\"")
            key = f"{metadata['Name']}[{extra}]"
            wanted = [f"{requirement.name}[{one}]" for one in ("", *requirement.extras)]
            required.setdefault(key, set()).update(wanted)
    engines = {
        key.partition("[")[2].rstrip("]"): {name for name in names if name.startswith("onnxruntime")}
        for key, names in required.items()
        if any(name.startswith("onnxruntime") for name in names)
    }
    assert engines == {
        "cpu": {"onnxruntime[]"},
        "gpu": {"onnxruntime-gpu[]"},
        "directml": {"onnxruntime-directml[]"},
        "openvino": {"onnxruntime-openvino[]"},
        "dev": {"onnxruntime[]"},  # of a checkout
    }
    assert {key for key, names in required.items() if names & {f"edgecascade[{one}]" for one in engines}} == set()
    assert set(required["edgecascade[]"]) == {"numpy[]"}


def test_without_an_engine_the_error_says_how_to_install_one(unpacked: Path) -> None:
    """It names the extra, in Python and in every command that needs the engine."""
    numpy = Path(np.__file__).parent.parent
    code = """
import sys
sys.modules["onnxruntime"] = None
from edgecascade.cli import main
for command in (["inspect", "local.onnx"], ["run", "local.onnx", "x.npy"]):
    assert main(command) == 2
try:
    from edgecascade import Cascade
except ModuleNotFoundError as error:
    print(error, file=sys.stderr)
"""
    environment = {"PYTHONPATH": f"{unpacked}:{numpy}", "PATH": "/usr/bin:/bin"}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd="/", capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert [("pip install 'edgecascade[cpu]'" in line, "onnxruntime" in line) for line in ran.stderr.splitlines()] == [
        (True, True)
    ] * 3


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
    assert wheel.stat().st_size < 1 << 20
    run_there = [file for part in ("runtime", "types") for file in (parts / part).rglob("*") if file.suffix != ".pyc"]
    assert sum(file.stat().st_size for file in run_there if file.is_file()) < 1 << 20
    (tmp_path / "local.onnx").write_bytes((pair / "local.onnx").read_bytes())
    np.save(tmp_path / "images.npy", np.load(pair / "test.npz")["x"][:6])
    assert len(run(device / "python", "-c", USE).split()) == 6
    assert "<- chosen" in run(device / "edgecascade", "inspect", "local.onnx")
    assert len(run(device / "edgecascade", "run", "local.onnx", "images.npy").splitlines()) == 6
    benched = subprocess.run([device / "edgecascade", "bench", "table"], capture_output=True, text=True, check=False)
    assert benched.returncode == 2
    assert benched.stderr == (
        "edgecascade: bench needs edgecascade.benchmarks: pip install 'edgecascade[bench]', or in a checkout of the "
        "source: pip install ./benchmarks\n"
    )
