"""What export refuses, each with one sentence."""

from edgecascade.runtime.errors import EdgecascadeError

__all__ = ["ExportError", "ParityError"]


class ExportError(EdgecascadeError, ValueError):
    """The model or the data cannot be turned into a cascade model; the message says why, and what would."""


class ParityError(ExportError):
    """The written graph and the reference arithmetic disagree; nothing was written."""
