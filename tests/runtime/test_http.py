"""HTTP exchanges end by the deadline, connections are reused, and every byte is counted."""

import gzip
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edgecascade.runtime import Deadline, InvalidReply, RemoteError, RemoteUnreachable
from edgecascade.runtime.remotes import http
from edgecascade.runtime.remotes.http import HttpClient

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def connect() -> Iterator[Callable[..., HttpClient]]:
    """Make clients, and close them afterwards."""
    made: list[HttpClient] = []

    def connect(port: int, host: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> HttpClient:
        made.append(HttpClient(host, port, context))
        return made[-1]

    yield connect
    for client in made:
        client.close()


def get(client: HttpClient) -> bytes:
    """Make one exchange with a long deadline."""
    return client.request("GET", "/", None, {}, Deadline.after(5)).body


def replying(connection: socket.socket) -> None:
    """Answer every request."""
    while connection.recv(65536):
        connection.sendall(OK)


def replying_once(connection: socket.socket) -> None:
    """Answer one request and close the connection."""
    connection.recv(65536)
    connection.sendall(OK)
    connection.shutdown(socket.SHUT_RDWR)


def test_a_connection_is_reused(serve: Callable[..., Any], connect: Callable[..., HttpClient]) -> None:
    """Five requests use one connection."""
    server = serve(replying)
    client = connect(server.port)
    assert [get(client) for _ in range(5)] == [b"ok"] * 5
    assert server.connections == 1


def test_a_connection_dropped_by_the_server_is_replaced(
    serve: Callable[..., Any], connect: Callable[..., HttpClient]
) -> None:
    """The server may close an idle connection at any time without an error to the caller."""
    server = serve(replying_once)
    client = connect(server.port)
    assert [get(client) for _ in range(3)] == [b"ok"] * 3
    assert server.connections == 3


def test_connection_close_is_respected(serve: Callable[..., Any], connect: Callable[..., HttpClient]) -> None:
    """`Connection: close` ends the connection."""
    server = serve(lambda c: (c.recv(65536), c.sendall(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))))
    client = connect(server.port)
    assert [get(client) for _ in range(2)] == [b"ok"] * 2
    assert server.connections == 2


def test_every_byte_is_counted(serve: Callable[..., Any], connect: Callable[..., HttpClient]) -> None:
    """The client's counts equal the server's in both directions."""
    seen = bytearray()

    def replying(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            seen.extend(data)
            if seen.endswith(b"x" * 1000):
                connection.sendall(OK)

    server = serve(replying)
    client = connect(server.port)
    for _ in range(3):
        client.request("POST", "/", b"x" * 1000, {"A": "b"}, Deadline.after(5))
    assert client.traffic.requests == 3
    assert client.traffic.sent == len(seen)
    assert client.traffic.received == 3 * len(OK)


def test_a_deadline_that_has_passed_sends_nothing(
    serve: Callable[..., Any], connect: Callable[..., HttpClient]
) -> None:
    """This holds for new and idle connections."""
    server = serve(replying)
    client = connect(server.port)
    for connections in (0, 1):
        assert server.connections == connections
        with pytest.raises(TimeoutError):
            client.request("GET", "/", None, {}, Deadline.after(0))
        get(client)


def test_an_unread_upload_ends_by_the_deadline(serve: Callable[..., Any], connect: Callable[..., HttpClient]) -> None:
    """The deadline also holds while sending."""

    def reading_nothing(connection: socket.socket) -> None:
        connection.recv(1)
        time.sleep(3)

    server = serve(reading_nothing)
    client = connect(server.port)
    with pytest.raises(TimeoutError):
        client.request("POST", "/", b"x" * 50_000_000, {}, Deadline.after(0.2))


def test_a_connection_ended_with_a_message_is_replaced(
    serve: Callable[..., Any], connect: Callable[..., HttpClient]
) -> None:
    """Some servers announce that they close an idle connection; that is not a reply to the next request."""

    def announcing(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(OK)
        time.sleep(0.05)
        connection.sendall(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        connection.shutdown(socket.SHUT_RDWR)

    server = serve(announcing)
    client = connect(server.port)
    for _ in range(3):
        assert get(client) == b"ok"
        time.sleep(0.2)
    assert server.connections == 3


def test_a_reused_connection_that_breaks_during_a_reply_is_an_error(
    serve: Callable[..., Any], connect: Callable[..., HttpClient]
) -> None:
    """The client itself does not repeat a request that was partly answered."""
    answers = iter([OK, OK[:30]])

    def breaking(connection: socket.socket) -> None:
        for answer in answers:
            connection.recv(65536)
            connection.sendall(answer)
        connection.shutdown(socket.SHUT_RDWR)

    server = serve(breaking)
    client = connect(server.port)
    get(client)
    with pytest.raises(RemoteError, match="the connection broke: the server closed it") as raised:
        get(client)
    assert raised.value.retry
    assert server.connections == 1


@pytest.mark.parametrize(
    ("coding", "body"), [("gzip", gzip.compress(b"ok")), ("identity", b"ok")], ids=["gzip", "identity"]
)
def test_a_coding_that_was_asked_for_is_decoded(
    serve: Callable[..., Any], connect: Callable[..., HttpClient], respond: Any, coding: str, body: bytes
) -> None:
    """The caller asks with a header."""
    server = serve(lambda c: (c.recv(65536), c.sendall(respond(body, Content_Encoding=coding))))
    client = connect(server.port)
    assert client.request("GET", "/", None, {"accept-encoding": "gzip"}, Deadline.after(5)).body == b"ok"


@pytest.mark.parametrize(
    ("coding", "asked", "body", "said"),
    [
        pytest.param("gzip", "gzip", gzip.compress(bytes(2 << 20)), "larger than 1048576 bytes", id="a bomb"),
        pytest.param("gzip", "gzip", gzip.compress(b"ok")[:-3], "damaged", id="cut short"),
        pytest.param("gzip", "gzip", b"ok", "damaged", id="nothing of the kind"),
        pytest.param("br", "gzip", b"ok", "'br'.*did not ask for", id="another coding"),
        pytest.param("gzip", None, gzip.compress(b"ok"), "'gzip'.*did not ask for", id="not asked for"),
    ],
)
def test_an_invalid_coded_body_is_an_error(
    serve: Callable[..., Any],
    connect: Callable[..., HttpClient],
    respond: Any,
    coding: str,
    asked: str | None,
    body: bytes,
    said: str,
) -> None:
    """The InvalidReply is raised in bounded memory."""
    server = serve(lambda c: (c.recv(65536), c.sendall(respond(body, Content_Encoding=coding))))
    headers = {"Accept-Encoding": asked} if asked else {}
    with pytest.raises(InvalidReply, match=said) as raised:
        connect(server.port).request("GET", "/", None, headers, Deadline.after(5), largest=1 << 20)
    assert not raised.value.retry


@pytest.mark.parametrize("header", ["x\r\nEvil: yes", "x\nEvil: yes", "☃"])
def test_an_invalid_header_is_refused(
    serve: Callable[..., Any], connect: Callable[..., HttpClient], header: str
) -> None:
    """Nothing is sent."""
    client = connect(serve(replying).port)
    with pytest.raises(RemoteError, match="HTTP"):
        client.request("GET", "/", None, {"Authorization": header}, Deadline.after(5))
    assert client.traffic.sent == 0


def test_a_response_before_the_end_of_the_request_is_read(
    serve: Callable[..., Any], connect: Callable[..., HttpClient], respond: Any
) -> None:
    """A server that refuses a large body replies early and closes."""

    def refusing(connection: socket.socket) -> None:
        connection.recv(1024)
        connection.sendall(respond(b"", "413 Content Too Large"))
        connection.close()

    server = serve(refusing)
    client = connect(server.port)
    for connections in (1, 2):
        response = client.request("POST", "/", b"x" * 50_000_000, {}, Deadline.after(10))
        assert response.status == 413
        assert server.connections == connections


def test_a_large_request_on_an_idle_connection_is_sent_again(
    serve: Callable[..., Any], connect: Callable[..., HttpClient], respond: Any
) -> None:
    """The server may close the connection while it is being sent; what came before is not a part of its answer."""

    def closing(connection: socket.socket) -> None:
        if connection.recv(1024).startswith(b"GET"):
            connection.sendall(OK)
            connection.recv(1024)
        else:
            connection.sendall(respond(b"", "413 Content Too Large"))
        connection.close()

    server = serve(closing)
    client = connect(server.port)
    assert get(client) == b"ok"
    assert client.request("POST", "/", b"x" * 50_000_000, {}, Deadline.after(10)).status == 413
    assert server.connections == 2


@pytest.fixture
def silent() -> Iterator[int]:
    """Return the port of an address at which nothing answers, not even with a refusal: its queue is full."""
    with socket.socket() as listener, ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def named(monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    """Give every name these ports as its addresses."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found[:])


def test_an_address_that_does_not_answer_leaves_time_for_the_next(
    serve: Callable[..., Any], connect: Callable[..., HttpClient], silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Next time, the address that answered is the first."""
    server = serve(replying_once)
    named(monkeypatch, silent, server.port)
    client = connect(server.port)
    for most in (1.0, 0.2):
        begun = time.monotonic()
        assert client.request("GET", "/", None, {}, Deadline.after(1)).body == b"ok"
        assert time.monotonic() - begun < most


def test_an_address_of_a_family_that_the_system_lacks_is_passed_over(
    serve: Callable[..., Any], connect: Callable[..., HttpClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of IPv6 is where it is switched off."""
    server = serve(replying)
    found = [(family, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port)) for family in (250, socket.AF_INET)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found[:])
    assert get(connect(server.port)) == b"ok"


def test_addresses_that_do_not_answer_take_no_more_than_the_deadline(
    connect: Callable[..., HttpClient], silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, all of them are tried in that time."""
    named(monkeypatch, *[silent] * 8)
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        connect(80).request("GET", "/", None, {}, Deadline.after(0.4))
    assert 0.3 < time.monotonic() - begun < 0.8


def test_the_error_shows_an_ipv6_address_in_brackets(connect: Callable[..., HttpClient]) -> None:
    """As in the address of the remote."""
    with pytest.raises(RemoteUnreachable, match=r"cannot connect to \[::1\]:1: "):
        get(connect(1, "::1"))


def test_an_address_without_a_server_is_unreachable(connect: Callable[..., HttpClient]) -> None:
    """It raises `RemoteUnreachable`."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(RemoteUnreachable, match=f"cannot connect to 127.0.0.1:{port}"):
        get(connect(port))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a key and a self-signed certificate for `localhost`."""
    path = tmp_path_factory.mktemp("tls") / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(path), "-out", str(path.with_suffix(".crt"))]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl makes the certificate, and is not installed")
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


@pytest.fixture
def tls_server(serve: Callable[..., Any], certificate: Path) -> tuple[Any, list[bytes]]:
    """Start a server with TLS; return it and its requests."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    seen: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            while data := secure.recv(65536):
                seen.append(data)
                secure.sendall(OK)

    return serve(behave), seen


def test_a_trusted_certificate_is_accepted(
    tls_server: tuple[Any, list[bytes]], certificate: Path, connect: Callable[..., HttpClient]
) -> None:
    """The exchange succeeds."""
    client = connect(tls_server[0].port, "localhost", ssl.create_default_context(cafile=str(certificate)))
    assert get(client) == b"ok"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["unknown authority", "another name"])
def test_an_untrusted_certificate_is_refused(
    tls_server: tuple[Any, list[bytes]], certificate: Path, host: str, connect: Callable[..., HttpClient]
) -> None:
    """Nothing of the request is sent."""
    trusted = str(certificate) if host == "127.0.0.1" else None
    client = connect(tls_server[0].port, host, ssl.create_default_context(cafile=trusted))
    with pytest.raises(RemoteError, match=r"(?i)certificate"):
        get(client)
    assert tls_server[1] == []


@pytest.mark.parametrize("says", [b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", b""])
def test_a_server_without_tls_is_found_long_before_the_deadline(
    serve: Callable[..., Any], connect: Callable[..., HttpClient], monkeypatch: pytest.MonkeyPatch, says: bytes
) -> None:
    """One that says something is known at once; one that waits for the end of a line, after the handshake's time."""
    monkeypatch.setattr(http, "HANDSHAKE", 0.2)
    free = threading.Event()

    def plain(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(says)
        free.wait(30)

    client, started = connect(serve(plain).port, "localhost", ssl.create_default_context()), time.monotonic()
    with pytest.raises(RemoteUnreachable, match="does not speak TLS"):
        client.request("GET", "/", None, {}, Deadline.after(60))
    assert time.monotonic() - started < 10
    with pytest.raises(TimeoutError) if not says else pytest.raises(RemoteUnreachable):
        client.request("GET", "/", None, {}, Deadline.after(0.1))
    free.set()


def test_a_connection_returned_after_close_is_closed(
    serve: Callable[..., Any], connect: Callable[..., HttpClient]
) -> None:
    """A request in progress when the client is closed gets its answer and leaves no connection open."""
    free, asked = threading.Event(), threading.Event()
    ended: list[bytes] = []

    def slow(connection: socket.socket) -> None:
        connection.recv(65536)
        asked.set()
        free.wait(5)
        connection.sendall(OK)
        ended.append(connection.recv(1))

    client = connect(serve(slow).port)
    got: list[bytes] = []
    asking = threading.Thread(target=lambda: got.append(get(client)))
    asking.start()
    assert asked.wait(5)
    client.close()
    free.set()
    asking.join(5)
    until = time.monotonic() + 5
    while not ended and time.monotonic() < until:
        time.sleep(0.005)
    assert (got, ended) == ([b"ok"], [b""])
