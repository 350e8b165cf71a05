"""Answers beside their references."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration.confidence import Verifier
from edgecascade.types.errors import CalibrationError, EdgecascadeError, first_line

__all__ = ["paired", "verify"]


def paired(answers: Sequence[Any], references: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield each answer with its reference.

    Raises:
        CalibrationError: there are not as many of both.
    """
    if len(answers) != len(references):
        raise CalibrationError(f"references: expected {len(answers)}, one for each answer, got {len(references)}")
    yield from zip(answers, references, strict=True)


def verify(
    verifier: Verifier[Any], answers: Sequence[Any], references: Sequence[Any], *, model: str = "model"
) -> NDArray[np.float64]:
    """Return the values float64 [n] that a verifier gives n answers, after a check that each is in [0, 1].

    Args:
        verifier: from answers and references to values [n].
        answers: n of them.
        references: n of them.
        model: whose answers these are, for error messages.

    Raises:
        CalibrationError: the numbers of answers, references and values differ, a value is outside [0, 1] or not
            finite, or the verifier raises an exception.

    >>> verify(lambda answers, references: [a == r for a, r in zip(answers, references)], ["a", "b"], ["a", "c"])
    array([1., 0.])
    """
    if len(answers) != len(references):
        raise CalibrationError(
            f"references: expected {len(answers)}, one for each answer of the {model}, got {len(references)}"
        )
    try:
        found: ArrayLike = verifier(answers, references)
        values = np.asarray(found, dtype=np.float64)
    except CalibrationError as error:
        raise CalibrationError(str(error).replace("answers:", f"answers of the {model}:", 1)) from error
    except EdgecascadeError:
        raise
    except Exception as error:  # a user's own function may raise anything
        raise CalibrationError(
            f"verifier: it raised {type(error).__name__} for the answers of the {model}: {first_line(error)}"
        ) from error
    if values.shape != (len(answers),):
        raise CalibrationError(
            f"verifier: expected {len(answers)} values, one for each answer of the {model}, got {list(values.shape)}"
        )
    outside = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if len(outside):
        raise CalibrationError(
            f"verifier: expected values in [0, 1], got {values[outside[0]]:g} for the {model}'s answer to input "
            f"{outside[0]}"
        )
    return values
