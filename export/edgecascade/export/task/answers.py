"""The answers of both models of a general task: run the body, ask the remote, and decode what they give."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgecascade.export.data import Inputs, batches, first
from edgecascade.export.graph import has_batch_scale, open_model
from edgecascade.runtime.batch import Batch, filled, rows, size
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.model_inputs import ModelInputs, model_inputs
from edgecascade.runtime.outputs import by_input, lacks_batch
from edgecascade.runtime.remotes.remote import Remote, connect, expect_outputs, shown
from edgecascade.runtime.reply import check_outputs, outputs_of
from edgecascade.types.answer import Decode, Outputs
from edgecascade.types.errors import ArgumentError, ExportError, RemoteError, first_line

__all__ = ["LocalAnswers", "RemoteAnswers", "RunnableBody", "ask_for_outputs", "runs_singly"]

_FEW = 8  # inputs that are run alone and together
_SAME = 1e-4  # of the largest number of an output: more than float32 differs between batches
_PATIENCE = 60.0  # seconds for one request while calibrating, which has no deadline

Progress = Callable[[int], object]


class LocalAnswers(NamedTuple):
    """What the local model gives.

    Attributes:
        score: float32 [n].
        results: n decoded answers; the output arrays by name where there is no decode function.
        unbatched: names of the outputs without a batch axis.
    """

    score: NDArray[np.float32]
    results: list[Any]
    unbatched: frozenset[str]


class RemoteAnswers(NamedTuple):
    """What the remote gives.

    Attributes:
        outputs: names of the arrays that it answers with.
        results: n decoded answers; the arrays by name where there is no decode function.
    """

    outputs: tuple[str, ...]
    results: list[Any]


class RunnableBody:
    """A body that runs on inputs as they come.

    Args:
        model: the ONNX model.
        path: its name in error messages; a tokenizer lies beside it.
        unbatched: names of the outputs without a batch axis; None finds them.
    """

    def __init__(self, model: ModelProto, path: str, unbatched: Collection[str] | None = None) -> None:
        self._session, self._path = open_model(model), path
        self.declared: ModelInputs = model_inputs(self._session, path)
        strange = [one.name for one in self._session.get_outputs() if not one.type.startswith("tensor(")]
        if strange:
            raise ExportError(f"{path}: expected outputs that are arrays, got {', '.join(strange)}")
        outputs, taken = self._session.get_outputs(), self.declared.declared
        self.outputs = tuple(one.name for one in outputs)
        self._finds = unbatched is None
        self._unbatched = {one.name for one in outputs if lacks_batch(taken, one)} if unbatched is None else unbatched

    def run(self, batch: Batch) -> dict[str, NDArray[Any]]:
        """Return the outputs for one run on a batch, as the model gives them.

        A model of a fixed batch runs on its last input several times; only the first rows of its outputs are real.

        Raises:
            InputError: the inputs do not fit.
            ExportError: the model fails for them.
        """
        feeds = self.declared.feeds(self._path, batch)
        try:
            given = self._session.run(list(self.outputs), filled(feeds, self.declared.batch or size(feeds)))
        except Exception as error:  # onnxruntime's exceptions have no common base but this one
            raise ExportError(
                f"{self._path}: the model fails for {size(feeds)} of the inputs: {first_line(error)}"
            ) from error
        return dict(zip(self.outputs, given, strict=True))

    def alone(self, inputs: Inputs) -> list[dict[str, NDArray[Any]]]:
        """Return the outputs of the first few inputs, each alone; those with a batch axis have a first side of 1."""
        fixed = self.declared.batch or 1
        found = []
        for batch in batches(first(inputs, _FEW), 1):
            given = self.run(batch)
            found.append(
                {name: array[:1] if fixed > 1 and len(array) == fixed else array for name, array in given.items()}
            )
        return found

    def answers(
        self, inputs: Inputs, score: str, decode: Decode | None, *, singly: bool, progress: Progress | None = None
    ) -> LocalAnswers:
        """Return scores and decoded answers of all inputs.

        Args:
            inputs: [n, ...].
            score: name of the output that is the score; all others are given to `decode`.
            decode: from the outputs of one input to the application's object.
            singly: whether to run one input at a time.
            progress: called with the number of inputs just done, negative where they are done again.

        Raises:
            ExportError: there is not one score for each input, or `decode` fails.
        """
        step = 1 if singly else self.declared.batch or 32
        unbatched = {*self._unbatched} if step == 1 else set()
        finds = self._finds and step == 1
        while True:  # once, unless a first side other than 1 shows late that an output has no batch axis
            scores: list[NDArray[np.float32]] = []
            results: list[Any] = []
            for batch in batches(inputs, step):
                n, given = size(batch), self.run(batch)
                scores.append(_scores_in(given, score, self.declared.batch or n)[:n])
                late = {name for name, array in given.items() if finds and array.shape[:1] != (1,)} - unbatched
                unbatched |= late
                if late and results:
                    break
                for outputs in _each(given, self.declared.batch or n, unbatched)[:n]:
                    results.append(_decoded(outputs, decode, "decode", len(results)))
                if progress:
                    progress(n)
            else:
                return LocalAnswers(np.concatenate(scores), results, frozenset(unbatched))
            if progress:
                progress(-len(results))


def _scores_in(given: dict[str, NDArray[Any]], score: str, ran: int) -> NDArray[np.float32]:
    """Take the scores out of the outputs for a run on this many inputs."""
    one = given.pop(score)
    if one.shape != (ran,):
        raise ExportError(f"confidence: expected one score for each input, got an array {list(one.shape)} for {ran}")
    return one


def _each(given: dict[str, NDArray[Any]], n: int, unbatched: Collection[str]) -> list[dict[str, NDArray[Any]]]:
    try:
        return by_input(given, n, unbatched)
    except ValueError as error:
        raise ExportError(f"body: {error}") from error


def runs_singly(model: ModelProto, body: RunnableBody, inputs: Inputs) -> bool:
    """Return whether a model must run one input at a time.

    It must where an output has no batch axis, such as detections after non-maximum suppression; where activations are
    quantized as they come, by one scale for the whole batch; and where an input's outputs change with its neighbours.

    Args:
        model: the body.
        body: the same, ready to run.
        inputs: [n, ...], of which the first ones are run alone and together.
    """
    if body.declared.batch is not None or has_batch_scale(model):
        return body.declared.batch is None
    few = next(batches(first(inputs, _FEW), _FEW))
    alone = [body.run(rows(few, [position])) for position in range(size(few))]
    try:
        together = body.run(few)
    except ExportError:
        return True
    return not all(_same(together[name], [one[name] for one in alone]) for name in together)


def _same(together: NDArray[Any], alone: Sequence[NDArray[Any]]) -> bool:
    """Return whether the rows of an output are what the inputs give alone."""
    if any(one.ndim == 0 or len(one) != 1 for one in alone) or together.shape[1:] != alone[0].shape[1:]:
        return False
    if any(one.shape != alone[0].shape for one in alone) or len(together) != len(alone):
        return False
    apart = np.concatenate(alone)
    if apart.dtype.kind != "f":
        return bool((apart == together).all())
    apart, together = apart.astype(np.float64), together.astype(np.float64)
    largest = max(1.0, float(np.abs(apart[np.isfinite(apart)]).max(initial=0)))
    return np.allclose(together, apart, rtol=0, atol=_SAME * largest, equal_nan=True)


def ask_for_outputs(
    remote: str | Remote | Callable[..., Any],
    inputs: Inputs,
    decode: Decode | None,
    *,
    outputs: Sequence[str] = (),
    threads: int = 1,
    name: str | None = None,
    progress: Progress | None = None,
) -> RemoteAnswers:
    """Return the decoded answers of a remote to all inputs.

    Args:
        remote: an address, an ONNX file, a function or a `Remote`, which is closed afterwards.
        inputs: [n, ...].
        decode: from the outputs of one input to the application's object.
        outputs: names of the outputs to ask for; empty for all.
        threads: of an ONNX file's engine.
        name: what to call a `Remote` in error messages, such as its address.
        progress: called with the number of inputs just done.

    Raises:
        ArgumentError: the remote cannot answer with named arrays, or has no such outputs.
        ExportError: the remote failed on an input, answered with other arrays than to the inputs before or with only
            NaN, or its answer cannot be decoded.
    """
    called = shown(remote if isinstance(remote, str) else name or "remote")
    connection = connect(remote, threads=threads)
    if connection is None:
        raise ArgumentError("remote: expected an address, an ONNX file, a function or a Remote, got None")
    names: tuple[str, ...] = tuple(outputs)
    results: list[Any] = []
    try:
        expect_outputs(connection, names)
        for batch in batches(inputs, 32):
            replied = outputs_of(connection.infer(batch, Deadline.after(_PATIENCE)), size(batch), names)
            for given in replied:
                names = names or tuple(given)
                if missing := [one for one in names if one not in given]:
                    raise ExportError(
                        f"{called}: expected the outputs {', '.join(names)} for input {len(results)}, got none named "
                        f"{', '.join(missing)}"
                    )
                check_outputs(given, names)
                results.append(_decoded(given, decode, "remote_decode", len(results)))
            if progress:
                progress(size(batch))
    except (RemoteError, TimeoutError) as error:
        raise ExportError(f"{called}: it failed after {len(results)} inputs: {error}") from error
    finally:
        connection.close()
    return RemoteAnswers(names, results)


def _decoded(outputs: Outputs, decode: Decode | None, argument: str, position: int) -> Any:
    if decode is None:
        return outputs
    try:
        return decode(outputs)
    except Exception as error:  # the application's own function
        given = ", ".join(f"{name} {list(array.shape)}" for name, array in outputs.items())
        whose = "the local model" if argument == "decode" else "the remote"
        cure = f"; give what reads {whose}'s outputs with {argument} (--{argument.replace('_', '-')})"
        raise ExportError(
            f"{argument}: it raised {type(error).__name__} for input {position}, whose outputs are {given}: "
            f"{first_line(error)}{cure}"
        ) from error
