"""An HTTP response that has what was asked for; or why not, and whether asking again may help."""

from __future__ import annotations

from edgecascade.runtime.remotes.http_response import Response
from edgecascade.runtime.remotes.retry import retry_after, worth_a_retry
from edgecascade.types.errors import RemoteError

__all__ = ["successful"]


def successful(response: Response) -> Response:
    """The response.

    Raises:
        RemoteError: its status is not 200.
    """
    if response.status != 200:
        lines = response.body.decode(errors="replace").strip().splitlines() or ["no explanation"]
        said = lines[-1 if lines[0].startswith("Traceback") else 0][:200]  # MLServer's whole explanation may be one
        raise RemoteError(
            f"remote: HTTP {response.status}: {said}",
            retry=worth_a_retry(response.status, response.body),
            retry_after=retry_after(response.headers),
        )
    return response
