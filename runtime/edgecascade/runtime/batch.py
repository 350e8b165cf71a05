"""Several inputs at once: one array, or for a model with several inputs one array for each, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast, overload

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Batch",
    "are_sentences",
    "as_batch",
    "bytes_of",
    "concatenated",
    "copied",
    "first_of",
    "rows",
    "size",
    "stacked",
]

Batch: TypeAlias = "NDArray[Any] | Mapping[str, NDArray[Any]]"


def size(batch: Batch) -> int:
    """How many inputs."""
    return len(next(iter(batch.values())) if isinstance(batch, Mapping) else batch)


@overload
def rows(batch: NDArray[Any], selection: Any) -> NDArray[Any]: ...
@overload
def rows(batch: Mapping[str, NDArray[Any]], selection: Any) -> dict[str, NDArray[Any]]: ...
def rows(batch: Batch, selection: Any) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """Some of the inputs: a slice, or positions."""
    if isinstance(batch, Mapping):
        return {name: array[selection] for name, array in batch.items()}
    selected: NDArray[Any] = batch[selection]
    return selected


def as_batch(x: Any) -> Batch:
    """Whatever numpy takes, as arrays."""
    return {name: np.asarray(array) for name, array in x.items()} if isinstance(x, Mapping) else np.asarray(x)


def stacked(x: Any) -> Batch:
    """One input, as a batch of one."""
    if isinstance(x, Mapping):
        return {name: np.asarray(array)[None] for name, array in x.items()}
    if isinstance(x, bytes):  # numpy's own type for them drops zeros at the end
        alone = np.empty(1, object)
        alone[0] = x
        return alone
    return np.asarray(x)[None]


def are_sentences(batch: Any) -> bool:
    """Whether it is an array of strings [n]."""
    return isinstance(batch, np.ndarray) and batch.dtype.kind in "UO" and batch.ndim == 1


def copied(x: Any) -> Batch:
    """One input, as a batch of one in memory of its own: its owner may go on writing to `x`."""
    batch = stacked(x)
    return {name: array.copy() for name, array in batch.items()} if isinstance(batch, Mapping) else batch.copy()


def first_of(batch: Batch) -> Any:
    """The first input, without the batch axis."""
    return {name: array[0] for name, array in batch.items()} if isinstance(batch, Mapping) else batch[0]


def bytes_of(batch: Batch) -> int:
    """How many bytes the inputs are, before any encoding for the wire."""
    arrays = batch.values() if isinstance(batch, Mapping) else [batch]
    return sum(sum(map(len, a.ravel())) if a.dtype.kind == "O" else a.nbytes for a in arrays)


def concatenated(batches: Sequence[Batch]) -> Batch:
    """Batches of the same names, types and shapes as one."""
    if len(batches) == 1:
        return batches[0]
    if isinstance(batches[0], Mapping):
        return {name: np.concatenate([cast(Any, one)[name] for one in batches]) for name in batches[0]}
    return np.concatenate(cast(Any, batches))
