"""A body whose scores depend on the other inputs of a batch is scored, proved and run on one input at a time."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from edgecascade.calibration import MostAccuracy, softmax
from edgecascade.cli import main
from edgecascade.export import ExportError, LabelledData, calibrate, local_scores, recalibrate, save_model, unfold
from edgecascade.export.graph import load_model, set_first_sides
from edgecascade.export.recalibrate import cascade_scores
from edgecascade.runtime import Cascade
from edgecascade.runtime.engine import open_session
from edgecascade.runtime.golden import read_golden
from edgecascade.types.document import PREPROCESSING_KEY, TextPreprocessing, preprocessing_dict

N = 300
# a scale for the whole batch, and the mean of a batch as in a batch norm that was left in training
QUANTIZED = [
    helper.make_node("DynamicQuantizeLinear", ["z"], ["steps", "scale", "zero"]),
    helper.make_node("DequantizeLinear", ["steps", "scale", "zero"], ["logits"]),
]
CENTRED = [
    helper.make_node("ReduceMean", ["z", "first"], ["mean"], keepdims=1),
    helper.make_node("Mul", ["mean", "half"], ["shift"]),
    helper.make_node("Mul", ["shift", "z"], ["logits"]),
]
CONSTANTS = {"first": np.array([0]), "half": np.float32(0.5)}


def _quantized(row: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return one input after uint8 quantization with its own range, as ONNX defines DynamicQuantizeLinear."""
    low, high = np.float32(min(row.min(), 0)), np.float32(max(row.max(), 0))
    scale = np.float32((high - low) / np.float32(255))
    zero = np.clip(np.rint(-low / scale), 0, 255)
    steps = np.clip(np.rint(row / scale) + zero, 0, 255)
    return np.asarray((steps - zero) * scale, np.float32)


def _data(inputs: Any, logits: NDArray[np.floating]) -> LabelledData:
    labels = (logits + np.random.default_rng(1).gumbel(size=logits.shape)).argmax(axis=1)
    return LabelledData(inputs, labels, ("a", "b", "c"), "0" * 64)


def _remote(data: LabelledData) -> NDArray[np.floating]:
    return np.eye(3)[data.labels] * 4 + np.random.default_rng(2).gumbel(size=(N, 3))


def _probabilities(answers: list[Any]) -> NDArray[np.float32]:
    return np.stack([answer.local.probabilities for answer in answers])


@pytest.mark.parametrize(
    ("nodes", "reference"), [(QUANTIZED, _quantized), (CENTRED, lambda row: np.float32(0.5) * row * row)]
)
def test_answers_do_not_depend_on_the_batch(
    build: Callable[..., ModelProto], tmp_path: Path, nodes: list[Any], reference: Callable[..., NDArray[np.float32]]
) -> None:
    """Scores, single answers and batches of answers are those of each input alone; the body is kept as it was."""
    x = np.random.default_rng(0).normal(0, 2, (N, 3)).astype(np.float32)
    alone = np.stack([reference(row) for row in x])
    constants = CONSTANTS if nodes is CENTRED else None
    save_model(build(nodes, [3], [3], constants), tmp_path / "body.onnx")
    local = local_scores(tmp_path / "body.onnx", x)
    np.testing.assert_allclose(local, alone, rtol=1e-6)
    data = _data(x, alone)
    out = tmp_path / "local.onnx"
    written = calibrate(tmp_path / "body.onnx", out, data, local, _remote(data), objective=MostAccuracy(0.3))
    assert (written.parity.n, written.golden) == (128, 8)
    assert open_session(out).get_inputs()[0].shape == [1, 3]
    with Cascade.load(out) as cascade:
        temperature = cascade.document.calibration.temperature
        expected = softmax(alone[:40], temperature)
        for answers in (cascade.predict_batch(x[:40]), [cascade.predict(row) for row in x[:40]]):
            np.testing.assert_allclose(_probabilities(answers), expected, atol=1e-6)
    assert main(["inspect", str(out), "--verify"]) == 0
    assert unfold(load_model(out)).SerializeToString() == (tmp_path / "body.onnx").read_bytes()
    again = cascade_scores(out, x)
    np.testing.assert_array_equal(again, local)
    recalibrate(out, tmp_path / "again.onnx", data, again, _remote(data), objective=MostAccuracy(0.2))
    assert open_session(tmp_path / "again.onnx").get_inputs()[0].shape == [1, 3]


def test_a_body_that_does_not_depend_on_it_takes_batches(identity: Callable[..., ModelProto], tmp_path: Path) -> None:
    """The first side of its inputs stays free."""
    x = np.random.default_rng(0).normal(0, 2, (N, 3)).astype(np.float32)
    save_model(identity(3), tmp_path / "body.onnx")
    data, out = _data(x, x), tmp_path / "local.onnx"
    calibrate(tmp_path / "body.onnx", out, data, x, _remote(data), objective=MostAccuracy(0.3))
    assert open_session(out).get_inputs()[0].shape == ["batch", 3]


def test_sentences_are_encoded_alone(build: Callable[..., ModelProto], tmp_path: Path) -> None:
    """A file that takes one text at a time gets each without padding: at calibration, in a batch and as a remote."""
    tokenizers = pytest.importorskip("tokenizers")
    words = {f"w{i}": i for i in range(20)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    content = tokenizer.to_str().encode()
    (tmp_path / "tokenizer.json").write_bytes(content)
    table = np.random.default_rng(0).normal(0, 2, (20, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
        helper.make_node("DynamicQuantizeLinear", ["embedded"], ["steps", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["steps", "scale", "zero"], ["coarse"]),
        helper.make_node("ReduceMean", ["coarse", "second"], ["logits"], keepdims=0),
    ]
    constants = {"table": table, "second": np.array([1])}
    body = build(nodes, ["tokens"], [3], constants, source="input_ids", kind=TensorProto.INT64)
    body.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    text = TextPreprocessing("tokenizer.json", hashlib.sha256(content).hexdigest(), 16, ("input_ids",))
    body.metadata_props.add(key=PREPROCESSING_KEY, value=json.dumps(preprocessing_dict(text)))
    save_model(body, tmp_path / "body.onnx")
    save_model(set_first_sides(body, {"input_ids": 1}), tmp_path / "body1.onnx")
    rng = np.random.default_rng(3)
    ids = [rng.integers(0, 20, rng.integers(1, 12)) for _ in range(N)]
    sentences = np.array([" ".join(f"w{i}" for i in one) for one in ids])
    alone = np.stack([_quantized(table[one]).mean(axis=0) for one in ids])
    local = local_scores(tmp_path / "body.onnx", sentences)
    np.testing.assert_allclose(local, alone, atol=1e-5)
    data, out = _data(sentences, alone), tmp_path / "out" / "local.onnx"
    written = calibrate(tmp_path / "body.onnx", out, data, local, _remote(data), objective=MostAccuracy(0.3))
    assert written.parity.n == 128
    assert main(["inspect", str(out), "--verify"]) == 0
    golden = read_golden(open_session(out), out)
    assert golden is not None
    assert golden.inputs["input_ids"].shape[1] in {len(one) for one in ids[:128]}
    with Cascade.load(out, remote=str(tmp_path / "body1.onnx"), threshold=2.0) as cascade:
        assert cascade.predict_batch([]) == []
        expected = softmax(alone[:40], cascade.document.calibration.temperature)
        together = cascade.predict_batch(sentences[:40])
        np.testing.assert_allclose(_probabilities(together), expected, atol=1e-6)
        theirs = np.stack([answer.remote.probabilities for answer in together if answer.remote is not None])
        remote_temperature = cascade.document.remote.temperature
        np.testing.assert_allclose(theirs, softmax(alone[:40], remote_temperature), atol=1e-5)
        alone_too = [cascade.predict(sentence) for sentence in sentences[:40]]
        np.testing.assert_array_equal(_probabilities(alone_too), _probabilities(together))


def test_a_body_with_random_operators_is_refused(tmp_path: Path) -> None:
    """No calibration is about scores that differ each time."""
    nodes = [
        helper.make_node("RandomNormalLike", ["z"], ["noise"]),
        helper.make_node("Add", ["z", "noise"], ["logits"]),
    ]
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("z", "logits")]
    graph = helper.make_graph(nodes, "random", sides[:1], sides[1:])
    body = tmp_path / "body.onnx"
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), body)
    z = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)
    data = _data(z, z)
    with pytest.raises(ExportError, match="the same scores for an input each time"):
        calibrate(body, tmp_path / "x.onnx", data, z, _remote(data), objective=MostAccuracy(0.3))
    assert not (tmp_path / "x.onnx").exists()
