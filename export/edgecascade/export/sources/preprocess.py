"""Image preprocessing as part of the graph, so that every runtime feeds the body the same pixels."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, compose, helper, numpy_helper

from edgecascade.export.graph import Step, opset, tensor_names, with_versions
from edgecascade.types.document import PREPROCESSING_KEY, ImagePreprocessing, preprocessing_dict, read_preprocessing
from edgecascade.types.errors import ExportError

__all__ = ["after_resizing", "prepend", "standalone"]

_INNER = "preprocess/"


def prepend(preprocessing: ImagePreprocessing, body: ModelProto) -> ModelProto:
    """Return a copy of a body that takes `image`, uint8 RGB [batch, height, width, 3] of any size.

    Args:
        preprocessing: resizing, cropping and normalization.
        body: a model with one input, float32 [batch, 3, height, width] of the preprocessing's size, of opset 18 or
            newer.

    Raises:
        ExportError: the body is not such a model.
    """
    body = with_versions(body, "body", oldest=18)
    if len(body.graph.input) != 1:
        raise ExportError(f"body: expected one input to preprocess, got {len(body.graph.input)}")
    (declared,) = body.graph.input
    sides = [d.dim_value for d in declared.type.tensor_type.shape.dim]
    wanted = [3, preprocessing.height, preprocessing.width]
    if (
        declared.type.tensor_type.elem_type != TensorProto.FLOAT
        or len(sides) != 4
        or any(side not in (0, want) for side, want in zip(sides[1:], wanted, strict=True))
    ):
        raise ExportError(f"body: expected a float32 input [batch, {', '.join(map(str, wanted))}], got sides {sides}")
    model = ModelProto()
    model.CopyFrom(body)
    if any(name == "image" or name.startswith(_INNER) for name in tensor_names(body)):
        model = compose.add_prefix(body, "body/", rename_outputs=False)
        declared = model.graph.input[0]
    body_nodes = list(model.graph.node)
    del model.graph.node[:], model.graph.input[:]
    model.graph.node.extend([*_nodes(preprocessing, declared.name), *body_nodes])
    _add_input_and_constants(model, preprocessing, batch=sides[0] or "batch")
    model.metadata_props.add(key=PREPROCESSING_KEY, value=json.dumps(preprocessing_dict(preprocessing)))
    return model


def after_resizing(model: ModelProto) -> tuple[str, tuple[int, int, int]] | None:
    """Return the tensor that holds resized and cropped pixels, and its height, width and channels.

    It is None if the model has no image preprocessing in its graph.
    """
    text = next((one.value for one in model.metadata_props if one.key == PREPROCESSING_KEY), None)
    found = read_preprocessing(text, "model")
    centring = [node for node in model.graph.node if f"{_INNER}mean" in node.input]
    if not isinstance(found, ImagePreprocessing) or not centring:
        return None
    return centring[0].input[0], (found.height, found.width, 3)


def standalone(preprocessing: ImagePreprocessing, like: ModelProto) -> ModelProto:
    """Return a model of the preprocessing only, from `image` to `pixels`, with the opset and IR version of another."""
    shape: list[int | str | None] = ["batch", 3, preprocessing.height, preprocessing.width]
    graph = helper.make_graph(
        _nodes(preprocessing, "pixels"),
        "preprocessing",
        [],
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)],
    )
    imports = [helper.make_opsetid("", opset(like))]
    model = helper.make_model(graph, opset_imports=imports, ir_version=like.ir_version)
    _add_input_and_constants(model, preprocessing, batch="batch")
    return model


def _add_input_and_constants(model: ModelProto, preprocessing: ImagePreprocessing, batch: int | str) -> None:
    shape: list[int | str | None] = [batch, "height", "width", 3]
    model.graph.input.append(helper.make_tensor_value_info("image", TensorProto.UINT8, shape))
    constants: dict[str, NDArray[Any]] = {
        "size": np.array([preprocessing.height, preprocessing.width], np.int64),
        "mean": np.array(preprocessing.mean, np.float32).reshape(1, 1, 1, 3),
        "std": np.array(preprocessing.std, np.float32).reshape(1, 1, 1, 3),
    }
    if preprocessing.shortest_edge is not None:
        constants["edge"] = np.array([preprocessing.shortest_edge] * 2, np.int64)
        constants["two"] = np.array(2, np.int64)
        constants["axes"] = np.array([1, 2], np.int64)
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(value, f"{_INNER}{name}"))


def _nodes(preprocessing: ImagePreprocessing, output: str) -> list[NodeProto]:
    """Return the nodes; they resize before the Transpose, after which ONNX Runtime 1.32 loses Resize's `sizes`."""
    resize: dict[str, Any] = {
        "mode": preprocessing.interpolation,
        "axes": [1, 2],
        "antialias": 1,
        "exclude_outside": 1,
        "cubic_coeff_a": -0.5,
    }
    if preprocessing.shortest_edge is None:
        sized: list[Step] = [("Resize", ["float", "", "", "size"], "sized", resize)]
    else:
        sized = [
            (
                "Resize",
                ["float", "", "", "edge"],
                "resized",
                {**resize, "keep_aspect_ratio_policy": "not_smaller"},
            ),
            ("Shape", ["resized"], "sides", {"start": 1, "end": 3}),
            ("Sub", ["sides", "size"], "excess", {}),
            ("Div", ["excess", "two"], "start", {}),
            ("Add", ["start", "size"], "end", {}),
            ("Slice", ["resized", "start", "end", "axes"], "sized", {}),
        ]
    steps: list[Step] = [
        ("Cast", ["image"], "float", {"to": TensorProto.FLOAT}),
        *sized,
        ("Sub", ["sized", "mean"], "centred", {}),
        ("Div", ["centred", "std"], "scaled", {}),
        ("Transpose", ["scaled"], "planes", {"perm": [0, 3, 1, 2]}),
    ]
    nodes = []
    for position, (operator, inputs, result, attributes) in enumerate(steps):
        feeds = [name if name in ("", "image") else f"{_INNER}{name}" for name in inputs]
        made = output if position == len(steps) - 1 else f"{_INNER}{result}"
        nodes.append(helper.make_node(operator, feeds, [made], name=f"{_INNER}{position}_{operator}", **attributes))
    return nodes
