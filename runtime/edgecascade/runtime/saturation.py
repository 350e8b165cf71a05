"""Find int8 weights whose sums onnxruntime's kernels clip on x86 CPUs without VNNI, and detect such a CPU.

There, the instruction `vpmaddubsw` multiplies two neighbouring weights by two uint8 activations and clips the sum of
both products to 16 bits. With activations of 255, a pair is clipped if its weights add up to more than 128, or to less
than -128. Kernels pair the weights 2i and 2i + 1 along the reduced axis (MLAS, the files `Qgemm*U8S8Kernel*`,
`QgemvU8S8Kernel*` and `ConvSymKernel*`); those of depthwise convolutions add in 32 bits. Of int8 activations in the
QOperator format no sum is clipped, and the option that avoids clipping would leave them without a kernel.
"""

from __future__ import annotations

import base64
import functools
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecascade.runtime.protobuf import fields, read_varint

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LARGEST_PAIR", "kernel_pairs", "reduced_rows", "saturates_here", "unsafe_weights"]

LARGEST_PAIR = 128  # 255 * 128 fits into 16 bits, 255 * 129 does not
_INT8 = 3  # onnx.TensorProto.INT8
_WEIGHTS = {  # operator: which of its inputs are weights
    "Conv": (1,),
    "MatMul": (1,),
    "Gemm": (1,),
    "QLinearConv": (3,),
    "QLinearMatMul": (3,),
    "QGemm": (3,),
    "MatMulInteger": (1,),
    "MatMulIntegerToFloat": (1,),
    "DynamicQuantizeMatMul": (1,),
    "QAttention": (1,),
    "DynamicQuantizeLSTM": (1, 2),
}
_SIGNED = ("QLinearConv", "QLinearMatMul", "QGemm")  # the type of input 2, a zero point, is that of the activations
_FLOATING = ("Conv", "MatMul", "Gemm")  # run in int8 only where input and weights are dequantized just before
# y = MatMulInteger(x, [[127], [127]]), x uint8 [1, 2], y int32 [1, 1]; opset 10.
_PROBE = base64.b64decode(
    "CAQ6VgoYCgF4CgF3EgF5Ig1NYXRNdWxJbnRlZ2VyEgFnKg0IAggBEANCAXdKAn9/WhMKAXgSDgoMCAISCAoCCAEKAggCYhMKAXkSDgoMCAYSCAoCCAEKAggBQgQKABAK"
)


def reduced_rows(weights: NDArray[Any], operator: str, attributes: Mapping[str, int]) -> NDArray[Any]:
    """Return the weights as [outputs, k], where a kernel multiplies the k of a row and adds them up.

    Args:
        weights: as the operator takes them.
        operator: its type, one of ONNX or of onnxruntime's quantized ones.
        attributes: its integer attributes.
    """
    if operator.endswith("Conv"):
        return weights.reshape(len(weights), -1)
    if attributes.get("transB"):
        return weights
    return np.swapaxes(weights, -1, -2).reshape(-1, weights.shape[-2])


def kernel_pairs(
    shape: Sequence[int], operator: str, attributes: Mapping[str, int]
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return the columns of `reduced_rows` that kernels add in pairs: the first and the second of each.

    A convolution may run in two orders, pixel by pixel or channel by channel; each is one item. A depthwise
    convolution has none.

    Args:
        shape: shape of the weights.
        operator: as `reduced_rows` takes it.
        attributes: likewise.
    """
    orders = [np.arange(shape[-1 if attributes.get("transB") else -2])]
    if operator.endswith("Conv"):
        outputs, channels, *kernel = shape
        if attributes.get("group", 1) == outputs > 1 and channels == 1:
            return []
        columns = np.arange(channels * int(np.prod(kernel)))
        orders = [columns, columns.reshape(channels, -1).T.ravel()]
    return [(order[: len(order) // 2 * 2 : 2], order[1::2]) for order in orders]


@functools.cache
def saturates_here() -> bool:
    """Return whether int8 kernels clip sums on this CPU, by running one."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(_PROBE, options, providers=["CPUExecutionProvider"])
    (sums,) = session.run(None, {"x": np.full((1, 2), 255, np.uint8)})
    return int(sums[0, 0]) != 2 * 255 * 127


def unsafe_weights(model: str | os.PathLike[str] | bytes) -> list[str]:
    """Return the names of a model's int8 weights whose sums can be clipped on an x86 CPU without VNNI.

    Int8 weights in external files count as unsafe, since they are not read. An unreadable file gives an empty list;
    the engine reports its error.

    Args:
        model: an ONNX file, or its bytes.
    """
    try:
        if isinstance(model, bytes):
            return list(_unsafe(memoryview(model)))
        return list(_unsafe(np.memmap(model, np.uint8, "r").data))
    except (OSError, ValueError, IndexError, KeyError, TypeError):
        return []


def _unsafe(model: memoryview) -> Iterator[str]:
    nodes, tensors, dequantized, signed = [], {}, {}, set()
    for graph in (value for field, value in fields(model) if field == 7):
        for field, value in fields(graph):
            if field == 1:
                nodes.append(_node(value))
            elif field == 5 and (found := _int8(value)) is not None:
                signed.add(found[0])
                if len(found[1]) > 1:
                    tensors[found[0]] = found[1:]
    for operator, inputs, outputs, _ in nodes:
        if operator == "DequantizeLinear":
            dequantized[outputs[0]] = inputs[0]
    seen = set()
    for operator, inputs, _, attributes in nodes:
        if operator in _FLOATING and inputs[0] not in dequantized:
            continue
        if operator in _SIGNED and signed.intersection(inputs[2:3]):
            continue
        for position in _WEIGHTS.get(operator, ()):
            name = dequantized.get(inputs[position], inputs[position])
            if name in seen or name not in tensors:
                continue
            seen.add(name)
            if _clipped(*tensors[name], operator, attributes):
                yield name


def _clipped(shape: Sequence[int], raw: bytes | None, operator: str, attributes: Mapping[str, int]) -> bool:
    if raw is None:
        return True
    rows = reduced_rows(np.frombuffer(raw, np.int8).reshape(shape), operator, attributes).astype(np.int16)
    return any(
        bool((np.abs(rows[:, first] + rows[:, second]) > LARGEST_PAIR).any())
        for first, second in kernel_pairs(shape, operator, attributes)
    )


def _node(data: memoryview) -> tuple[str, list[str], list[str], dict[str, int]]:
    operator, inputs, outputs, attributes = "", [], [], {}
    for field, value in fields(data):
        if field == 1:
            inputs.append(str(value, "utf-8"))
        elif field == 2:
            outputs.append(str(value, "utf-8"))
        elif field == 4:
            operator = str(value, "utf-8")
        elif field == 5:
            entries = dict(fields(value))
            if isinstance(entries.get(3), int):
                attributes[str(entries[1], "utf-8")] = entries[3]
    return operator, inputs, outputs, attributes


def _int8(data: memoryview) -> tuple[str, list[int], bytes | None] | None:
    """Return name, shape and values of a tensor if it is int8; otherwise None."""
    name, shape, kind, raw = "", [], 0, None
    for field, value in fields(data):
        if field == 1:
            shape += [value] if isinstance(value, int) else _varints(value)
        elif field == 2:
            kind = value
        elif field == 8:
            name = str(value, "utf-8")
        elif field == 9 and kind == _INT8:
            raw = bytes(value)
    return (name, shape, raw) if kind == _INT8 else None


def _varints(data: Any) -> list[int]:
    position, found = 0, []
    while position < len(data):
        value, position = read_varint(data, position)
        found.append(value)
    return found
