"""Cascade files go to the Hugging Face Hub and come back: here a server with the part of its protocol that is used."""

import base64
import hashlib
import json
import logging
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard

from chat_servers import MOODS, mood_files
from edgecascade.cli import main
from edgecascade.export import ExportError, from_hub, model_card, push_to_hub
from edgecascade.export.hub import _beside
from edgecascade.runtime import Cascade, ModelFileError, TextPreprocessing
from task_files import twice_file

COMMIT = f"https://huggingface.co/you/colours/commit/{'1' * 40}"  # its client accepts no other host here


class Hub:
    """A Hub of one repository.

    Attributes:
        files: the content of each file.
        private: whether the repository was made as a private one; None before it was made.
        tokens: what clients sent as authorization.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.private: bool | None = None
        self.tokens: set[str | None] = set()
        self.endpoint = ""

    def post(self, path: str, body: bytes) -> Any:
        """Return the reply to a POST."""
        if path == "/api/repos/create":
            if self.private is None:  # one that exists stays as it is
                self.private = bool(json.loads(body).get("private"))
            return {"url": f"{self.endpoint}/you/colours"}
        if path.startswith("/api/models/you/colours/preupload/"):
            return {
                "files": [{**one, "uploadMode": "regular", "shouldIgnore": False} for one in json.loads(body)["files"]]
            }
        if path.startswith("/api/models/you/colours/commit/"):
            for line in body.splitlines():
                found = json.loads(line)
                if found["key"] == "file":
                    self.files[found["value"]["path"]] = base64.b64decode(found["value"]["content"])
            return {"commitUrl": COMMIT, "commitOid": "1" * 40}
        return {} if path == "/api/validate-yaml" else None

    def get(self, path: str) -> bytes | None:
        """Return what lies at a path."""
        if path == "/api/models/you/colours":
            return json.dumps({"id": "you/colours", "private": self.private}).encode()
        if path.startswith("/api/models/you/colours/revision/"):
            siblings = [{"rfilename": name} for name in self.files]
            return json.dumps({"id": "you/colours", "sha": "1" * 40, "siblings": siblings}).encode()
        return self.files.get(path.removeprefix(f"/you/colours/resolve/{'1' * 40}/"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Run a Hub, and use a cache of its own."""
    found = Hub()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _reply(self, body: bytes | None, send: bool = True) -> None:
            found.tokens.add(self.headers["Authorization"])
            self.send_response(404 if body is None else 200)
            body = b"" if body is None else body
            for name, value in (
                ("Content-Length", len(body)),
                ("ETag", f'"{hashlib.sha1(body).hexdigest()}"'),
                ("X-Repo-Commit", "1" * 40),
            ):
                self.send_header(name, str(value))
            self.end_headers()
            if send:
                self.wfile.write(body)

        def do_GET(self) -> None:
            self._reply(found.get(self.path.partition("?")[0]))

        def do_HEAD(self) -> None:
            self._reply(found.get(self.path.partition("?")[0]), send=False)

        def do_POST(self) -> None:
            reply = found.post(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self._reply(None if reply is None else json.dumps(reply).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found.endpoint = f"http://127.0.0.1:{server.server_port}"
        yield found
        server.shutdown()


def test_a_file_comes_back_as_it_went(pair: Path, hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    """Byte for byte, with its card; golden inputs in a public repository are worth a warning."""
    caplog.set_level(logging.WARNING)
    found = push_to_hub(pair / "local.onnx", "you/colours", token="hf_secret", endpoint=hub.endpoint)
    assert found == COMMIT
    assert [one.name for one in caplog.records] == ["edgecascade.export.hub"]
    assert set(hub.files) == {"local.onnx", "README.md"}
    assert hub.tokens == {"Bearer hf_secret"}
    path = from_hub("you/colours", endpoint=hub.endpoint)
    assert path.read_bytes() == (pair / "local.onnx").read_bytes()
    images = np.load(pair / "test.npz")["x"][:20]
    with Cascade.load(path) as there, Cascade.load(pair / "local.onnx") as here:
        assert there.decide(images).label.tolist() == here.decide(images).label.tolist()


def test_a_private_repository_needs_no_warning(pair: Path, hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    """It is made as a private one."""
    caplog.set_level(logging.WARNING)
    push_to_hub(pair / "local.onnx", "you/colours", private=True, card="Mine.", endpoint=hub.endpoint)
    assert (hub.private, caplog.records, hub.files["README.md"]) == (True, [], b"Mine.")


def test_a_repository_that_is_public_stays_so(pair: Path, hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    """Golden inputs are public there, whatever is asked for."""
    hub.private = False
    caplog.set_level(logging.WARNING)
    push_to_hub(pair / "local.onnx", "you/colours", private=True, endpoint=hub.endpoint)
    assert [one.name for one in caplog.records] == ["edgecascade.export.hub"]


def test_only_files_of_its_folder_go_with_a_file(tmp_path: Path) -> None:
    """One that names a tokenizer elsewhere takes nothing from there, as when it is loaded."""
    text = TextPreprocessing("../elsewhere/tokenizer.json", "0" * 64, 64, ("input_ids",))
    document: Any = SimpleNamespace(preprocessing=text)
    assert _beside(tmp_path / "local.onnx", document) == [tmp_path / "tokenizer.json"]


def test_a_tokenizer_goes_with_the_file(hub: Hub, tmp_path: Path) -> None:
    """And comes back beside it, so that the cascade takes sentences."""
    mood_files(tmp_path)
    labels = np.load(tmp_path / "cal.npz")["y"]
    np.save(tmp_path / "remote.npy", np.eye(2)[labels] * 4 + np.random.default_rng(0).gumbel(size=(len(labels), 2)))
    arguments = ["calibrate", "body.onnx", "--data", "cal.npz", "--remote", "remote.npy", "-o", "out/local.onnx"]
    places = [str(tmp_path / one) if one.endswith((".onnx", ".npz", ".npy")) else one for one in arguments]
    assert main([*places, "--offload-rate", "0.3", "--no-golden"]) == 0
    push_to_hub(tmp_path / "out" / "local.onnx", "you/colours", endpoint=hub.endpoint)
    assert set(hub.files) == {"local.onnx", "tokenizer.json", "README.md"}
    assert "pipeline_tag: text-classification\n" in hub.files["README.md"].decode()
    with Cascade.load(from_hub("you/colours", endpoint=hub.endpoint)) as cascade:
        assert cascade.predict("I love this great film.").name in MOODS


def test_the_card_has_the_figures_of_the_document(pair: Path, tmp_path: Path) -> None:
    """The Hub reads its metadata; that of a general task says how to use its outputs."""
    text = model_card(pair / "local.onnx", "you/colours", license="apache-2.0")
    card: Any = ModelCard(text)
    assert card.data.to_dict() == {
        "license": "apache-2.0",
        "library_name": "edgecascade",
        "tags": card.data.tags,
        "pipeline_tag": "image-classification",
    }
    with Cascade.load(pair / "local.onnx") as cascade:
        document = cascade.document
    for part in (
        document.calibration.accuracy.percent(),
        document.policy.objective,
        *document.labels,
        *document.policy.advice,
    ):
        assert part in text
    assert "answer.outputs" in model_card(twice_file(tmp_path), "you/twice")


def test_of_several_files_one_is_named(pair: Path, hub: Hub, tmp_path: Path) -> None:
    """A repository without a cascade file is refused, and a missing file."""
    shutil.copy(pair / "local.onnx", tmp_path / "other.onnx")
    for file in (pair / "local.onnx", tmp_path / "other.onnx"):
        push_to_hub(file, "you/colours", private=True, endpoint=hub.endpoint)
    found = from_hub("you/colours", file="other.onnx", endpoint=hub.endpoint, folder=tmp_path / "there")
    assert found == tmp_path / "there" / "other.onnx"
    for wanted in (None, "missing.onnx"):
        with pytest.raises(ExportError, match=r"local\.onnx, other\.onnx"):
            from_hub("you/colours", file=wanted, endpoint=hub.endpoint)
    hub.files = {"notes.txt": b"nothing"}
    with pytest.raises(ExportError, match="none"):
        from_hub("you/colours", endpoint=hub.endpoint, folder=tmp_path / "empty")


def test_failures_are_one_sentence(pair: Path, hub: Hub) -> None:
    """Of a Hub that refuses or is not there, and of another file than a cascade file."""
    with pytest.raises(ExportError, match=r"^you/none: ") as raised:
        push_to_hub(pair / "local.onnx", "you/none", private=True, endpoint=hub.endpoint)
    assert "\n" not in str(raised.value)
    with pytest.raises(ExportError, match=r"^you/none: "):
        from_hub("you/none", endpoint=hub.endpoint)
    with pytest.raises(ModelFileError):
        push_to_hub(pair / "remote.onnx", "you/colours", endpoint=hub.endpoint)
    assert hub.files == {}
