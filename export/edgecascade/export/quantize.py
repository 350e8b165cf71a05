"""int8 for the body: static QDQ quantization by onnxruntime's own quantizer, on real inputs.

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

from edgecascade.export.errors import ExportError
from edgecascade.export.logits import find_logits

__all__ = ["quantize_int8"]


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
        logits = find_logits(model).tensor
        quantize_static(
            prepared,
            quantized,
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=[node.name for node in model.graph.node if logits in node.output],
        )
        return onnx.load(quantized)
