"""The steps of a long measurement, each kept as soon as it is done: an interrupted run goes on with the next."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from edgecascade.benchmarks.progress import stepping
from edgecascade.benchmarks.store import Store, hash_of

__all__ = ["Steps", "at_once", "kept_steps"]

T = TypeVar("T")


class Steps(Protocol):
    """How a measurement takes its steps."""

    def __call__(self, kind: type[T], name: str, measure: Callable[[], T]) -> T:
        """What `measure` finds, now or in the run that was interrupted.

        Args:
            kind: of what it finds: what `decode` can make, such as `list[Ratio]`.
            name: of the step, unlike all others of the measurement.
            measure: takes the step.
        """


def at_once(kind: type[T], name: str, measure: Callable[[], T]) -> T:  # noqa: ARG001
    """A step that nobody keeps."""
    return measure()


@contextlib.contextmanager
def kept_steps(folder: Path, about: Mapping[str, Any], total: int) -> Iterator[Steps]:
    """Steps with a bar, kept below a folder until the `with` block is left without an error: write the result inside.

    Args:
        folder: another measurement may keep its steps there too; none is taken for one of another `about`, machine or
            version.
        about: what all of the steps depend on: arguments, and hashes of what is measured.
        total: how many steps there are.
    """
    measurement = hash_of(about)
    own = folder / measurement
    store = Store(own)
    if kept := store.count():
        print(
            f"{kept} of {total} steps of an interrupted run are kept in {own}: remove that folder to measure them anew",
            file=sys.stderr,
        )
    with stepping(total) as bar:

        def step(kind: type[T], name: str, measure: Callable[[], T]) -> T:
            key = hashlib.sha256(f"{measurement} {name}".encode()).hexdigest()[:24]
            found = store.get(kind, key)
            if found is not None:
                bar.initial += 1  # what took no time says nothing of the time left
                bar.n += 1
                return found
            bar.set_description(f"{name:<28}")
            found = measure()
            store.keep(key, found)
            bar.update()
            return found

        yield step
    shutil.rmtree(own, ignore_errors=True)
    with contextlib.suppress(OSError):  # another measurement's steps are there
        folder.rmdir()
