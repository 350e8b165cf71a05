"""The server of `edgecascade serve`: what it lets clients do, and what they cannot make it do."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, save

from edgecascade.runtime import ArgumentError, Deadline, InputError, OpenInference, RemoteError
from edgecascade.runtime.commands.listening import listen_tcp, read_token
from edgecascade.runtime.serving.messages import HEADER_LENGTH, InferRequest, read_request, write_reply

PATIENCE = 60.0  # seconds, for a busy machine
TABLE = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
Start = Callable[..., tuple[str, Any]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file that looks up a row for each id from 0 to 4, and fails on another id."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["logits"])],
        "rows",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(TABLE, "table")],
    )
    path = tmp_path_factory.mktemp("served") / "large.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def start(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start `edgecascade serve` on a free port; return the address that it prints, and the process."""
    started = []

    def start(*arguments: object, before: str = "", name: str | None = "large") -> tuple[str, Any]:
        code = f"import sys\nfrom edgecascade.cli import main\n{before}\nsys.exit(main(sys.argv[1:]))"
        named = [] if name is None else ["--name", name]  # otherwise the name of the file, beside others
        command = [sys.executable, "-c", code, "serve", model, *arguments, *named, "--port", "0"]
        log = (tmp_path_factory.mktemp("log") / "log").open("w")
        process = subprocess.Popen([str(one) for one in command], stdout=subprocess.PIPE, stderr=log, text=True)
        started.append((process, log))
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving at http://"), Path(log.name).read_text()
        process.log = Path(log.name)  # type: ignore[attr-defined]
        return line.split()[-1], process

    yield start
    for process, log in started:
        process.kill()
        process.communicate()
        log.close()


@pytest.fixture(scope="module")
def address(start: Start) -> str:
    """Return the address of the model on a server with the default options."""
    return start()[0]


def ask(url: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    """Return status and text of the reply."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **named})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def as_json(ids: Any, **rest: Any) -> bytes:
    """Return the body of a request."""
    tensor = {"name": "ids", "shape": [len(ids)], "datatype": "INT64", "data": list(ids), **rest}
    return json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()


def server_of(address: str) -> str:
    """Return the address of the server of a model."""
    return address.partition("/v2")[0]


def connect(address: str) -> socket.socket:
    """Return a connection to the server of a model."""
    host, port = server_of(address).removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), PATIENCE)
    connection.settimeout(PATIENCE)
    return connection


def test_it_says_what_it_serves(address: str) -> None:
    """Health, metadata and readiness are those of the protocol; other models do not exist."""
    server = server_of(address)
    assert json.loads(ask(f"{server}/v2/health/live")[1]) == {"live": True}
    assert json.loads(ask(f"{server}/v2/health/ready")[1]) == {"ready": True}
    assert json.loads(ask(f"{server}/v2/models")[1]) == {"models": ["large"]}
    assert json.loads(ask(f"{address}/ready")[1]) == {"name": "large", "ready": True}
    described = json.loads(ask(address)[1])
    assert described["inputs"] == [{"name": "ids", "datatype": "INT64", "shape": [-1]}]
    assert described["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}]
    assert "binary_tensor_data" in json.loads(ask(f"{server}/v2")[1])["extensions"]
    assert ask(f"{server}/v2/models/other")[0] == 404


def test_replies_are_not_held_back() -> None:
    """A head and a body that are sent one after the other do not wait for an acknowledgement between them."""
    with listen_tcp("--port", "127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        with accepted:
            assert client.getpeername() == listener.getsockname()
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_nobody_can_load_or_unload_models(address: str) -> None:
    """There are no such addresses, and the model goes on answering."""
    for what in ("index", "models/large/unload", "models/large/load", "models/other/load"):
        assert ask(f"{server_of(address)}/v2/repository/{what}", b"{}")[0] == 404
    assert ask(f"{address}/infer", as_json([1]))[0] == 200


def test_bodies_that_do_not_fit_are_refused_with_a_sentence(address: str) -> None:
    """The status is 4xx, the error names what is wrong, and shows no path of the server."""
    whole = json.loads(as_json([1, 2]))
    wrong = {
        "ids: expected int64": as_json([1], datatype="INT32"),
        "ids: expected 3 numbers": as_json([1], shape=[3]),
        "ids: expected 1 axes": as_json([1], shape=[1, 1]),
        "ids: expected numbers": as_json(["one"]),
        "fit int64": as_json([1.5]),
        "inputs: expected ids, got other": as_json([1], name="other"),
        "outputs: expected among logits, got nope": json.dumps({**whole, "outputs": [{"name": "nope"}]}).encode(),
        "inputs: expected one input": b'{"inputs": []}',
        "not valid JSON": b"{",
        "a JSON object": b"[]",
        "cannot run": as_json([99]),
    }
    for said, body in wrong.items():
        status, text = ask(f"{address}/infer", body)
        assert (status, said in json.loads(text)["error"]) == (400, True), (said, text)
        assert "/" not in text, text
    assert ask(f"{address}/infer", as_json([1]), Content_Encoding="gzip")[0] == 415
    assert ask(f"{address}/infer", as_json([1]), Inference_Header_Content_Length="x")[0] == 400
    assert ask(f"{address}/infer")[0] == 405


def test_numbers_that_the_model_refuses_are_explained_in_the_log(start: Start) -> None:
    """The engine's own words, which hold names of this machine, stay here."""
    address, process = start()
    assert ask(f"{address}/infer", as_json([99]))[0] == 400
    assert "out of data bounds" in process.log.read_text()


def test_bodies_are_bounded(address: str) -> None:
    """JSON above 8 MiB is refused, with and without a length."""
    body = as_json([0] * (5 << 20), shape=[1])
    status, text = ask(f"{address}/infer", body)
    assert (status, "8 MiB" in text) == (413, True)
    with connect(address) as connection:
        connection.sendall(b"POST /v2/models/large/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
        for _ in range(10):
            try:
                connection.sendall(piece)
            except OSError:
                break
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 413")


def exchange(address: str, *said: bytes) -> bytes:
    """Return what the server sends until it closes the connection, or until the end of a JSON object."""
    with connect(address) as connection:
        for part in said:
            connection.sendall(part)
        received = b""
        while piece := connection.recv(1 << 16):
            received += piece
            if received.endswith(b"}"):
                break
        return received


HEAD = b"POST /v2/models/large/infer HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize("length", [10**7, 10**11, 10**13, 10**19])
def test_a_length_above_the_bound_is_refused_before_the_body_comes(address: str, length: int) -> None:
    """However large the length, the reply does not wait for a byte of the body."""
    assert exchange(address, HEAD + b"Content-Length: %d\r\n\r\n" % length).startswith(b"HTTP/1.1 413")
    waiting = HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % length
    assert b"connection: close" in exchange(address, waiting).lower()


def test_a_connection_goes_on_after_a_body_that_was_too_large(address: str) -> None:
    """What the client still sends is dropped, and never read as another request."""
    body = b" " * (9 << 20)
    with connect(address) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 413")
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")


def test_a_request_has_one_end(address: str) -> None:
    """Where two headers name two ends, it is refused, and what follows is not read as a request."""
    body = as_json([1])
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    second = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    whole = b"Content-Length: %d\r\n" % len(body)
    for head, rest in (
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", chunked),
        (HEAD + b"Transfer-Encoding: chunked\r\n" + whole + b"\r\n", chunked),
        (HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n", chunked),
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", chunked),
        (HEAD + b"Content-Length: 5\r\n" + whole + b"\r\n", body),
        (HEAD + b"Content-Length: +5\r\n\r\n", body),
    ):
        received = exchange(address, head + rest + second)
        assert received.startswith(b"HTTP/1.1 400")
        assert received.count(b"HTTP/1.1 ") == 1
        assert b"connection: close" in received.lower()
    assert exchange(address, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked).startswith(b"HTTP/1.1 200")


def test_others_are_served_while_a_large_body_is_decoded(address: str) -> None:
    """Decoding 7 MiB of JSON takes seconds, in which health and other requests are answered again and again."""
    n = 3 << 20
    replies: list[tuple[int, str]] = []
    large = Thread(target=lambda: replies.append(ask(f"{address}/infer", as_json([0] * n, shape=[1]))))
    large.start()
    answered = 0
    while large.is_alive():
        assert ask(f"{server_of(address)}/v2/health/ready")[0] == 200
        assert ask(f"{address}/infer", as_json([1]))[0] == 200
        answered += 1
    assert replies[0][0] == 400
    assert answered > 3


def test_a_token_guards_everything_but_health(start: Start, tmp_path: Path) -> None:
    """Requests without it, or with another, get 401; our client sends it as a header."""
    (tmp_path / "token").write_text("s3cret-token\n")
    address, _ = start("--token-file", tmp_path / "token")
    server = server_of(address)
    for url, body in ((address, None), (f"{address}/infer", as_json([1])), (f"{server}/metrics", None)):
        assert ask(url, body)[0] == 401
        assert ask(url, body, Authorization="Bearer s3cret-tokem")[0] == 401
        assert ask(url, body, Authorization="Basic s3cret-token")[0] == 401
        assert ask(url, body, Authorization="Bearer s3cret-token")[0] == 200
        assert ask(url, body, Authorization="bearer s3cret-token")[0] == 200
    assert ask(f"{server}/v2/health/ready")[0] == 200
    remote = OpenInference(address, headers={"Authorization": "Bearer s3cret-token"})
    np.testing.assert_array_equal(remote.infer(np.array([1, 4]), Deadline.after(PATIENCE)), TABLE[[1, 4]])
    remote.close()
    stranger = OpenInference(address)
    with pytest.raises(RemoteError, match="401"):
        stranger.infer(np.array([1]), Deadline.after(PATIENCE))
    stranger.close()


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"two\nlines", b"\xff\xfe"])
def test_a_token_is_one_line_of_plain_characters(content: bytes, tmp_path: Path) -> None:
    """The error does not show what is in the file."""
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(ArgumentError, match="--token-file: expected one line of plain characters") as raised:
        read_token(str(path))
    assert "two" not in str(raised.value)


def test_a_host_that_others_reach_is_announced(start: Start, tmp_path: Path) -> None:
    """Without a token the warning names the option that asks for one; with a token there is no warning."""
    _, process = start("--host", "0.0.0.0")
    end = time.monotonic() + PATIENCE
    while "--token-file" not in process.log.read_text() and time.monotonic() < end:
        time.sleep(0.05)
    assert "--token-file" in process.log.read_text()
    (tmp_path / "token").write_text("s3cret-token\n")
    _, process = start("--host", "0.0.0.0", "--token-file", tmp_path / "token")
    process.terminate()
    process.wait(PATIENCE)
    assert process.log.read_text() == ""


def test_several_models_have_names_of_their_own(start: Start, model: Path) -> None:
    """Each has its address, and its batches are counted apart."""
    first, process = start(f"second={model}", "third=" + str(model), name=None)
    assert process.stdout is not None
    others = [process.stdout.readline().split()[-1] for _ in range(2)]
    server = server_of(first)
    assert [first, *others] == [f"{server}/v2/models/{name}" for name in ("large", "second", "third")]
    assert json.loads(ask(f"{server}/v2/models")[1]) == {"models": ["large", "second", "third"]}
    for _ in range(3):
        assert json.loads(ask(f"{others[0]}/infer", as_json([1, 2]))[1])["model_name"] == "second"
    assert json.loads(ask(f"{others[1]}/ready")[1])["name"] == "third"
    assert ask(f"{server}/v2/models/fourth/infer", as_json([1]))[0] == 404
    lines = ask(f"{server}/metrics")[1].splitlines()
    assert 'edgecascade_batches_total{model="second"} 3' in lines
    assert 'edgecascade_batched_inputs_total{model="second"} 6' in lines
    assert 'edgecascade_batches_total{model="third"} 0' in lines


@pytest.mark.parametrize("options", [("--providers", "auto"), ("--providers", "cuda,cpu", "--fallback")])
def test_any_file_runs_on_the_providers_that_are_asked_for(start: Start, options: tuple[str, ...]) -> None:
    """Where there is no GPU, `auto` and `--fallback` take the CPU."""
    address, _ = start(*options)
    assert json.loads(ask(f"{address}/infer", as_json([1]))[1])["outputs"][0]["data"] == pytest.approx(
        TABLE[1].tolist()
    )


PAGE = "https://example.org"


def headers_of(url: str, body: bytes | None = None, method: str | None = None, **headers: str) -> tuple[int, Any]:
    """Return status and headers of the reply."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, body, named, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.status, response.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers


def test_pages_of_an_origin_can_read_replies(start: Start, tmp_path: Path) -> None:
    """Browsers ask first, without a token; errors can be read too; other origins are not named."""
    (tmp_path / "token").write_text("s3cret-token\n")
    address, _ = start("--cors", PAGE, "--cors", "http://localhost:5173", "--token-file", tmp_path / "token")
    wanted = {
        "Access_Control_Request_Method": "POST",
        "Access_Control_Request_Headers": f"authorization, content-type, {HEADER_LENGTH.lower()}",
    }
    for origin in (PAGE, "http://localhost:5173"):
        status, found = headers_of(f"{address}/infer", None, "OPTIONS", Origin=origin, **wanted)
        assert (status, found["Access-Control-Allow-Origin"]) == (200, origin)
        assert HEADER_LENGTH.lower() in found["Access-Control-Allow-Headers"].lower()
    assert headers_of(f"{address}/infer", None, "OPTIONS", Origin="https://example.com", **wanted)[0] == 400
    token = {"Authorization": "Bearer s3cret-token"}
    for body, sent, expected in ((as_json([1]), token, 200), (as_json([9]), token, 400), (as_json([1]), {}, 401)):
        status, found = headers_of(f"{address}/infer", body, Origin=PAGE, **sent)
        assert (status, found["Access-Control-Allow-Origin"]) == (expected, PAGE)
        assert found["Access-Control-Expose-Headers"] == HEADER_LENGTH
        assert headers_of(f"{address}/infer", body, Origin="null", **sent)[1]["Access-Control-Allow-Origin"] is None


def test_pages_cannot_read_replies_unless_asked_for(address: str) -> None:
    """Without `--cors` no origin is named, and a browser's question gets no permission."""
    assert headers_of(f"{address}/infer", as_json([1]), Origin=PAGE)[1]["Access-Control-Allow-Origin"] is None
    wanted = {"Origin": PAGE, "Access_Control_Request_Method": "POST"}
    assert headers_of(f"{address}/infer", None, "OPTIONS", **wanted)[0] == 405


IMPATIENT = """
from edgecascade.runtime.serving import server
server._PATIENCE.update(head=0.5, body=0.5, reply=0.5)
"""
SLOW = {
    "nothing": b"",
    "half a head": b"POST /v2/models/large/infer HTTP/1.1\r\nHost: x\r\n",
    "half a body": b"POST /v2/models/large/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
    "a body after its reply": b"POST /v2/models/other/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n{",
}


def test_slow_clients_are_dropped(start: Start) -> None:
    """Those that send a byte now and then are dropped too, and nobody else is."""
    address, _ = start(before=IMPATIENT)
    for said in SLOW.values():
        with connect(address) as connection:
            connection.sendall(said)
            end = time.monotonic() + PATIENCE
            closed = False
            while not closed and time.monotonic() < end:
                try:
                    connection.sendall(b"a" if said else b"")
                    connection.settimeout(0.1)
                    closed = connection.recv(1 << 16) == b""
                except TimeoutError:
                    continue
                except OSError:
                    closed = True
            assert closed
    with connect(address) as reader:  # never reads its replies, which fill all buffers
        many = as_json([0] * 200_000)
        request = b"POST /v2/models/large/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(many) + many
        reader.settimeout(PATIENCE)
        with pytest.raises(ConnectionError):
            reader.sendall(request * 100)
    assert ask(f"{address}/infer", as_json([1]))[0] == 200


def test_idle_connections_make_room_for_new_ones(start: Start) -> None:
    """Above the most connections, those that have not sent a request are closed, the oldest first."""
    address, _ = start(before="from edgecascade.runtime.serving import server\nserver._MOST_CONNECTIONS = 20")
    idle = [connect(address) for _ in range(60)]
    try:
        time.sleep(1.0)
        assert ask(f"{address}/infer", as_json([1]))[0] == 200
        for one in idle:
            one.settimeout(0.01)
        assert sum(_is_open(one) for one in idle) <= 20
    finally:
        for one in idle:
            one.close()


def _is_open(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_requests_under_way(start: Start, number: signal.Signals) -> None:
    """A request whose body is half there is answered; new connections are refused; the exit code is 0."""
    address, process = start()
    body = as_json([1])
    with connect(address) as connection:
        head = b"POST /v2/models/large/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        connection.sendall(head + body[:5])
        time.sleep(0.5)
        process.send_signal(number)
        time.sleep(0.5)
        with pytest.raises(OSError, match="refused"):
            connect(address)
        connection.sendall(body[5:])
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
    assert process.wait(PATIENCE) == 0


SLOWLY = """
import time
from edgecascade.runtime.serving import served
class Slow:
    def __init__(self, session):
        self._session = session
    def __getattr__(self, name):
        return getattr(self._session, name)
    def run(self, names, feeds):
        time.sleep(0.5)
        return self._session.run(names, feeds)
open_session = served.open_session
served.open_session = lambda *given, **options: Slow(open_session(*given, **options))
"""


def test_a_signal_ends_it_after_the_requests_that_wait_for_the_model(start: Start) -> None:
    """They are answered in the batches in which they would have run, though some clients are gone."""
    address, process = start("--max-batch", 4, "--instances", 1, before=SLOWLY)
    replies: list[tuple[int, str]] = []
    clients = [Thread(target=lambda: replies.append(ask(f"{address}/infer", as_json([1])))) for _ in range(12)]
    body = as_json([2])
    with connect(address) as gone:
        gone.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        for client in clients:
            client.start()
        time.sleep(0.25)
    process.terminate()
    began = time.monotonic()
    for client in clients:
        client.join()
    assert [status for status, _ in replies] == [200] * 12
    assert time.monotonic() - began < 12 * 0.5
    assert process.wait(PATIENCE) == 0
    assert process.log.read_text() == ""


def test_slow_clients_do_not_hold_up_the_end(start: Start) -> None:
    """After a signal, a client that goes on sending a byte now and then is dropped, and the log stays empty."""
    address, process = start(before="from edgecascade.runtime.serving import server\nserver._LAST = 0.5")
    clients = [connect(address) for _ in SLOW]
    for client, said in zip(clients, SLOW.values(), strict=True):
        client.sendall(said)
    time.sleep(0.5)
    process.terminate()
    end = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < end:
        for client in clients:
            with suppress(OSError):
                client.sendall(b"a")
        time.sleep(0.1)
    for client in clients:
        client.close()
    assert process.poll() == 0
    assert process.log.read_text() == ""


def test_a_request_that_the_end_cuts_short_is_told_so(start: Start) -> None:
    """Once the time for requests under way has passed, the client gets a status, and the log has no traceback."""
    address, process = start(before="from edgecascade.runtime.serving import server\nserver._GRACE = 1")
    with connect(address) as client:
        client.sendall(SLOW["half a body"])
        time.sleep(0.5)
        process.terminate()
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 503")
    assert process.wait(PATIENCE) == 0
    assert "Traceback" not in process.log.read_text()


def tensors(arrays: dict[str, NDArray[Any]]) -> tuple[bytes, int]:
    """Return a request with binary tensors, and the bytes of its head."""
    inputs, raw = [], b""
    for name, array in arrays.items():
        values = array.tobytes()
        if array.dtype == object:
            values = b"".join(len(one).to_bytes(4, "little") + one for one in array.ravel().tolist())
        datatype = {"O": "BYTES", "f": "FP32", "b": "BOOL"}[array.dtype.kind]
        size = {"binary_data_size": len(values)}
        inputs.append({"name": name, "shape": list(array.shape), "datatype": datatype, "parameters": size})
        raw += values
    head = json.dumps({"inputs": inputs}).encode()
    return head + raw, len(head)


def test_binary_truth_is_0_or_1() -> None:
    """To a model, a BOOL of another byte is neither true nor false."""
    body, head = tensors({"odd": np.array([True, False])})
    with pytest.raises(InputError, match="odd: expected bytes of 0 and 1"):
        read_request(body[:-1] + b"\x02", head)


def test_binary_tensors_are_read_wherever_they_begin() -> None:
    """Several tensors follow one another; numbers are aligned in memory whatever is before them."""
    given = {
        "odd": np.array([True, False, True]),
        "numbers": np.array([[1.5, -2.0], [np.nan, np.inf]], np.float32),
        "files": np.array([b"", b"\x00a\x00", b"\xff"], object),
    }
    found = read_request(*tensors(given)).feeds
    assert found.keys() == given.keys()
    for name, array in given.items():
        assert found[name].flags.aligned
        np.testing.assert_array_equal(found[name], array)


def test_nested_lists_are_read_as_flat_ones() -> None:
    """The protocol allows both; lists of different lengths are refused."""
    tensor: dict[str, Any] = {"name": "x", "shape": [2, 3], "datatype": "FP32"}
    for data in ([1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]):
        body = json.dumps({"inputs": [{**tensor, "data": data}]}).encode()
        np.testing.assert_array_equal(read_request(body, None).feeds["x"], np.arange(1, 7).reshape(2, 3))
    for wrong in ([[1, 2], [3, 4, 5, 6]], [1, 2, 3, 4, 5, None], [1, 2, 3, 4, 5, True], [1, [2], 3, 4, 5, 6]):
        with pytest.raises(InputError, match=r"^x: "):
            read_request(json.dumps({"inputs": [{**tensor, "data": wrong}]}).encode(), None)


def test_a_long_string_among_short_ones_takes_no_memory() -> None:
    """Numpy would pad each of the others to its length, 40 GB here."""
    data = ["a" * 100_000, *["b"] * 100_000]
    tensor = {"name": "x", "shape": [len(data)], "datatype": "FP32", "data": data}
    with pytest.raises(InputError, match="x: expected numbers"):
        read_request(json.dumps({"inputs": [tensor]}).encode(), None)


def test_replies_have_no_nan_in_json_and_all_bits_in_binary() -> None:
    """The client decides for each output; the id returns."""
    outputs = {"y": np.array([1, np.nan], np.float32), "name": np.array([b"caf\xc3\xa9", "x"], object)}
    request = InferRequest("seven", {}, ("y", "name"), frozenset({"y"}), all_binary=False)
    body, headers = write_reply("m", request, outputs)
    split = int(headers[HEADER_LENGTH])
    head = json.loads(body[:split])
    assert head["id"] == "seven"
    assert head["outputs"][1]["data"] == ["café", "x"]
    np.testing.assert_array_equal(np.frombuffer(body[split:], np.float32), outputs["y"])
    body, _ = write_reply("m", request._replace(binary=frozenset()), outputs)
    assert json.loads(body)["outputs"][0]["data"] == [1.0, None]


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["x", "name"]), inner, max_size=2),
    max_leaves=8,
)
_tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("x") | _values,
        "shape": st.lists(st.integers(-1, 5), max_size=3) | _values,
        "datatype": st.sampled_from(["FP32", "INT64", "BYTES", "BOOL", "UINT8"]) | _values,
        "data": _values,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 20) | _values}) | _values,
    },
)


@given(
    st.lists(_tensors, max_size=3) | _values, st.binary(max_size=20), st.booleans(), st.integers(0, 40), st.booleans()
)
def test_no_request_raises_another_error(inputs: Any, raw: bytes, binary: bool, cut: int, truncated: bool) -> None:
    """Every body either is a request, whose arrays have the declared types, or raises `InputError`."""
    head = json.dumps({"inputs": inputs, "outputs": inputs if cut % 2 else []}).encode()
    body = head + raw
    try:
        found = read_request(body[: len(body) - cut] if truncated else body, len(head) if binary else None)
    except InputError:
        return
    assert all(isinstance(array, np.ndarray) for array in found.feeds.values())


@pytest.mark.slow
def test_the_client_of_kserve_is_answered(address: str, environment: Callable[..., Path]) -> None:
    """Its SDK asks for health and readiness, and infers with JSON and with binary tensors."""
    python = environment("kserve==0.21.0")
    script = Path(__file__).parent / "servers" / "ask_kserve.py"
    ran = subprocess.run(
        [python, script, server_of(address), "large"], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    said = json.loads(ran.stdout.splitlines()[-1])
    assert [said[name] for name in ("live", "ready", "model")] == [True] * 3
    for form in ("json", "binary"):
        assert said[form]["id"] == "seven"
        np.testing.assert_allclose(np.reshape(said[form]["logits"], (4, 3)), TABLE[:4], rtol=1e-6)
