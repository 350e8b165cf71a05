"""A pair of models that is ready to be measured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.kept_answers import KeptAnswers
from edgecascade.benchmarks.offload import Offload, measure_offload
from edgecascade.benchmarks.packages import sha256_of
from edgecascade.benchmarks.server import serving
from edgecascade.calibration import Objective
from edgecascade.export.cache import once
from edgecascade.export.labelled import LabelledData
from edgecascade.runtime.remotes.remote import Remote

__all__ = ["Prepared", "planned_file"]


@dataclass(frozen=True)
class Prepared:
    """A cascade model, its remote, and what to test both on.

    Attributes:
        cascade: the cascade model's file.
        remote: an ONNX file, which is served from a second process, or a remote in this one.
        test: labelled inputs that nothing was fitted on.
        remote_scores: float32 [n, classes], the remote's on them.
    """

    cascade: Path
    remote: Path | Remote
    test: LabelledData
    remote_scores: NDArray[np.floating]

    @contextmanager
    def served(self) -> Iterator[str | Remote]:
        """The remote as a cascade can ask it: an address, or itself."""
        if not isinstance(self.remote, Path):
            yield self.remote
            return
        log = self.cascade.with_name("server.log")
        with serving(self.remote, name="large", threads=os.cpu_count() or 1, log=log) as address:
            yield address

    def test_file(self) -> Path:
        """The test inputs as npz beside the cascade model, written if that was not done yet."""

        def write(part: Path) -> None:
            with part.open("wb") as file:
                np.savez(file, x=np.asarray(self.test.inputs), y=self.test.labels, names=np.array(self.test.names))

        return once(self.cascade.with_name(f"{self.cascade.stem}-test.npz"), write)

    def answers(self, root: Path, deadline: float, name: str) -> KeptAnswers:
        """Where the answers of a served run are kept.

        Args:
            root: the folder with all such folders.
            deadline: seconds for each answer.
            name: tells the remote from others: a file is also known by its bytes, one in this process by nothing else.
        """
        # Not the address it is served at: that is another one each time.
        remote = f"{name} {sha256_of(self.remote)}" if isinstance(self.remote, Path) else name
        return KeptAnswers.of(root, self.cascade, self.test, remote, deadline)

    def measure(self, deadline: float, kept: KeptAnswers | None = None) -> Offload:
        """Serve and measure.

        Args:
            deadline: seconds for each answer.
            kept: where the answers are kept as they come; those that are there are not asked for again.
        """
        with self.served() as remote:
            return measure_offload(
                self.cascade, self.test, self.remote_scores, remote=remote, deadline=deadline, kept=kept
            )


def planned_file(name: str, objective: Objective) -> str:
    """The file's name of a model that was planned for this: another name for any other objective."""
    figures = (f"{figure:g}" for figure in astuple(objective))  # type: ignore[call-overload]
    return "-".join([name, type(objective).__name__, *figures]) + ".onnx"
