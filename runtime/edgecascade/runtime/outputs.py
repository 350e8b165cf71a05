"""Named output arrays of a model: whether it takes several inputs at once, and which arrays belong to which input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgecascade.runtime.engine import Declared

__all__ = ["by_input", "of_one", "share_batch"]


def share_batch(inputs: Sequence[Declared], outputs: Sequence[Declared]) -> bool:
    """Return whether inputs and outputs declare one symbolic first side, so that several inputs can run together.

    Detections after non-maximum suppression, for one, have a first side of their own: such a model runs on one input
    at a time, so that it is known which detections belong to which input.
    """
    firsts = {one.shape[0] if one.shape else None for one in (*inputs, *outputs)}
    return len(firsts) == 1 and isinstance(firsts.pop(), str)


def of_one(outputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the arrays that a model gave for a single input: those with a first side of 1 lose it.

    So a model that finds one box gives it without the side of the boxes; a decoder reshapes it.
    """
    return {name: array[0, ...] if array.ndim and len(array) == 1 else array for name, array in outputs.items()}


def by_input(outputs: Mapping[str, NDArray[Any]], n: int) -> list[dict[str, NDArray[Any]]]:
    """Return the arrays of each of n inputs, without the batch axis and without a copy.

    Raises:
        ValueError: there are several inputs, and an array that has not a row for each.
    """
    if n == 1:
        return [of_one(outputs)]
    wrong = next((name for name, array in outputs.items() if array.ndim == 0 or len(array) != n), None)
    if wrong is not None:
        raise ValueError(f"expected {n} rows in {wrong!r:.80}, got {list(outputs[wrong].shape)}")
    return [{name: array[i, ...] for name, array in outputs.items()} for i in range(n)]
