"""Reading, writing and editing ONNX models: what every change of a graph here needs."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx.version_converter
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgecascade.export.writing import move, temporary, write_whole
from edgecascade.runtime.engine import Declared, Engine, numpy_dtype, open_session
from edgecascade.runtime.weights_file import check_weights
from edgecascade.types.document import KEY, WEIGHTS_KEY, is_chat_file
from edgecascade.types.errors import ExportError, ModelFileError, ParityError, first_line, no_file

__all__ = [
    "Step",
    "carried_states",
    "first_sides",
    "has_batch_scale",
    "is_large",
    "keep",
    "keep_outputs",
    "load_model",
    "open_model",
    "opset",
    "own_inputs",
    "renamed",
    "runnable",
    "save_model",
    "set_first_sides",
    "tensor_names",
    "with_versions",
]

Step = tuple[str, list[str], str, dict[str, Any]]  # operator, inputs, output, attributes
_OLDEST_OPSET, _OLDEST_IR = 13, 4  # that the head's operators and constants need
_NEWEST_OPSET, _NEWEST_IR = 21, 10  # that ONNX Runtime 1.19 reads, the oldest supported
_LARGEST = (1 << 31) - 1  # bytes of a protobuf
_LEAST_APART = 1 << 10  # bytes; smaller constants, such as shapes, stay in the model file
_PAGE = 1 << 12  # bytes, where weights begin that onnxruntime maps into memory
_TOLERANCE = 1e-4  # of the largest output of a converted model
_BATCH_SCALE = {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}


def load_model(path: str | os.PathLike[str]) -> ModelProto:
    """Read and check an ONNX file, and convert it if it is of a version that the head or old runtimes do not allow.

    Raises:
        ExportError: the file is missing, not an ONNX model, its weights are missing, or it cannot be converted.
        ParityError: the converted model gives other outputs.
    """
    if not Path(path).is_file():
        raise ExportError(no_file(path))
    try:
        model = onnx.load(os.fspath(path), load_external_data=False)
        check_weights(path)
        _check_sizes(model, path)
        onnx.load_external_data_for_model(model, str(Path(path).parent))
        for one in model.graph.initializer:  # as in a file without other files
            one.ClearField("data_location")
        keep(model.metadata_props, lambda entry: entry.key != WEIGHTS_KEY)
    except ExportError:
        raise
    except ModelFileError as error:
        raise ExportError(str(error)) from error
    except Exception as error:  # protobuf and external data each raise their own
        if is_chat_file(path):
            raise ExportError(
                f"{path}: expected an ONNX model, got JSON; a file of two chat endpoints is planned again by "
                "calibrate-chat, with the same replies"
            ) from error
        raise ExportError(f"{path}: not a valid ONNX model: {first_line(error)}") from error
    large = is_large(model)
    if large and not _is_current(model):
        raise ExportError(
            f"{path}: expected opset {_OLDEST_OPSET} to {_NEWEST_OPSET} and IR {_OLDEST_IR} to {_NEWEST_IR} of a model "
            f"beyond 2 GiB, which cannot be converted, got {opset(model)} and {model.ir_version}"
        )
    model = with_versions(model, path)
    try:
        if not large:
            _infer_output_shapes(model)
        onnx.checker.check_model(os.fspath(path) if large else model)
    except Exception as error:  # the checker raises several kinds
        raise ExportError(f"{path}: not a valid ONNX model: {first_line(error)}") from error
    return model


def _infer_output_shapes(model: ModelProto) -> None:
    """Give the outputs that a model declares without a shape the one that follows from its operators."""
    without = [one for one in model.graph.output if not one.type.tensor_type.HasField("shape")]
    if any(one.type.HasField("tensor_type") for one in without):
        inferred = {one.name: one.type for one in onnx.shape_inference.infer_shapes(model).graph.output}
        for one in without:
            one.type.CopyFrom(inferred[one.name])


def _check_sizes(model: ModelProto, path: str | os.PathLike[str]) -> None:
    """Check, before they are read, that the files beside a model are not larger than the weights that it declares."""
    beside = {entry.value for one in model.graph.initializer for entry in one.external_data if entry.key == "location"}
    files = (Path(path).parent / name for name in beside)
    total, declared = sum(one.stat().st_size for one in files if one.is_file()), _declared_bytes(model)
    if total > max(2 * declared, _LARGEST):
        raise ExportError(
            f"{path}: expected weights of {declared / 1e9:.1f} GB, as it declares, got {total / 1e9:.1f} GB beside it"
        )


def _declared_bytes(model: ModelProto) -> int:
    """Return the size of the constants of a model."""
    return sum(
        math.prod(one.dims) * helper.tensor_dtype_to_np_dtype(one.data_type).itemsize for one in model.graph.initializer
    )


def is_large(model: ModelProto) -> bool:
    """Return whether the weights of a model need a file of their own, because one ONNX file holds at most 2 GiB."""
    return _declared_bytes(model) > _LARGEST


def save_model(model: ModelProto, path: str | os.PathLike[str]) -> Path | None:
    """Check a model and write it. The file appears whole or not at all.

    Returns:
        The file with the weights of a model beyond 2 GiB, named for their SHA-256, in the same folder; otherwise None.
    """
    if is_large(model):
        return _save_apart(model, Path(path))
    onnx.checker.check_model(model)
    write_whole(model.SerializeToString(), path)
    return None


@contextmanager
def runnable(model: ModelProto) -> Iterator[bytes | str]:
    """Give a model as onnxruntime opens it: its bytes, or a temporary file if it is beyond 2 GiB."""
    if not is_large(model):
        yield model.SerializeToString()
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # Windows keeps a file that is in use
        _save_apart(model, Path(folder, "model.onnx"))
        yield str(Path(folder, "model.onnx"))


def open_model(model: ModelProto) -> Engine:
    """Open a model of any size on the CPU."""
    with runnable(model) as source:
        return open_session(source)


def _save_apart(model: ModelProto, path: Path) -> Path:
    """Write a model and, into another file, its weights; return that file.

    Body and cascade files in one folder share it, since it has the weights of the body only.
    """
    small = ModelProto()
    for field, value in model.ListFields():
        if field.name == "graph":
            _copy_fields(value, small.graph, without="initializer")
    _copy_fields(model, small, without="graph")
    digest = hashlib.sha256()
    with temporary(path) as part:
        apart, ours = [], {one.name for one in model.graph.initializer if one.name.startswith(f"{KEY}/")}
        ours |= {one.name for one in model.graph.input}  # with defaults that a caller may replace
        for one in model.graph.initializer:
            content = _content(one)
            if len(content) < _LEAST_APART or one.name in ours:
                small.graph.initializer.append(one)
                continue
            start = part.tell()
            padded = content + bytes(-len(content) % _PAGE)
            part.write(padded)
            digest.update(padded)
            entry = small.graph.initializer.add(name=one.name, dims=one.dims, data_type=one.data_type)
            entry.data_location = TensorProto.EXTERNAL
            apart.append((entry, start, len(content)))
        place = path.with_name(f"{digest.hexdigest()[:16]}.weights")
        for entry, start, length in apart:
            for key, value in (("location", place.name), ("offset", start), ("length", length)):
                entry.external_data.add(key=key, value=str(value))
        said = {"file": place.name, "sha256": digest.hexdigest()}
        small.metadata_props.add(key=WEIGHTS_KEY, value=json.dumps(said))
        move(part, place)
    write_whole(small.SerializeToString(), path)
    onnx.checker.check_model(str(path))
    return place


def _content(tensor: TensorProto) -> bytes:
    """Return the numbers of a tensor as they are in a file of weights; nothing for one of strings."""
    if tensor.HasField("raw_data"):
        return bytes(tensor.raw_data)
    return b"" if tensor.data_type == TensorProto.STRING else bytes(numpy_helper.to_array(tensor).tobytes())


def _copy_fields(source: Any, target: Any, without: str) -> None:
    """Copy the fields of a message but one."""
    for field, value in source.ListFields():
        if field.name == without:
            continue
        if isinstance(value, (str, int, float, bytes)):
            setattr(target, field.name, value)
        else:
            getattr(target, field.name).MergeFrom(value)


def opset(model: ModelProto) -> int:
    """Return the version of the standard operator set that a model imports."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


def with_versions(model: ModelProto, path: str | os.PathLike[str], oldest: int = _OLDEST_OPSET) -> ModelProto:
    """Return a model of versions that added operators and the oldest runtime allow: itself, or converted.

    `onnx.version_converter` converts the operators. The result must give the outputs of the original for random
    inputs, if this onnxruntime can run the original on such inputs.

    Args:
        model: the model.
        path: its name in error messages.
        oldest: the oldest opset that has the operators to add.

    Raises:
        ExportError: it cannot be converted.
        ParityError: the converted model gives other outputs.
    """
    imported, ir = opset(model), model.ir_version
    wanted = min(max(imported, oldest), _NEWEST_OPSET)
    if _is_current(model, oldest):
        return model
    copy = ModelProto()
    copy.CopyFrom(model)
    if not imported:  # a model that has operators of other domains only, such as trees
        copy.opset_import.add(domain="", version=wanted)
    if ir < _OLDEST_IR:  # in which every constant had to be an input too
        own = own_inputs(copy)
        keep(copy.graph.input, lambda one: one.name in own)
    copy.ir_version = min(max(ir, _OLDEST_IR), _NEWEST_IR)
    if imported not in (0, wanted):
        try:
            onnx.checker.check_model(copy)
            if copy.functions:  # which the converter would drop
                copy = onnx.inliner.inline_local_functions(copy, convert_version=True)
            copy = onnx.version_converter.convert_version(copy, wanted)
        except Exception as error:  # the converter raises whatever its adapters raise
            reason = first_line(error).rpartition("failed: ")[2]
            raise ExportError(
                f"{path}: its opset is {imported}, which onnx cannot convert to {wanted} ({reason}); export it again "
                f"with opset_version={wanted} (torch), target_opset={wanted} (skl2onnx, onnxmltools) or "
                f"--opset {wanted} (optimum, tf2onnx)"
            ) from error
    _check_same(model, copy, path)
    return copy


def _is_current(model: ModelProto, oldest: int = _OLDEST_OPSET) -> bool:
    """Return whether a model has versions that need no conversion."""
    return oldest <= opset(model) <= _NEWEST_OPSET and _OLDEST_IR <= model.ir_version <= _NEWEST_IR


def _check_same(before: ModelProto, after: ModelProto, path: str | os.PathLike[str]) -> None:
    """Compare the outputs of two models for random inputs, if the first runs on them."""
    rng = np.random.default_rng(0)
    try:
        session = open_model(before)
        feeds = {one.name: _noise(one, rng) for one in session.get_inputs()}
        wanted = session.run(None, feeds)
    except Exception:  # an old version, or inputs that the model does not take
        return
    conversion = f"{path}: converted from opset {opset(before)} to {opset(after)}"
    again = f"export it again with opset {opset(after)}"
    try:
        got = open_model(after).run(None, feeds)
    except Exception as error:  # onnxruntime's exceptions have no common base but this one
        raise ParityError(f"{conversion}, it does not run: {first_line(error)}; {again}") from error
    for declared, first, second in zip(session.get_outputs(), wanted, got, strict=True):
        if not isinstance(first, np.ndarray):
            continue
        numbers = first.dtype.kind == "f"
        scale = max(1.0, float(np.abs(first).max(initial=0, where=np.isfinite(first)))) if numbers else 0.0
        same = np.allclose(first, second, 0, _TOLERANCE * scale, True) if numbers else np.array_equal(first, second)
        if first.shape != second.shape or not same:
            raise ParityError(f"{conversion}, it gives another {declared.name!r}; {again}")


def _noise(declared: Declared, rng: np.random.Generator) -> NDArray[Any]:
    """Return two random inputs as a model declares them; sides of any length are 32 long."""
    batch, *others = declared.shape or [1]
    shape = [batch if isinstance(batch, int) else 2, *(side if isinstance(side, int) else 32 for side in others)]
    dtype = numpy_dtype(declared.type)
    noise = rng.standard_normal(shape) if dtype.kind == "f" else rng.integers(0, 2, shape)
    return noise.astype(dtype)


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


def carried_states(model: ModelProto, scores: str) -> list[str]:
    """Return the inputs after the first that an output may replace in the next call, as recurrent models have them.

    Args:
        model: a classifier.
        scores: its output with the scores, which is no state.
    """
    outputs = [one.type.tensor_type for one in model.graph.output if one.name != scores]
    declared = {one.name: one.type.tensor_type for one in model.graph.input}
    return [name for name in own_inputs(model)[1:] if any(_alike(declared[name], output) for output in outputs)]


def _alike(first: Any, second: Any) -> bool:
    """Return whether two tensors have the same type and, where both are known, the same sides."""
    sides = [[side.dim_value for side in one.shape.dim] for one in (first, second)]
    return (
        first.elem_type == second.elem_type
        and len(sides[0]) == len(sides[1])
        and all(0 in pair or len(set(pair)) == 1 for pair in zip(*sides, strict=True))
    )


def keep(entries: Any, wanted: Callable[[Any], bool]) -> None:
    """Delete the unwanted entries of a repeated field; the others stay in order."""
    for position in reversed(range(len(entries))):
        if not wanted(entries[position]):
            del entries[position]


def keep_outputs(model: ModelProto, names: Sequence[str]) -> ModelProto:
    """Return a copy of a model that gives the named outputs, in this order, and no others.

    Args:
        model: the model.
        names: of some of its outputs.

    Raises:
        ExportError: it has no such output, or one is named twice.
    """
    declared = {one.name: one for one in model.graph.output}
    if not names or len(set(names)) != len(names) or not declared.keys() >= set(names):
        raise ExportError(
            f"outputs: expected some of {', '.join(declared)}, each once, got {', '.join(names) or 'none'}"
        )
    copy = ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(declared[name] for name in names)
    return copy


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
