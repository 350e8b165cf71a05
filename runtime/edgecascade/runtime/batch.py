"""A batch of inputs: one array, or one array per model input, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast, overload

import numpy as np

from edgecascade.types.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Batch",
    "alone",
    "are_sentences",
    "as_batch",
    "bytes_of",
    "concatenated",
    "copied",
    "filled",
    "first_of",
    "read_only",
    "rows",
    "run_together",
    "size",
    "stacked",
]

Batch: TypeAlias = "NDArray[Any] | Mapping[str, NDArray[Any]]"
R = TypeVar("R")


def size(batch: Batch) -> int:
    """Return the number of inputs."""
    return len(next(iter(batch.values())) if isinstance(batch, Mapping) else batch)


@overload
def rows(batch: NDArray[Any], selection: Any) -> NDArray[Any]: ...
@overload
def rows(batch: Mapping[str, NDArray[Any]], selection: Any) -> dict[str, NDArray[Any]]: ...
def rows(batch: Batch, selection: Any) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """Return some of the inputs, by a slice or positions."""
    if isinstance(batch, Mapping):
        return {name: array[selection] for name, array in batch.items()}
    selected: NDArray[Any] = batch[selection]
    return selected


def filled(batch: Mapping[str, NDArray[Any]], n: int) -> Mapping[str, NDArray[Any]]:
    """Return a batch of n inputs: those of a batch of at most n, and the last of them repeated."""
    given = size(batch)
    return batch if given == n else rows(batch, np.minimum(np.arange(n), given - 1))


def as_batch(name: str, x: Any) -> Batch | list[NDArray[Any]]:
    """Return `x`, an array-like [n, ...] or several by name, as arrays; as a list if it holds arrays of several shapes.

    Raises:
        InputError: `x` is no array; the message names the argument `name`.
    """
    try:
        if isinstance(x, Mapping):
            return {key: np.asarray(array) for key, array in x.items()}
        if isinstance(x, (list, tuple)):
            if any(isinstance(one, bytes) for one in x):  # numpy's type for bytes drops zeros at the end
                files = np.empty(len(x), object)
                files[:] = x
                return files
            if len({one.shape for one in x if isinstance(one, np.ndarray)}) > 1:
                return [np.asarray(one) for one in x]
        return np.asarray(x)
    except (ValueError, TypeError, RuntimeError) as error:  # the last two of torch
        raise InputError(f"{name}: expected arrays, got values that form none: {error}") from error


def alone(batch: Batch | list[NDArray[Any]], i: int) -> Batch:
    """Return a copy of the i-th input as a batch of one."""
    return copied(batch[i]) if isinstance(batch, list) else rows(batch, [i])


def stacked(x: Any) -> Batch:
    """Return one input as a batch of one."""
    if isinstance(x, Mapping):
        return {name: np.asarray(array)[None] for name, array in x.items()}
    if isinstance(x, bytes):  # numpy's type for bytes drops zeros at the end
        alone = np.empty(1, object)
        alone[0] = x
        return alone
    return np.asarray(x)[None]


def are_sentences(batch: Any) -> bool:
    """Return whether a batch is an array of strings [n]."""
    return isinstance(batch, np.ndarray) and batch.dtype.kind in "UO" and batch.ndim == 1


def copied(x: Any) -> Batch:
    """Return a copy of one input as a batch of one, so that the caller may write to `x` afterwards."""
    batch = stacked(x)
    return {name: array.copy() for name, array in batch.items()} if isinstance(batch, Mapping) else batch.copy()


def first_of(batch: Batch) -> Any:
    """Return the first input without the batch axis."""
    return {name: array[0] for name, array in batch.items()} if isinstance(batch, Mapping) else batch[0]


def read_only(batch: Batch) -> Batch:
    """Return a view of the inputs through which they cannot be changed."""
    views = {name: array.view() for name, array in (batch if isinstance(batch, Mapping) else {"": batch}).items()}
    for view in views.values():
        view.flags.writeable = False
    return views if isinstance(batch, Mapping) else views[""]


def bytes_of(batch: Batch) -> int:
    """Return the size of the inputs in bytes, before any encoding for the wire; objects without a length count 0."""
    arrays = batch.values() if isinstance(batch, Mapping) else [batch]
    return sum(sum(map(_length, a.ravel())) if a.dtype.kind == "O" else a.nbytes for a in arrays)


def _length(one: Any) -> int:
    return len(one) if isinstance(one, (bytes, str)) else 0


def concatenated(batches: Sequence[Batch]) -> Batch:
    """Return batches of the same names, types and shapes as one batch."""
    if len(batches) == 1:
        return batches[0]
    if isinstance(batches[0], Mapping):
        return {name: np.concatenate([cast(Any, one)[name] for one in batches]) for name in batches[0]}
    return np.concatenate(cast(Any, batches))


def run_together(
    batches: Sequence[Batch], run: Callable[[Batch], R], split: Callable[[R, Sequence[int]], Sequence[R]]
) -> list[R | Exception]:
    """Run batches of the same names, types and shapes as one, and return the result of each.

    If that fails, each runs alone, so that only those fail which cause it: they have their error as result.

    Args:
        batches: inputs [n, ...] each.
        run: returns the result of one batch.
        split: returns the parts of a result for batches of these sizes.
    """
    try:
        if len(batches) == 1:
            return [run(batches[0])]
        return [*split(run(concatenated(batches)), [size(one) for one in batches])]
    except Exception as error:
        if len(batches) == 1:
            return [error]
    return [result for one in batches for result in run_together([one], run, split)]
