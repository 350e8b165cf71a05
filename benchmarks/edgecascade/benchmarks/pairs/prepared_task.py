"""A pair of models for a general task that is ready to be measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.cache import once
from edgecascade.benchmarks.pairs.prepared import planned_file
from edgecascade.benchmarks.ratio import Ratio, medians, ratio
from edgecascade.benchmarks.tasks import TaskOffload, TaskValues, measure_values
from edgecascade.benchmarks.tasks.run import check_task_data, task_values
from edgecascade.calibration import Objective
from edgecascade.calibration.confidence import Verifier
from edgecascade.export import calibrate_task
from edgecascade.export.data import ReferencedData
from edgecascade.runtime.engine import open_session
from edgecascade.types.answer import Decode

__all__ = ["PreparedTask", "Sizes", "TaskModels", "TaskSplit", "prepare_task"]

_BUILDS, _ROUNDS, _WARM_UP, _GOAL = 9, 15, 2, 1.02


@dataclass(frozen=True)
class TaskSplit:
    """Disjoint inputs.

    Attributes:
        planning: What everything is fitted and chosen on.
        test: What every figure is measured on.
    """

    planning: ReferencedData
    test: ReferencedData


@dataclass(frozen=True)
class Sizes:
    """The number of inputs in each part.

    Attributes:
        planning: Those that everything is fitted and chosen on.
        test: Those that every figure is measured on.
    """

    planning: int
    test: int

    def split(self, make: Callable[[range], ReferencedData]) -> TaskSplit:
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
    """

    cascade: Path
    models: TaskModels
    test: ReferencedData

    def measure(self) -> TaskOffload:
        """Run both models on every test input, and compare the plan with other ways to use them.

        The values of all answers are saved beside the cascade file the first time.
        """
        document = check_task_data(self.cascade, self.test)
        with np.load(once(self.cascade.with_name(f"{self.cascade.stem}-values.npz"), self._run)) as saved:
            return measure_values(document, TaskValues(**{one.name: saved[one.name] for one in fields(TaskValues)}))

    def _run(self, part: Path) -> None:
        found, _ = task_values(
            self.cascade,
            check_task_data(self.cascade, self.test),
            self.test,
            remote=str(self.models.remote),
            verifier=self.models.verifier,
            decode=self.models.decode,
            remote_decode=self.models.remote_decode,
        )
        with part.open("wb") as file:  # np.savez would add a suffix to a name without one
            np.savez(file, **vars(found))

    def head(self) -> Ratio:
        """Return how much longer the cascade file takes than the body, in CPU time side by side."""
        (name,) = (one.name for one in open_session(self.models.body).get_inputs())
        feed = {name: np.asarray(self.test.inputs)[:1]}

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
            digest=data.planning.digest,
        )

    return PreparedTask(once(models.body.parent / planned_file(name, objective), planned), models, data.test)


def _runner(session: Any, feed: Mapping[str, NDArray[Any]]) -> Callable[[int], object]:
    return lambda _: session.run(None, feed)
