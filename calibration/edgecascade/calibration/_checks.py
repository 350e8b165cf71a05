"""Checks of the arrays that fits and metrics start from, so that each is refused in the same words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration.advantage import Correct
from edgecascade.calibration.class_order import order_sentence
from edgecascade.calibration.intervals import proportion_interval
from edgecascade.calibration.weights import effective_size
from edgecascade.types.arrays import as_array
from edgecascade.types.errors import CalibrationError
from edgecascade.types.softmax import are_probabilities

__all__ = [
    "check_labelled_logits",
    "check_labelled_probabilities",
    "check_order",
    "check_scored_answers",
    "check_seed",
    "labelled",
    "warnings_about",
]

_FEWEST = 10  # rows
_FEW = 100
_MOST_REPEATED = 0.02  # share of rows whose outputs another row has, which chance alone does not explain
_LOOKED_AT = 20_000  # rows in which repeated ones are searched
_NEVER = 10  # rows of a class, of which none was recognised
_BLOCK = 1 << 18  # outputs that are compared at once


def labelled(scores: ArrayLike, labels: ArrayLike, name: str = "logits") -> tuple[NDArray[Any], NDArray[Any]]:
    """Return scores and labels as arrays, unchecked; both may be tensors of torch or tables of other libraries."""
    return as_array(scores, name), as_array(labels, "labels")


def check_labelled_logits(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> None:
    """Refuse logits [n, classes] and labels [n] of other shapes, types or ranges.

    Raises:
        CalibrationError: names the argument, what was expected and what came.
    """
    if logits.ndim != 2 or logits.shape[1] < 2 or not np.issubdtype(logits.dtype, np.floating):
        raise CalibrationError(
            f"logits: expected floating [n, classes] with at least 2 classes, got {logits.dtype} {list(logits.shape)}"
        )
    if len(logits) == len(labels) == 0:
        raise CalibrationError("labels: expected at least one labelled row, got none")
    _check_labels(labels, logits)


def check_labelled_probabilities(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> None:
    """Refuse probabilities [n, classes] whose rows are no distributions, and labels [n] that do not match them.

    Raises:
        CalibrationError: names the argument, what was expected and what came.
    """
    shape = list(probabilities.shape)
    if len(shape) != 2 or shape[0] < 1 or shape[1] < 2 or not np.issubdtype(probabilities.dtype, np.floating):
        raise CalibrationError(
            "probabilities: expected floating [n, classes] with at least one row and 2 classes, "
            f"got {probabilities.dtype} {shape}"
        )
    if not are_probabilities(probabilities):
        raise CalibrationError(
            "probabilities: expected rows of numbers in [0, 1] that sum to 1, got others; are they logits, or NaN?"
        )
    _check_labels(labels, probabilities)


def check_scored_answers(score: NDArray[np.floating], correct: Correct, *, graded: bool = False) -> None:
    """Refuse scores [n] that are not finite, and correctness that is not bool [n].

    Args:
        score: of each answer.
        correct: whether each answer was right.
        graded: whether a verifier's scores, floating [n] in [0, 1], will do as well.

    Raises:
        CalibrationError: names the argument, what was expected and what came.
    """
    if score.ndim != 1 or len(score) == 0 or not np.issubdtype(score.dtype, np.floating):
        raise CalibrationError(f"score: expected floating [n] with n > 0, got {score.dtype} {list(score.shape)}")
    known = correct.dtype == np.bool_ or (graded and np.issubdtype(correct.dtype, np.floating))
    if correct.shape != score.shape or not known:
        raise CalibrationError(
            f"correct: expected bool{' or floating' if graded else ''} [{len(score)}], one per score, "
            f"got {correct.dtype} {list(correct.shape)}"
        )
    outside = ~((correct >= 0) & (correct <= 1))
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise CalibrationError(f"correct: expected numbers in [0, 1], got {correct[row]} in row {row}")
    if not np.isfinite(score).all():
        row = int(np.flatnonzero(~np.isfinite(score))[0])
        raise CalibrationError(f"score: expected finite numbers, got {score[row]} in row {row}")


def warnings_about(
    outputs: Mapping[str, NDArray[np.floating]],
    labels: NDArray[np.integer],
    weight: NDArray[np.float64] | None = None,
) -> tuple[str, ...]:
    """Refuse labelled outputs that no calibration can be made from, and return sentences about what looks wrong.

    Args:
        outputs: logits [n, classes] by the name of the model, such as `local model`; they passed the checks above.
        labels: [n], in 0..classes - 1.
        weight: float64 [n], how much each row counts; None if all count alike.

    Raises:
        CalibrationError: there are too few rows, all labels are the same, or a model's output is always the same.
    """
    n, classes = next(iter(outputs.values())).shape
    if n < _FEWEST:
        raise CalibrationError(f"labels: expected at least {_FEWEST} labelled inputs, got {n}")
    if (labels == labels[0]).all():
        raise CalibrationError(f"labels: expected inputs of several classes, got {n} of class {labels[0]} only")
    for name, logits in outputs.items():
        if (logits == logits[0]).all():
            raise CalibrationError(f"logits: the {name} gives the same output for all {n} inputs")
    found = []
    if n < _FEW:
        found.append(f"there are only {n} labelled inputs: the intervals are wide, and about 1000 are advised")
    elif (worth := effective_size(weight, n)) < _FEW:
        found.append(
            f"the weighted inputs are worth only {worth:.0f}: the intervals are wide, and about 1000 are advised"
        )
    if n < classes:
        found.append(f"there are {n} labelled inputs for {classes} classes: most classes are not judged by any input")
    found += _repeated(tuple(outputs.values()))
    for name, logits in outputs.items():
        found += _about_answers(name, logits.argmax(axis=1), labels, classes)
    if len(outputs) == 2:
        found += _the_same(*outputs.values())
    return tuple(found)


def check_order(
    outputs: Mapping[str, NDArray[np.floating]], labels: NDArray[np.integer], names: Sequence[str] = ()
) -> None:
    """Refuse outputs that fit the labels far better with their classes in another order, and name that order.

    Args:
        outputs: logits [n, classes] by the name of the model; they passed the checks above.
        labels: [n], in 0..classes - 1.
        names: of the classes; empty if unknown.

    Raises:
        CalibrationError: names the model, the other order, and how many answers it makes right.
    """
    for name, logits in outputs.items():
        sentence = order_sentence(logits.argmax(axis=1), labels, logits.shape[1], names)
        if sentence is not None:
            raise CalibrationError(
                f"{name}: {sentence}; give its classes their names in the order of its outputs (`edgecascade export "
                "FILE --names`), so that they are matched by name, or reorder its outputs"
            )


def check_seed(seed: int) -> None:
    """Refuse a seed below 0.

    Raises:
        CalibrationError: names the argument, what was expected and what came.
    """
    if seed < 0:
        raise CalibrationError(f"seed: expected an integer of 0 or more, got {seed}")


def _check_labels(labels: NDArray[np.integer], table: NDArray[np.floating]) -> None:
    n, classes = table.shape
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise CalibrationError(f"labels: expected integers [{n}], one per row, got {labels.dtype} {list(labels.shape)}")
    if labels.min() < 0 or labels.max() >= classes:
        raise CalibrationError(
            f"labels: expected 0 to {classes - 1}, one per column, got {labels.min()} to {labels.max()}"
        )


def _about_answers(name: str, answers: NDArray[np.integer], labels: NDArray[np.integer], classes: int) -> Iterator[str]:
    n, right = len(labels), int(np.count_nonzero(answers == labels))
    counts = np.bincount(labels, minlength=classes)
    commonest = int(counts.max())
    if right == n and n >= _FEW:
        yield (
            f"the {name} is right on all {n} inputs: make sure that the labels are not its own answers, "
            "and that it was not trained on these inputs"
        )
    if proportion_interval(right, n)[1] < commonest / n:
        yield (
            f"the {name} is right on {right / n:.1%} of the inputs, and less often than by always answering the "
            f"commonest class ({commonest / n:.1%}): check that its classes are in the order of the labels"
        )
    never = np.flatnonzero((counts >= _NEVER) & (np.bincount(answers, minlength=classes) == 0))
    if len(never):
        more = f", and of {len(never) - 1} more classes with {_NEVER} inputs or more" if len(never) > 1 else ""
        yield f"the {name} never answers class {never[0]}, the label of {counts[never[0]]} inputs{more}"


def _the_same(one: NDArray[np.floating], other: NDArray[np.floating]) -> Iterator[str]:
    """Compare outputs up to what temperature and the softmax ignore: a scale, and a constant per row."""
    lengths, near = np.zeros(2), 1e-6 / one.size
    for first, second in _below_their_largest(one, other):
        finite = np.isfinite(first) & np.isfinite(second)
        lengths += [np.abs(table[finite]).sum() for table in (first, second)]
    if lengths.min() > 0 and all(
        np.allclose(first / lengths[0], second / lengths[1], rtol=1e-3, atol=near)
        for first, second in _below_their_largest(one, other)
    ):
        yield "both models give the same outputs: was one model given twice?"
    elif (one.argmax(axis=1) == other.argmax(axis=1)).all():
        yield f"both models give the same answer to all {len(one)} inputs: forwarding cannot change an answer"


def _below_their_largest(*tables: NDArray[np.floating]) -> Iterator[list[NDArray[np.float64]]]:
    """Yield the tables less the largest of each row, in blocks of rows: float64 copies of all would take gigabytes."""
    step = max(1, _BLOCK // tables[0].shape[1])
    for start in range(0, len(tables[0]), step):
        wide = [np.asarray(table[start : start + step], np.float64) for table in tables]  # sums of float16 overflow
        with np.errstate(invalid="ignore"):
            yield [table - table.max(axis=1, keepdims=True) for table in wide]


def _repeated(tables: Sequence[NDArray[np.floating]]) -> Iterator[str]:
    """Find rows that all models give the same outputs as another row, unless the outputs take few values anyway."""
    rows = [np.ascontiguousarray(table[:_LOOKED_AT]) for table in tables]
    seen = {tuple(row.tobytes() for row in several) for several in zip(*rows, strict=True)}
    n = len(rows[0])
    values = max(len(np.unique(table)) for table in rows)
    if n - len(seen) > _MOST_REPEATED * n and values > 0.9 * len(seen) * rows[0].shape[1]:
        yield (
            f"{n - len(seen)} of {n} inputs have exactly the outputs of another: an input that is there more than "
            "once makes all intervals too narrow"
        )
