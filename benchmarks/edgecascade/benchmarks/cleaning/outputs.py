"""What each expert says about rows that it was not fitted on."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.cache import once
from edgecascade.benchmarks.cleaning.data import Expert, Task

__all__ = ["Outputs", "learned", "out_of_fold", "outputs_for"]

_SHARED = 0.02  # of the probability goes to all classes alike, since few neighbours often give exactly 0


@dataclass(frozen=True)
class Outputs:
    """Outputs of several experts on the same rows.

    Attributes:
        arrays: One per expert, float16 [n, classes].
        names: Of the experts.
        kinds: Of each array: logits or probabilities.
    """

    arrays: tuple[NDArray[np.float16], ...]
    names: tuple[str, ...]
    kinds: tuple[str, ...]

    def without_last(self) -> Outputs:
        """Return the outputs of all experts but the last."""
        return Outputs(self.arrays[:-1], self.names[:-1], self.kinds[:-1])


def outputs_for(task: Task, experts: tuple[Expert, ...], labels: NDArray[np.int64], path: Path) -> Outputs:
    """Return the out-of-fold outputs of experts that learned from these labels; they are saved the first time.

    Args:
        task: The rows and their folds.
        experts: Those to ask.
        labels: int64 [n], the labels that they learn from, some of them wrong.
        path: The file of the outputs that are fitted here.
    """

    def make(part: Path) -> None:
        fitted = {
            expert.name: out_of_fold(expert, labels, task.folds, task.classes) for expert in experts if expert.make
        }
        with part.open("wb") as file:
            np.savez(file, allow_pickle=False, **fitted)

    with np.load(once(path, make)) as saved:
        arrays = tuple(saved[one.name] if one.make else one.inputs.astype(np.float16) for one in experts)
    return Outputs(arrays, tuple(one.name for one in experts), tuple(one.scores for one in experts))


def out_of_fold(
    expert: Expert, labels: NDArray[np.int64], folds: NDArray[np.int64], classes: int
) -> NDArray[np.float16]:
    """Return the outputs float16 [n, classes] for each fold of an expert that was fitted on the others."""
    found = np.empty((len(labels), classes), np.float16)
    for fold in np.unique(folds):
        held_out = folds == fold
        model = _fitted(expert, expert.inputs[~held_out], labels[~held_out])
        found[held_out] = _outputs(expert, model, expert.inputs[held_out], classes)
    return found


def learned(expert: Expert, labels: NDArray[np.int64], rows: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the labels that the expert gives the test rows after learning some of the judged rows."""
    model = _fitted(expert, expert.inputs[rows], labels[rows])
    return np.asarray(model.predict(expert.test), np.int64)


def _fitted(expert: Expert, inputs: Any, labels: NDArray[np.int64]) -> Any:
    assert expert.make is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # logistic regression says that it stopped after 30 steps
        return expert.make().fit(inputs, labels)


def _outputs(expert: Expert, model: Any, inputs: Any, classes: int) -> NDArray[np.float64]:
    """Return outputs [n, classes]; a class that was not learned is as unlikely as the least likely one of the row."""
    if expert.scores == "probabilities":
        shares = np.zeros((inputs.shape[0], classes))
        shares[:, model.classes_] = model.predict_proba(inputs)
        return (1 - _SHARED) * shares + _SHARED / classes
    logs = model.predict_log_proba(inputs).clip(-6e4, None)
    found = np.repeat(logs.min(axis=1, keepdims=True), classes, axis=1)
    found[:, model.classes_] = logs
    return found
