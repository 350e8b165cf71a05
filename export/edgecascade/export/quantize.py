"""Quantize a body with onnxruntime's own tools: int8, static on real inputs or dynamic, and float16.

The layer that makes the logits, or each output of another task, stays in float. Quantizing it too would leave a few
hundred distinct confidences, which no temperature can repair.

Int8 weights are chosen so that no kernel clips a sum (see `runtime.saturation`), and the file decides alike on CPUs
with and without VNNI. Pairs of weights that add up to more than 128 steps are moved until they do not; the scale of
each output channel is the one with the least squared error after that. This costs less accuracy than 7-bit weights.
"""

from __future__ import annotations

import tempfile
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper

from edgecascade.export.graph import first_sides, own_inputs, set_first_sides
from edgecascade.export.logits import find_logits
from edgecascade.export.sources.torch_module import quiet
from edgecascade.runtime.saturation import LARGEST_PAIR, kernel_pairs, reduced_rows, unsafe_weights
from edgecascade.types.errors import ExportError

__all__ = ["last_layer", "quantize_int8", "quantize_int8_dynamic", "to_float16", "with_node_names"]

_SCALES = 17  # tried per output channel


def quantize_int8(body: ModelProto, inputs: NDArray[np.floating]) -> ModelProto:
    """Return the body with int8 weights and activations.

    Args:
        body: a float32 model with one input.
        inputs: float32 [n, ...], real and already preprocessed; a hundred or more, from data that is used for nothing
            else.

    Raises:
        ExportError: the body does not have exactly one input, or an input is not finite.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    names = own_inputs(body)
    if len(names) != 1:
        raise ExportError(f"body: expected one input to quantize for, got {len(names)}")
    finite = np.isfinite(inputs).reshape(len(inputs), -1).all(axis=1)
    if not finite.all():
        raise ExportError(f"inputs (--int8): expected finite numbers, got NaN or infinity in row {finite.argmin()}")
    (declared,) = (one for one in body.graph.input if one.name in names)
    name, sides = declared.name, declared.type.tensor_type.shape.dim
    batch = sides[0].dim_value or min(16, len(inputs))

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self._starts = iter(range(0, len(inputs) - batch + 1, batch))

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            start = next(self._starts, None)
            return None if start is None else {name: inputs[start : start + batch]}

    with tempfile.TemporaryDirectory() as folder:
        source, prepared, quantized = (Path(folder, f"{step}.onnx") for step in ("a", "b", "c"))
        onnx.save(body, source)
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        model = with_node_names(onnx.load(prepared))
        excluded = last_layer(model)
        overrides = _without_saturation(model, excluded, ("Conv", "Gemm", "MatMul"))
        onnx.save(model, prepared)
        quantize_static(
            prepared,
            quantized,
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,  # for weights without an override
            nodes_to_exclude=excluded,
            extra_options={"TensorQuantOverrides": overrides},
        )
        return _checked(onnx.load(quantized))


def quantize_int8_dynamic(body: ModelProto) -> ModelProto:
    """Return the body with int8 weights, and activations that are quantized as they come: for transformers on CPUs.

    The scale of an activation is that of a whole batch, padding included. The body therefore takes one input at a time:
    its scores would depend on the inputs beside it.

    Args:
        body: a float32 model; no inputs are needed.

    Raises:
        ExportError: the body has nothing that could be quantized.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        source, quantized = (Path(folder, f"{step}.onnx") for step in ("a", "b"))
        model = ModelProto()
        model.CopyFrom(body)
        excluded = last_layer(with_node_names(model))
        # A dynamic convolution has one scale for all channels, and seven bits by `reduce_range`.
        overrides = _without_saturation(model, excluded, ("Gemm", "MatMul"))
        onnx.save(model, source)
        with quiet("root"):  # it warns that the body could be simplified first
            quantize_dynamic(
                source,
                quantized,
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=True,  # for weights without an override, such as those of an LSTM
                nodes_to_exclude=excluded,
                extra_options={"TensorQuantOverrides": overrides},
            )
        model = _checked(onnx.load(quantized))
    if not any(node.op_type in ("MatMulInteger", "ConvInteger", "DynamicQuantizeLSTM") for node in model.graph.node):
        raise ExportError("body: expected a MatMul or convolution before the last layer, got none to quantize")
    return set_first_sides(model, {name: 1 for name, side in first_sides(model).items() if isinstance(side, str)})


def with_node_names(model: ModelProto) -> ModelProto:
    """Name the nodes without a name: the quantizer leaves nodes out by name, and "" would be all of these."""
    taken = {node.name for node in model.graph.node}
    for position, node in enumerate(model.graph.node):
        if not node.name:
            node.name = next(f"{node.op_type}_{n}" for n in count(position) if f"{node.op_type}_{n}" not in taken)
            taken.add(node.name)
    return model


def _without_saturation(
    model: ModelProto, excluded: list[str], operators: tuple[str, ...]
) -> dict[str, list[dict[str, Any]]]:
    """Move the weights to values that int8 holds and no kernel clips; return the quantizer's overrides for them."""
    weights = {one.name: one for one in model.graph.initializer if one.data_type == TensorProto.FLOAT}
    overrides: dict[str, list[dict[str, Any]]] = {}
    for node in model.graph.node:
        if node.op_type not in operators or node.name in excluded or node.input[1] not in weights:
            continue
        tensor, attributes = weights[node.input[1]], {one.name: one.i for one in node.attribute}
        if tensor.name in overrides or (node.op_type != "Conv" and len(tensor.dims) != 2):
            continue
        axis = 0 if node.op_type == "Conv" or attributes.get("transB") else 1
        values = numpy_helper.to_array(tensor).astype(np.float64)
        rows = np.array(reduced_rows(values, node.op_type, attributes))
        pairs = kernel_pairs(values.shape, node.op_type, attributes)
        steps, scales = _safe_steps(rows, pairs)
        rows = (steps * scales[:, None]).astype(np.float32)
        moved = rows.T if axis else rows.reshape(values.shape)
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(moved), tensor.name))
        overrides[tensor.name] = [
            {"axis": axis, "scale": scale, "zero_point": np.int8(0)} for scale in scales.astype(np.float32)
        ]
    return overrides


def _safe_steps(
    rows: NDArray[np.float64], pairs: list[tuple[NDArray[np.intp], NDArray[np.intp]]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weights [outputs, k] in steps from -127 to 127, no pair beyond `LARGEST_PAIR`, and scales [outputs]."""
    largest = np.abs(rows).max(axis=1)
    finest = np.where(largest > 0, largest / 127, 1.0)
    sums = [np.abs(rows[:, first] + rows[:, second]).max(axis=1, initial=0) for first, second in pairs]
    coarsest = np.max([finest, *(one / LARGEST_PAIR for one in sums)], axis=0)
    best, steps, scales = np.full(len(rows), np.inf), np.zeros_like(rows), finest.copy()
    for share in np.linspace(0, 1, _SCALES) if pairs else (0.0,):
        scale = finest + share * (coarsest - finest)
        tried = np.clip(np.rint(rows / scale[:, None]), -127, 127)
        for first, second in pairs:
            sums_ = tried[:, first] + tried[:, second]
            excess = np.maximum(np.abs(sums_) - LARGEST_PAIR, 0)
            tried[:, first] -= np.sign(sums_) * np.ceil(excess / 2)
            tried[:, second] -= np.sign(sums_) * np.floor(excess / 2)
        error = np.square(tried * scale[:, None] - rows).sum(axis=1)
        better = error < best
        best[better], steps[better], scales[better] = error[better], tried[better], scale[better]
    return steps, scales


def _checked(model: ModelProto) -> ModelProto:
    unsafe = unsafe_weights(model.SerializeToString())
    if unsafe:
        raise ExportError(f"body: int8 kernels could clip sums of {', '.join(unsafe)} on CPUs without VNNI")
    return model


def last_layer(model: ModelProto) -> list[str]:
    """Return the nodes from the last product of weights to the logits, and the names that the quantizer gives them.

    Of a model that is no classifier, they are those before each output.
    """
    try:
        ends = [find_logits(model).tensor]
    except ExportError:
        ends = [one.name for one in model.graph.output]
    producers = {output: node for node in model.graph.node for output in node.output}
    constants = {one.name for one in model.graph.initializer}
    names = []
    for end in ends:
        node = producers.get(end)
        while node is not None:
            names += [node.name, f"{node.name}_MatMul", f"{node.name}_Add"]  # it splits a Gemm in two
            if node.op_type in ("MatMul", "Gemm", "Conv"):
                break
            node = next((producers[name] for name in node.input if name in producers and name not in constants), None)
    return list(dict.fromkeys(names))


def to_float16(body: ModelProto) -> ModelProto:
    """Return the body in half precision, with its inputs and outputs unchanged: for GPUs; most CPUs gain no speed.

    Args:
        body: a float32 model.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    copy = ModelProto()
    copy.CopyFrom(body)
    converted = OnnxModel(convert_float_to_float16(copy, keep_io_types=True))
    converted.topological_sort()  # the conversion puts a cast behind the node that needs it
    model: ModelProto = converted.model
    return model
