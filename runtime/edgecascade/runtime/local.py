"""The local model's decision about an input: label, confidence, advantage, whether to forward, probabilities."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgecascade.runtime.batch import Batch, first_of, rows, size, stacked
from edgecascade.runtime.bound import Bound
from edgecascade.runtime.fork import watch_forks
from edgecascade.runtime.metadata import read_document
from edgecascade.runtime.model_inputs import model_inputs
from edgecascade.runtime.session import open_session
from edgecascade.types.answer import Prediction
from edgecascade.types.document import CascadeDocument
from edgecascade.types.errors import ArgumentError, ForkedError, InputError, ModelFileError
from edgecascade.types.policy import Policy

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["OUTPUTS", "Decided", "LocalModel"]

OUTPUTS = ["label", "confidence", "advantage", "forward", "probabilities"]


class Decided(NamedTuple):
    """The decision about one input."""

    label: int
    confidence: float
    advantage: float
    forward: bool
    probabilities: NDArray[np.float32]

    @property
    def verdict(self) -> Prediction:
        """Without what follows from it."""
        return Prediction(self.label, self.confidence, self.probabilities)


class _Live(NamedTuple):
    """What `swap` exchanges, in one assignment."""

    policy: Policy
    overrides: Mapping[str, NDArray[np.float32]]
    bound: Bound | None


class LocalModel:
    """A cascade model's session under a policy, which may change while it runs.

    Args:
        path: of the file.
        session: of the file.
        document: of the file.

    Raises:
        ModelFileError: its policy is damaged.
    """

    def __init__(self, path: str | os.PathLike[str], session: Any, document: CascadeDocument) -> None:
        self.document, self.inputs = document, model_inputs(session, path)
        self._path, self._session, self._classes = path, session, len(document.labels)
        self._own = document.device_policy()
        self._forked_from = 0
        self._live = self._under(self._own)
        watch_forks(self)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **options: Any) -> LocalModel:
        """Open a file, with the options of `open_session`.

        Raises:
            ModelFileError: the file is missing, damaged, no cascade model, or of a newer format.
        """
        session = open_session(path, **options)
        document = read_document(session, path)
        missing = set(OUTPUTS) - {output.name for output in session.get_outputs()}
        if missing:
            raise ModelFileError(f"{path}: not a cascade model: it lacks the outputs {sorted(missing)}")
        return cls(path, session, document)

    @property
    def provider(self) -> str:
        """The execution provider that really runs it."""
        return str(self._session.get_providers()[0])

    @property
    def policy(self) -> Policy:
        """What it decides by now."""
        return self._live.policy

    def swap(self, policy: Policy) -> Policy:
        """Decide by another policy from now on; the one until now.

        Raises:
            ArgumentError: the file cannot decide by it.
        """
        before, self._live = self._live, self._under(policy)
        return before.policy

    def forked(self, parent: int) -> None:
        """Refuse to run from now on, in a fork of the process that loaded it."""
        self._forked_from = parent
        self._live = self._live._replace(bound=None)

    def warm_up(self, x: Any = None) -> float:
        """Decide about one input, or the file's golden inputs; seconds that it took.

        Raises:
            ArgumentError: neither is there.
        """
        started = time.monotonic()
        if x is not None:
            self.one(self.inputs.read(x)[0])
            return time.monotonic() - started
        from edgecascade.runtime.golden import read_golden

        golden = read_golden(self._session, self._path)
        if golden is None:
            raise ArgumentError("x: expected an input to warm up with, since the file has no golden inputs, got None")
        alone = first_of(golden.inputs)
        self.one(alone if len(alone) > 1 else next(iter(alone.values())))
        return time.monotonic() - started

    def one(self, x: Any) -> tuple[int, float, float, bool, NDArray[np.float32]]:
        """The decision about one input, without the batch axis; the fields of `Decided`.

        Raises:
            InputError: the input is not what the file declares.
            ModelFileError: the file has not as many names as classes.
            ForkedError: this is a fork of the process that loaded it.
        """
        live = self._live
        if live.bound is not None and type(x) is np.ndarray:
            try:
                return live.bound(x)
            except InputError:
                raise
            except Exception:  # the other way is slower, and can say what is wrong
                pass
        (decided,) = self._decide(self.inputs.feeds("x", stacked(x)), live)
        return decided

    def many(self, batch: Batch) -> list[Decided]:
        """The decisions about inputs [n, ...]; a file made for a fixed batch is run once for each.

        Raises:
            InputError: they are not what the file declares, or n is no multiple of that batch.
            ModelFileError: the file has not as many names as classes.
            ForkedError: this is a fork of the process that loaded it.
        """
        return self._decide(self.inputs.feeds("x", batch), self._live)

    def _decide(self, feeds: Mapping[str, NDArray[Any]], live: _Live) -> list[Decided]:
        if self._forked_from:
            raise ForkedError(
                f"cascade: loaded in process {self._forked_from}, and this is its fork {os.getpid()}, which has none "
                "of its threads; load it after the fork"
            )
        n = size(feeds)
        step = self.inputs.batch or max(n, 1)
        if n % step:
            raise InputError(f"x: expected a multiple of {step} inputs (the file's batch), got {n}")
        decided: list[Decided] = []
        for start in range(0, n, step):
            part = {**rows(feeds, slice(start, start + step)), **live.overrides}
            label, confidence, advantage, forward, probabilities = self._session.run(OUTPUTS, part)
            if probabilities.shape[1] != self._classes:
                raise ModelFileError(f"the file names {self._classes} classes and gives {probabilities.shape[1]}")
            advantage = np.where(np.isnan(confidence), np.float32(np.nan), advantage)
            columns = (column.tolist() for column in (label, confidence, advantage, forward))
            decided += [Decided(*one) for one in zip(*columns, probabilities, strict=True)]
        return decided

    def _under(self, policy: Policy) -> _Live:
        overrides = policy.overrides(self._own)
        fixed = overrides.keys() - {one.name for one in self._session.get_overridable_initializers()}
        if fixed:
            raise ArgumentError(f"policy: this file cannot change its {', '.join(sorted(fixed))} without a new file")
        inputs = self.inputs
        simple = inputs.text is None and len(inputs.declared) == 1 and inputs.batch in (None, 1)
        bindable = simple and not self._forked_from and _can_bind(self._session)
        bound = Bound(self._session, inputs.declared[0], self._classes, overrides) if bindable else None
        return _Live(policy, overrides, bound)


def _can_bind(session: Any) -> bool:
    """Whether it is onnxruntime's, of a version whose inner parts are where `bound` looks for them."""
    return hasattr(session, "io_binding") and hasattr(getattr(session, "_sess", None), "run_with_iobinding")
