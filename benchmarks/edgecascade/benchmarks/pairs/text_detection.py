"""The pair `text-detection`: PP-OCRv3 finds lines of text in a scene at half its resolution, and asks itself at full.

The device sees 256 of 512 pixels, at a quarter of the work. Scenes and their boxes are rendered: see `rendering.py`.
The confidence is a function of its own, a small ONNX graph: the fewer pixels are neither text nor background, the
surer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgecascade.benchmarks.cache import once
from edgecascade.benchmarks.pairs.prepared_task import (
    PreparedTask,
    Sizes,
    TaskModels,
    TaskSplit,
    prepare_task,
)
from edgecascade.benchmarks.pairs.rapidocr import DETECT_V3, PROBABILITIES
from edgecascade.benchmarks.pairs.rendering import SCENE_SIDE, Renderer
from edgecascade.calibration import Objective
from edgecascade.calibration.verifiers import BoxF1
from edgecascade.export import save_model
from edgecascade.export.data import ReferencedData
from edgecascade.types.detections import Detections

__all__ = ["SCENES", "TextBoxes", "detection_models", "detection_scenes", "prepare_detection", "sure_pixels"]

SCENES = Sizes(planning=500, test=1000)
_RECIPE = 1  # part of the cache's folder name: raise it when the models or the scenes change
_LOCAL_SIDE = SCENE_SIDE // 2
_TEXT, _SURE, _SMALLEST = 0.3, 0.5, 3  # PaddleOCR's least probability of a pixel and a box, and side of a box
_GROWTH = 0.9  # PaddleOCR grows boxes by 1.6, to hold more than the ink; chosen on other scenes, for both sides
_UNSURE = (0.1, 0.7)  # likewise chosen on other scenes


def prepare_detection(cache: Path, objective: Objective, *, sizes: Sizes = SCENES) -> PreparedTask:
    """Return the pair as a cascade file with the scenes that test it; finished steps are taken from the cache."""
    models, scenes = detection_models(cache), detection_scenes(cache, sizes)
    return prepare_task(models, scenes, objective, f"boxes-{sizes.planning}-{sizes.test}")


def detection_models(cache: Path) -> TaskModels:
    """Return the network at both resolutions."""
    work = cache / f"text-detection-r{_RECIPE}"
    return TaskModels(
        name="detection",
        body=DETECT_V3.body(cache, (_LOCAL_SIDE, _LOCAL_SIDE), work / "body.onnx"),
        remote=DETECT_V3.body(cache, (SCENE_SIDE, SCENE_SIDE), work / "large.onnx"),
        confidence=once(work / "sure-pixels.onnx", lambda part: save_model(sure_pixels(), part)),
        verifier=BoxF1(),
        decode=TextBoxes(SCENE_SIDE),
        remote_decode=TextBoxes(SCENE_SIDE),
    )


def detection_scenes(cache: Path, sizes: Sizes = SCENES) -> TaskSplit:
    """Return rendered scenes uint8 [n, 512, 512, 3] with the boxes of their lines."""
    renderer = Renderer(cache)
    return sizes.split(lambda numbers: _part(renderer, numbers))


@dataclass(frozen=True)
class TextBoxes:
    """Upright boxes around connected pixels that are likely text, as PaddleOCR finds them, without its rotation.

    Attributes:
        side: The side of the square scene in which boxes are given, in pixels.

    >>> scene = np.zeros((1, 8, 8))
    >>> scene[0, 2:6, 1:7] = 0.9
    >>> TextBoxes(16)({"probabilities": scene}).boxes.round(1)
    array([[-0.2,  1.8, 16.2, 14.2]])
    """

    side: int

    def __call__(self, outputs: Mapping[str, NDArray[Any]]) -> Detections:
        """Return the boxes of one input's `probabilities` floating [1, height, width]."""
        from scipy import ndimage

        (probability,) = outputs[PROBABILITIES]
        regions, _ = ndimage.label(probability > _TEXT, structure=np.ones((3, 3)))
        boxes, scores = [], []
        for number, place in enumerate(ndimage.find_objects(regions), 1):
            inside = regions[place] == number
            score = float(probability[place][inside].mean())
            if min(inside.shape) < _SMALLEST or score < _SURE:
                continue
            (top, bottom), (left, right) = ((side.start, side.stop) for side in place)
            height, width = inside.shape
            growth = _GROWTH * height * width / (2 * (height + width))
            boxes.append([left - growth, top - growth, right + growth, bottom + growth])
            scores.append(score)
        scale = self.side / probability.shape[0]
        found = np.array(boxes, np.float64).reshape(-1, 4) * scale
        return Detections(found, np.zeros(len(found), np.int64), np.array(scores, np.float64))


def sure_pixels() -> ModelProto:
    """Return a graph from `probabilities` [batch, 1, height, width] to minus the unsure pixels per pixel of text."""
    low, high = _UNSURE
    constants = {
        "low": np.float32(low),
        "high": np.float32(high),
        "text": np.float32(_TEXT),
        "one": np.float32(1),
        "axes": np.array([1, 2, 3], np.int64),
    }
    nodes = [
        helper.make_node("Greater", [PROBABILITIES, "low"], ["above"]),
        helper.make_node("Less", [PROBABILITIES, "high"], ["below"]),
        helper.make_node("And", ["above", "below"], ["unsure"]),
        helper.make_node("Cast", ["unsure"], ["unsure_ones"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["unsure_ones", "axes"], ["unsure_pixels"], keepdims=0),
        helper.make_node("Greater", [PROBABILITIES, "text"], ["likely"]),
        helper.make_node("Cast", ["likely"], ["likely_ones"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["likely_ones", "axes"], ["likely_pixels"], keepdims=0),
        helper.make_node("Max", ["likely_pixels", "one"], ["text_pixels"]),
        helper.make_node("Div", ["unsure_pixels", "text_pixels"], ["share"]),
        helper.make_node("Neg", ["share"], ["sureness"]),
    ]
    graph = helper.make_graph(
        nodes,
        "sure pixels",
        [helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, ["batch", 1, "height", "width"])],
        [helper.make_tensor_value_info("sureness", TensorProto.FLOAT, ["batch"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _part(renderer: Renderer, numbers: range) -> ReferencedData:
    images, boxes = renderer.scenes(numbers)
    references = [{"boxes": one} for one in boxes]
    return ReferencedData(images, references, renderer.digest(f"scenes r{_RECIPE}", numbers))
