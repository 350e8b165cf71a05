"""A remote's scores are stored as they arrive, and reused only for the same data and remote."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.benchmarks.offload.remote_scores import complete_scores, stored_scores
from edgecascade.benchmarks.stored import CHUNK, StoredRows
from edgecascade.export.data import LabelledData
from edgecascade.runtime import Deadline, RemoteError, RemoteLabels
from edgecascade.types.errors import BenchmarkError

N = 2 * CHUNK + 40
DATA = LabelledData(np.arange(3 * N, dtype=np.float32).reshape(N, 3), np.zeros(N, np.int64), (), "digest")


class Failing:
    """A remote that records its calls and fails after a number of inputs."""

    def __init__(self, after: int) -> None:
        self.after, self.asked, self.closed = after, 0, False

    def infer(self, inputs: Any, deadline: Deadline) -> NDArray[Any]:  # noqa: ARG002
        """Return the input, or fail."""
        self.asked += len(inputs)
        if self.asked > self.after:
            raise RemoteError("out of order")
        return np.asarray(inputs)

    def close(self) -> None:
        """Note that the remote was closed."""
        self.closed = True


def _stored(folder: Path, data: LabelledData = DATA, remote: str = "http://a/v2/b", classes: int = 3) -> StoredRows:
    return stored_scores(folder, data, remote, classes)


@pytest.mark.parametrize("after", [0, CHUNK - 1, CHUNK + 50, 2 * CHUNK + 10])
def test_an_interrupted_run_resumes(tmp_path: Path, after: int) -> None:
    """Complete chunks are not requested again, and the scores equal those of one run."""
    stored, whole = _stored(tmp_path), after // CHUNK * CHUNK
    with pytest.raises(BenchmarkError, match=r"remote: it failed after \d+ inputs: out of order"):
        complete_scores(stored, Failing(after), DATA.inputs)
    assert stored.done == whole
    second = Failing(N)
    seen: list[int] = []
    scores = complete_scores(_stored(tmp_path), second, DATA.inputs, progress=seen.append)
    np.testing.assert_array_equal(scores, DATA.inputs)
    assert second.asked == sum(seen) == N - whole
    assert not second.closed  # the caller closes it
    third = Failing(0)
    np.testing.assert_array_equal(complete_scores(_stored(tmp_path), third, DATA.inputs), DATA.inputs)
    assert third.asked == 0


def test_scores_belong_to_one_data_set_and_one_remote(tmp_path: Path) -> None:
    """With other data, address, number of classes, or content of the file, nothing is reused."""
    complete_scores(_stored(tmp_path), Failing(N), DATA.inputs)
    assert _stored(tmp_path).done == N
    assert _stored(tmp_path, replace(DATA, digest="other")).done == 0
    assert _stored(tmp_path, remote="http://a/v2/c").done == 0
    assert _stored(tmp_path, classes=4).done == 0
    file = tmp_path / "remote.onnx"
    file.write_bytes(b"one")
    complete_scores(_stored(tmp_path, remote=str(file)), Failing(N), DATA.inputs)
    assert _stored(tmp_path, remote=str(file)).done == N
    file.write_bytes(b"two")
    assert _stored(tmp_path, remote=str(file)).done == 0


def test_removed_scores_are_requested_again(tmp_path: Path) -> None:
    """The scores of other remotes stay."""
    for remote in ("http://a/v2/b", "http://a/v2/c"):
        complete_scores(_stored(tmp_path, remote=remote), Failing(N), DATA.inputs)
    _stored(tmp_path).clear()
    assert _stored(tmp_path).done == 0
    assert _stored(tmp_path, remote="http://a/v2/c").done == N


@pytest.mark.parametrize("damage", [b"", b"no array", None])
def test_a_damaged_file_ends_in_one_sentence(tmp_path: Path, damage: bytes | None) -> None:
    """The error names the file and the remedy."""
    stored = _stored(tmp_path)
    complete_scores(stored, Failing(N), DATA.inputs)
    file = min(stored.folder.iterdir())
    if damage is None:
        np.save(file, np.zeros((3, 3)))
    else:
        file.write_bytes(damage)
    with pytest.raises(BenchmarkError, match=rf"{file.name}: damaged; remove it or use --fresh"):
        complete_scores(stored, Failing(N), DATA.inputs)


def test_predictions_become_probabilities_and_other_shapes_are_refused(tmp_path: Path) -> None:
    """A remote that returns only a label and a confidence is accepted; one with other classes is refused."""

    def opinions(inputs: NDArray[Any]) -> Any:
        return RemoteLabels(np.ones(len(inputs), np.int64), np.full(len(inputs), 0.8))

    scores = complete_scores(_stored(tmp_path), opinions, DATA.inputs)
    np.testing.assert_allclose(scores, [[0.1, 0.8, 0.1]] * N)
    with pytest.raises(BenchmarkError, match=r"remote: expected scores \[32, 4\], got \[32, 3\]"):
        complete_scores(_stored(tmp_path, classes=4), lambda x: x, DATA.inputs)
