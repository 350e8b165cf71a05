"""A generative model as the remote of a classifier: calibrated by a command, and asked the same on the device."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from chat_servers import ChatServer, chat_server, mood_files
from edgecascade.cli import main
from edgecascade.runtime import Cascade
from edgecascade.types.document import AskedChat


@pytest.fixture(scope="module")
def moods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a body and its calibration data."""
    return mood_files(tmp_path_factory.mktemp("moods"))


@pytest.fixture
def server() -> Iterator[ChatServer]:
    """Run a server that lists likely tokens."""
    with chat_server() as server:
        yield server


def calibrate(moods: Path, out: Path, url: str, *options: str) -> int:
    """Run the command."""
    data = ["--data", str(moods / "cal.npz"), "--offload-rate", "0.3", "-o", str(out)]
    return main(["calibrate", str(moods / "body.onnx"), "--remote", url, *data, *options])


def asked_in(path: Path) -> AskedChat:
    """Return how the remote was asked, as the file says."""
    with Cascade.load(path) as cascade:
        asked = cascade.document.remote_chat
    assert isinstance(asked, AskedChat)
    return asked


def fields_of(server: ChatServer) -> set[str]:
    """Return what the requests have beside their messages."""
    return {
        json.dumps({name: value for name, value in one.items() if name != "messages"}, sort_keys=True)
        for one in server.requests
    }


def test_a_chat_address_is_calibrated_and_then_asked_the_same(
    moods: Path, server: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The device needs the address and nothing else: the requests differ in the inputs alone."""
    out = tmp_path / "local.onnx"
    assert calibrate(moods, out, server.url, "--remote-model", "oracle", "--remote-fields", '{"seed": 3}') == 0
    asked = asked_in(out)
    assert (asked.answer, asked.model, asked.reported, asked.top_logprobs) == ("label", "oracle", "oracle-1", 20)
    assert asked.fields == {"temperature": 0, "max_tokens": 4, "seed": 3}
    (fields,) = fields_of(server)
    texts = {one["messages"][0]["content"].partition("Input: ")[2].partition("\n")[0] for one in server.requests}
    assert texts == set(np.load(moods / "cal.npz")["x"].tolist())

    server.requests.clear()
    lines = tmp_path / "lines.txt"
    lines.write_text("I love this spoon.\nI hate this spoon.\n")
    capsys.readouterr()
    assert main(["run", str(out), str(lines), "--remote", server.url, "--threshold", "2", "--deadline", "30"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["name"], one["source"]) for one in answers] == [("positive", "remote"), ("negative", "remote")]
    assert fields_of(server) == {fields}
