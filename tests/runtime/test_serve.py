"""A real server in a second process, used by a cascade."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from edgecascade.benchmarks.server import serving
from edgecascade.runtime import Cascade, Deadline, OpenInference, Reason, RemoteError

pytestmark = pytest.mark.slow
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def address(pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of `edgecascade serve remote.onnx`."""
    log = tmp_path_factory.mktemp("serve") / "log"
    with serving(pair / "remote.onnx", name="all", threads=1, log=log) as address:
        yield address


def test_it_answers_as_the_file(address: str, pair: Path) -> None:
    """Scores are the same bit for bit in one request, as bytes and as JSON, and within 1e-6 in several."""
    session = ort.InferenceSession(pair / "remote.onnx", providers=["CPUExecutionProvider"])
    (expected,) = session.run(["logits"], {"image": IMAGES})
    remote = OpenInference(address)
    in_json = OpenInference(address)
    in_json._binary = False
    for one in (remote, in_json):
        np.testing.assert_array_equal(one.infer(IMAGES, Deadline.after(10)), expected)
        rows = [one.infer(image[None], Deadline.after(10)) for image in IMAGES]
        np.testing.assert_allclose(np.concatenate(rows), expected, rtol=1e-6)
        one.close()
    assert remote.traffic.sent < in_json.traffic.sent


def test_a_cascade_uses_it_as_a_remote(address: str, pair: Path) -> None:
    """Every input is forwarded over one reused connection and answered."""
    with Cascade.load(pair / "local.onnx", remote=address, deadline=10, threshold=1.0) as cascade:
        assert {answer.reason for answer in cascade.predict_batch(IMAGES)} == {Reason.OFFLOADED}


def test_invalid_requests_are_refused(address: str) -> None:
    """An input of another rank and a missing model have their own errors."""
    remote, missing = OpenInference(address), OpenInference(address.replace("/all", "/none"))
    with pytest.raises(RemoteError, match=r"HTTP 400: .*image"):
        remote.infer(np.zeros((1, 8, 8), np.uint8), Deadline.after(10))
    with pytest.raises(RemoteError, match="HTTP 404"):
        missing.infer(IMAGES, Deadline.after(10))
    remote.close()
    missing.close()
