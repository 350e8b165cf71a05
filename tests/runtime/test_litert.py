"""LiteRT models run with metadata in the same file, the same calls and the same answers."""

import io
import json
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.cli import main
from edgecascade.runtime import Cascade, EdgecascadeError, InputError, ModelFileError, Reason
from edgecascade.runtime.engine import open_session

FILE = Path(__file__).parent / "data" / "colours.tflite"


@pytest.fixture(scope="module")
def images(pair: Path) -> NDArray[np.uint8]:
    """Return photographs of another size than the model's."""
    small = np.load(pair / "test.npz")["x"][:60]
    enlarged: NDArray[np.uint8] = small.repeat(3, axis=1).repeat(2, axis=2)
    return enlarged


def test_it_gives_the_decisions_of_the_onnx_file(pair: Path, images: NDArray[Any]) -> None:
    """Images of any size are resized first."""
    with Cascade.load(FILE) as lite, Cascade.load(pair / "local.onnx") as onnx:
        answers, wanted = lite.predict_batch(images), onnx.predict_batch(images)
    assert {a.reason for a in wanted} == {Reason.CONFIDENT, Reason.OFFLINE}
    for one, other in zip(answers, wanted, strict=True):
        assert (one.name, one.reason, one.advantage) == (other.name, other.reason, other.advantage)
        assert one.confidence == pytest.approx(other.confidence, abs=1e-5)


def test_the_remote_is_sent_the_original_image(images: NDArray[Any]) -> None:
    """The model's resized image is not sent."""
    seen = []

    def remote(x: NDArray[Any]) -> NDArray[Any]:
        seen.append(x)
        return np.tile(np.array([0.0, 9.0, 0.0], np.float32), (len(x), 1))

    with Cascade.load(FILE, remote=remote) as cascade:
        answers = cascade.predict_batch(images)
    (sent,) = seen
    assert len(sent) == sum(a.reason is Reason.OFFLOADED for a in answers) > 0
    assert sent.shape[1:] == images.shape[1:]


def test_another_threshold_overrides_the_one_of_the_file(images: NDArray[Any]) -> None:
    """The file has no such input."""
    for threshold, forwarded in ((-2.0, 0), (2.0, len(images))):
        answers = Cascade.load(FILE, threshold=threshold).predict_batch(images)
        assert sum(a.reason is not Reason.CONFIDENT for a in answers) == forwarded


def test_threads_share_the_interpreter(images: NDArray[Any]) -> None:
    """Each gets the answers of a single thread."""
    cascade = Cascade.load(FILE)
    wanted = [a.confidence for a in cascade.predict_batch(images)]
    found: dict[int, list[float]] = {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: [cascade.predict(x).confidence for x in images]}))
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(4), wanted)


def test_invalid_inputs_are_refused() -> None:
    """The errors are those of any other file."""
    with pytest.raises(InputError, match=r"x: expected uint8 \[height, width, 3\] per input, got float32 \[8, 8, 3\]"):
        Cascade.load(FILE).predict(np.zeros((8, 8, 3), np.float32))
    with pytest.raises(ModelFileError, match=r"providers: expected CPUExecutionProvider for a \.tflite file, got CUDA"):
        Cascade.load(FILE, providers=["CUDAExecutionProvider"])


def test_the_commands_of_a_device_accept_litert_files(capsys: pytest.CaptureFixture[str]) -> None:
    """The commands are `inspect`, `inspect --verify` and `run`."""
    assert main(["inspect", str(FILE)]) == 0
    assert "input       image: uint8 [1, height, width, 3]" in capsys.readouterr().out
    assert main(["inspect", str(FILE), "--verify", "--tolerance", "1e-5"]) == 0
    assert capsys.readouterr().out.startswith("LiteRT: 8 golden inputs decided as expected")


def _with(entries: dict[str, bytes]) -> bytes:
    """Return the file's flatbuffer followed by other metadata."""
    content = FILE.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        start = min(entry.header_offset for entry in archive.infolist())
        kept = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    file = io.BytesIO(content[:start])
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, text in {**kept, **entries}.items():
            archive.writestr(name, text)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (lambda: FILE.read_bytes()[:-40], "it has no metadata"),
        (lambda: b"", "it has no metadata"),
        (lambda: _with({"edgecascade": b"{"}), "metadata is damaged"),
        (lambda: _with({"edgecascade": b"\xff"}), "metadata is damaged"),
        (lambda: _with({"edgecascade": b"[" * 10**6}), "metadata is damaged"),
        (lambda: _with({"edgecascade": json.dumps({"format": 99}).encode()}), "format version is 99"),
        (lambda: _with({"edgecascade.preprocessing": b'{"height": "tall"}'}), "metadata is damaged"),
        (lambda: _with({"edgecascade.preprocessing": b"[]" * 3}), "metadata is damaged"),
        (lambda: _with({"edgecascade.golden": bytes(1 << 26)}), "expected at most"),
        (lambda: _with({f"entry{i}": b"" for i in range(99)}), "expected at most"),
        (lambda: b"nothing" + _with({})[7:], "LiteRT cannot load it"),
    ],
)
def test_damaged_files_are_refused_in_one_sentence(tmp_path: Path, content: Callable[[], bytes], sentence: str) -> None:
    """Any damage and any stated size are handled."""
    path = tmp_path / "bad.tflite"
    path.write_bytes(content())
    with pytest.raises(EdgecascadeError, match=sentence) as refusal:
        open_session(path)
    assert "\n" not in str(refusal.value)
