"""For every fault of a remote, the local answer is given in time, with its reason, and counted."""

import json
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecascade.runtime import Cascade, OpenInference, Outbox, Reason, Source, Watch

DEADLINE = 0.3
SLACK = 0.25  # allowed for a busy machine
UNSURE = np.array([0, 0.5, 0], np.float32)


@dataclass(frozen=True)
class Servers:
    """The fixtures that faults are made of."""

    serve: Callable[..., Any]
    answering: Callable[..., Any]
    respond: Callable[..., Any]
    authority: Any

    def replying(self, content: Any, status: str = "200 OK", **headers: Any) -> str:
        """Return the address of a model with metadata that gives this reply to every inference."""
        address: str = self.serve(self.answering(self.respond(content, status, **headers))).address
        return address

    def behaving(self, behaviour: Callable[[socket.socket], None]) -> str:
        """Return the address of a model with metadata and this behaviour for every inference."""
        address: str = self.serve(self.answering(behaviour)).address
        return address

    def certified(self, certificate: str) -> Any:
        """Return a server with that certificate, which the remote verifies with the authority."""

        def behave(connection: socket.socket) -> None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(
                self.authority.path(f"{certificate}.crt"), self.authority.path(f"{certificate}.key")
            )
            with context.wrap_socket(connection, server_side=True) as secure:
                self.answering(self.respond(np.array([[0, 0, 4.0]])))(secure)

        context = ssl.create_default_context(cafile=self.authority.path("ca.crt"))
        return OpenInference(f"https://localhost:{self.serve(behave).port}/v2/models/m", context=context)


@dataclass(frozen=True)
class Fault:
    """One way to fail.

    Attributes:
        remote: makes the remote.
        reason: of the answer.
        detail: part of its error message.
        kept: whether the input is stored to be sent again.
    """

    remote: Callable[[Servers], Any]
    reason: Reason
    detail: str
    kept: bool


@pytest.fixture
def servers(serve: Any, answering: Any, respond: Any, authority: Any) -> Servers:
    """Return the fixtures, and close them after the test."""
    return Servers(serve, answering, respond, authority)


def refused(_: Servers) -> str:
    """Return a port without a server."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        return f"http://127.0.0.1:{unused.getsockname()[1]}/v2/models/m"


def silence(_: socket.socket) -> None:
    """Send nothing for longer than any deadline."""
    time.sleep(5)


def slow_first_byte(connection: socket.socket) -> None:
    """Send a valid reply after the deadline."""
    time.sleep(DEADLINE * 3)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


def drip(connection: socket.socket) -> None:
    """Send a valid reply at five bytes per second, so that each read is fast and their sum is slow."""
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b" " * 1000:
        connection.sendall(bytes([byte]))
        time.sleep(0.2)


def flood(connection: socket.socket) -> None:
    """Send an endless body."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b" " * 1_000_000)


def reset(connection: socket.socket) -> None:
    """Send half a reply, and reset the connection."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def sending(raw: bytes) -> Callable[[socket.socket], None]:
    """Return a behaviour that sends these bytes and closes."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    return behave


def output(**changes: Any) -> dict[str, Any]:
    """Return a valid response with changes to its one output."""
    good = {"name": "logits", "datatype": "FP32", "shape": [1, 3], "data": [0.0, 0.0, 4.0]}
    return {"outputs": [{**good, **changes}]}


def raising(error: Exception) -> Callable[[Servers], Any]:
    """Raise an error in the application's function."""

    def remote(_: Any) -> Any:
        raise error

    return lambda _: remote


HUGE = {"parameters": {"binary_data_size": 10**12}, "data": None}
LATE, OFFLINE, ERROR = Reason.DEADLINE, Reason.OFFLINE, Reason.REMOTE_ERROR
FAULTS = {
    "no remote": Fault(lambda _: None, OFFLINE, "no remote was given", kept=True),
    "refused": Fault(refused, OFFLINE, "cannot connect", kept=True),
    "silent from the start": Fault(lambda s: s.serve(silence).address, LATE, "in time", kept=True),
    "dripping from the start": Fault(lambda s: s.serve(drip).address, LATE, "in time", kept=True),
    "silent": Fault(lambda s: s.behaving(silence), LATE, "in time", kept=True),
    "slow first byte": Fault(lambda s: s.behaving(slow_first_byte), LATE, "in time", kept=True),
    "slow body": Fault(lambda s: s.behaving(drip), LATE, "in time", kept=True),
    "401": Fault(lambda s: s.replying({"error": "who?"}, "401 Unauthorized"), ERROR, "HTTP 401", kept=False),
    "404": Fault(lambda s: s.replying({"error": "no such model"}, "404 Not Found"), ERROR, "HTTP 404", kept=False),
    "429": Fault(lambda s: s.replying({}, "429 Too Many Requests", Retry_After=60), ERROR, "HTTP 429", kept=True),
    "500": Fault(lambda s: s.replying({"error": "oh"}, "500 Internal Server Error"), ERROR, "HTTP 500", kept=True),
    "503": Fault(lambda s: s.replying(b"", "503 Service Unavailable"), ERROR, "HTTP 503: no explanation", kept=True),
    "reset in the reply": Fault(lambda s: s.behaving(reset), ERROR, "", kept=True),
    "cut short": Fault(
        lambda s: s.behaving(sending(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")), ERROR, "", kept=True
    ),
    "closed without a word": Fault(lambda s: s.behaving(sending(b"")), ERROR, "", kept=True),
    "another protocol": Fault(lambda s: s.behaving(sending(b"SSH-2.0-OpenSSH_9.6\r\n")), ERROR, "", kept=False),
    "noise": Fault(lambda s: s.behaving(sending(b"\x00\xff" * 100 + b"\r\n")), ERROR, "", kept=False),
    "HTML": Fault(lambda s: s.replying(b"<html>login</html>"), ERROR, "JSON", kept=False),
    "JSON without bottom": Fault(lambda s: s.replying(b"[" * 100_000), ERROR, "JSON", kept=False),
    "another JSON": Fault(lambda s: s.replying(b"[1, 2]"), ERROR, "malformed", kept=False),
    "no outputs": Fault(lambda s: s.replying({"outputs": []}), ERROR, "one output", kept=False),
    "other classes": Fault(
        lambda s: s.replying(output(shape=[1, 4], data=[0.0] * 4)), ERROR, "got float32 [1, 4]", kept=False
    ),
    "another shape": Fault(lambda s: s.replying(output(shape=[3])), ERROR, "got float32 [3]", kept=False),
    "an impossible shape": Fault(lambda s: s.replying(output(shape=[-1, -1])), ERROR, "malformed", kept=False),
    "another type": Fault(lambda s: s.replying(output(datatype="BYTES")), ERROR, "malformed", kept=False),
    "text": Fault(lambda s: s.replying(output(data=["a", "b", "c"])), ERROR, "malformed", kept=False),
    "NaN": Fault(lambda s: s.replying(output(data=[0.0, float("nan"), 0.0])), ERROR, "finite", kept=False),
    "a terabyte announced": Fault(lambda s: s.replying(output(**HUGE)), ERROR, "malformed", kept=False),
    "an expired certificate": Fault(lambda s: s.certified("expired"), OFFLINE, "certificate has expired", kept=True),
    "another host's certificate": Fault(lambda s: s.certified("elsewhere"), OFFLINE, "ostname mismatch", kept=True),
    "a function that raises": Fault(raising(KeyError("what")), ERROR, "what", kept=False),
    "a function that says it is late": Fault(raising(TimeoutError()), LATE, "in time", kept=True),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_local_answer_is_given(
    name: str, file: Path, servers: Servers, tmp_path: Path, stalled: Callable[[], float]
) -> None:
    """The answer has its reason by the deadline; an input that may be answered later is stored."""
    fault = FAULTS[name]
    with Cascade.load(
        file, remote=fault.remote(servers), deadline=DEADLINE, outbox=Outbox(tmp_path / "outbox"), watch=Watch()
    ) as cascade:
        answer = cascade.predict(UNSURE, key="mine")
        found = cascade.metrics()
    assert (answer.name, answer.source, answer.reason) == ("green", Source.LOCAL, fault.reason), answer.detail
    assert fault.detail in answer.detail
    assert answer.detail
    assert "\n" not in answer.detail
    assert answer.elapsed < DEADLINE + SLACK + stalled()
    assert answer.queued == ("mine" if fault.kept else "")
    assert (found["outbox"]["waiting"], found["outbox"]["delivered"]) == (int(fault.kept), 0)
    assert (found["inputs"], found["forwarded"], found["reasons"][fault.reason.value]) == (1, 1, 1)
    assert (found["watch"]["inputs"], found["watch"]["compared"]) == (1, 0)
    assert found["latency"]["forwarded"]["count"] == 1


def test_an_unresolvable_name_is_offline(file: Path, stalled: Callable[[], float]) -> None:
    """It is late if the resolver is slow."""
    with Cascade.load(file, remote="http://nobody.invalid/v2/models/m", deadline=DEADLINE) as cascade:
        answer = cascade.predict(UNSURE)
    assert answer.reason in (Reason.OFFLINE, Reason.DEADLINE)
    assert answer.elapsed < DEADLINE + SLACK + stalled()


def test_an_endless_body_is_abandoned(file: Path, servers: Servers, stalled: Callable[[], float]) -> None:
    """Reading stops at the deadline or at 64 MB, whichever comes first."""
    with Cascade.load(file, remote=servers.behaving(flood), deadline=DEADLINE) as cascade:
        answer = cascade.predict(UNSURE)
    assert answer.source is Source.LOCAL
    assert answer.reason in (Reason.DEADLINE, Reason.REMOTE_ERROR)
    assert answer.elapsed < DEADLINE + SLACK + stalled()


@pytest.mark.parametrize("years", [-30, 30])
def test_a_change_of_the_wall_clock_has_no_effect(
    years: int, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stalled: Callable[[], float]
) -> None:
    """The deadline uses the monotonic clock, and waiting inputs do not expire early."""
    moment = time.time
    monkeypatch.setattr(time, "time", lambda: moment() + years * 365 * 86_400)
    link = {"up": False}

    def remote(inputs: Any) -> Any:
        if not link["up"]:
            time.sleep(DEADLINE * 2)
        return np.array([[0, 0, 4.0]] * len(inputs))

    with Cascade.load(file, remote=remote, deadline=DEADLINE, outbox=Outbox(tmp_path / "outbox")) as cascade:
        answer = cascade.predict(UNSURE)
        assert (answer.reason, bool(answer.queued)) == (Reason.DEADLINE, True)
        assert DEADLINE <= answer.elapsed < DEADLINE + SLACK + stalled()
        monkeypatch.undo()
        link["up"] = True
        assert next(cascade.late(timeout=10)).key == answer.queued


def test_a_full_or_damaged_queue_costs_no_answer(file: Path, tmp_path: Path) -> None:
    """A full queue refuses the input and reports it; a damaged one is replaced."""
    with Cascade.load(file, outbox=Outbox(tmp_path / "full", most=1)) as cascade:
        assert [bool(cascade.predict(UNSURE * (i + 1) / 4).queued) for i in range(3)] == [True, False, False]
    (tmp_path / "damaged").write_bytes(b"not a database" * 1000)
    with Cascade.load(file, outbox=Outbox(tmp_path / "damaged")) as cascade:
        assert cascade.predict(UNSURE).queued
        assert cascade.metrics()["outbox"]["damaged_files"] == 1


def test_the_next_forward_after_a_fault_succeeds(
    file: Path, serve: Callable[..., Any], answering: Callable[..., Any], respond: Any
) -> None:
    """An invalid answer leaves no state behind, and a transient one is requested again."""
    answers = iter([respond(b"<html>"), respond({}, "503 Service Unavailable"), respond(np.array([[0, 0, 4.0]]))])
    server = serve(answering(lambda connection: connection.sendall(next(answers))))
    with Cascade.load(file, remote=server.address, deadline=2) as cascade:
        reasons = [cascade.predict(UNSURE).reason for _ in range(2)]
    assert reasons == [Reason.REMOTE_ERROR, Reason.OFFLOADED]


def test_invalid_metadata_is_refused(file: Path, serve: Callable[..., Any], respond: Any) -> None:
    """Metadata is requested before the first inference and validated too."""
    for body in (b"[]", b"{}", json.dumps({"inputs": [{}]}).encode(), json.dumps({"inputs": [7]}).encode()):

        def describing(connection: socket.socket, body: bytes = body) -> None:
            while connection.recv(65536):
                connection.sendall(respond(body))

        server = serve(describing)
        with Cascade.load(file, remote=server.address, deadline=DEADLINE) as cascade:
            answer = cascade.predict(UNSURE)
        assert (answer.source, answer.reason) == (Source.LOCAL, Reason.REMOTE_ERROR)
        assert "remote: " in answer.detail


def test_a_remote_that_keeps_failing_is_not_called(file: Path, servers: Servers, stalled: Callable[[], float]) -> None:
    """After five failures in a row, callers do not wait for it and nothing is sent."""
    server = servers.serve(servers.answering(servers.respond({}, "503 Service Unavailable")))
    with Cascade.load(file, remote=server.address, deadline=5) as cascade:
        answers = [cascade.predict(UNSURE) for _ in range(20)]
        assert cascade.metrics()["circuit"] == "open"
    assert answers[0].reason is Reason.REMOTE_ERROR
    assert answers[-1].reason is Reason.CIRCUIT_OPEN
    assert "5 failures" in answers[-1].detail
    assert answers[-1].elapsed < 0.1 + stalled()
