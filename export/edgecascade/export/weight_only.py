"""Store the weights of a body in 8 or 4 bits, and compute in float: for language models, whose activations need float.

Weights have one scale for each 32 inputs of an output, as in GGUF files, whose own weights of 8 bits (Q8_0) and 4 bits
(Q4_0, Q4_1, Q4_K) are therefore kept exactly. Scales and offsets are in half precision where that suffices. The last
layer stays in float.

- 8 bits are restored by standard operators, which onnxruntime runs once, when it loads the file: as fast as float, in
  as much memory, in every version. (MatMulNBits of 8 bits takes twice the time for a prompt, and 1.19 lacks it.)
- 4 bits stay packed in memory (MatMulNBits, onnxruntime 1.19 and newer). That operator is slow with offsets in float,
  so they are added apart: for each output, an offset times the sum of 32 inputs.
- Weights that had more than 4 bits in a file of which others had 4 (such as Q6_K in Q4_K_M files) get 8 bits.
- Tables of embeddings have 8 bits, and the rows of a text are restored as they are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import gcd
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgecascade.export.graph import keep, own_inputs
from edgecascade.export.quantize import last_layer, with_node_names
from edgecascade.types.errors import ExportError

__all__ = ["quantize_weights"]

_BLOCK = 32  # inputs with one scale
_LEAST = 1024  # weights; smaller tensors stay in float
_EXACT = 1e-4  # of the range of a block: weights so near to a grid were on it
_HALF = 1e-5  # relative: numbers so near to one in half precision were that one
_SAMPLE = 4096  # blocks that show whether weights were on a grid before
_DOMAIN = "com.microsoft"


class _Edit(NamedTuple):
    """What replaces a node: others, and their constants."""

    nodes: list[NodeProto]
    constants: list[TensorProto]


def quantize_weights(body: ModelProto, bits: int) -> ModelProto:
    """Return the body with weights of 8 or 4 bits, which needs no inputs to quantize on.

    Args:
        body: a float32 model.
        bits: 8, or 4 for products of matrices; tables of embeddings have 8 in either case.

    Raises:
        ExportError: the body has no weights that could be quantized.
    """
    if bits not in (4, 8):
        raise ExportError(f"bits: expected 4 or 8, got {bits}")
    model = ModelProto()
    model.CopyFrom(body)
    excluded = set(last_layer(with_node_names(model)))
    weights = {
        one.name: one
        for one in model.graph.initializer
        if one.data_type == TensorProto.FLOAT and len(one.dims) == 2 and np.prod(one.dims) >= _LEAST
    }
    known = {name: _uses(model, name) for name in weights}
    had_4 = _were_short(model.graph.node, weights)
    edits: dict[str, _Edit] = {}
    constants: dict[str, TensorProto] = {}
    for node in model.graph.node:
        name = _weight(node)
        if name not in weights or node.name in excluded or known[name] != {node.op_type}:
            continue
        values = numpy_helper.to_array(weights[name])
        if node.op_type == "Gather":
            edit = _table(node, name, values)
        elif bits == 4 and _is_packable(node, values) and (not had_4 or name in had_4):
            edit = _packed(node, name, _inner(node, values))
        else:
            edit = _restored(node, name, values, name in had_4)
        edits[node.name] = edit
        constants.update({one.name: one for one in edit.constants})
    if not edits:
        raise ExportError("body: expected weights [inputs, outputs] before the last layer, got none to quantize")
    nodes = [new for node in model.graph.node for new in (edits[node.name].nodes if node.name in edits else [node])]
    first: dict[str, NodeProto] = {}  # a weight that several nodes use is restored once
    for one in nodes:
        first.setdefault(one.output[0], one)
    nodes = list(first.values())
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    keep(model.graph.initializer, lambda one: one.name in used or one.name not in weights)
    model.graph.initializer.extend(constants.values())
    del model.graph.value_info[:]
    if bits == 4 and all(one.domain != _DOMAIN for one in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    return model


def _weight(node: NodeProto) -> str:
    """Return the name of the tensor whose rows or columns a node multiplies or looks up, if it is such a node."""
    if node.op_type == "Gather":
        return node.input[0] if all(one.name != "axis" or one.i == 0 for one in node.attribute) else ""
    return node.input[1] if node.op_type in ("MatMul", "Gemm") else ""


def _were_short(nodes: Iterable[NodeProto], weights: Mapping[str, TensorProto]) -> set[str]:
    """Return the weights of products that had 4 bits or fewer before, as those of some GGUF files had."""
    found = set()
    for node in nodes:
        if node.op_type == "Gather" or _weight(node) not in weights:
            continue
        values = numpy_helper.to_array(weights[_weight(node)])
        if _is_packable(node, values):
            blocks = _inner(node, values).reshape(-1, _BLOCK)
            some = blocks[:: max(1, len(blocks) // _SAMPLE)]
            if len(some) and _parts(some)[1].all():
                found.add(_weight(node))
    return found


def _is_packable(node: NodeProto, values: NDArray[np.float32]) -> bool:
    """Return whether a node is x W, or x W + b, without factors, and W has whole blocks."""
    if _inner(node, values).shape[1] % _BLOCK:
        return False
    factors = {one.name: one.f if one.name in ("alpha", "beta") else one.i for one in node.attribute}
    return not factors.get("transA") and factors.get("alpha", 1) == 1 == factors.get("beta", 1)


def _uses(model: ModelProto, name: str) -> set[str]:
    """Return the operators that use a weight as `_weight` says, or an empty text for another use."""
    uses = {node.op_type if _weight(node) == name else "" for node in model.graph.node if name in node.input}
    return uses | ({""} if name in {one.name for one in model.graph.output} | set(own_inputs(model)) else set())


def _inner(node: NodeProto, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the weights of a product as [outputs, inputs]."""
    transposed = any(one.name == "transB" and one.i for one in node.attribute)
    return values if transposed else values.T


def _steps_8(rows: NDArray[np.float32], block: int) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Return rows [n, k] as whole numbers [n, k / block, block], and their scales [n, k / block, 1]."""
    blocks = rows.reshape(len(rows), -1, block)
    scales = (np.abs(blocks).max(axis=2, keepdims=True) / 127).astype(np.float16)
    divisor = np.where(scales > 0, scales, 1).astype(np.float32)
    return np.clip(np.rint(blocks / divisor), -127, 127).astype(np.int8), scales


def _restored(node: NodeProto, name: str, values: NDArray[np.float32], short: bool) -> _Edit:
    """Return a product whose weights of 8 bits are restored when the file is loaded.

    Args:
        node: the product.
        name: of its weights.
        values: the weights.
        short: whether they had 4 bits before, and are whole steps from an offset.
    """
    rows = _inner(node, values)
    if short:
        blocks = (len(rows), -1, _BLOCK)
        steps, scales, offsets = (
            part.reshape(*blocks[:2], width)
            for part, width in zip(_steps_4(rows.reshape(-1, _BLOCK)), (_BLOCK, 1, 1), strict=True)
        )
        parts: dict[str, NDArray[Any]] = {"int8": steps.astype(np.int8), "scales": scales, "offsets": offsets}
    else:
        parts = dict(zip(("int8", "scales"), _steps_8(rows, gcd(_BLOCK, rows.shape[1])), strict=True))
    if not any(one.name == "transB" and one.i for one in node.attribute):
        parts = {one: np.moveaxis(part, 0, 2) for one, part in parts.items()}  # blocks lie along the first axis
    nodes = [
        helper.make_node(
            "Cast", [f"{name}/{one}"], [f"{name}/{one}/float"], name=f"{name}/{one}/float", to=TensorProto.FLOAT
        )
        for one in parts
    ]
    made, whole, shape = f"{name}/int8/float", f"{name}/float", f"{name}/shape"
    for operator, one in (("Mul", "scales"), ("Add", "offsets")):
        if one in parts:
            given, made = made, f"{name}/{operator}"
            nodes.append(helper.make_node(operator, [given, f"{name}/{one}/float"], [made], name=made))
    changed = NodeProto()
    changed.CopyFrom(node)
    changed.input[1] = whole
    return _Edit(
        [*nodes, helper.make_node("Reshape", [made, shape], [whole], name=whole), changed],
        [
            *(numpy_helper.from_array(np.ascontiguousarray(part), f"{name}/{one}") for one, part in parts.items()),
            numpy_helper.from_array(np.array(values.shape, np.int64), shape),
        ],
    )


def _table(node: NodeProto, name: str, values: NDArray[np.float32]) -> _Edit:
    """Return a look-up in a table of 8 bits: rows and their scales are looked up, then multiplied."""
    steps, scales = _steps_8(values, gcd(_BLOCK, values.shape[1]))
    q, s, flat = f"{name}/int8", f"{name}/scales", f"{name}/flat"
    rows, row_scales, wide, scale, product, shape = (
        f"{node.name}/{part}" for part in ("rows", "scales", "steps", "scale", "blocks", "shape")
    )
    ids = node.input[1]
    return _Edit(
        [
            helper.make_node("Gather", [q, ids], [rows], name=rows),
            helper.make_node("Gather", [s, ids], [row_scales], name=row_scales),
            helper.make_node("Cast", [rows], [wide], name=wide, to=TensorProto.FLOAT),
            helper.make_node("Cast", [row_scales], [scale], name=scale, to=TensorProto.FLOAT),
            helper.make_node("Mul", [wide, scale], [product], name=product),
            helper.make_node("Shape", [ids], [f"{shape}/ids"], name=f"{shape}/ids"),
            helper.make_node("Concat", [f"{shape}/ids", flat], [shape], name=shape, axis=0),
            helper.make_node("Reshape", [product, shape], [node.output[0]], name=node.name),
        ],
        [
            numpy_helper.from_array(steps, q),
            numpy_helper.from_array(scales, s),
            numpy_helper.from_array(np.array([values.shape[1]], np.int64), flat),
        ],
    )


def _packed(node: NodeProto, name: str, rows: NDArray[np.float32]) -> _Edit:
    """Return a product with weights of 4 bits: sum of scale * (step - 8) * x, plus (offset + 8 scale) * sum of x."""
    outputs, inputs = rows.shape
    steps, scales, offsets = _steps_4(rows.reshape(-1, _BLOCK))
    blocks = inputs // _BLOCK
    steps = steps.reshape(outputs, blocks, _BLOCK)
    q, s, o, sums = f"{name}/int4", f"{name}/scales", f"{name}/offsets", f"edgecascade/sums_{inputs}"
    table, scale, offset, turned, eighth, shift = (
        f"{name}/{part}" for part in ("table", "scale", "offset", "turned", "eight", "shift")
    )
    main, summed, moved = (f"{node.name}/{part}" for part in ("main", "sums", "moved"))
    bias = list(node.input[2:]) if node.op_type == "Gemm" else []
    total = node.output[0] if not bias else f"{node.name}/total"
    x = node.input[0]
    attributes = {"K": inputs, "N": outputs, "bits": 4, "block_size": _BLOCK}
    nodes = [
        helper.make_node("Cast", [s], [table], name=table, to=TensorProto.FLOAT),
        helper.make_node("Cast", [o], [offset], name=offset, to=TensorProto.FLOAT),
        helper.make_node("Reshape", [table, f"{name}/flat"], [scale], name=scale),
        helper.make_node("Transpose", [table], [turned], name=turned, perm=[1, 0]),
        helper.make_node("Mul", [turned, "edgecascade/eight"], [eighth], name=eighth),
        helper.make_node("Add", [eighth, offset], [shift], name=shift),
        helper.make_node("MatMulNBits", [x, q, scale], [main], name=main, domain=_DOMAIN, **attributes),
        helper.make_node("MatMul", [x, sums], [summed], name=summed),
        helper.make_node("MatMul", [summed, shift], [moved], name=moved),
        helper.make_node("Add", [main, moved], [total], name=f"{node.name}/total"),
        *([helper.make_node("Add", [total, bias[0]], [node.output[0]], name=node.name)] if bias else []),
    ]
    return _Edit(
        nodes,
        [
            numpy_helper.from_array((steps[:, :, ::2] | steps[:, :, 1::2] << 4).astype(np.uint8), q),
            numpy_helper.from_array(scales.reshape(outputs, blocks), s),
            numpy_helper.from_array(np.ascontiguousarray(offsets.reshape(outputs, blocks).T), o),
            numpy_helper.from_array(np.array([-1], np.int64), f"{name}/flat"),
            numpy_helper.from_array(np.array(8, np.float32), "edgecascade/eight"),
            numpy_helper.from_array(np.repeat(np.eye(blocks, dtype=np.float32), _BLOCK, axis=0), sums),
        ],
    )


def _short(values: NDArray[np.float32], exact: bool) -> NDArray[np.floating]:
    """Return numbers in half precision, unless they must be exact and would not be."""
    half = values.astype(np.float16)
    return values if exact and not np.allclose(half, values, rtol=_HALF, atol=0) else half


def _steps_4(blocks: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.floating], NDArray[np.floating]]:
    """Return blocks [n, 32] as whole numbers 0 to 15, with scales and offsets [n].

    A block whose values already lie on an even grid of 16 numbers or fewer keeps them.
    """
    low, high = blocks.min(axis=1), blocks.max(axis=1)
    parts, fits = _parts(blocks)
    scales, offsets = _short((high - low) / parts, bool(fits.any())), _short(low, bool(fits.any()))
    divisor = np.where(scales > 0, scales, 1).astype(np.float32)
    steps = np.rint((blocks - offsets.astype(np.float32)[:, None]) / divisor[:, None])
    return np.clip(steps, 0, 15).astype(np.uint8), scales, offsets


def _parts(blocks: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return how many steps [n] lie between the ends of each block, and whether all its values are whole steps."""
    low, high = blocks.min(axis=1), blocks.max(axis=1)
    parts = np.full(len(blocks), 15.0, np.float32)
    fits = _on_grid(blocks, low, high, parts)
    some = np.flatnonzero(~fits)[:_SAMPLE]
    for count in _grids(blocks[some], low[some], high[some]):
        left = np.flatnonzero(~fits)
        tried = np.full(len(left), count, np.float32)
        fitting = left[_on_grid(blocks[left], low[left], high[left], tried)]
        parts[fitting], fits[fitting] = count, True
    return parts, fits


def _grids(blocks: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]) -> Iterator[int]:
    """Yield the numbers of steps, below 15, that some of the blocks have between their ends."""
    for count in range(14, 0, -1):
        if len(blocks) and _on_grid(blocks, low, high, np.full(len(blocks), count, np.float32)).any():
            yield count


def _on_grid(
    blocks: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32], parts: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Return whether all values of each block are whole steps of a grid with so many parts between its ends."""
    extent = np.where(high > low, high - low, 1)
    steps = (blocks - low[:, None]) * (parts / extent)[:, None]
    fits: NDArray[np.bool_] = np.abs(steps - np.rint(steps)).max(axis=1) <= _EXACT * 15
    return fits
