"""TLS over HTTP and over gRPC: certificates that are accepted and refused, and the errors."""

import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecascade.runtime import ArgumentError, Cascade, Deadline, OpenInference, Reason, RemoteError, RemoteUnreachable
from edgecascade.runtime.remotes.open_inference_grpc import OpenInferenceGrpc, make_messages

X = np.zeros((1, 3), np.float32)
LOGITS = np.array([[0, 0, 4]], np.float32)


class Http:
    """The protocol over HTTPS."""

    scheme = "https"

    def __init__(self, authority: Any, serve: Any, answering: Any, respond: Any) -> None:
        self._authority, self._serve, self._behave = authority, serve, answering(respond(LOGITS))

    @contextmanager
    def serving(self, certificate: str, *, asks: bool) -> Iterator[int]:
        """A server's port."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._authority.path(f"{certificate}.crt"), self._authority.path(f"{certificate}.key"))
        if asks:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self._authority.path("ca.crt"))

        def behave(connection: socket.socket) -> None:
            with context.wrap_socket(connection, server_side=True) as secure:
                self._behave(secure)

        yield self._serve(behave).port

    def remote(self, url: str, *, trusting: bool = True, client: str | None = None) -> OpenInference:
        """Who asks."""
        context = ssl.create_default_context(cafile=self._authority.path("ca.crt") if trusting else None)
        if client:
            context.load_cert_chain(self._authority.path(f"{client}.crt"), self._authority.path(f"{client}.key"))
        return OpenInference(url, context=context)


class Grpc:
    """The protocol over gRPC."""

    scheme = "grpcs"

    def __init__(self, authority: Any) -> None:
        self._authority = authority

    @contextmanager
    def serving(self, certificate: str, *, asks: bool) -> Iterator[int]:
        """A server's port."""
        import grpc

        messages = make_messages()
        metadata = messages["ModelMetadataResponse"]()
        metadata.inputs.add(name="z", datatype="FP32", shape=[-1, 3])
        reply = messages["ModelInferResponse"](raw_output_contents=[LOGITS.tobytes()])
        reply.outputs.add(name="logits", datatype="FP32", shape=[1, 3])
        replies = {"ModelMetadata": metadata.SerializeToString(), "ModelInfer": reply.SerializeToString()}
        methods = {
            name: grpc.unary_unary_rpc_method_handler(lambda *_, reply=reply: reply) for name, reply in replies.items()
        }
        server = grpc.server(ThreadPoolExecutor(2))
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("inference.GRPCInferenceService", methods)]
        )
        pair = (self._authority.bytes(f"{certificate}.key"), self._authority.bytes(f"{certificate}.crt"))
        ca = self._authority.bytes("ca.crt") if asks else None
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair], ca, asks))
        server.start()
        yield port
        server.stop(None).wait()

    def remote(self, url: str, *, trusting: bool = True, client: str | None = None) -> OpenInferenceGrpc:
        """Who asks."""
        return OpenInferenceGrpc(
            url,
            root_certificate=self._authority.path("ca.crt") if trusting else None,
            client_key=client and self._authority.path(f"{client}.key"),
            client_certificate=client and self._authority.path(f"{client}.crt"),
        )


@pytest.fixture(params=["http", "grpc"])
def protocol(request: pytest.FixtureRequest, authority: Any, serve: Any, answering: Any, respond: Any) -> Http | Grpc:
    """The protocol over TLS."""
    return Http(authority, serve, answering, respond) if request.param == "http" else Grpc(authority)


def ask(protocol: Http | Grpc, port: int, **options: Any) -> Any:
    """Make one forward, with a generous deadline."""
    remote = protocol.remote(f"{protocol.scheme}://localhost:{port}/v2/models/m", **options)
    try:
        return remote.infer(X, Deadline.after(10))
    finally:
        remote.close()


def test_a_certificate_that_the_given_authority_vouches_for(protocol: Http | Grpc) -> None:
    """The exchange takes place."""
    with protocol.serving("server", asks=False) as port:
        np.testing.assert_array_equal(ask(protocol, port), LOGITS)


def test_a_client_that_shows_its_own_certificate(protocol: Http | Grpc) -> None:
    """The server identifies the client."""
    with protocol.serving("server", asks=True) as port:
        np.testing.assert_array_equal(ask(protocol, port, client="client"), LOGITS)


@pytest.mark.parametrize(
    ("certificate", "trusting", "said"),
    [
        pytest.param("expired", True, "certificate has expired", id="expired"),
        pytest.param("elsewhere", True, "(?i)hostname|peer certificate", id="another host's"),
        pytest.param("server", False, "certificate", id="an unknown authority's"),
    ],
)
def test_a_server_that_cannot_be_trusted(protocol: Http | Grpc, certificate: str, trusting: bool, said: str) -> None:
    """It is unreachable, with the reason in one line, and not worth a retry."""
    with (
        protocol.serving(certificate, asks=False) as port,
        pytest.raises(RemoteUnreachable, match=said) as raised,
    ):
        ask(protocol, port, trusting=trusting)
    assert not raised.value.retry
    assert "\n" not in str(raised.value)
    assert f"localhost:{port}" in str(raised.value)


def test_a_client_without_the_certificate_that_the_server_asks_for(protocol: Http | Grpc) -> None:
    """The remote error says so, and is not worth a retry."""
    with protocol.serving("server", asks=True) as port, pytest.raises(RemoteError, match=r"(?i)certificate") as raised:
        ask(protocol, port)
    assert not raised.value.retry
    assert "\n" not in str(raised.value)


def test_a_server_that_speaks_no_tls(authority: Any, serve: Callable[..., Any], respond: Any) -> None:
    """It is unreachable, in one line, and not worth a retry."""
    server = serve(lambda connection: (connection.recv(65536), connection.sendall(respond({}, "400 Bad Request"))))
    remote = OpenInference(f"https://localhost:{server.port}/v2/models/m")
    with pytest.raises(RemoteUnreachable, match="TLS: ") as raised:
        remote.infer(X, Deadline.after(5))
    assert not raised.value.retry
    assert authority


def test_a_cascade_whose_remote_has_expired(file: Path, protocol: Http | Grpc) -> None:
    """The local answer stands, with the reason."""
    with protocol.serving("expired", asks=False) as port:
        remote = protocol.remote(f"{protocol.scheme}://localhost:{port}/v2/models/m")
        with Cascade.load(file, remote=remote, deadline=10) as cascade:
            answer = cascade.predict(np.array([0, 0.5, 0], np.float32))
    assert (answer.name, answer.reason) == ("green", Reason.OFFLINE)
    assert "certificate has expired" in answer.detail


def test_certificates_need_an_address_with_tls(authority: Any) -> None:
    """Otherwise they would be ignored silently."""
    with pytest.raises(ArgumentError, match=r"expected a grpcs:// address"):
        OpenInferenceGrpc("grpc://localhost:1/v2/models/m", root_certificate=authority.path("ca.crt"))


def test_a_certificate_that_is_not_there(tmp_path: Path) -> None:
    """The error comes when the remote is made, not at the first request."""
    with pytest.raises(ArgumentError, match=r"cannot read the certificate or key '.*none.pem'"):
        OpenInferenceGrpc("grpcs://localhost:1/v2/models/m", root_certificate=tmp_path / "none.pem")
