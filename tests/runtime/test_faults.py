"""Servers that fail in every way: the local answer stands, is labelled, and comes in time."""

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecascade.runtime import Answer, Cascade, Reason, Source

DEADLINE = 0.3
SLACK = 0.25  # of a busy machine
UNSURE = np.array([0, 0.5, 0], np.float32)


def ask(file: Path, address: str) -> Answer:
    """One forward."""
    with Cascade.load(file, remote=address, deadline=DEADLINE) as cascade:
        answer = cascade.predict(UNSURE)
        assert (cascade.counts().forwarded, cascade.counts().kept) == (1, 0)
    return answer


def assert_local(answer: Answer, reason: Reason, detail: str) -> None:
    """The local answer, with the reason and a sentence, by the deadline."""
    assert (answer.name, answer.source, answer.reason) == ("green", Source.LOCAL, reason), answer.detail
    assert detail in answer.detail
    assert answer.elapsed < DEADLINE + SLACK


def test_a_port_where_nobody_listens(file: Path) -> None:
    """Offline, and at once."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    answer = ask(file, f"http://127.0.0.1:{port}/v2/models/m")
    assert_local(answer, Reason.OFFLINE, f"cannot connect to 127.0.0.1:{port}")


def test_a_name_that_does_not_resolve(file: Path) -> None:
    """Offline, or late if the resolver is slow to say so."""
    answer = ask(file, "http://nobody.invalid/v2/models/m")
    assert answer.reason in (Reason.OFFLINE, Reason.DEADLINE)
    assert answer.elapsed < DEADLINE + SLACK


def drip(connection: socket.socket) -> None:
    """A good answer, one byte every fifth of a second: no read is slow, their sum is."""
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b" " * 1000:
        connection.sendall(bytes([byte]))
        time.sleep(0.2)


def flood(connection: socket.socket) -> None:
    """A body without end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b" " * 1_000_000)


def silence(_: socket.socket) -> None:
    """Nothing, for longer than anyone waits."""
    time.sleep(5)


@pytest.mark.parametrize("behaviour", [silence, drip], ids=["never answers", "drips"])
@pytest.mark.parametrize("when", ["at once", "after the metadata"])
def test_a_server_that_is_slow(
    file: Path, serve: Callable[..., Any], answering: Callable[..., Any], behaviour: Any, when: str
) -> None:
    """The deadline covers connecting, asking and reading together."""
    server = serve(behaviour if when == "at once" else answering(behaviour))
    assert_local(ask(file, server.address), Reason.DEADLINE, "did not answer in time")


def test_a_body_without_end(file: Path, serve: Callable[..., Any], answering: Callable[..., Any]) -> None:
    """Given up at the deadline or at 64 MB, whichever comes first."""
    answer = ask(file, serve(answering(flood)).address)
    assert answer.source is Source.LOCAL
    assert answer.reason in (Reason.DEADLINE, Reason.REMOTE_ERROR)
    assert answer.elapsed < DEADLINE + SLACK


def output(**changes: Any) -> dict[str, Any]:
    """A good response, with changes to its one output."""
    good = {"name": "logits", "datatype": "FP32", "shape": [1, 3], "data": [0.0, 0.0, 4.0]}
    return {"outputs": [{**good, **changes}]}


HUGE = {"parameters": {"binary_data_size": 10**12}, "data": None}


@pytest.mark.parametrize(
    ("content", "status", "detail"),
    [
        pytest.param({"error": "no such model"}, "404 Not Found", "HTTP 404", id="404"),
        pytest.param({"error": "slow down"}, "429 Too Many Requests", "HTTP 429", id="429"),
        pytest.param({"error": "oh"}, "500 Internal Server Error", "HTTP 500", id="500"),
        pytest.param(b"", "503 Service Unavailable", "HTTP 503: no explanation", id="503"),
        pytest.param(b"<html>login</html>", "200 OK", "not JSON", id="HTML"),
        pytest.param(b"[" * 100_000, "200 OK", "not JSON", id="JSON without bottom"),
        pytest.param(b"[1, 2]", "200 OK", "malformed", id="another JSON"),
        pytest.param({"outputs": []}, "200 OK", "no output", id="no outputs"),
        pytest.param(output(shape=[1, 4], data=[0.0] * 4), "200 OK", "got float32 [1, 4]", id="other classes"),
        pytest.param(output(shape=[3]), "200 OK", "got float32 [3]", id="another shape"),
        pytest.param(output(shape=[-1, -1]), "200 OK", "malformed", id="an impossible shape"),
        pytest.param(output(datatype="BYTES"), "200 OK", "malformed", id="another type"),
        pytest.param(output(data=["a", "b", "c"]), "200 OK", "malformed", id="text"),
        pytest.param(output(data=[0.0, float("nan"), 0.0]), "200 OK", "finite", id="NaN"),
        pytest.param(output(**HUGE), "200 OK", "malformed", id="a terabyte announced"),
    ],
)
def test_an_answer_that_is_none(
    file: Path,
    serve: Callable[..., Any],
    answering: Callable[..., Any],
    respond: Any,
    content: Any,
    status: str,
    detail: str,
) -> None:
    """A remote error, with one sentence about what came."""
    answer = ask(file, serve(answering(respond(content, status))).address)
    assert_local(answer, Reason.REMOTE_ERROR, detail)
    assert "\n" not in answer.detail


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="another protocol"),
        pytest.param(b"\x00\xff" * 100 + b"\r\n", id="noise"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", id="cut short"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\nConnection: close\r\n\r\n{", id="a length of many"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_a_connection_that_breaks(
    file: Path, serve: Callable[..., Any], answering: Callable[..., Any], raw: bytes
) -> None:
    """In the middle of an answer, or before it."""

    def send_and_hang_up(connection: socket.socket) -> None:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    answer = ask(file, serve(answering(send_and_hang_up)).address)
    assert_local(answer, Reason.REMOTE_ERROR, "")
    assert answer.detail


def test_when_the_fault_is_over_the_next_forward_succeeds(
    file: Path, serve: Callable[..., Any], answering: Callable[..., Any], respond: Any
) -> None:
    """One bad answer leaves nothing behind."""
    answers = iter([respond(b"<html>"), respond({}, "500 Internal Server Error"), respond(np.array([[0, 0, 4.0]]))])
    server = serve(answering(lambda connection: connection.sendall(next(answers))))
    with Cascade.load(file, remote=server.address, deadline=2) as cascade:
        reasons = [cascade.predict(UNSURE).reason for _ in range(2)]
    assert reasons == [Reason.REMOTE_ERROR, Reason.OFFLOADED]


def test_metadata_that_is_no_description(file: Path, serve: Callable[..., Any], respond: Any) -> None:
    """Asked for before the first inference, and just as little trusted."""
    for body in (b"[]", b"{}", json.dumps({"inputs": [{}]}).encode(), json.dumps({"inputs": [7]}).encode()):
        server = serve(lambda connection, body=body: (connection.recv(65536), connection.sendall(respond(body))))
        assert_local(ask(file, server.address), Reason.REMOTE_ERROR, "remote: ")
