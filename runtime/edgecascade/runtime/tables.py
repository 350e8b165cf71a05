"""Read the inputs of a model from a table: of pyarrow, pandas, polars, or any library that exports Arrow data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecascade.types.arrays import as_array
from edgecascade.types.errors import InputError
from edgecascade.types.extras import naming_extras

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgecascade.runtime.model_inputs import ModelInputs

__all__ = [
    "INDEX",
    "INPUT_COLUMNS",
    "LABEL_COLUMNS",
    "as_inputs",
    "chosen_columns",
    "is_number",
    "numbers_of",
]

LABEL_COLUMNS = ("label", "labels")
INPUT_COLUMNS = ("x", "image", "img", "text", "sentence")
INDEX = "__index_level_0__"  # pandas adds it
_TEXTS = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view")  # and files


def as_inputs(inputs: ModelInputs, x: Any) -> Any:
    """Return the inputs in a table, a column or a tensor as arrays, and anything else as it is.

    Args:
        inputs: what the model takes.
        x: see `Cascade.decide`.

    Raises:
        InputError: a column is missing, lacks values, or has rows of different lengths.
    """
    if hasattr(x, "detach"):
        return as_array(x, "x", InputError)
    if hasattr(x, "with_format") and hasattr(x, "__len__"):  # a data set of Hugging Face's `datasets`
        x = x.with_format("arrow")[:]
    if type(x).__name__ == "LazyFrame":
        raise InputError("x: expected a table, got a LazyFrame; call `collect` on it")
    if not (hasattr(x, "columns") or hasattr(x, "column_names")):
        if hasattr(x, "type") or hasattr(x, "to_numpy"):
            return _array(x, "x")
        if not (hasattr(x, "__arrow_c_stream__") or hasattr(x, "__dataframe__")):
            return x
        with naming_extras():
            import pyarrow.interchange

        exports = hasattr(x, "__arrow_c_stream__")
        x = pyarrow.table(x) if exports else pyarrow.interchange.from_dataframe(x)
    keys = list(getattr(x, "column_names", None) or x.columns)  # of pandas also numbers or tuples
    names = [str(key) for key in keys]
    chosen = chosen_columns(inputs, names)
    if twice := [name for name in chosen if names.count(name) > 1]:
        raise InputError(f"x: expected one column of the name {twice[0]!r}, got {names.count(twice[0])}")
    columns = {name: _array(x[keys[names.index(name)]], f"x[{name!r}]") for name in chosen}
    if not any(map(len, columns.values())):
        return np.zeros(0, np.float32)  # lists have no length then
    if len(chosen) == 1:
        return columns[chosen[0]]
    if chosen == [one.name for one in inputs.declared]:
        return columns
    wrong = next((name for name, one in columns.items() if one.ndim != 1 or one.dtype.kind not in "biuf"), None)
    if wrong is not None:
        raise InputError(f"x[{wrong!r}]: expected one number in every row, got {columns[wrong].dtype}")
    from edgecascade.runtime.engine import numpy_dtype  # which needs ONNX Runtime, as reading prompts does not

    dtype = numpy_dtype(inputs.declared[0].type)
    return np.stack([one.astype(dtype) for one in columns.values()], axis=1)


def chosen_columns(inputs: ModelInputs, names: Sequence[str], wanted: Sequence[str] = ()) -> list[str]:
    """Return the names of the columns that are inputs of a model.

    They are those of the model's inputs; or for a model with one input the first of `x`, `image`, `text`; or all but
    a label: one column, or one for each feature.

    Args:
        inputs: what the model takes.
        names: of the columns.
        wanted: the only ones to choose from; by default all.

    Raises:
        InputError: there are no such columns.
    """
    if missing := [name for name in wanted if name not in names]:
        raise InputError(f"x: expected a table with the column {missing[0]!r}, got {_some(names)}")
    names = list(wanted or names)
    declared = [one.name for one in inputs.declared]
    if set(declared) <= {*names}:
        return declared
    one = next((name for name in INPUT_COLUMNS if name in names), None)
    others = [one] if one else [name for name in names if name not in (*LABEL_COLUMNS, INDEX)]
    shape = inputs.declared[0].shape
    features = len(shape) == 2 and shape[1] in (len(others), *(() if isinstance(shape[1], int) else (shape[1],)))
    features = features and inputs.text is None
    if (inputs.text is None and len(declared) > 1) or not (len(others) == 1 or (features and others)):
        got = f"{_some(names)}; choose its columns (--columns)"
        raise InputError(f"x: expected a table with columns for {inputs}, got {got}")
    return others


def numbers_of(column: Any, where: str) -> NDArray[Any]:
    """Return an Arrow column of numbers, tensors or lists (of lists) of one length as numbers [n, ...].

    Args:
        column: a pyarrow `ChunkedArray`.
        where: what error messages begin with.

    Raises:
        InputError: values are missing, are no numbers, or are not as many in every row.
    """
    import pyarrow
    import pyarrow.compute as compute
    import pyarrow.types as types

    shape, order = [len(column)], []
    if isinstance(column.type, pyarrow.BaseExtensionType):
        inner = getattr(column.type, "shape", None)
        shape += list(inner or ())
        order = [*(getattr(column.type, "permutation", None) or range(len(shape) - 1))]
        if [order[i] for i in order] != sorted(order):  # pyarrow 26 writes the inverse of these, and misreads them
            raise InputError(f"{where}: expected a permutation that swaps axes in pairs, got {order}")
        column = pyarrow.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
        if inner and types.is_fixed_size_list(column.type):
            column = compute.list_flatten(column)
    while types.is_list(column.type) or types.is_large_list(column.type) or types.is_fixed_size_list(column.type):
        fixed = types.is_fixed_size_list(column.type) and not column.null_count
        lengths = [column.type.list_size] if fixed else compute.unique(compute.list_value_length(column)).to_pylist()
        if len(lengths) != 1 or lengths[0] is None:
            some = ", ".join(map(str, lengths[:5])) + (", ..." if len(lengths) > 5 else "")
            raise InputError(f"{where}: expected as many values in every row, got {some or 'no row'}")
        column = compute.list_flatten(column)
        shape.append(lengths[0])
    if not is_number(column.type) or column.null_count:
        missing = f", {column.null_count} of them missing" if column.null_count else ""
        raise InputError(f"{where}: expected numbers, got {column.type}{missing}")
    array = column.to_numpy().reshape(shape)
    return np.ascontiguousarray(array.transpose(0, *(1 + i for i in order)) if order else array)


def is_number(kind: Any) -> bool:
    """Return whether an Arrow type is that of numbers or booleans."""
    import pyarrow.types as types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _array(column: Any, where: str) -> NDArray[Any]:
    """Return a column as an array: of numbers [n, ...], or of texts or image files [n]."""
    if hasattr(column, "type") and hasattr(column, "null_count"):
        return _of_arrow(column, where)
    if hasattr(getattr(column, "dtype", None), "pyarrow_dtype"):  # pandas
        return _of_arrow(column.array.__arrow_array__(), where)
    if str(getattr(column, "dtype", "")).startswith(("Struct", "List(List")) and hasattr(column, "to_arrow"):  # polars
        return _of_arrow(column.to_arrow(), where)
    missing = _missing(column)
    if not missing:
        array = np.asarray(column.to_numpy() if hasattr(column, "to_numpy") else column)
        if array.dtype != object:
            return array
        missing = sum(map(_is_missing, array))
    if missing:
        raise InputError(f"{where}: expected a value in every row, got {missing} rows without")
    if not len(array) or not (isinstance(array[0], (list, np.ndarray)) or hasattr(array[0], "detach")):
        return array
    values = [as_array(one, where, InputError) if hasattr(one, "detach") else one for one in array]
    try:
        lengths = {np.shape(one) for one in values}
        if len(lengths) == 1:
            return np.stack([np.stack([*one]) if isinstance(one[0], np.ndarray) else np.asarray(one) for one in values])
    except (ValueError, TypeError, IndexError) as error:  # lists of several lengths in a row, or empty ones
        raise InputError(f"{where}: expected as many values in every row, but: {error}") from error
    raise InputError(f"{where}: expected as many values in every row, got {sorted(lengths)[:5]}")


def _missing(column: Any) -> int:
    """Return how many values a column of pandas or polars marks as missing, also inside lists; NaN is a number."""
    if hasattr(getattr(column, "dtype", None), "na_value"):  # pandas' own types
        return int(column.isna().sum())
    if not callable(getattr(column, "null_count", None)):
        return 0
    missing = int(column.null_count())
    while not missing and len(column) and str(column.dtype).startswith(("List", "Array")):
        column = column.explode()
        missing = int(column.null_count())
    return missing


def _is_missing(value: Any) -> bool:
    return (
        value is None or (isinstance(value, float) and value != value) or type(value).__name__ in ("NAType", "NaTType")
    )


def _of_arrow(column: Any, where: str) -> NDArray[Any]:
    import pyarrow
    import pyarrow.types as types

    if isinstance(column, pyarrow.Array):
        column = pyarrow.chunked_array([column])
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_struct(column.type) and not column.null_count and (at := column.type.get_field_index("bytes")) >= 0:
        kind = column.type.field(at).type  # images of Hugging Face's `datasets`
        column = pyarrow.chunked_array([chunk.field(at) for chunk in column.chunks], kind)
    if not len(column):
        return np.zeros(0, np.float32)
    if column.null_count:
        raise InputError(f"{where}: expected a value in every row, got {column.null_count} rows without")
    if str(column.type) in _TEXTS:
        values = np.empty(len(column), object)
        values[:] = column.to_pylist()
        return values
    return numbers_of(column, where)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") or "no columns"
