"""From a body and data to a file that decides as planned."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, helper

from edgecascade.calibration import (
    SCORES,
    CalibrationError,
    LeastOffload,
    MostAccuracy,
    Promise,
    decide,
    fit_temperature,
    plan_cascade,
    softmax,
)
from edgecascade.export import (
    ExportError,
    LabelledData,
    calibrate,
    local_scores,
    prepend,
    read_labelled,
    remote_scores,
    save_model,
)
from edgecascade.export.preprocess import ImagePreprocessing
from edgecascade.runtime import Cascade
from edgecascade.runtime.session import open_session

OUTPUTS = ["label", "confidence", "advantage", "forward", "probabilities"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LabelledData:
    """900 inputs of three numbers, the largest of which is the label, more or less."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 2, (900, 3)).astype(np.float32)
    path = tmp_path_factory.mktemp("data") / "d.npz"
    np.savez(path, x=x, y=(x + rng.gumbel(size=x.shape)).argmax(axis=1), names=["a", "b", "c"])
    return read_labelled(path)


@pytest.fixture(scope="module")
def body(identity: Callable[..., ModelProto], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose logits are its input."""
    path = tmp_path_factory.mktemp("body") / "body.onnx"
    save_model(identity(3), path)
    return path


@pytest.fixture(scope="module")
def remote(data: LabelledData) -> NDArray[np.float64]:
    """Logits of a model that is nearly always right, and too sure."""
    noise = np.random.default_rng(1).normal(0, 1, (900, 3))
    return 6 * np.eye(3)[data.labels] + 2.2 * noise


def read(path: Path) -> dict[str, Any]:
    """The document in a file."""
    (text,) = (entry.value for entry in onnx.load(path).metadata_props if entry.key == "edgecascade")
    document: dict[str, Any] = json.loads(text)
    return document


@pytest.mark.parametrize("score", SCORES)
def test_the_file_decides_as_planned(
    body: Path, data: LabelledData, remote: NDArray[np.float64], tmp_path: Path, score: str
) -> None:
    """Label, confidence, advantage and forward of the reference arithmetic, on every input."""
    local = local_scores(body, data.inputs)
    written = calibrate(body, tmp_path / "c.onnx", data, local, remote, objective=MostAccuracy(0.3), scores=[score])
    session = open_session(tmp_path / "c.onnx")
    label, confidence, _, forward, _ = session.run(OUTPUTS, {"z": np.asarray(data.inputs)})
    wanted = decide(local, written.plan.rule)
    np.testing.assert_array_equal(label, wanted.label)
    np.testing.assert_allclose(confidence, wanted.confidence, atol=1e-6)
    np.testing.assert_array_equal(forward, wanted.forward)
    assert forward.mean() == written.plan.policy.chosen.offload_rate
    assert written.parity.largest < 1e-5


def test_the_document_says_what_was_done(
    body: Path, data: LabelledData, remote: NDArray[np.float64], tmp_path: Path
) -> None:
    """Both calibrations, the policy with what it was chosen over, the curve, and where it all came from."""
    local = local_scores(body, data.inputs)
    calibrate(body, tmp_path / "c.onnx", data, local, remote, objective=MostAccuracy(0.3))
    document, plan = read(tmp_path / "c.onnx"), plan_cascade(local, remote, data.labels, MostAccuracy(0.3))
    assert document["format"] == 1
    assert document["labels"] == ["a", "b", "c"]
    assert document["calibration"]["temperature"] == fit_temperature(local, data.labels)
    assert document["remote"]["temperature"] == pytest.approx(fit_temperature(remote, data.labels))
    assert document["remote"]["scores"] == "logits"
    policy = document["policy"]
    assert (policy["score"], policy["merge"], policy["threshold"]) == (plan.score, plan.merge, plan.policy.threshold)
    assert sum(policy["counts"]) == 900
    assert len(policy["counts"]) == len(policy["intervals"]) == policy["bins"]
    assert len(policy["considered"]) == 9
    assert policy["chosen"] in document["operating_curve"]
    rates = [point["offload_rate"] for point in document["operating_curve"]]
    assert rates == sorted(rates)
    assert document["certificate"] is None
    assert document["source"]["model_sha256"] == hashlib.sha256(body.read_bytes()).hexdigest()
    assert document["source"]["data_sha256"] == data.digest


def test_a_promise_travels_in_the_file(
    body: Path, data: LabelledData, remote: NDArray[np.float64], tmp_path: Path
) -> None:
    """And the threshold is the one that it was made for."""
    local = local_scores(body, data.inputs)
    calibrate(body, tmp_path / "c.onnx", data, local, remote, objective=Promise(0.05, 0.1))
    document = read(tmp_path / "c.onnx")
    assert (document["certificate"]["loss"], document["certificate"]["risk"]) == (0.05, 0.1)
    assert document["certificate"]["threshold"] == document["policy"]["threshold"]
    assert document["certificate"]["n"] + document["calibration"]["n"] == 900


def test_a_remote_may_give_probabilities(
    body: Path, data: LabelledData, remote: NDArray[np.float64], tmp_path: Path
) -> None:
    """They are recognised, their logarithms calibrated, and the runtime is told."""
    local = local_scores(body, data.inputs)
    objective = MostAccuracy(0.3)
    calibrate(body, tmp_path / "p.onnx", data, local, softmax(remote), objective=objective)
    calibrate(body, tmp_path / "l.onnx", data, local, remote, objective=objective)
    as_probabilities, as_logits = read(tmp_path / "p.onnx"), read(tmp_path / "l.onnx")
    assert as_probabilities["remote"]["scores"] == "probabilities"
    assert as_probabilities["remote"]["temperature"] == pytest.approx(as_logits["remote"]["temperature"], rel=1e-4)
    with Cascade.load(tmp_path / "p.onnx", remote=lambda _: softmax(remote[:1]), threshold=2.0) as cascade:
        expected = softmax(remote[:1], as_logits["remote"]["temperature"])[0]
        verdict = cascade.predict(np.asarray(data.inputs)[0]).remote
        assert verdict is not None
        np.testing.assert_allclose(verdict.probabilities, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"remote": np.zeros((900, 4))}, ExportError, r"^remote: expected scores \[900, 3\] .* got \[900, 4\]"),
        ({"names": ("a", "b")}, ExportError, r"^names: expected 3, one per class of the model, got 2"),
        ({"labels": np.full(900, 3)}, CalibrationError, r"^labels: expected 0 to 2"),
        ({"objective": LeastOffload(accuracy=1.0)}, CalibrationError, r"^accuracy: 100\.0% is out of reach"),
        ({"objective": Promise(1e-4)}, CalibrationError, r"^certificate: 600 inputs do not show"),
        ({"local": np.full((900, 3), 1.0)}, CalibrationError, r"^logits: every row is constant"),
        ({"bins": 500}, CalibrationError, r"^bins: 500 bins need at least 5000"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    body: Path,
    data: LabelledData,
    remote: NDArray[np.float64],
    tmp_path: Path,
    change: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    """One sentence that names the argument."""
    labelled = LabelledData(data.inputs, change.pop("labels", data.labels), change.pop("names", data.names), "")
    local = change.pop("local", np.asarray(data.inputs))
    options = {"objective": MostAccuracy(0.3), **change}
    with pytest.raises(error, match=message):
        calibrate(body, tmp_path / "c.onnx", labelled, local, options.pop("remote", remote), **options)
    assert list(tmp_path.iterdir()) == []


def test_logits_that_are_not_the_bodys_fail_parity(
    body: Path, data: LabelledData, remote: NDArray[np.float64], tmp_path: Path
) -> None:
    """Saved outputs of another model are the commonest mistake; nothing is written."""
    other = np.asarray(data.inputs)[:, ::-1].copy()
    with pytest.raises(ExportError, match=r"^parity failed"):
        calibrate(body, tmp_path / "c.onnx", data, other + remote, remote, objective=MostAccuracy(0.3))
    assert list(tmp_path.iterdir()) == []


def test_scores_are_those_of_the_file_at_any_batch(
    identity: Callable[..., ModelProto], data: LabelledData, tmp_path: Path
) -> None:
    """Dynamic or fixed, local or remote, from a file or saved."""
    x = np.asarray(data.inputs)[:20]
    for batch in ("batch", 1, 4):
        save_model(identity(3, batch=batch), tmp_path / "m.onnx")
        np.testing.assert_array_equal(local_scores(tmp_path / "m.onnx", x), x)
    save_model(identity(3), tmp_path / "m.onnx")
    np.testing.assert_array_equal(remote_scores(str(tmp_path / "m.onnx"), x), x)
    np.save(tmp_path / "saved.npy", 2 * x)
    np.testing.assert_array_equal(remote_scores(str(tmp_path / "saved.npy"), x), 2 * x)
    with pytest.raises(ExportError, match=r"saved\.npy: expected logits \[19, classes\], got \[20, 3\]"):
        remote_scores(str(tmp_path / "saved.npy"), x[:19])


def test_a_remote_that_fails_halfway_is_told_apart(data: LabelledData) -> None:
    """After how many inputs, and why."""
    with pytest.raises(ExportError, match=r"^http://127\.0\.0\.1:9/v2/models/m: it failed after 0 inputs: cannot"):
        remote_scores("http://127.0.0.1:9/v2/models/m", np.asarray(data.inputs)[:2])


def test_images_of_many_sizes_are_scored(build: Callable[..., ModelProto], tmp_path: Path) -> None:
    """One by one where they differ."""
    body = build(
        [helper.make_node("ReduceMean", ["z", "axes"], ["logits"], keepdims=0)],
        [3, 4, 4],
        [3],
        {"axes": np.array([2, 3])},
    )
    save_model(prepend(ImagePreprocessing(4, 4, (0.0,) * 3, (1.0,) * 3), body), tmp_path / "m.onnx")
    images = [np.full((side, 5, 3), side, np.uint8) for side in (4, 4, 9, 6)]
    np.testing.assert_allclose(local_scores(tmp_path / "m.onnx", images)[:, 0], [4, 4, 9, 6], rtol=1e-5)
