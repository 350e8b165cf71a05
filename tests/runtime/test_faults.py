"""For every fault of a remote, of the outbox's file and of its disk, the local answer is given in time.

It has its reason, it is counted, and with an outbox its input is stored: with `predict` and with asyncio.
"""

import asyncio
import gzip
import json
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecascade.runtime import Answer, Cascade, OpenInference, Outbox, Reason, RemoteUnreachable, Source, Watch

DEADLINE = 0.3
SLACK = 0.25  # allowed for a busy machine
PATIENT = 3.0  # a deadline that a fault which is seen at once does not reach, even on a busy machine
CLOSING = 1.0  # seconds that `close` may wait for a remote
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
        document: changes to the document of the file.
    """

    remote: Callable[[Servers], Any]
    reason: Reason
    detail: str
    document: dict[str, Any] = field(default_factory=dict)


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


def chunks(connection: socket.socket) -> None:
    """Send an endless body in chunks of a kilobyte, as fast as they are read."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall((b"400\r\n" + b" " * 1024 + b"\r\n") * 64)


def slow_chunks(connection: socket.socket) -> None:
    """Send an endless body in large chunks, with a pause between them."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"1000\r\n" + b"[" * 4096 + b"\r\n")
        time.sleep(0.05)


def headers(connection: socket.socket) -> None:
    """Send headers without end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X-Filler: 0123456789\r\n" * 1000)


def interim(connection: socket.socket) -> None:
    """Announce a reply again and again."""
    while True:
        connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n" * 1000)


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


def of_another_request(servers: Servers) -> str:
    """Reply with the id of another request of this client."""
    described = [{"name": name, "datatype": "FP32", "shape": [-1, 3]} for name in ("z", "logits")]

    def behave(connection: socket.socket) -> None:
        while data := connection.recv(1 << 16):
            reply: dict[str, Any] = {"inputs": described[:1], "outputs": described[1:]}
            if found := re.search(rb'"id":"(\w+)-', data):
                reply = {**output(), "id": f"{found[1].decode()}-999"}
            connection.sendall(servers.respond(reply))

    address: str = servers.serve(behave).address
    return address


def hanging(_: Any) -> Any:
    """Never return, as far as a test can wait."""
    threading.Event().wait(60)


def raising(error: Exception) -> Callable[[Servers], Any]:
    """Raise an error in the application's function."""

    def remote(_: Any) -> Any:
        raise error

    return lambda _: remote


HUGE = {"parameters": {"binary_data_size": 10**12}, "data": None}
PROBABILITIES = {"remote": {"scores": "probabilities"}}
LATE, OFFLINE, ERROR = Reason.DEADLINE, Reason.OFFLINE, Reason.REMOTE_ERROR
FAULTS = {
    "no remote": Fault(lambda _: None, OFFLINE, "no remote was given"),
    "refused": Fault(refused, OFFLINE, "cannot connect"),
    "silent from the start": Fault(lambda s: s.serve(silence).address, LATE, "in time"),
    "dripping from the start": Fault(lambda s: s.serve(drip).address, LATE, "in time"),
    "silent": Fault(lambda s: s.behaving(silence), LATE, "in time"),
    "slow first byte": Fault(lambda s: s.behaving(slow_first_byte), LATE, "in time"),
    "slow body": Fault(lambda s: s.behaving(drip), LATE, "in time"),
    "401": Fault(lambda s: s.replying({"error": "who?"}, "401 Unauthorized"), ERROR, "HTTP 401: who?"),
    "403": Fault(lambda s: s.replying({"detail": "no quota"}, "403 Forbidden"), ERROR, "HTTP 403: no quota"),
    "404": Fault(lambda s: s.replying({"error": "no such model"}, "404 Not Found"), ERROR, "HTTP 404"),
    "408": Fault(lambda s: s.replying(b"too slow", "408 Request Timeout"), ERROR, "HTTP 408: too slow"),
    "a redirect": Fault(
        lambda s: s.replying(b"", "302 Found", Location="http://login.test/?token=x"),
        ERROR,
        "redirects to http://login.test/",
    ),
    "429": Fault(lambda s: s.replying({}, "429 Too Many Requests", Retry_After=60), ERROR, "HTTP 429"),
    "500": Fault(lambda s: s.replying({"error": "oh"}, "500 Internal Server Error"), ERROR, "HTTP 500"),
    "503": Fault(lambda s: s.replying(b"", "503 Service Unavailable"), ERROR, "HTTP 503: no explanation"),
    "reset in the reply": Fault(lambda s: s.behaving(reset), ERROR, ""),
    "cut short": Fault(lambda s: s.behaving(sending(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")), ERROR, ""),
    "closed without a word": Fault(lambda s: s.behaving(sending(b"")), ERROR, ""),
    "another protocol": Fault(lambda s: s.behaving(sending(b"SSH-2.0-OpenSSH_9.6\r\n")), ERROR, ""),
    "noise": Fault(lambda s: s.behaving(sending(b"\x00\xff" * 100 + b"\r\n")), ERROR, ""),
    "HTML": Fault(lambda s: s.replying(b"<html>login</html>"), ERROR, "JSON"),
    "an error page of short lines": Fault(
        lambda s: s.replying(b"no\n" * 5_000_000, "500 Internal Server Error"), ERROR, "HTTP 500: no"
    ),
    "a reply of 40 MB": Fault(lambda s: s.replying(b"[" + b"0," * 20_000_000 + b"0]"), ERROR, "larger than"),
    "an endless reply in chunks": Fault(lambda s: s.behaving(chunks), ERROR, "larger than"),
    "a slow large reply": Fault(lambda s: s.behaving(slow_chunks), LATE, "in time"),
    "headers without end": Fault(lambda s: s.behaving(headers), ERROR, "not HTTP"),
    "announcements without end": Fault(lambda s: s.behaving(interim), ERROR, "not HTTP"),
    "compressed": Fault(
        lambda s: s.replying(gzip.compress(bytes(50_000_000)), Content_Encoding="gzip"), ERROR, "did not ask for"
    ),
    "compressed, where it was asked for": Fault(
        lambda s: OpenInference(s.replying(gzip.compress(bytes(50_000_000)), Content_Encoding="gzip"), compress=True),
        ERROR,
        "larger than",
    ),
    "many lists": Fault(lambda s: s.replying(b'{"outputs":[' + b"[]," * 60_000 + b"0]}"), ERROR, "values"),
    "another model": Fault(lambda s: s.replying({**output(), "model_name": "n"}), ERROR, "'n'"),
    "another request": Fault(of_another_request, ERROR, "another one"),
    "JSON without bottom": Fault(lambda s: s.replying(b"[" * 100_000), ERROR, "JSON"),
    "another JSON": Fault(lambda s: s.replying(b"[1, 2]"), ERROR, "malformed"),
    "no outputs": Fault(lambda s: s.replying({"outputs": []}), ERROR, "one output"),
    "other classes": Fault(lambda s: s.replying(output(shape=[1, 4], data=[0.0] * 4)), ERROR, "got float32 [1, 4]"),
    "another shape": Fault(lambda s: s.replying(output(shape=[3])), ERROR, "got float32 [3]"),
    "an impossible shape": Fault(lambda s: s.replying(output(shape=[-1, -1])), ERROR, "malformed"),
    "another type": Fault(lambda s: s.replying(output(datatype="BYTES")), ERROR, "malformed"),
    "text": Fault(lambda s: s.replying(output(data=["a", "b", "c"])), ERROR, "malformed"),
    "NaN": Fault(lambda s: s.replying(output(data=[0.0, float("nan"), 0.0])), ERROR, "finite"),
    "infinity": Fault(lambda s: s.replying(output(data=[0.0, float("inf"), 0.0])), ERROR, "finite"),
    "probabilities of zero": Fault(lambda s: s.replying(output(data=[0.0, 0, 0])), ERROR, "positive", PROBABILITIES),
    "negative probabilities": Fault(lambda s: s.replying(output(data=[2.0, -1, 0])), ERROR, "positive", PROBABILITIES),
    "no numbers after the JSON": Fault(
        lambda s: s.replying(output(parameters={"binary_data_size": 12}, data=None)), ERROR, "malformed"
    ),
    "a terabyte announced": Fault(lambda s: s.replying(output(**HUGE)), ERROR, "malformed"),
    "an expired certificate": Fault(lambda s: s.certified("expired"), OFFLINE, "certificate has expired"),
    "another host's certificate": Fault(lambda s: s.certified("elsewhere"), OFFLINE, "ostname mismatch"),
    "a function that raises": Fault(raising(KeyError("what")), ERROR, "what"),
    "a function that never returns": Fault(lambda _: hanging, LATE, "in time"),
    "a function that says it is late": Fault(raising(TimeoutError()), LATE, "in time"),
}


def ask(cascade: Cascade, key: str = "mine", **options: Any) -> Answer:
    """Call `predict`."""
    return cascade.predict(UNSURE, key=key, **options)


def ask_in_a_loop(cascade: Cascade, key: str = "mine", **options: Any) -> Answer:
    """Call `predict_async` in a loop that does other work meanwhile, and check that this work is not delayed."""
    longest = computing = 0.0

    async def work() -> None:
        nonlocal longest, computing
        while True:
            before, spent = time.monotonic(), time.process_time()
            await asyncio.sleep(0.002)
            waited = time.monotonic() - before
            longest = max(longest, waited)
            computing = max(computing, min(waited, time.process_time() - spent))  # other programs do not count

    async def both() -> Answer:
        other = asyncio.create_task(work())
        try:
            return await cascade.predict_async(UNSURE, key=key, **options)
        finally:
            other.cancel()

    answer = asyncio.run(both())
    assert longest < 2 * SLACK, f"the event loop stood still for {longest:.3f} s"
    assert computing < 0.05, f"this process kept the event loop waiting for {computing:.3f} s"
    return answer


WAYS = pytest.mark.parametrize("way", [ask, ask_in_a_loop])


LARGE = {  # replies that a busy machine may take longer to send, or to read up to the bound
    "an error page of short lines",
    "a reply of 40 MB",
    "an endless reply in chunks",
    "headers without end",
    "announcements without end",
    "compressed",
    "compressed, where it was asked for",
    "many lists",
}


@WAYS
@pytest.mark.parametrize("stored", [True, False], ids=["outbox", "no outbox"])
@pytest.mark.parametrize("name", FAULTS)
def test_the_local_answer_is_given(
    name: str,
    stored: bool,
    way: Callable[[Cascade], Answer],
    make_file: Callable[..., Path],
    servers: Servers,
    tmp_path: Path,
    stalled: Callable[[], float],
) -> None:
    """The answer has its reason by the deadline, its input is stored if there is an outbox, and closing is bounded."""
    fault, outbox = FAULTS[name], Outbox(tmp_path / "outbox") if stored else None
    path, remote = make_file(**fault.document), fault.remote(servers)
    deadline = DEADLINE if fault.reason is LATE else PATIENT
    with Cascade.load(path, remote=remote, deadline=deadline, outbox=outbox, watch=Watch()) as cascade:
        answer = way(cascade)
        found = cascade.metrics()
        began = time.monotonic()
    closed = time.monotonic() - began
    assert (answer.name, answer.source, answer.reason) == ("green", Source.LOCAL, fault.reason), answer.detail
    assert fault.detail in answer.detail
    assert answer.detail
    assert "\n" not in answer.detail
    assert "token" not in answer.detail
    at_once = DEADLINE if name not in LARGE else PATIENT  # the deadline is longer, so that the reason is the same
    assert answer.elapsed < at_once + SLACK + stalled()
    assert answer.queued == ("mine" if stored else "")
    assert not stored or (found["outbox"]["waiting"], found["outbox"]["delivered"]) == (1, 0)
    assert (found["inputs"], found["forwarded"], found["reasons"][fault.reason.value]) == (1, 1, 1)
    assert (found["watch"]["inputs"], found["watch"]["compared"]) == (1, 0)
    assert found["latency"]["forwarded"]["count"] == 1
    assert closed < CLOSING + SLACK + stalled()


def test_an_unresolvable_name_is_offline(file: Path, stalled: Callable[[], float]) -> None:
    """It is late if the resolver is slow."""
    with Cascade.load(file, remote="http://nobody.invalid/v2/models/m", deadline=DEADLINE) as cascade:
        answer = cascade.predict(UNSURE)
    assert answer.reason in (Reason.OFFLINE, Reason.DEADLINE)
    assert answer.elapsed < DEADLINE + SLACK + stalled()


def test_an_endless_body_is_abandoned(file: Path, servers: Servers, stalled: Callable[[], float]) -> None:
    """Reading stops at the deadline or at the bound of a reply, whichever comes first."""
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


class Link:
    """A remote that fails in one way until it is up, and then says blue."""

    def __init__(self, fault: Callable[[], Any]) -> None:
        self.fault, self.up = fault, False

    def __call__(self, inputs: Any) -> Any:
        """Return scores, or fail."""
        return np.array([[0, 0, 4.0]] * len(inputs)) if self.up else self.fault()


def unreachable() -> Any:
    """Raise the error of a remote without a network."""
    raise RemoteUnreachable("no route to host")


FAILING = pytest.mark.parametrize("fault", [unreachable, lambda: time.sleep(2 * DEADLINE), lambda: np.zeros((1, 9))])


@WAYS
@FAILING
def test_a_full_disk_costs_no_answer_and_nothing_that_was_accepted(
    fault: Callable[[], Any], way: Callable[..., Answer], file: Path, tmp_path: Path, stalled: Callable[[], float]
) -> None:
    """Answers are given in time, and what has a key is delivered once the disk has room. SQLite's own limit is used."""
    outbox, link = Outbox(tmp_path / "outbox"), Link(fault)
    with Cascade.load(file, remote=link, deadline=DEADLINE, outbox=outbox) as cascade:
        database = outbox._store._db
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count={pages + 10}")
        answers = []
        for i in range(8):
            answers.append(way(cascade, str(i), original=np.full(20_000, i, np.uint8)))
            outbox.flush(0.2)  # in vain once the disk is full
        assert all(answer.source is Source.LOCAL for answer in answers)
        assert all(answer.elapsed < DEADLINE + SLACK + stalled() for answer in answers)
        keys = {answer.queued for answer in answers} - {""}
        assert 0 < len(keys) < len(answers)
        assert cascade.metrics()["outbox"]["not_stored"]["disk full"] == len(answers) - len(keys)
        database.execute("PRAGMA max_page_count=1000000")
        link.up = True
        outbox.nudge()
        coming = cascade.late(timeout=30)
        assert {next(coming).key for _ in keys} == keys


def noise(content: bytes) -> bytes:
    """Return bytes that are no database."""
    return b"not a database" * (len(content) // 14)


def half(content: bytes) -> bytes:
    """Return the first half."""
    return content[: len(content) // 2]


def without_a_page(content: bytes) -> bytes:
    """Return the file with zeros in the second page."""
    return content[:8192] + bytes(8192) + content[16384:]


def exchanged(content: bytes) -> bytes:
    """Return the file with the last two pages exchanged."""
    return content[:-16384] + content[-8192:] + content[-16384:-8192]


@WAYS
@pytest.mark.parametrize("damage", [noise, half, without_a_page, exchanged])
def test_a_damaged_outbox_costs_no_answer(
    damage: Callable[[bytes], bytes],
    way: Callable[..., Answer],
    file: Path,
    tmp_path: Path,
    stalled: Callable[[], float],
) -> None:
    """The next input is answered in time, stored, and delivered once the remote is back."""
    path, link = tmp_path / "outbox", Link(unreachable)
    with Cascade.load(file, outbox=Outbox(path)) as cascade:
        for i in range(10):
            cascade.predict(UNSURE, key=str(i), original=np.full(20_000, i, np.uint8))
    path.write_bytes(damage(path.read_bytes()))
    outbox = Outbox(path)
    with Cascade.load(file, remote=link, deadline=DEADLINE, outbox=outbox) as cascade:
        answer = way(cascade)
        assert (answer.source, answer.queued) == (Source.LOCAL, "mine")
        assert answer.elapsed < DEADLINE + SLACK + stalled()
        link.up = True
        assert "mine" in {late.key for late in cascade.late(timeout=5)}
        assert outbox.counts().unusable is None


EXIT = """
import asyncio, sys, threading, time
import numpy as np
from edgecascade.runtime import Cascade, Outbox
hang = lambda _: threading.Event().wait(60)
outbox = Outbox(sys.argv[2]) if sys.argv[2] else None
cascade = Cascade.load(sys.argv[1], remote=hang, deadline=0.1, outbox=outbox)
unsure = np.array([0, 0.5, 0], np.float32)
answer = asyncio.run(cascade.predict_async(unsure)) if sys.argv[3] == "asyncio" else cascade.predict(unsure)
print(answer.reason.value, time.time())
"""


@pytest.mark.parametrize("way", ["predict", "asyncio"])
@pytest.mark.parametrize("stored", [True, False], ids=["outbox", "no outbox"])
def test_a_hung_remote_does_not_keep_the_interpreter(
    stored: bool, way: str, file: Path, tmp_path: Path, stalled: Callable[[], float]
) -> None:
    """It exits within the time that closing takes, though nothing was closed."""
    command = [sys.executable, "-c", EXIT, str(file), str(tmp_path / "outbox") if stored else "", way]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=50)
    ended = time.time()
    reason, since = ran.stdout.rsplit(maxsplit=1)
    assert reason == "deadline"
    assert ended - float(since) < CLOSING + 3 + stalled()  # the process has libraries to unload
    if stored:
        with Cascade.load(file, outbox=Outbox(tmp_path / "outbox")) as cascade:
            assert cascade.metrics()["outbox"]["waiting"] == 1


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
