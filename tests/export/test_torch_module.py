"""From torch to ONNX, the same classifier."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto

from edgecascade.export import ExportError, export_torch
from edgecascade.export.graph import opset

INPUTS = np.random.default_rng(0).normal(size=(7, 3, 12, 12)).astype(np.float32)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_export_agrees_with_torch(
    network: torch.nn.Module,
    exported: ModelProto,
    logits_of: Callable[[ModelProto, NDArray[np.float32]], NDArray[np.float32]],
    n: int,
) -> None:
    """In eval mode, whatever mode it was handed over in, at any batch."""
    with torch.no_grad():
        wanted = network.eval()(torch.from_numpy(INPUTS[:n])).numpy()
    np.testing.assert_allclose(logits_of(exported, INPUTS[:n]), wanted, atol=1e-5)


def test_old_runtimes_can_read_it(exported: ModelProto) -> None:
    """Opset and IR within ONNX Runtime 1.19."""
    assert opset(exported) <= 21
    assert exported.ir_version <= 10


def test_it_tells_nothing_about_the_machine(exported: ModelProto) -> None:
    """Torch writes stack traces into the graph; they are gone."""
    for path in (os.getcwd(), str(Path.home()), os.path.dirname(torch.__file__)):
        assert path.encode() not in exported.SerializeToString()


def test_what_is_no_module_is_refused() -> None:
    """By type."""
    with pytest.raises(ExportError, match=r"^module: expected a torch\.nn\.Module, got dict"):
        export_torch({}, (3, 12, 12))


def test_what_torch_cannot_export_is_one_sentence(network: torch.nn.Module) -> None:
    """With the shape that was tried."""
    with pytest.raises(ExportError, match=r"^module: torch cannot export it for inputs \[4, 12, 12\]: ") as refusal:
        export_torch(network, (4, 12, 12))
    assert "\n" not in str(refusal.value)


def test_what_torch_cannot_export_says_why(network: torch.nn.Module) -> None:
    """The reason that torch found, and no terminal codes."""
    with pytest.raises(ExportError, match="to have 3 channels, but got 4 channels") as refusal:
        export_torch(network, (4, 12, 12))
    assert "\x1b" not in str(refusal.value)


def test_torchs_own_logging_is_left_as_found() -> None:
    """Whoever debugs their own export afterwards still gets its messages."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        export_torch(torch.nn.Flatten(), (3,))
        assert logger.level == logging.INFO
    finally:
        logger.setLevel(before)
