"""How many of the items that should be found are found."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.verifiers.pairs import paired
from edgecascade.types.errors import CalibrationError

__all__ = ["RecallAt"]


@dataclass(frozen=True)
class RecallAt:
    """The share of the relevant items that are among the first k of the answer.

    With one relevant item it is 1 or 0. Where nothing is relevant, nothing can be missed, and the value is 1.

    Attributes:
        k: how many items of the answer count, 1 or more.
    """

    k: int = 10

    def __post_init__(self) -> None:
        if self.k < 1:
            raise CalibrationError(f"k: expected 1 or more, got {self.k}")

    def __call__(self, answers: Sequence[Sequence[Any]], references: Sequence[Any]) -> NDArray[np.float64]:
        """Return the value float64 [n] in [0, 1] of n answers.

        Args:
            answers: items (numbers or text), the best first.
            references: the relevant items of each input: a collection, or one item.

        Raises:
            CalibrationError: they are not as many, or an answer is no sequence.
        """
        found = []
        for i, (answer, reference) in enumerate(paired(answers, references)):
            if isinstance(answer, str) or np.ndim(answer) != 1:
                raise CalibrationError(f"answers: expected a list of items in input {i}, got a {type(answer).__name__}")
            relevant = _items(reference)
            first = _items(answer[: self.k])
            found.append(len(relevant & first) / len(relevant) if relevant else 1.0)
        return np.array(found, dtype=np.float64)


def _items(value: Any) -> set[Any]:
    """Return items as a set of Python's own types, so that 1 and int64 1 are the same."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, str) or not isinstance(value, Collection):
        return {value}
    return {one.item() if isinstance(one, np.generic) else one for one in value}
