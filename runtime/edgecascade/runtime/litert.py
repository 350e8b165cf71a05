"""LiteRT (TensorFlow Lite) as a second engine.

A `.tflite` cascade model is a flatbuffer with a zip archive behind it that has one entry per metadata key. TFLite
models carry files in this way, and interpreters ignore them.
"""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.engine import Declared, read_document
from edgecascade.types.document import PREPROCESSING_KEY, ImagePreprocessing, read_preprocessing
from edgecascade.types.errors import ModelFileError, first_line
from edgecascade.types.extras import naming_extras

__all__ = ["LiteSession", "Resize"]

_LARGEST = 1 << 25  # bytes of one metadata entry: far above any real one, far below a device's memory
_MOST = 16  # entries
_CUBIC = -0.5  # Keys' coefficient, as in Pillow and in the ONNX graph
_SIZES = 16  # image sizes whose weights are cached


class LiteSession:
    """A `.tflite` cascade model as an `Engine`. It takes one input at a time; threads that share it take turns.

    Args:
        path: the file.
        threads: threads of the interpreter.

    Raises:
        ModelFileError: the file is damaged or not a cascade model.
        ModuleNotFoundError: neither ai-edge-litert nor tflite-runtime is installed.
    """

    def __init__(self, path: str, threads: int = 1) -> None:
        self._properties = _read_properties(path)
        self._threshold = np.float32(read_document(self, path).policy.threshold)
        images = read_preprocessing(self._properties.get(PREPROCESSING_KEY), path)
        self._resize = Resize(images) if isinstance(images, ImagePreprocessing) else None
        interpreter = _interpreter_class()
        try:
            self._interpreter = interpreter(model_path=path, num_threads=threads)
            self._interpreter.allocate_tensors()
        except Exception as error:  # the interpreter raises plain exceptions
            raise ModelFileError(f"{path}: LiteRT cannot load it: {first_line(error)}") from error
        self._inputs = {detail["name"]: detail for detail in self._interpreter.get_input_details()}
        self._outputs = {detail["name"]: detail for detail in self._interpreter.get_output_details()}
        if self._resize is not None and len(self._inputs) != 1:
            raise ModelFileError(f"{path}: expected one input for an image, got {len(self._inputs)}")
        self._lock = threading.Lock()

    def get_inputs(self) -> list[Declared]:
        """Return the inputs that a caller must give: images of any size, if the metadata says how to resize them."""
        if self._resize is not None:
            return [Declared("image", "tensor(uint8)", [1, "height", "width", 3])]
        return [_declared(name, detail) for name, detail in self._inputs.items()]

    def get_outputs(self) -> list[Declared]:
        """Return the outputs that `run` can give."""
        return [
            *(_declared(name, one) for name, one in self._outputs.items()),
            Declared("forward", "tensor(bool)", [1]),
        ]

    def get_overridable_initializers(self) -> list[Declared]:
        """Return the threshold: temperature and table are constants in the graph."""
        return [Declared("threshold", "tensor(float)", [])]

    def get_providers(self) -> list[str]:
        """Return `LiteRT`."""
        return ["LiteRT"]

    def get_modelmeta(self) -> Any:
        """Return an object whose `custom_metadata_map` holds the metadata."""
        return SimpleNamespace(custom_metadata_map=self._properties)

    def tensors(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the interpreter's tensors [1, ...] by name, from the arrays that a caller gives."""
        if self._resize is None:
            return {name: feeds[name] for name in self._inputs}
        ((name, detail),) = self._inputs.items()
        return {name: self._resize(feeds["image"][0])[None].astype(detail["dtype"], copy=False)}

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, NDArray[Any]]) -> list[Any]:
        """Return the outputs named for one input [1, ...]; a `threshold` among the feeds replaces the file's."""
        tensors = self.tensors(input_feed)
        with self._lock:
            for name, array in tensors.items():
                self._interpreter.set_tensor(self._inputs[name]["index"], array)
            self._interpreter.invoke()
            got = {name: self._interpreter.get_tensor(one["index"]) for name, one in self._outputs.items()}
        got["forward"] = (got["advantage"] < input_feed.get("threshold", self._threshold)) | np.isnan(got["confidence"])
        return list(got.values()) if output_names is None else [got[name] for name in output_names]


def _declared(name: str, detail: Mapping[str, Any]) -> Declared:
    kind = np.dtype(detail["dtype"]).name
    return Declared(name, f"tensor({'float' if kind == 'float32' else kind})", detail["shape"].tolist())


def _read_properties(path: str) -> dict[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > _MOST or any(entry.file_size > _LARGEST for entry in entries):
                raise ValueError(f"expected at most {_MOST} metadata entries of {_LARGEST} bytes, got more")
            return {entry.filename: archive.read(entry).decode("utf-8") for entry in entries}
    except zipfile.BadZipFile as error:
        raise ModelFileError(
            f"{path}: is not a cascade model (it has no metadata); create one with `edgecascade tflite`"
        ) from error
    except (OSError, EOFError, ValueError, NotImplementedError, RuntimeError, zipfile.error) as error:
        raise ModelFileError(f"{path}: its metadata is damaged: {error}") from error


def _interpreter_class() -> Any:
    try:
        with naming_extras():
            from ai_edge_litert.interpreter import Interpreter
    except ModuleNotFoundError as missing:
        try:
            from tflite_runtime.interpreter import Interpreter
        except ModuleNotFoundError:
            raise missing from None
    return Interpreter


@dataclass(frozen=True)
class Resize:
    """Resize images as the preprocessing in an ONNX file does: antialiased, with crop or letterbox, in float32.

    Attributes:
        to: the size, interpolation, and crop or letterbox.
    """

    to: ImagePreprocessing

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return float32 [height, width, channels] of uint8 [any, any, channels]."""
        to, sides = self.to, image.shape[:2]
        size = (to.height, to.width)
        if to.letterbox is not None:
            scale = min(np.float32(wanted) / np.float32(side) for wanted, side in zip(size, sides, strict=True))
            height, width = (max(1, int(scale * np.float32(side) + np.float32(0.5))) for side in sides)
            size = (height, width)
        down, across = (
            _weights(side, wanted, min(sides), to.shortest_edge, to.interpolation)
            for side, wanted in zip(sides, size, strict=True)
        )
        narrow = np.tensordot(down, image.astype(np.float32), axes=(1, 0))
        resized: NDArray[np.float32] = np.moveaxis(np.tensordot(narrow, across, axes=(1, 1)), 2, 1)
        if to.letterbox is None:
            return resized
        framed = np.full((to.height, to.width, image.shape[2]), to.letterbox, np.float32)
        top, left = (to.height - height) // 2, (to.width - width) // 2
        framed[top : top + height, left : left + width] = resized
        return framed


@lru_cache(maxsize=_SIZES)
def _weights(side: int, wanted: int, shorter: int, edge: int | None, interpolation: str) -> NDArray[np.float32]:
    """Return the weights [wanted, side] of `side` pixels along one axis for each of `wanted` pixels."""
    step, start = side / wanted, 0
    if edge is not None:
        scale = np.float32(edge) / np.float32(shorter)  # as precise as in the graph
        step, start = 1.0 / float(scale), (int(scale * np.float32(side) + np.float32(0.5)) - wanted) // 2
    centre = (np.arange(start, start + wanted)[:, None] + 0.5) * step
    distance = np.abs(np.arange(side) + 0.5 - centre) / max(step, 1.0)
    if interpolation == "linear":
        weights = np.maximum(0.0, 1.0 - distance)
    else:
        near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance**2 + 1
        far = _CUBIC * (((distance - 5) * distance + 8) * distance - 4)
        weights = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)
