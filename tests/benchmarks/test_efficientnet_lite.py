"""The large model in torch and its ONNX export give the same outputs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgecascade.benchmarks.pairs.efficientnet_lite import TorchRemote
from edgecascade.export import ImagePreprocessing, export_torch, prepend, save_model
from edgecascade.export.scores import remote_scores
from edgecascade.runtime import Cascade, Deadline, Reason
from edgecascade.types.errors import BenchmarkError

PREPROCESSING = ImagePreprocessing(8, 8, (127.0,) * 3, (128.0,) * 3)


@pytest.fixture
def module() -> torch.nn.Module:
    """Return a module from pixels [n, 3, 8, 8] to three logits."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3))


@pytest.fixture
def exported(module: torch.nn.Module, tmp_path: Path) -> Path:
    """Return the module as ONNX, from images."""
    save_model(prepend(PREPROCESSING, export_torch(module, (3, 8, 8))), tmp_path / "large.onnx")
    return tmp_path / "large.onnx"


def test_it_agrees_with_the_export_on_resized_images(module: torch.nn.Module, exported: Path) -> None:
    """Both resize the images."""
    images = np.random.default_rng(0).integers(0, 256, (16, 20, 24, 3), np.uint8)
    remote = TorchRemote(module, PREPROCESSING, exported, "cpu")
    assert remote.name == "CPU"
    np.testing.assert_allclose(
        remote.infer(images, Deadline.after(60)), remote_scores(str(exported), images), atol=1e-5
    )


def test_a_cascade_can_use_it_as_a_remote(module: torch.nn.Module, exported: Path, pair: Path) -> None:
    """It is not called after the deadline."""
    remote = TorchRemote(module, PREPROCESSING, exported, "cpu")
    with Cascade.load(pair / "local.onnx", remote=remote, threshold=2.0, deadline=60) as cascade:
        answer = cascade.predict(np.load(pair / "test.npz")["x"][0])
    assert answer.reason is Reason.OFFLOADED
    with pytest.raises(TimeoutError):
        remote.infer(np.zeros((1, 8, 8, 3), np.uint8), Deadline(0.0))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_device_ends_in_one_sentence(module: torch.nn.Module, exported: Path) -> None:
    """It does not fall back to the CPU."""
    with pytest.raises(BenchmarkError, match=r"^device: torch \S+ has no 'cuda' here: "):
        TorchRemote(module, PREPROCESSING, exported, "cuda")
