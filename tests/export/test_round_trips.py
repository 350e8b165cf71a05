"""Every kind of classifier survives export and unfolding, and decides alike in old and new ONNX Runtimes."""

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgecascade.calibration import MostAccuracy
from edgecascade.cli import main
from edgecascade.export import (
    ImagePreprocessing,
    LabelledData,
    calibrate,
    export_torch,
    find_logits,
    local_scores,
    logits_of,
    prepend,
    quantize_int8,
    save_model,
    unfold,
)
from edgecascade.export.graph import load_model
from edgecascade.export.logits import kind_of
from edgecascade.export.sources import export_hugging_face
from edgecascade.export.tflite import export_tflite
from edgecascade.runtime import Cascade, EdgecascadeError

INSPECT = """
import sys, onnxruntime
from edgecascade.cli import main
print(onnxruntime.__version__)
for file in sys.argv[1:]:
    assert main(["inspect", file, "--verify"]) == 0, file
"""
N = 400


def _noise(*shape: int, n: int = N) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 1, (n, *shape)).astype(np.float32)


def _dense(inputs: int, classes: int, scale: float = 1.0) -> ModelProto:
    torch.manual_seed(0)
    module = torch.nn.Linear(inputs, classes)
    with torch.no_grad():
        module.weight *= scale
    return export_torch(module, [inputs])


def _cnn() -> tuple[ModelProto, Any]:
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Flatten()]
    return export_torch(torch.nn.Sequential(*layers, torch.nn.LazyLinear(5)), [3, 16, 16]), _noise(3, 16, 16)


def _cropped_photo() -> tuple[ModelProto, Any]:
    body, _ = _cnn()
    photos = np.random.default_rng(0).integers(0, 256, (N, 24, 32, 3), np.uint8)
    return prepend(ImagePreprocessing(16, 16, (127.0,) * 3, (30.0,) * 3, shortest_edge=20), body), photos


def _thousand_classes() -> tuple[ModelProto, Any]:
    return _dense(32, 1000, 3.0), _noise(32)


def _sigmoid() -> tuple[ModelProto, Any]:
    body = _dense(8, 1, 4.0)
    body.graph.output[0].name = "raw"
    body.graph.node[-1].output[0] = "raw"
    body.graph.node.append(helper.make_node("Sigmoid", ["raw"], ["chance"]))
    body.graph.output[0].name = "chance"
    return body, _noise(8)


def _half_precision() -> tuple[ModelProto, Any]:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["z"], ["logits"])],
        "half",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT16, ["batch", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT16, ["batch", 4])],
    )
    body = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return body, (3 * _noise(4)).astype(np.float16)


def _two_inputs() -> tuple[ModelProto, Any]:
    names = {"left": 3, "right": 3}
    graph = helper.make_graph(
        [helper.make_node("Add", ["left", "right"], ["sum"]), helper.make_node("Mul", ["sum", "two"], ["logits"])],
        "two",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", n]) for name, n in names.items()],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(np.array(2, np.float32), "two")],
    )
    body = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return body, {name: _noise(n) for name, n in names.items()}


def _scikit_learn() -> tuple[ModelProto, Any]:
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.ensemble import RandomForestClassifier

    x = _noise(6)
    forest = RandomForestClassifier(20, max_depth=4, random_state=0).fit(x, (x[:, :3] + _noise(3)).argmax(axis=1))
    body = skl2onnx.convert_sklearn(
        forest,
        initial_types=[("x", skl2onnx.common.data_types.FloatTensorType([None, 6]))],
        target_opset={"": 18, "ai.onnx.ml": 3},
        options={id(forest): {"zipmap": False}},
    )
    return body, x


@functools.cache
def _efficientnet() -> ModelProto:
    efficientnet = pytest.importorskip("efficientnet_lite_pytorch")
    torch.manual_seed(0)
    network = efficientnet.EfficientNet.from_name("efficientnet-lite0", image_size=96).eval()
    network._fc = torch.nn.Linear(1280, 10)
    return export_torch(network, [3, 96, 96])


def _lite0() -> tuple[ModelProto, Any]:
    return _efficientnet(), _noise(3, 96, 96, n=150)


def _lite0_int8() -> tuple[ModelProto, Any]:
    return quantize_int8(_efficientnet(), _noise(3, 96, 96, n=16)), _noise(3, 96, 96, n=150)


def _bert() -> tuple[ModelProto, Any]:
    """Export a small BERT with optimum; it is fed tokens, so replaying needs no tokenizer."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("optimum.exporters.onnx")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=16,
        num_labels=3,
        initializer_range=0.6,
    )
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder, "vocab.txt")
        vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(45))]))
        transformers.BertTokenizerFast(str(vocabulary)).save_pretrained(folder)
        transformers.BertForSequenceClassification(config).save_pretrained(folder)
        body = export_hugging_face(folder).model
    for entry in list(body.metadata_props):
        body.metadata_props.remove(entry)
    tokens = np.random.default_rng(0).integers(5, 50, (N, 12))
    return body, {
        "input_ids": tokens,
        "attention_mask": np.ones_like(tokens),
        "token_type_ids": np.zeros_like(tokens),
    }


KINDS: dict[str, Callable[[], tuple[ModelProto, Any]]] = {
    "cnn": _cnn,
    "cropped-photo": _cropped_photo,
    "thousand-classes": _thousand_classes,
    "sigmoid": _sigmoid,
    "half-precision": _half_precision,
    "two-inputs": _two_inputs,
    "scikit-learn": _scikit_learn,
    "bert": _bert,
    "lite0": _lite0,
    "lite0-int8": _lite0_int8,
}
QUICK = [kind for kind in KINDS if not kind.startswith(("lite0", "bert"))]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make `body.onnx` and `local.onnx` of a kind, once."""
    folder = tmp_path_factory.mktemp("kinds")

    def made(kind: str) -> Path:
        path = folder / kind
        if not path.exists():
            body, inputs = KINDS[kind]()
            save_model(body, path / "body.onnx")
            raw = local_scores(path / "body.onnx", inputs)
            scores = logits_of(raw, kind_of(find_logits(body), raw))
            scores = scores / scores.std() * 2  # random weights can make the outputs nearly flat
            rng = np.random.default_rng(1)
            labels = (scores + rng.gumbel(size=scores.shape)).argmax(axis=1)
            remote = np.eye(scores.shape[1])[labels] * 6 + rng.gumbel(size=scores.shape)
            data = LabelledData(inputs, labels, (), "0" * 64)
            calibrate(path / "body.onnx", path / "local.onnx", data, raw, remote, objective=MostAccuracy(0.3))
        return path

    return made


@pytest.mark.parametrize("kind", [*QUICK, *(pytest.param(k, marks=pytest.mark.slow) for k in KINDS if k not in QUICK)])
def test_every_kind_of_classifier_survives_a_round_trip(made: Callable[[str], Path], kind: str) -> None:
    """Each is checked, decides as the reference does, replays its golden inputs, and unfolds to the same bytes."""
    folder = made(kind)
    model = load_model(folder / "local.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert main(["inspect", str(folder / "local.onnx"), "--verify", "--tolerance", "1e-5"]) == 0
    assert unfold(model).SerializeToString() == (folder / "body.onnx").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cnn", "cropped-photo", "thousand-classes", "sigmoid", "two-inputs"])
def test_litert_gives_the_same_decisions(made: Callable[[str], Path], kind: str, converter: str) -> None:
    """They agree on every input of the calibration."""
    folder = made(kind)
    export_tflite(folder / "local.onnx", folder / "local.tflite", converter=converter)
    assert main(["inspect", str(folder / "local.tflite"), "--verify", "--tolerance", "1e-4"]) == 0
    inputs = KINDS[kind]()[1]
    lite, onnx_ = (Cascade.load(folder / f"local.{suffix}").predict_batch(inputs) for suffix in ("tflite", "onnx"))
    assert [a.label for a in lite] == [a.label for a in onnx_]
    np.testing.assert_allclose([a.confidence for a in lite], [a.confidence for a in onnx_], atol=1e-5)
    assert np.mean([a.reason is b.reason for a, b in zip(lite, onnx_, strict=True)]) > 0.99


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("scikit-learn", r"^model: expected operators of ONNX itself, got TreeEnsemble\w+ of ai\.onnx\.ml, which"),
        ("half-precision", r"^model: expected float32 inputs, got float16 in z"),
        ("lite0-int8", r"^model: expected a float model, got one with QuantizeLinear"),
        ("bert", r"^model: its input input_ids has a side `sequence_length` of no fixed size"),
    ],
)
def test_models_that_litert_cannot_hold_are_refused(made: Callable[[str], Path], kind: str, sentence: str) -> None:
    """The error is one sentence, not the converter's log."""
    with pytest.raises(EdgecascadeError, match=sentence) as refusal:
        export_tflite(made(kind) / "local.onnx", made(kind) / "local.tflite")
    assert "\n" not in str(refusal.value)
    assert not (made(kind) / "local.tflite").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the oldest supported ONNX Runtime has no wheel for it")
@pytest.mark.parametrize("version", ["1.19.2", "1.23.2"])
def test_older_runtimes_give_the_same_decisions(
    environment: Callable[..., Path], unpacked: Path, made: Callable[[str], Path], version: str
) -> None:
    """In the ONNX Runtimes of JetPack 5 and 6, the golden inputs of every kind get the decisions of the newest one."""
    ran = subprocess.run(
        [environment(f"onnxruntime=={version}"), "-c", INSPECT, *(made(kind) / "local.onnx" for kind in KINDS)],
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.startswith(f"{version}\n")
    assert ran.stdout.count("CPUExecutionProvider: ") == len(KINDS)
