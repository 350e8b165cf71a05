"""Pairs of models for general tasks: a regression on real data, lines of text by CTC, and boxes in drawn images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from PIL import Image

from edgecascade.export import save_model

__all__ = ["CHARACTERS", "detection_pair", "regression_pair", "text_pair"]

CHARACTERS = "abcdef"
_CELLS, _SIDE = 6, 8
_CALIBRATION, _TEST = slice(140, 290), slice(290, 442)


def regression_pair(folder: Path) -> Path:
    """Write `body.onnx`, `large.onnx`, `calibration.csv` and `test.csv` on the progression of diabetes.

    The data set is scikit-learn's (Efron et al. 2004): 442 patients with ten measurements. The body reads three of
    them, and estimates its own error; the large model reads all ten.
    """
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import Ridge

    found = load_diabetes()
    order = np.random.default_rng(0).permutation(len(found.target))
    x, y = 20 * found.data[order], found.target[order]
    few, train = [0, 1, 2], slice(0, 140)
    small = Ridge(1.0).fit(x[train][:, few], y[train])
    large = Ridge(1.0).fit(x[train], y[train])
    error = Ridge(1.0).fit(x[train][:, few], np.abs(small.predict(x[train][:, few]) - y[train]))
    weights = np.zeros((2, 10))
    weights[:, few] = [small.coef_, error.coef_]
    save_model(_linear(weights[:1], [small.intercept_], weights[1:], [error.intercept_]), folder / "body.onnx")
    save_model(_linear(large.coef_[None], [large.intercept_]), folder / "large.onnx")
    for name, rows in (("calibration", _CALIBRATION), ("test", _TEST)):
        lines = [",".join([*found.feature_names, "progression"])]
        lines += [
            ",".join(f"{value:.6g}" for value in (*one, target)) for one, target in zip(x[rows], y[rows], strict=True)
        ]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


def _linear(weight: NDArray[np.float64], bias: object, error: object = None, error_bias: object = None) -> ModelProto:
    """Return a model from `x` [batch, 10] to `prediction` [batch, 1], and to `error` [batch, 1] if it has weights."""
    parts = {"prediction": (weight, bias), **({} if error is None else {"error": (error, error_bias)})}
    nodes, constants = [], []
    for name, (matrix, offset) in parts.items():
        nodes.append(helper.make_node("Gemm", ["x", f"{name}_w", f"{name}_b"], [name], transB=1))
        for end, array in (("w", matrix), ("b", offset)):
            constants.append(numpy_helper.from_array(np.asarray(array, np.float32), f"{name}_{end}"))
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1]) for name in parts]
    return _model(nodes, ["batch", 10], outputs, constants)


def text_pair(folder: Path) -> Path:
    """Write `body.onnx`, `large.onnx`, `keys.txt`, and the folders `calibration` and `test` of drawn lines of text.

    A line has six cells with one glyph each or none, under noise of a level of its own. The body reads a quarter of
    each cell, the large model all of it; both are the best classifiers of what they read.
    """
    rng = np.random.default_rng(5)
    glyphs = rng.integers(0, 2, (len(CHARACTERS), _SIDE, _SIDE)).astype(np.float64)
    corner = np.zeros((_SIDE, _SIDE))
    corner[:4, :4] = 1.0
    for name, seen in (("body", corner), ("large", np.ones_like(corner))):
        save_model(_matched(glyphs * seen), folder / f"{name}.onnx")
    (folder / "keys.txt").write_text("\n".join(CHARACTERS) + "\n")
    for name, n in (("calibration", 400), ("test", 300)):
        (folder / name).mkdir()
        for i in range(n):
            text, line = _line(glyphs, rng)
            np.save(folder / name / f"{i:04d}.npy", line)
            (folder / name / f"{i:04d}.txt").write_text(text)
    return folder


def _line(glyphs: NDArray[np.float64], rng: np.random.Generator) -> tuple[str, NDArray[np.float32]]:
    letters = [int(rng.integers(-1, len(CHARACTERS))) for _ in range(_CELLS)]
    letters = [one if i == 0 or one != letters[i - 1] else -1 for i, one in enumerate(letters)]
    cells = [glyphs[one] if one >= 0 else np.zeros((_SIDE, _SIDE)) for one in letters]
    line = np.concatenate(cells, axis=1)
    line += rng.normal(0, rng.uniform(0.2, 1.6), line.shape)
    return "".join(CHARACTERS[one] for one in letters if one >= 0), line.astype(np.float32)


def _matched(glyphs: NDArray[np.float64]) -> ModelProto:
    """Return a model from `x` [batch, 8, 48] to `logits` [batch, 6, 7] by matched filters; class 0 is the blank."""
    weight = np.concatenate([np.zeros((1, _SIDE * _SIDE)), glyphs.reshape(len(glyphs), -1)])
    constants = [
        numpy_helper.from_array(np.array([0, _SIDE, _CELLS, _SIDE]), "cells"),
        numpy_helper.from_array(np.array([0, _CELLS, _SIDE * _SIDE]), "steps"),
        numpy_helper.from_array(weight.T.astype(np.float32), "weight"),
        numpy_helper.from_array((-0.5 * (weight**2).sum(axis=1)).astype(np.float32), "bias"),
    ]
    nodes = [
        helper.make_node("Reshape", ["x", "cells"], ["split"]),
        helper.make_node("Transpose", ["split"], ["turned"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["turned", "steps"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["matched"]),
        helper.make_node("Add", ["matched", "bias"], ["logits"]),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", _CELLS, len(CHARACTERS) + 1])]
    return _model(nodes, ["batch", _SIDE, _SIDE * _CELLS], outputs, constants)


def detection_pair(folder: Path) -> Path:
    """Write `body.onnx`, `large.onnx`, and the folders `calibration` and `test` of images with COCO's `boxes.json`.

    An image has bright squares in some of 16 places, under noise of a level of its own. The body looks at a quarter of
    each place, the large model at all of it. Both give `boxes` [batch, 16, 4] in pixels and `scores` [batch, 16].
    """
    rng = np.random.default_rng(7)
    for name, side in (("body", _SIDE // 2), ("large", _SIDE)):
        save_model(_squares(side), folder / f"{name}.onnx")
    for name, n in (("calibration", 300), ("test", 200)):
        (folder / name).mkdir()
        images, annotations = [], []
        for i in range(n):
            there = rng.random(16) < 0.3
            pixels = 100 + 50 * np.kron(there.reshape(4, 4), np.ones((_SIDE, _SIDE)))
            pixels = pixels[..., None] + rng.normal(0, rng.uniform(20, 160), (4 * _SIDE, 4 * _SIDE, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{i}.png")
            images.append({"id": i, "file_name": f"{i}.png", "width": 4 * _SIDE, "height": 4 * _SIDE})
            for place in np.flatnonzero(there):
                box = [int(place % 4) * _SIDE, int(place // 4) * _SIDE, _SIDE, _SIDE]
                annotations.append({"image_id": i, "category_id": 0, "bbox": box, "iscrowd": 0})
        document = {"images": images, "annotations": annotations, "categories": [{"id": 0, "name": "square"}]}
        (folder / name / "boxes.json").write_text(json.dumps(document))
    return folder


def _squares(side: int) -> ModelProto:
    """Return a model that looks at a square of this side in each place."""
    kernel = np.zeros((1, 3, _SIDE, _SIDE))
    kernel[:, :, :side, :side] = 1 / (3 * side * side)
    corners = [[x, y, x + _SIDE, y + _SIDE] for y in range(0, 4 * _SIDE, _SIDE) for x in range(0, 4 * _SIDE, _SIDE)]
    constants = [
        numpy_helper.from_array(kernel.astype(np.float32), "kernel"),
        numpy_helper.from_array(np.array(0.1 * side / _SIDE, np.float32), "sharpness"),
        numpy_helper.from_array(np.array(-125, np.float32), "middle"),
        numpy_helper.from_array(np.array(corners, np.float32)[None], "corners"),
        numpy_helper.from_array(np.array([0, 16]), "flat"),
        numpy_helper.from_array(np.array([4]), "four"),
    ]
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["wide"], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["channels", "kernel"], ["level"], strides=[_SIDE, _SIDE]),
        helper.make_node("Add", ["level", "middle"], ["centred"]),
        helper.make_node("Mul", ["centred", "sharpness"], ["sharp"]),
        helper.make_node("Reshape", ["sharp", "flat"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["scores"]),
        helper.make_node("Shape", ["scores"], ["shape"]),
        helper.make_node("Concat", ["shape", "four"], ["whole"], axis=0),
        helper.make_node("Expand", ["corners", "whole"], ["boxes"]),
    ]
    outputs = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["batch", 16, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 16]),
    ]
    return _model(nodes, ["batch", 4 * _SIDE, 4 * _SIDE, 3], outputs, constants, TensorProto.UINT8)


def _model(nodes: Any, shape: Any, outputs: Any, constants: Any, kind: int = TensorProto.FLOAT) -> ModelProto:
    inputs = [helper.make_tensor_value_info("x", kind, shape)]
    graph = helper.make_graph(nodes, "general", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
