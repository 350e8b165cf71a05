"""Int8 for a `.tflite`, by ai-edge-quantizer: the body only. Its last layer and all that follows stay in float."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

__all__ = ["quantize_tflite"]


def quantize_tflite(content: bytes, inputs: Iterable[Mapping[str, NDArray[Any]]], logits: str) -> bytes:
    """Weights by channel and activations in int8; inputs and outputs as they were.

    Args:
        content: a float flatbuffer with one signature.
        inputs: [1, ...] by tensor name, real; a hundred or more, from data that is used for nothing else.
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
    """What the operator that makes the logits puts out, and every operator after it."""
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
