"""A few inputs travel in the file, and replaying them finds out what changed since it was written."""

import base64
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from edgecascade.calibration import DecisionRule, decide
from edgecascade.cli import main
from edgecascade.export import unfold
from edgecascade.export.graph import load_model
from edgecascade.export.parity import choose_golden
from edgecascade.runtime import ModelFileError
from edgecascade.runtime.engine import open_session
from edgecascade.runtime.golden import Golden, read_golden
from edgecascade.types.document import GOLDEN_KEY

Edit = Callable[[ModelProto], None]


@pytest.fixture
def edited(pair: Path, tmp_path: Path) -> Callable[[Edit], Path]:
    """Makes an edited copy of the pair's cascade model."""

    def edited(edit: Edit) -> Path:
        model = onnx.load(pair / "local.onnx")
        edit(model)
        onnx.save(model, tmp_path / "edited.onnx")
        return tmp_path / "edited.onnx"

    return edited


def _with_golden(text: str | None) -> Edit:
    def edit(model: ModelProto) -> None:
        (entry,) = (entry for entry in model.metadata_props if entry.key == GOLDEN_KEY)
        if text is None:
            model.metadata_props.remove(entry)
        else:
            entry.value = text

    return edit


def _packed(**arrays: object) -> str:
    file = io.BytesIO()
    np.savez(file, allow_pickle=True, **arrays)  # type: ignore[arg-type]
    return base64.b64encode(file.getvalue()).decode()


def test_the_file_verifies_itself(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On every provider here, with what was compared."""
    assert main(["inspect", str(pair / "local.onnx"), "--verify"]) == 0
    printed = capsys.readouterr().out
    assert "CPUExecutionProvider: 8 golden inputs decided as expected; largest difference of a confidence " in printed
    assert "(tolerance 0.001)" in printed


def test_golden_inputs_are_spread_and_expect_the_decisions_of_the_reference(pair: Path) -> None:
    """From the least sure to the surest of the first calibration inputs, kept and forwarded ones."""
    golden = read_golden(open_session(pair / "local.onnx"), "local.onnx")
    assert golden is not None
    assert len(golden) == 8
    confidence = golden.expected.confidence
    assert (np.diff(confidence) >= 0).all()
    assert set(golden.expected.forward.tolist()) == {True, False}
    assert golden.inputs["image"].dtype == np.uint8


def _other_scale(model: ModelProto) -> None:
    for initializer in model.graph.initializer:
        if initializer.name.endswith("preprocess/std"):
            initializer.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(initializer) * 2, initializer.name))


def _hotter(model: ModelProto) -> None:
    for initializer in model.graph.initializer:
        if initializer.name == "temperature":
            initializer.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(initializer) * 2, "temperature"))


@pytest.mark.parametrize("edit", [_other_scale, _hotter])
def test_a_changed_preprocessing_or_temperature_is_found_out(
    edited: Callable[[Edit], Path], capsys: pytest.CaptureFixture[str], edit: Edit
) -> None:
    """The first difference is shown, and the exit code says that there is one."""
    assert main(["inspect", str(edited(edit)), "--verify"]) == 1
    assert "CPUExecutionProvider: " in (printed := capsys.readouterr().out)
    assert "of 8 inputs differ)" in printed


def test_a_tolerance_can_be_given(edited: Callable[[Edit], Path]) -> None:
    """All confidences are within 1 of each other, and near every edge then; labels still count."""
    assert main(["inspect", str(edited(_hotter)), "--verify", "--tolerance", "1"]) == 0


def test_a_file_without_golden_inputs_says_so(
    edited: Callable[[Edit], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """And has nothing to read."""
    path = edited(_with_golden(None))
    assert read_golden(open_session(path), path) is None
    assert main(["inspect", str(path), "--verify"]) == 2
    assert "it has no golden inputs to replay" in capsys.readouterr().err


def _bomb() -> str:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("input:z.npy", bytes(80 << 20))
    return base64.b64encode(file.getvalue()).decode()


EXPECTED = {name: np.zeros(2) for name in ("label", "confidence", "advantage", "forward", "distance")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not base64!", "damaged"),
        ("", "damaged"),
        (base64.b64encode(b"no archive").decode(), "damaged"),
        (_packed(**EXPECTED), "damaged: arrays of different lengths"),
        (_packed(**{**EXPECTED, "input:z": np.zeros((3, 3))}), "damaged: arrays of different lengths"),
        (_packed(**{"input:z": np.zeros((2, 3))}), "damaged"),
        (_packed(**{**EXPECTED, "input:z": np.array([print, print], object)}), "damaged"),
        (_bomb(), r"unpack to \d+ bytes, over"),
        ("A" * ((16 << 20) + 1), r"have \d+ characters, over the limit"),
    ],
    ids=["text", "empty", "no archive", "no inputs", "lengths", "no expectation", "code", "bomb", "long"],
)
def test_damaged_golden_inputs_are_refused(edited: Callable[[Edit], Path], text: str, message: str) -> None:
    """One sentence, no code run, no memory filled."""
    path = edited(_with_golden(text))
    with pytest.raises(ModelFileError, match=rf"edited\.onnx: its golden inputs .*{message}"):
        read_golden(open_session(path), path)


def test_the_body_comes_back_without_them(pair: Path) -> None:
    """They belong to the head."""
    body = unfold(load_model(pair / "local.onnx"))
    assert GOLDEN_KEY not in {entry.key for entry in body.metadata_props}


@pytest.mark.parametrize(("side", "many"), [(10, 8), (200, 4), (300, 2), (400, 1), (600, None)])
def test_large_inputs_are_fewer(rule: DecisionRule, side: int, many: int | None) -> None:
    """The file grows by a megabyte at most."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, side, side, 3), dtype=np.uint8)
    logits = rng.normal(0, 2, (8, 3)).astype(np.float32)
    golden = choose_golden(images, "image", logits, rule)
    assert (None if golden is None else len(golden)) == many
    if isinstance(golden, Golden):
        assert len(golden.text()) <= 1 << 20
        assert set(golden.expected.confidence) <= set(decide(logits, rule).confidence)
