"""Several inputs at once: one array, or for a model with several inputs one array for each, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast, overload

import numpy as np
from numpy.typing import NDArray

__all__ = ["Batch", "as_batch", "concatenated", "rows", "size", "stacked"]

Batch = NDArray[Any] | Mapping[str, NDArray[Any]]


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


def concatenated(batches: Sequence[Batch]) -> Batch:
    """Batches of the same names, types and shapes as one."""
    if len(batches) == 1:
        return batches[0]
    if isinstance(batches[0], Mapping):
        return {name: np.concatenate([cast(Any, one)[name] for one in batches]) for name in batches[0]}
    return np.concatenate(cast(Any, batches))
