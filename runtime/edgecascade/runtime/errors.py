"""What can go wrong, drawn as a tree.

    EdgecascadeError
    +-- ModelFileError        the file is missing, damaged, no cascade model, or of a newer format
    +-- ArgumentError         an argument that cannot mean anything
    +-- InputError            an input of another type or shape than the file declares
    +-- RemoteError           the remote answered, and the answer is of no use
        +-- RemoteUnreachable the remote could not be reached at all

`Cascade.predict` raises `InputError` only. A `RemoteError` ends inside it, as the reason of a local answer.
"""

__all__ = [
    "ArgumentError",
    "EdgecascadeError",
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


class RemoteError(EdgecascadeError):
    """The remote answered, and the answer is of no use."""


class RemoteUnreachable(RemoteError):  # noqa: N818  # its parent has the suffix
    """The remote could not be reached at all."""


def first_line(error: BaseException) -> str:
    """What an exception of another library says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
