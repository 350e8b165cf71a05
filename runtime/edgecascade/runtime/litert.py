"""LiteRT (TensorFlow Lite) as a second engine, behind the few methods of an onnxruntime session that are used here.

A `.tflite` cascade model is the flatbuffer with a zip archive behind it, one entry for each metadata key: the way in
which TFLite models carry files, and which every interpreter ignores.
"""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.metadata import read_document
from edgecascade.runtime.resize import Resize
from edgecascade.types.document import PREPROCESSING_KEY, ImagePreprocessing, read_preprocessing
from edgecascade.types.errors import ModelFileError, first_line

__all__ = ["Declared", "LiteSession"]

_LARGEST = 1 << 25  # bytes of one metadata entry: far above any real one, far below a device's memory
_MOST = 16  # entries


@dataclass(frozen=True)
class Declared:
    """An input or output: its name, type such as `tensor(float)`, and shape."""

    name: str
    type: str
    shape: list[int | str]


class LiteSession:
    """One `.tflite` cascade model. Takes one input at a time; safe to share between threads, which take turns.

    Args:
        path: the file.
        threads: of the interpreter.

    Raises:
        ModelFileError: the file is damaged, or no cascade model.
        ModuleNotFoundError: neither ai-edge-litert nor tflite-runtime is installed, or Pillow, if it takes images.
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
        except Exception as error:  # the interpreter has no exceptions of its own
            raise ModelFileError(f"{path}: LiteRT cannot load it: {first_line(error)}") from error
        self._inputs = {detail["name"]: detail for detail in self._interpreter.get_input_details()}
        self._outputs = {detail["name"]: detail for detail in self._interpreter.get_output_details()}
        if self._resize is not None and len(self._inputs) != 1:
            raise ModelFileError(f"{path}: expected one input for an image, got {len(self._inputs)}")
        self._lock = threading.Lock()

    def get_inputs(self) -> list[Declared]:
        """What the caller gives: images of any size, if the metadata says how to resize them."""
        if self._resize is not None:
            return [Declared("image", "tensor(uint8)", [1, "height", "width", 3])]
        return [_declared(name, detail) for name, detail in self._inputs.items()]

    def get_outputs(self) -> list[Declared]:
        """What `run` gives."""
        return [
            *(_declared(name, one) for name, one in self._outputs.items()),
            Declared("forward", "tensor(bool)", [1]),
        ]

    def get_overridable_initializers(self) -> list[Declared]:
        """What may be fed in place of the file's own: temperature and table are constants in its graph."""
        return [Declared("threshold", "tensor(float)", [])]

    def get_providers(self) -> list[str]:
        """What runs it."""
        return ["LiteRT"]

    def get_modelmeta(self) -> Any:
        """The metadata, under `custom_metadata_map`."""
        return SimpleNamespace(custom_metadata_map=self._properties)

    def tensors(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """What the interpreter takes, by name, of what a caller gives: [1, ...] each."""
        if self._resize is None:
            return {name: feeds[name] for name in self._inputs}
        ((name, detail),) = self._inputs.items()
        return {name: self._resize(feeds["image"][0])[None].astype(detail["dtype"], copy=False)}

    def run(self, outputs: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs named, for one input [1, ...]; `threshold` among the feeds takes the place of the file's."""
        tensors = self.tensors(feeds)
        with self._lock:
            for name, array in tensors.items():
                self._interpreter.set_tensor(self._inputs[name]["index"], array)
            self._interpreter.invoke()
            got = {name: self._interpreter.get_tensor(one["index"]) for name, one in self._outputs.items()}
        got["forward"] = (got["advantage"] < feeds.get("threshold", self._threshold)) | np.isnan(got["confidence"])
        return [got[name] for name in outputs]


def _declared(name: str, detail: Mapping[str, Any]) -> Declared:
    kind = np.dtype(detail["dtype"]).name
    return Declared(name, f"tensor({'float' if kind == 'float32' else kind})", detail["shape"].tolist())


def _read_properties(path: str) -> dict[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > _MOST or any(entry.file_size > _LARGEST for entry in entries):
                raise ModelFileError(f"{path}: its metadata is larger than any real one")
            return {entry.filename: archive.read(entry).decode("utf-8") for entry in entries}
    except zipfile.BadZipFile as error:
        raise ModelFileError(
            f"{path}: not a cascade model (it has no metadata behind it); `edgecascade tflite` makes one"
        ) from error
    except (OSError, ValueError, NotImplementedError, RuntimeError, zipfile.error) as error:
        raise ModelFileError(f"{path}: its metadata is damaged: {error}") from error


def _interpreter_class() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ModuleNotFoundError as missing:
        try:
            from tflite_runtime.interpreter import Interpreter
        except ModuleNotFoundError:
            raise missing from None
    return Interpreter
