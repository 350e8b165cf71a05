"""The systems under test: the bare model, and the cascade as an application uses it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from edgecascade.benchmarks.latency.data import Inputs
from edgecascade.benchmarks.latency.loadgen import Drive, Outcome, Recorder
from edgecascade.benchmarks.latency.plan import Plan, Scenario, Subject
from edgecascade.runtime import Answer, Cascade
from edgecascade.runtime.batch import Batch, concatenated, stacked
from edgecascade.runtime.decisions import CLASSIFIER_OUTPUTS
from edgecascade.runtime.engine import open_session
from edgecascade.runtime.model_inputs import model_inputs

__all__ = ["CALLS", "BareModel", "CascadeSystem", "System", "drive", "open_system"]

CALLS = (
    "The cascade is called as an application would call it: `predict` in single stream, `predict_batch` in multi "
    "stream (`stream` if the inputs do not form a batch), `predict_async` in server, `stream` in offline. The model "
    "alone runs one input at a time, in multi stream eight in one batch if possible, and in server in the order of "
    "arrival."
)
_FORWARD_ALL, _FORWARD_NONE = 2.0, -2.0  # thresholds beyond every advantage
Done = Callable[[Outcome | BaseException], None]


class BareModel:
    """A session of the cascade's file without the runtime around it.

    Inputs are decoded, tokenized and batched beforehand, and outputs are bound to buffers where the engine supports it.

    Args:
        path: a cascade model.
        given: inputs as an application has them.
        options: of `open_session`.
    """

    def __init__(self, path: str | os.PathLike[str], given: Sequence[Any], **options: Any) -> None:
        self._session: Any = open_session(path, **options)
        inputs = model_inputs(self._session, path)
        self._batched = inputs.batch is None
        self._feeds = [inputs.feeds("x", stacked(inputs.read(x)[0])) for x in given]
        self._bound = _Bound(self._session, self._feeds[0]) if hasattr(self._session, "io_binding") else None
        self._queue = ThreadPoolExecutor(1, thread_name_prefix="bare model")

    @property
    def provider(self) -> str:
        """The execution provider that really runs the model."""
        return str(self._session.get_providers()[0])

    def one(self, index: int) -> Outcome:
        """Run one input, by index."""
        if self._bound is not None:
            return Outcome(self._bound(self._feeds[index]))
        return Outcome(int(self._session.run(CLASSIFIER_OUTPUTS, self._feeds[index])[0][0]))

    def several(self, indices: Sequence[int]) -> Iterator[Outcome]:
        """Run all in one batch if the file takes any batch and they have one shape; if not, one after the other."""
        feeds = [self._feeds[index] for index in indices]
        if self._batched and len({tuple(array.shape for array in one.values()) for one in feeds}) == 1:
            labels = self._session.run(CLASSIFIER_OUTPUTS, concatenated(feeds))[0]
            return iter([Outcome(int(label)) for label in labels])
        return self.many(indices)

    def many(self, indices: Sequence[int]) -> Iterator[Outcome]:
        """Run any number of inputs, one after the other."""
        return map(self.one, indices)

    def submit(self, index: int, done: Done) -> None:
        """Run in the order of arrival, in one thread, and call `done` from it."""
        self._queue.submit(self._answer, index, done)

    def _answer(self, index: int, done: Done) -> None:
        try:
            done(self.one(index))
        except BaseException as error:  # LoadGen waits for it
            done(error)

    def close(self) -> None:
        """Wait for the queue."""
        self._queue.shutdown()


class _Bound:
    """Runs one input at a time into the same buffers."""

    def __init__(self, session: Any, example: dict[str, NDArray[Any]]) -> None:
        self._run, self._binding = session.run_with_iobinding, session.io_binding()
        first = session.run(CLASSIFIER_OUTPUTS, example)
        self._buffers = [ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array)) for array in first]
        for name, value in zip(CLASSIFIER_OUTPUTS, self._buffers, strict=True):
            self._binding.bind_ortvalue_output(name, value)

    def __call__(self, feeds: dict[str, NDArray[Any]]) -> int:
        for name, array in feeds.items():
            self._binding.bind_cpu_input(name, array)
        self._run(self._binding)
        return int(self._buffers[0].numpy()[0])


class CascadeSystem:
    """A cascade; in a batch all answers arrive together, by one deadline from its start, in a stream each by its own.

    Args:
        path: a cascade model.
        given: inputs as an application has them.
        merge: merge rule in place of the file's.
        options: of `Cascade.load`.
    """

    def __init__(
        self, path: str | os.PathLike[str], given: Sequence[Any], *, merge: str | None = None, **options: Any
    ) -> None:
        self._given = given
        self._cascade = Cascade.load(path, **options)
        if merge is not None:
            self._cascade.swap(replace(self._cascade.policy, merge=merge))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def provider(self) -> str:
        """The execution provider that really runs the local model."""
        return self._cascade.provider

    def wake_remote(self, indices: Sequence[int]) -> None:
        """Forward these inputs in spite of the policy, so that the connection is open and the remote has run."""
        before = self._cascade.swap(replace(self._cascade.policy, threshold=_FORWARD_ALL))
        for index in indices:
            self._cascade.predict(self._given[index])
        self._cascade.swap(before)

    def one(self, index: int) -> Outcome:
        """Call `predict`."""
        return _outcome(self._cascade.predict(self._given[index]))

    def several(self, indices: Sequence[int]) -> Iterator[Outcome]:
        """Call `predict_batch`, or `stream` for inputs that do not form a batch: files, arrays of several shapes."""
        batch = _batch([self._given[index] for index in indices])
        return self.many(indices) if batch is None else map(_outcome, self._cascade.predict_batch(batch))

    def many(self, indices: Sequence[int]) -> Iterator[Outcome]:
        """Call `stream`."""
        return map(_outcome, self._cascade.stream(self._given[index] for index in indices))

    def submit(self, index: int, done: Done) -> None:
        """Call `predict_async` on a loop in a thread of its own, and `done` from it."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="cascade loop", daemon=True)
            self._thread.start()
        self._loop.call_soon_threadsafe(self._spawn, index, done)

    def _spawn(self, index: int, done: Done) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(index, done))
        self._tasks.add(task)  # a loop holds its tasks by weak references only
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, index: int, done: Done) -> None:
        try:
            done(_outcome(await self._cascade.predict_async(self._given[index])))
        except BaseException as error:  # LoadGen waits for it
            done(error)

    def close(self) -> None:
        """Stop the loop, and close the cascade and its connections."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
        self._cascade.close()


System = BareModel | CascadeSystem
"""A system under test; single stream calls `one`, multi stream `several`, offline `many`, and server `submit`."""


def open_system(plan: Plan, inputs: Inputs) -> System:
    """Return the system of a plan; the CPU may stand in for a provider, and the result says so."""
    wanted = tuple(dict.fromkeys((*plan.providers, "cpu")))
    options: dict[str, Any] = {"threads": plan.threads, "engine_cache": plan.engines, "fallback": True}
    options["providers"] = plan.providers[0] if plan.providers == ("auto",) else wanted if len(wanted) > 1 else "cpu"
    if plan.subject is Subject.ALONE:
        return BareModel(plan.file, inputs.given, **options)
    options["deadline"] = plan.allowed
    if plan.subject is Subject.LOCAL:
        return CascadeSystem(plan.file, inputs.given, threshold=_FORWARD_NONE, **options)
    options["remote"] = plan.remote
    if plan.subject is Subject.REMOTE:
        options |= {"threshold": _FORWARD_ALL, "merge": "replace"}
    return CascadeSystem(plan.file, inputs.given, **options)


def drive(system: System, scenario: Scenario) -> Drive:
    """Return how a scenario's queries reach a system."""
    if scenario is Scenario.SINGLE_STREAM:
        return lambda recorder, positions, indices: recorder.answer(positions[0], system.one(indices[0]))
    if scenario is Scenario.SERVER:
        return lambda recorder, positions, indices: _submit(system, recorder, positions, indices)
    answers = system.several if scenario is Scenario.MULTI_STREAM else system.many

    def answer(recorder: Recorder, positions: Sequence[int], indices: Sequence[int]) -> None:
        for position, outcome in zip(positions, answers(indices), strict=True):
            recorder.answer(position, outcome)

    return answer


def _submit(system: System, recorder: Recorder, positions: Sequence[int], indices: Sequence[int]) -> None:
    for position, index in zip(positions, indices, strict=True):
        system.submit(index, lambda found, at=position: _settle(recorder, at, found))  # type: ignore[misc]


def _settle(recorder: Recorder, position: int, found: Outcome | BaseException) -> None:
    try:
        if isinstance(found, Outcome):
            recorder.answer(position, found)
        else:
            recorder.fail(found, position)
    except BaseException as error:  # LoadGen would wait for this sample forever
        recorder.fail(error, position)


def _outcome(answer: Answer) -> Outcome:
    return Outcome(answer.label, answer.reason, answer.elapsed)


def _batch(given: Sequence[Any]) -> Batch | None:
    """Return arrays of one shape as a batch, by name if there are several; None for anything else."""
    if all(isinstance(one, np.ndarray) for one in given):
        return np.stack(given) if len({one.shape for one in given}) == 1 else None
    if all(isinstance(one, dict) for one in given):
        batches = [stacked(one) for one in given]
        shapes = {tuple(array.shape for array in one.values()) for one in batches if isinstance(one, dict)}
        return concatenated(batches) if len(shapes) == 1 else None
    return None
