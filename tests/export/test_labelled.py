"""Labelled data is read from the formats that users have."""

import gc
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from edgecascade.export import ExportError, read_labelled
from edgecascade.export.data import batches, each
from edgecascade.types.errors import EdgecascadeError

X = np.arange(24, dtype=np.float32).reshape(4, 6)
Y = np.array([0, 2, 1, 2])


def test_an_archive_holds_inputs_labels_and_optional_names(tmp_path: Path) -> None:
    """Labels are integers of any type, and names are text."""
    np.savez(tmp_path / "d.npz", x=X, y=Y.astype(np.uint8), names=np.array(["a", "b", "c"]))
    data = read_labelled(tmp_path / "d.npz")
    np.testing.assert_array_equal(data.inputs, X)
    np.testing.assert_array_equal(data.labels, Y)
    assert data.labels.dtype == np.int64
    assert data.names == ("a", "b", "c")
    np.savez(tmp_path / "e.npz", x=X, y=Y)
    assert read_labelled(tmp_path / "e.npz").names == ()


def test_other_arrays_of_an_archive_are_read_by_name(tmp_path: Path) -> None:
    """They are no inputs, and the digest is that of inputs and labels."""
    np.savez(tmp_path / "d.npz", ids=X, mask=X, y=Y, weight=np.ones(4))
    data = read_labelled(tmp_path / "d.npz", ("weight",))
    assert isinstance(data.inputs, dict)
    assert data.inputs.keys() == {"ids", "mask"}
    np.testing.assert_array_equal(data.columns["weight"], np.ones(4))
    np.savez(tmp_path / "e.npz", ids=X, mask=X, y=Y)
    assert read_labelled(tmp_path / "e.npz").digest == data.digest
    with pytest.raises(ExportError, match=r"e.npz: expected the array weight beside inputs and labels, got none"):
        read_labelled(tmp_path / "e.npz", ("weight",))


def test_class_folders_give_the_labels(tmp_path: Path) -> None:
    """Classes are numbered in the order of their folders' names; images of different sizes stay a list."""
    for name, grey in (("cat/1.png", 10), ("cat/2.png", 20), ("ant/1.png", 30)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (grey,) * 3).save(tmp_path / name)
    data = read_labelled(tmp_path)
    assert data.names == ("ant", "cat")
    assert [(int(image[0, 0, 0]), int(label)) for image, label in zip(data.inputs, data.labels, strict=True)] == [
        (30, 0),
        (10, 1),
        (20, 1),
    ]
    Image.new("RGB", (5, 4)).save(tmp_path / "ant" / "2.png")
    assert [image.shape for image in each(read_labelled(tmp_path).inputs)][:2] == [(4, 4, 3), (4, 5, 3)]


def test_hidden_folders_are_no_classes_and_hidden_files_no_images(tmp_path: Path) -> None:
    """Notebooks, file managers and archivers leave them; they would move the numbers of all classes behind them."""
    for name in ("cat/1.PNG", "ant/1.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    for name in (".ipynb_checkpoints/1.png", "__MACOSX/1.png", "cat/._1.PNG", "ant/.thumbnails/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no image")
    data = read_labelled(tmp_path)
    assert data.names == ("ant", "cat")
    assert data.labels.tolist() == [0, 1]


def test_images_outside_the_folders_of_classes_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They have no label, so they are left out, but not without a word."""
    for name in ("cat/1.png", "ant/1.png", "stray.png", "cat/2024/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    assert read_labelled(tmp_path).labels.tolist() == [0, 1]
    assert "skipped 2 images that are not directly in the folder of a class" in caplog.text


def test_a_file_of_another_kind_is_refused_without_unsafe_advice(tmp_path: Path) -> None:
    """NumPy takes any file for a pickle, and says how to load it."""
    for name in ("d.npz", "d.txt"):
        (tmp_path / name).write_text("label,x\n")
        assert "it has pickled objects, or is another kind of file" in refusal(tmp_path / name)


def test_the_digest_covers_inputs_and_labels(tmp_path: Path) -> None:
    """Equal data have equal digests, and one changed, added or removed number changes the digest."""
    digests = []
    for x, y in ((X, Y), (X, Y), (X + 1, Y), (X, Y[::-1])):
        np.savez(tmp_path / "d.npz", x=x, y=y)
        digests.append(read_labelled(tmp_path / "d.npz").digest)
    assert len(set(digests)) == 3
    assert digests[0] == digests[1]


@pytest.mark.parametrize("other", [X.reshape(4, 2, 3), X.view(np.int32)], ids=["shape", "type"])
def test_the_digest_covers_shapes_and_types(tmp_path: Path, other: NDArray[Any]) -> None:
    """The same bytes in another shape or type have another digest."""
    digests = []
    for x in (X, other):
        np.savez(tmp_path / "d.npz", x=x, y=Y)
        digests.append(read_labelled(tmp_path / "d.npz").digest)
    assert digests[0] != digests[1]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, r"expected the arrays `x` \[n, ...\] and `y` \[n\], got \['x'\]"),
        ({"z": X}, r"got \['z'\]"),
        ({"y": Y}, r"got \['y'\]"),
        ({}, r"got no arrays"),
        ({"x": X, "y": Y[:3]}, r"integer labels or class names `y` \[4\], one per input in `x`, got int64 \[3\]"),
        ({"x": X, "y": Y * 1.0}, r"got float64 \[4\]"),
        ({"x": X, "y": Y[:, None]}, r"got int64 \[4, 1\]"),
        ({"x": X[:0], "y": Y[:0]}, r"got int64 \[0\]"),
        ({"x": np.array([print] * 4, object), "y": Y}, r"not an npz file of plain arrays"),
        ({"x": X, "y": Y, "names": np.array([print], object)}, r"not an npz file of plain arrays"),
        ({"x": X, "y": np.int64(1)}, r"got int64 \[\]"),
        ({"x": X, "y": Y > 0}, r"got bool \[4\]"),
        pytest.param({"x": np.float32(1), "y": Y}, r"`x` \[n, \.\.\.\]"),
        pytest.param({"x": X, "y": Y, "names": "abc"}, r"names"),
    ],
)
def test_an_invalid_archive_is_refused(tmp_path: Path, arrays: dict[str, object], message: str) -> None:
    """The error names the file, and code in the file is not run."""
    np.savez(tmp_path / "d.npz", allow_pickle=True, **arrays)  # type: ignore[arg-type]
    with pytest.raises(ExportError, match=rf"d\.npz: .*{message}"):
        read_labelled(tmp_path / "d.npz")


@contextmanager
def collecting() -> Iterator[list[warnings.WarningMessage]]:
    """Collect garbage at the end, so that files left open cause a warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        yield caught
        gc.collect()


def refusal(path: Path) -> str:
    """Return the message of the error."""
    with pytest.raises(ExportError) as found:
        read_labelled(path)
    return str(found.value)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_archive_is_refused(tmp_path: Path, share: float) -> None:
    """The error names the file."""
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    whole = (tmp_path / "d.npz").read_bytes()
    (tmp_path / "d.npz").write_bytes(whole[: int(share * len(whole))])
    with collecting():
        assert re.search(r"d\.npz: not an npz file of plain arrays: .+$", refusal(tmp_path / "d.npz"))


def test_a_refused_archive_is_closed(tmp_path: Path) -> None:
    """The file can be written again afterwards, also on Windows."""
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    (tmp_path / "d.npz").write_bytes((tmp_path / "d.npz").read_bytes()[:-1])
    with collecting() as left_open:
        refusal(tmp_path / "d.npz")
    assert not left_open


def test_an_array_alone_is_refused(tmp_path: Path) -> None:
    """An array without labels is refused."""
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(ExportError, match=r"x\.npy: not an npz file"):
        read_labelled(tmp_path / "x.npy")


@pytest.mark.parametrize(
    "error",
    [
        EdgecascadeError,
        pytest.param(ExportError),
    ],
)
def test_an_invalid_image_is_refused(tmp_path: Path, error: type[Exception]) -> None:
    """The error names the image, not only the folder."""
    (tmp_path / "ant").mkdir()
    (tmp_path / "ant" / "1.png").write_bytes(b"no image")
    with pytest.raises(error, match=r"1\.png: not a readable image: "):
        read_labelled(tmp_path)


def test_other_paths_are_refused(tmp_path: Path) -> None:
    """A missing path, another kind of file, and a folder without images are refused."""
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    (tmp_path / "read").mkdir()
    (tmp_path / "read" / "1.txt").write_text("hello")
    for name, message in (
        ("read", "one folder of images for each class .* see --task"),
        ("gone", "no such file"),
        ("notes.txt", "not an npz"),
        ("empty", "one folder of images for each class"),
    ):
        with pytest.raises(ExportError, match=message):
            read_labelled(tmp_path / name)


@given(st.integers(0, 30), st.integers(1, 7))
def test_batches_of_one_array_are_its_slices(n: int, size: int) -> None:
    """All batches but the last are full, and together they are the array."""
    inputs = np.arange(3 * n).reshape(n, 3)
    found = list(batches(inputs, size))
    assert [len(batch) for batch in found] == [size] * (n // size) + [n % size] * (n % size > 0)
    np.testing.assert_array_equal(np.concatenate([inputs[:0], *found]), inputs)


@given(st.lists(st.integers(1, 3), max_size=30), st.integers(1, 7))
def test_batches_hold_every_input_once_and_in_order(sides: list[int], size: int) -> None:
    """A batch holds at most the given number of inputs, all of one shape."""
    inputs = [np.full((side, 2), i) for i, side in enumerate(sides)]
    found = [np.asarray(batch) for batch in batches(inputs, size)]
    assert all(1 <= len(batch) <= size for batch in found)
    assert [int(row[0, 0]) for batch in found for row in batch] == list(range(len(sides)))
    assert [row.shape[0] for batch in found for row in batch] == sides


def test_a_folder_of_arrays_is_refused_with_the_file_to_name(tmp_path: Path) -> None:
    """It has no folders of images."""
    np.savez(tmp_path / "calibration.npz", x=np.zeros((2, 3), np.float32), y=np.arange(2))
    with pytest.raises(ExportError, match=r"one folder of images .*; to read an array file in it, name it: .*/calib"):
        read_labelled(tmp_path)
