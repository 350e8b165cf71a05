"""`calibrate` turns a body and data into a file that decides as planned."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, helper

from edgecascade.calibration import (
    ESTIMATES,
    SCORES,
    CalibrationError,
    CertifiedLoss,
    LeastOffload,
    MostAccuracy,
    decide,
    fit_temperature,
    plan_cascade,
    softmax,
)
from edgecascade.cli import main
from edgecascade.export import (
    Calibrated,
    ExportError,
    ImagePreprocessing,
    LabelledData,
    calibrate,
    local_scores,
    prepend,
    read_labelled,
    save_model,
)
from edgecascade.runtime import Cascade
from edgecascade.runtime.engine import open_session
from edgecascade.types.document import CascadeDocument
from edgecascade.types.merge import MERGES

OUTPUTS = ["label", "confidence", "advantage", "forward", "probabilities"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LabelledData:
    """Return 900 inputs of three numbers; the label is the index of the largest one, with noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 2, (900, 3)).astype(np.float32)
    path = tmp_path_factory.mktemp("data") / "d.npz"
    np.savez(path, x=x, y=(x + rng.gumbel(size=x.shape)).argmax(axis=1), names=["a", "b", "c"])
    return read_labelled(path)


@pytest.fixture(scope="module")
def body(identity: Callable[..., ModelProto], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model whose logits are its input."""
    path = tmp_path_factory.mktemp("body") / "body.onnx"
    save_model(identity(3), path)
    return path


@pytest.fixture(scope="module")
def remote(data: LabelledData) -> NDArray[np.float64]:
    """Return the logits of an accurate, overconfident remote."""
    noise = np.random.default_rng(1).normal(0, 1, (900, 3))
    return 6 * np.eye(3)[data.labels] + 2.2 * noise


def read(path: Path) -> dict[str, Any]:
    """Return the document in a file."""
    (text,) = (entry.value for entry in onnx.load(path).metadata_props if entry.key == "edgecascade")
    document: dict[str, Any] = json.loads(text)
    return document


@pytest.mark.parametrize("estimate", ESTIMATES)
@pytest.mark.parametrize("score", SCORES)
def test_the_file_decides_as_planned(
    body: Path, data: LabelledData, remote: NDArray[np.float64], tmp_path: Path, score: str, estimate: str
) -> None:
    """The label, confidence, advantage and forward decision equal those of the reference arithmetic on every input."""
    local = local_scores(body, data.inputs)
    objective = MostAccuracy(0.3)
    written = calibrate(
        body, tmp_path / "c.onnx", data, local, remote, objective=objective, scores=[score], estimate=estimate
    )
    session = open_session(tmp_path / "c.onnx")
    label, confidence, advantage, forward, probabilities = session.run(OUTPUTS, {"z": np.asarray(data.inputs)})
    wanted = decide(local, written.plan.rule)
    np.testing.assert_array_equal(label, wanted.label)
    np.testing.assert_allclose(confidence, wanted.confidence, atol=1e-6)
    np.testing.assert_allclose(probabilities, wanted.probabilities, atol=1e-6)
    np.testing.assert_array_equal(advantage, wanted.advantage)
    np.testing.assert_array_equal(forward, wanted.forward)
    assert 0 < forward.mean() == written.plan.policy.chosen.offload_rate <= 0.3
    assert read(tmp_path / "c.onnx")["policy"]["estimate"] == estimate
    assert written.parity.largest < 1e-5


def test_the_document_records_the_calibration(
    body: Path, data: LabelledData, remote: NDArray[np.float64], tmp_path: Path
) -> None:
    """The document holds both calibrations, the policy and its alternatives, the curve, and all sources."""
    local = local_scores(body, data.inputs)
    calibrate(body, tmp_path / "c.onnx", data, local, remote, objective=MostAccuracy(0.3))
    document, plan = read(tmp_path / "c.onnx"), plan_cascade(local, remote, data.labels, MostAccuracy(0.3))
    assert document["format"] == 1
    assert document["labels"] == ["a", "b", "c"]
    assert document["calibration"]["temperature"] == fit_temperature(local, data.labels)
    assert document["calibration"]["n"] == document["remote"]["n"] == document["policy"]["chosen"]["n"] == 900
    assert document["remote"]["temperature"] == pytest.approx(fit_temperature(remote, data.labels))
    assert document["remote"]["scores"] == "logits"
    policy = document["policy"]
    assert (policy["score"], policy["merge"], policy["threshold"]) == (plan.score, plan.merge, plan.policy.threshold)
    assert sum(policy["counts"]) == 900
    assert len(policy["counts"]) == len(policy["intervals"]) == policy["bins"]
    considered = [(one["score"], one["merge"], one["estimate"]) for one in policy["considered"]]
    assert considered == [(one.score, one.merge, one.estimate) for one in plan.routing]
    assert {(score, merge) for score, merge, _ in considered} >= set(product(SCORES, MERGES))
    assert policy["chosen"] in document["operating_curve"]
    rates = [point["offload_rate"] for point in document["operating_curve"]]
    thresholds = [point["threshold"] for point in document["operating_curve"]]
    assert (rates, thresholds) == (sorted(rates), sorted(thresholds))
    assert (rates[0], rates[-1]) == (0.0, 1.0)
    assert document["certificate"] is None
    assert document["source"]["model_sha256"] == hashlib.sha256(body.read_bytes()).hexdigest()
    assert document["source"]["data_sha256"] == data.digest


def test_an_offload_rate_of_zero_forwards_only_nan(
    body: Path, data: LabelledData, remote: NDArray[np.float64], tmp_path: Path
) -> None:
    """At an offload rate of 0, only an input with a NaN confidence is forwarded."""
    local = local_scores(body, data.inputs)
    written = calibrate(body, tmp_path / "c.onnx", data, local, remote, objective=MostAccuracy(0.0))
    inputs = np.concatenate([np.asarray(data.inputs), np.full((1, 3), np.nan, np.float32)])
    (forward,) = open_session(tmp_path / "c.onnx").run(["forward"], {"z": inputs})
    assert np.flatnonzero(forward).tolist() == [900]
    assert written.plan.policy.chosen.offload_rate == 0


def test_the_certificate_is_stored_in_the_file(
    body: Path, data: LabelledData, remote: NDArray[np.float64], tmp_path: Path
) -> None:
    """The file stores the certificate together with the threshold that it was made for."""
    local = local_scores(body, data.inputs)
    calibrate(body, tmp_path / "c.onnx", data, local, remote, objective=CertifiedLoss(0.05, 0.1))
    document = read(tmp_path / "c.onnx")
    assert (document["certificate"]["loss"], document["certificate"]["risk"]) == (0.05, 0.1)
    assert document["certificate"]["threshold"] == document["policy"]["threshold"]
    assert document["certificate"]["n"] == document["calibration"]["n"] == 900


def test_a_remote_may_return_probabilities(
    body: Path, data: LabelledData, remote: NDArray[np.float64], tmp_path: Path
) -> None:
    """Probabilities are recognised, their logarithms are calibrated, and the document records their kind."""
    local = local_scores(body, data.inputs)
    objective = MostAccuracy(0.3)
    calibrate(body, tmp_path / "p.onnx", data, local, softmax(remote), objective=objective)
    calibrate(body, tmp_path / "l.onnx", data, local, remote, objective=objective)
    as_probabilities, as_logits = read(tmp_path / "p.onnx"), read(tmp_path / "l.onnx")
    assert as_probabilities["remote"]["scores"] == "probabilities"
    assert as_probabilities["remote"]["temperature"] == pytest.approx(as_logits["remote"]["temperature"], rel=1e-4)
    decisions = [
        open_session(tmp_path / name).run(OUTPUTS, {"z": np.asarray(data.inputs)}) for name in ("p.onnx", "l.onnx")
    ]
    for one, other in zip(*decisions, strict=True):
        np.testing.assert_array_equal(one, other)
    with Cascade.load(tmp_path / "p.onnx", remote=lambda _: softmax(remote[:1]), threshold=2.0) as cascade:
        expected = softmax(remote[:1], as_logits["remote"]["temperature"])[0]
        prediction = cascade.predict(np.asarray(data.inputs)[0]).remote
        assert prediction is not None
        np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-5)


@pytest.mark.parametrize("rounding", ["3 decimals", "uint8", "float16"])
def test_rounded_probabilities_of_both_models_keep_their_floor(
    identity: Callable[..., ModelProto], data: LabelledData, remote: NDArray[np.float64], tmp_path: Path, rounding: str
) -> None:
    """The floor is in the graph, in the document and on the device, and the file decides nearly as without rounding."""
    change: Callable[[NDArray[Any]], NDArray[Any]] = {
        "3 decimals": lambda p: p.round(3),
        "uint8": lambda p: (np.rint(p * 255) / 255).astype(np.float32),
        "float16": lambda p: p.astype(np.float16).astype(np.float32),
    }[rounding]
    save_model(identity(3), tmp_path / "body.onnx")
    exact = softmax(4 * np.asarray(data.inputs)), softmax(remote)
    written = {}
    for name, (local, theirs) in {"exact": exact, "rounded": (change(exact[0]), change(exact[1]))}.items():
        some = replace(data, inputs=local)
        scores = local_scores(tmp_path / "body.onnx", local)
        written[name] = calibrate(
            tmp_path / "body.onnx", tmp_path / f"{name}.onnx", some, scores, theirs, objective=MostAccuracy(0.3)
        )
    document, given = read(tmp_path / "rounded.onnx"), written["rounded"].read
    assert document["source"]["floor"] == given["local"].floor > 1e-9
    assert document["remote"]["floor"] == given["remote"].floor > 1e-9
    assert given["local"].zeros > 0
    assert "floor" not in read(tmp_path / "exact.onnx")["source"] | read(tmp_path / "exact.onnx")["remote"]
    temperature = written["exact"].plan.local.temperature
    assert written["rounded"].plan.local.temperature == pytest.approx(temperature, rel=0.2)
    session = open_session(tmp_path / "rounded.onnx")
    probabilities = session.run(["probabilities"], {"z": change(exact[0])})[0]
    logits = np.log(np.maximum(change(exact[0]), np.float32(given["local"].floor)))
    wanted = softmax(logits, document["calibration"]["temperature"])
    np.testing.assert_allclose(probabilities, wanted, atol=1e-6)
    certain = np.array([[1.0, 0.0, 0.0]])  # which no model is
    with Cascade.load(tmp_path / "rounded.onnx", remote=lambda _: certain, threshold=2.0) as cascade:
        prediction = cascade.predict(change(exact[0])[0]).remote
        assert prediction is not None
        odds = given["remote"].floor ** (1 / document["remote"]["temperature"])
        assert prediction.probabilities[0] == pytest.approx(1 / (1 + 2 * odds), abs=1e-6)


def test_scores_that_may_be_either_require_the_option(
    body: Path, data: LabelledData, remote: NDArray[np.float64], tmp_path: Path
) -> None:
    """Sigmoids of a remote or a body are refused, with the option that says what they are."""
    local, sigmoids = local_scores(body, data.inputs), 1 / (1 + np.exp(-remote))
    objective = MostAccuracy(0.3)
    with pytest.raises(ExportError, match=r"^remote: its scores are numbers in \[0, 1\] .* --remote-kind"):
        calibrate(body, tmp_path / "c.onnx", data, local, sigmoids, objective=objective)
    calibrate(body, tmp_path / "c.onnx", data, local, sigmoids, objective=objective, remote_kind="probabilities")
    assert read(tmp_path / "c.onnx")["remote"]["scores"] == "probabilities"
    calibrate(body, tmp_path / "c.onnx", data, local, sigmoids, objective=objective, remote_kind="logits")
    assert read(tmp_path / "c.onnx")["remote"]["scores"] == "logits"
    with pytest.raises(ExportError, match=r"^logits: 'logits' has numbers in \[0, 1\] .* --kind probabilities"):
        calibrate(body, tmp_path / "c.onnx", data, 1 / (1 + np.exp(-local)), remote, objective=objective)
    with pytest.raises(ExportError, match=r"^remote: expected floating scores \[n, classes\], got uint8"):
        calibrate(body, tmp_path / "c.onnx", data, local, (255 * softmax(remote)).astype(np.uint8), objective=objective)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"remote": np.zeros((900, 4))}, ExportError, r"^remote: .*\[900, 3\].* got \[900, 4\]"),
        ({"names": ("a", "b")}, ExportError, r"^names: expected 3, one per class of the model, got 2"),
        ({"labels": np.full(900, 3)}, CalibrationError, r"^labels: expected 0 to 2"),
        ({"objective": LeastOffload(accuracy=1.0)}, CalibrationError, r"^accuracy: 100 % is out of reach"),
        ({"objective": CertifiedLoss(1e-4)}, CalibrationError, r"^certificate: 900 inputs do not show"),
        ({"local": np.full((900, 3), 5.0)}, CalibrationError, r"^logits: the local model gives the same"),
        ({"bins": 500}, CalibrationError, r"^bins: 500 bins need at least 5000"),
    ],
)
def test_invalid_arguments_are_refused_and_nothing_is_written(
    body: Path,
    data: LabelledData,
    remote: NDArray[np.float64],
    tmp_path: Path,
    change: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    """The error names the argument, and no file is written."""
    labelled = LabelledData(data.inputs, change.pop("labels", data.labels), change.pop("names", data.names), "")
    local = change.pop("local", np.asarray(data.inputs))
    options = {"objective": MostAccuracy(0.3), **change}
    with pytest.raises(error, match=message):
        calibrate(body, tmp_path / "c.onnx", labelled, local, options.pop("remote", remote), **options)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_existing_file_unchanged(
    body: Path, data: LabelledData, remote: NDArray[np.float64], tmp_path: Path
) -> None:
    """A failed export does not touch the existing file, which a device may be reading."""
    (tmp_path / "c.onnx").write_bytes(b"the old one")
    with pytest.raises(CalibrationError):
        calibrate(body, tmp_path / "c.onnx", data, np.asarray(data.inputs), remote, objective=LeastOffload(1.0))
    assert (tmp_path / "c.onnx").read_bytes() == b"the old one"
    assert [p.name for p in tmp_path.iterdir()] == ["c.onnx"]


def test_the_body_is_not_overwritten(
    body: Path, data: LabelledData, remote: NDArray[np.float64], tmp_path: Path
) -> None:
    """A body that is named as the output too, even through a link, stays as it is."""
    content, link = body.read_bytes(), tmp_path / "link.onnx"
    link.symlink_to(body)
    for out in (body, link):
        with pytest.raises(ExportError, match=r"^out: .*the body"):
            calibrate(body, out, data, np.asarray(data.inputs), remote, objective=MostAccuracy(0.3))
    assert body.read_bytes() == content


def test_classes_without_names_are_numbered(
    body: Path, data: LabelledData, remote: NDArray[np.float64], tmp_path: Path
) -> None:
    """Class names default to the numbers from 0."""
    nameless = replace(data, names=())
    calibrate(body, tmp_path / "c.onnx", nameless, np.asarray(data.inputs), remote, objective=MostAccuracy(0.3))
    assert read(tmp_path / "c.onnx")["labels"] == ["0", "1", "2"]


@pytest.mark.parametrize("output", ["probabilities", "scores"])
def test_a_body_that_ends_in_softmax_is_calibrated_on_its_logits(
    build: Callable[..., ModelProto], data: LabelledData, remote: NDArray[np.float64], tmp_path: Path, output: str
) -> None:
    """The temperature and the decisions equal those of the same model without the softmax."""
    nodes = [helper.make_node("Identity", ["z"], ["raw"]), helper.make_node("Softmax", ["raw"], [output])]
    save_model(build(nodes, [3], [3], output=output), tmp_path / "body.onnx")
    local = local_scores(tmp_path / "body.onnx", data.inputs)
    written = calibrate(tmp_path / "body.onnx", tmp_path / "c.onnx", data, local, remote, objective=MostAccuracy(0.3))
    assert written.plan.local.temperature == fit_temperature(np.asarray(data.inputs), data.labels)
    (confidence,) = open_session(tmp_path / "c.onnx").run(["confidence"], {"z": np.asarray(data.inputs)})
    np.testing.assert_allclose(confidence, decide(np.asarray(data.inputs), written.plan.rule).confidence, atol=1e-6)


@pytest.fixture
def of_images(
    build: Callable[..., ModelProto], remote: NDArray[np.float64], data: LabelledData, tmp_path: Path
) -> tuple[Calibrated, Path]:
    """Return a calibrated model of images of alternating sizes, and its file."""
    constants = {"axes": np.array([2, 3]), "tenth": np.array(0.1, np.float32)}
    nodes = [
        helper.make_node("ReduceMean", ["z", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "tenth"], ["logits"]),
    ]
    preprocessing = ImagePreprocessing(4, 4, (127.0,) * 3, (1.0,) * 3)
    save_model(prepend(preprocessing, build(nodes, [3, 4, 4], [3], constants)), tmp_path / "body.onnx")
    colours = (10 * np.asarray(data.inputs) + 127).round().clip(0, 255).astype(np.uint8)
    images = [np.broadcast_to(colour, (4 + i % 2, 4, 3)) for i, colour in enumerate(colours)]
    local, out = local_scores(tmp_path / "body.onnx", images), tmp_path / "c.onnx"
    labelled = replace(data, inputs=images)
    return calibrate(tmp_path / "body.onnx", out, labelled, local, remote, objective=MostAccuracy(0.3)), out


def test_preprocessing_in_the_body_is_recorded_in_the_document(of_images: tuple[Calibrated, Path]) -> None:
    """The document holds the preprocessing that was added to the body."""
    assert read(of_images[1])["preprocessing"] == {
        "height": 4,
        "width": 4,
        "mean": [127.0] * 3,
        "std": [1.0] * 3,
        "interpolation": "linear",
        "shortest_edge": None,
    }


def test_parity_is_checked_on_images_of_different_sizes(of_images: tuple[Calibrated, Path]) -> None:
    """As many images are compared as when all have one size."""
    assert of_images[0].parity.n == 128


@pytest.mark.parametrize(
    "batch",
    [
        1,
        4,
        pytest.param(7),
    ],
)
def test_a_body_of_a_fixed_batch_is_calibrated(
    identity: Callable[..., ModelProto], data: LabelledData, remote: NDArray[np.float64], tmp_path: Path, batch: int
) -> None:
    """A body with a fixed batch size is calibrated, and the file keeps that batch size."""
    save_model(identity(3, batch=batch), tmp_path / "body.onnx")
    local = np.asarray(data.inputs)
    calibrate(tmp_path / "body.onnx", tmp_path / "c.onnx", data, local, remote, objective=MostAccuracy(0.3))
    assert open_session(tmp_path / "c.onnx").get_inputs()[0].shape == [batch, 3]


def test_logits_of_another_model_fail_parity(
    body: Path, data: LabelledData, remote: NDArray[np.float64], tmp_path: Path
) -> None:
    """Saved outputs that another model produced are refused, and nothing is written."""
    other = np.asarray(data.inputs)[:, ::-1].copy()
    with pytest.raises(ExportError, match=r"^parity failed"):
        calibrate(body, tmp_path / "c.onnx", data, other + remote, remote, objective=MostAccuracy(0.3))
    assert list(tmp_path.iterdir()) == []


def test_the_file_has_the_temperature_that_allows_for_wrong_labels(
    body: Path, data: LabelledData, remote: NDArray[np.float64], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it is asked for, the graph divides by it, and the document says so; `inspect` shows the line."""
    given = replace(data, labels=np.where(np.arange(900) % 10 == 0, (data.labels + 1) % 3, data.labels))
    local, out = local_scores(body, data.inputs), tmp_path / "c.onnx"
    written = calibrate(body, out, given, local, remote, objective=MostAccuracy(0.3), label_noise=True)
    noise, found = written.plan.remote.label_noise, read(out)
    assert noise is not None
    assert noise.used
    assert noise.wrong.low < 0.1 < noise.wrong.high
    assert found["remote"]["temperature"] == found["remote"]["label_noise"]["temperature"] == noise.temperature
    assert found["remote"]["label_noise"]["without"] == fit_temperature(remote, given.labels)
    assert found["calibration"]["label_noise"]["wrong"]["n"] == 900
    assert CascadeDocument.from_json(json.dumps(found), "c.onnx").remote == written.plan.remote
    assert main(["inspect", str(out)]) == 0
    assert str(noise) in capsys.readouterr().out
