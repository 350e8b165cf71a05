"""A folder with models, and what other programs run, which is not collected."""

import shutil
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

collect_ignore = ["check_kserve.py", "onnx_in_triton.py"]


@pytest.fixture
def files(pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter a copy of the folder with both models, and with `two.onnx`, a remote of two classes."""
    shutil.copytree(pair, tmp_path / "files")
    monkeypatch.chdir(tmp_path / "files")
    two = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["logits"])],
        "two",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])],
    )
    onnx.save(helper.make_model(two, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), "two.onnx")
    return tmp_path / "files"
