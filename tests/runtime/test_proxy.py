"""Requests pass through the proxy that the application names, and through no other."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgecascade.runtime import ArgumentError, Deadline, OpenInference, RemoteRefusal, RemoteUnreachable
from edgecascade.runtime.remotes.http import HttpClient, Proxy
from edgecascade.runtime.remotes.open_inference_grpc import OpenInferenceGrpc, make_messages

X = np.zeros((1, 3), np.float32)
LOGITS = np.array([[0, 0, 4]], np.float32)


def infer(remote: Any) -> Any:
    """Call the remote with a long deadline, and close it."""
    try:
        return remote.infer(X, Deadline.after(10))
    finally:
        remote.close()


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass bytes on until the stream ends."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def tunnel(serve: Any) -> tuple[Any, list[bytes]]:
    """Return a proxy that connects to where CONNECT says, or to the host of the first line, and what it was asked."""
    asked: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        data = connection.recv(65536)
        asked.append(data)
        _, target, _ = data.split(b"\r\n")[0].split(b" ")
        place = target.removeprefix(b"http://").partition(b"/")[0].decode()
        host, _, port = place.rpartition(":")
        with socket.create_connection((host, int(port))) as onward:
            if data.startswith(b"CONNECT"):
                connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                onward.sendall(data.replace(b"http://" + place.encode(), b"", 1))
            threading.Thread(target=pump, args=(connection, onward), daemon=True).start()
            pump(onward, connection)

    return serve(behave), asked


def test_plain_requests_name_the_whole_address(tunnel: Any, serve: Any, answering: Any, respond: Any) -> None:
    """The proxy gets the user and the password, and the server does not."""
    proxy, asked = tunnel
    server = serve(answering(respond(LOGITS)))
    remote = OpenInference(server.address, proxy=f"http://me:s%3Acret@127.0.0.1:{proxy.port}")
    np.testing.assert_array_equal(infer(remote), LOGITS)
    assert asked[0].startswith(f"GET {server.address} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n".encode())
    assert b"Proxy-Authorization: Basic bWU6czpjcmV0\r\n" in asked[0]  # me:s:cret


def test_tls_passes_through_the_proxy(tunnel: Any, authority: Any, serve: Any, answering: Any, respond: Any) -> None:
    """The proxy sees where to, and nothing of the request."""
    proxy, asked = tunnel

    def behave(connection: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.path("server.crt"), authority.path("server.key"))
        with context.wrap_socket(connection, server_side=True) as secure:
            answering(respond(LOGITS))(secure)

    server = serve(behave)
    remote = OpenInference(
        f"https://localhost:{server.port}/v2/models/m",
        headers={"Authorization": "Bearer secret"},
        context=ssl.create_default_context(cafile=authority.path("ca.crt")),
        proxy=f"http://me:pw@127.0.0.1:{proxy.port}",
    )
    np.testing.assert_array_equal(infer(remote), LOGITS)
    assert asked == [
        f"CONNECT localhost:{server.port} HTTP/1.1\r\nHost: localhost:{server.port}\r\n"
        "Proxy-Authorization: Basic bWU6cHc=\r\n\r\n".encode()
    ]


def test_grpc_passes_through_the_proxy(tunnel: Any) -> None:
    """GRPC connects in the same way."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc

    messages = make_messages()
    metadata = messages["ModelMetadataResponse"]()
    metadata.inputs.add(name="z", datatype="FP32", shape=[-1, 3])
    reply = messages["ModelInferResponse"](raw_output_contents=[LOGITS.tobytes()])
    reply.outputs.add(name="logits", datatype="FP32", shape=[1, 3])
    methods = {
        "ModelMetadata": grpc.unary_unary_rpc_method_handler(lambda *_: metadata.SerializeToString()),
        "ModelInfer": grpc.unary_unary_rpc_method_handler(lambda *_: reply.SerializeToString()),
    }
    server = grpc.server(ThreadPoolExecutor(2))
    handler = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", methods)
    server.add_generic_rpc_handlers([handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    proxy, asked = tunnel
    remote = OpenInferenceGrpc(f"grpc://127.0.0.1:{port}/v2/models/m", proxy=f"http://127.0.0.1:{proxy.port}")
    try:
        np.testing.assert_array_equal(infer(remote), LOGITS)
    finally:
        server.stop(None).wait()
    assert asked[0].startswith(f"CONNECT 127.0.0.1:{port} HTTP/1.".encode())


def test_a_proxy_that_refuses_is_named(serve: Any, respond: Any) -> None:
    """The server is unreachable then; a page of the proxy is a refusal."""
    proxy = serve(lambda one: (one.recv(65536), one.sendall(respond(b"who?", "407 Proxy Authentication Required"))))
    address = f"http://127.0.0.1:{proxy.port}"
    with pytest.raises(RemoteUnreachable, match=rf"cannot connect to h:443 by the proxy 127.0.0.1:{proxy.port}: .*407"):
        infer(OpenInference("https://h/v2/models/m", proxy=address))
    with pytest.raises(RemoteRefusal, match="HTTP 407: who"):
        infer(OpenInference("http://h/v2/models/m", proxy=address))


def test_the_environment_names_no_proxy(
    serve: Any, answering: Any, respond: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device sends inputs only where the application says."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    remote = OpenInference(serve(answering(respond(LOGITS))).address)
    np.testing.assert_array_equal(infer(remote), LOGITS)


@pytest.mark.parametrize(
    "address", ["socks5://h:1", "https://h:1", "h:1", "http://me:s3cret@h:port", "http://h/p?s3cret"]
)
def test_other_addresses_are_refused(address: str) -> None:
    """The error shows the expected form, and no secret."""
    make: tuple[Callable[[], Any], ...] = (
        lambda: HttpClient("h", 80, proxy=address),
        lambda: OpenInferenceGrpc("grpc://h/v2/models/m", proxy=address),
    )
    for one in make:
        with pytest.raises(
            ArgumentError, match=r"^proxy: expected http://\[user:password@\]host\[:port\], got"
        ) as raised:
            one()
        assert "s3cret" not in str(raised.value)


def test_the_default_port_is_80() -> None:
    """An IPv6 address stands in brackets."""
    assert Proxy.at("http://[::1]") == ("::1", 80, "")
