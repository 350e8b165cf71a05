"""From torch to ONNX to int8, the same classifier."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto

from edgecascade.export import ExportError, export_torch, find_logits, quantize_int8
from edgecascade.export.graph import opset
from edgecascade.runtime.session import open_session

INPUTS = np.random.default_rng(0).normal(size=(64, 3, 12, 12)).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """Two convolutions and a head, with what training leaves behind: batch norm and dropout."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 32, 3, padding=1),
        torch.nn.BatchNorm2d(32),
        torch.nn.ReLU(),
        torch.nn.Conv2d(32, 64, 3, stride=2),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Dropout(0.5),
        torch.nn.Linear(64, 5),
    )


@pytest.fixture(scope="module")
def exported(network: torch.nn.Module) -> ModelProto:
    """As ONNX."""
    return export_torch(network.train(), (3, 12, 12))


def logits(model: ModelProto, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the model gives."""
    session = open_session(model.SerializeToString())
    return np.asarray(session.run(["logits"], {session.get_inputs()[0].name: inputs})[0])


@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_export_agrees_with_torch(network: torch.nn.Module, exported: ModelProto, n: int) -> None:
    """In eval mode, whatever mode it was handed over in, at any batch."""
    with torch.no_grad():
        wanted = network.eval()(torch.from_numpy(INPUTS[:n])).numpy()
    np.testing.assert_allclose(logits(exported, INPUTS[:n]), wanted, atol=1e-5)


def test_old_runtimes_can_read_it(exported: ModelProto) -> None:
    """Opset and IR within ONNX Runtime 1.19."""
    assert opset(exported) <= 21
    assert exported.ir_version <= 10


def test_it_tells_nothing_about_the_machine(exported: ModelProto) -> None:
    """Torch writes stack traces into the graph; they are gone."""
    for path in (os.getcwd(), str(Path.home()), os.path.dirname(torch.__file__)):
        assert path.encode() not in exported.SerializeToString()


def test_what_is_no_module_is_refused() -> None:
    """By type."""
    with pytest.raises(ExportError, match=r"^module: expected a torch\.nn\.Module, got dict"):
        export_torch({}, (3, 12, 12))


def test_what_torch_cannot_export_is_one_sentence(network: torch.nn.Module) -> None:
    """With the shape that was tried."""
    with pytest.raises(ExportError, match=r"^module: torch cannot export it for inputs \[4, 12, 12\]: ") as refusal:
        export_torch(network, (4, 12, 12))
    assert "\n" not in str(refusal.value)


@pytest.fixture(scope="module")
def quantized(exported: ModelProto) -> ModelProto:
    """In int8."""
    return quantize_int8(exported, INPUTS)


def test_int8_is_smaller_and_nearly_the_same(exported: ModelProto, quantized: ModelProto) -> None:
    """Under half the bytes; logits within a few percent of their spread."""
    assert quantized.ByteSize() < 0.5 * exported.ByteSize()
    before, after = logits(exported, INPUTS), logits(quantized, INPUTS)
    assert np.abs(after - before).max() < 0.2 * before.std()


def test_the_layer_that_makes_the_logits_stays_in_float(quantized: ModelProto) -> None:
    """Its weights are float, so confidences keep their many values."""
    assert len(np.unique(logits(quantized, INPUTS))) == INPUTS.shape[0] * 5
    produced = {output: node for node in quantized.graph.node for output in node.output}
    head = produced[find_logits(quantized)]
    assert head.op_type == "Gemm"
    assert all(produced[i].op_type != "DequantizeLinear" for i in head.input[1:] if i in produced)
    assert sum(node.op_type == "DequantizeLinear" for node in quantized.graph.node) > 4


def test_quantizing_leaves_the_model_it_was_given(exported: ModelProto) -> None:
    """Untouched; and wants one input."""
    before = exported.SerializeToString()
    quantize_int8(exported, INPUTS[:16])
    assert exported.SerializeToString() == before
    two = ModelProto()
    two.CopyFrom(exported)
    two.graph.input.append(two.graph.input[0])
    with pytest.raises(ExportError, match=r"^body: expected one input to quantize for, got 2"):
        quantize_int8(two, INPUTS)
