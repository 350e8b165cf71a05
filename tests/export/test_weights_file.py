"""Weights beyond the 2 GiB of one ONNX file lie beside it, and a model comes with its own weights or not at all."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.cli import main
from edgecascade.export import ExportError, load_model, save_model, unfold
from edgecascade.runtime import Cascade, ModelFileError
from edgecascade.runtime.engine import open_session

PLAN = ["--score", "confidence", "--merge", "confident", "--estimate", "monotone", "--bins", "30"]
PLAN += ["--calibrator", "temperature", "--offload-rate", "0.3"]


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """One ONNX file holds at most 1 KB of weights here, instead of 2 GiB."""
    monkeypatch.setattr("edgecascade.export.graph._LARGEST", 1000)
    monkeypatch.setattr("edgecascade.export.graph._LEAST_APART", 100)


@pytest.fixture
def apart(pair: Path, tmp_path: Path) -> Path:
    """Return a body with its weights in a file of their own."""
    assert save_model(load_model(pair / "corner.onnx"), tmp_path / "apart" / "corner.onnx") is not None
    return tmp_path / "apart" / "corner.onnx"


def _weights(path: Path) -> Path:
    (file,) = path.parent.glob("*.weights")
    return file


def test_a_file_of_weights_is_named_for_its_content(pair: Path, apart: Path) -> None:
    """Both files together are the model."""
    assert hashlib.sha256(_weights(apart).read_bytes()).hexdigest()[:16] in _weights(apart).name
    assert apart.stat().st_size < (pair / "corner.onnx").stat().st_size
    assert load_model(apart).SerializeToString() == load_model(pair / "corner.onnx").SerializeToString()
    pixels = np.load(pair / "test.npz")["x"][:9]
    for one in ("corner.onnx", apart):
        session = open_session(pair / one)
        assert np.array_equal(session.run(None, {session.get_inputs()[0].name: pixels})[0][0], _first(pair, pixels))


def _first(pair: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = open_session(pair / "corner.onnx")
    return np.asarray(session.run(None, {session.get_inputs()[0].name: pixels})[0][0])


def test_a_cascade_of_it_decides_alike_and_unfolds(pair: Path, apart: Path) -> None:
    """Every command reads and writes such files, and those in one folder share their weights."""
    local, again = apart.parent / "local.onnx", apart.parent / "again.onnx"
    files = ["--remote", str(pair / "remote.onnx"), "--data", str(pair / "calibration.npz")]
    assert main(["calibrate", str(apart), *files, *PLAN, "-o", str(local)]) == 0
    assert main(["inspect", str(local), "--verify"]) == 0
    assert main(["recalibrate", str(local), *files, "--offload-rate", "0.2", "-o", str(again)]) == 0
    assert _weights(local) == _weights(apart)
    pixels = np.load(pair / "test.npz")["x"][:40]
    with Cascade.load(local) as cascade, Cascade.load(pair / "local.onnx") as whole:
        for one, other in zip(cascade.predict_batch(pixels), whole.predict_batch(pixels), strict=True):
            assert (one.local.label, one.local.confidence) == (other.local.label, other.local.confidence)
    assert unfold(load_model(local)).SerializeToString() == load_model(apart).SerializeToString()


def test_missing_or_changed_weights_are_refused(apart: Path) -> None:
    """One sentence names the file, on the device and in export; a renamed model file still finds its weights."""
    moved = apart.with_name("renamed.onnx")
    shutil.copy(apart, moved)
    open_session(moved)
    weights = _weights(apart)
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    sentences = [f"got {weights.name} with another SHA-256$", f"expected its weights {weights.name} in the same folder"]
    for sentence in sentences:
        with pytest.raises(ModelFileError, match=sentence):
            open_session(apart)
        with pytest.raises(ExportError, match=sentence):
            load_model(apart)
        weights.unlink(missing_ok=True)


def test_a_model_that_fits_into_one_file_has_no_other(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights return into the model file where they fit."""
    monkeypatch.setattr("edgecascade.export.graph._LARGEST", 1 << 31)
    assert save_model(load_model(pair / "corner.onnx"), tmp_path / "one.onnx") is None
    assert [one.name for one in tmp_path.iterdir()] == ["one.onnx"]
