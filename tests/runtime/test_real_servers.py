"""Third-party servers, each in its own environment, give the same answers over every protocol.

Triton, KServe's SDK and MLServer serve one linear model of three classes. They differ in their metadata, the shape of
one-dimensional outputs, support for binary tensors and gzip, and error statuses.
"""

import base64
import os
import signal
import socket
import subprocess
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecascade.runtime import Cascade, Deadline, OpenInference, Reason, RemoteError, Source
from edgecascade.runtime.remotes.http import HttpClient
from edgecascade.runtime.remotes.open_inference_grpc import OpenInferenceGrpc

pytestmark = pytest.mark.slow

WEIGHTS = np.array([[0.5, -1.25, 0.75], [2, 0.125, -0.5], [-0.3, 1.1, 0.7]], np.float32)
X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
FILES = [b"\xff\xd8\x00\x01\x00", b"a", b"\x89PNG" + bytes(range(256)) * 3 + b"\x00"]  # zeros at the end, not UTF-8
PATIENCE = 60.0  # seconds for a server to start


@dataclass(frozen=True)
class Kind:
    """A server and its properties.

    Attributes:
        name: of the script that starts it.
        packages: what its environment holds, pinned.
        binary: whether it takes binary tensors over REST.
        gzip: whether it takes compressed bodies.
    """

    name: str
    packages: tuple[str, ...]
    binary: bool
    gzip: bool


TRITON = Kind("triton", ("nvidia-pytriton==0.7.0", "numpy<2"), binary=True, gzip=True)
KSERVE = Kind("kserve", ("kserve==0.21.0",), binary=True, gzip=False)
MLSERVER = Kind("mlserver", ("mlserver==1.7.1",), binary=False, gzip=True)


@dataclass(frozen=True)
class Running:
    """A running server."""

    kind: Kind
    process: subprocess.Popen[bytes]
    http_port: int
    grpc_port: int

    def address(self, way: str, model: str = "large") -> str:
        """Return the address of a model, over REST or gRPC."""
        if way == "grpc":
            return f"grpc://127.0.0.1:{self.grpc_port}/v2/models/{model}"
        return f"http://127.0.0.1:{self.http_port}/v2/models/{model}"

    def kill(self) -> None:
        """Kill the server and its children."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def started(kind: Kind, python: Path, folder: Path) -> Iterator[Running]:
    """Start a server on free ports, until the end of the block."""
    weights, log = folder / "weights.npy", folder / "log"
    np.save(weights, WEIGHTS)
    ports = free_ports(2)
    script = Path(__file__).parent / "servers" / f"serve_{kind.name}.py"
    libraries = f"{sysconfig.get_config_var('LIBDIR')}:{os.environ.get('LD_LIBRARY_PATH', '')}"  # Triton embeds Python
    with log.open("wb") as output:
        process = subprocess.Popen(
            [python, script, weights, *map(str, ports)],
            cwd=folder,
            env={**os.environ, "LD_LIBRARY_PATH": libraries},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    running = Running(kind, process, *ports)
    try:
        wait_until_ready(running, log)
        yield running
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                running.kill()


def wait_until_ready(running: Running, log: Path) -> None:
    """Wait until both models answer over both protocols, or fail with the server's last output."""
    end = time.monotonic() + PATIENCE
    client = HttpClient("127.0.0.1", running.http_port)
    waiting = {f"/v2/models/{model}/ready" for model in ("large", "files")}
    while waiting and time.monotonic() < end and running.process.poll() is None:
        try:
            waiting = {p for p in waiting if client.request("GET", p, None, {}, Deadline.after(2)).status != 200}
            with socket.create_connection(("127.0.0.1", running.grpc_port), 2):
                pass
        except (RemoteError, OSError):
            waiting = waiting or {"gRPC"}
        if waiting:
            time.sleep(0.1)
    client.close()
    if waiting:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        pytest.fail(f"{running.kind.name} did not come up within {PATIENCE:.0f} s:\n{tail}")


def free_ports(n: int) -> list[int]:
    """Return ports without a server."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture(scope="module", params=[TRITON, KSERVE, MLSERVER], ids=lambda kind: kind.name)
def server(
    request: pytest.FixtureRequest, environment: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """Start each of them once for all tests."""
    python = environment(*request.param.packages)
    with started(request.param, python, tmp_path_factory.mktemp(request.param.name)) as running:
        yield running


@pytest.fixture
def ask() -> Iterator[Callable[..., Any]]:
    """Make remotes, and close them afterwards."""
    made: list[Any] = []

    def ask(server: Running, way: str, model: str = "large", **options: Any) -> Any:
        kind = OpenInferenceGrpc if way == "grpc" else OpenInference
        made.append(kind(server.address(way, model), **options))
        return made[-1]

    yield ask
    for remote in made:
        remote.close()


def infer(remote: Any, x: Any) -> Any:
    """Call the remote with a long deadline."""
    return remote.infer(x, Deadline.after(20))


@pytest.mark.parametrize("way", ["rest", "grpc"])
def test_every_server_returns_the_same_logits(server: Running, ask: Any, way: str) -> None:
    """For one input and several, the logits are selected among one-dimensional outputs and equal the model's."""
    remote = ask(server, way)
    for x in (X, X[:1], X):
        found = infer(remote, x)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, x @ WEIGHTS, rtol=0, atol=1e-6)
    expected = 5 if way == "rest" and not server.kind.binary else 4
    assert remote.traffic.requests - expected in (0, 1)  # one more if a server closes an idle connection at that moment


def test_servers_without_binary_tensors_get_json(server: Running, ask: Any) -> None:
    """Servers with binary tensors get those, and both return the same logits."""
    remote, in_json = ask(server, "rest"), ask(server, "rest")
    in_json._binary = False
    np.testing.assert_allclose(infer(remote, X), infer(in_json, X), rtol=0, atol=1e-6)
    assert remote._binary is server.kind.binary


def test_servers_with_gzip_get_compressed_requests(server: Running, ask: Any) -> None:
    """Other servers get a single compressed request, and all return the same logits."""
    x = np.tile(X, (100, 1))
    plain, remote = ask(server, "rest"), ask(server, "rest", compress=True)
    for _ in range(3):
        for one in (plain, remote):
            np.testing.assert_allclose(infer(one, x), x @ WEIGHTS, rtol=0, atol=1e-6)
    assert remote._gzip.accepted is server.kind.gzip
    assert remote._gzip.refused is not server.kind.gzip
    assert (remote.traffic.sent < plain.traffic.sent) is server.kind.gzip


@pytest.mark.parametrize("way", ["rest", "grpc"])
def test_files_are_sent_unchanged(server: Running, ask: Any, way: str) -> None:
    """Files of any bytes arrive completely, including zeros at the end."""
    files = np.empty(len(FILES), object)
    files[:] = FILES
    expected = [[len(file), file[0], file[-1]] for file in FILES]
    remote = ask(server, way, "files", encoded=True)
    for _ in range(2):
        np.testing.assert_array_equal(infer(remote, files), expected)


@pytest.mark.parametrize("way", ["rest", "grpc"])
def test_errors_are_reported_in_one_sentence(server: Running, ask: Any, way: str) -> None:
    """Cases are a missing model and an invalid input; the next request is served."""
    with pytest.raises(RemoteError, match=r"HTTP 404|NOT_FOUND") as raised:
        infer(ask(server, way, "nobody"), X)
    assert not raised.value.retry
    remote = ask(server, way)
    with pytest.raises(RemoteError, match=r"HTTP [45]00: .|gRPC [A-Z_]+: .") as raised:
        infer(remote, np.zeros((2, 4), np.float32))
    assert "\n" not in str(raised.value)
    np.testing.assert_allclose(infer(remote, X), X @ WEIGHTS, rtol=0, atol=1e-6)


@pytest.mark.parametrize("way", ["rest", "grpc"])
def test_a_cascade_uses_every_server(file: Path, server: Running, way: str) -> None:
    """Over every protocol, the answer has the remote's label and confidence."""
    with Cascade.load(file, remote=server.address(way), deadline=20, threshold=1.0) as cascade:
        answers = [cascade.predict(x) for x in X]
    scores = np.exp(X @ WEIGHTS)
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    assert {answer.reason for answer in answers} == {Reason.OFFLOADED}
    assert [answer.label for answer in answers] == probabilities.argmax(axis=1).tolist()
    np.testing.assert_allclose([a.confidence for a in answers], probabilities.max(axis=1), atol=1e-6)


def test_the_npm_package_uses_every_server(file: Path, server: Running, node: Any) -> None:
    """In Node, the answers have the remote's labels and confidences too, one by one and in a batch."""
    job = {"file": str(file), "remote": server.address("rest"), "deadline": 20, "threshold": 1.0}
    one = {"type": "float32", "dims": [3]}
    coded = [base64.b64encode(x.tobytes()).decode() for x in X]
    jobs = [{**job, "method": "predict", "x": {**one, "base64": text}} for text in coded]
    batch = {"type": "float32", "dims": [5, 3], "base64": base64.b64encode(X.tobytes()).decode()}
    *single, together = node([*jobs, {**job, "method": "predictBatch", "x": batch}])
    scores = np.exp(X @ WEIGHTS)
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    for answers in (single, together):
        assert {answer["reason"] for answer in answers} == {"offloaded"}, answers
        assert [answer["label"] for answer in answers] == probabilities.argmax(axis=1).tolist()
        np.testing.assert_allclose([a["confidence"] for a in answers], probabilities.max(axis=1), atol=1e-6)


@pytest.mark.parametrize("way", ["rest", "grpc"])
def test_a_server_that_is_killed_causes_local_answers(
    environment: Callable[..., Path], file: Path, tmp_path: Path, way: str
) -> None:
    """The answer comes long before the deadline with its reason, and stays local while there is no server."""
    busy = np.array([-1, 0.5, 0], np.float32)  # the model takes half a minute for this one
    with (
        started(KSERVE, environment(*KSERVE.packages), tmp_path) as running,
        Cascade.load(file, remote=running.address(way), deadline=25, threshold=1.0) as cascade,
    ):
        assert cascade.predict(X[0]).reason is Reason.OFFLOADED
        killer = threading.Timer(1, running.kill)
        killer.start()
        answer = cascade.predict(busy)
        killer.join()
        assert (answer.source, answer.reason) == (Source.LOCAL, Reason.OFFLINE), answer.detail
        assert answer.name == "green"
        assert 0.9 < answer.elapsed < 20
        assert cascade.predict(X[0]).reason in (Reason.OFFLINE, Reason.CIRCUIT_OPEN)
