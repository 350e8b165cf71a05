"""A cascade in two stages for engines that run functions on tables: decide on all rows, answer those to forward.

Each stage is a callable from columns to columns, arrays [n, ...] by name. Ray Data, Spark and Dask can run them on
different machines, and on different numbers of them: only the second stage opens the large model.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade import Cascade
from edgecascade.deploy.pair import check_remote
from edgecascade.runtime.batch import Batch, rows
from edgecascade.runtime.columns import Columns
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remotes.onnx_file import OnnxFile
from edgecascade.types.errors import ArgumentError, InputError

__all__ = ["Answer", "Decide"]

_DECISIONS = ("label", "confidence", "advantage", "forward", "probabilities")
_ANSWERS = ("source", "reason")
_LONGEST = 86_400.0  # seconds

Table = Mapping[str, NDArray[Any]]


class Decide:
    """The first stage: the local model. Adds label, confidence, advantage, forward and probabilities to the columns.

    Args:
        path: the cascade file of a classifier.
        inputs: the column with the input; or the names of the model's inputs, which are those of their columns.
        options: further arguments of `Cascade.load`, such as `threshold`.
    """

    def __init__(self, path: str | os.PathLike[str], inputs: str | Sequence[str], **options: Any) -> None:
        self._cascade, self._inputs = _classifier(path, options), inputs

    def __call__(self, columns: Table) -> dict[str, NDArray[Any]]:
        """Return columns [n, ...] with the decisions about them.

        Raises:
            InputError: a column is missing, does not fit, or has the name of one that the stages add.
        """
        inputs = _inputs(columns, self._inputs)
        taken = next((name for name in (*_DECISIONS, *_ANSWERS) if name in columns), None)
        if taken is not None:
            raise InputError(f"columns: expected none named {taken!r}, which the answers have, got {_names(columns)}")
        decided = self._cascade.decide(inputs)
        return {**columns, **{name: getattr(decided, name) for name in _DECISIONS}}


class Answer:
    """The second stage: the large model, on the rows with `forward` only. Adds source and reason to the columns.

    Args:
        path: the cascade file, whose policy merges the answers.
        remote: the large model as an ONNX file.
        inputs: as in `Decide`. These columns are left out of the result.
        output: the output of the large model with the scores, if it is not evident.
        options: further arguments of `Cascade.load`.

    Raises:
        ArgumentError: the large model has other inputs, or scores of other classes.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        remote: str | os.PathLike[str],
        inputs: str | Sequence[str],
        *,
        output: str | None = None,
        **options: Any,
    ) -> None:
        self._cascade, self._inputs = _classifier(path, options), inputs
        check_remote(self._cascade, remote, output)
        self._remote = OnnxFile(remote, output=output)

    def __call__(self, columns: Table) -> dict[str, NDArray[Any]]:
        """Return the columns of `Decide`, without the inputs, with the answers in place of the decisions."""
        inputs = _inputs(columns, self._inputs)
        decided: dict[str, Any] = _columns(columns, _DECISIONS)
        found = Columns.decided(**decided)
        if found.forward.any():
            scores: Any = self._remote.infer(rows(inputs, found.forward), Deadline.after(_LONGEST))
            found = self._cascade.merged(found, scores, class_names=self._remote.class_names)
        left_out = {self._inputs} if isinstance(self._inputs, str) else {*self._inputs}
        kept = {name: column for name, column in columns.items() if name not in left_out}
        return {**kept, **{name: getattr(found, name) for name in (*_DECISIONS, *_ANSWERS)}}


def _classifier(path: str | os.PathLike[str], options: Mapping[str, Any]) -> Cascade:
    cascade = Cascade.load(path, **options)
    if not cascade.labels:
        raise ArgumentError(f"{os.fspath(path)}: expected the file of a classifier, got that of a general task")
    return cascade


def _inputs(columns: Table, names: str | Sequence[str]) -> Batch:
    return _columns(columns, [names])[names] if isinstance(names, str) else _columns(columns, names)


def _columns(columns: Table, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    if not hasattr(columns, "keys"):
        raise InputError(f"columns: expected arrays by name, got {type(columns).__name__}")
    if missing := [name for name in names if name not in columns]:
        raise InputError(f"columns: expected {', '.join(missing)}, got {_names(columns)}")
    return {name: np.asarray(columns[name]) for name in names}


def _names(columns: Table) -> str:
    return ", ".join(map(str, columns)) or "none"
