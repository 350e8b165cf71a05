"""The model repository for Triton: what Triton reads, what Triton answers, and what is refused."""

import asyncio
import json
import os
import runpy
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edgecascade import Cascade
from edgecascade.cli import main
from edgecascade.runtime import Columns, Deadline
from edgecascade.runtime.remotes.onnx_file import OnnxFile
from edgecascade.types.document import PREPROCESSING_KEY, TextPreprocessing
from edgecascade.types.document.preprocessing import preprocessing_dict
from real_servers import TRITON, triton

HERE = Path(__file__).parent
PARSE = """
import sys
from google.protobuf import json_format, text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig
for path in sys.argv[1:]:
    print(json_format.MessageToJson(text_format.Parse(open(path, encoding="utf-8").read(), ModelConfig()), indent=None))
"""


def deploy(pair: Path, out: Path, *options: str) -> int:
    """Run the command on the two image classifiers."""
    return main(
        ["deploy", "triton", str(pair / "local.onnx"), "--remote", str(pair / "remote.onnx"), "-o", str(out), *options]
    )


@pytest.fixture(scope="module")
def images(pair: Path) -> NDArray[np.uint8]:
    """Return 40 images."""
    return np.asarray(np.load(pair / "test.npz")["x"][:40])


@pytest.mark.slow
def test_triton_reads_every_configuration(files: Path, environment: Callable[..., Path], tmp_path: Path) -> None:
    """Parsed by tritonclient's own proto: batches, instances, names, and no tensor without a side."""
    name, model = 'Bild "é" 😀', onnx.load(files / "remote.onnx")
    model.graph.input[0].name = name
    for node in model.graph.node:
        node.input[:] = [name if one == "image" else one for one in node.input]
    onnx.save(model, files / "remote.onnx")
    options = ("--name", "mine", "--max-batch", "8", "--instances", "3", "--threshold", "0.1")
    assert deploy(files, tmp_path / "r", *options) == 0
    models = ("mine", "mine_local", "mine_remote")
    paths = [str(tmp_path / "r" / model / "config.pbtxt") for model in models]
    printed = subprocess.run([environment(*TRITON), "-c", PARSE, *paths], capture_output=True, text=True, check=True)
    cascade, local, remote = map(json.loads, printed.stdout.splitlines())
    assert [one["name"] for one in (cascade, local, remote)] == [*models]
    assert [one["backend"] for one in (cascade, local, remote)] == ["python", "onnxruntime", "onnxruntime"]
    for one in (cascade, local, remote):
        assert (one["maxBatchSize"], one["dynamicBatching"]) == (8, {})
        assert all(tensor["dims"] for tensor in (*one["input"], *one["output"]))
    assert [one["instanceGroup"][0].get("count") for one in (cascade, local)] == [3, 1]
    assert cascade["parameters"] == {"threshold": {"stringValue": "0.1"}}
    reshaped = {one["name"]: one.get("reshape") for one in local["output"]}
    assert reshaped == {**{name: {} for name in ("label", "confidence", "advantage", "forward")}, "probabilities": None}
    assert remote["input"] == [{**local["input"][0], "name": name}]
    assert remote["output"][0]["dims"] == ["3"]


@pytest.fixture(scope="module")
def answers(
    pair: Path, environment: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str, NDArray[Any]], dict[str, NDArray[Any]]]]:
    """Return a function that asks Triton: `cascade` as the file decides, `eager` with another threshold."""
    folder = tmp_path_factory.mktemp("triton")
    repository = folder / "repository"
    assert deploy(pair, repository, "--instances", "2") == 0
    assert deploy(pair, folder / "eager", "--name", "eager", "--threshold", "-0.1", "--instances", "1") == 0
    for model in (folder / "eager").iterdir():
        model.rename(repository / model.name)
    for model in repository.glob("*_*"):  # this Triton has the Python backend only
        config = model / "config.pbtxt"
        config.write_text(config.read_text().replace('"onnxruntime"', '"python"'))
        shutil.copy(HERE / "onnx_in_triton.py", model / "1" / "model.py")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with triton(environment(*TRITON), repository, folder, port, "eager") as address:

        def ask(model: str, images: NDArray[Any]) -> dict[str, NDArray[Any]]:
            sent = {"name": "image", "datatype": "UINT8", "shape": images.shape, "data": images.ravel().tolist()}
            body = json.dumps({"inputs": [sent]}).encode()
            with urllib.request.urlopen(f"{address.removesuffix('eager')}{model}/infer", body, timeout=60) as reply:
                outputs = json.load(reply)["outputs"]
            return {one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in outputs}

        yield ask


def assert_same(found: dict[str, NDArray[Any]], columns: Columns, labels: tuple[str, ...]) -> None:
    """Check every output against the columns of `Cascade`, bit for bit."""
    np.testing.assert_array_equal(found["probabilities"].astype(np.float32), columns.probabilities)
    for name, expected in {
        "label": columns.label,
        "name": np.array(labels)[columns.label],
        "confidence": columns.confidence,
        "advantage": columns.advantage,
        "source": columns.source,
        "reason": columns.reason,
        "forwarded": columns.forward,
    }.items():
        np.testing.assert_array_equal(found[name].astype(expected.dtype), expected[:, None], err_msg=name)


@pytest.mark.slow
def test_triton_answers_as_the_cascade_does(pair: Path, images: NDArray[np.uint8], answers: Any) -> None:
    """Every output is that of `predict_columns`, by the file's decision and with another threshold."""
    for model, threshold in (("cascade", None), ("eager", -0.1)):
        with Cascade.load(pair / "local.onnx", remote=pair / "remote.onnx", threshold=threshold) as cascade:
            expected = cascade.predict_columns(images)
            assert_same(answers(model, images), expected, cascade.labels)
            assert set(expected.source) == {"local", "remote"}
    assert answers("cascade", images[:1])["label"].shape == (1, 1)


@pytest.mark.slow
def test_a_remote_that_fails_leaves_local_answers(pair: Path, images: NDArray[np.uint8], answers: Any) -> None:
    """They say why; the next request is answered by the remote again."""
    broken = np.concatenate([images[:10], np.full((1, *images.shape[1:]), 255, np.uint8)])
    found = answers("eager", broken)
    with Cascade.load(pair / "local.onnx", threshold=-0.1) as cascade:
        decided = cascade.decide(broken)
    assert decided.forward[-1]
    assert set(found["source"].ravel()) == {"local"}
    np.testing.assert_array_equal(found["label"][:, 0], decided.label)
    reasons = np.where(decided.forward, "remote error", "confident")
    np.testing.assert_array_equal(found["reason"][:, 0], reasons)
    assert "remote" in answers("eager", images)["source"]


def test_the_cascade_in_triton_needs_no_engine() -> None:
    """Its own process has numpy only: ONNX Runtime is Triton's."""
    code = "import sys\nsys.modules['onnxruntime'] = None\nfrom edgecascade.runtime import bulk, columns, reply"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_input_of_unknown_confidence_is_forwarded(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the advantage in the graph, which means nothing then, and the threshold in its place."""
    assert deploy(pair, tmp_path / "r", "--threshold", "-0.5") == 0
    monkeypatch.setattr(sys, "path", [*sys.path])
    backend = SimpleNamespace(
        Tensor=lambda name, array: (name, array),
        InferenceResponse=dict,
        get_input_tensor_by_name=lambda request, name: SimpleNamespace(as_numpy=lambda: request[name]),
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend)
    model = runpy.run_path(str(tmp_path / "r" / "cascade" / "1" / "model.py"))["TritonPythonModel"]()
    model.initialize({"model_config": json.dumps({"parameters": {"threshold": {"string_value": "-0.5"}}})})
    decisions = {
        "label": np.array([0, 1]),
        "confidence": np.array([np.nan, 0.9], np.float32),
        "advantage": np.array([0.25, 0.25], np.float32),
        "forward": np.array([True, False]),
        "probabilities": np.array([[np.nan] * 3, [0.05, 0.9, 0.05]], np.float32),
    }

    async def ask(name: str, inputs: dict[str, Any], outputs: tuple[str, ...]) -> dict[str, Any]:
        if name == "cascade_local":
            return {one: decisions[one] for one in outputs}
        return dict.fromkeys(outputs, np.tile(np.array([0.0, 0.0, 9.0], np.float32), (len(inputs["image"]), 1)))

    model.ask = ask
    found = asyncio.run(model.answer({"image": np.zeros((2, 8, 8, 3), np.uint8)}))
    assert found["reason"][:, 0].tolist() == ["not a number", "confident"]
    assert found["label"][:, 0].tolist() == [2, 1]
    assert np.isnan(found["advantage"][:, 0]).tolist() == [True, False]


@pytest.mark.parametrize("location", ["weights.bin", "of the large model/weights.bin"])
def test_weights_in_other_files_come_along(files: Path, location: str) -> None:
    """As torch writes them, without a word in the metadata; an empty folder is filled, the working folder too."""
    (files / location).parent.mkdir(exist_ok=True)
    onnx.save_model(
        onnx.load(files / "remote.onnx"),
        files / "large.onnx",
        save_as_external_data=True,
        location=location,
        size_threshold=64,
    )
    (files / "out").mkdir()
    os.chdir(files / "out")
    command = ["deploy", "triton", str(files / "local.onnx"), "--remote", str(files / "large.onnx"), "-o", "."]
    assert main(command) == 0
    assert sorted(one.name for one in Path().iterdir()) == ["cascade", "cascade_local", "cascade_remote"]
    (files / location).unlink()
    images = np.load(files / "test.npz")["x"][:5]
    copy, before = (OnnxFile(path) for path in ("cascade_remote/1/model.onnx", files / "remote.onnx"))
    scores = [one.infer(images, Deadline.after(60)) for one in (copy, before)]
    np.testing.assert_array_equal(np.asarray(scores[0]), np.asarray(scores[1]))


def test_a_remote_with_another_tokenizer_is_refused(files: Path, capsys: Any) -> None:
    """Triton gets tokens, which mean something else to it."""
    model = onnx.load(files / "remote.onnx")
    text = preprocessing_dict(TextPreprocessing("tokenizer.json", "0" * 64, 128, ("image",)))
    onnx.helper.set_model_props(model, {PREPROCESSING_KEY: json.dumps(text)})
    onnx.save(model, files / "remote.onnx")
    assert deploy(files, files / "out") == 2
    assert "tokenizer" in capsys.readouterr().err
    assert not (files / "out").exists()


@pytest.mark.parametrize(
    ("wrong", "option", "value"),
    [
        ("a folder that is not empty", "-o", "."),
        ("a file that is no cascade", "FILE", "corner.onnx"),
        ("a file that is no model", "FILE", "test.npz"),
        ("a missing remote", "--remote", "nobody.onnx"),
        ("a remote with other outputs", "--remote", "two.onnx"),
        ("a remote with other inputs", "--remote", "features.onnx"),
        ("an address", "--remote", "http://127.0.0.1:9/v2/models/large"),
        ("a name with a slash", "--name", "a/b"),
        ("a name that no folder can have", "--name", 250 * "a"),
        ("no batch", "--max-batch", "0"),
        ("a batch beyond 32 bits", "--max-batch", "2147483648"),
        ("no instance", "--instances", "0"),
        ("a threshold that is no number", "--threshold", "nan"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(files: Path, capsys: Any, wrong: str, option: str, value: str) -> None:
    """The exit code is 2, and nothing is written."""
    before = sorted(files.parent.rglob("*"))
    given = {"--remote": "remote.onnx", "-o": "../out", option: value}
    file = given.pop("FILE", "local.onnx")
    assert main(["deploy", "triton", file, *(word for one in given.items() for word in one)]) == 2, wrong
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert printed.err.startswith("edgecascade: ")
    assert sorted(files.parent.rglob("*")) == before
