"""A pair of models for a general task that is ready to be measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.cache import once
from edgecascade.benchmarks.pairs.prepared import planned_file, save_array
from edgecascade.benchmarks.progress import counting
from edgecascade.benchmarks.ratio import Ratio, medians, ratio
from edgecascade.benchmarks.tasks import TaskOffload, TaskValues, measure_values
from edgecascade.calibration import Objective
from edgecascade.calibration.confidence import Verifier
from edgecascade.calibration.verifiers import verify
from edgecascade.export.task.calibrate import calibrate_task
from edgecascade.runtime.engine import open_session, read_document
from edgecascade.types.answer import Decode
from edgecascade.types.document import TaskDocument

__all__ = ["PreparedTask", "Sizes", "TaskModels", "TaskPart", "TaskSplit", "prepare_task"]

_DECISION = ("score", "confidence", "advantage", "forward")
_BUILDS, _ROUNDS, _WARM_UP, _GOAL = 15, 20, 3, 1.02


@dataclass(frozen=True)
class TaskPart:
    """Inputs with references.

    Attributes:
        inputs: [n, ...].
        references: n of them, as the verifier takes them.
    """

    inputs: NDArray[Any]
    references: Sequence[Any]


@dataclass(frozen=True)
class TaskSplit:
    """Disjoint inputs.

    Attributes:
        planning: What everything is fitted and chosen on.
        test: What every figure is measured on.
    """

    planning: TaskPart
    test: TaskPart


@dataclass(frozen=True)
class Sizes:
    """The number of inputs in each part.

    Attributes:
        planning: Those that everything is fitted and chosen on.
        test: Those that every figure is measured on.
    """

    planning: int
    test: int

    def split(self, make: Callable[[range], TaskPart]) -> TaskSplit:
        """Return the parts, made from the numbers of their inputs."""
        return TaskSplit(make(range(self.planning)), make(range(self.planning, self.planning + self.test)))


@dataclass(frozen=True)
class TaskModels:
    """Both models of a general task, and how their answers are read and judged.

    Attributes:
        name: The name of the task.
        body: The local model, an ONNX file.
        remote: The large one, an ONNX file.
        confidence: A confidence function, as `calibrate_task` takes it.
        verifier: From answers and references to values in [0, 1].
        decode: From the local model's outputs for one input to its answer.
        remote_decode: The same for the remote.
    """

    name: str
    body: Path
    remote: Path
    confidence: Any
    verifier: Verifier[Any]
    decode: Decode
    remote_decode: Decode


@dataclass(frozen=True)
class PreparedTask:
    """A cascade file of a general task with all that measures it.

    Attributes:
        cascade: The cascade file.
        models: Both models.
        test: Inputs that nothing was fitted on.
        remote_values: float64 [n], the values of the remote's answers to them.
    """

    cascade: Path
    models: TaskModels
    test: TaskPart
    remote_values: NDArray[np.float64]

    def measure(self) -> TaskOffload:
        """Run the cascade file on every test input, and compare the plan with other ways to use both models."""
        document = read_document(open_session(self.cascade), self.cascade)
        assert isinstance(document, TaskDocument)
        answers, columns = [], []
        for outputs in _outputs(self.cascade, (*document.task.outputs, *_DECISION), self.test.inputs, "cascade"):
            columns.append([outputs.pop(name) for name in _DECISION])
            answers.append(self.models.decode(outputs))
        score, confidence, advantage, forward = (np.array(column) for column in zip(*columns, strict=True))
        local = verify(self.models.verifier, answers, self.test.references, model="local model")
        return measure_values(document, TaskValues(score, confidence, advantage, forward, local, self.remote_values))

    def head(self) -> Ratio:
        """Return how much longer the cascade file takes than the body, in CPU time side by side."""
        (name,) = (one.name for one in open_session(self.models.body).get_inputs())
        feed = {name: self.test.inputs[:1]}

        def build() -> Mapping[str, Callable[[int], object]]:
            sessions = {"body": open_session(self.models.body), "cascade": open_session(self.cascade)}
            return {which: _runner(session, feed) for which, session in sessions.items()}

        seconds = medians(build, builds=_BUILDS, rounds=_ROUNDS, warm_up=_WARM_UP, clock=process_time)
        return ratio("decision in the graph", seconds["cascade"], seconds["body"], goal=_GOAL, unit="ms", scale=1e3)


def prepare_task(models: TaskModels, data: TaskSplit, objective: Objective, name: str) -> PreparedTask:
    """Return the pair as a cascade file beside the body; finished steps are taken from there.

    Args:
        models: Both models.
        data: Inputs with references for planning and for the test.
        objective: What the cascade is planned for.
        name: What its files are called: different for every verifier and every size of the data.
    """
    work = models.body.parent

    def planned(part: Path) -> None:
        calibrate_task(
            models.body,
            part,
            data.planning.inputs,
            data.planning.references,
            confidence=models.confidence,
            verifier=models.verifier,
            remote=str(models.remote),
            decode=models.decode,
            remote_decode=models.remote_decode,
            objective=objective,
            task=models.name,
            golden=False,
        )

    def asked(part: Path) -> None:
        answers = [models.remote_decode(one) for one in _outputs(models.remote, None, data.test.inputs, "remote")]
        save_array(part, verify(models.verifier, answers, data.test.references, model="remote"))

    cascade = once(work / planned_file(name, objective), planned)
    return PreparedTask(cascade, models, data.test, np.load(once(work / f"{name}-remote.npy", asked)))


def _outputs(
    path: Path, names: Sequence[str] | None, inputs: NDArray[Any], what: str
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the outputs of a model for one input after the other, without the batch axis."""
    session = open_session(path)
    (feed,) = (one.name for one in session.get_inputs())
    names = names or [one.name for one in session.get_outputs()]
    with counting(f"{what} on the test data", len(inputs)) as done:
        for start in range(len(inputs)):
            found = session.run(list(names), {feed: inputs[start : start + 1]})
            yield {name: array[0] for name, array in zip(names, found, strict=True)}
            done(1)


def _runner(session: Any, feed: Mapping[str, NDArray[Any]]) -> Callable[[int], object]:
    return lambda _: session.run(None, feed)
