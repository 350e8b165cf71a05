"""Cascade files of general tasks for the tests of the runtime."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from documents import some_task_document
from edgecascade.calibration import AdvantageTable, TaskRule
from edgecascade.export import save_model
from edgecascade.export.task.confidence import Output
from edgecascade.export.task.fold import fold_task
from edgecascade.types.platt import Platt

TABLE = AdvantageTable(np.array([0.5], np.float32), np.array([-0.25, 0.25], np.float32), np.array([300, 300]))
RULE = TaskRule(Platt(4.0, -2.0), TABLE, 0.0)
SURE, UNSURE = np.array([2, 0, -1], np.float32), np.array([-2, 3, 4], np.float32)
"""Inputs that stay on the device, and that are forwarded."""


def twice_file(folder: Path, *, batch: Any = "batch", remote: tuple[str, ...] = ("tripled",)) -> Path:
    """Write a file that answers `twice`, double its input [3], and whose score is `quality`, the first number."""
    nodes = [
        helper.make_node("Add", ["x", "x"], ["twice"]),
        helper.make_node("Gather", ["x", "zero"], ["quality"], axis=1),
    ]
    return _file(folder, nodes, batch, {"twice": (1, [batch, 3]), "quality": (1, [batch, 1])}, remote)


def boxes_file(folder: Path) -> Path:
    """Write a file that answers `boxes`, the places [N, 2] of positive numbers in its input, one input at a time."""
    nodes = [
        helper.make_node("Greater", ["x", "nothing"], ["positive"]),
        helper.make_node("NonZero", ["positive"], ["places"]),
        helper.make_node("Transpose", ["places"], ["boxes"]),
        helper.make_node("Gather", ["x", "zero"], ["quality"], axis=1),
    ]
    return _file(folder, nodes, 1, {"boxes": (7, ["found", 2]), "quality": (1, [1, 1])}, ("boxes",), ("boxes",))


def _file(
    folder: Path,
    nodes: list[Any],
    batch: Any,
    outputs: dict[str, tuple[int, list[Any]]],
    remote: tuple[str, ...],
    unbatched: tuple[str, ...] = (),
) -> Path:
    body = _body(nodes, batch, outputs)
    document = some_task_document()
    document = replace(
        document,
        task=replace(document.task, outputs=tuple(outputs), unbatched=unbatched),
        calibration=replace(document.calibration, confidence=RULE.confidence),
        remote_outputs=remote,
        policy=replace(
            document.policy,
            threshold=0.0,
            bins=2,
            edges=(0.5,),
            values=(-0.25, 0.25),
            counts=(300, 300),
            merge="replace",
        ),
    )
    samples = [{"quality": np.zeros((1, 1), np.float32)}]
    graph = Output("quality").graph(samples, 17)
    save_model(fold_task(body, confidence=graph, rule=RULE, document=document), folder / "task.onnx")
    return folder / "task.onnx"


def _body(nodes: list[Any], batch: Any, outputs: dict[str, tuple[int, list[Any]]]) -> ModelProto:
    constants = [
        helper.make_tensor("zero", TensorProto.INT64, [1], [0]),
        helper.make_tensor("nothing", TensorProto.FLOAT, [], [0.0]),
    ]
    sides: list[Any] = [batch, 3]
    graph = helper.make_graph(
        nodes,
        "body",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def remote_file(folder: Path) -> Path:
    """Write an ONNX file that answers `tripled`, three times its input, and `label`, which no task asks for."""
    nodes = [
        helper.make_node("Sum", ["x", "x", "x"], ["tripled"]),
        helper.make_node("Identity", ["x"], ["label"]),
    ]
    body = _body(nodes, "n", {"tripled": (1, ["n", 3]), "label": (1, ["n", 3])})
    save_model(body, folder / "remote.onnx")
    return folder / "remote.onnx"


def tripled(x: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Answer as the remote does."""
    return {"tripled": 3 * x}
