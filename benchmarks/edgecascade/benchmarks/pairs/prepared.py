"""A pair of models that is ready to be measured."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.cache import once, sha256_of
from edgecascade.benchmarks.offload.measure import Offload, measure_offload
from edgecascade.benchmarks.offload.served import stored_answers
from edgecascade.benchmarks.progress import counting
from edgecascade.benchmarks.server import serving
from edgecascade.benchmarks.stored import StoredRows
from edgecascade.calibration import Objective
from edgecascade.export.data import LabelledData
from edgecascade.export.scores import remote_scores
from edgecascade.runtime.remotes.remote import Remote

__all__ = ["Prepared", "cores", "planned_file", "save_array", "saved_scores"]

_PLANS = 3  # raised when plans are made in another way, so that stored ones are made again


@dataclass(frozen=True)
class Prepared:
    """A cascade model, its remote, and inputs to test both on.

    Attributes:
        cascade: The file of the cascade model.
        remote: An ONNX file, which a second process serves, or a remote in this process.
        test: Labelled inputs that nothing was fitted on.
        remote_scores: float32 [n, classes], the remote's scores for them.
    """

    cascade: Path
    remote: Path | Remote
    test: LabelledData
    remote_scores: NDArray[np.floating]

    @contextmanager
    def served(self) -> Iterator[str | Remote]:
        """Serve the remote; give its address, or itself if it is in this process."""
        if not isinstance(self.remote, Path):
            yield self.remote
            return
        log = self.cascade.with_name("server.log")
        with serving(self.remote, name="large", threads=cores(), log=log) as address:
            yield address

    def test_file(self) -> Path:
        """Return the test inputs as an npz file beside the cascade model; write it the first time."""

        def write(part: Path) -> None:
            with part.open("wb") as file:
                np.savez(file, x=np.asarray(self.test.inputs), y=self.test.labels, names=np.array(self.test.names))

        return once(self.cascade.with_name(f"{self.cascade.stem}-test.npz"), write)

    def answers(self, root: Path, deadline: float, name: str) -> StoredRows:
        """Return the stored answers of a served run.

        Args:
            root: The folder of all stored answers.
            deadline: Seconds for each answer.
            name: A name for the remote. A file is also known by its bytes, a remote in this process by nothing else.
        """
        # The address of the server differs from run to run.
        remote = f"{name} {sha256_of(self.remote)}" if isinstance(self.remote, Path) else name
        return stored_answers(root, self.cascade, self.test, remote, deadline)

    def measure(self, deadline: float, stored: StoredRows | None = None) -> Offload:
        """Serve and measure the pair.

        Args:
            deadline: Seconds for each answer.
            stored: Where answers are stored as they come; stored inputs are not asked again.
        """
        with self.served() as remote:
            return measure_offload(
                self.cascade, self.test, self.remote_scores, remote=remote, deadline=deadline, stored=stored
            )


def planned_file(name: str, objective: Objective) -> str:
    """Return the file name of a model planned for an objective, different for every objective."""
    digest = hashlib.sha256(repr(objective).encode()).hexdigest()[:10]
    return f"{name}-{type(objective).__name__}-{digest}-{_PLANS}.onnx"


def saved_scores(model: Path, data: LabelledData, path: Path) -> NDArray[np.float32]:
    """Return the scores [n, classes] of an ONNX file on the data, saved as float32 in `path` the first time."""

    def make(part: Path) -> None:
        with counting(path.stem, len(data.labels)) as done:
            save_array(part, remote_scores(str(model), data.inputs, threads=cores(), progress=done))

    found: NDArray[np.float32] = np.load(once(path, make))
    return found


def save_array(part: Path, array: NDArray[Any]) -> None:
    """Write an array to just this path; np.save would add a suffix to a name without one."""
    with part.open("wb") as file:
        np.save(file, array)


def cores() -> int:
    """Return the number of cores of this machine."""
    return os.cpu_count() or 1
