"""A cascade served over the Open Inference Protocol in its own process, and its clients."""

import asyncio
import base64
import io
import json
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgecascade.cli import main
from edgecascade.runtime import Cascade, InputError, Reason
from edgecascade.runtime.commands.lines import probabilities_of
from edgecascade.runtime.serving.served import OUTPUTS, served_cascade

PATIENCE = 60.0  # seconds, for a busy machine
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
UNSURE = np.array([0, 0.5, 0], np.float32)


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def post(address: str, body: bytes, **headers: str) -> Any:
    """Return the reply to an inference, or the status and error if it is refused."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"{address}/infer", body, {"Content-Type": "application/json", **names})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["error"]


def as_json(array: Any, name: str = "image", datatype: str = "UINT8", **rest: Any) -> bytes:
    """Return the body of a request with one input."""
    tensor = {"name": name, "shape": list(array.shape), "datatype": datatype, "data": array.ravel().tolist(), **rest}
    return json.dumps({"inputs": [tensor]}).encode()


def outputs(reply: Any) -> dict[str, Any]:
    """Return the data of the outputs by name."""
    return {one["name"]: one["data"] for one in reply["outputs"]}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., tuple[str, Any]]]:
    """Start `edgecascade serve`, return the model's address and the process, and end it after the tests."""
    started = []

    def start(*arguments: object) -> tuple[str, Any]:
        port, log = free_port(), tmp_path_factory.mktemp("serve") / "log"
        command = [sys.executable, "-m", "edgecascade.cli", "serve", *map(str, arguments), "--port", str(port)]
        with log.open("w") as output:
            started.append(subprocess.Popen(command, stdout=output, stderr=output))
        address, end = f"http://127.0.0.1:{port}/v2/models/model", time.monotonic() + PATIENCE
        while time.monotonic() < end and started[-1].poll() is None:
            try:
                with urllib.request.urlopen(f"{address}/ready", timeout=1):
                    return address, started[-1]
            except OSError:
                time.sleep(0.1)
        return pytest.fail(f"the server did not come up: {log.read_text()[-500:]}")

    yield start
    for one in started:
        one.kill()
        one.wait()


@pytest.fixture(scope="module")
def address(start: Callable[..., tuple[str, Any]], pair: Path) -> str:
    """Return the address of a cascade that forwards everything."""
    arguments = [pair / "local.onnx", "--remote", pair / "remote.onnx", "--threshold", "1", "--deadline", "30"]
    return start(*arguments)[0]


def test_it_answers_as_the_cascade(address: str, pair: Path) -> None:
    """Every part of the answer is the same, for one input and for several."""
    with Cascade.load(pair / "local.onnx", remote=pair / "remote.onnx", threshold=1.0, deadline=30) as cascade:
        expected = cascade.predict_batch(IMAGES)
    for images, answers in ((IMAGES, expected), (IMAGES[:1], expected[:1])):
        found = outputs(post(address, as_json(images)))
        assert set(found) == {*OUTPUTS, "probabilities"}
        assert found["label"] == [one.label for one in answers]
        assert found["name"] == [one.name for one in answers]
        np.testing.assert_allclose(found["confidence"], [one.confidence for one in answers], rtol=1e-5)
        np.testing.assert_allclose(found["advantage"], [one.advantage for one in answers], rtol=1e-5)
        assert found["source"] == [one.source.value for one in answers]
        assert found["reason"] == ["offloaded"] * len(answers)
        assert found["forwarded"] == [True] * len(answers)
        rows = [probabilities_of(one) for one in answers]
        np.testing.assert_allclose(found["probabilities"], np.concatenate(rows), rtol=1e-5)


def test_it_accepts_image_files(address: str) -> None:
    """BYTES of several sizes give the same answer as pixels."""
    files = []
    for side in (8, 20):
        buffer = io.BytesIO()
        Image.fromarray(np.full((side, side, 3), 200, np.uint8)).save(buffer, "PNG")
        files.append(base64.b64encode(buffer.getvalue()).decode())
    body = as_json(np.array(files), datatype="BYTES", parameters={"content_type": "base64"})
    as_files = outputs(post(address, body))
    as_pixels = outputs(post(address, as_json(np.full((1, 8, 8, 3), 200, np.uint8))))
    assert as_files["confidence"] == as_pixels["confidence"] * 2


def test_the_guide_sends_an_image_file(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its program prints the answer."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "remotes.md").read_text()
    (program,) = re.findall(r'^```python title="post.py"\n(.*?)^```', page, re.DOTALL | re.MULTILINE)
    assert "http://127.0.0.1:8001/v2/models/mine" in program
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 48), "red").save(tmp_path / "photos" / "red.png")
    monkeypatch.chdir(tmp_path)
    exec(program.replace("http://127.0.0.1:8001/v2/models/mine", address), {})
    assert re.fullmatch(r"red [\d.]+ (remote|merged) offloaded\n", capsys.readouterr().out)


def test_it_can_be_the_remote_of_another_cascade(address: str, pair: Path) -> None:
    """The other cascade reads the probabilities among the outputs, in binary."""
    with Cascade.load(pair / "local.onnx", remote=address, threshold=1.0, deadline=30) as cascade:
        assert cascade.policy.calibrate_remote is not None
        reading = cascade.policy.calibrate_remote._replace(probabilities=True)  # as a calibration with it would say
        cascade.swap(replace(cascade.policy, calibrate_remote=reading))
        assert {answer.reason for answer in cascade.predict_batch(IMAGES)} == {Reason.OFFLOADED}


def test_invalid_requests_are_refused(address: str) -> None:
    """The status is 400, and the server continues."""
    whole = json.loads(as_json(IMAGES))
    wrong = {
        "uint8 [height, width, 3]": as_json(IMAGES[..., 0]),
        "image: ": as_json(IMAGES, shape=[5, 9]),
        "picture": as_json(IMAGES, name="picture"),
        "x: ": as_json(np.array(["no image"]), datatype="BYTES"),
        "BYTES [n], got [1, 1]": as_json(np.array([["no image"]]), datatype="BYTES"),
        "laber": json.dumps({**whole, "outputs": [{"name": "laber"}]}).encode(),
    }
    for named, body in wrong.items():
        status, error = post(address, body)
        assert (status, named in error) == (400, True), error
    assert len(outputs(post(address, as_json(IMAGES)))["label"]) == 5


def test_its_metrics_are_those_of_cascade_and_server(address: str) -> None:
    """One scrape has both."""
    with urllib.request.urlopen(f"{address.partition('/v2')[0]}/metrics", timeout=PATIENCE) as response:
        text = response.read().decode()
    assert 'edgecascade_answers_total{source="remote",reason="offloaded"}' in text
    assert 'edgecascade_requests_total{status="200"}' in text


def test_a_signal_ends_it_and_its_records_are_written(
    start: Callable[..., tuple[str, Any]], pair: Path, tmp_path: Path
) -> None:
    """The exit code is 0, and the audited pairs are on disk."""
    remote = ["--remote", pair / "remote.onnx", "--deadline", "30"]
    arguments = [*remote, "--audit", "1", "--record", tmp_path / "recorded"]
    where, process = start(pair / "local.onnx", *arguments)
    assert len(outputs(post(where, as_json(IMAGES)))["label"]) == 5
    process.terminate()
    assert process.wait(PATIENCE) == 0
    assert (tmp_path / "recorded" / "pairs.npz").exists()


def test_a_confidence_of_nan_is_null(start: Callable[..., tuple[str, Any]], make_file: Any) -> None:
    """JSON has no NaN. `--cascade` serves a cascade without a remote."""
    where, _ = start(make_file(), "--cascade")
    logits = np.array([[np.nan, 0, 0], [5, 0, 0]], np.float32)
    size = {"parameters": {"binary_data_size": logits.nbytes}}
    head = json.dumps({"inputs": [{"name": "z", "shape": [2, 3], "datatype": "FP32", **size}]}).encode()
    headers = {"Inference_Header_Content_Length": str(len(head)), "Content_Type": "application/octet-stream"}
    found = outputs(post(where, head + logits.tobytes(), **headers))
    assert found["confidence"] == [None, pytest.approx(0.9867, abs=1e-3)]
    assert found["reason"] == ["offline", "confident"]


def infer(cascade: Cascade, feeds: dict[str, Any], names: list[str]) -> Any:
    """Return the outputs of one request, without a server."""
    with ThreadPoolExecutor(2) as threads:
        return asyncio.run(_awaited(served_cascade(cascade, threads).infer(feeds, names)))


async def _awaited(one: Any) -> Any:
    return await one


def test_the_event_loop_is_not_blocked_by_a_remote(file: Path) -> None:
    """It stays free until the deadlines, for one input and for several."""
    free = threading.Event()

    def silent(inputs: Any) -> Any:
        free.wait(PATIENCE)
        return np.zeros((len(inputs), 3), np.float32)

    async def ask(cascade: Cascade, threads: ThreadPoolExecutor) -> tuple[list[Any], int]:
        model, ticks = served_cascade(cascade, threads), 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        requests = [model.infer({"z": np.tile(UNSURE, (n, 1))}, ["reason"]) for n in (1, 4, 1, 4)]
        answers = await asyncio.gather(*requests)
        ticking.cancel()
        return answers, ticks

    with ThreadPoolExecutor(2) as threads, Cascade.load(file, remote=silent, deadline=0.4) as cascade:
        answers, ticks = asyncio.run(ask(cascade, threads))
        free.set()
    assert [one["reason"].tolist() for one in answers] == [[b"deadline"] * n for n in (1, 4, 1, 4)]
    assert ticks >= 4


def test_what_a_classifier_decodes_is_served(file: Path) -> None:
    """As JSON, beside the outputs that it is made of, where the local answer is final."""
    z = np.array([[9, 0, 0], UNSURE], np.float32)
    decode = lambda outputs: {"most": float(outputs["logits"].max())}  # noqa: E731
    remote = lambda x: x  # noqa: E731
    with Cascade.load(file, outputs=["logits"], decode=decode, remote=remote, deadline=10) as cascade:
        found = infer(cascade, {"z": z}, ["result", "logits"])
    assert [json.loads(one) for one in found["result"]] == [{"most": 9.0}, None]
    np.testing.assert_array_equal(found["logits"], z)


def test_an_empty_batch_is_answered(file: Path) -> None:
    """The outputs have the right types and shapes."""
    with Cascade.load(file) as cascade:
        found = infer(cascade, {"z": np.zeros((0, 3), np.float32)}, [*OUTPUTS, "probabilities"])
    assert {name: array.shape for name, array in found.items() if len(array)} == {}
    assert found["probabilities"].shape == (0, 3)


@pytest.mark.parametrize(
    ("feeds", "named"),
    [
        ({}, "inputs: .*z.*none"),
        ({"z": np.float32(1)}, "inputs: "),
        ({"z": np.zeros((1, 4), np.float32)}, r"float32 \[3\]"),
        ({"z": np.array([b"abc"], object)}, r"float32 \[3\]"),
        ({"z": np.zeros((2, 3), np.float32), "y": np.zeros(2)}, "inputs: .*z, y"),
    ],
)
def test_invalid_inputs_are_refused(file: Path, feeds: dict[str, Any], named: str) -> None:
    """The error describes the input."""
    with Cascade.load(file) as cascade, pytest.raises(InputError, match=named):
        infer(cascade, feeds, ["label"])


WRONG = {
    "an option of cascades only": (("--deadline", "2"), ("--deadline: ", "--cascade")),
    "a header without a remote": (("--cascade", "--header", "A: b"), ("--header: ", "--remote")),
    "a deadline of nothing": (("--cascade", "--deadline", "0"), ("--deadline: ", "got 0")),
    "a host of another machine": (("--cascade", "--host", "192.0.2.1"), ("--port: ", "192.0.2.1:")),
    "a remote that is missing": (("--remote", "gone.onnx"), ("gone.onnx: ",)),
    "several cascades": (("other.onnx", "--cascade"), ("FILE: ", "--cascade", "got 2")),
    "one name for several": (("other.onnx", "--name", "mine"), ("--name: ", "got 2", "NAME=FILE")),
    "a name twice": (("local=other.onnx",), ("FILE: ", "local twice")),
    "a name with a slash": (("--name", "a/b"), ("--name: ", "'a/b'")),
    "a provider that is missing": (("--providers", "cuda"), ("providers: ", "CUDAExecutionProvider")),
    "a provider of no engine": (("--providers", "gpu9"), ("--providers: ", "gpu9")),
    "a batch of nothing": (("--max-batch", "0"), ("--max-batch: ", "got 0")),
    "no runs at once": (("--instances", "0"), ("--instances: ", "got 0")),
    "a page for an origin": (("--cors", "https://example.org/page"), ("--cors: ", "example.org/page")),
    "an origin in capitals": (("--cors", "https://Example.org"), ("--cors: ", "Example.org")),
    "an origin with the usual port": (("--cors", "https://example.org:443"), ("--cors: ", "example.org:443")),
    "a pattern for an origin": (("--cors", "https://*.example.org"), ("--cors: ", "*.example.org")),
    "a name that is a folder": (("--name", ".."), ("--name: ", "'..'")),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_invalid_arguments_are_named(wrong: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is 2, and there is no traceback."""
    given, named = WRONG[wrong]
    assert main(["serve", str(file), *given, "--port", str(free_port())]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("edgecascade: ")
    assert [one for one in named if one not in line] == []


def test_a_file_that_is_not_a_cascade_is_refused(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the file."""
    assert main(["serve", str(pair / "corner.onnx"), "--cascade"]) == 2
    assert "corner.onnx: " in capsys.readouterr().err


@pytest.mark.parametrize("options", [(), ("--cascade",)])
def test_a_port_in_use_is_an_error(file: Path, options: tuple[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The error is raised before anything is served."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", str(file), *options, "--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("edgecascade: --host, --port: ")
    assert f"127.0.0.1:{port}" in said
