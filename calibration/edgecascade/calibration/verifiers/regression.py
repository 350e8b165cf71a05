"""How close numbers are to those that they should be.

An answer and its reference are one number each, or arrays of one shape, whose elements count alike. A number in the
answer that is not finite has the value 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration.verifiers.pairs import paired
from edgecascade.types.errors import CalibrationError

__all__ = ["ScaledError", "Within"]


@dataclass(frozen=True)
class Within:
    """The share of numbers whose error is at most a tolerance: 1 or 0 where an answer is one number.

    Attributes:
        tolerance: the largest error that counts as right, above 0.
        relative: whether it is a share of the reference's absolute value.
    """

    tolerance: float
    relative: bool = False

    def __post_init__(self) -> None:
        _check_positive("tolerance", self.tolerance)

    def __call__(self, answers: Sequence[ArrayLike], references: Sequence[ArrayLike]) -> NDArray[np.float64]:
        """Return the value float64 [n] in [0, 1] of n answers.

        Raises:
            CalibrationError: they are not as many, of other shapes, or a reference is not finite.
        """

        def value(answer: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
            allowed = self.tolerance * (np.abs(reference) if self.relative else 1.0)
            return (np.abs(answer - reference) <= allowed).astype(np.float64)

        return _mean(answers, references, value)


@dataclass(frozen=True)
class ScaledError:
    """1 minus the absolute error divided by a scale, at least 0.

    Attributes:
        scale: the error from which an answer is worth nothing, above 0.
    """

    scale: float

    def __post_init__(self) -> None:
        _check_positive("scale", self.scale)

    def __call__(self, answers: Sequence[ArrayLike], references: Sequence[ArrayLike]) -> NDArray[np.float64]:
        """Return the value float64 [n] in [0, 1] of n answers.

        Raises:
            CalibrationError: they are not as many, of other shapes, or a reference is not finite.
        """
        return _mean(answers, references, lambda one, other: (1 - np.abs(one - other) / self.scale).clip(0.0, 1.0))


def _mean(
    answers: Sequence[ArrayLike],
    references: Sequence[ArrayLike],
    value: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]],
) -> NDArray[np.float64]:
    found = []
    for i, (given, wanted) in enumerate(paired(answers, references)):
        answer, reference = (
            _numbers(one, f"{name}: input {i}") for name, one in (("answers", given), ("references", wanted))
        )
        if answer.shape != reference.shape and not answer.size == reference.size == 1:
            raise CalibrationError(
                f"answers: expected the shape {list(reference.shape)} of the reference of input {i}, "
                f"got {list(answer.shape)}"
            )
        if not np.isfinite(reference).all() or reference.size == 0:
            raise CalibrationError(f"references: expected finite numbers, got others in input {i}")
        answer, reference = answer.reshape(-1), reference.reshape(-1)
        finite = np.isfinite(answer)
        found.append(float(np.where(finite, value(np.where(finite, answer, 0), reference), 0).mean()))
    return np.array(found, dtype=np.float64)


def _numbers(given: ArrayLike, where: str) -> NDArray[np.float64]:
    try:
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"{where}: expected numbers, got a {type(given).__name__}") from error


def _check_positive(name: str, number: float) -> None:
    if not 0 < number < np.inf:
        raise CalibrationError(f"{name}: expected a number above 0, got {number}")
