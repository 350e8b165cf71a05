"""Fewer bits for the body, by onnxruntime's own tools: int8, static on real inputs or dynamic, and float16.

The layer that makes the logits stays in float. Quantizing it too leaves a few hundred distinct
confidences, which no temperature can repair.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from edgecascade.export.logits import find_logits
from edgecascade.types.errors import ExportError

__all__ = ["quantize_int8", "quantize_int8_dynamic", "to_float16"]


def quantize_int8(body: ModelProto, inputs: NDArray[np.floating]) -> ModelProto:
    """The body with int8 weights and activations.

    Args:
        body: float32 model with one input.
        inputs: float32 [n, ...], real and already preprocessed; a hundred or more, from data that is used
            for nothing else.

    Raises:
        ExportError: the body has no input of its own, or not one.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if len(body.graph.input) != 1:
        raise ExportError(f"body: expected one input to quantize for, got {len(body.graph.input)}")
    name = body.graph.input[0].name
    batch = body.graph.input[0].type.tensor_type.shape.dim[0].dim_value or min(16, len(inputs))

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
        model = onnx.load(prepared)
        quantize_static(
            prepared,
            quantized,
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=_last_layer(model),
        )
        return onnx.load(quantized)


def quantize_int8_dynamic(body: ModelProto) -> ModelProto:
    """The body with int8 weights, and activations quantized as they come: for transformers, on CPUs.

    Args:
        body: float32 model; its inputs need not be known.

    Raises:
        ExportError: it has nothing that could be quantized.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        source, quantized = (Path(folder, f"{step}.onnx") for step in ("a", "b"))
        onnx.save(body, source)
        quantize_dynamic(
            source,
            quantized,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_last_layer(body),
        )
        model = onnx.load(quantized)
    if not any(node.op_type in ("MatMulInteger", "ConvInteger", "DynamicQuantizeLSTM") for node in model.graph.node):
        raise ExportError("body: it has no MatMul or convolution before the logits that could be quantized")
    return model


def _last_layer(model: ModelProto) -> list[str]:
    """The nodes from the last product of weights to the logits, under the names that the quantizer gives them too."""
    producers = {output: node for node in model.graph.node for output in node.output}
    constants = {one.name for one in model.graph.initializer}
    names, node = [], producers.get(find_logits(model).tensor)
    while node is not None:
        names += [node.name, f"{node.name}_MatMul", f"{node.name}_Add"]  # it splits a Gemm in two
        if node.op_type in ("MatMul", "Gemm", "Conv"):
            break
        node = next((producers[name] for name in node.input if name in producers and name not in constants), None)
    return names


def to_float16(body: ModelProto) -> ModelProto:
    """The body in half precision, with inputs and outputs as they were: for GPUs; on most CPUs it is not faster.

    Args:
        body: float32 model.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    copy = ModelProto()
    copy.CopyFrom(body)
    converted = OnnxModel(convert_float_to_float16(copy, keep_io_types=True))
    converted.topological_sort()  # the conversion puts a cast behind the node that needs it
    model: ModelProto = converted.model
    return model
