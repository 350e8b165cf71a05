"""Golden inputs are stored in the file; replaying them detects any change since it was written."""

import base64
import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgecascade.calibration import DecisionRule, decide
from edgecascade.cli import main
from edgecascade.export import unfold
from edgecascade.export.graph import load_model
from edgecascade.export.parity import choose_golden, expected_decisions
from edgecascade.runtime import ModelFileError
from edgecascade.runtime.engine import open_session
from edgecascade.runtime.golden import Golden, read_golden
from edgecascade.types.document import GOLDEN_KEY

Edit = Callable[[ModelProto], None]


@pytest.fixture
def edited(pair: Path, tmp_path: Path) -> Callable[[Edit], Path]:
    """Return an edited copy of the pair's cascade model."""

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
    """`verify` reports what it compared on every available provider."""
    assert main(["inspect", str(pair / "local.onnx"), "--verify"]) == 0
    printed = capsys.readouterr().out
    assert "CPUExecutionProvider: 8 golden inputs decided as expected; largest difference of a confidence " in printed
    assert "(tolerance 0.001)" in printed


def test_golden_inputs_span_the_confidences_and_expect_the_reference_decisions(pair: Path) -> None:
    """They range from the least to the most confident of the first calibration inputs, both local and forwarded."""
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
def test_changed_preprocessing_or_temperature_is_detected(
    edited: Callable[[Edit], Path], capsys: pytest.CaptureFixture[str], edit: Edit
) -> None:
    """The output shows the first difference, and the exit code is not 0."""
    assert main(["inspect", str(edited(edit)), "--verify"]) == 1
    assert "CPUExecutionProvider: " in (printed := capsys.readouterr().out)
    assert "of 8 inputs differ)" in printed


def test_a_tolerance_can_be_set(edited: Callable[[Edit], Path]) -> None:
    """At a tolerance of 1 every confidence agrees and is near an edge, but the labels are still compared."""
    assert main(["inspect", str(edited(_hotter)), "--verify", "--tolerance", "1"]) == 0


def test_a_file_without_golden_inputs_is_reported(
    edited: Callable[[Edit], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The file has no golden inputs to read."""
    path = edited(_with_golden(None))
    assert read_golden(open_session(path), path) is None
    assert main(["inspect", str(path), "--verify"]) == 2
    assert "expected golden inputs to replay" in capsys.readouterr().err


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
    """The error is one sentence; no code is run and memory stays bounded."""
    path = edited(_with_golden(text))
    with pytest.raises(ModelFileError, match=rf"edited\.onnx: its golden inputs .*{message}"):
        read_golden(open_session(path), path)


def test_unfolding_removes_golden_inputs(pair: Path) -> None:
    """Golden inputs belong to the head, so the recovered body has none."""
    body = unfold(load_model(pair / "local.onnx"))
    assert GOLDEN_KEY not in {entry.key for entry in body.metadata_props}


@pytest.mark.parametrize(("side", "many"), [(10, 8), (200, 4), (300, 2), (400, 1), (600, None)])
def test_large_golden_inputs_are_fewer(
    build: Callable[..., ModelProto], rule: DecisionRule, side: int, many: int | None
) -> None:
    """Golden inputs add at most one megabyte to the file."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, side, side, 3), dtype=np.uint8)
    logits = rng.normal(0, 2, (8, 3)).astype(np.float32)
    node = helper.make_node("Identity", ["image"], ["logits"])
    body = build([node], [side, side, 3], [side, side, 3], source="image", kind=TensorProto.UINT8)
    golden = choose_golden(images, body, expected_decisions(logits, rule))
    assert (None if golden is None else len(golden)) == many
    if isinstance(golden, Golden):
        assert len(golden.text()) <= 1 << 20
        assert set(golden.expected.confidence) <= set(decide(logits, rule).confidence)


def _forwards(confidence: float | None, advantage: float, threshold: float) -> bool:
    """Return the decision as docs/file-format.md tells other languages to take it, without numpy."""
    limit: float = struct.unpack("<f", struct.pack("<f", threshold))[0]
    number: float = struct.unpack("<f", struct.pack("<f", advantage))[0]
    return confidence is None or number < limit


def test_vectors_test_a_reader_that_cannot_feed_the_threshold(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A reader by the documentation passes; one that compares float64 numbers fails; the graph itself agrees."""
    assert main(["inspect", str(pair / "local.onnx"), "--vectors"]) == 0
    vectors = json.loads(capsys.readouterr().out)
    assert set(vectors) == {"inputs", "decisions", "comparisons"}
    feeds = {
        name: np.frombuffer(base64.b64decode(one["base64"]), one["dtype"]).reshape(one["shape"])
        for name, one in vectors["inputs"].items()
    }
    session = open_session(pair / "local.onnx")
    columns = ["label", "confidence", "advantage", "forward"]
    got = dict(zip(columns, session.run(columns, feeds), strict=True))
    assert len(vectors["decisions"]) == len(got["label"])
    for i, wanted in enumerate(vectors["decisions"]):
        assert (got["label"][i], got["forward"][i]) == (wanted["label"], wanted["forward"])
        assert got["advantage"][i] == np.float32(wanted["advantage"])
        assert got["confidence"][i] == pytest.approx(wanted["confidence"], abs=1e-5)
    comparisons = vectors["comparisons"]
    assert {one["forward"] for one in comparisons if one["confidence"] is not None} == {True, False}
    wrong = [
        one for one in comparisons if _forwards(one["confidence"], one["advantage"], one["threshold"]) != one["forward"]
    ]
    assert not wrong
    assert any(float(np.float32(one["advantage"])) < one["threshold"] and not one["forward"] for one in comparisons)
    for threshold in {one["threshold"] for one in comparisons}:
        (forward,) = session.run(["forward"], {**feeds, "threshold": np.array(threshold, np.float32)})
        reader = [_forwards(one["confidence"], one["advantage"], threshold) for one in vectors["decisions"]]
        assert forward.tolist() == reader


def test_vectors_need_golden_inputs(pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the command that stores them."""
    model = onnx.load(pair / "local.onnx")
    (golden,) = (entry for entry in model.metadata_props if entry.key == GOLDEN_KEY)
    model.metadata_props.remove(golden)
    onnx.save(model, tmp_path / "bare.onnx")
    assert main(["inspect", str(tmp_path / "bare.onnx"), "--vectors"]) == 2
    assert "expected golden inputs to replay, got none; `edgecascade calibrate` stores them" in capsys.readouterr().err
