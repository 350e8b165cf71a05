"""Answers beside their references."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration.confidence import Verifier
from edgecascade.types.detections import Detections
from edgecascade.types.errors import CalibrationError, EdgecascadeError, first_line

__all__ = ["labels_apart", "paired", "verify"]

_OFTEN = 0.05  # of all labels, counted once for each input
_NAMED = 5  # labels in a sentence


def paired(answers: Sequence[Any], references: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield each answer with its reference.

    Raises:
        CalibrationError: there are not as many of both.
    """
    if len(answers) != len(references):
        raise CalibrationError(f"references: expected {len(answers)}, one for each answer, got {len(references)}")
    yield from zip(answers, references, strict=True)


def labels_apart(verifier: Verifier[Any], answers: Sequence[Any], references: Sequence[Any]) -> str | None:
    """Return a sentence where labels of boxes or classes of pixels seem to be numbered in two ways, else None.

    They are if both sides often have labels that the other never has.

    Args:
        verifier: of the answers; one that compares places alone (`labels=no`) has no use for labels.
        answers: `Detections`, mappings with `labels` [k], or maps of whole numbers; others have no labels.
        references: the same.
    """
    if getattr(verifier, "labels", True) is False:
        return None
    ours, theirs = (Counter(label for one in side for label in _labels(one)) for side in (answers, references))
    alone = [
        {label: n for label, n in one.items() if label not in other} for one, other in ((ours, theirs), (theirs, ours))
    ]
    if any(sum(found.values()) <= _OFTEN * one.total() for found, one in zip(alone, (ours, theirs), strict=True)):
        return None
    first, second = (
        ", ".join(map(str, sorted(found, key=lambda one: (str(type(one)), one))[:_NAMED])) for found in alone
    )
    return (
        f"labels are numbered in two ways: only the answers have {first}, only the references {second}; check how the "
        "data counts (--coco-labels, the values of masks) and the decoder (first_label, background)"
    )


def _labels(value: Any) -> list[Any]:
    """Return the different labels in an answer or a reference; none if it is of another kind."""
    if isinstance(value, Detections):
        value = value.labels
    elif isinstance(value, Mapping):
        value = value.get("labels")
    elif not isinstance(value, np.ndarray) or value.ndim < 2 or value.dtype.kind not in "iu":
        return []
    return [] if value is None else np.unique(np.asarray(value)).tolist()


def _kinds(answers: Sequence[Any], references: Sequence[Any]) -> str:
    """Return the types of the first answer and its reference in words."""
    if not len(answers):
        return ""
    ours, theirs = (
        f"{one.dtype} {list(one.shape)}" if isinstance(one, np.ndarray) else type(one).__name__
        for one in (answers[0], references[0])
    )
    return f"; its first answer is {ours}, the reference {theirs}"


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
        said = str(error).replace("answers:", f"answers of the {model}:", 1)
        raw = len(answers) and isinstance(answers[0], dict)
        cure = "; these are outputs: give what makes answers of them with decode (--decode)" if raw else ""
        raise CalibrationError(f"{said}{cure}") from error
    except EdgecascadeError:
        raise
    except Exception as error:  # a user's own function may raise anything
        raise CalibrationError(
            f"verifier: it raised {type(error).__name__} for the answers of the {model}: {first_line(error)}"
            f"{_kinds(answers, references)}"
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
