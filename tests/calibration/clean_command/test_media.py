"""What is shown of an input: images, texts, and links."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgecascade.calibration.commands.clean.media import open_inputs
from edgecascade.types.errors import CalibrationError


def image_of(uri: str | None) -> Any:
    """Return the image in a data URI."""
    assert uri is not None
    assert uri.startswith("data:image/webp;base64,")
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


def test_large_images_are_made_small(tmp_path: Path) -> None:
    """The longer side has 320 pixels, photographs are upright, and noise takes less than 30 kB: 500 fit in 15 MB."""
    noise = np.random.default_rng(0).integers(0, 256, (500, 400, 3), np.uint8)
    smooth = np.linspace(0, 255, 400 * 500).reshape(500, 400).astype(np.uint8)
    np.save(tmp_path / "noise.npy", noise[None])
    exif = Image.Exif()
    exif[274] = 6  # a quarter turn
    Image.fromarray(smooth).save(tmp_path / "turned.jpg", exif=exif)
    uri = open_inputs(str(tmp_path / "noise.npy"), (), 1).shown(0, tmp_path).image
    assert uri is not None
    assert len(uri) < 30_000
    turned = image_of(open_inputs(str(tmp_path), ("turned.jpg",), 1).shown(0, tmp_path).image)
    assert turned.size == (320, 256)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16", "CMYK", "1", "LA"])
def test_images_of_every_kind_are_shown(tmp_path: Path, mode: str) -> None:
    """Grey, transparent, indexed, 16-bit and printer's colours become RGB; what is transparent is white."""
    name = "image.tiff" if mode in ("CMYK", "I;16") else "image.png"
    grey = np.full((20, 30), 200 << 8 if mode == "I;16" else 200, np.uint16 if mode == "I;16" else np.uint8)
    image = (
        Image.fromarray(grey)
        if mode == "I;16"
        else Image.fromarray(grey).convert("RGBA" if mode == "LA" else "RGB").convert(mode)
    )
    if mode in ("RGBA", "LA"):
        image.putalpha(0)
    image.save(tmp_path / name)
    shown = image_of(open_inputs(str(tmp_path), (name,), 1).shown(0, tmp_path).image)
    assert shown.size == (30, 20)
    pixel = np.asarray(shown.convert("RGB"))[0, 0]
    expected = 255 if mode in ("RGBA", "LA", "1") else 200
    assert np.abs(pixel.astype(int) - expected).max() <= 4


def test_small_images_keep_their_pixels(tmp_path: Path) -> None:
    """Images of 64 pixels or less are stored without loss, grey ones too."""
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "images.npz", x=images)
    np.save(tmp_path / "grey.npy", images[..., 0])
    shown = image_of(open_inputs(str(tmp_path / "images.npz"), (), 2).shown(1, tmp_path).image)
    np.testing.assert_array_equal(np.asarray(shown.convert("RGB")), images[1])
    grey = image_of(open_inputs(str(tmp_path / "grey.npy"), (), 2).shown(1, tmp_path).image)
    np.testing.assert_array_equal(np.asarray(grey.convert("RGB"))[..., 1], images[1, ..., 0])


def test_tables_hold_texts_or_encoded_images(tmp_path: Path) -> None:
    """Images may be bytes, or structures as Hugging Face's data sets have them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(content, "PNG")
    encoded = content.getvalue()
    for name, values in {"image": [{"bytes": encoded, "path": None}] * 2, "text": ["one", "two"]}.items():
        pq.write_table(pa.table({name: values}), tmp_path / f"{name}.parquet")
    assert image_of(open_inputs(str(tmp_path / "image.parquet"), (), 2).shown(0, tmp_path).image).size == (8, 6)
    assert open_inputs(str(tmp_path / "text.parquet"), (), 2).shown(1, tmp_path).text == "two"


def test_ids_alone_may_be_texts_paths_or_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they are is told from whether files of these names exist, and from their endings."""
    monkeypatch.chdir(tmp_path)
    for name in ("a b.wav", "film.mp4", "table.pdf"):
        (tmp_path / name).write_bytes(b"content")
    (tmp_path / "pages").mkdir()
    page = tmp_path / "pages" / "review.html"
    sound = open_inputs(None, ("a b.wav", "film.mp4", "table.pdf"), 3)
    assert [(one.link, one.media) for one in (sound.shown(row, page) for row in range(3))] == [
        ("../a%20b.wav", "audio"),
        ("../film.mp4", "video"),
        ("../table.pdf", ""),
    ]
    address = "https://example.org/x.mp3?a=1"
    assert open_inputs(None, (address,), 1).shown(0, page).link == address
    assert open_inputs(None, ("a good film\nindeed", "x" * 5000), 2).shown(0, page).text == "a good film\nindeed"
    with pytest.raises(CalibrationError, match=r"--data: expected the folder .* cat/1\.png"):
        open_inputs(None, ("cat/1.png", "dog/2.png"), 2)


def test_inputs_that_cannot_be_shown_are_named(tmp_path: Path) -> None:
    """Missing and damaged files, other numbers of rows, and other arrays are refused in one sentence."""
    (tmp_path / "bad.png").write_bytes(b"no image")
    np.save(tmp_path / "floats.npy", np.zeros((3, 8, 8, 3)))
    np.save(tmp_path / "texts.npy", np.array(["a", "b"]))
    np.savez(tmp_path / "empty.npz", nothing=np.zeros(3))
    for name in ("bad.png", "missing.png"):
        with pytest.raises(CalibrationError, match=name):
            open_inputs(str(tmp_path), (name,), 1).shown(0, tmp_path)
    for name, said in {
        "floats.npy": "float64",
        "texts.npy": "expected 3 inputs",
        "empty.npz": "none of them",
        "x.doc": "expected a folder",
    }.items():
        with pytest.raises(CalibrationError, match=said):
            open_inputs(str(tmp_path / name), (), 3)
    with pytest.raises(CalibrationError, match="--data: expected a file"):
        open_inputs(None, (), 3)
    with pytest.raises(CalibrationError, match="no such file"):
        open_inputs(str(tmp_path), ("javascript:alert(1)",), 1, "links").shown(0, tmp_path)
