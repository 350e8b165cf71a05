"""Int8 bodies have less than half the bytes and nearly the same answers."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from edgecascade.calibration import softmax
from edgecascade.cli import main
from edgecascade.export import ExportError, export_torch, find_logits, quantize_int8, save_model

Run = Callable[[ModelProto, NDArray[np.float32]], NDArray[np.float32]]


def waves() -> NDArray[np.float32]:
    """Return 96 pictures: waves of eight lengths in four directions, in each of three colours, on a gradient."""
    row, column = np.mgrid[:12, :12]
    pictures = np.zeros((8, 4, 3, 3, 12, 12))
    for length, angle, colour in np.ndindex(8, 4, 3):
        wave = np.sin((length + 1) * (row * np.cos(angle) + column * np.sin(angle)) / 3 + colour)
        pictures[length, angle, colour] = np.arange(3)[:, None, None] * 0.3 * wave * row / 12
        pictures[length, angle, colour, colour] += 1.5 * wave
    return pictures.reshape(-1, 3, 12, 12).astype(np.float32)


INPUTS = waves()


@pytest.fixture(scope="module")
def original(exported: ModelProto) -> bytes:
    """Return the float model."""
    return bytes(exported.SerializeToString())


@pytest.fixture(scope="module")
def quantized(exported: ModelProto, original: bytes) -> ModelProto:  # noqa: ARG001  # it must come first
    """Return the model quantized on half of the pictures."""
    return quantize_int8(exported, INPUTS[::2])


def test_int8_is_less_than_half_the_bytes(exported: ModelProto, quantized: ModelProto) -> None:
    """Both convolutions are stored in int8."""
    assert quantized.ByteSize() < 0.5 * exported.ByteSize()
    assert sum(i.data_type == TensorProto.INT8 and len(i.dims) == 4 for i in quantized.graph.initializer) == 2


def test_int8_gives_nearly_the_same_logits(exported: ModelProto, quantized: ModelProto, logits_of: Run) -> None:
    """The logits of each class and the labels agree, also on pictures that were not used to quantize."""
    before, after = logits_of(exported, INPUTS[1::2]), logits_of(quantized, INPUTS[1::2])
    for old, new in zip(before.T, after.T, strict=True):
        assert np.corrcoef(old, new)[0, 1] > 0.999
        assert np.abs(new - old).max() < 0.1 * old.std()
    centre = before.mean(axis=0)  # an untrained network prefers one class; after centring, all five occur
    assert len(np.unique((before - centre).argmax(axis=1))) == 5
    assert ((before - centre).argmax(axis=1) == (after - centre).argmax(axis=1)).mean() > 0.9


def test_the_layer_before_the_logits_stays_in_float(quantized: ModelProto) -> None:
    """Only the last layer has float weights."""
    produced = {output: node for node in quantized.graph.node for output in node.output}
    head = produced[find_logits(quantized).tensor]
    assert head.op_type == "Gemm"
    assert all(produced[i].op_type != "DequantizeLinear" for i in head.input[1:] if i in produced)
    convolutions = [node for node in quantized.graph.node if node.op_type == "Conv"]
    assert [produced[node.input[1]].op_type for node in convolutions] == ["DequantizeLinear"] * 2


def test_confidences_have_many_values(quantized: ModelProto, logits_of: Run) -> None:
    """Every picture has a distinct confidence, so the bins can separate them."""
    assert len(np.unique(softmax(logits_of(quantized, INPUTS)).max(axis=1))) == len(INPUTS)


def test_a_body_whose_nodes_have_no_names_is_quantized_as_well(exported: ModelProto, quantized: ModelProto) -> None:
    """The operators are those of the body with names."""
    body = ModelProto()
    body.CopyFrom(exported)
    for node in body.graph.node:
        node.ClearField("name")
    kinds = [node.op_type for node in quantize_int8(body, waves()).graph.node]
    assert kinds == [node.op_type for node in quantized.graph.node]


@pytest.mark.usefixtures("quantized")
def test_the_given_model_is_not_modified(exported: ModelProto, original: bytes) -> None:
    """The model stays the same byte for byte."""
    assert exported.SerializeToString() == original


def test_a_fixed_batch_is_fed_in_full_batches(exported: ModelProto, logits_of: Run) -> None:
    """With a batch size of four, ten inputs make two batches."""
    fixed = ModelProto()
    fixed.CopyFrom(exported)
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    del fixed.graph.value_info[:]
    assert logits_of(quantize_int8(fixed, INPUTS[:10]), INPUTS[:4]).shape == (4, 5)


def test_a_body_of_two_inputs_is_refused(exported: ModelProto) -> None:
    """Quantization takes one array, so the body must have one input."""
    two = ModelProto()
    two.CopyFrom(exported)
    two.graph.input.append(two.graph.input[0])
    with pytest.raises(ExportError, match=r"^body: expected one input to quantize for, got 2"):
        quantize_int8(two, INPUTS)


@pytest.mark.parametrize("n", [1, 15])
def test_few_inputs_are_all_used(exported: ModelProto, logits_of: Run, n: int) -> None:
    """With a free batch size, any number of inputs is used."""
    assert logits_of(quantize_int8(exported, INPUTS[:n]), INPUTS).shape == (96, 5)


@pytest.mark.parametrize("outlier", [1.0, 1e5])
def test_export_reports_the_loss_of_int8_and_limits_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], outlier: float
) -> None:
    """One input much larger than the others leaves them few int8 steps; `--int8-loss 1` accepts the loss."""
    torch.manual_seed(0)
    first = torch.nn.Linear(8, 16)
    layers = torch.nn.Sequential(first, torch.nn.ReLU(), torch.nn.Linear(16, 3))
    with torch.no_grad():
        first.weight[:, 0] = 0
    body = export_torch(layers, (8,))
    x = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    x[:, 0] *= outlier
    with torch.no_grad():
        logits = layers(torch.from_numpy(x)).numpy()
    save_model(body, tmp_path / "body.onnx")
    np.savez(tmp_path / "data.npz", x=x, y=(logits - logits.mean(axis=0)).argmax(axis=1))
    out = tmp_path / "int8.onnx"
    arguments = ["export", str(tmp_path / "body.onnx"), "--int8", str(tmp_path / "data.npz"), "-o", str(out)]
    refused = outlier > 1
    assert main(arguments) == (2 if refused else 0)
    assert out.exists() != refused
    printed = capsys.readouterr()
    assert "points" in (printed.err if refused else printed.out)
    assert main([*arguments, "--int8-loss", "1"]) == 0
    assert out.exists()


def onnxruntime_warns(capture: pytest.CaptureFixture[str]) -> bool:
    """Return whether opening a session on a model with a constant that is also an input logs a warning."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("z", "constant")]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])]
    constants = [helper.make_tensor("constant", TensorProto.FLOAT, [1], [0.0])]
    graph = helper.make_graph([helper.make_node("Add", ["z", "constant"], ["y"])], "loud", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8)
    capture.readouterr()
    onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return "appears in graph inputs" in capture.readouterr().err


@pytest.fixture
def severity() -> Iterator[Callable[[int], None]]:
    """Set the log severity of onnxruntime for one test: 2 is its default, warnings; 3 is errors only."""
    yield onnxruntime.set_default_logger_severity
    onnxruntime.set_default_logger_severity(2)


@pytest.mark.parametrize(
    ("level", "inputs"),
    [
        pytest.param(2, INPUTS[:16], id="warnings"),
        pytest.param(
            2,
            INPUTS[:16, :2],
            id="warnings, after a failure",
        ),
        pytest.param(
            3,
            INPUTS[:16],
            id="errors only",
        ),
    ],
)
def test_the_log_severity_of_onnxruntime_is_restored(
    exported: ModelProto,
    severity: Callable[[int], None],
    capfd: pytest.CaptureFixture[str],
    level: int,
    inputs: NDArray[np.float32],
) -> None:
    """The severity is global to the process, so the quantizer restores it."""
    severity(level)
    with contextlib.suppress(Exception):
        quantize_int8(exported, inputs)
    assert onnxruntime_warns(capfd) == (level == 2)
