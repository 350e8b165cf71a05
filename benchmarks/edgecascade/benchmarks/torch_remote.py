"""The large model as torch runs it, in this process: on the CPU, or on a GPU that torch knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.export.graph import load_model
from edgecascade.export.preprocess import standalone
from edgecascade.runtime.batch import Batch
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.engine import open_session
from edgecascade.types.document import ImagePreprocessing
from edgecascade.types.errors import BenchmarkError

__all__ = ["TorchRemote"]


class TorchRemote:
    """A torch classifier of images that asks for the same pixels as its ONNX export does.

    Args:
        module: from float32 pixels [n, 3, height, width] to logits [n, classes].
        preprocessing: from images to pixels: done by onnxruntime on the CPU, so that both see the same.
        exported: the ONNX file that was made of the module.
        device: as torch names it: `cpu`, `cuda`, `cuda:0`.

    Raises:
        BenchmarkError: torch has no such device.
    """

    def __init__(self, module: Any, preprocessing: ImagePreprocessing, exported: Path, device: str) -> None:
        import torch

        try:
            self._module, self._device = module.to(device).eval(), torch.device(device)
        except (RuntimeError, AssertionError) as error:  # torch without CUDA raises the latter
            raise BenchmarkError(f"device: torch {torch.__version__} has no {device!r} here: {error}") from None
        self._torch = torch
        self._pixels = open_session(standalone(preprocessing, load_model(exported)).SerializeToString())

    @property
    def name(self) -> str:
        """Of the device, as its driver tells it."""
        return self._torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "CPU"

    def infer(self, inputs: Batch, deadline: Deadline) -> NDArray[np.float32]:
        """Logits [n, classes] of images uint8 [n, height, width, 3]."""
        if deadline.remaining() == 0:
            raise TimeoutError("the deadline had passed before the model was run")
        (pixels,) = self._pixels.run(None, {"image": np.asarray(inputs)})
        with self._torch.inference_mode():
            return np.asarray(self._module(self._torch.from_numpy(pixels).to(self._device)).cpu(), np.float32)

    def close(self) -> None:
        """Nothing to close."""
