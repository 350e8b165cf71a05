"""Which columns of a table are the inputs and which the labels, and both as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.export.encoded_images import EncodedImages
from edgecascade.types.errors import ExportError

__all__ = ["LABELS", "inputs_of", "labels_of", "wanted"]

LABELS = ("label", "labels")
_INPUTS = ("x", "image", "img", "text", "sentence")
_INDEX = "__index_level_0__"  # pandas adds it


def wanted(schema: Any, where: str) -> list[str]:
    """The columns to read: the labels, and the first of `x`, `image`, `text`; else all others.

    Raises:
        ExportError: there are no labels, or nothing beside them.
    """
    label = next((name for name in LABELS if name in schema.names), None)
    inputs = [name for name in schema.names if name not in (label, _INDEX)]
    one = next((name for name in _INPUTS if name in inputs), None)
    if label is None or not inputs:
        raise ExportError(
            f"{where}: expected a column `label` and the inputs beside it (`x`, `image`, `text`, or one column for "
            f"each feature), got {', '.join(schema.names) or 'no columns'}"
        )
    return [label, one] if one else [label, *inputs]


def labels_of(table: Any, where: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The first column as labels int64 [n]; and names in alphabetical order, if it holds text.

    Raises:
        ExportError: it holds neither whole numbers from 0 nor text, or a label is missing.
    """
    import pyarrow.types as types

    column, name = table.column(0), table.column_names[0]
    if column.null_count:
        raise ExportError(f"{where}: expected a label in every row of `{name}`, got {column.null_count} without")
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_string(column.type) or types.is_large_string(column.type):
        names, labels = np.unique(np.array(column.to_pylist(), dtype=np.str_), return_inverse=True)
        return labels.astype(np.int64).reshape(-1), tuple(str(one) for one in names)
    if not (types.is_integer(column.type) or types.is_boolean(column.type)):
        raise ExportError(f"{where}: expected whole numbers or text in `{name}`, got {column.type}")
    values = column.to_numpy().astype(np.int64)
    if values.min() < 0:
        raise ExportError(
            f"{where}: expected labels from 0 in `{name}`, got {values.min()}, which marks a label that is kept secret"
        )
    return values, ()


def inputs_of(table: Any, where: str) -> Any:
    """What stands beside the labels: images, sentences, one array [n, ...], or one by name.

    Raises:
        ExportError: a value is missing, or the rows differ in shape.
    """
    import pyarrow.types as types

    names = table.column_names[1:]
    for name in names:
        if table[name].null_count:
            raise ExportError(
                f"{where}: expected a value in every row of `{name}`, got {table[name].null_count} without"
            )
    column, only = table[names[0]], names[0]
    if len(names) == 1 and only in _INPUTS:
        if types.is_struct(column.type) or types.is_binary(column.type) or types.is_large_binary(column.type):
            return _images(column, only, where)
        if types.is_string(column.type) or types.is_large_string(column.type):
            return np.array(column.to_pylist(), dtype=object)
        return _array(column, only, where)
    shaped = [name for name in names if not _is_number(table[name].type)]
    if not shaped:
        return np.stack([_array(table[name], name, where).astype(np.float32) for name in names], axis=1)
    if len(shaped) < len(names):
        raise ExportError(
            f"{where}: expected numbers in every column beside the labels, or a list in every one; got "
            f"{', '.join(f'`{name}` {table[name].type}' for name in names[:8])}"
        )
    return {name: _array(table[name], name, where) for name in names}


def _is_number(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _images(column: Any, name: str, where: str) -> EncodedImages:
    """Of image files' bytes, alone or as Hugging Face writes them beside a path."""
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
    """Numbers [n, ...] of a column of numbers, tensors, or lists (of lists) as long in every row."""
    import pyarrow
    import pyarrow.compute as compute
    import pyarrow.types as types

    shape = [len(column)]
    if isinstance(column.type, pyarrow.BaseExtensionType):
        inner = getattr(column.type, "shape", None)
        shape += list(inner or ())
        column = pyarrow.chunked_array([chunk.storage for chunk in column.chunks])
        if inner and types.is_fixed_size_list(column.type):
            column = compute.list_flatten(column)
    while types.is_list(column.type) or types.is_large_list(column.type) or types.is_fixed_size_list(column.type):
        lengths = compute.unique(compute.list_value_length(column)).to_pylist()
        if len(lengths) != 1 or lengths[0] is None:
            raise ExportError(f"{where}: expected as many values in every row of `{name}`, got {_some(lengths)}")
        column = compute.list_flatten(column)
        shape.append(lengths[0])
    if not _is_number(column.type) or column.null_count:
        missing = f", {column.null_count} of them missing" if column.null_count else ""
        raise ExportError(f"{where}: expected numbers in `{name}`, got {column.type}{missing}")
    return np.ascontiguousarray(column.to_numpy().reshape(shape))


def _some(lengths: list[Any]) -> str:
    return ", ".join(str(one) for one in lengths[:5]) + (", ..." if len(lengths) > 5 else "")
