"""Inputs are read from files, and an image gives the same pixels in every form."""

import io
import logging
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edgecascade.runtime import Cascade, InputError
from edgecascade.runtime.inputs import MOST_PIXELS, image_files, read_image, read_inputs

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)


def test_an_image_becomes_uint8_rgb(tmp_path: Path) -> None:
    """The mode in which it was saved does not matter."""
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), PIXELS)
    Image.fromarray(PIXELS[..., 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.repeat(PIXELS[..., :1], 3, axis=2))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return the bytes of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(header: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG of chunks, written without Pillow."""
    parts = ((b"IHDR", header), *chunks, (b"IEND", b""))
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def png_16(levels: NDArray[np.uint16], colour: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG of 16 bits per channel from levels [height, width, channels]."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    header = struct.pack(">IIBBBBB", levels.shape[1], levels.shape[0], 16, colour, 0, 0, 0)
    return png(header, *chunks, (b"IDAT", zlib.compress(rows)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_path_bytes_and_a_pil_image_give_the_same_pixels(tmp_path: Path, kind: str, orientation: int) -> None:
    """Each is turned upright, whatever the orientation in its EXIF data."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encoded(Image.fromarray(PIXELS), kind, exif=exif)
    (tmp_path / "photo").write_bytes(file)
    pixels = read_image(file)
    assert pixels.shape == ((4, 6, 3) if orientation < 5 else (6, 4, 3))
    np.testing.assert_array_equal(read_image(tmp_path / "photo"), pixels)
    with Image.open(tmp_path / "photo") as image:
        np.testing.assert_array_equal(read_image(image), pixels)
    if kind == "PNG":
        turned = {1: PIXELS, 2: PIXELS[:, ::-1], 3: PIXELS[::-1, ::-1], 4: PIXELS[::-1], 5: PIXELS.swapaxes(0, 1)}
        turned |= {6: np.rot90(PIXELS, -1), 7: np.rot90(PIXELS.swapaxes(0, 1), 2), 8: np.rot90(PIXELS)}
        np.testing.assert_array_equal(pixels, turned[orientation])


def test_of_16_bits_the_upper_8_are_taken() -> None:
    """Grey, colour and alpha agree; a ramp over all levels keeps its 256 steps, and is not cut to white."""
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    wanted = np.repeat((ramp >> 8).astype(np.uint8), 3, axis=2)
    opaque = np.full_like(ramp, 65535)
    for levels, colour in ((ramp, 0), (np.repeat(ramp, 3, axis=2), 2), (np.concatenate([ramp, opaque], axis=2), 4)):
        np.testing.assert_array_equal(read_image(png_16(levels, colour)), wanted)
    for order in ("<u2", ">u2"):
        np.testing.assert_array_equal(read_image(Image.fromarray(ramp[..., 0].astype(order))), wanted)
    file = encoded(Image.fromarray(ramp[..., 0]), "TIFF")
    np.testing.assert_array_equal(read_image(file), wanted)
    photometric = struct.pack("<HHII", 262, 3, 1, 1)
    assert photometric in file
    np.testing.assert_array_equal(
        read_image(file.replace(photometric, struct.pack("<HHII", 262, 3, 1, 0))), 255 - wanted
    )


def test_numbers_without_a_known_range_are_refused() -> None:
    """Of 32 bits, nothing says which number is white."""
    for kind in (np.int32, np.float32):
        image = Image.fromarray(np.ones((4, 4), kind))
        for form in (image, encoded(image, "TIFF")):
            with pytest.raises(InputError, match=r"^x: expected 8 or 16 bits per channel, got 32; convert the image"):
                read_image(form)


def test_what_is_transparent_shows_a_white_background() -> None:
    """The colour that a program left under it does not show, however the file stores transparency."""
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0], rgba[0, 1], rgba[1, 0], rgba[1, 1] = (255, 0, 0, 0), (0, 0, 255, 255), (0, 255, 0, 51), (9, 8, 7, 255)
    alpha = rgba[..., 3:] / 255
    wanted = np.rint(rgba[..., :3] * alpha + 255 * (1 - alpha))
    for form in (Image.fromarray(rgba), encoded(Image.fromarray(rgba)), encoded(Image.fromarray(rgba), "TIFF")):
        np.testing.assert_array_equal(read_image(form), wanted)
    grey = np.array([[[200, 0], [100, 255]]], np.uint8)
    assert read_image(encoded(Image.fromarray(grey, "LA")))[0, :, 0].tolist() == [255, 100]
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    for kind in ("PNG", "GIF"):
        assert read_image(encoded(palette, kind, transparency=0)).tolist() == [[[255, 255, 255], [0, 0, 255]]]
    wide = png_16(np.array([[[700], [44 << 8]]], np.uint16), 0, (b"tRNS", struct.pack(">H", 700)))
    assert read_image(wide)[0, :, 0].tolist() == [255, 44]


def test_an_image_that_unpacks_to_gigabytes_is_refused_by_its_header() -> None:
    """The pixels are not decoded: here they are damaged, and the error is about the size all the same."""
    for width, height in ((16_384, 10_560), (1 << 27, 1), (30_000, 30_000)):
        bomb = png(struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0), (b"IDAT", b"damaged"))
        with pytest.raises(InputError, match=rf"^x: expected an image of 1 to {MOST_PIXELS} pixels, got "):
            read_image(bomb)
    with pytest.raises(InputError, match=rf"expected an image of 1 to {MOST_PIXELS} pixels, got 8193 x 8192"):
        read_image(png(struct.pack(">IIBBBBB", 8193, 8192, 1, 0, 0, 0, 0), (b"IDAT", b"damaged")))
    with pytest.raises(InputError, match=r"expected an image of 1 to \d+ pixels, got 0 x 5"):
        read_image(Image.new("RGB", (0, 5)))


def test_formats_that_run_programs_are_not_opened() -> None:
    """Pillow would start Ghostscript for this one."""
    with pytest.raises(InputError, match=r"^x: not a readable image: it is none of JPEG, PNG, .*, WEBP$"):
        read_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n")


def test_every_image_of_a_folder_is_read_or_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Endings in upper case count; hidden files do not; what is skipped is logged with its ending."""
    names = ["a.tiff", "B.JPG", "c.GIF", "d.webp", "e.Tif", "f.pgm"]
    hidden = ["._a.png", ".thumbnails/a.png", ".hidden.png", "__MACOSX/a.png"]
    for name in (*names, *hidden):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded(Image.fromarray(PIXELS)))
    for name in ("g.heic", "h.heic", "notes"):
        (tmp_path / name).write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        found = image_files(tmp_path, deep=True)
    assert sorted(file.name for file in found) == sorted(names)
    assert f"{tmp_path}: skipped 3 files that are not images (2 x .heic, 1 x no ending)" in caplog.text


def test_a_batch_takes_images_in_any_form_and_of_any_sizes(pair: Path, tmp_path: Path) -> None:
    """The answers equal those to one image at a time; the remote gets the same originals."""
    sent: list[NDArray[Any]] = []

    def remote(batch: NDArray[Any]) -> NDArray[np.float32]:
        sent.extend(batch)
        return np.zeros((len(batch), 3), np.float32)

    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((8, 8), (5, 9), (8, 8), (20, 4))]
    Image.fromarray(arrays[1]).save(tmp_path / "b.png")
    given = [arrays[0], tmp_path / "b.png", Image.fromarray(arrays[2]), encoded(Image.fromarray(arrays[3]))]
    with Cascade.load(pair / "local.onnx", remote=remote, threshold=1.0, deadline=20) as cascade:
        alone = [cascade.predict(one).local for one in arrays]
        sent.clear()
        together = [answer.local for answer in cascade.predict_batch(given)]
        assert [(one.label, one.confidence) for one in together] == [(one.label, one.confidence) for one in alone]
        assert {one.tobytes() for one in sent} == {one.tobytes() for one in arrays}
        assert len(cascade.predict_batch([str(tmp_path / "b.png")] * 2)) == 2
        with pytest.raises(InputError, match=r"^x\[1\]: cannot read the image: .*none\.png"):
            cascade.predict_batch([arrays[0], "none.png"])
        with pytest.raises(InputError, match=r"^x: expected a list of images or an array \[n, \.\.\.\], got str"):
            cascade.predict_batch("photo.png")


@pytest.mark.parametrize("of", [bytes, bytearray, memoryview])
def test_a_row_of_bytes_is_an_image_file(pair: Path, of: Callable[[bytes], Any]) -> None:
    """Its type does not matter, and pixels are never read from it; a memoryview of an array is that array."""
    file = encoded(Image.fromarray(PIXELS))
    with Cascade.load(pair / "local.onnx") as cascade:
        wanted = cascade.predict(PIXELS).confidence
        for given in (of(file), PIXELS.data):
            assert cascade.predict(given).confidence == wanted
            assert [one.confidence for one in cascade.predict_batch([given, PIXELS])] == [wanted, wanted]
            assert [one.confidence for one in cascade.stream([given])] == [wanted]
        with pytest.raises(InputError, match=r"^x: not a readable image"):
            cascade.predict(of(PIXELS.tobytes()))


def test_no_inputs_have_no_answers(pair: Path, make_file: Callable[..., Path]) -> None:
    """Nothing tells the type of what an empty list would hold, and nothing has to."""
    for file in (pair / "local.onnx", make_file()):
        with Cascade.load(file) as cascade:
            nothing: tuple[Any, ...] = ([], (), np.array([]))
            for none in nothing:
                assert cascade.predict_batch(none) == []
            assert cascade.predict_batch([], keys=[], originals=[]) == []
            assert list(cascade.stream([])) == []


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
