"""The exceptions that edgecascade raises, in one tree.

    EdgecascadeError
    +-- ModelFileError        the file is missing, damaged, not a cascade model, or of a newer format
    +-- ArgumentError         an argument has an invalid value
    +-- InputError            an input has another type or shape than the file declares
    +-- ForkedError           a cascade is used in a fork of the process that loaded it
    +-- RemoteError           the remote did not answer
    |   +-- UnsendableInput   the input has no form that this remote takes; nothing was sent
    |   +-- RemoteRefusal     the remote replied with an error
    |   +-- InvalidReply      the remote replied, and the reply is not an answer
    |   +-- RemoteUnreachable the remote could not be reached
    |       +-- CircuitOpen   the remote failed so often that it is not asked for a while
    +-- NoReply               neither of two chat endpoints replied
    +-- CalibrationError      the data cannot support the requested number
    +-- ExportError           the model or the data cannot be turned into a cascade model
    |   +-- ParityError       the graph and the reference arithmetic disagree
    +-- BenchmarkError        a download, a server or the data of a benchmark failed

`Cascade.predict` raises `InputError` or `ForkedError`, and no other of them. A `RemoteError` ends inside it, as the
reason of a local answer.
"""

import os
import re

__all__ = [
    "ArgumentError",
    "BenchmarkError",
    "CalibrationError",
    "CircuitOpen",
    "EdgecascadeError",
    "ExportError",
    "ForkedError",
    "InputError",
    "InvalidReply",
    "ModelFileError",
    "NoReply",
    "ParityError",
    "RemoteError",
    "RemoteRefusal",
    "RemoteUnreachable",
    "UnsendableInput",
    "cut",
    "first_line",
    "no_file",
    "printable",
]

_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)  # control characters but for tab and line feed, marks of the direction of writing, and halves of characters


class EdgecascadeError(Exception):
    """Base of every exception that edgecascade raises. Its `str` is printable: it may quote a file or a server."""

    def __str__(self) -> str:
        return printable(super().__str__())


class ModelFileError(EdgecascadeError, ValueError):
    """The file is missing, damaged, not a cascade model, or of a newer format."""


class ArgumentError(EdgecascadeError, ValueError):
    """An argument has an invalid value, such as an address of an unknown form or a deadline of 0 seconds."""


class InputError(EdgecascadeError, ValueError):
    """An input has another type or shape than the file declares."""


class ForkedError(EdgecascadeError, RuntimeError):
    """A cascade is used in a fork of the process that loaded it."""


class RemoteError(EdgecascadeError):
    """The remote did not answer.

    Attributes:
        retry: whether the same request may succeed if it is sent again at once.
        retry_after: seconds for which the remote asked not to be called again, or None.
    """

    retry = False

    def __init__(self, message: str, *, retry: bool | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry = type(self).retry if retry is None else retry
        self.retry_after = retry_after

    @property
    def about_input(self) -> bool:
        """Whether the failure may be due to this input, so that the remote may answer others.

        It is false where any input would have failed: the remote cannot be reached, refuses this client, has no such
        model (yet), or something else replied in its place. Such failures open a circuit breaker, and never count
        against an input in the outbox.
        """
        return True


class UnsendableInput(RemoteError):  # noqa: N818  # its parent has the suffix
    """The input has no form that this remote takes, such as an array of another type; nothing was sent."""


class RemoteRefusal(RemoteError):  # noqa: N818
    """The remote replied with an error.

    Attributes:
        status: the HTTP status or the name of the gRPC status, such as `404` or `NOT_FOUND`; `200` for an error in a
            successful response.
    """

    def __init__(
        self, message: str, *, status: str, retry: bool | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, retry=retry, retry_after=retry_after)
        self.status = status

    @property
    def about_input(self) -> bool:
        """Whether the status blames the content of the request, no retry would help, and no model is missing."""
        return self.status in _ABOUT_INPUT and not self.retry and not _NO_MODEL.search(str(self))

    @property
    def too_large(self) -> bool:
        """Whether the server, or a proxy in front of it, takes no request of this size."""
        return self.status in ("413", "RESOURCE_EXHAUSTED") and not self.retry


_ABOUT_INPUT = frozenset(
    ("400", "411", "413", "414", "415", "422", "500", "INVALID_ARGUMENT", "OUT_OF_RANGE", "RESOURCE_EXHAUSTED")
)
# Servers also send 400 and 500 while a model is loading, or after it was removed.
_NO_MODEL = re.compile(
    r"(?i)unknown model|no available versions?|model\b.{0,200}\b(not (found|ready|available|loaded)|loading)"
)


class InvalidReply(RemoteError):  # noqa: N818
    """The remote replied, and the reply is not an answer: it is malformed, too large, or about something else."""

    @property
    def about_input(self) -> bool:
        """False: the reply may come from something else, such as a captive portal."""
        return False


class RemoteUnreachable(RemoteError):  # noqa: N818
    """The remote could not be reached."""

    retry = True

    @property
    def about_input(self) -> bool:
        """False: any input would have failed."""
        return False


class CircuitOpen(RemoteUnreachable):
    """The remote failed so often that it is not asked for a while."""

    retry = False


class NoReply(EdgecascadeError):  # noqa: N818
    """Neither of two chat endpoints replied.

    Attributes:
        local: why the local one did not, in a sentence.
        remote: why the remote one did not.
        status: the HTTP status for a client: 503, or that of the endpoints if both blame the request.
        retry_after: seconds for which an endpoint asked not to be called again, or None.
    """

    def __init__(self, *, local: str, remote: str, status: int = 503, retry_after: float | None = None) -> None:
        super().__init__(f"no endpoint replied: {local}; {remote}")
        self.local, self.remote, self.status, self.retry_after = local, remote, status, retry_after


class CalibrationError(EdgecascadeError, ValueError):
    """The data cannot support the requested number; the message gives the reason and what would help."""


class ExportError(EdgecascadeError, ValueError):
    """The model or the data cannot be turned into a cascade model; the message gives the reason and what would help."""


class ParityError(ExportError):
    """The graph and the reference arithmetic disagree; nothing was written."""


class BenchmarkError(EdgecascadeError):
    """A download, a server or the data of a benchmark failed; the message names it and the failure."""


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error message, or the error's type if it has no message."""
    return printable((str(error).strip().splitlines() or [type(error).__name__])[0])


def cut(text: str, longest: int) -> str:
    """Return a text of at most so many characters; of a longer one the words that fit, and `...`."""
    return text if len(text) <= longest else f"{(text[:longest].rpartition(' ')[0] or text[:longest]).rstrip(',')} ..."


def no_file(path: str | os.PathLike[str]) -> str:
    """Return what to say of a path at which there is no regular file."""
    shown = os.fspath(path)
    if not shown:
        return "expected the path of a file, got an empty one"
    if os.path.isdir(shown):
        return f"{shown}: expected a file, got a folder"
    return f"{shown}: expected a regular file" if os.path.exists(shown) else f"{shown}: no such file"


def printable(text: str) -> str:
    r"""Return a text with its control characters as escapes, so that it cannot steer a terminal or forge a line.

    Tab and line feed stay. Marks that turn the direction of writing, and halves of characters, are escaped too.

    >>> printable("cat\x1b[2J")
    'cat\\x1b[2J'
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
