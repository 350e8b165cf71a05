"""Inputs with references are read from COCO's JSON, folders with text files, tables and npz files."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools.coco import COCO

from edgecascade.export import ExportError, read_coco, read_references
from edgecascade.export.data import batches, each, first
from edgecascade.types.detections import Detections

X = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
PIXELS = [np.full((3 + i % 2, 4, 3), 10 * i, np.uint8) for i in range(4)]
TEXTS = ["eins", "zwei drei", "", "vier"]
ANNOTATIONS: dict[str, Any] = {
    "images": [{"id": 7 - i, "file_name": f"{i}.png", "width": 4, "height": 3 + i % 2} for i in range(4)],
    "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 18, "bbox": [1, 0.5, 2, 1], "iscrowd": 0, "area": 2},
        {"id": 2, "image_id": 5, "category_id": 3, "bbox": [0, 0, 4, 3], "iscrowd": 0, "area": 12},
        {"id": 3, "image_id": 7, "category_id": 3, "bbox": [0, 0, 1, 1], "iscrowd": 0, "area": 1},
        {"id": 4, "image_id": 7, "category_id": 3, "bbox": [0, 0, 4, 3], "iscrowd": 1, "area": 12},
    ],
}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return a folder of four images of two sizes."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def written(path: Path, document: Any) -> Path:
    """Write a JSON file and return its path."""
    path.write_text(json.dumps(document))
    return path


def test_coco_is_read_as_by_its_own_library(images: Path) -> None:
    """Boxes come with their categories, crowds are left out, and an image may have no boxes."""
    path = written(images / "instances.json", ANNOTATIONS)
    found = read_references(path)
    with redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
    for i, reference in enumerate(found.references):
        one = ANNOTATIONS["images"][i]
        assert found.files[i] == str(images / one["file_name"])
        wanted = coco.loadAnns(coco.getAnnIds(imgIds=one["id"], iscrowd=False))
        assert reference.labels.tolist() == [box["category_id"] for box in wanted]
        assert [[a, b, c - a, d - b] for a, b, c, d in reference.boxes.tolist()] == [box["bbox"] for box in wanted]
        np.testing.assert_array_equal(list(each(found.inputs))[i], PIXELS[i])
    assert found.names == {3: "car", 18: "dog"}


def test_categories_may_be_numbered_in_order_and_boxes_be_shares(images: Path, tmp_path: Path) -> None:
    """The images may lie in another folder than the file."""
    path = written(tmp_path / "instances.json", ANNOTATIONS)
    found = read_references(path, images=images, labels="order", units="shares")
    assert found.references[0].labels.tolist() == [1, 0]
    np.testing.assert_allclose(found.references[0].boxes[0], [1 / 4, 0.5 / 3, 3 / 4, 1.5 / 3])
    assert found.names == {0: "car", 1: "dog"}


def test_text_files_beside_images_are_their_references(images: Path) -> None:
    """Arrays may stand for images, folders may be nested, and line ends around the text do not count."""
    (images / "more").mkdir()
    np.save(images / "more" / "audio.npy", X[0])
    (images / "more" / "audio.txt").write_text("hello\n")
    for i, text in enumerate(TEXTS):
        (images / f"{i}.txt").write_bytes(text.encode("utf-8-sig" if i else "utf-8") + b"\r\n")
    found = read_references(images)
    assert list(found.references) == [*TEXTS, "hello"]
    assert [Path(file).name for file in found.files] == ["0.png", "1.png", "2.png", "3.png", "audio.npy"]
    np.testing.assert_array_equal(list(each(found.inputs))[4], X[0])
    shapes = [np.asarray(batch).shape for batch in batches(first(found.inputs, 3), 2)]
    assert shapes == [(1, 3, 4, 3), (1, 4, 4, 3), (1, 3, 4, 3)]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_features_stand_beside_a_column_of_references(tmp_path: Path, suffix: str) -> None:
    """Numbers of every type become float32, in the order of the columns."""
    path = tmp_path / f"data{suffix}"
    table = pa.table({"age": [30, 40], "progression": [1.5, 2.5], "pressure": [0.5, -1.0]})
    if suffix == ".csv":
        path.write_text("age,progression,pressure\n30,1.5,0.5\n40,2.5,-1.0\n")
    else:
        pq.write_table(table, path)
    found = read_references(path, "progression")
    np.testing.assert_array_equal(found.inputs, np.array([[30, 0.5], [40, -1]], np.float32))
    np.testing.assert_array_equal(found.references, [1.5, 2.5])


def test_a_table_may_list_files(images: Path) -> None:
    """Their paths are relative to the table's folder, and quoted text may hold commas and line ends."""
    (images / "lines.csv").write_text('file,reference\n1.png,"one, two"\n0.png,"a\nb"\n')
    found = read_references(images / "lines.csv")
    assert list(found.references) == ["one, two", "a\nb"]
    np.testing.assert_array_equal(next(each(found.inputs)), PIXELS[1])
    pq.write_table(pa.table({"image": ["3.png"], "reference": ["x"]}), images / "lines.parquet")
    np.testing.assert_array_equal(next(each(read_references(images / "lines.parquet").inputs)), PIXELS[3])


def test_text_in_a_csv_file_may_look_like_numbers(images: Path) -> None:
    """A line of digits keeps its zeros, and an empty line is no missing one, where the verifier takes text."""
    (images / "lines.csv").write_text("file,reference\n1.png,007\n0.png,\n")
    assert list(read_references(images / "lines.csv", text=True).references) == ["007", ""]
    (images / "lines.csv").write_text("file,reference\n1.png,007\n0.png,12\n")
    assert list(read_references(images / "lines.csv").references) == [7, 12]


def test_a_csv_file_that_is_not_utf8_is_refused(images: Path) -> None:
    """Also where only the name of a column is not; bytes are no images there."""
    (images / "lines.csv").write_text("text,reference\nschön,1\n", encoding="latin-1")
    with pytest.raises(ExportError, match="expected text in UTF-8, got other bytes in `text`"):
        read_references(images / "lines.csv")
    (images / "lines.csv").write_text("file,reference,größe\n1.png,a,1\n", encoding="latin-1")
    with pytest.raises(ExportError, match=r"lines\.csv: not a readable table"):
        read_references(images / "lines.csv")


def test_references_in_a_table_may_be_lists(tmp_path: Path) -> None:
    """Several answers to a question are one reference."""
    path = tmp_path / "questions.parquet"
    pq.write_table(pa.table({"text": ["Who?", "When?"], "answers": [["he", "him"], ["now"]]}), path)
    found = read_references(path, "answers")
    assert list(found.references) == [["he", "him"], ["now"]]
    assert list(found.inputs) == ["Who?", "When?"]


def test_an_npz_file_has_references_of_any_shape(tmp_path: Path) -> None:
    """A model may have several inputs, and text is of Python's own type."""
    path = tmp_path / "data.npz"
    np.savez(path, x=X, references=X[:, 0], allow_pickle=False)
    np.testing.assert_array_equal(read_references(path).references, X[:, 0])
    np.savez(path, first=X, second=X[:, 0], y=np.array(TEXTS), allow_pickle=False)
    found = read_references(path)
    assert isinstance(found.inputs, dict)
    assert set(found.inputs) == {"first", "second"}
    assert found.references == TEXTS


def test_other_columns_are_no_inputs(images: Path, tmp_path: Path) -> None:
    """Sample weights and groups come beside the inputs of every kind of data that can hold them."""
    (images / "lines.csv").write_text("file,reference,site\n1.png,one,a\n0.png,two,b\n")
    found = read_references(images / "lines.csv", columns=["site"])
    np.testing.assert_array_equal(found.columns["site"], ["a", "b"])
    np.testing.assert_array_equal(next(each(found.inputs)), PIXELS[1])
    pq.write_table(pa.table({"age": [3, 4], "w": [0.5, 1.5], "reference": [1, 2]}), tmp_path / "data.parquet")
    found = read_references(tmp_path / "data.parquet", columns=["w"])
    np.testing.assert_array_equal(found.columns["w"], [0.5, 1.5])
    np.testing.assert_array_equal(found.inputs, np.array([[3], [4]], np.float32))
    np.savez(tmp_path / "data.npz", first=X, second=X[:, 0], y=np.array(TEXTS), w=np.arange(4), allow_pickle=False)
    found = read_references(tmp_path / "data.npz", columns=["w"])
    assert isinstance(found.inputs, dict)
    assert set(found.inputs) == {"first", "second"}
    np.testing.assert_array_equal(found.columns["w"], np.arange(4))
    with pytest.raises(ExportError, match="another column than that of the references"):
        read_references(images / "lines.csv", columns=["reference"])
    with pytest.raises(ExportError, match="expected the array w "):
        read_references(written(images / "instances.json", ANNOTATIONS), columns=["w"])


def test_the_digest_depends_on_inputs_and_references(images: Path, tmp_path: Path) -> None:
    """It changes with either of them, and is the same for the same data."""
    path = written(images / "instances.json", ANNOTATIONS)
    before = read_coco(path).digest
    assert read_coco(path).digest == before
    moved = json.loads(json.dumps(ANNOTATIONS))
    moved["annotations"][0]["bbox"][0] = 0
    assert read_coco(written(images / "moved.json", moved)).digest != before
    Image.fromarray(PIXELS[1] + 1).save(images / "1.png")
    assert read_coco(path).digest != before
    digests = set()
    for texts in (TEXTS, TEXTS[::-1], ["eins", "zwei ", "drei", "vier"]):
        np.savez(tmp_path / "data.npz", x=X, y=np.array(texts), allow_pickle=False)
        digests.add(read_references(tmp_path / "data.npz").digest)
    assert len(digests) == 3


def changed(**parts: Any) -> dict[str, Any]:
    """Return the annotations with other parts."""
    return {**ANNOTATIONS, **parts}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "expected COCO's JSON"),
        ({"images": []}, "expected COCO's JSON .*KeyError: 'annotations'"),
        (changed(annotations=[{"image_id": 99, "category_id": 1, "bbox": [0, 0, 1, 1]}]), "KeyError: 99"),
        (changed(annotations=[{"image_id": 7, "category_id": 1, "bbox": [0, 0, 1]}]), "ValueError"),
        (changed(images=[], annotations=[]), "at least one image"),
        (changed(images=[{**ANNOTATIONS["images"][0], "file_name": "gone.png"}], annotations=[]), "missing .*gone.png"),
    ],
)
def test_damaged_annotations_are_refused(images: Path, document: Any, message: str) -> None:
    """The error names the file and what is wrong in it."""
    with pytest.raises(ExportError, match=message):
        read_references(written(images / "instances.json", document))


def test_data_that_does_not_fit_is_refused(images: Path, tmp_path: Path) -> None:
    """The error names the path, what was expected and what came."""
    (images / "0.txt").write_text("one")
    with pytest.raises(ExportError, match=r"none beside 3 of 4, such as 1\.png"):
        read_references(images)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ExportError, match="expected images or"):
        read_references(tmp_path / "empty")
    with pytest.raises(ExportError, match="no such file"):
        read_references(tmp_path / "gone.csv")
    with pytest.raises(ExportError, match="expected the path"):
        read_references("")
    np.savez(tmp_path / "short.npz", x=X, references=X[:3], allow_pickle=False)
    with pytest.raises(ExportError, match=r"one reference in `references` for each input in `x`, got \[3, 2, 3\]"):
        read_references(tmp_path / "short.npz")
    np.savez(tmp_path / "none.npz", x=X, allow_pickle=False)
    with pytest.raises(ExportError, match=r"`references` .*got x"):
        read_references(tmp_path / "none.npz", "references")
    np.savez(tmp_path / "other.npz", x=X, y=X, allow_pickle=False)
    with pytest.raises(ExportError, match=r"`answers` .*got x, y"):
        read_references(tmp_path / "other.npz", "answers")
    with pytest.raises(ExportError, match=r"^reference: expected with a table or an npz file, got 'answers' and "):
        read_references(written(images / "instances.json", ANNOTATIONS), "answers")
    (tmp_path / "none.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ExportError, match="column `reference`, got a, b"):
        read_references(tmp_path / "none.csv")
    (tmp_path / "gaps.csv").write_text("a,reference\n1,2\n3,\n")
    with pytest.raises(ExportError, match="got 1 rows without among 2"):
        read_references(tmp_path / "gaps.csv")
    (tmp_path / "ragged.csv").write_text("a,reference\n1,2\n3,4,5\n")
    with pytest.raises(ExportError, match="not a readable table"):
        read_references(tmp_path / "ragged.csv")
    (tmp_path / "gone.csv").write_text("file,reference\nno.png,a\n")
    with pytest.raises(ExportError, match=r"no\.png"):
        read_references(tmp_path / "gone.csv")


def test_references_are_detections(images: Path) -> None:
    """They have the type that `Boxes` decodes to."""
    found = read_coco(written(images / "instances.json", ANNOTATIONS))
    assert all(isinstance(one, Detections) and (one.scores == 1).all() for one in found.references)
    with pytest.raises(ExportError, match="labels: expected ids or order, got 'names'"):
        read_coco(images / "instances.json", labels="names")
