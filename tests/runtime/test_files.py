"""Inputs are read from files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecascade.runtime import InputError
from edgecascade.runtime.files import read_image, read_inputs

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)


def test_an_image_becomes_uint8_rgb(tmp_path: Path) -> None:
    """The mode in which it was saved does not matter."""
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), PIXELS)
    Image.fromarray(PIXELS[..., 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.repeat(PIXELS[..., :1], 3, axis=2))


def test_a_photo_is_rotated_by_its_exif_orientation(tmp_path: Path) -> None:
    """The model sees it upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(PIXELS, -1))


def test_a_folder_is_read_in_order_of_names(tmp_path: Path) -> None:
    """Only images are read, including those in subfolders."""
    (tmp_path / "b").mkdir()
    for name in ("c.png", "a.bmp", "b/d.PNG"):
        Image.fromarray(PIXELS).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    assert [name for name, _ in read_inputs(tmp_path)] == [str(tmp_path / n) for n in ("a.bmp", "b/d.PNG", "c.png")]


def test_arrays_are_read_one_by_one(tmp_path: Path) -> None:
    """Arrays come from .npy files, and from `x` in .npz files."""
    np.save(tmp_path / "a.npy", PIXELS)
    np.savez(tmp_path / "b.npz", x=PIXELS)
    for file in ("a.npy", "b.npz"):
        found = dict(read_inputs(tmp_path / file))
        assert list(found) == [f"{tmp_path / file}[{i}]" for i in range(4)]
        np.testing.assert_array_equal(np.stack(list(found.values())), PIXELS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.png", None, "no such file or folder"),
        ("bad.jpg", b"no jpeg", "not a readable image"),
        ("a.csv", b"text", "expected an image"),
        ("a.npy", b"no array", "cannot read an array"),
        ("a.npz", b"no archive", "cannot read an array"),
    ],
)
def test_unreadable_files_are_refused(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    """The error names the file."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: {message}"):
        list(read_inputs(tmp_path / name))


def test_pickled_arrays_are_not_loaded(tmp_path: Path) -> None:
    """Pickles are refused without loading; so are a scalar and an archive without `x`."""
    np.save(tmp_path / "objects.npy", np.array([print], object), allow_pickle=True)
    np.save(tmp_path / "number.npy", 7)
    np.savez(tmp_path / "other.npz", y=PIXELS)
    for name in ("objects.npy", "number.npy", "other.npz"):
        with pytest.raises(InputError, match=name):
            list(read_inputs(tmp_path / name))


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    """The error lists the supported formats."""
    with pytest.raises(InputError, match=r"expected images \(\.bmp, "):
        list(read_inputs(tmp_path))
