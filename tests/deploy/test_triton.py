"""The model repository for Triton: what Triton reads, what Triton answers, and what is refused."""

import json
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edgecascade import Cascade
from edgecascade.cli import main
from edgecascade.runtime import Columns
from edgecascade.types.document import PREPROCESSING_KEY, TextPreprocessing
from edgecascade.types.document.preprocessing import preprocessing_dict
from real_servers import TRITON, triton

HERE = Path(__file__).parent
PARSE = """
import sys
from google.protobuf import json_format, text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig
for path in sys.argv[1:]:
    print(json_format.MessageToJson(text_format.Parse(open(path).read(), ModelConfig()), indent=None))
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
def test_triton_reads_every_configuration(pair: Path, environment: Callable[..., Path], tmp_path: Path) -> None:
    """Parsed by tritonclient's own proto: batches, instances, and no tensor without a side."""
    assert (
        deploy(pair, tmp_path / "r", "--name", "mine", "--max-batch", "8", "--instances", "3", "--threshold", "0.1")
        == 0
    )
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
    assert (local["input"], remote["output"][0]["dims"]) == (remote["input"], ["3"])


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
        ("an address", "--remote", "http://127.0.0.1:9/v2/models/large"),
        ("a name with a slash", "--name", "a/b"),
        ("no batch", "--max-batch", "0"),
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
