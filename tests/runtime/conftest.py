"""Fixtures: a cascade model whose input is its logits, and servers with configurable faults."""

import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from documents import changed, document_of
from edgecascade.calibration import AdvantageTable, DecisionRule
from edgecascade.export import fold, save_model
from edgecascade.types.document import KEY

Behaviour = Callable[[socket.socket], None]


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a cascade model of three logits that answers inputs of confidence 0.6 or more locally."""

    def make(batch: int | str = "batch", metadata: str | None = None, name: str = "local.onnx", **changes: Any) -> Path:
        graph = helper.make_graph(
            [helper.make_node("Identity", ["z"], ["logits"])],
            "identity",
            [helper.make_tensor_value_info("z", TensorProto.FLOAT, [batch, 3])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 3])],
        )
        body = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        edges, values = np.array([0.6], np.float32), np.array([-0.25, 0.25], np.float32)
        rule = DecisionRule(1.0, AdvantageTable(edges, values, np.array([10, 10])), threshold=0.0)
        document = document_of(rule)
        model = fold(body, logits="logits", rule=rule, document=document)
        (entry,) = (entry for entry in model.metadata_props if entry.key == KEY)
        entry.value = json.dumps(changed(document.to_dict(), changes)) if metadata is None else metadata
        save_model(model, tmp_path / name)
        return tmp_path / name

    return make


@pytest.fixture
def file(make_file: Callable[..., Path]) -> Path:
    """Return a cascade model of three logits."""
    return make_file()


class Server:
    """A server on a free port that runs a behaviour for each connection in its own thread."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._lock, self._closed = threading.Lock(), False
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def port(self) -> int:
        """Return the port."""
        return int(self._listener.getsockname()[1])

    @property
    def address(self) -> str:
        """Return the address of model `m`, for a remote."""
        return f"http://127.0.0.1:{self.port}/v2/models/m"

    def close(self) -> None:
        """Stop, and close every connection."""
        with self._lock:
            self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(5)  # else it might take a connection to the next server, whose listener has its number
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._closed:
                    connection.close()
                    return
                self.connections += 1
                self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.behaviour(connection)


@pytest.fixture
def serve() -> Iterator[Callable[[Behaviour], Server]]:
    """Start servers, and stop them after the test."""
    started: list[Server] = []

    def start(behaviour: Behaviour) -> Server:
        started.append(Server(behaviour))
        return started[-1]

    yield start
    for server in started:
        server.close()


def read_request(connection: socket.socket) -> tuple[str, dict[str, str], bytes]:
    """Return the first line, the headers by lower-case name, and the body of one request."""
    data = b""
    while b"\r\n\r\n" not in data:
        received = connection.recv(65536)
        if not received:
            raise OSError("closed")
        data += received
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65536)
    return first, headers, body


def http(body: bytes, status: str = "200 OK", **headers: Any) -> bytes:
    """Return one response; a header given as None is omitted."""
    given = {"Content-Length": len(body), **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value is not None)
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


METADATA = http(
    json.dumps(
        {
            "name": "m",
            "inputs": [{"name": "z", "datatype": "FP32", "shape": [-1, 3]}],
            "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}],
        }
    ).encode()
)


@pytest.fixture
def answering() -> Callable[[bytes | Behaviour], Behaviour]:
    """Return a behaviour that gives the model's metadata, and the given bytes or behaviour for each inference."""

    def answering(answer: bytes | Behaviour) -> Behaviour:
        def behave(connection: socket.socket) -> None:
            while True:
                first, _, _ = read_request(connection)
                if first.startswith("GET"):
                    connection.sendall(METADATA)
                elif callable(answer):
                    answer(connection)
                else:
                    connection.sendall(answer)

        return behave

    return answering


@pytest.fixture
def always() -> Callable[[bytes], Behaviour]:
    """Return a behaviour that gives these bytes to one request of any kind, and closes the connection."""

    def always(reply: bytes) -> Behaviour:
        def behave(connection: socket.socket) -> None:
            read_request(connection)
            connection.sendall(reply)
            connection.close()

        return behave

    return always


@pytest.fixture
def recording() -> tuple[Callable[[bytes], Behaviour], list[tuple[str, dict[str, str], bytes]]]:
    """Return a behaviour that records each request, gives metadata to GET and these bytes to POST; and its record."""
    kept: list[tuple[str, dict[str, str], bytes]] = []

    def recording(answer: bytes) -> Behaviour:
        def behave(connection: socket.socket) -> None:
            while True:
                kept.append(read_request(connection))
                connection.sendall(METADATA if kept[-1][0].startswith("GET") else answer)

        return behave

    return recording, kept


def logits_response(rows: NDArray[Any]) -> bytes:
    """Return the logits as a JSON response of the protocol."""
    output = {"name": "logits", "datatype": "FP32", "shape": list(rows.shape), "data": rows.ravel().tolist()}
    return http(json.dumps({"model_name": "m", "outputs": [output]}).encode())


@pytest.fixture
def respond() -> Callable[..., bytes]:
    """Return a response with logits if given an array, else with a body, a status and headers."""

    def respond(content: Any, status: str = "200 OK", **headers: Any) -> bytes:
        if isinstance(content, np.ndarray):
            return logits_response(content)
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return http(body, status, **headers)

    return respond


class Authority:
    """A certificate authority for tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.crt")
        self.issue("server", "localhost")
        self.issue("expired", "localhost", days=-1)
        self.issue("elsewhere", "elsewhere.test")
        self.issue("client", "device")

    def issue(self, name: str, host: str, days: int = 2) -> None:
        """Issue a key and a certificate for a host."""
        alternative = f"-addext subjectAltName=DNS:{host}"
        self._openssl(f"req -newkey rsa:2048 -nodes -subj /CN={host} {alternative} -keyout {name}.key -out {name}.csr")
        signed = f"-CA ca.crt -CAkey ca.key -CAcreateserial -days {days} -copy_extensions copy"
        self._openssl(f"x509 -req -in {name}.csr {signed} -out {name}.crt")

    def path(self, name: str) -> str:
        """Return the path of a file."""
        return str(self.folder / name)

    def bytes(self, name: str) -> bytes:
        """Return the bytes of a file."""
        return (self.folder / name).read_bytes()

    def _openssl(self, arguments: str) -> None:
        subprocess.run(["openssl", *arguments.split()], cwd=self.folder, check=True, capture_output=True)


@pytest.fixture(scope="session")
def authority(unavailable: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return one authority for all tests."""
    if shutil.which("openssl") is None:
        unavailable("openssl, which makes the certificates, is not installed")
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def stalled() -> Iterator[Callable[[], float]]:
    """Return the seconds for which this process was stopped since the test began.

    A busy machine or the collection of a large heap adds them to any wait; a wait for any other reason does not count.
    """
    lost, over = 0.0, threading.Event()

    def watch() -> None:
        nonlocal lost
        before = time.monotonic()
        while not over.wait(0.005):
            late, before = time.monotonic() - before - 0.005, time.monotonic()
            lost += late if late > 0.02 else 0.0

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield lambda: lost
    over.set()
    thread.join()


@pytest.fixture
def node(packages: Path) -> Callable[[Sequence[dict[str, Any]]], list[Any]]:
    """Run jobs in Node; it prints nothing else, as warnings about overridable initializers would be."""

    def node(jobs: Sequence[dict[str, Any]]) -> list[Any]:
        command = ["node", "node.mjs"]
        ran = subprocess.run(
            command, input=json.dumps(jobs), capture_output=True, text=True, cwd=packages, timeout=120, check=False
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        found: list[Any] = json.loads(ran.stdout)
        return found

    return node
