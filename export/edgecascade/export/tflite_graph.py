"""What of a cascade model's graph TFLite can hold: constants for defaults, sides of fixed size, one input at a time."""

from __future__ import annotations

from onnx import ModelProto, TensorProto, ValueInfoProto, helper, shape_inference

from edgecascade.export.fold import INNER, OUTPUTS, OVERRIDABLE
from edgecascade.export.graph import keep
from edgecascade.export.preprocess import after_resizing
from edgecascade.types.errors import ExportError

__all__ = ["tflite_graph"]

_QUANTIZED = ("QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "QLinearConv")


def tflite_graph(model: ModelProto, logits: str) -> ModelProto:
    """A copy for the converter, of the same arithmetic.

    TFLite cannot override a constant, so `forward` is left to the runtime, which has the threshold from the metadata.
    It has no antialiased resizing either, so an image enters as float32 pixels [1, height, width, 3], resized before.

    Args:
        model: a cascade model.
        logits: the tensor that its logits are made of, which becomes an output.

    Raises:
        ExportError: it is quantized already, has an operator of `ai.onnx.ml`, or an input with a side of no fixed size.
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
            f"model: expected operators of ONNX itself, got {learned} of ai.onnx.ml, which TFLite has not"
        )
    copy = ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    keep(graph.input, lambda one: one.name not in OVERRIDABLE)
    resized = after_resizing(copy)
    if resized is not None:
        tensor, sides = resized
        del graph.input[:]
        graph.input.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, [1, *sides]))
        keep(graph.node, lambda node: tensor not in node.output)
    for one in graph.input:
        _fix_sides(one)
    _add_tiny(copy)
    del graph.output[:], graph.value_info[:]
    graph.output.extend(ValueInfoProto(name=name) for name in dict.fromkeys([logits, *OUTPUTS]) if name != "forward")
    _drop_unused(copy)
    return shape_inference.infer_shapes(copy, data_prop=True)


def _add_tiny(model: ModelProto) -> None:
    """Entropy's log of 0: the converter takes `Max(p, tiny)` for a Relu, and 0 log 0 becomes NaN; a sum it keeps."""
    for node in model.graph.node:
        if node.op_type == "Max" and node.output[0] == f"{INNER}positive":
            node.op_type = "Add"


def _fix_sides(declared: ValueInfoProto) -> None:
    """One input at a time; what else is open cannot be guessed."""
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
    """Nodes and constants that no output is made of, and which a converter could stumble over."""
    graph, used, nodes = model.graph, {one.name for one in model.graph.output}, []
    for node in reversed(graph.node):
        if used.intersection(node.output):
            used.update(node.input)
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(reversed(nodes))
    keep(graph.initializer, lambda one: one.name in used)
