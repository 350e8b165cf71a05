"""Models converted by skl2onnx are calibrated, decide, unfold, and are checked against scikit-learn."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from edgecascade.calibration import MostAccuracy
from edgecascade.cli import main
from edgecascade.export import ExportError, ParityError, calibrate, local_scores, read_labelled, unfold
from edgecascade.export.graph import load_model
from edgecascade.runtime import Cascade

skl2onnx = pytest.importorskip("skl2onnx")


def _data(classes: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    x, y = make_classification(1500, 8, n_informative=5, n_classes=classes, class_sep=0.8, flip_y=0.05, random_state=0)
    return x.astype(np.float32), y.astype(np.int64)


def _remote(labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Return the logits of an accurate remote."""
    return np.eye(classes)[labels] * 4.0 + np.random.default_rng(0).gumbel(size=(len(labels), classes))


def _converted(model: Any, path: Path) -> Path:
    found = skl2onnx.convert_sklearn(
        model,
        initial_types=[("x", skl2onnx.common.data_types.FloatTensorType([None, 8]))],
        target_opset={"": 18, "ai.onnx.ml": 3},
        options={type(model): {"zipmap": False}},
    )
    onnx.save(found, path)
    return path


MODELS = {
    "logistic": LogisticRegression(),
    "forest": RandomForestClassifier(30, max_depth=5, random_state=0),
    "pipeline": make_pipeline(FunctionTransformer(), LogisticRegression()),
}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", MODELS)
def test_a_classifier_becomes_a_cascade_model(tmp_path: Path, name: str, classes: int) -> None:
    """Its probabilities are recognised, the file predicts as `predict` does, and the body unfolds."""
    x, y = _data(classes)
    model = MODELS[name].fit(x[:700], y[:700])
    body = _converted(model, tmp_path / "body.onnx")
    np.savez(tmp_path / "data.npz", x=x[700:1100], y=y[700:1100])
    data = read_labelled(tmp_path / "data.npz")
    expected = model.predict_proba(data.inputs)
    remote = _remote(data.labels, classes)
    out = tmp_path / "local.onnx"
    calibrate(body, out, data, local_scores(body, data.inputs), remote, objective=MostAccuracy(0.2), expected=expected)
    with Cascade.load(out) as cascade:
        assert cascade.document.to_dict()["source"]["kind"] == "probabilities"
        answers = cascade.predict_batch(x[1100:])
    assert np.mean([answer.label for answer in answers] == model.predict(x[1100:])) > 0.995
    assert unfold(load_model(out)).SerializeToString() == body.read_bytes()


def test_a_wrong_conversion_is_detected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """skl2onnx converts a sigmoid-calibrated pipeline to wrong probabilities (its issue 1246)."""
    x, y = _data(2)
    model = CalibratedClassifierCV(make_pipeline(FunctionTransformer(), LogisticRegression()), method="sigmoid", cv=3)
    model.fit(x[:700], y[:700])
    body = _converted(model, tmp_path / "body.onnx")
    np.savez(tmp_path / "data.npz", x=x[700:], y=y[700:])
    np.save(tmp_path / "expected.npy", model.predict_proba(x[700:]))
    np.save(tmp_path / "remote.npy", _remote(y[700:], 2))
    arguments = ["calibrate", str(body), "--remote", str(tmp_path / "remote.npy"), "--data", str(tmp_path / "data.npz")]
    arguments += ["--offload-rate", "0.2", "-o", str(tmp_path / "local.onnx")]
    assert main([*arguments, "--expected", str(tmp_path / "expected.npy")]) == 2
    assert "parity with the source failed: the probability of class 0 for input " in capsys.readouterr().err
    assert not (tmp_path / "local.onnx").exists()


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (np.zeros((3, 2)), r"^expected: expected numbers \[400, 2\], .* got float64 \[3, 2\]"),
        (np.zeros((400, 3)), r"^expected: expected 2 classes, as the body has, got 3"),
        (np.zeros((400, 2), "U1"), r"^expected: expected numbers"),
    ],
)
def test_expectations_of_another_shape_are_refused(tmp_path: Path, expected: NDArray[Any], message: str) -> None:
    """The error names both shapes."""
    x, y = _data(2)
    body = _converted(MODELS["logistic"].fit(x[:700], y[:700]), tmp_path / "body.onnx")
    np.savez(tmp_path / "data.npz", x=x[700:1100], y=y[700:1100])
    data = read_labelled(tmp_path / "data.npz")
    scores = local_scores(body, data.inputs)
    with pytest.raises(ExportError, match=message):
        calibrate(body, tmp_path / "o", data, scores, scores, objective=MostAccuracy(0.2), expected=expected)


def test_logits_are_compared_up_to_a_constant(tmp_path: Path) -> None:
    """Two bodies whose logits differ by a constant per row are the same classifier; a factor makes a different one."""
    x, y = _data(3)
    model = MODELS["logistic"].fit(x[:700], y[:700])
    body = _converted(model, tmp_path / "body.onnx")
    np.savez(tmp_path / "data.npz", x=x[700:1100], y=y[700:1100])
    data = read_labelled(tmp_path / "data.npz")
    scores, remote = local_scores(body, data.inputs), _remote(data.labels, 3)
    decision = model.decision_function(data.inputs)
    out = tmp_path / "local.onnx"
    calibrate(body, out, data, scores, remote, objective=MostAccuracy(0.2), expected=decision + 7)
    with pytest.raises(ParityError, match=r"the logit \(less the row's mean\) of class 0 for input 0 is"):
        calibrate(body, out, data, scores, remote, objective=MostAccuracy(0.2), expected=decision * 1.1)
