"""What remotes around another remote have in common."""

from __future__ import annotations

from threading import Lock
from typing import Any, cast

from edgecascade.runtime.remote import Remote
from edgecascade.runtime.remotes.http import Traffic
from edgecascade.types.errors import ArgumentError

__all__ = ["Extras", "Wrapped"]


class Wrapped:
    """A remote around another, of which it passes on what it does not change.

    Args:
        remote: the one inside.

    Raises:
        ArgumentError: it is no remote.
    """

    def __init__(self, remote: Remote) -> None:
        if not hasattr(remote, "infer"):
            raise ArgumentError(f"remote: expected a Remote, got {type(remote).__name__}")
        self._remote = remote

    @property
    def encoded(self) -> bool:
        """Whether the remote inside wants image files as they are."""
        return bool(getattr(self._remote, "encoded", False))

    @property
    def traffic(self) -> Traffic:
        """Requests and bytes so far; an `AttributeError` if the remote inside does not count them."""
        return cast(Traffic, cast(Any, self._remote).traffic)

    @property
    def request_inputs(self) -> int:
        """The most inputs in one request; an `AttributeError` if the remote inside does not care."""
        return int(cast(Any, self._remote).request_inputs)

    def close(self) -> None:
        """Close the remote inside."""
        self._remote.close()


class Extras:
    """How many requests may be sent beyond those asked for: a token bucket that requests fill, as in gRPC and Finagle.

    So extra requests stay a share of all, and a remote in trouble is not asked the harder for it.

    Args:
        share: what a request adds; extra requests per request, in the long run.
        saved: how many extra requests there may be before the first request.
        most: the most that is saved up.

    Raises:
        ArgumentError: the share is none.
    """

    def __init__(self, share: float, *, saved: float = 0.0, most: float = 10.0) -> None:
        if not 0 <= share <= 1:
            raise ArgumentError(f"share: expected a number from 0 to 1, got {share}")
        self._share, self._saved, self._most = share, saved, most
        self._lock = Lock()

    def earn(self) -> None:
        """There was a request."""
        with self._lock:
            self._saved = min(self._most, self._saved + self._share)

    def spend(self) -> bool:
        """Whether there may be an extra request now, which is then spent."""
        with self._lock:
            granted = self._saved >= 1
            self._saved -= granted
            return granted
