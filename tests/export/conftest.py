"""Small ONNX bodies for the tests of the export."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgecascade.calibration import AdvantageTable, DecisionRule
from edgecascade.export import export_torch
from edgecascade.runtime.engine import open_session

Body = Callable[..., ModelProto]


@pytest.fixture(scope="session")
def build() -> Body:
    """Return a body made of these nodes, from one input to one output."""

    def build(
        nodes: Sequence[NodeProto],
        shape: Sequence[int],
        result: Sequence[int],
        constants: Mapping[str, NDArray[Any]] | None = None,
        *,
        source: str = "z",
        output: str = "logits",
        kind: int = TensorProto.FLOAT,
        batch: int | str = "batch",
        opset: int = 20,
        ir: int = 8,
    ) -> ModelProto:
        graph = helper.make_graph(
            nodes,
            "body",
            [helper.make_tensor_value_info(source, kind, [batch, *shape])],
            [helper.make_tensor_value_info(output, kind, [batch, *result])],
            [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)

    return build


@pytest.fixture(scope="session")
def identity(build: Body) -> Body:
    """Return a body whose logits are its input."""

    def identity(*shape: int, source: str = "z", output: str = "logits", **others: Any) -> ModelProto:
        node = helper.make_node("Identity", [source], [output])
        return build([node], shape, shape, source=source, output=output, **others)

    return identity


@pytest.fixture(scope="session")
def linear(build: Body) -> Body:
    """Return a body with logits `x @ weight + bias`."""

    def linear(weight: NDArray[Any], bias: NDArray[Any], **others: Any) -> ModelProto:
        constants = {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}
        node = helper.make_node("Gemm", ["z", "weight", "bias"], ["logits"])
        return build([node], weight.shape[:1], weight.shape[1:], constants, **others)

    return linear


@pytest.fixture(scope="session")
def rule() -> DecisionRule:
    """Return a rule with a temperature, a table of four bins, and a threshold between the second and the third."""
    edges, values = np.array([0.4, 0.6, 0.8], np.float32), np.array([-0.5, -0.25, 0.125, 0.25], np.float32)
    return DecisionRule(temperature=1.5, table=AdvantageTable(edges, values, np.ones(4, np.int64)), threshold=0.0)


@pytest.fixture(scope="session")
def network() -> torch.nn.Module:
    """Return a network of two convolutions and a head, with the batch norm and dropout that training leaves in it."""
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


@pytest.fixture(scope="session")
def exported(network: torch.nn.Module) -> ModelProto:
    """Return the network as ONNX, for inputs [batch, 3, 12, 12]."""
    return export_torch(network.train(), (3, 12, 12))


@pytest.fixture(scope="session")
def logits_of() -> Callable[[ModelProto, NDArray[np.float32]], NDArray[np.float32]]:
    """Run a model and return its logits."""

    def logits_of(model: ModelProto, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        session = open_session(model.SerializeToString())
        return np.asarray(session.run(["logits"], {session.get_inputs()[0].name: inputs})[0])

    return logits_of


@pytest.fixture(scope="session")
def converter(environment: Callable[..., Path]) -> str:
    """Return the command that runs onnx2tf in its own environment (700 MB, created once)."""
    # onnx2tf declares Python 3.12 but also runs on 3.11; the tests check parity on both.
    return f"{environment('onnx2tf==2.6.9', options=('--ignore-requires-python',))} -m onnx2tf"
