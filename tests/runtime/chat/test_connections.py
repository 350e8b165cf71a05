"""Certificates are checked, and a proxy is used and told its password alone."""

import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

from chat_endpoints import UNSURE, Fake, saying
from edgecascade.chat import endpoint
from edgecascade.cli import main


@pytest.fixture
def secure(authority: Any, serve: Any) -> Any:
    """Serve a remote over TLS that may ask for the client's certificate; returns its address."""

    def start(certificate: str, *, asks: bool) -> str:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.path(f"{certificate}.crt"), authority.path(f"{certificate}.key"))
        if asks:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(authority.path("ca.crt"))
        remote = Fake(saying(["afar"]))

        def behave(connection: Any) -> None:
            with context.wrap_socket(connection, server_side=True) as wrapped:
                remote(wrapped)

        return f"https://localhost:{serve(behave).port}/v1"

    return start


@pytest.mark.parametrize(
    ("certificate", "asks", "trusts", "shows", "reason"),
    [
        ("server", False, True, False, "offloaded"),
        ("server", True, True, True, "offloaded"),
        ("server", False, False, False, "offline"),
        ("expired", False, True, False, "offline"),
        ("elsewhere", False, True, False, "offline"),
        ("server", True, True, False, "remote error"),
    ],
)
def test_certificates_are_checked_on_both_sides(
    authority: Any, secure: Any, fake: Any, gateway: Any, certificate: str, asks: bool, trusts: bool, shows: bool,
    reason: str,
) -> None:  # fmt: skip
    """A remote that cannot be trusted, or that does not trust this client, does not answer."""
    context = ssl.create_default_context(cafile=authority.path("ca.crt") if trusts else None)
    if shows:
        context.load_cert_chain(authority.path("client.crt"), authority.path("client.key"))
    found = gateway(fake(saying(["near"], UNSURE)), secure(certificate, asks=asks), context=context)
    got = found.ask()
    assert got.headers["x-edgecascade-reason"] in (reason, "offline" if reason == "remote error" else reason)
    assert got.text() == ("afar" if reason == "offloaded" else "near")


@pytest.mark.parametrize("speaks", [True, False])
def test_a_remote_without_tls_is_found_long_before_the_deadline(
    fake: Any, serve: Any, gateway: Any, monkeypatch: pytest.MonkeyPatch, speaks: bool
) -> None:
    """The local reply comes at once, or after the handshake's time, and the reason names the scheme."""
    monkeypatch.setattr(endpoint, "HANDSHAKE", 0.2)
    free = threading.Event()

    def plain(connection: Any) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n" if speaks else b"")
        free.wait(30)

    remote = f"https://localhost:{serve(plain).port}/v1"
    got = gateway(fake(saying(["near"], UNSURE)), remote, deadline=60.0).ask()
    free.set()
    assert got.headers["x-edgecascade-reason"] == "offline"
    assert got.text() == "near"
    assert "does not speak TLS" in got.json()["edgecascade"]["detail"]


def test_a_proxy_is_used_for_the_remote(fake: Any, gateway: Any) -> None:
    """It gets its own password, and the remote's credentials in the request that it passes on."""
    proxy, local = fake(saying(["afar"])), fake(saying(["near"], UNSURE))
    address = f"http://user:secret@{proxy.url.split('/')[2]}"
    found = gateway(local, "http://remote.test/v1", proxy=address, remote_headers={"Authorization": "Bearer R"})
    assert found.ask().text() == "afar"
    headers, _ = proxy.requests[0]
    assert (headers["host"], headers["proxy-authorization"]) == ("remote.test", "Basic dXNlcjpzZWNyZXQ=")
    assert headers["authorization"] == "Bearer R"
    assert "proxy-authorization" not in local.requests[0][0]


def test_a_wrong_file_of_certificates_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one sentence."""
    assert main(["gateway", str(tmp_path / "chat.json"), "--ca", str(tmp_path / "none.pem")]) == 2
    assert "--ca: cannot read certificates" in capsys.readouterr().err
