"""Labels of data and of a model, matched by name: folders are in alphabetical order, and a model may not be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgecascade.export.labelled import LabelledData
from edgecascade.types.errors import BenchmarkError

__all__ = ["labelled_as"]


def labelled_as(data: LabelledData, classes: Sequence[str]) -> LabelledData:
    """The data with each label as the model counts, found by its name where both have names.

    Names that are only numbers say which label they mean. Data may lack classes of the model, not the reverse.

    Args:
        data: with or without names.
        classes: the model's names in order; numbers from 0 if it has none.

    Raises:
        BenchmarkError: a class that the model does not have.
    """
    if not data.names:
        return _checked(data, len(classes))
    numbers = [str(label) for label in range(len(classes))]
    if set(data.names) <= set(numbers):
        return _renumbered(data, numbers, classes)
    if list(classes) != numbers:
        return _renumbered(data, classes, classes)
    if len(data.names) != len(classes):
        raise BenchmarkError(
            f"data: expected as many classes as the model's {len(classes)}, which have no names, got {len(data.names)}"
        )
    return _checked(data, len(classes))


def _renumbered(data: LabelledData, known: Sequence[str], classes: Sequence[str]) -> LabelledData:
    strange = [name for name in data.names if name not in known]
    if strange or len(set(known)) != len(known):
        raise BenchmarkError(
            f"data: expected classes by the names that the model has ({_some(classes)}), got {_some(strange)}"
            if strange
            else f"data: expected a model whose classes have different names, got {_some(classes)}"
        )
    label = np.array([known.index(name) for name in data.names], np.int64)
    return replace(data, labels=label[_checked(data, len(data.names)).labels], names=tuple(classes))


def _checked(data: LabelledData, classes: int) -> LabelledData:
    low, high = int(data.labels.min()), int(data.labels.max())
    if low < 0 or high >= classes:
        raise BenchmarkError(f"data: expected labels from 0 to {classes - 1}, got {low if low < 0 else high}")
    return data


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
