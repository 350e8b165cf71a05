"""Append a decision to a body's graph and take it away again, whatever is decided."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgecascade.export.graph import first_sides, keep, renamed, set_first_sides, tensor_names
from edgecascade.types.document import BATCH_KEY, GOLDEN_KEY, KEY, MOVED_KEY
from edgecascade.types.errors import ExportError

__all__ = ["INNER", "Head", "Names", "attach", "check_foldable", "detach"]

INNER = "edgecascade/"

Sides = list[int | str | None]


@dataclass(frozen=True)
class Names:
    """The tensors that a kind of cascade model adds under plain names.

    Attributes:
        outputs: element type and shape of each output.
        overridable: shape of each float32 input that has a default.
    """

    outputs: Mapping[str, tuple[int, Sides]]
    overridable: Mapping[str, Sides]

    def __contains__(self, name: object) -> bool:
        """Return whether a tensor of this name is part of the decision and not of the body."""
        own = name in self.outputs or name in self.overridable
        return own or (isinstance(name, str) and name.startswith(INNER))


@dataclass(frozen=True)
class Head:
    """Operators from the body's tensors to the outputs of a cascade model.

    Attributes:
        nodes: the operators.
        constants: the tensors that they use.
        defaults: of the inputs that a caller may override, by name.
    """

    nodes: Sequence[NodeProto]
    constants: Sequence[TensorProto]
    defaults: Mapping[str, NDArray[np.float32] | float]


def attach(
    body: ModelProto,
    names: Names,
    head: Callable[[Mapping[str, str]], Head],
    document: Callable[[Mapping[str, str]], str],
    *,
    singly: bool,
) -> ModelProto:
    """Return a copy of the body with a decision and its metadata.

    Args:
        body: an ONNX model of opset 13 or newer, not a cascade model.
        names: what the decision adds.
        head: from the names in the body that had to change, old to new, to the operators.
        document: from the same to the content of the metadata key `edgecascade`.
        singly: whether the cascade model takes one input at a time; otherwise it takes as many as the body does.

    Raises:
        ExportError: the body is a cascade model already, or one of its inputs has a reserved name.
    """
    check_foldable(body, names)
    taken = tensor_names(body)
    moved = {name: _free(name, taken) for name in sorted(taken) if name in names}
    model = renamed(body, moved)
    sides = {name: side for name, side in first_sides(model).items() if singly and isinstance(side, str)}
    model, added = set_first_sides(model, dict.fromkeys(sides, 1)), head(moved)
    for name, value in added.defaults.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, names.overridable[name]))
    model.graph.initializer.extend(added.constants)
    model.graph.node.extend(added.nodes)
    for name, (datatype, shape) in names.outputs.items():
        model.graph.output.append(helper.make_tensor_value_info(name, datatype, shape))
    model.metadata_props.add(key=KEY, value=document(moved))
    for key, changed in ((MOVED_KEY, moved), (BATCH_KEY, sides)):
        if changed:
            model.metadata_props.add(key=key, value=json.dumps(changed))
    return model


def check_foldable(body: ModelProto, names: Names) -> None:
    """Check that a decision can be folded into a body.

    Raises:
        ExportError: the body is a cascade model already, or one of its inputs has a reserved name.
    """
    if any(entry.key == KEY for entry in body.metadata_props):
        raise ExportError(
            "body: expected a model without a decision, got a cascade model; use the body it was made from"
        )
    taken = sorted({one.name for one in body.graph.input if one.name in names})
    if taken:
        raise ExportError(f"body: its input {taken[0]!r} has a name that cascade models reserve; rename it")


def detach(model: ModelProto, names: Names) -> ModelProto:
    """Return the body that a decision was attached to, equal in every field."""
    properties: dict[str, Any] = {entry.key: entry.value for entry in model.metadata_props}
    body = ModelProto()
    body.CopyFrom(model)
    for field in ("node", "initializer", "input", "output"):
        keep(getattr(body.graph, field), lambda one: one.name not in names)
    keep(body.metadata_props, lambda entry: entry.key not in (KEY, MOVED_KEY, BATCH_KEY, GOLDEN_KEY))
    moved, sides = (json.loads(properties.get(key, "{}")) for key in (MOVED_KEY, BATCH_KEY))
    return renamed(set_first_sides(body, sides), {new: old for old, new in moved.items()})


def _free(name: str, taken: Collection[str]) -> str:
    name = f"body/{name}"
    while name in taken:
        name = f"body/{name}"
    return name
