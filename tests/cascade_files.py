"""Cascade files whose input is their logits, with golden inputs, for tests that put one in the place of another."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from documents import document_of
from edgecascade.calibration import AdvantageTable, DecisionRule
from edgecascade.export import fold, save_model
from edgecascade.export.parity import expected_decisions
from edgecascade.runtime.golden import Golden
from edgecascade.types.document import GOLDEN_KEY

__all__ = ["write_file"]

_LOGITS = np.array([[5, 0, 0], [0, 4, 1], [0.5, 0, 0]], np.float32)


def write_file(
    path: Path,
    temperature: float = 1.0,
    *,
    expects: float | None = None,
    golden: bool = True,
    labels: tuple[str, ...] = ("red", "green", "blue"),
    name: str = "z",
) -> Path:
    """Write a cascade model of three logits that answers inputs of confidence 0.6 or more locally.

    Args:
        path: where to write it, in the place of a file that is there.
        temperature: its temperature.
        expects: the temperature by which its golden inputs were decided, if that is another.
        golden: whether it has golden inputs.
        labels: names of the classes.
        name: name of its input.
    """
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], ["logits"])],
        "identity",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
    )
    body = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    table = AdvantageTable(np.array([0.6], np.float32), np.array([-0.25, 0.25], np.float32), np.array([10, 10]))
    rule = DecisionRule(temperature, table, threshold=0.0)
    model = fold(body, logits="logits", rule=rule, document=replace(document_of(rule), labels=labels))
    if golden:
        decided = expected_decisions(_LOGITS, replace(rule, temperature=expects or temperature))
        model.metadata_props.add(key=GOLDEN_KEY, value=Golden({name: _LOGITS}, decided).text())
    part = path.with_suffix(".part")
    save_model(model, part)
    part.replace(path)
    return path
