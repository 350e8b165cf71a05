"""What can go wrong, drawn as a tree.

    EdgecascadeError
    +-- ModelFileError        the file is missing, damaged, no cascade model, or of a newer format
    +-- ArgumentError         an argument that cannot mean anything
    +-- InputError            an input of another type or shape than the file declares
    +-- ForkedError           a cascade is used in a fork of the process that loaded it
    +-- RemoteError           the remote answered, and the answer is of no use
        +-- RemoteUnreachable the remote could not be reached at all
            +-- CircuitOpen   it failed so often that it is left alone for a while

`Cascade.predict` raises `InputError` only. A `RemoteError` ends inside it, as the reason of a local answer.
"""

__all__ = [
    "ArgumentError",
    "CircuitOpen",
    "EdgecascadeError",
    "ForkedError",
    "InputError",
    "ModelFileError",
    "RemoteError",
    "RemoteUnreachable",
    "first_line",
]


class EdgecascadeError(Exception):
    """Base of everything that edgecascade's runtime raises."""


class ModelFileError(EdgecascadeError, ValueError):
    """The file is missing, damaged, no cascade model, or of a newer format."""


class ArgumentError(EdgecascadeError, ValueError):
    """An argument that cannot mean anything: an address of no known form, a deadline of no seconds."""


class InputError(EdgecascadeError, ValueError):
    """An input of another type or shape than the file declares."""


class ForkedError(EdgecascadeError, RuntimeError):
    """A cascade is used in a fork of the process that loaded it."""


class RemoteError(EdgecascadeError):
    """The remote answered, and the answer is of no use.

    Attributes:
        retry: whether the same request may well succeed if sent again.
        retry_after: seconds that the remote asked to be left alone, if it did.
    """

    retry = False

    def __init__(self, message: str, *, retry: bool | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry = type(self).retry if retry is None else retry
        self.retry_after = retry_after


class RemoteUnreachable(RemoteError):  # noqa: N818  # its parent has the suffix
    """The remote could not be reached at all."""

    retry = True


class CircuitOpen(RemoteUnreachable):
    """The remote failed so often that it is left alone for a while."""

    retry = False


def first_line(error: BaseException) -> str:
    """What an exception of another library says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
