"""What every edit of an ONNX graph here needs: loading, the logits, names that collide with nothing."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto

from edgecascade.export.errors import ExportError

__all__ = ["check_versions", "find_logits", "load_model", "opset", "save_model", "tensor_names", "with_prefix"]

# ONNX Runtime 1.19, the oldest this project supports, reads up to these.
_NEWEST_OPSET, _NEWEST_IR = 21, 10
_SCORES = (TensorProto.FLOAT, TensorProto.FLOAT16)


def load_model(path: str | os.PathLike[str]) -> ModelProto:
    """Read and check an ONNX file.

    Raises:
        ExportError: it is missing, no ONNX model, or of a version that old runtimes cannot read.
    """
    if not Path(path).is_file():
        raise ExportError(f"{path}: no such file")
    try:
        model = onnx.load(os.fspath(path))
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf, the checker and external data each raise their own
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportError(f"{path}: not a valid ONNX model: {first}") from error
    check_versions(model, path, oldest=13)
    return model


def save_model(model: ModelProto, path: str | os.PathLike[str]) -> None:
    """Check a model and write it whole or not at all."""
    onnx.checker.check_model(model)
    folder = Path(path).resolve().parent
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as part:
        try:
            part.write(model.SerializeToString())
            part.close()
            os.chmod(part.name, 0o644)
            os.replace(part.name, path)
        except BaseException:
            os.unlink(part.name)
            raise


def opset(model: ModelProto) -> int:
    """The version of the standard operator set that a model imports."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


def check_versions(model: ModelProto, path: str | os.PathLike[str], oldest: int) -> None:
    """Refuse opset or IR versions outside what the added operators and the oldest runtime allow."""
    if not oldest <= opset(model) <= _NEWEST_OPSET:
        raise ExportError(
            f"{path}: its opset is {opset(model)}, expected {oldest} to {_NEWEST_OPSET}; export the model again"
        )
    if model.ir_version > _NEWEST_IR:
        raise ExportError(
            f"{path}: its IR version is {model.ir_version}, expected at most {_NEWEST_IR}; export the model again"
        )


def find_logits(model: ModelProto, name: str | None = None) -> str:
    """The tensor that holds the logits [batch, classes].

    It is the output named, else the output `logits`, else the only floating [batch, classes] output. If
    that is a Softmax's result, the logits are what went into it.

    Raises:
        ExportError: there is no such output, or more than one.
    """
    outputs = {o.name: o.type.tensor_type for o in model.graph.output}
    listed = ", ".join(f"{n} [{', '.join(_side(d) for d in t.shape.dim)}]" for n, t in outputs.items())
    if name is None:
        tables = [n for n, t in outputs.items() if t.elem_type in _SCORES and len(t.shape.dim) == 2]
        if "logits" not in outputs and len(tables) != 1:
            raise ExportError(f"logits: expected one floating [batch, classes] output, got {listed}; name it")
        name = "logits" if "logits" in outputs else tables[0]
    if name not in outputs:
        raise ExportError(f"logits: the model has no output {name!r}, but {listed}")
    if outputs[name].elem_type not in _SCORES:
        raise ExportError(f"logits: expected float32 or float16 in {name!r}, got another type")
    if outputs[name].HasField("shape") and len(outputs[name].shape.dim) != 2:
        raise ExportError(f"logits: expected [batch, classes] in {name!r}, got {listed}")
    producers = {output: node for node in model.graph.node for output in node.output}
    producer = producers.get(name)
    while producer is not None and producer.op_type in ("Identity", "Cast"):
        producer = producers.get(producer.input[0])
    return producer.input[0] if producer is not None and producer.op_type == "Softmax" else name


def tensor_names(model: ModelProto) -> set[str]:
    """Every tensor and node name in the graph."""
    graph = model.graph
    names = {i.name for i in (*graph.input, *graph.initializer, *graph.output)}
    for node in graph.node:
        names.update((node.name, *node.input, *node.output))
    return names


def with_prefix(model: ModelProto, prefix: str) -> ModelProto:
    """A copy whose inner names all start with the prefix; its inputs keep theirs, as callers feed by them."""
    renamed: ModelProto = onnx.compose.add_prefix(model, prefix, rename_inputs=False)
    return renamed


def _side(dim: onnx.TensorShapeProto.Dimension) -> str:
    return str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?"
