"""A pair of image classifiers small enough to write down: one looks at a corner, the other at everything."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgecascade.cli import main
from edgecascade.export import ImagePreprocessing, prepend, save_model

SIDE = 8


def _looking_at(weight: NDArray[np.float64], sharpness: float) -> ModelProto:
    """Logits of three colours: each channel's weighted mean over the pixels."""
    kernel = np.einsum("oi,hw->oihw", np.eye(3), weight / weight.sum()) * sharpness
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["pixels", "kernel"], ["map"]),
            helper.make_node("Flatten", ["map"], ["logits"]),
        ],
        "colours",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(kernel.astype(np.float32), "kernel")],
    )
    body = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return prepend(ImagePreprocessing(SIDE, SIDE, (127.0,) * 3, (128.0,) * 3), body)


def _images(n: int, seed: int, path: Path) -> Path:
    """Noise with a little more of one colour; the label is that colour."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    pixels = rng.normal(127, 60, (n, SIDE, SIDE, 3))
    pixels[np.arange(n), :, :, labels] += 25
    names = np.array(["red", "green", "blue"])
    np.savez(path, x=pixels.clip(0, 255).astype(np.uint8), y=labels, names=names)
    return path


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `local.onnx`, calibrated for 30 % offload; `remote.onnx`; and `test.npz`, 400 other images."""
    folder = tmp_path_factory.mktemp("pair")
    corner, everything = np.zeros((SIDE, SIDE)), np.ones((SIDE, SIDE))
    corner[:3, :3] = 1.0
    save_model(_looking_at(corner, 12.0), folder / "corner.onnx")
    save_model(_looking_at(everything, 40.0), folder / "remote.onnx")
    _images(600, 1, folder / "calibration.npz")
    _images(400, 2, folder / "test.npz")
    arguments = ["calibrate", "corner.onnx", "--remote", "remote.onnx", "--data", "calibration.npz"]
    arguments += ["--offload-rate", "0.3", "-o", "local.onnx"]
    assert main([str(folder / a) if a.endswith((".onnx", ".npz")) else a for a in arguments]) == 0
    return folder
