"""Reading, writing and editing ONNX models: what every change of a graph here needs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import GraphProto, ModelProto, NodeProto

from edgecascade.types.errors import ExportError, first_line

__all__ = [
    "Step",
    "check_versions",
    "first_sides",
    "has_batch_scale",
    "keep",
    "load_model",
    "opset",
    "own_inputs",
    "renamed",
    "save_model",
    "set_first_sides",
    "tensor_names",
    "write_whole",
]

Step = tuple[str, list[str], str, dict[str, Any]]  # operator, inputs, output, attributes
_NEWEST_OPSET, _NEWEST_IR = 21, 10  # that ONNX Runtime 1.19 reads, the oldest supported
_BATCH_SCALE = {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}


def load_model(path: str | os.PathLike[str]) -> ModelProto:
    """Read and check an ONNX file.

    Raises:
        ExportError: the file is missing, not an ONNX model, or of a version that old runtimes cannot read.
    """
    if not Path(path).is_file():
        raise ExportError(f"{path}: no such file")
    try:
        model = onnx.load(os.fspath(path))
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf, the checker and external data each raise their own
        raise ExportError(f"{path}: not a valid ONNX model: {first_line(error)}") from error
    check_versions(model, path, oldest=13)
    return model


def save_model(model: ModelProto, path: str | os.PathLike[str]) -> None:
    """Check a model and write it. The file appears whole or not at all."""
    onnx.checker.check_model(model)
    write_whole(model.SerializeToString(), path)


def write_whole(content: bytes, path: str | os.PathLike[str]) -> None:
    """Write a file. It appears whole or not at all."""
    folder = Path(path).resolve().parent
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as part:
        try:
            part.write(content)
            part.close()
            os.chmod(part.name, 0o644)
            os.replace(part.name, path)
        except BaseException:
            os.unlink(part.name)
            raise


def opset(model: ModelProto) -> int:
    """Return the version of the standard operator set that a model imports."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


def check_versions(model: ModelProto, path: str | os.PathLike[str], oldest: int) -> None:
    """Check that added operators and the oldest runtime allow a model's opset and IR version.

    Args:
        model: the model.
        path: its name in error messages.
        oldest: the oldest opset that has the operators to add.

    Raises:
        ExportError: a version is out of range.
    """
    if not oldest <= opset(model) <= _NEWEST_OPSET:
        raise ExportError(
            f"{path}: its opset is {opset(model)}, expected {oldest} to {_NEWEST_OPSET}; export the model again"
        )
    if model.ir_version > _NEWEST_IR:
        raise ExportError(
            f"{path}: its IR version is {model.ir_version}, expected at most {_NEWEST_IR}; export the model again"
        )


def own_inputs(model: ModelProto) -> list[str]:
    """Return the names of the inputs that a caller must feed: those without a default."""
    defaults = {one.name for one in model.graph.initializer}
    return [one.name for one in model.graph.input if one.name not in defaults]


def has_batch_scale(model: ModelProto) -> bool:
    """Return whether an operator quantizes a whole batch by one scale, so that inputs change each other's results."""
    nodes = [*_nodes(model.graph), *(node for function in model.functions for node in function.node)]
    return any(node.op_type in _BATCH_SCALE for node in nodes)


def first_sides(model: ModelProto) -> dict[str, int | str]:
    """Return the first side of each input that a caller must feed: a length, or the name of a side of any length."""
    shapes = {one.name: one.type.tensor_type.shape.dim for one in model.graph.input}
    firsts = {name: shapes[name][0] for name in own_inputs(model) if shapes[name]}
    return {name: side.dim_value if side.HasField("dim_value") else side.dim_param for name, side in firsts.items()}


def set_first_sides(model: ModelProto, sides: Mapping[str, int | str]) -> ModelProto:
    """Return a copy whose inputs have other first sides, by name, in the form of `first_sides`."""
    copy = ModelProto()
    copy.CopyFrom(model)
    for one in copy.graph.input:
        if one.name not in sides:
            continue
        side, first = one.type.tensor_type.shape.dim[0], sides[one.name]
        side.ClearField("value")
        if isinstance(first, int):
            side.dim_value = first
        elif first:
            side.dim_param = first
    return copy


def keep(entries: Any, wanted: Callable[[Any], bool]) -> None:
    """Delete the unwanted entries of a repeated field; the others stay in order."""
    for position in reversed(range(len(entries))):
        if not wanted(entries[position]):
            del entries[position]


def tensor_names(model: ModelProto) -> set[str]:
    """Return the names of all tensors and nodes, including those in subgraphs."""
    return {name for part, field in _named(model.graph) for name in _values(part, field)}


def renamed(model: ModelProto, names: Mapping[str, str]) -> ModelProto:
    """Return a copy in which tensors and nodes have other names, in subgraphs too.

    Args:
        model: a model that has none of the new names.
        names: new names by old ones.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    for part, field in list(_named(copy.graph)):
        old = _values(part, field)
        if not any(name in names for name in old):
            continue
        new = [names.get(name, name) for name in old]
        if isinstance(getattr(part, field), str):
            setattr(part, field, new[0])
        else:
            getattr(part, field)[:] = new
    return copy


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Yield every node of a graph and its subgraphs."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _nodes(inner)


def _named(graph: GraphProto) -> Iterator[tuple[Any, str]]:
    """Yield every message of a graph and its subgraphs that names tensors or a node, with the field that names them."""
    for one in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        yield one, "name"
    for sparse in graph.sparse_initializer:
        yield sparse.values, "name"
    for annotation in graph.quantization_annotation:
        yield annotation, "tensor_name"
        for entry in annotation.quant_parameter_tensor_names:
            yield entry, "value"
    for node in graph.node:
        yield node, "name"
        yield node, "input"
        yield node, "output"
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _named(inner)


def _values(part: Any, field: str) -> list[str]:
    value = getattr(part, field)
    return [value] if isinstance(value, str) else list(value)
