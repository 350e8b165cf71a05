"""From ONNX to TFLite: what of a cascade graph TFLite can hold, conversion by onnx2tf, int8 by ai-edge-quantizer."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, shape_inference

from edgecascade.export.fold import CLASSIFIER
from edgecascade.export.graph import keep
from edgecascade.export.head import INNER
from edgecascade.export.sources import after_resizing
from edgecascade.types.errors import ExportError

__all__ = ["convert", "converter_command", "quantize_tflite", "tflite_graph"]

_TIMEOUT = 600  # seconds
_HOW_TO_INSTALL = (
    "install it with `pipx install onnx2tf==2.6.9`, or into an environment of its own and give that environment's "
    "command with --converter"
)
_QUANTIZED = ("QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "QLinearConv")


def tflite_graph(model: ModelProto, logits: str) -> ModelProto:
    """Return a copy of a cascade model for the converter, with the same arithmetic and one input at a time.

    TFLite cannot override a constant, so `forward` is left to the runtime, which reads the threshold from the metadata.
    Nor does it have antialiased resizing, so an image enters as float32 pixels [1, height, width, 3], resized before.

    Args:
        model: a cascade model.
        logits: the tensor that its logits are computed from, which becomes an output.

    Raises:
        ExportError: the model is quantized already, has an operator of `ai.onnx.ml`, or an input with a side of no
            fixed size.
    """
    quantized = next((node.op_type for node in model.graph.node if node.op_type in _QUANTIZED), None)
    if quantized:
        raise ExportError(
            f"model: expected a float model, got one with {quantized}; "
            "calibrate the float body, and quantize for TFLite with --int8"
        )
    learned = next((node.op_type for node in model.graph.node if node.domain == "ai.onnx.ml"), None)
    if learned:
        raise ExportError(
            f"model: expected operators of ONNX itself, got {learned} of ai.onnx.ml, which TFLite does not have"
        )
    copy = ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    keep(graph.input, lambda one: one.name not in CLASSIFIER.overridable)
    resized = after_resizing(copy)
    if resized is not None:
        tensor, sides = resized
        del graph.input[:]
        graph.input.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, [1, *sides]))
        keep(graph.node, lambda node: tensor not in node.output)
    for one in graph.input:
        _fix_sides(one)
    for node in graph.node:
        # The converter takes `Max(p, tiny)` before the logarithm of entropy for a Relu, and 0 log 0 becomes NaN.
        if node.op_type == "Max" and node.output[0] == f"{INNER}positive":
            node.op_type = "Add"
    del graph.output[:], graph.value_info[:]
    graph.output.extend(
        ValueInfoProto(name=name) for name in dict.fromkeys([logits, *CLASSIFIER.outputs]) if name != "forward"
    )
    _drop_unused(copy)
    return shape_inference.infer_shapes(copy, data_prop=True)


def _fix_sides(declared: ValueInfoProto) -> None:
    """Set the batch axis to 1, and check that all other sides are known."""
    sides = declared.type.tensor_type.shape.dim
    if sides:
        sides[0].dim_value = 1
    if declared.type.tensor_type.elem_type == TensorProto.FLOAT16:
        raise ExportError(f"model: expected float32 inputs, got float16 in {declared.name}; convert the float32 model")
    for side in sides:
        if not side.dim_value:
            raise ExportError(
                f"model: its input {declared.name} has a side `{side.dim_param or '?'}` of no fixed size, "
                "which TFLite needs; export the body with that size"
            )


def _drop_unused(model: ModelProto) -> None:
    """Delete the nodes and constants that no output depends on, on which a converter could fail."""
    graph, used, nodes = model.graph, {one.name for one in model.graph.output}, []
    for node in reversed(graph.node):
        if used.intersection(node.output):
            used.update(node.input)
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(reversed(nodes))
    keep(graph.initializer, lambda one: one.name in used)


def convert(model: ModelProto, converter: str | None = None) -> bytes:
    """Convert an ONNX model of fixed shapes to a `.tflite` flatbuffer; its inputs keep their names and layout.

    onnx2tf pins every package that it needs, to versions unlike ours, so the user installs it apart.

    Args:
        model: the ONNX model, as from `tflite_graph`.
        converter: the path of onnx2tf or a command that runs it, such as `/opt/onnx2tf/bin/python -m onnx2tf`. By
            default it is run from the environment of this process, or else from the search path.

    Raises:
        ExportError: onnx2tf is not installed, or cannot convert the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "model.onnx")
        onnx.save(model, source)
        inputs = [one.name for one in model.graph.input]
        command = [*converter_command(converter), "-i", str(source), "-o", folder, "-n", "-kat", *inputs]
        try:
            done = subprocess.run(
                command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT
            )
            said = done.stdout + done.stderr
        except (OSError, subprocess.TimeoutExpired) as error:
            said = str(error)
        written = Path(folder, "model_float32.tflite")
        if not written.is_file():
            lines = [line.strip() for line in said.splitlines() if line.strip()]
            errors = [line for line in lines if "error" in line.lower()]
            reason = (errors or lines or ["it gave no reason"])[-1]
            raise ExportError(f"model: onnx2tf cannot convert it: {reason}")
        return written.read_bytes()


def converter_command(converter: str | None = None) -> list[str]:
    """Return the command that runs onnx2tf.

    Args:
        converter: as in `convert`.

    Raises:
        ExportError: it is not installed.
    """
    if converter is None:
        if find_spec("onnx2tf") is not None:
            return [sys.executable, "-m", "onnx2tf"]
        command = ["onnx2tf"]
    else:
        command = [converter] if Path(converter).is_file() else shlex.split(converter)
    found = shutil.which(command[0]) if command else None
    if found is not None:
        return [str(Path(found).absolute()), *command[1:]]
    if converter is None:
        raise ExportError(f"the converter onnx2tf is not installed; {_HOW_TO_INSTALL}")
    raise ExportError(f"--converter: expected a command that runs onnx2tf, got {converter!r}, which is not found")


def quantize_tflite(content: bytes, inputs: Iterable[Mapping[str, NDArray[Any]]], logits: str) -> bytes:
    """Quantize the body in a float flatbuffer to int8: weights by channel, and activations.

    Its last layer and everything after it stay in float, and so do inputs and outputs.

    Args:
        content: a float flatbuffer with one signature.
        inputs: real inputs [1, ...] by tensor name; a hundred or more, from data that is used for nothing else.
        logits: the tensor whose layer is the last one.
    """
    from ai_edge_quantizer import quantizer, recipe
    from ai_edge_quantizer.qtyping import TFLOperationName
    from ai_edge_quantizer.recipe import AlgorithmName

    work = quantizer.Quantizer(bytearray(content), recipe.static_wi8_ai8())
    for scope, operation in (
        (".*", TFLOperationName.INPUT),
        (".*", TFLOperationName.OUTPUT),
        ("|".join(f"^{re.escape(name)};?$" for name in _from(content, logits)), TFLOperationName.ALL_SUPPORTED),
    ):
        work.update_quantization_recipe(scope, operation, algorithm_key=AlgorithmName.NO_QUANTIZE)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")  # of its own debugging mode, and of constants in head operators
        seen = work.calibrate({"serving_default": inputs}, num_threads=1)
        return bytes(work.quantize(seen).quantized_model)


def _from(content: bytes, logits: str) -> list[str]:
    """Return the outputs of the operator that makes the logits, and of every operator after it."""
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.ModelT.InitFromPackedBuf(content, 0).subgraphs[0]
    names = [tensor.name.decode() for tensor in graph.tensors]
    reached = {names.index(logits)}
    outputs = []
    for operator in graph.operators:
        if reached.intersection([*operator.inputs, *operator.outputs]):
            reached.update(int(tensor) for tensor in operator.outputs)
            outputs += [names[tensor] for tensor in operator.outputs]
    return outputs
