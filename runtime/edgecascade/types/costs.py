"""What errors cost, and the label of least expected cost.

Where one error costs more than another, the most probable class is not always the best answer: a missed defect may
cost as much as twenty false alarms. The best answer is the class j of least expected cost, the sum over the classes i
of p_i C_ij, under calibrated probabilities p (Elkan, The Foundations of Cost-Sensitive Learning, IJCAI 2001).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecascade.types.errors import ArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ErrorCosts", "labels_of"]


@dataclass(frozen=True)
class ErrorCosts:
    """The cost of each error, in a unit of the user's choice. A right answer costs nothing.

    Attributes:
        values: a cost per true class, [classes], the same for every wrong answer; or a matrix [classes, classes] by
            true class and answer, with zeros on its diagonal. Lists and arrays become tuples.

    Raises:
        ArgumentError: the values have another shape, one is negative or not finite, none is above 0, or the diagonal
            of a matrix is not 0.

    >>> costs = ErrorCosts((1.0, 20.0))  # a missed 1 costs as much as twenty false alarms
    >>> costs.labels(np.array([[0.96, 0.04], [0.94, 0.06]], np.float32))
    array([0, 1])
    """

    values: Sequence[float] | Sequence[Sequence[float]]

    def __post_init__(self) -> None:
        given: Any = self.values
        try:
            array = np.array(given, np.float64)
        except (TypeError, ValueError):
            array = np.zeros(())
        square = array.ndim == 2 and array.shape[0] == array.shape[1]
        if not (array.ndim == 1 or square) or len(array) < 2:
            shape = list(array.shape) if array.ndim else given
            raise ArgumentError(
                f"costs: expected a cost per class [classes] or a matrix [classes, classes], got {shape}"
            )
        if not ((array >= 0) & np.isfinite(array)).all() or not (array > 0).any():
            wrong = array[~((array >= 0) & np.isfinite(array))]
            got = wrong.flat[0] if wrong.size else "zeros only"
            raise ArgumentError(f"costs: expected numbers of 0 or more, and one above 0, got {got}")
        if square and np.diagonal(array).any():
            cost = next(one for one in np.diagonal(array).tolist() if one)
            raise ArgumentError(f"costs: expected 0 on the diagonal, since a right answer costs nothing, got {cost:g}")
        object.__setattr__(self, "values", _tuples(array.tolist()))

    def __str__(self) -> str:
        wide = np.array(self.values)
        kind = "by true class" if wide.ndim == 1 else "by true class and answer"
        wrong = wide if wide.ndim == 1 else wide[~np.eye(self.classes, dtype=bool)]
        return f"{wrong.min():g} to {wrong.max():g} per error, {kind}"

    @cached_property
    def shares(self) -> NDArray[np.float32]:
        """The values as shares of the largest, float32 [classes] or [classes, classes], as they are in the graph."""
        return np.asarray(np.array(self.values) / self.largest, np.float32)

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.values)

    @property
    def largest(self) -> float:
        """The cost of the costliest error."""
        return float(np.max(self.values))

    def expected(self, probabilities: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the expected cost of each answer under probabilities [n, classes], float32 [n, classes].

        Costs are shares of the largest cost, and so in [0, 1].
        """
        narrow = np.asarray(probabilities, np.float32)
        if self.shares.ndim == 2:
            return np.asarray(narrow @ self.shares)
        weighted = narrow * self.shares
        return np.asarray(weighted.sum(axis=1, keepdims=True) - weighted)

    def labels(self, probabilities: NDArray[np.floating]) -> NDArray[np.int64]:
        """Return the answers of least expected cost, int64 [n], the first of equal ones, as the cascade graph does."""
        if self.shares.ndim == 2:
            return np.asarray(self.expected(probabilities).argmin(axis=1))
        return np.asarray((np.asarray(probabilities, np.float32) * self.shares).argmax(axis=1))

    def of(self, true: NDArray[np.integer], answered: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the costs float64 [n] of answers [n] to inputs whose true classes are [n]."""
        wide = np.array(self.values, np.float64)
        return wide[true, answered] if wide.ndim == 2 else np.where(true == answered, 0.0, wide[true])


def labels_of(probabilities: NDArray[np.floating], costs: ErrorCosts | None = None) -> NDArray[np.int64]:
    """Return the labels int64 [n] of calibrated probabilities [n, classes].

    Args:
        probabilities: of each class.
        costs: of the errors; without them, the label is the most probable class.
    """
    return probabilities.argmax(axis=1) if costs is None else costs.labels(probabilities)


def _tuples(values: list[Any]) -> tuple[Any, ...]:
    return tuple(tuple(one) if isinstance(one, list) else one for one in values)
