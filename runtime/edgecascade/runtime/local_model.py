"""Run the local model: the decision about each input, and the outputs that were asked for."""

from __future__ import annotations

import math
import os
import struct
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

import numpy as np
import onnxruntime as ort

from edgecascade.runtime.batch import Batch, bytes_of, filled, first_of, rows, size, stacked
from edgecascade.runtime.columns import Columns
from edgecascade.runtime.decisions import (
    CLASSIFIER_OUTPUTS,
    TASK_OUTPUTS,
    ClassDecisions,
    Decided,
    Decisions,
    TaskDecisions,
)
from edgecascade.runtime.engine import Declared, Engine, numpy_dtype, open_session, read_document, read_properties
from edgecascade.runtime.model_inputs import as_declared, model_inputs
from edgecascade.runtime.outputs import share_batch
from edgecascade.types.answer import NO_OUTPUTS, Prediction
from edgecascade.types.errors import ArgumentError, ForkedError, InputError, ModelFileError, cut, first_line
from edgecascade.types.policy import Policy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgecascade.types.document import CascadeDocument, TaskDocument

__all__ = ["Bound", "LocalModel"]

_new = tuple.__new__  # of a NamedTuple with every field given, without the Python call that a constructor is
# label, confidence, advantage and forward lie side by side in one buffer, so that one call reads them all.
_NUMBERS = struct.Struct("=qff?")
_OFFSETS = {"label": (0, np.int64), "confidence": (8, np.float32), "advantage": (12, np.float32), "forward": (16, bool)}
_REUSED = 16  # sets of buffers that are reused: more threads at once allocate new ones
_INPUTS, _TEXTS, _BYTES = 4096, 64, 4 << 20  # most inputs, most texts and about the most bytes in one run of `columns`
_TOLERANCE = 1e-3  # of a confidence, as in `inspect --verify`
_COPIED = 1 << 15  # bytes: up to here, copying an input costs less than binding it


class _Live(NamedTuple):
    """The state that `swap` replaces in one assignment."""

    policy: Policy
    overrides: Mapping[str, NDArray[np.float32]]
    bound: Bound | None


class LocalModel:
    """An open cascade model under a policy, which may change while it runs. Safe to share between threads.

    Args:
        path: path of the file.
        session: the open file.
        document: the document in the file.
        outputs: names of outputs to return beside the decision, of a classifier's file or of a general task's body;
            none are all those of the body of a general task.

    Raises:
        ModelFileError: the file lacks an output.
        ArgumentError: it has no output of a name in `outputs`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        session: Engine,
        document: CascadeDocument | TaskDocument,
        outputs: Sequence[str] = (),
    ) -> None:
        self.document, self.inputs = document, model_inputs(session, path)
        self._path, self._session = path, session
        self._decisions, named = _decisions(path, session, document, outputs)
        declared = {one.name: one for one in session.get_outputs()}
        self.outputs: Mapping[str, Declared] = {name: declared[there] for name, there in named.items()}
        together = not self.outputs or share_batch(self.inputs.declared, [*self.outputs.values()])
        self._at_once = self.inputs.batch or (None if together else 1)
        self._own = document.device_policy()
        self._forked_from = 0
        self._live = self._under(self._own)
        _LIVING.add(self)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, outputs: Sequence[str] = (), **options: Any) -> LocalModel:
        """Open a file with the options of `open_session`.

        Raises:
            ModelFileError: the file is missing, damaged, not a cascade model, or of a newer format.
            ArgumentError: the file has no output of a name in `outputs`.
        """
        session = open_session(path, **options)
        return cls(path, session, read_document(session, path), outputs)

    def successor(
        self, path: str | os.PathLike[str], *, outputs: Sequence[str], threshold: float | None, **options: Any
    ) -> LocalModel:
        """Return a new file as a model that can take the place of this one, with the arguments of `Cascade.load`.

        Raises:
            ModelFileError: it cannot be loaded; decides about a golden input otherwise than recorded, or has none; or
                differs in its classes, inputs or outputs, or in how the remote is asked.
        """
        try:
            new = LocalModel.load(path, outputs=outputs, **options)
            new._replay()
            if threshold is not None:
                new.swap(replace(new.policy, threshold=threshold))
        except ModelFileError:
            raise
        except Exception as error:  # of the engine, or about arguments that were right for the file in use
            raise ModelFileError(f"{path}: {first_line(error)}") from error
        mine, its = self._outside(), new._outside()
        other = next((what for what in mine if mine[what] != its[what]), None)
        if other is not None:
            expected, got = (cut(repr(one[other]), 80) for one in (mine, its))
            raise ModelFileError(f"{path}: expected the {other} of the file in use, {expected}, got {got}")
        return new

    def _replay(self) -> None:
        """Run the golden inputs of the file.

        Raises:
            ModelFileError: it has none, or decides about one otherwise than recorded.
        """
        from edgecascade.runtime.golden import compare, read_golden

        golden = read_golden(self._session, self._path)
        if golden is None:
            raise ModelFileError(f"{self._path}: expected golden inputs, by which to check it, got none")
        _, difference = compare(self._session, golden.inputs, golden.expected, _TOLERANCE)
        if difference is not None:
            raise ModelFileError(f"{self._path}: it decides about its golden inputs otherwise: {difference}")

    def _outside(self) -> dict[str, Any]:
        """Return what callers and the remote see of the file, by name."""
        return {
            "classes": self.labels,
            "inputs": [_signature(one) for one in self.inputs.declared],
            "kind of input": "arrays" if self.inputs.text is None else "text",
            "outputs": {name: _signature(one) for name, one in self.outputs.items()},
            "outputs of the remote": self.remote_outputs,
            "form of asking the remote": getattr(self.document, "remote_chat", None),
        }

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes; empty for a general task."""
        return tuple(getattr(self.document, "labels", ()))

    @property
    def remote_outputs(self) -> tuple[str, ...]:
        """Names of the arrays with which the remote of a general task answers."""
        return tuple(getattr(self.document, "remote_outputs", ()))

    @property
    def provider(self) -> str:
        """The execution provider that runs it."""
        return str(self._session.get_providers()[0])

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._live.policy

    def swap(self, policy: Policy) -> Policy:
        """Decide by another policy from now on, and return the policy until now.

        Raises:
            ArgumentError: the file cannot decide by it.
        """
        before, self._live = self._live, self._under(policy)
        return before.policy

    def forked(self, parent: int) -> None:
        """Refuse to run from now on; called in a fork of the process that loaded it."""
        self._forked_from = parent
        self._live = self._live._replace(bound=None)

    def warm_up(self, x: Any = None) -> float:
        """Decide about `x`, or about one of the file's golden inputs, and return the seconds that it took.

        Raises:
            ArgumentError: `x` is None and the file has no golden inputs.
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

    def one(self, x: Any) -> tuple[Prediction, float, bool]:
        """Return the decision about one input without the batch axis: the fields of `Decided`.

        Raises:
            InputError: the input does not fit.
            ModelFileError: the number of class names differs from the number of classes.
            ForkedError: this is a fork of the process that loaded it.
        """
        live = self._live
        if live.bound is not None and type(x) is np.ndarray:
            try:
                return live.bound(x)
            except InputError:
                raise
            except Exception:  # the path below is slower, and raises an error that names the cause
                pass
        (decided,) = self._decide(self.inputs.feeds("x", stacked(x)), live)
        return decided

    def many(self, batch: Batch | list[NDArray[Any]]) -> list[Decided]:
        """Return the decisions about inputs [n, ...]. Inputs of several shapes are a list; those of one run together.

        A file of a fixed batch runs on batches of that size, the last one filled up with its last input.

        Raises:
            InputError: the inputs do not fit, or the model fails for them.
            ModelFileError: the number of class names differs from the number of classes.
            ForkedError: this is a fork of the process that loaded it.
        """
        live = self._live
        if not isinstance(batch, list):
            return [one for feeds in self.inputs.parts("x", batch) for one in self._decide(feeds, live)]
        alike: dict[tuple[int, ...], list[int]] = {}
        for i, one in enumerate(batch):
            alike.setdefault(one.shape, []).append(i)
        decided: dict[int, Decided] = {}
        for positions in alike.values():
            part = np.stack([batch[i] for i in positions])
            decided.update(zip(positions, self._decide(self.inputs.feeds("x", part), live), strict=True))
        return [decided[i] for i in range(len(batch))]

    def columns(self, batch: Batch | list[NDArray[Any]]) -> Columns:
        """Return the decisions about inputs [n, ...] as arrays. The model runs on some thousand inputs at a time.

        Errors are those of `many`.
        """
        text = self.inputs.text is not None
        if isinstance(batch, list) or self._at_once is not None or not size(batch) or (text and self.outputs):
            return Columns.of(self.many(batch), len(self.labels))  # further outputs may have any shape
        live, n, done = self._live, size(batch), 0
        step = _TEXTS if text else min(_INPUTS, max(1, _BYTES * n // max(1, bytes_of(batch))))
        whole: list[NDArray[Any]] = []
        for start in range(0, n, step):
            for feeds in self.inputs.parts("x", rows(batch, slice(start, start + step))):
                before, done = done, done + size(feeds)
                given = self._run(feeds, live)
                whole = whole or [np.empty((n, *one.shape[1:]), one.dtype) for one in given]
                for column, part in zip(whole, given, strict=True):
                    if part.shape != (done - before, *column.shape[1:]):
                        raise ModelFileError(f"{self._path}: expected a row for each input, got {list(part.shape)}")
                    column[before:done] = part
        return self._decisions.columns(whole, n)

    def _decide(self, feeds: Mapping[str, NDArray[Any]], live: _Live) -> list[Decided]:
        n = size(feeds)
        step = self._at_once or max(n, 1)
        decided: list[Decided] = []
        for start in range(0, n, step):
            part = filled(rows(feeds, slice(start, start + step)), step)
            decided += self._decisions.read(self._run(part, live), size(part))[: n - start]
        return decided

    def _run(self, feeds: Mapping[str, NDArray[Any]], live: _Live) -> list[Any]:
        if self._forked_from:
            raise ForkedError(
                f"cascade: it was loaded in process {self._forked_from}, and its threads do not exist in this fork "
                f"({os.getpid()}); load it after the fork"
            )
        try:
            return self._session.run(self._decisions.names, {**feeds, **live.overrides})
        except Exception as error:  # onnxruntime's exceptions have no common base but this one
            raise InputError(f"x: the model fails for this input: {first_line(error)}") from error

    def _under(self, policy: Policy) -> _Live:
        if policy.costs != self._own.costs:
            raise ArgumentError(
                "policy: expected the costs of the file, since its graph chooses labels by them; plan anew"
            )
        overrides = policy.overrides(self._own)
        fixed = overrides.keys() - {one.name for one in self._session.get_overridable_initializers()}
        if fixed:
            raise ArgumentError(f"policy: this file cannot change its {', '.join(sorted(fixed))} without a new file")
        inputs = self.inputs
        simple = inputs.text is None and len(inputs.declared) == 1 and inputs.batch in (None, 1)
        plain = simple and not self.outputs  # which may have any shape
        if not plain or self._forked_from or not _can_bind(self._session):
            return _Live(policy, overrides, None)
        return _Live(policy, overrides, Bound(self._session, inputs.declared[0], len(self.labels), overrides))


def _decisions(
    path: str | os.PathLike[str],
    session: Engine,
    document: CascadeDocument | TaskDocument,
    outputs: Sequence[str],
) -> tuple[Decisions, Mapping[str, str]]:
    """Return what reads the decisions of a file, and the names in the file of the outputs that come with them, by name.

    Outputs of a general task have the names that they have in the body, for which its decode function was written.

    Raises:
        ModelFileError: the file lacks an output that its document implies.
        ArgumentError: it has no output of a name in `outputs`, or the decision is made of it.
    """
    from edgecascade.types.document import CascadeDocument, body_names

    tensors = {one.name for one in session.get_outputs() if one.type.startswith("tensor(")}
    if isinstance(document, CascadeDocument):
        needed = {*CLASSIFIER_OUTPUTS}
        known = {name: name for name in tensors - needed}
    else:
        own = body_names(read_properties(session, path), str(path))
        known = {own.get(name, name): name for name in document.task.outputs}
        needed = {*TASK_OUTPUTS, *document.task.outputs}
    if missing := needed - tensors:
        raise ModelFileError(f"{path}: not a cascade model: it lacks the outputs {sorted(missing)}")
    if isinstance(outputs, str):
        raise ArgumentError(f"outputs: expected a sequence of names, got the text {outputs!r}")
    unknown = next((name for name in outputs if name not in known), None)
    if unknown is not None:
        raise ArgumentError(f"outputs: expected names among {', '.join(sorted(known)) or 'none'}, got {unknown!r}")
    if isinstance(document, CascadeDocument):
        chosen = {name: name for name in outputs}
        return ClassDecisions(path, len(document.labels), tuple(chosen)), chosen
    chosen = {name: known[name] for name in outputs} or known
    return TaskDecisions(path, chosen, document.task.unbatched), chosen


def _signature(tensor: Declared) -> tuple[str, str, list[int | None]]:
    """Return name, type and shape of a tensor; how a file calls its symbolic sides does not matter."""
    return tensor.name, tensor.type, [side if isinstance(side, int) else None for side in tensor.shape]


def _can_bind(session: Engine) -> bool:
    """Return whether it is an onnxruntime session that has the private methods which `Bound` calls."""
    return hasattr(session, "io_binding") and hasattr(getattr(session, "_sess", None), "run_with_iobinding")


class Bound:
    """Run a cascade model on one input at a time, with output buffers that are made once and bound to the session.

    Compared with `session.run` this saves the allocation of five outputs and the look-up of names, which is a third
    of the time of a very small model. Safe to share between threads: each call uses its own set of buffers.

    Args:
        session: onnxruntime's session of a cascade model with one input.
        declared: that input.
        classes: number of classes.
        overrides: arrays by name that replace the file's defaults.
    """

    def __init__(
        self, session: Any, declared: Declared, classes: int, overrides: Mapping[str, NDArray[np.float32]]
    ) -> None:
        self._session, self._declared, self._classes, self._overrides = session, declared, classes, overrides
        self._dtype = numpy_dtype(declared.type)
        self._options = ort.RunOptions()  # None would create one for each run, which costs a microsecond
        self._idle: deque[_Buffers] = deque(maxlen=_REUSED)

    def __call__(self, x: NDArray[Any]) -> tuple[Prediction, float, bool]:
        """Return the decision about one input without the batch axis: the fields of `Decided`.

        Raises:
            InputError: `x` does not fit.
            Exception: onnxruntime failed.
        """
        try:
            buffers = self._idle.pop()
        except IndexError:
            buffers = _Buffers(self._session, self._classes, self._overrides)
        if x.shape == buffers.shape and x.dtype == self._dtype:
            buffers.input[...] = x
        else:
            buffers.take(self._declared.name, as_declared("x", x[None], self._declared)[0])
        buffers.run(buffers.binding, self._options)
        label, confidence, advantage, forward = _NUMBERS.unpack_from(buffers.numbers)
        probabilities = buffers.probabilities.copy()
        self._idle.append(buffers)
        if confidence != confidence:
            advantage = math.nan
        return _new(Prediction, (label, confidence, probabilities, NO_OUTPUTS, None)), advantage, forward


class _Buffers:
    __slots__ = ("alive", "binding", "input", "numbers", "probabilities", "run", "shape")

    def __init__(self, session: Any, classes: int, overrides: Mapping[str, NDArray[np.float32]]) -> None:
        self.numbers = bytearray(_NUMBERS.size)
        numbers = np.frombuffer(self.numbers, np.uint8)
        rows = np.zeros((1, classes), np.float32)
        binding = session.io_binding()
        outputs = {name: numbers[at : at + np.dtype(kind).itemsize].view(kind) for name, (at, kind) in _OFFSETS.items()}
        values = {
            name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in (*outputs.items(), ("probabilities", rows))
        }
        for name, value in values.items():
            binding.bind_ortvalue_output(name, value)
        for name, array in overrides.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
        self.alive = (binding, values, overrides)  # the session reads and writes their memory
        self.probabilities = rows[0]
        # the Python layer of onnxruntime around these costs a microsecond
        self.binding, self.run = binding._iobinding, session._sess.run_with_iobinding
        self.shape: tuple[int, ...] | None = None
        self.input: NDArray[Any] = rows

    def take(self, name: str, x: NDArray[Any]) -> None:
        """Bind an input, or a buffer that holds it and later inputs of its shape."""
        small = x.nbytes <= _COPIED
        batch = np.array(x[None], order="C", copy=True) if small else np.ascontiguousarray(x[None])
        self.binding.bind_input(name, batch)
        self.input, self.shape = batch[0], x.shape if small else None


_LIVING: WeakSet[LocalModel] = WeakSet()  # in this process; Python cannot take a fork callback back


def _after_fork() -> None:
    for one in list(_LIVING):
        one.forked(os.getppid())


if hasattr(os, "register_at_fork"):  # Windows has no forks
    os.register_at_fork(after_in_child=_after_fork)
