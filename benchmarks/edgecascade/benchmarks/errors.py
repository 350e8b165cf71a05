"""What a benchmark refuses."""

from edgecascade.runtime.errors import EdgecascadeError

__all__ = ["BenchmarkError"]


class BenchmarkError(EdgecascadeError):
    """A download, a server or the data failed; the message says which and how."""
