"""A file with a confidence map decides as the one without, and its confidence is the map's value."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from onnx import ModelProto

from documents import document_of
from edgecascade.calibration import ConfidenceMap, DecisionRule, decide
from edgecascade.cli import main
from edgecascade.export import fold, save_model, unfold
from edgecascade.export.fold import rule_of
from edgecascade.export.parity import check_parity
from edgecascade.export.tflite import export_tflite
from edgecascade.runtime import Cascade, ModelFileError
from edgecascade.runtime.engine import open_session
from edgecascade.types.costs import ErrorCosts
from edgecascade.types.document import CascadeDocument

Body = Callable[..., ModelProto]
MAP = ConfidenceMap((0.35, 0.5, 0.55, 0.9, 0.99), (0.2, 0.25, 0.45, 0.45, 0.97))
OUTPUTS = ("label", "confidence", "advantage", "forward", "probabilities")
ROWS = np.array([[np.nan, 0, 0], [np.inf, 0, 0], [-np.inf] * 3, [0, 0, 0], [9, 0, 0], [1, -np.inf, 0]], np.float32)


def mapped(rule: DecisionRule, found: ConfidenceMap = MAP, **changes: Any) -> tuple[DecisionRule, CascadeDocument]:
    """Return the rule and a document with a map."""
    rule = replace(rule, confidence_map=found, **changes)
    document = document_of(rule)
    calibration = replace(document.calibration, method="temperature + map", confidence_map=found)
    return rule, replace(document, calibration=calibration)


def run(model: ModelProto, logits: NDArray[Any]) -> list[NDArray[Any]]:
    """Return the five outputs of a model whose input is its logits."""
    session = open_session(model.SerializeToString())
    return [np.asarray(one) for one in session.run(OUTPUTS, {session.get_inputs()[0].name: logits})]


@pytest.mark.parametrize("opset", [13, 17, 21])
@pytest.mark.parametrize("score", ["confidence", "margin", "entropy"])
def test_only_the_confidence_differs(identity: Body, rule: DecisionRule, score: str, opset: int) -> None:
    """All other outputs are equal bit for bit, and NaN is forwarded."""
    logits = np.concatenate([ROWS, np.random.default_rng(0).normal(0, 2, (500, 3)).astype(np.float32)])
    rule, document = mapped(rule, score=score)
    body = identity(3, opset=opset)
    model = fold(body, logits="logits", rule=rule, document=document)
    onnx.checker.check_model(model, full_check=True)
    plain = fold(body, logits="logits", rule=replace(rule, confidence_map=None), document=document)
    ours, theirs = run(model, logits), run(plain, logits)
    for position in (0, 2, 3, 4):
        np.testing.assert_array_equal(ours[position], theirs[position])
    np.testing.assert_allclose(ours[1], np.interp(theirs[1], MAP.knots, MAP.values), atol=1e-6)
    np.testing.assert_allclose(ours[1], decide(logits, rule).confidence, atol=1e-6)
    assert np.isnan(ours[1][:3]).all()
    assert ours[3][:3].all()
    assert ours[1].dtype == np.float32


def test_a_constant_map_is_folded_and_forwards_nan(identity: Body, rule: DecisionRule) -> None:
    """The graph agrees with the reference on NaN, too."""
    one, document = mapped(rule, ConfidenceMap((0.5,), (0.75,)))
    model = fold(identity(3), logits="logits", rule=one, document=document)
    check_parity(model, ROWS, ROWS, one)
    assert run(model, ROWS)[1].tolist()[3:] == [0.75] * 3


def test_a_map_adds_four_operators(identity: Body, rule: DecisionRule) -> None:
    """The map takes five, and the Squeeze of the confidence is no longer needed."""
    rule, document = mapped(rule)
    nodes = [
        len(fold(identity(3), logits="logits", rule=one, document=document).graph.node)
        for one in (rule, replace(rule, confidence_map=None))
    ]
    assert nodes[0] - nodes[1] == 4


@st.composite
def maps(draw: st.DrawFn) -> ConfidenceMap:
    """Draw any map of float32 knots and of values that are multiples of 2^-20, as the fit makes them."""
    n = draw(st.integers(1, 16))
    knots = draw(arrays(np.float32, n, elements=st.floats(0.5, 1.0, width=32), unique=True))
    values = draw(arrays(np.int64, n, elements=st.integers(1, 2**20 - 1)))
    return ConfidenceMap(tuple(np.sort(knots).tolist()), tuple((np.sort(values) / 2**20).tolist()))


@given(found=maps(), seed=st.integers(0, 1000))
def test_the_confidence_never_falls_in_float32(
    identity: Body, rule: DecisionRule, found: ConfidenceMap, seed: int
) -> None:
    """Neighbouring probabilities never get confidences in the wrong order, nor one outside (0, 1]."""
    rng = np.random.default_rng(seed)
    at = np.concatenate([rng.choice(found.knots, 50), rng.uniform(0.5, 1.0, 50)]).clip(0.5001, 0.99999)
    gap = (np.log(at) - np.log1p(-at)).astype(np.float32)
    gap = np.sort(np.concatenate([gap, np.nextafter(gap, np.float32(9e9)), gap + np.float32(1e-6), [0, 99]]))
    logits = np.stack([gap * np.float32(rule.temperature), np.zeros_like(gap)], axis=1).astype(np.float32)
    one, document = mapped(rule, found)
    model = fold(identity(2), logits="logits", rule=one, document=document)
    session = open_session(model.SerializeToString())
    names = ["confidence", "probabilities"]
    alone = [session.run(names, {"z": row[None]}) for row in logits]
    confidence, largest = np.concatenate([a for a, _ in alone]), np.array([b.max() for _, b in alone])
    order = np.argsort(largest, kind="stable")
    assert (np.diff(confidence[order]) >= 0).all()
    assert 0 < confidence.min() <= confidence.max() <= 1
    together = session.run(names, {"z": logits})[0]  # sums may have another order
    steepest = np.max(np.diff(found.values) / np.diff(found.knots), initial=1.0)
    np.testing.assert_allclose(together, confidence, rtol=0, atol=2e-7 * steepest)


def test_with_costs_the_probability_of_the_answer_is_mapped(identity: Body, rule: DecisionRule) -> None:
    """The graph agrees with the reference for a cost by class and for a matrix."""
    logits = np.random.default_rng(0).normal(0, 2, (200, 3)).astype(np.float32)
    for values in ((1.0, 5.0, 2.0), ((0.0, 1.0, 1.0), (4.0, 0.0, 9.0), (1.0, 2.0, 0.0))):
        one, document = mapped(rule, costs=ErrorCosts(values))
        model = fold(identity(3), logits="logits", rule=one, document=document)
        check_parity(model, logits, logits, one)
        wanted = decide(logits, one)
        at = np.take_along_axis(wanted.probabilities, wanted.label[:, None], axis=1)[:, 0]
        np.testing.assert_allclose(wanted.confidence, MAP(at), atol=1e-6)


def test_a_map_is_read_back_and_unfolded(identity: Body, rule: DecisionRule) -> None:
    """The rule of the file has the map; the body comes back byte for byte; the document survives a round trip."""
    rule, document = mapped(rule)
    body = identity(3)
    model = fold(body, logits="logits", rule=rule, document=document)
    assert rule_of(model).confidence_map == MAP
    assert unfold(model).SerializeToString() == body.SerializeToString()
    text = document.to_json()
    assert json.loads(text)["calibration"]["knots"] == list(MAP.knots)
    assert json.loads(text)["calibration"]["values"] == list(MAP.values)
    assert "knots" not in json.loads(text)["remote"]
    assert CascadeDocument.from_json(text, "f") == document
    damaged = text.replace('"values": [0.2', '"values": [1.2')
    with pytest.raises(ModelFileError, match=r"^f: its `edgecascade` metadata is damaged: values: expected"):
        CascadeDocument.from_json(damaged, "f")


def test_the_remotes_map_is_applied_on_the_device(rule: DecisionRule) -> None:
    """Its confidence is the map's value, and its probabilities are those of its temperature."""
    _, document = mapped(rule)
    remote = replace(document.remote, temperature=2.0, method="temperature + map", confidence_map=MAP)
    calibrate = replace(document, remote=remote).calibrate_remote
    probabilities = calibrate(np.array([[2.0, 0.0, 0.0], [8.0, 0.0, 0.0]]))
    labels = probabilities.argmax(axis=1)
    np.testing.assert_allclose(calibrate.confidence(probabilities, labels), MAP(probabilities.max(axis=1)), rtol=1e-6)
    np.testing.assert_array_equal(
        probabilities, document.calibrate_remote._replace(temperature=2.0)(np.array([[2.0, 0.0, 0.0], [8.0, 0.0, 0.0]]))
    )


def test_files_with_maps_are_written_verified_and_used(
    pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From `calibrate --calibrator map` to an answer, and through `recalibrate` and `inspect --verify`."""
    out = tmp_path / "mapped.onnx"
    arguments = ["calibrate", str(pair / "corner.onnx"), "--remote", str(pair / "remote.onnx"), "--data"]
    arguments += [str(pair / "calibration.npz"), "--offload-rate", "0.3", "--merge", "confident"]
    assert main([*arguments, "--calibrator", "map", "-o", str(out)]) == 0
    assert "and a map of" in capsys.readouterr().out
    assert main(["inspect", str(out), "--verify"]) == 0
    assert main(["recalibrate", str(out), "--offload-rate", "0.1", "-o", str(tmp_path / "moved.onnx")]) == 0
    assert main(["inspect", str(tmp_path / "moved.onnx"), "--verify"]) == 0
    assert main(["inspect", str(out)]) == 0
    assert capsys.readouterr().out.count("and a map of") == 2
    images = np.load(pair / "test.npz")["x"][:100]
    with Cascade.load(out, remote=pair / "remote.onnx", deadline=30.0) as cascade:
        document = cascade.document
        answers = cascade.predict_batch(images)
    local, theirs = document.calibration.confidence_map, document.remote.confidence_map
    assert local is not None
    assert theirs is not None
    asked = [one for one in answers if one.remote is not None]
    assert 0 < len(asked) < len(answers)
    for one in answers:
        assert one.local.confidence == pytest.approx(local(one.local.probabilities.max()).item(), abs=1e-6)
    for one in asked:
        assert one.remote is not None
        assert one.remote.confidence == pytest.approx(theirs(one.remote.probabilities.max()).item(), abs=1e-6)
        assert one.confidence == max(one.local.confidence, one.remote.confidence)


@pytest.mark.slow
def test_litert_applies_the_map(identity: Body, rule: DecisionRule, tmp_path: Path, converter: str) -> None:
    """Confidences agree with the reference, NaN is forwarded, and nothing else differs."""
    one, document = mapped(rule)
    document = replace(document, labels=("a", "b", "c"))
    save_model(fold(identity(3, opset=18), logits="logits", rule=one, document=document), tmp_path / "local.onnx")
    logits = np.concatenate([ROWS, np.random.default_rng(0).normal(0, 2, (20, 3)).astype(np.float32)])
    export_tflite(tmp_path / "local.onnx", tmp_path / "local.tflite", logits, converter=converter)
    answers = Cascade.load(tmp_path / "local.tflite").predict_batch(logits)
    wanted = decide(logits, one)
    np.testing.assert_allclose([one.local.confidence for one in answers], wanted.confidence, atol=1e-6)
    assert [one.forwarded for one in answers] == wanted.forward.tolist()
