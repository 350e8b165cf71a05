"""Cascade models for LiteRT decide as the ONNX file does, or are refused."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from documents import document_of
from edgecascade.calibration import AdvantageTable, DecisionRule, decide
from edgecascade.cli import main
from edgecascade.export import ExportError, ParityError, export_torch, fold, save_model
from edgecascade.export.converters import convert, quantize_tflite, tflite_graph
from edgecascade.export.tflite import export_tflite
from edgecascade.runtime import Cascade, Reason
from edgecascade.types.costs import ErrorCosts

GOLDEN = Path(__file__).parents[1] / "runtime" / "data" / "colours.tflite"
EXTREME = [[200, 0, 0], [50, 0, 0], [300, 300, 0], [-np.inf, 0, 0], [np.inf, 0, 0], [1, np.nan, 0], [2, 1, 0]]


def _identity(kind: int = TensorProto.FLOAT, side: int | str = 3) -> ModelProto:
    """Return a body whose input is its logits."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["z"], ["logits"])],
        "identity",
        [helper.make_tensor_value_info("z", kind, ["batch", side])],
        [helper.make_tensor_value_info("logits", kind, ["batch", side])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _rule(score: str) -> DecisionRule:
    edges = {"confidence": [0.4, 0.7], "margin": [0.5, 2.0], "entropy": [-0.9, -0.2]}[score]
    table = AdvantageTable(np.array(edges, np.float32), np.array([-0.3, -0.1, 0.2], np.float32), np.array([9, 9, 9]))
    return DecisionRule(1.5, table, threshold=-0.1, score=score)


def _cascade(score: str = "confidence", body: ModelProto | None = None) -> ModelProto:
    rule = _rule(score)
    return fold(
        body or _identity(), logits="logits", rule=rule, document=replace(document_of(rule), labels=("a", "b", "c"))
    )


# Tests of the graph that need no converter.


@pytest.mark.parametrize("score", ["confidence", "margin", "entropy"])
def test_the_converter_gets_one_input_at_a_time_and_no_defaults(score: str) -> None:
    """The graph has only the body's own inputs, no symbolic dimension, and every output except `forward`."""
    graph = tflite_graph(_cascade(score), "logits").graph
    assert [one.name for one in graph.input] == ["z"]
    assert [side.dim_value for side in graph.input[0].type.tensor_type.shape.dim] == [1, 3]
    assert [one.name for one in graph.output] == ["logits", "label", "confidence", "advantage", "probabilities"]
    assert "threshold" not in {one.name for one in graph.initializer}


def test_models_that_tflite_cannot_hold_are_refused() -> None:
    """A free dimension, float16, and a body already quantized for ONNX Runtime are refused."""
    with pytest.raises(ExportError, match=r"its input z has a side `length` of no fixed size"):
        tflite_graph(_cascade(body=_identity(side="length")), "logits")
    with pytest.raises(ExportError, match=r"expected float32 inputs, got float16 in z"):
        tflite_graph(_cascade(body=_identity(TensorProto.FLOAT16)), "logits")
    body = _identity()
    body.graph.initializer.append(numpy_helper.from_array(np.array(1, np.float32), "scale"))
    body.graph.node[0].CopyFrom(helper.make_node("QuantizeLinear", ["z", "scale"], ["q"]))
    body.graph.node.append(helper.make_node("DequantizeLinear", ["q", "scale"], ["logits"]))
    with pytest.raises(ExportError, match=r"expected a float model, got one with QuantizeLinear; .*--int8"):
        tflite_graph(_cascade(body=body), "logits")


def test_conversion_requires_inputs_to_compare_on(tmp_path: Path) -> None:
    """Without inputs to compare on, no file is written."""
    save_model(_cascade(), tmp_path / "local.onnx")
    with pytest.raises(ExportError, match=r"no golden inputs .*--data"):
        export_tflite(tmp_path / "local.onnx", tmp_path / "local.tflite")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-o", "x.onnx"], "--out: expected a name that ends in .tflite, got x.onnx"),
        (["-o", "x.tflite", "--remote", "r.npy"], "expected --int8 with --remote and an objective"),
        (["-o", "x.tflite", "--offload-rate", "0.2"], "expected --int8 with --remote and an objective"),
        (["-o", "x.tflite", "--int8", "q.npz"], "expected all three and an objective"),
    ],
)
def test_wrong_arguments_are_refused_in_one_sentence(
    pair: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    """The error is raised before the converter runs."""
    assert main(["tflite", str(pair / "local.onnx"), *arguments]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_a_missing_converter_is_reported_with_instructions(pair: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Nothing is installed for the user, and nothing is written."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExportError, match=r"pipx install onnx2tf.*--converter"):
        export_tflite(pair / "local.onnx", tmp_path / "local.tflite")
    with pytest.raises(ExportError, match=r"^--converter: .*'/gone/onnx2tf'"):
        export_tflite(pair / "local.onnx", tmp_path / "local.tflite", converter="/gone/onnx2tf")
    assert list(tmp_path.iterdir()) == []


def test_a_failing_converter_is_quoted(pair: Path, tmp_path: Path) -> None:
    """The error holds the converter's own message about the model."""
    script = tmp_path / "converter"
    script.write_text("#!/bin/sh\necho ERROR: unknown operator\nexit 1\n")
    script.chmod(0o755)
    with pytest.raises(ExportError, match="onnx2tf cannot convert it: ERROR: unknown operator"):
        export_tflite(pair / "local.onnx", tmp_path / "local.tflite", converter=str(script))


# Tests that run the converter, whose environment takes a minute to install.


@pytest.mark.slow
@pytest.mark.parametrize("costs", [(1.0, 20.0, 3.0), ((0.0, 1.0, 2.0), (20.0, 0.0, 9.0), (3.0, 4.0, 0.0))])
def test_labels_of_least_expected_cost_are_those_of_the_reference(
    tmp_path: Path, costs: tuple[Any, ...], converter: str
) -> None:
    """Costs by class and a matrix survive conversion, and the score `cost` with them."""
    edges, values = np.array([-0.2, -0.05], np.float32), np.array([-0.3, -0.1, 0.2], np.float32)
    rule = DecisionRule(1.5, AdvantageTable(edges, values, np.array([9, 9, 9])), -0.1, "cost", ErrorCosts(costs))
    document = replace(document_of(rule), labels=("a", "b", "c"))
    save_model(fold(_identity(), logits="logits", rule=rule, document=document), tmp_path / "local.onnx")
    logits = np.concatenate([EXTREME, np.random.default_rng(0).normal(0, 2, (60, 3))]).astype(np.float32)
    export_tflite(tmp_path / "local.onnx", tmp_path / "local.tflite", logits, converter=converter)
    wanted = decide(logits, rule)
    answers = Cascade.load(tmp_path / "local.tflite").predict_batch(logits)
    number = ~np.isnan(wanted.confidence)
    np.testing.assert_array_equal(np.array([a.local.label for a in answers])[number], wanted.label[number])
    np.testing.assert_allclose([a.local.confidence for a in answers], wanted.confidence, rtol=1e-5)
    assert [a.reason is not Reason.CONFIDENT for a in answers] == wanted.forward.tolist()
    assert (wanted.label[number] != logits[number].argmax(axis=1)).any()


@pytest.mark.slow
@pytest.mark.parametrize("score", ["confidence", "margin", "entropy"])
def test_extreme_logits_are_decided_as_by_the_reference(tmp_path: Path, score: str, converter: str) -> None:
    """Saturated, tied, masked and NaN logits get the same decision after conversion."""
    logits, rule = np.array(EXTREME, np.float32), _rule(score)
    save_model(_cascade(score), tmp_path / "local.onnx")
    export_tflite(tmp_path / "local.onnx", tmp_path / "local.tflite", logits, converter=converter)
    wanted = decide(logits, rule)
    answers = Cascade.load(tmp_path / "local.tflite").predict_batch(logits)
    number = ~np.isnan(wanted.confidence)
    np.testing.assert_array_equal(np.array([a.local.label for a in answers])[number], wanted.label[number])
    np.testing.assert_allclose([a.local.confidence for a in answers], wanted.confidence, rtol=1e-6)
    np.testing.assert_array_equal(np.array([a.advantage for a in answers], np.float32), wanted.advantage)
    assert [a.reason is not Reason.CONFIDENT for a in answers] == wanted.forward.tolist()


@pytest.mark.slow
def test_a_converter_error_is_detected(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, converter: str
) -> None:
    """A converter that silently doubles the temperature is detected, and nothing is written."""

    def lying(model: ModelProto, command: str | None) -> bytes:
        for one in model.graph.initializer:
            if one.name == "temperature":
                one.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(one), one.name))
        return convert(model, command)

    monkeypatch.setattr("edgecascade.export.tflite.convert", lying)
    with pytest.raises(ParityError, match=r"parity failed on LiteRT: confidence of input 0 is .*nothing was written"):
        export_tflite(pair / "local.onnx", tmp_path / "local.tflite", converter=converter)
    assert not (tmp_path / "local.tflite").exists()


@pytest.mark.slow
def test_int8_is_calibrated_and_planned_on_its_own_outputs(pair: Path, tmp_path: Path, converter: str) -> None:
    """The int8 file has its own temperature; its body is int8, its last layer and decision are float."""
    arguments = ["--int8", "test.npz", "--data", "calibration.npz", "--remote", "remote.onnx"]
    arguments = [str(pair / one) if "." in one else one for one in arguments]
    arguments += ["--converter", converter]
    out = tmp_path / "local.tflite"
    assert main(["tflite", str(pair / "local.onnx"), *arguments, "--offload-rate", "0.3", "-o", str(out)]) == 0
    assert main(["inspect", str(out), "--verify", "--tolerance", "1e-5"]) == 0
    data = np.load(pair / "calibration.npz")
    with Cascade.load(out) as lite, Cascade.load(pair / "local.onnx") as float_:
        assert lite.document.to_dict()["policy"]["chosen"]["offload_rate"] == pytest.approx(0.3, abs=0.02)
        assert lite.document.to_dict()["calibration"]["n"] == len(data["y"])
        assert lite.document.labels == float_.document.labels == ("red", "green", "blue")
        answers, wanted = lite.predict_batch(data["x"]), float_.predict_batch(data["x"])
    assert np.mean([a.label == b.label for a, b in zip(answers, wanted, strict=True)]) > 0.95
    assert np.mean([a.reason is not Reason.CONFIDENT for a in answers]) == pytest.approx(0.3, abs=0.02)


@pytest.mark.slow
def test_a_quantized_network_is_a_quarter_of_the_size(converter: str) -> None:
    """All weights except those of the last layer are int8."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 64, 3, stride=2), torch.nn.ReLU(), torch.nn.Conv2d(64, 128, 3), torch.nn.ReLU()]
    pooled = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(128, 3)]
    model = _cascade(body=export_torch(torch.nn.Sequential(*layers, *pooled).eval(), [3, 16, 16]))
    inputs = np.random.default_rng(0).normal(0, 1, (100, 3, 16, 16)).astype(np.float32)
    flat = convert(tflite_graph(model, "logits"), converter)
    (name,) = (one.name for one in tflite_graph(model, "logits").graph.input)
    small = quantize_tflite(flat, [{name: one[None]} for one in inputs], "logits")
    assert len(small) < 0.4 * len(flat)


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="tflite-runtime has no wheel for it")
def test_tflite_runtime_gives_the_same_decisions(
    environment: Callable[..., Path], unpacked: Path, pair: Path, tmp_path: Path, converter: str
) -> None:
    """tflite_runtime, the predecessor of LiteRT, runs with numpy 1.26, which it needs."""
    python = environment("tflite-runtime==2.14.0", "numpy==1.26.4", "onnxruntime==1.23.2")
    export_tflite(pair / "local.onnx", tmp_path / "colours.tflite", converter=converter)
    command = [python, "-m", "edgecascade.cli", "inspect", tmp_path / "colours.tflite", "--verify"]
    paths = {**os.environ, "PYTHONPATH": str(unpacked)}
    ran = subprocess.run(list(map(str, command)), env=paths, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "LiteRT: 8 golden inputs decided as expected" in ran.stdout


@pytest.mark.slow
def test_the_golden_file_is_current(pair: Path, tmp_path: Path, converter: str) -> None:
    """The file that the runtime's tests read equals a new one; to renew it, copy the file written here."""
    export_tflite(pair / "local.onnx", tmp_path / "colours.tflite", converter=converter)
    images = np.load(pair / "test.npz")["x"]
    today, golden = (Cascade.load(file).predict_batch(images) for file in (tmp_path / "colours.tflite", GOLDEN))
    for one, other in zip(today, golden, strict=True):
        assert (one.label, one.reason, one.advantage) == (other.label, other.reason, other.advantage)
        assert one.confidence == pytest.approx(other.confidence, abs=1e-6)
