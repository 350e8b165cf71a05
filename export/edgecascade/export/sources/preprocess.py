"""Image preprocessing as part of the graph, so that every runtime feeds the body the same pixels."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, compose, helper, numpy_helper

from edgecascade.export.graph import Step, keep, opset, own_inputs, tensor_names, with_versions
from edgecascade.types.document import PREPROCESSING_KEY, ImagePreprocessing, preprocessing_dict, read_preprocessing
from edgecascade.types.errors import ExportError

__all__ = ["after_resizing", "prepend", "standalone", "suited"]

_INNER = "preprocess/"
_OPSET = 18  # the first whose Resize has antialiasing
_TYPES: dict[int, str] = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.UINT8: "uint8"}
_LUMA = (0.299, 0.587, 0.114)  # of ITU-R BT.601, as Pillow and OpenCV weight red, green and blue


def suited(preprocessing: ImagePreprocessing, body: ModelProto) -> ImagePreprocessing:
    """Return the preprocessing with the layout, type and number of channels that a body's input declares.

    Args:
        preprocessing: what to do, with the same mean for all channels if the body takes one channel.
        body: a model with one input [batch, channels, height, width] or [batch, height, width, channels].

    Raises:
        ExportError: the body has several inputs.
        ArgumentError: the body takes one channel, and the means differ.
    """
    declared = _image_input(body).type.tensor_type
    sides = [side.dim_value for side in declared.shape.dim]
    last = len(sides) == 4 and sides[3] in (1, 3) and sides[1] not in (1, 3)
    alone = len(sides) == 4 and sides[3 if last else 1] == 1
    return replace(
        preprocessing,
        layout="NHWC" if last else preprocessing.layout,
        channels="grey" if alone else preprocessing.channels,
        dtype=_TYPES.get(declared.elem_type, preprocessing.dtype),
    )


def prepend(preprocessing: ImagePreprocessing, body: ModelProto) -> ModelProto:
    """Return a copy of a body that takes `image`, uint8 RGB [batch, height, width, 3] of any size.

    Args:
        preprocessing: resizing, cropping and normalization, in the form that the body takes (see `suited`).
        body: a model with one input of that form and of the preprocessing's size; one below opset 18 is converted.

    Raises:
        ExportError: the body is not such a model.
    """
    if any(entry.key == PREPROCESSING_KEY for entry in body.metadata_props):
        raise ExportError("body: expected a model without preprocessing, got one that has it in its graph already")
    body = with_versions(body, "body", oldest=_OPSET)
    declared = _image_input(body)
    sides = [d.dim_value for d in declared.type.tensor_type.shape.dim]
    wanted = _sides(preprocessing)
    if (
        _TYPES.get(declared.type.tensor_type.elem_type) != preprocessing.dtype
        or len(sides) != 4
        or any(side not in (0, want) for side, want in zip(sides[1:], wanted, strict=True))
    ):
        kind = TensorProto.DataType.Name(declared.type.tensor_type.elem_type).lower()
        raise ExportError(
            f"body: expected a {preprocessing.dtype} input [batch, {', '.join(map(str, wanted))}], got {kind} with "
            f"sides {sides}"
        )
    model = ModelProto()
    model.CopyFrom(body)
    if any(name == "image" or name.startswith(_INNER) for name in tensor_names(body)):
        model = compose.add_prefix(body, "body/", rename_outputs=False)
    declared = _image_input(model)
    name, body_nodes = declared.name, list(model.graph.node)
    del model.graph.node[:]
    keep(model.graph.input, lambda one: one.name != name)
    model.graph.node.extend([*_nodes(preprocessing, name), *body_nodes])
    _add_input_and_constants(model, preprocessing, batch=sides[0] or "batch")
    model.metadata_props.add(key=PREPROCESSING_KEY, value=json.dumps(preprocessing_dict(preprocessing)))
    return model


def _image_input(body: ModelProto) -> ValueInfoProto:
    own = own_inputs(body)
    if len(own) != 1:
        raise ExportError(f"body: expected one input to preprocess, got {len(own)}")
    declared: ValueInfoProto = next(one for one in body.graph.input if one.name == own[0])
    return declared


def _sides(preprocessing: ImagePreprocessing) -> list[int | str | None]:
    """Return the sides of one input of the body."""
    channels, size = 1 if preprocessing.channels == "grey" else 3, [preprocessing.height, preprocessing.width]
    return [channels, *size] if preprocessing.layout == "NCHW" else [*size, channels]


def after_resizing(model: ModelProto) -> tuple[str, tuple[int, int, int]] | None:
    """Return the tensor that holds resized and cropped pixels, and its height, width and channels.

    It is None if the model has no image preprocessing in its graph.
    """
    text = next((one.value for one in model.metadata_props if one.key == PREPROCESSING_KEY), None)
    found = read_preprocessing(text, "model")
    sized = f"{_INNER}sized"
    if not isinstance(found, ImagePreprocessing) or not any(sized in node.output for node in model.graph.node):
        return None
    return sized, (found.height, found.width, 3)


def standalone(preprocessing: ImagePreprocessing, like: ModelProto) -> ModelProto:
    """Return a model of the preprocessing only, from `image` to `pixels`, with the opset and IR version of another."""
    kind = next(kind for kind, name in _TYPES.items() if name == preprocessing.dtype)
    pixels = helper.make_tensor_value_info("pixels", kind, ["batch", *_sides(preprocessing)])
    graph = helper.make_graph(_nodes(preprocessing, "pixels"), "preprocessing", [], [pixels])
    imports = [helper.make_opsetid("", max(opset(like), _OPSET))]
    model = helper.make_model(graph, opset_imports=imports, ir_version=like.ir_version)
    _add_input_and_constants(model, preprocessing, batch="batch")
    return model


def _add_input_and_constants(model: ModelProto, preprocessing: ImagePreprocessing, batch: int | str) -> None:
    shape: list[int | str | None] = [batch, "height", "width", 3]
    model.graph.input.append(helper.make_tensor_value_info("image", TensorProto.UINT8, shape))
    constants: dict[str, NDArray[Any]] = {
        "size": np.array([preprocessing.height, preprocessing.width], np.int64),
        "length": np.array([preprocessing.height, preprocessing.width], np.float32),
        "mean": np.array(preprocessing.mean[: _sides_of_mean(preprocessing)], np.float32).reshape(1, 1, 1, -1),
        "std": np.array(preprocessing.std[: _sides_of_mean(preprocessing)], np.float32).reshape(1, 1, 1, -1),
        "edge": np.array([preprocessing.shortest_edge or 0] * 2, np.int64),
        "two": np.array(2, np.int64),
        "axes": np.array([1, 2], np.int64),
        "half": np.array(0.5, np.float32),
        "one": np.array(1, np.int64),
        "fill": np.array(preprocessing.letterbox or 0, np.float32),
        "reversed": np.array([2, 1, 0], np.int64),
        "luma": np.array(_LUMA, np.float32).reshape(1, 1, 1, 3),
        "last": np.array([3], np.int64),
        "black": np.array(0, np.float32),
        "white": np.array(255, np.float32),
    }
    used = {name for node in model.graph.node for name in node.input}
    for name, value in constants.items():
        if f"{_INNER}{name}" in used:
            model.graph.initializer.append(numpy_helper.from_array(value, f"{_INNER}{name}"))


def _sides_of_mean(preprocessing: ImagePreprocessing) -> int:
    return 1 if preprocessing.channels == "grey" else 3


def _nodes(preprocessing: ImagePreprocessing, output: str) -> list[NodeProto]:
    """Return the nodes; they resize before the Transpose, after which ONNX Runtime 1.32 loses Resize's `sizes`."""
    steps = [
        ("Cast", ["image"], "float", {"to": TensorProto.FLOAT}),
        *_sizing(preprocessing),
        *_colouring(preprocessing),
    ]
    nodes = []
    for position, (operator, inputs, result, attributes) in enumerate(steps):
        feeds = [name if name in ("", "image") else f"{_INNER}{name}" for name in inputs]
        made = output if position == len(steps) - 1 else f"{_INNER}{result}"
        nodes.append(helper.make_node(operator, feeds, [made], name=f"{_INNER}{position}_{operator}", **attributes))
    return nodes


def _sizing(preprocessing: ImagePreprocessing) -> list[Step]:
    """Return the steps from `float` to `sized`, RGB [batch, height, width, 3]."""
    resize: dict[str, Any] = {
        "mode": preprocessing.interpolation,
        "axes": [1, 2],
        "antialias": 1,
        "exclude_outside": 1,
        "cubic_coeff_a": -0.5,
    }
    if preprocessing.shortest_edge is not None:
        policy = {"keep_aspect_ratio_policy": "not_smaller"}
        return [
            ("Resize", ["float", "", "", "edge"], "resized", {**resize, **policy}),
            ("Shape", ["resized"], "sides", {"start": 1, "end": 3}),
            ("Sub", ["sides", "size"], "excess", {}),
            ("Div", ["excess", "two"], "start", {}),
            ("Add", ["start", "size"], "end", {}),
            ("Slice", ["resized", "start", "end", "axes"], "sized", {}),
        ]
    if preprocessing.letterbox is not None:
        return [
            ("Shape", ["float"], "sides", {"start": 1, "end": 3}),
            ("Cast", ["sides"], "lengths", {"to": TensorProto.FLOAT}),
            ("Div", ["length", "lengths"], "scales", {}),
            ("ReduceMin", ["scales"], "scale", {"keepdims": 1}),
            ("Mul", ["scale", "lengths"], "scaled_lengths", {}),
            ("Add", ["scaled_lengths", "half"], "above", {}),
            ("Floor", ["above"], "rounded", {}),
            ("Cast", ["rounded"], "whole", {"to": TensorProto.INT64}),
            ("Max", ["whole", "one"], "fitted", {}),
            ("Resize", ["float", "", "", "fitted"], "resized", resize),
            ("Sub", ["size", "fitted"], "missing", {}),
            ("Div", ["missing", "two"], "before", {}),
            ("Sub", ["missing", "before"], "after", {}),
            ("Concat", ["before", "after"], "borders", {"axis": 0}),
            ("Pad", ["resized", "borders", "fill", "axes"], "sized", {}),
        ]
    return [("Resize", ["float", "", "", "size"], "sized", resize)]


def _colouring(preprocessing: ImagePreprocessing) -> list[Step]:
    """Return the steps from `sized` to what the body takes."""
    steps: list[Step] = []
    if preprocessing.channels == "bgr":
        steps.append(("Gather", ["sized", "reversed"], "coloured", {"axis": 3}))
    elif preprocessing.channels == "grey":
        steps.append(("Mul", ["sized", "luma"], "weighted", {}))
        steps.append(("ReduceSum", ["weighted", "last"], "coloured", {"keepdims": 1}))
    coloured = "coloured" if steps else "sized"
    if preprocessing.dtype == "uint8":
        steps.append(("Round", [coloured], "rounded_levels", {}))
        steps.append(("Clip", ["rounded_levels", "black", "white"], "levels", {}))
    else:
        steps.append(("Sub", [coloured, "mean"], "centred", {}))
        steps.append(("Div", ["centred", "std"], "scaled", {}))
    made = steps[-1][2]
    if preprocessing.layout == "NCHW":
        steps.append(("Transpose", [made], "planes", {"perm": [0, 3, 1, 2]}))
    if preprocessing.dtype != "float32":
        to = TensorProto.UINT8 if preprocessing.dtype == "uint8" else TensorProto.FLOAT16
        steps.append(("Cast", [steps[-1][2]], "typed", {"to": to}))
    return steps
