"""What a cascade file says about each input: its decision, read from the arrays that a run gives."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from edgecascade.runtime.columns import Columns
from edgecascade.runtime.outputs import by_input
from edgecascade.types.answer import NO_OUTPUTS, Prediction
from edgecascade.types.errors import ModelFileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "CLASSIFIER_OUTPUTS",
    "NO_CLASSES",
    "TASK_OUTPUTS",
    "ClassDecisions",
    "Decided",
    "Decisions",
    "TaskDecisions",
]

CLASSIFIER_OUTPUTS = ("label", "confidence", "advantage", "forward", "probabilities")
TASK_OUTPUTS = ("confidence", "advantage", "forward")


class Decided(NamedTuple):
    """The decision about one input.

    Attributes:
        prediction: the local model's.
        advantage: NaN where the confidence is NaN.
        forward: whether to forward the input.
    """

    prediction: Prediction
    advantage: float
    forward: bool


class Decisions(Protocol):
    """Reads decisions from the outputs of a cascade file.

    Attributes:
        names: the outputs to run it for, in the order in which `read` takes them.
    """

    names: list[str]

    def read(self, columns: Sequence[NDArray[Any]], n: int) -> list[Decided]:
        """Return the decisions about n inputs from output arrays [n, ...].

        Raises:
            ModelFileError: the arrays are not those of n inputs.
        """
        ...

    def columns(self, columns: Sequence[NDArray[Any]], n: int) -> Columns:
        """Return the same as arrays. Every output has a row for each input."""
        ...


class ClassDecisions:
    """Reads the decisions of a classifier.

    Args:
        path: of the file, for error messages.
        classes: number of class names.
        further: names of outputs to return beside the decision.
    """

    def __init__(self, path: str | os.PathLike[str], classes: int, further: Sequence[str] = ()) -> None:
        self._path, self._classes, self._further = path, classes, tuple(further)
        self.names = [*CLASSIFIER_OUTPUTS, *further]

    def read(self, columns: Sequence[NDArray[Any]], n: int) -> list[Decided]:
        """Return the decisions; a `ModelFileError` if the number of class names is not that of the classes."""
        label, confidence, advantage, forward, probabilities = self._checked(columns)
        named = _by_input(self._path, self._further, columns[len(CLASSIFIER_OUTPUTS) :], n)
        numbers = (column.tolist() for column in (label, confidence, advantage, forward))
        return [
            Decided(Prediction(k, sure, row, outputs), gain, send)
            for k, sure, gain, send, row, outputs in zip(*numbers, probabilities, named, strict=True)
        ]

    def columns(self, columns: Sequence[NDArray[Any]], n: int) -> Columns:
        """Return the decisions as arrays."""
        label, confidence, advantage, forward, probabilities = self._checked(columns)
        further = _with_rows(self._path, self._further, columns[len(CLASSIFIER_OUTPUTS) :], n)
        return Columns.decided(label, confidence, advantage, forward, probabilities, further)

    def _checked(self, columns: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], ...]:
        label, confidence, advantage, forward, probabilities = columns[: len(CLASSIFIER_OUTPUTS)]
        if probabilities.shape[1:] != (self._classes,):
            raise ModelFileError(
                f"{self._path}: expected probabilities of {self._classes} classes, got {list(probabilities.shape)}"
            )
        _check_numbers(self._path, (label, confidence, advantage, forward), len(probabilities))
        return label, confidence, _known(advantage, confidence), forward, probabilities


class TaskDecisions:
    """Reads the decisions of a general task.

    Args:
        path: of the file, for error messages.
        outputs: names of the body's outputs to return, and their names in the file.
        unbatched: names, in the file, of those without a batch axis.
    """

    def __init__(self, path: str | os.PathLike[str], outputs: Mapping[str, str], unbatched: Sequence[str] = ()) -> None:
        self._path, self._outputs = path, tuple(outputs)
        self._unbatched = frozenset(name for name, there in outputs.items() if there in unbatched)
        self.names = [*TASK_OUTPUTS, *outputs.values()]

    def read(self, columns: Sequence[NDArray[Any]], n: int) -> list[Decided]:
        """Return the decisions, whose predictions have outputs and no label."""
        confidence, advantage, forward = columns[: len(TASK_OUTPUTS)]
        _check_numbers(self._path, (confidence, advantage, forward), n)
        named = _by_input(self._path, self._outputs, columns[len(TASK_OUTPUTS) :], n, self._unbatched)
        numbers = (column.tolist() for column in (confidence, _known(advantage, confidence), forward))
        return [
            Decided(Prediction(-1, sure, NO_CLASSES, outputs), gain, send)
            for sure, gain, send, outputs in zip(*numbers, named, strict=True)
        ]

    def columns(self, columns: Sequence[NDArray[Any]], n: int) -> Columns:
        """Return the decisions as arrays."""
        confidence, advantage, forward = columns[: len(TASK_OUTPUTS)]
        _check_numbers(self._path, (confidence, advantage, forward), n)
        outputs = _with_rows(self._path, self._outputs, columns[len(TASK_OUTPUTS) :], n)
        none = np.zeros((n, 0), np.float32)
        label = np.full(n, -1, np.int64)
        return Columns.decided(label, confidence, _known(advantage, confidence), forward, none, outputs)


NO_CLASSES: NDArray[np.float32] = np.zeros(0, np.float32)
"""The probabilities of a prediction for a general task; read-only."""
NO_CLASSES.flags.writeable = False


def _check_numbers(path: str | os.PathLike[str], columns: Sequence[NDArray[Any]], n: int) -> None:
    if any(one.shape != (n,) for one in columns):
        raise ModelFileError(f"{path}: expected one decision for each input, got arrays of other shapes")


def _known(advantage: NDArray[Any], confidence: NDArray[Any]) -> NDArray[Any]:
    unknown = np.isnan(confidence)
    return np.where(unknown, np.float32(np.nan), advantage) if unknown.any() else advantage


def _with_rows(
    path: str | os.PathLike[str], names: Iterable[str], columns: Sequence[NDArray[Any]], n: int
) -> dict[str, NDArray[Any]]:
    for name, one in zip(names, columns, strict=True):
        if one.ndim == 0 or len(one) != n:
            raise ModelFileError(f"{path}: expected {n} rows in {name!r:.80}, got {list(one.shape)}")
    return dict(zip(names, columns, strict=True))


def _by_input(
    path: str | os.PathLike[str],
    names: Sequence[str],
    columns: Sequence[NDArray[Any]],
    n: int,
    unbatched: Collection[str] = (),
) -> Sequence[Any]:
    if not names:
        return [NO_OUTPUTS] * n
    try:
        return by_input(dict(zip(names, columns, strict=True)), n, unbatched)
    except ValueError as error:
        raise ModelFileError(f"{path}: {error}") from error
