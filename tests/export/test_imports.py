"""The extra `export` calibrates without torch or any other package that only some sources need."""

import subprocess
import sys
from pathlib import Path

import pytest

BEYOND = "torch,onnxscript,sympy,jsonschema,optimum,transformers,platformdirs,pyarrow,matplotlib,sklearn,ai_edge_litert"
WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from edgecascade.cli import main
sys.exit(main(sys.argv[2:]))
"""


def without(packages: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command in a process in which these packages cannot be imported."""
    command = [sys.executable, "-c", WITHOUT, packages, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("calibrate", "corner.onnx", "--remote", "remote.onnx", "--data", "calibration.npz", "--offload-rate", "0.3"),
        ("recalibrate", "local.onnx", "--remote", "remote.onnx", "--data", "test.npz", "--offload-rate", "0.1"),
        ("recalibrate", "local.onnx", "--offload-rate", "0.1"),
        ("export", "corner.onnx", "--int8", "test.npz"),
        ("export", "corner.onnx", "--float16"),
        ("compare", "corner.onnx", "remote.onnx", "--data", "test.npz"),
    ],
    ids=" ".join,
)
def test_the_light_install_is_enough(pair: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Calibration needs only onnx, scipy, Pillow and the packages of the runtime."""
    found = [str(pair / one) if one.endswith((".onnx", ".npz")) else one for one in arguments]
    out = () if arguments[0] == "compare" else ("-o", tmp_path / "out.onnx")
    ran = without(BEYOND, *found, *out)
    assert ran.returncode == 0, ran.stderr
    assert not out or (tmp_path / "out.onnx").exists()


def test_a_torch_module_without_torch_names_the_extra(tmp_path: Path) -> None:
    """The error names the missing extra and does not blame the module."""
    (tmp_path / "nets.py").write_text("import torch\n\nnet = torch.nn.Linear(2, 3)\n")
    ran = without("torch", "export", f"{tmp_path / 'nets.py'}:net", "--shape", "2", "-o", tmp_path / "out.onnx")
    assert ran.returncode == 2
    assert "edgecascade[torch]" in ran.stderr
