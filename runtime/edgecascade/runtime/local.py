"""The local model's decision about an input: label, confidence, advantage, whether to forward, probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.batch import rows, stacked
from edgecascade.runtime.bound import Bound
from edgecascade.runtime.errors import InputError, ModelFileError
from edgecascade.runtime.model_inputs import ModelInputs

__all__ = ["OUTPUTS", "LocalModel"]

OUTPUTS = ["label", "confidence", "advantage", "forward", "probabilities"]


class LocalModel:
    """A cascade model's session under one policy.

    Args:
        session: of the file.
        inputs: what it takes.
        classes: how many it tells apart, by its metadata.
        overrides: arrays by name, in place of the file's defaults.
    """

    def __init__(
        self, session: Any, inputs: ModelInputs, classes: int, overrides: Mapping[str, NDArray[np.float32]]
    ) -> None:
        self._session, self._inputs, self._classes, self._overrides = session, inputs, classes, overrides
        simple = inputs.text is None and len(inputs.declared) == 1 and inputs.batch in (None, 1)
        self._bound = Bound(session, inputs.declared[0], classes, overrides) if simple and _can_bind(session) else None

    def one(self, x: Any) -> tuple[int, float, float, bool, NDArray[np.float32]]:
        """The decision about one input, without the batch axis.

        Raises:
            InputError: the input is not what the file declares.
            ModelFileError: the file has not as many names as classes.
        """
        if self._bound is not None and type(x) is np.ndarray:
            try:
                return self._bound(x)
            except InputError:
                raise
            except Exception:  # the other way is slower, and can say what is wrong
                pass
        label, confidence, advantage, forward, probabilities = self.many(self._inputs.feeds("x", stacked(x)), 1)
        return int(label[0]), float(confidence[0]), float(advantage[0]), bool(forward[0]), probabilities[0]

    def many(self, feeds: Mapping[str, NDArray[Any]], n: int) -> list[NDArray[Any]]:
        """The five outputs, [n] each; a file made for a fixed batch is run once for each.

        Raises:
            InputError: n is no multiple of that batch.
            ModelFileError: the file has not as many names as classes.
        """
        step = self._inputs.batch or n
        if n % step:
            raise InputError(f"x: expected a multiple of {step} inputs (the file's batch), got {n}")
        parts = [
            self._session.run(OUTPUTS, {**rows(feeds, slice(i, i + step)), **self._overrides})
            for i in range(0, n, step)
        ]
        columns = parts[0] if len(parts) == 1 else [np.concatenate(column) for column in zip(*parts, strict=True)]
        if columns[-1].shape[1] != self._classes:
            raise ModelFileError(f"the file names {self._classes} classes and gives {columns[-1].shape[1]}")
        return list(columns)


def _can_bind(session: Any) -> bool:
    """Whether it is onnxruntime's, of a version whose inner parts are where `bound` looks for them."""
    return hasattr(session, "io_binding") and hasattr(getattr(session, "_sess", None), "run_with_iobinding")
