"""Tables of labelled data: parquet and CSV files, and data sets as Hugging Face's `datasets` saves them.

They are read with pyarrow alone: parquet and arrow carry the names of their classes in the schema's metadata.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.inputs import is_hidden, read_image
from edgecascade.runtime.tables import INDEX, INPUT_COLUMNS, LABEL_COLUMNS, is_number, numbers_of
from edgecascade.types.class_names import some_names
from edgecascade.types.errors import ExportError, InputError, cut, first_line
from edgecascade.types.extras import naming_extras

__all__ = ["EncodedImages", "labelled_table", "numbered", "read_column", "read_rows", "read_tables", "table_files"]

_SUFFIXES = (".parquet", ".arrow", ".csv")
_MOST_ROWS = 5_000_000
_MOST_BYTES = 8 << 30  # of the columns that are read, uncompressed
_MOST_FILES = 10_000
_SHARD = re.compile(r"(?P<split>[\w.]+?)-\d{5}-of-\d{5}\b.*")
_FILES = ("file", "image", "img")  # columns that may hold the paths of files


class EncodedImages(Sequence[NDArray[np.uint8]]):
    """A sequence of images uint8 RGB [height, width, 3] in encoded form; each is decoded whenever it is read.

    So a data set may be larger than memory.

    Args:
        column: a pyarrow column of binary values, one image file each.
        where: the file that they come from, for error messages.
        start: the row of the first one in that file.
    """

    def __init__(self, column: Any, where: str, start: int = 0) -> None:
        self._column, self._where, self._start = column, where, start

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._column)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, index: slice) -> EncodedImages: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.uint8] | EncodedImages:
        """Return the pixels of one image; or consecutive images, still encoded.

        Raises:
            ExportError: the bytes are not a readable image.
        """
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                raise ExportError(f"images: expected a slice of consecutive images, got a step of {step}")
            return EncodedImages(self._column.slice(start, max(0, stop - start)), self._where, self._start + start)
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        try:
            return read_image(self._column[index].as_py())
        except InputError as error:
            said = str(error).removeprefix("x: ")
            raise ExportError(f"{self._where}: row {self._start + index}: {said}") from error

    def encoded(self) -> Iterator[bytes]:
        """Yield the bytes of one image file after the other."""
        for chunk in self._column.chunks:
            for value in chunk:
                yield value.as_py()


def table_files(path: Path) -> list[Path]:
    """Return the tables at a path, in order: a file, a folder of parquet, or a pattern such as `test-*.parquet`.

    Raises:
        ExportError: they belong to several splits of a data set.
    """
    if path.is_file():
        return [path] if path.suffix in _SUFFIXES else []
    if not path.is_dir():
        return sorted(path.parent.glob(path.name)) if "*" in path.name and path.suffix == ".parquet" else []
    if (path / "dataset_dict.json").is_file():
        splits = sorted(one.name for one in path.iterdir() if one.is_dir())
        raise ExportError(
            f"{path}: it holds the splits {', '.join(splits)}: name the folder of one, such as {path / _likely(splits)}"
            if splits
            else f"{path}: expected a data set with splits, got one without any"
        )
    if (path / "state.json").is_file():
        return _saved_files(path)
    files = sorted(file for file in path.rglob("*.parquet") if not is_hidden(file, path))[: _MOST_FILES + 1]
    if len(files) > _MOST_FILES:
        raise ExportError(f"{path}: expected at most {_MOST_FILES} parquet files, got more")
    matches = [_SHARD.fullmatch(file.name) for file in files]
    found = {match["split"] if match else file.stem for file, match in zip(files, matches, strict=True)}
    if len(found) > 1 and found & {"train", "test", "validation", "valid", "dev", "val"}:
        some = files[0].parent / f"{_likely(sorted(found))}*.parquet"
        raise ExportError(
            f"{path}: it holds the splits {', '.join(sorted(found))}: name the files of one, such as '{some}'"
        )
    return files


def read_tables(
    path: Path, files: list[Path], others: Sequence[str] = ()
) -> tuple[Any, NDArray[np.int64], tuple[str, ...], dict[str, NDArray[Any]]]:
    """Return inputs, labels int64 [n], class names (empty if unknown) and other columns of files with the same columns.

    Args:
        path: the name of the data in error messages.
        files: parquet, arrow or CSV.
        others: columns that are not inputs; those that there are not are left out.

    Raises:
        ExportError: a file is damaged, or its columns are not as `read_labelled` describes them.
        ModuleNotFoundError: pyarrow is not installed.
    """
    import pyarrow

    where = str(path)
    try:
        schema = _schema(files[0])
        found = [name for name in others if name in schema.names]
        columns = [*_wanted(schema, where, found), *found]
        tables = list(_read(files, columns, path))
        table = pyarrow.concat_tables([one.replace_schema_metadata(None) for one in tables])
        return _labelled_rows(table, where, _class_names(schema, path), found)
    except (OSError, pyarrow.ArrowException, KeyError, UnicodeDecodeError) as error:
        raise ExportError(f"{path}: not a readable table: {first_line(error)}") from error


def labelled_table(
    table: Any, others: Sequence[str] = ()
) -> tuple[Any, NDArray[np.int64], tuple[str, ...], dict[str, NDArray[Any]]]:
    """Return what `read_tables` does, from a table in memory.

    Args:
        table: of pyarrow, pandas or polars, a `Dataset` of Hugging Face's `datasets`, or any other object that exports
            Arrow data (`__arrow_c_stream__`).
        others: columns that are not inputs; those that there are not are left out.

    Raises:
        ExportError: it cannot be read, or its columns are not as `read_labelled` describes them.
        ModuleNotFoundError: pyarrow is not installed.
    """
    with naming_extras():
        import pyarrow

    try:
        if hasattr(table, "with_format"):  # a data set of `datasets`: the rows that it selects
            found = table.with_format("arrow")[:]
        else:  # polars exports views of text, unless it makes the table itself
            found = table.to_arrow() if hasattr(table, "to_arrow") else pyarrow.table(table)
        beside = [name for name in others if name in found.column_names]
        wanted = found.select([*_wanted(found.schema, "data", beside), *beside])
        _check_size(Path("data"), wanted.num_rows, wanted.nbytes)
        return _labelled_rows(wanted, "data", _class_names(found.schema, None), beside)
    except (TypeError, ValueError, KeyError, pyarrow.ArrowException) as error:  # KeyError: of several splits
        if isinstance(error, ExportError):
            raise
        raise ExportError(f"data: not a readable table: {first_line(error)}") from error


def _labelled_rows(
    table: Any, where: str, names: tuple[str, ...], others: Sequence[str]
) -> tuple[Any, NDArray[np.int64], tuple[str, ...], dict[str, NDArray[Any]]]:
    """Return inputs, labels, class names and the other columns of a table whose first column holds the labels."""
    if table.num_rows == 0:
        raise ExportError(f"{where}: expected rows of labelled inputs, got none")
    beside = {name: np.array(table[name].to_pylist()) for name in others}
    table = table.drop_columns(list(others))
    labels, names = _labels_of(table, where, names)
    return _inputs_of(table, where), labels, names, beside


def read_column(
    path: Path, files: list[Path], reference: str, others: Sequence[str] = (), *, text: bool = False
) -> tuple[Any, Sequence[Any], tuple[str, ...], dict[str, NDArray[Any]]]:
    """Return inputs, the values of another column beside them, the paths of inputs that are files, and other columns.

    Args:
        path: the name of the data in error messages; paths of files are relative to its folder.
        files: parquet, arrow or CSV.
        reference: the name of the column.
        others: columns that are not inputs; those that there are not are left out.
        text: whether the values in a CSV file are text, even if all of them look like numbers.

    Raises:
        ExportError: a file is damaged, there is no such column, or the inputs are not as `read_references` describes
            them.
        ModuleNotFoundError: pyarrow is not installed.
    """
    import pyarrow
    import pyarrow.types as types

    where, texts = str(path), (reference,) if text else ()
    if reference in others:
        raise ExportError(f"{where}: expected another column than that of the references, got `{reference}`")
    try:
        schema = _schema(files[0], texts)
        beside = [name for name in others if name in schema.names]
        named = [one for one in _FILES if one in schema.names and one not in (reference, *beside)]
        listed = [one for one in named if types.is_string(schema.field(one).type)][:1]
        if reference not in schema.names:
            raise ExportError(f"{where}: expected the references in a column `{reference}`, got {_some(schema.names)}")
        columns = [reference, *listed] if listed else _wanted(schema, where, beside, (reference,))
        parts = _read(files, [*columns, *beside], path, texts)
        table = pyarrow.concat_tables([one.replace_schema_metadata(None) for one in parts])
        arrays = {name: np.array(table[name].to_pylist()) for name in beside}
        table = table.drop_columns(beside)
    except (OSError, pyarrow.ArrowException, KeyError, UnicodeDecodeError) as error:
        raise ExportError(f"{path}: not a readable table: {first_line(error)}") from error
    column = table.column(0)
    if table.num_rows == 0 or column.null_count:
        raise ExportError(
            f"{where}: expected a reference in every row of `{reference}`, got {column.null_count} rows without "
            f"among {table.num_rows}"
        )
    values = column.to_numpy() if is_number(column.type) else column.to_pylist()
    paths = tuple(str(path.parent / name) for name in table.column(1).to_pylist()) if listed else ()
    return (None if listed else _inputs_of(table, where)), values, paths, arrays


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place of each row, for error messages, and the row by the names of its fields.

    Args:
        path: a parquet, arrow or CSV file; with any other ending JSON lines, each an object.

    Raises:
        ExportError: the file is damaged or too large, or a line is no object.
        ModuleNotFoundError: the file is a table, and pyarrow is not installed.
    """
    if path.suffix not in _SUFFIXES:
        yield from _json_lines(path)
        return
    import pyarrow

    try:
        (table,) = _read([path], _schema(path).names, path)
    except (OSError, pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise ExportError(f"{path}: not a readable table: {first_line(error)}") from error
    for number, row in enumerate(table.to_pylist(), 1):
        yield f"{path}: row {number}", {name: value for name, value in row.items() if value is not None}


def _json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ExportError(f"{path}: expected text in UTF-8, got other bytes at position {error.start}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ExportError(f"{place}: expected a JSON object, got {cut(line.strip(), 60)!r}: {error}") from error
        if not isinstance(found, dict):
            raise ExportError(f"{place}: expected a JSON object, got {cut(line.strip(), 60)!r}")
        yield place, found


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") or "no columns"


def _saved_files(path: Path) -> list[Path]:
    """Return the files of a data set that `save_to_disk` wrote, in its order."""
    try:
        named = json.loads((path / "state.json").read_text(encoding="utf-8"))["_data_files"]
        files = [path / Path(str(one["filename"])).name for one in named]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ExportError(f"{path}: its state.json is damaged: {error!r}") from error
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise ExportError(
            f"{path}: expected the files that its state.json lists, missing {', '.join(missing) or 'all'}"
        )
    return files


def _likely(splits: list[str]) -> str:
    return "test" if "test" in splits else splits[0]


def _schema(file: Path, texts: Sequence[str] = ()) -> Any:
    import pyarrow.parquet

    if file.suffix == ".parquet":
        return pyarrow.parquet.read_schema(file)
    if file.suffix == ".csv":
        return _csv(file, texts).schema
    with _opened(file) as reader:
        return reader.schema


def _read(files: list[Path], columns: list[str], path: Path, texts: Sequence[str] = ()) -> Iterator[Any]:
    """Yield the columns of each file; those of arrow files stay on disk until they are read. Some of a CSV are text."""
    import pyarrow.parquet

    rows = size = 0
    for file in files:
        if file.suffix == ".parquet":
            with pyarrow.parquet.ParquetFile(file) as parquet:
                _check_size(path, rows + parquet.metadata.num_rows, size + _stored(parquet.metadata, columns))
                table = parquet.read(columns=columns)
        elif file.suffix == ".csv":
            table = _csv(file, texts).select(columns)
            if other := [one.name for one in table.schema if pyarrow.types.is_binary(one.type)]:
                raise ExportError(f"{path}: expected text in UTF-8, got other bytes in `{other[0]}`")
        else:
            with _opened(file) as reader:
                table = reader.read_all().select(columns)
        rows, size = rows + table.num_rows, size + table.nbytes
        _check_size(path, rows, size)
        yield table


def _csv(file: Path, texts: Sequence[str] = ()) -> Any:
    """Return the table of a CSV file, whose text may have line breaks. Other columns than `texts` may be numbers."""
    import pyarrow.csv

    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    convert = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(texts, pyarrow.string()))
    return pyarrow.csv.read_csv(file, parse_options=parse, convert_options=convert)


def _stored(metadata: Any, columns: list[str]) -> int:
    """Return the bytes of some columns before compression, as the file states them."""
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    cells = (group.column(j) for group in groups for j in range(group.num_columns))
    return sum(cell.total_uncompressed_size for cell in cells if cell.path_in_schema.partition(".")[0] in columns)


def _check_size(path: Path, rows: int, size: int) -> None:
    if rows > _MOST_ROWS or size > _MOST_BYTES:
        raise ExportError(
            f"{path}: expected at most {_MOST_ROWS} rows and {_MOST_BYTES >> 30} GiB in the columns that are read, "
            f"got {rows} rows and {size / (1 << 30):.1f} GiB; take a sample"
        )


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """Open an arrow stream, as `datasets` writes it."""
    import pyarrow.ipc

    with pyarrow.memory_map(str(file)) as mapped, pyarrow.ipc.open_stream(mapped) as reader:
        yield reader


def _wanted(schema: Any, where: str, others: Sequence[str], labels: Sequence[str] = LABEL_COLUMNS) -> list[str]:
    """Return the columns to read: the labels, and the first of `x`, `image`, `text`, or else all that are no others."""
    label = next((name for name in labels if name in schema.names), None)
    inputs = [name for name in schema.names if name not in (label, INDEX, *others)]
    one = next((name for name in INPUT_COLUMNS if name in inputs), None)
    if label is None or not inputs:
        raise ExportError(
            f"{where}: expected a column `{labels[0]}` and the inputs beside it (`x`, `image`, `text`, or one column "
            f"for each feature), got {', '.join(schema.names) or 'no columns'}"
        )
    return [label, one] if one else [label, *inputs]


def numbered(labels: Sequence[str], names: Sequence[str], where: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return class names as labels int64 [n], and the names of the classes, in alphabetical order if there are none.

    Args:
        labels: the class name of each input.
        names: of the classes, or none.
        where: the name of the data in error messages.

    Raises:
        ExportError: a label is not among the names, or is there more than once.
    """
    found, index = np.unique(np.array(labels, dtype=np.str_), return_inverse=True)
    index = index.astype(np.int64).reshape(-1)
    if not names:
        return index, tuple(map(str, found))
    strange = [str(name) for name in found if name not in names]
    twice = [str(name) for name in found if list(names).count(name) > 1]
    if twice and not strange:
        raise ExportError(
            f"{where}: expected labels that each name one class, got {some_names(twice)}, which several classes are "
            "called; give the labels as class numbers"
        )
    if strange:
        raise ExportError(
            f"{where}: expected labels among the class names {some_names(names)}, got {some_names(strange)}"
        )
    return np.array([names.index(name) for name in found], np.int64)[index], tuple(names)


def _labels_of(table: Any, where: str, names: tuple[str, ...]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the first column as labels int64 [n], and the class names: those given, or those that it holds as text."""
    import pyarrow.types as types

    column, label = table.column(0), table.column_names[0]
    if column.null_count:
        raise ExportError(f"{where}: expected a label in every row of `{label}`, got {column.null_count} without")
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_string(column.type) or types.is_large_string(column.type):
        return numbered(column.to_pylist(), names, where)
    if not (types.is_integer(column.type) or types.is_boolean(column.type)):
        raise ExportError(f"{where}: expected whole numbers or text in `{label}`, got {column.type}")
    values = column.to_numpy().astype(np.int64)
    if values.min() < 0:
        raise ExportError(
            f"{where}: expected labels from 0 in `{label}`, got {values.min()}, which marks a label that is withheld"
        )
    return values, names


def _class_names(schema: Any, path: Path | None) -> tuple[str, ...]:
    """Return the names that a Hugging Face `ClassLabel` has, or none."""
    texts = [(schema.metadata or {}).get(b"huggingface")]
    if path is not None and (path / "dataset_info.json").is_file():
        texts.append((path / "dataset_info.json").read_bytes())
    for text in texts:
        try:
            document = json.loads(text or b"{}")
            feature = document.get("info", document)["features"][next(n for n in LABEL_COLUMNS if n in schema.names)]
            if feature.get("_type") == "ClassLabel":
                return tuple(str(name) for name in feature["names"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue  # this text has no names
    return ()


def _inputs_of(table: Any, where: str) -> Any:
    """Return what stands beside the labels: images, sentences, one array [n, ...], or one array by name."""
    import pyarrow.types as types

    names = table.column_names[1:]
    for name in names:
        if table[name].null_count:
            raise ExportError(
                f"{where}: expected a value in every row of `{name}`, got {table[name].null_count} without"
            )
    column, only = table[names[0]], names[0]
    if len(names) == 1 and only in INPUT_COLUMNS:
        if types.is_struct(column.type) or types.is_binary(column.type) or types.is_large_binary(column.type):
            return _images(column, only, where)
        if types.is_string(column.type) or types.is_large_string(column.type):
            return np.array(column.to_pylist(), dtype=object)
        return _array(column, only, where)
    shaped = [name for name in names if not is_number(table[name].type)]
    if not shaped:
        return np.stack([_array(table[name], name, where).astype(np.float32) for name in names], axis=1)
    if len(shaped) < len(names):
        some = [*shaped, *(name for name in names if name not in shaped)][:8]
        raise ExportError(
            f"{where}: expected numbers in every column beside the labels, or a list in every one; got "
            f"{', '.join(f'`{name}` {table[name].type}' for name in some)}"
        )
    return {name: _array(table[name], name, where) for name in names}


def _images(column: Any, name: str, where: str) -> EncodedImages:
    """Return images from the bytes of their files, alone or as Hugging Face writes them beside a path."""
    import pyarrow
    import pyarrow.types as types

    if types.is_struct(column.type):
        if column.type.get_field_index("bytes") < 0:
            raise ExportError(f"{where}: expected `{name}` with the images' bytes in it, got {column.type}")
        column = pyarrow.chunked_array([chunk.field("bytes") for chunk in column.chunks])
    if column.null_count:
        raise ExportError(
            f"{where}: expected the images' bytes in `{name}`, got only the path in {column.null_count} rows; "
            "save the data with its images in it"
        )
    return EncodedImages(column, where)


def _array(column: Any, name: str, where: str) -> NDArray[Any]:
    try:
        return numbers_of(column, f"{where}: `{name}`")
    except InputError as error:
        raise ExportError(str(error)) from error
