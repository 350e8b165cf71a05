"""Labelled data is read from parquet and from data sets saved by Hugging Face's `datasets`."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from edgecascade.export import ExportError, read_labelled
from edgecascade.export.data import EncodedImages, batches, each, first

X = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
Y = [0, 2, 1, 2]
NAMES = ["cat", "dog", "ant"]


def _png(pixels: NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "png")
    return out.getvalue()


PIXELS = [np.full((3 + i % 2, 4, 3), 10 * i, np.uint8) for i in range(4)]
IMAGES = [{"bytes": _png(pixels), "path": f"{i}.png"} for i, pixels in enumerate(PIXELS)]


def _features(names: Sequence[str] = NAMES) -> dict[str, Any]:
    return {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}


def _named(table: Any) -> Any:
    """Return the table with class names stored as `datasets` 5.2 stores them."""
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": _features()}})})


def _saved(folder: Path, tables: Sequence[Any], *, described: bool = False) -> Path:
    """Save a data set as `save_to_disk` of `datasets` 5.2 does: arrow streams and two JSON files beside them."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05d}-of-{len(tables):05d}.arrow" for i in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": _features() if described else {}}))
    return folder


def _write(path: Path, columns: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path)
    return path


def _images() -> Any:
    return _named(pa.table({"image": IMAGES, "label": Y}))


@pytest.mark.parametrize("how", ["parquet", "folder", "pattern", "saved", "shards", "described"])
def test_images_and_class_names_survive_a_round_trip(tmp_path: Path, how: str) -> None:
    """Every way of saving the data set gives the same pixels, labels, names and digest."""
    table = _images()
    where = {
        "parquet": lambda: _write(tmp_path / "d.parquet", table),
        "folder": lambda: _write(tmp_path / "d" / "data" / "test-00000-of-00001.parquet", table).parent.parent,
        "pattern": lambda: _write(tmp_path / "test-00000-of-00001.parquet", table).parent / "test-*.parquet",
        "saved": lambda: _saved(tmp_path / "d", [table]),
        "shards": lambda: _saved(tmp_path / "d", [table.slice(0, 1), table.slice(1, 3)]),
        "described": lambda: _saved(tmp_path / "d", [table.replace_schema_metadata(None)], described=True),
    }[how]()
    data = read_labelled(where)
    assert data.labels.tolist() == Y
    assert data.labels.dtype == np.int64
    assert data.names == tuple(NAMES)
    for image, pixels in zip(each(data.inputs), PIXELS, strict=True):
        np.testing.assert_array_equal(image, pixels)
    assert data.digest == read_labelled(_write(tmp_path / "again.parquet", table)).digest
    assert data.digest != read_labelled(_write(tmp_path / "less.parquet", table.slice(0, 3))).digest


def test_images_are_decoded_when_they_are_read(tmp_path: Path) -> None:
    """A row that is not an image raises an error that names it when it is read; the rows before it are read."""
    rows = [*IMAGES[:3], {"bytes": b"no image", "path": None}]
    data = read_labelled(_write(tmp_path / "d.parquet", {"image": rows, "label": Y}))
    assert isinstance(data.inputs, EncodedImages)
    assert [len(batch) for batch in batches(first(data.inputs, 3), 2)] == [1, 1, 1]
    np.testing.assert_array_equal(data.inputs[-2], PIXELS[2])
    with pytest.raises(ExportError, match=r"d\.parquet: row 3: not a readable image"):
        list(batches(data.inputs[2:], 2))
    with pytest.raises(IndexError):
        data.inputs[4]
    with pytest.raises(ExportError, match="consecutive"):
        data.inputs[::2]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(X.tolist(), pa.list_(pa.list_(pa.float32()))),
        pa.array(X.tolist(), pa.large_list(pa.list_(pa.float32(), 3))),
        pa.FixedShapeTensorArray.from_numpy_ndarray(X),
        pa.chunked_array([pa.array(part.tolist(), pa.list_(pa.list_(pa.float32()))) for part in (X[:1], X[1:])]),
    ],
    ids=["lists", "fixed lists", "tensors", "chunks"],
)
def test_a_column_of_lists_or_tensors_is_an_array(tmp_path: Path, column: Any) -> None:
    """The array has the shape [n, ...] and the type of the file, as from an npz file."""
    data = read_labelled(_write(tmp_path / "d.parquet", {"id": list("abcd"), "x": column, "label": Y}))
    assert isinstance(data.inputs, np.ndarray)
    np.testing.assert_array_equal(data.inputs, X)
    assert data.inputs.dtype == np.float32
    np.savez(tmp_path / "d.npz", x=X, y=np.array(Y))
    assert data.digest == read_labelled(tmp_path / "d.npz").digest


def test_columns_of_numbers_are_features_in_file_order(tmp_path: Path) -> None:
    """All columns become float32 [n, features], without the index that pandas writes."""
    columns = {"b": [1, 2, 3, 4], "label": Y, "a": [0.5, 1.5, 2.5, 3.5], "__index_level_0__": [9, 9, 9, 9]}
    data = read_labelled(_write(tmp_path / "d.parquet", columns))
    assert isinstance(data.inputs, np.ndarray)
    assert data.inputs.dtype == np.float32
    assert data.inputs.tolist() == [[1, 0.5], [2, 1.5], [3, 2.5], [4, 3.5]]


def test_a_csv_file_is_read_as_parquet_is(tmp_path: Path) -> None:
    """Sentences may have quotes, commas and line breaks; other columns are features in file order."""
    file = tmp_path / "d.csv"
    file.write_text('text,label\n"two,\nlines",dog\n"a ""quote""",cat\n')
    data = read_labelled(file)
    assert list(data.inputs) == ["two,\nlines", 'a "quote"']
    assert (data.labels.tolist(), data.names) == ([1, 0], ("cat", "dog"))
    file.write_text("b,a,label,weight\n1,2.5,0,3\n4,5,1,6\n")
    data = read_labelled(file, ["weight"])
    np.testing.assert_array_equal(data.inputs, np.array([[1, 2.5], [4, 5]], np.float32))
    np.testing.assert_array_equal(data.columns["weight"], [3, 6])
    file.write_text("b,label\n1,0\n,1\n")
    with pytest.raises(ExportError, match=r"d\.csv"):
        read_labelled(file)


def test_columns_of_lists_are_the_inputs_of_a_model_with_several(tmp_path: Path) -> None:
    """Each column of lists is fed to the input of its name."""
    columns = {"left": [[1, 2]] * 4, "label": Y, "right": [[1.0]] * 4}
    data = read_labelled(_write(tmp_path / "d.parquet", columns))
    assert isinstance(data.inputs, dict)
    assert {name: array.shape for name, array in data.inputs.items()} == {"left": (4, 2), "right": (4, 1)}


@pytest.mark.parametrize("column", ["text", "sentence"])
def test_sentences_have_their_own_length(tmp_path: Path, column: str) -> None:
    """A long sentence does not pad the others; batches are arrays of strings, and the digest covers the text."""
    words = ["a", "b\0", "wörld", "x" * 100_000]
    data = read_labelled(_write(tmp_path / "d.parquet", {column: words, "label": Y}))
    assert isinstance(data.inputs, np.ndarray)
    assert data.inputs.nbytes < 1000
    assert list(each(data.inputs)) == words
    assert [(len(batch), np.asarray(batch).dtype.kind) for batch in batches(data.inputs, 3)] == [(3, "U"), (1, "U")]
    assert data.digest == read_labelled(tmp_path / "d.parquet").digest
    other = read_labelled(_write(tmp_path / "e.parquet", {column: ["ab", "\0", *words[2:]], "label": Y}))
    assert data.digest != other.digest


@pytest.mark.parametrize("encode", [False, True])
def test_labels_may_be_strings(tmp_path: Path, encode: bool) -> None:
    """The class names are in alphabetical order."""
    labels = pa.array(["cat", "ant", "cat", "bee"])
    columns = {"x": [1.0, 2.0, 3.0, 4.0], "label": labels.dictionary_encode() if encode else labels}
    data = read_labelled(_write(tmp_path / "d.parquet", columns))
    assert data.names == ("ant", "bee", "cat")
    assert data.labels.tolist() == [2, 0, 2, 1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [1.0], "y": [1]}, r"expected a column `label` and the inputs beside it .*, got x, y"),
        ({"label": [1]}, r"got label"),
        ({"x": pa.array([], pa.float32()), "label": pa.array([], pa.int64())}, r"got none"),
        ({"x": [1.0, 2.0], "label": [0, None]}, r"a label in every row of `label`, got 1 without"),
        ({"x": [1.0, 2.0], "label": [0, -1]}, r"labels from 0 in `label`, got -1"),
        ({"x": [1.0], "label": [0.5]}, r"whole numbers or text in `label`, got double"),
        ({"x": [1.0, None], "label": [0, 1]}, r"a value in every row of `x`, got 1 without"),
        ({"x": [[1.0], [1.0, 2.0]], "label": [0, 1]}, r"`x`: expected as many values in every row, got 1, 2"),
        ({"x": [[1.0], [None]], "label": [0, 1]}, r"`x`: expected numbers, got double, 1 of them missing"),
        ({"x": ["a"], "other": [1], "label": [0]}, None),
        ({"a": ["word"], "label": [0]}, r"`a`: expected numbers, got string"),
        ({"a": [1.0], "b": [[1.0]], "label": [0]}, r"numbers in every column .* or a list in every one"),
        ({"image": [{"bytes": None, "path": "1.png"}], "label": [0]}, r"got only the path in 1 rows"),
        ({"image": [{"path": "1.png"}], "label": [0]}, r"`image` with the images' bytes in it"),
    ],
)
def test_invalid_columns_are_refused(tmp_path: Path, columns: dict[str, Any], message: str | None) -> None:
    """The error names the file and the column, the expected type and the one found; strings in `x` are sentences."""
    path = _write(tmp_path / "d.parquet", columns)
    if message is None:
        assert read_labelled(path).inputs[0] == "a"  # type: ignore[index]
        return
    with pytest.raises(ExportError, match=rf"d\.parquet: .*{message}"):
        read_labelled(path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_truncated_file_is_refused(tmp_path: Path, kind: str, share: float) -> None:
    """The error names the file, on one line."""
    if kind == "arrow":
        where = _saved(tmp_path / "d", [_images()])
        (file,) = where.glob("*.arrow")
    else:
        where = file = _write(tmp_path / "d.parquet", _images())
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ExportError, match=r"not a readable table: .+") as found:
        read_labelled(where)
    assert str(where) in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    "state", ["{", "[]", "{}", '{"_data_files": []}', '{"_data_files": [{"filename": "gone.arrow"}]}']
)
def test_a_saved_data_set_with_missing_files_is_refused(tmp_path: Path, state: str) -> None:
    """A damaged state, a missing file, and a name that leads out of the folder are refused."""
    folder = _saved(tmp_path / "d", [_images()])
    (folder / "state.json").write_text(state)
    with pytest.raises(ExportError, match=r"d: (its state\.json is damaged|expected the files that its state)"):
        read_labelled(folder)
    (folder / "state.json").write_text('{"_data_files": [{"filename": "../secret.arrow"}]}')
    with pytest.raises(ExportError, match=r"state\.json.* secret\.arrow"):
        read_labelled(folder)


def test_several_splits_are_refused(tmp_path: Path) -> None:
    """If a folder holds train and test, the error shows how to name one split, and that form works."""
    for split in ("train", "test"):
        _write(tmp_path / "hub" / "data" / f"{split}-00000-of-00001.parquet", _images())
        _saved(tmp_path / "dict" / split, [_images()])
    (tmp_path / "dict" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    for folder in ("hub", "dict"):
        with pytest.raises(ExportError, match=r"it holds the splits test, train: name the .*, such as ") as found:
            read_labelled(tmp_path / folder)
        suggested = str(found.value).rpartition("such as ")[2].strip("'")
        assert len(read_labelled(suggested).labels) == 4


def test_damaged_class_names_are_ignored(tmp_path: Path) -> None:
    """Labels and inputs are still read."""
    for i, metadata in enumerate((b"{", b"[]", b'{"info": {"features": {"label": 3}}}', b"\xff")):
        table = _images().replace_schema_metadata({b"huggingface": metadata})
        assert read_labelled(_write(tmp_path / f"{i}.parquet", table)).names == ()


def test_too_much_data_is_refused_before_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size stated in the file is checked, without the columns that are not read."""
    path = _write(tmp_path / "d.parquet", {"x": [1.0] * 4, "note": [str(i) * 10_000 for i in range(4)], "label": Y})
    monkeypatch.setattr("edgecascade.export.data.tables._MOST_BYTES", 2000)
    assert len(read_labelled(path).labels) == 4
    monkeypatch.setattr("edgecascade.export.data.tables._MOST_ROWS", 3)
    with pytest.raises(ExportError, match=r"d\.parquet: expected at most 3 rows .*, got 4 rows .*; take a sample"):
        read_labelled(path)


def test_a_hub_name_is_refused_with_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is downloaded; the error tells how to download the data set."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExportError, match=r"^owner/name: no such file or folder; .* hf download owner/name "):
        read_labelled("owner/name")
    with pytest.raises(ExportError, match=r"no such file or folder$"):
        read_labelled(tmp_path / "name")


def test_other_columns_are_read_by_name(tmp_path: Path) -> None:
    """A column that is asked for is no feature."""
    columns = {"a": [1.0, 2.0, 3.0, 4.0], "b": [5, 6, 7, 8], "label": Y, "site": ["x", "y", "x", "x"]}
    path = _write(tmp_path / "data.parquet", columns)
    data = read_labelled(path, ("site",))
    np.testing.assert_array_equal(data.inputs, [[1, 5], [2, 6], [3, 7], [4, 8]])
    assert data.columns["site"].tolist() == ["x", "y", "x", "x"]
    with pytest.raises(ExportError, match=r"data.parquet: expected the array weight"):
        read_labelled(path, ("site", "weight"))
