"""Named output arrays of a model: whether it takes several inputs at once, and which arrays belong to which input."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgecascade.runtime.engine import Declared

__all__ = ["by_input", "lacks_batch", "of_one", "share_batch"]


def share_batch(inputs: Sequence[Declared], outputs: Sequence[Declared]) -> bool:
    """Return whether inputs and outputs declare one symbolic first side, so that several inputs can run together.

    Detections after non-maximum suppression, for one, have a first side of their own: such a model runs on one input
    at a time, so that it is known which detections belong to which input.
    """
    firsts = {one.shape[0] if one.shape else None for one in (*inputs, *outputs)}
    return len(firsts) == 1 and isinstance(firsts.pop(), str)


def lacks_batch(inputs: Sequence[Declared], output: Declared) -> bool:
    """Return whether an output declares that it has no batch axis: inputs have a first side of 1, and it has another.

    >>> from types import SimpleNamespace as Declares
    >>> lacks_batch([Declares(shape=[1, 3])], Declares(shape=["boxes", 4]))
    True
    """
    alone = all(bool(one.shape) and one.shape[0] == 1 for one in inputs)
    return not output.shape or (alone and output.shape[0] != 1)


def of_one(outputs: Mapping[str, NDArray[Any]], unbatched: Collection[str] = ()) -> dict[str, NDArray[Any]]:
    """Return the arrays that a model gave for a single input: those with a first side of 1 lose it.

    Args:
        outputs: arrays by name.
        unbatched: names of those without a batch axis, which stay as they are. A single box keeps the side of the
            boxes then.
    """
    return {
        name: array[0, ...] if array.ndim and len(array) == 1 and name not in unbatched else array
        for name, array in outputs.items()
    }


def by_input(
    outputs: Mapping[str, NDArray[Any]], n: int, unbatched: Collection[str] = ()
) -> list[dict[str, NDArray[Any]]]:
    """Return the arrays of each of n inputs, without the batch axis and without a copy.

    Args:
        outputs: arrays by name.
        n: number of inputs.
        unbatched: names of arrays that have no batch axis if there is a single input.

    Raises:
        ValueError: there are several inputs, and an array that has not a row for each.
    """
    if n == 1:
        return [of_one(outputs, unbatched)]
    wrong = next((name for name, array in outputs.items() if array.ndim == 0 or len(array) != n), None)
    if wrong is not None:
        raise ValueError(f"expected {n} rows in {wrong!r:.80}, got {list(outputs[wrong].shape)}")
    return [{name: array[i, ...] for name, array in outputs.items()} for i in range(n)]
