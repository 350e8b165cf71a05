"""A folder with models, and what other programs run, which is not collected."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

collect_ignore = ["check_kserve.py", "onnx_in_triton.py", "run_ray.py"]


@pytest.fixture
def files(pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter a copy of the folder with both models.

    It also has `two.onnx`, a remote of two classes, and `features.onnx`, one that takes other inputs.
    """
    shutil.copytree(pair, tmp_path / "files")
    monkeypatch.chdir(tmp_path / "files")
    two = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["pixels", "sides"], ["means"], keepdims=0),
            helper.make_node("Gather", ["means", "two"], ["logits"], axis=1),
        ],
        "two",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.array([1, 2]), "sides"), numpy_helper.from_array(np.array([0, 1]), "two")],
    )
    onnx.save(helper.make_model(two, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), "two.onnx")
    sides: list[int | str] = ["n", 3]
    x, logits = (helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name in ("x", "logits"))
    three = helper.make_graph([helper.make_node("Identity", ["x"], ["logits"])], "three", [x], [logits])
    onnx.save(helper.make_model(three, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), "features.onnx")
    return tmp_path / "files"
