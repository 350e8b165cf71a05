"""Untrusted files: no code is run, no file outside their folder is read, and a refusal is one sentence."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgecascade.export import ExportError, load_model
from edgecascade.runtime import Cascade, EdgecascadeError, ModelFileError

Body = Callable[..., ModelProto]


def _with_external_data(location: str) -> ModelProto:
    tensor = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[3, 3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["z", "weight"], ["logits"])],
        "external",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [tensor],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize("location", ["../secret.bin", "{}/secret.bin", "a/../../secret.bin", "link.bin"])
def test_external_data_cannot_point_outside_the_folder(tmp_path: Path, location: str) -> None:
    """A relative path upwards, an absolute path and a link are all refused."""
    (tmp_path / "secret.bin").write_bytes(np.eye(3, dtype=np.float32).tobytes())
    (tmp_path / "model" / "a").mkdir(parents=True)
    (tmp_path / "model" / "link.bin").symlink_to(tmp_path / "secret.bin")
    path = tmp_path / "model" / "m.onnx"
    path.write_bytes(_with_external_data(location.format(tmp_path)).SerializeToString())
    with pytest.raises(ExportError, match=r"m\.onnx: not a valid ONNX model: ") as refusal:
        load_model(path)
    assert "\n" not in str(refusal.value)
    with pytest.raises(EdgecascadeError):
        Cascade.load(path)


def test_external_data_beside_the_file_is_read(tmp_path: Path) -> None:
    """Large models store their weights in a file beside the model."""
    (tmp_path / "weight.bin").write_bytes(np.eye(3, dtype=np.float32).tobytes())
    (tmp_path / "m.onnx").write_bytes(_with_external_data("weight.bin").SerializeToString())
    assert len(load_model(tmp_path / "m.onnx").graph.initializer) == 1


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.floats(0, 1), junk=st.binary(min_size=1, max_size=40))
def test_a_corrupted_file_is_read_or_refused(pair: Path, tmp_path: Path, start: float, junk: bytes) -> None:
    """With junk bytes anywhere in the file, loading returns a cascade or raises an error of edgecascade."""
    content = bytearray((pair / "local.onnx").read_bytes())
    at = int(start * (len(content) - len(junk)))
    content[at : at + len(junk)] = junk
    (tmp_path / "junk.onnx").write_bytes(bytes(content))
    for load in (Cascade.load, load_model):
        with contextlib.suppress(EdgecascadeError):
            load(tmp_path / "junk.onnx")


def test_a_body_that_is_a_pickle_is_refused(tmp_path: Path) -> None:
    """A file in torch's pickle format is refused as invalid ONNX, and its code is not run."""
    import torch

    torch.save(torch.nn.Linear(2, 2), tmp_path / "m.onnx")
    with pytest.raises(ExportError, match="not a valid ONNX model"):
        load_model(tmp_path / "m.onnx")


def test_loading_a_damaged_file_prints_nothing(pair: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Standard output belongs to the application."""
    content = (pair / "local.onnx").read_bytes()
    for junk in (b"\xff", b"\x00", b"\xff\xff\xff\xff"):
        for at in range(0, len(content), len(content) // 40):
            (tmp_path / "junk.onnx").write_bytes(content[:at] + junk + content[at + len(junk) :])
            with contextlib.suppress(EdgecascadeError):
                Cascade.load(tmp_path / "junk.onnx")
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("name", ["label", "advantage"])
def test_outputs_of_another_shape_are_refused(pair: Path, tmp_path: Path, name: str) -> None:
    """A damaged graph that gives several labels or numbers for an input raises an error that names the file."""
    model = load_model(pair / "local.onnx")
    for node in model.graph.node:
        node.output[:] = ["inner" if output == name else output for output in node.output]
        node.input[:] = ["inner" if used == name else used for used in node.input]
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1, 1]), "two sides"))
    model.graph.node.append(helper.make_node("Reshape", ["inner", "two sides"], [name]))
    (output,) = (one for one in model.graph.output if one.name == name)
    output.type.tensor_type.ClearField("shape")
    path = tmp_path / "reshaped.onnx"
    path.write_bytes(model.SerializeToString())
    with Cascade.load(path) as cascade, pytest.raises(ModelFileError, match="reshaped"):
        cascade.predict(np.load(pair / "test.npz")["x"][0])
