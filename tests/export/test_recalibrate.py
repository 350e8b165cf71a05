"""`recalibrate` gives a deployed file another threshold or a new plan around the same body."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto

from edgecascade.calibration import CalibrationError, LeastOffload, MostAccuracy
from edgecascade.cli import main
from edgecascade.export import (
    ExportError,
    ParityError,
    cascade_scores,
    local_scores,
    move_threshold,
    read_labelled,
    recalibrate,
    remote_scores,
    unfold,
)
from edgecascade.export.graph import load_model, save_model
from edgecascade.runtime import Cascade, ModelFileError
from edgecascade.types.document import GOLDEN_KEY

Run = Callable[..., int]


def _forwarded(path: Path, pair: Path) -> float:
    with Cascade.load(path) as cascade:
        answers = cascade.predict_batch(np.load(pair / "test.npz")["x"])
        return float(np.mean([answer.reason.value != "confident" for answer in answers]))


def _body(path: Path) -> bytes:
    body: bytes = unfold(load_model(path)).SerializeToString()
    return body


def test_the_threshold_moves_along_the_curve(pair: Path, tmp_path: Path) -> None:
    """Without data or a remote, the planned offload rates hold on other inputs, and the body is the same."""
    rates = []
    for rate in (0.05, 0.15, 0.3):
        chosen = move_threshold(pair / "local.onnx", tmp_path / "moved.onnx", MostAccuracy(rate))
        assert chosen.offload_rate <= rate
        rates.append(_forwarded(tmp_path / "moved.onnx", pair))
        assert abs(rates[-1] - chosen.offload_rate) < 0.06
        assert _body(tmp_path / "moved.onnx") == _body(pair / "local.onnx") == (pair / "corner.onnx").read_bytes()
    assert rates == sorted(rates)


def test_the_document_records_the_change(pair: Path, tmp_path: Path) -> None:
    """It has the new point and objective, no certificate, and no advice about the old point."""
    chosen = move_threshold(pair / "local.onnx", tmp_path / "moved.onnx", MostAccuracy(0.1))
    document = Cascade.load(tmp_path / "moved.onnx").document.to_dict()
    assert document["policy"]["threshold"] == document["policy"]["chosen"]["threshold"] == chosen.threshold
    assert "10% offload" in document["policy"]["objective"]
    assert document["certificate"] is None
    assert "moved along the curve" in document["policy"]["verdict"][0]
    assert document["calibration"] == Cascade.load(pair / "local.onnx").document.to_dict()["calibration"]


def test_a_moved_threshold_has_its_own_chance(pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file says how surely its present aim is met, and nothing about an aim that it no longer has."""
    out = tmp_path / "moved.onnx"
    for confidence in (0.5, 0.9):
        arguments = ["--max-loss", "0.1", "--confidence", str(confidence), "-o", str(out)]
        assert main(["recalibrate", str(pair / "local.onnx"), *arguments]) == 0
        assert "chance of meeting the aim: " in capsys.readouterr().out
        policy = Cascade.load(out).document.policy
        assert policy.chance is not None
        assert policy.chance >= confidence
        assert policy.chosen.loss is not None
        assert policy.chosen.loss.value <= 0.1
    move_threshold(out, out, MostAccuracy(0.1))
    assert Cascade.load(out).document.policy.chance is None


def test_accuracies_by_class_move_with_the_threshold(pair: Path, tmp_path: Path) -> None:
    """Each class has the accuracy that its curve has at the new point."""
    chosen = move_threshold(pair / "local.onnx", tmp_path / "moved.onnx", MostAccuracy(0.1))
    document = Cascade.load(tmp_path / "moved.onnx").document
    at = document.operating_curve.index(chosen)
    assert document.groups is not None
    assert [one.name for one in document.groups.groups] == ["red", "green", "blue"]
    for one in document.groups.groups:
        assert (one.cascade.value, one.cascade.low, one.cascade.high) == one.curve[at]


def test_weights_and_groups_need_data(pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Along the curve of a file, nothing is measured anew."""
    out = str(tmp_path / "moved.onnx")
    for option in (("--weights", "w"), ("--prior", "1,1,1"), ("--groups", "class"), ("--max-group-loss", "0.1")):
        assert main(["recalibrate", str(pair / "local.onnx"), "--offload-rate", "0.1", "-o", out, *option]) == 2
        assert "expected --data and --remote with them" in capsys.readouterr().err


def test_the_changed_file_verifies(pair: Path, tmp_path: Path) -> None:
    """The golden inputs expect the decisions at the new threshold."""
    move_threshold(pair / "local.onnx", tmp_path / "moved.onnx", MostAccuracy(0.0))
    assert main(["inspect", str(tmp_path / "moved.onnx"), "--verify"]) == 0


def test_golden_inputs_can_be_left_out(pair: Path, tmp_path: Path) -> None:
    """The file written then holds none."""
    out = tmp_path / "moved.onnx"
    arguments = ["recalibrate", str(pair / "local.onnx"), "--offload-rate", "0.1", "--no-golden", "-o", str(out)]
    assert main(arguments) == 0
    assert GOLDEN_KEY in {entry.key for entry in load_model(pair / "local.onnx").metadata_props}
    assert GOLDEN_KEY not in {entry.key for entry in load_model(out).metadata_props}


def test_an_unreachable_objective_writes_nothing(pair: Path, tmp_path: Path) -> None:
    """The error names the nearest point."""
    with pytest.raises(CalibrationError, match="out of reach"):
        move_threshold(pair / "local.onnx", tmp_path / "moved.onnx", LeastOffload(accuracy=1.0))
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_a_broken_body_is_not_written(pair: Path, tmp_path: Path) -> None:
    """The parity check detects the broken body."""
    model = load_model(pair / "local.onnx")
    for node in model.graph.node:
        if node.op_type == "Flatten":
            node.op_type = "Identity"
    _swap_softmax(model)
    save_model(model, tmp_path / "broken.onnx")
    with pytest.raises(ParityError, match=r"parity failed: .*; nothing was written"):
        move_threshold(tmp_path / "broken.onnx", tmp_path / "moved.onnx", MostAccuracy(0.1))
    assert not (tmp_path / "moved.onnx").exists()


def _swap_softmax(model: ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type == "Identity":
            node.op_type = "Flatten"
        if node.op_type == "Div" and node.name.startswith("edgecascade/"):
            node.op_type = "Mul"


def test_a_new_plan_fits_the_new_data(pair: Path, tmp_path: Path) -> None:
    """On inverted images the temperature changes and the body does not."""
    with np.load(pair / "test.npz") as arrays:
        np.savez(tmp_path / "field.npz", x=arrays["x"] // 2, y=arrays["y"], names=arrays["names"])
    data = read_labelled(tmp_path / "field.npz")
    local = cascade_scores(pair / "local.onnx", data.inputs)
    np.testing.assert_array_equal(local, local_scores(pair / "corner.onnx", data.inputs))
    remote = remote_scores(str(pair / "remote.onnx"), data.inputs)
    out = tmp_path / "new.onnx"
    written = recalibrate(pair / "local.onnx", out, data, local, remote, objective=MostAccuracy(0.2))
    old = Cascade.load(pair / "local.onnx").document.to_dict()
    new = Cascade.load(out).document.to_dict()
    assert written.plan.rule.temperature == new["calibration"]["temperature"] < 0.7 * old["calibration"]["temperature"]
    assert {key: new["source"][key] for key in ("model", "model_sha256", "logits", "kind")} == {
        key: old["source"][key] for key in ("model", "model_sha256", "logits", "kind")
    }
    assert new["source"]["data_sha256"] == data.digest != old["source"]["data_sha256"]
    assert _body(out) == (pair / "corner.onnx").read_bytes()


def test_class_names_missing_from_the_new_data_are_taken_from_the_file(pair: Path, tmp_path: Path) -> None:
    """The classes are those of the body, so the data need not name them."""
    with np.load(pair / "test.npz") as arrays:
        np.savez(tmp_path / "field.npz", x=arrays["x"], y=arrays["y"])
    arguments = [str(pair / "local.onnx"), "--remote", str(pair / "remote.onnx"), "--data", str(tmp_path / "field.npz")]
    out = tmp_path / "new.onnx"
    assert main(["recalibrate", *arguments, "--offload-rate", "0.2", "--no-golden", "-o", str(out)]) == 0
    assert Cascade.load(out).document.labels == ("red", "green", "blue")
    assert GOLDEN_KEY not in {entry.key for entry in load_model(out).metadata_props}


def test_a_file_can_be_replaced_in_place(pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The output path may be the input path."""
    path = tmp_path / "local.onnx"
    path.write_bytes((pair / "local.onnx").read_bytes())
    assert main(["recalibrate", str(path), "--offload-rate", "0.1", "-o", str(path)]) == 0
    assert "of the calibration data, accuracy " in capsys.readouterr().out
    assert _forwarded(path, pair) < 0.16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--offload-rate", "0.1", "--data", "field.npz"], "--data, --remote: expected both"),
        (["--certify", "0.01"], "--certify: expected --data and --remote with it"),
        (["--offload-rate", "0.1", "--score", "margin"], "--bins, --calibrator, --label-noise: expected --data"),
        (["--offload-rate", "0.1", "--label-noise"], "--bins, --calibrator, --label-noise: expected --data"),
        (["--accuracy", "1.0"], "accuracy: 100 % is out of reach"),
    ],
)
def test_options_that_need_data_are_refused_without_it(
    pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """The error is one sentence, and nothing is written."""
    assert main(["recalibrate", str(pair / "local.onnx"), *arguments, "-o", str(tmp_path / "o.onnx")]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_a_cascade_model_is_refused(pair: Path, tmp_path: Path) -> None:
    """A body and a missing file are refused."""
    with pytest.raises(ModelFileError, match="not a cascade model"):
        move_threshold(pair / "corner.onnx", tmp_path / "o.onnx", MostAccuracy(0.1))
    with pytest.raises(ExportError, match="no such file"):
        move_threshold(tmp_path / "gone.onnx", tmp_path / "o.onnx", MostAccuracy(0.1))


@pytest.mark.parametrize("data", ["calibration.npz", "test.npz"])
def test_a_certificate_from_the_data_of_the_file_is_warned_of(
    data: str, pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those inputs have been looked at; other data need no warning."""
    arguments = ["--remote", str(pair / "remote.onnx"), "--data", str(pair / data), "--certify", "0.1"]
    assert main(["recalibrate", str(pair / "local.onnx"), *arguments, "-o", str(tmp_path / "again.onnx")]) == 0
    assert ("was calibrated on these inputs" in capsys.readouterr().err) == (data == "calibration.npz")
