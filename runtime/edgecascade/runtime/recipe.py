"""Pickle what holds threads, files and connections as the call that made it, and open it again in another process."""

from __future__ import annotations

import os
from _thread import RLock
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from edgecascade.types.errors import ArgumentError, ModelFileError, first_line

if TYPE_CHECKING:
    from edgecascade.runtime.cascade import Cascade
    from edgecascade.types.policy import Policy

__all__ = ["Recipe", "Remade", "reopened"]

_MOST = 8  # cascades that stay open in a process after they were unpickled
_opened: list[tuple[int, str, Cascade]] = []  # with process and token, also of the process that this is a fork of
_lock = RLock()


class Remade:
    """Base of objects that are pickled as the call of their class, with all that it was given, also secrets."""

    _made: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *given: Any, **options: Any) -> Any:
        """Remember the call."""
        self = super().__new__(cls)
        self._made = given, options
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        given, options = self._made
        return partial(type(self), **options), given


class Recipe:
    """What is needed to open the same cascade in another process.

    Args:
        path: the cascade file.
        arguments: those of `Cascade.load` beside it, by name.
    """

    def __init__(self, path: str | os.PathLike[str], arguments: Mapping[str, Any]) -> None:
        remote = arguments["remote"]
        if isinstance(remote, (str, os.PathLike)) and "://" not in os.fspath(remote):
            remote = os.path.abspath(remote)
        self.path, self.arguments = os.path.abspath(path), {**arguments, "remote": remote}
        self.token = os.urandom(8).hex()  # two loads of one file stay two cascades
        self._stamp, self._sha256 = _stamp(self.path), ""

    def reduced(self, policy: Policy) -> tuple[Any, ...]:
        """Return what `Cascade.__reduce__` does under a policy.

        Raises:
            ArgumentError: an argument cannot be pickled.
            ModelFileError: the file has changed since it was loaded.
        """
        import pickle

        if _stamp(self.path) != self._stamp:
            raise ModelFileError(f"{self.path}: expected the file as it was loaded, got one that was written since")
        for name, value in self.arguments.items():
            try:
                pickle.dumps(value)
            except Exception as error:
                raise ArgumentError(
                    f"{name}: expected what can be pickled, such as an address or a function of a module, got "
                    f"{type(value).__name__}: {first_line(error)}"
                ) from error
        self._sha256 = self._sha256 or _hash(self.path)
        return reopened, (self.path, self._sha256, self.token, self.arguments, policy)


def reopened(path: str, sha256: str, token: str, arguments: Mapping[str, Any], policy: Policy) -> Cascade:
    """Return the cascade of a recipe under a policy: the one that this process has open, or a new one.

    Raises:
        ModelFileError: the file is missing, or has another hash.
    """
    from edgecascade.runtime.cascade import Cascade

    here = os.getpid(), token
    with _lock:
        for *there, one in _opened:
            if here == (*there,) and one.policy == policy and not one.closed:  # it may have been swapped
                return one
        if not os.path.isfile(path):
            raise ModelFileError(f"{path}: expected the cascade file of the process that pickled it, got no such file")
        if _hash(path) != sha256:
            raise ModelFileError(f"{path}: expected the file whose SHA-256 begins with {sha256[:12]}, got another")
        found = Cascade.load(path, **arguments)
        if found.policy != policy:
            found.swap(policy)
        if found.recipe is not None:
            found.recipe.token = token  # so that it is the same cascade if it is pickled again
        _opened[:] = [*(one for one in _opened if not one[2].closed), (*here, found)][-_MOST:]
        return found


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:  # loading says why
        return None
    return found.st_size, found.st_mtime_ns


def _hash(path: str) -> str:
    import hashlib

    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
