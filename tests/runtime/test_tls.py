"""TLS over HTTP and gRPC: accepted and refused certificates, and the errors."""

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
        """Return the port of a server."""
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
        """Return a remote."""
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
        """Return the port of a server."""
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
        """Return a remote."""
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
    """Make one forward with a long deadline."""
    remote = protocol.remote(f"{protocol.scheme}://localhost:{port}/v2/models/m", **options)
    try:
        return remote.infer(X, Deadline.after(10))
    finally:
        remote.close()


def test_a_certificate_of_the_given_authority_is_accepted(protocol: Http | Grpc) -> None:
    """The exchange succeeds."""
    with protocol.serving("server", asks=False) as port:
        np.testing.assert_array_equal(ask(protocol, port), LOGITS)


def test_a_client_can_present_its_certificate(protocol: Http | Grpc) -> None:
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
def test_an_untrusted_server_is_refused(protocol: Http | Grpc, certificate: str, trusting: bool, said: str) -> None:
    """It is unreachable, with the reason in one line, and not worth a retry."""
    with (
        protocol.serving(certificate, asks=False) as port,
        pytest.raises(RemoteUnreachable, match=said) as raised,
    ):
        ask(protocol, port, trusting=trusting)
    assert not raised.value.retry
    assert "\n" not in str(raised.value)
    assert f"localhost:{port}" in str(raised.value)


def test_a_client_without_a_required_certificate_is_refused(protocol: Http | Grpc) -> None:
    """The RemoteError says so and is not worth a retry."""
    with protocol.serving("server", asks=True) as port, pytest.raises(RemoteError, match=r"(?i)certificate") as raised:
        ask(protocol, port)
    assert not raised.value.retry
    assert "\n" not in str(raised.value)


def test_a_server_without_tls_is_refused(authority: Any, serve: Callable[..., Any], respond: Any) -> None:
    """It is unreachable, in one line, and not worth a retry."""
    server = serve(lambda connection: (connection.recv(65536), connection.sendall(respond({}, "400 Bad Request"))))
    remote = OpenInference(f"https://localhost:{server.port}/v2/models/m")
    with pytest.raises(RemoteUnreachable, match=r"localhost:\d+: it does not speak TLS") as raised:
        remote.infer(X, Deadline.after(5))
    assert not raised.value.retry
    assert authority


def test_an_expired_certificate_causes_a_local_answer(file: Path, protocol: Http | Grpc) -> None:
    """The answer has its reason."""
    with protocol.serving("expired", asks=False) as port:
        remote = protocol.remote(f"{protocol.scheme}://localhost:{port}/v2/models/m")
        with Cascade.load(file, remote=remote, deadline=10) as cascade:
            answer = cascade.predict(np.array([0, 0.5, 0], np.float32))
    assert (answer.name, answer.reason) == ("green", Reason.OFFLINE)
    assert "certificate has expired" in answer.detail


def test_certificates_require_an_address_with_tls(authority: Any) -> None:
    """Otherwise they would be ignored silently."""
    with pytest.raises(ArgumentError, match=r"expected a grpcs:// address"):
        OpenInferenceGrpc("grpc://localhost:1/v2/models/m", root_certificate=authority.path("ca.crt"))


def test_a_missing_certificate_file_is_refused(tmp_path: Path) -> None:
    """The error is raised when the remote is made, not at the first request."""
    with pytest.raises(ArgumentError, match=r"cannot read the certificate or key '.*none.pem'"):
        OpenInferenceGrpc("grpcs://localhost:1/v2/models/m", root_certificate=tmp_path / "none.pem")
