"""`edgecascade gateway`: it serves until a signal, and its errors are one sentence."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from chat_endpoints import HEAD, LAST, chunked, events_of, saying
from chat_files import chat_document
from edgecascade.cli import main


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file of two endpoints."""
    (tmp_path / "chat.json").write_text(chat_document().to_json())
    return tmp_path / "chat.json"


@pytest.fixture
def start(path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], str]]]:
    """Start gateways as processes of their own; returns each with its address."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
        code = "import sys; from edgecascade.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", code, "gateway", str(path), "--port", "0", *arguments]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        assert started[-1].stdout is not None
        line = started[-1].stdout.readline()
        assert line.startswith("serving at http://127.0.0.1:"), started[-1].communicate()[1]
        return started[-1], line.split()[-1]

    yield start
    for one in started:
        one.kill()
        one.communicate()


def ask(address: str) -> bytes:
    """Return the body of a reply."""
    body = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "stream": True}).encode()
    with urlopen(Request(f"{address}/chat/completions", body), timeout=20) as response:
        return bytes(response.read())


def test_it_serves_and_a_signal_ends_it(start: Any, fake: Any, tmp_path: Path) -> None:
    """Requests under way are answered; the headers of each side come from its file."""
    events = events_of([f" w{i}" for i in range(20)])

    def slow(_: Any) -> Any:
        yield HEAD + b"".join(chunked(one) for one in events[:12])
        yield None
        yield b"".join(chunked(one) for one in events[12:]) + LAST

    local, remote = fake(slow), fake(saying(["no"]))
    (tmp_path / "headers").write_text("Authorization: Bearer L\n")
    process, address = start(
        "--local", local.url, "--remote", remote.url, "--local-header-file", str(tmp_path / "headers")
    )
    got: list[bytes] = []
    asking = threading.Thread(target=lambda: got.append(ask(address)))
    asking.start()
    while not local.requests:
        threading.Event().wait(0.02)
    threading.Event().wait(0.2)
    process.send_signal(signal.SIGTERM)
    threading.Event().wait(0.2)
    local.go_on.set()
    asking.join(10)
    assert got[0].endswith(b"data: [DONE]\n\n")
    assert b" w19" in got[0]
    assert local.requests[0][0]["authorization"] == "Bearer L"
    assert process.wait(10) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "99999"], "--port: expected 0 to 65535"),
        (["--local", "nowhere"], "nowhere: no such file"),
        (["--local", "ftp://x/v1"], "--local: expected http"),
        (["--remote", "http://u:p@x/v1"], "--remote: expected an address without user"),
        (["--deadline", "0"], "--deadline: expected seconds above 0"),
        (["--remote-header-file", "none"], "--remote-header-file: cannot read none"),
        (["--budget", "many"], "--budget: expected an amount"),
        (["--price", "2"], "--price: expected with --budget"),
        (["--threshold", "nan"], "--threshold: expected a number"),
        (["--egress", "json:nothing"], "--egress: cannot import"),
        (["--key", "k.pem"], "--key: expected with --cert"),
        (["--budget", "9/min", "--budget-file", "."], "--budget-file: expected a new file"),
        (["--name", ""], "--name: expected a name"),
        (["--host", ""], "--host, --port: expected an address"),
        (["--remote", "http://127.0.0.1:8000/v2/models/large"], "--remote: expected http"),
        (["--local", "http://127.0.0.1:8000/v2/models/small"], "--local: expected http"),
    ],
)
def test_an_error_is_one_sentence(
    path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit code 2."""
    assert main(["gateway", str(path), "--port", "0", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("content", [None, "", "{}", '{"format": 99}', '{"format": 1}'])
def test_a_wrong_file_is_refused(tmp_path: Path, content: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    """Missing, empty, damaged or of another format."""
    if content is not None:
        (tmp_path / "chat.json").write_text(content)
    assert main(["gateway", str(tmp_path / "chat.json"), "--port", "0"]) == 2
    assert capsys.readouterr().err.startswith(f"edgecascade: {tmp_path / 'chat.json'}: ")


def test_a_taken_port_is_refused(path: Path, serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Before a model is loaded."""
    taken = serve(lambda _: None).port
    assert main(["gateway", str(path), "--port", str(taken)]) == 2
    assert "cannot listen" in capsys.readouterr().err


def test_a_gguf_file_needs_llama_cpp(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The sentence says how to install it."""
    (tmp_path / "small.gguf").write_bytes(b"GGUF")
    assert main(["gateway", str(path), "--port", "0", "--local", str(tmp_path / "small.gguf")]) == 2
    assert "pip install xllamacpp" in capsys.readouterr().err
