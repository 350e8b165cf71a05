"""Tell those who live in a process when they find themselves in a fork of it, at no cost until then."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet

__all__ = ["Forkable", "watch_forks"]


class Forkable(Protocol):
    """Whoever must not go on in a child process."""

    def forked(self, parent: int) -> None:
        """Called in the child, before anything else runs there."""
        ...


_LIVING: WeakSet[Forkable] = WeakSet()  # of the whole process, as a fork is; Python takes no callback back


def watch_forks(one: Forkable) -> None:
    """Call `one.forked` in every child that is forked from now on, for as long as `one` lives."""
    _LIVING.add(one)


def _tell() -> None:
    for one in list(_LIVING):
        one.forked(os.getppid())


if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks
    os.register_at_fork(after_in_child=_tell)
