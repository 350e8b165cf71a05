"""The large model: the `Remote` protocol, a model in this process, and `connect`, which reads an address."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.batch import Batch
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.recipe import Remade
from edgecascade.types.errors import ArgumentError, RemoteError

if TYPE_CHECKING:
    from edgecascade.types.document import AskedChat

__all__ = [
    "CHAT_ENDPOINT",
    "InProcess",
    "NamedArrays",
    "Remote",
    "RemoteLabels",
    "Replied",
    "ReplyBound",
    "Scores",
    "Traffic",
    "Wrapped",
    "connect",
    "expect",
    "expect_asked",
    "expect_outputs",
    "hiding_secrets",
    "is_chat",
    "is_chat_path",
    "refuse_user",
    "shown",
    "without_secrets",
]

CHAT_ENDPOINT = "/chat/completions"
_WIDTH = 32  # bytes of a number in JSON, with a comma and spaces
_FURTHER = 4096  # values beside an input's scores, such as an embedding
_LARGEST = 64 << 20  # bytes
_SHORTEST_SECRET = 8  # characters
_MOST_PROBABLE = 1.001  # times an equal share: a label has it at least, which float32 tells apart at any temperature
_OF_BODIES = re.compile("content-|accept|inference-header", re.IGNORECASE)  # headers without secrets


@dataclass(frozen=True)
class RemoteLabels:
    """The reply of a remote that returns a label and a confidence for each input, instead of scores.

    Attributes:
        labels: class indices, integers [n].
        confidences: probabilities that the labels are right, floating [n], in [0, 1].
    """

    labels: NDArray[Any]
    confidences: NDArray[Any]

    def probabilities(self, classes: int) -> NDArray[np.float64]:
        """Return probabilities [n, classes]; the other classes share the rest equally.

        A confidence that would make another class more probable than the label is raised to the least that does not.

        Raises:
            RemoteError: a label is not a class index, or a confidence is not a probability.
        """
        labels, confidences = np.asarray(self.labels), np.asarray(self.confidences)
        if labels.ndim != 1 or labels.shape != confidences.shape or labels.dtype.kind not in "iu":
            raise RemoteError(
                f"remote: expected integer labels [n] and as many confidences, got {labels.dtype} "
                f"{list(labels.shape)} and {confidences.dtype} {list(confidences.shape)}"
            )
        if not ((labels >= 0) & (labels < classes)).all() or not ((confidences >= 0) & (confidences <= 1)).all():
            raise RemoteError(f"remote: expected labels below {classes} and confidences from 0 to 1")
        sure = np.maximum(confidences.astype(np.float64), min(1.0, _MOST_PROBABLE / classes))
        rest = (1 - sure) / max(1, classes - 1)
        table = np.repeat(rest[:, None], classes, axis=1)
        table[np.arange(len(labels)), labels] = sure
        return table


Scores: TypeAlias = NDArray[Any] | RemoteLabels
"""Logits or probabilities [n, classes], or labels with confidences."""

NamedArrays: TypeAlias = Mapping[str, NDArray[Any]] | Sequence[Mapping[str, NDArray[Any]]]
"""The answers to a general task: arrays [n, ...] by name; or a sequence of n mappings from names to arrays of any
shape, for outputs without a batch axis, such as the boxes in each image."""

Replied: TypeAlias = Scores | NamedArrays
"""What a remote returns: scores for a classifier, named arrays for a general task."""


@dataclass(frozen=True)
class Traffic:
    """Requests so far, and the bytes sent and received, before TLS."""

    requests: int = 0
    sent: int = 0
    received: int = 0


class Remote(Protocol):
    """The protocol of a remote model.

    Optional attributes: `encoded`, true if it takes image files as they are, as an object array of bytes [n], where
    the application gave files; `request_inputs`, the most inputs in one request; `traffic`, a `Traffic`; `class_names`,
    a tuple of the names of its classes in the order of its scores, by which they are matched with the cascade's; and a
    method `expect(labels)`, which is called with the names of the cascade's classes, so that a reply can be bounded by
    what they need, or an `ArgumentError` raised if the remote cannot answer in them; a method `expect_asked(asked)`,
    which is called before that if the cascade was calibrated with a generative model, with how it was asked; and a
    method `expect_outputs(names)`, which is called in their place for a general task, with the names of the outputs to
    return, empty for all. `other_model` counts replies of another model than that of the calibration.
    """

    def infer(self, inputs: Batch, deadline: Deadline) -> Replied:
        """Return scores [n, classes], or named arrays, of original inputs [n, ...], by name if there are several.

        Called from several threads at once. It should return by the deadline; the caller does not wait longer.

        Raises:
            RemoteUnreachable: the remote cannot be reached.
            RemoteError: the remote replied, but its reply is not a valid answer.
        """
        ...

    def close(self) -> None:
        """Release connections and memory."""
        ...


class InProcess(Remade):
    """A model in this process: any function from inputs [n, ...] to what a `Remote` returns.

    The function cannot be interrupted. Past the deadline its result is dropped, but it runs to its end.

    Args:
        function: the model.
        class_names: of its classes in the order of its scores; empty if they are in the order of the cascade's.
    """

    def __init__(self, function: Callable[[Any], Replied], class_names: Sequence[str] = ()) -> None:
        self._function, self.class_names = function, tuple(class_names)

    def infer(self, inputs: Batch, deadline: Deadline) -> Replied:  # noqa: ARG002
        """Return what the function returns for inputs [n, ...]; its exceptions pass through."""
        return self._function(inputs)

    def close(self) -> None:
        """Do nothing."""


class Wrapped(Remade):
    """Base of remotes around another remote, whose attributes they pass on.

    Args:
        remote: the remote inside.

    Raises:
        ArgumentError: it has no method `infer`.
    """

    def __init__(self, remote: Remote) -> None:
        if not hasattr(remote, "infer"):
            raise ArgumentError(f"remote: expected a Remote, got {type(remote).__name__}")
        self._remote = remote

    @property
    def encoded(self) -> bool:
        """Whether the remote inside takes image files as they are."""
        return bool(getattr(self._remote, "encoded", False))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names of the remote inside, in the order of its scores; empty if it does not tell them."""
        return tuple(getattr(self._remote, "class_names", ()))

    @property
    def traffic(self) -> Traffic:
        """Requests and bytes so far; an `AttributeError` if the remote inside does not count them."""
        return cast(Traffic, cast(Any, self._remote).traffic)

    @property
    def request_inputs(self) -> int:
        """The most inputs in one request; an `AttributeError` if the remote inside sets no limit."""
        return int(cast(Any, self._remote).request_inputs)

    @property
    def asked(self) -> AskedChat:
        """How the remote inside asks a generative model; an `AttributeError` if it is another model."""
        return cast("AskedChat", cast(Any, self._remote).asked)

    @property
    def other_model(self) -> int:
        """Number of replies by another model than in calibration; an `AttributeError` if the remote counts none."""
        return int(cast(Any, self._remote).other_model)

    def expect(self, labels: Sequence[str]) -> None:
        """Tell the remote inside the names of the classes."""
        expect(self._remote, labels)

    def expect_asked(self, asked: AskedChat) -> None:
        """Tell the remote inside how a generative model was asked in calibration."""
        expect_asked(self._remote, asked)

    def expect_outputs(self, names: Sequence[str]) -> None:
        """Tell the remote inside the names of the outputs of a general task."""
        expect_outputs(self._remote, names)

    def close(self) -> None:
        """Close the remote inside."""
        self._remote.close()


@dataclass(frozen=True)
class ReplyBound:
    """How large a reply may be: what its scores need, and some thousand further values beside each input's.

    Attributes:
        values: the most values in a reply, names included.
        bytes: the most bytes, which are enough for any form in which numbers travel.
    """

    values: int
    bytes: int

    @classmethod
    def of(cls, inputs: int, classes: int | None) -> ReplyBound:
        """Return the bound for this many inputs; that of 64 MiB if the number of classes is not known."""
        if classes is None:
            return cls(_LARGEST // _WIDTH, _LARGEST)
        values = _FURTHER + inputs * (classes + _FURTHER)
        return cls(values, min(_LARGEST, _WIDTH * values))

    @classmethod
    def of_outputs(cls, inputs: int, sides: Sequence[Sequence[int]]) -> ReplyBound:
        """Return the bound for outputs of these shapes per input; that of 64 MiB if one has a side below 0, or none."""
        unknown = not sides or any(side < 0 for shape in sides for side in shape)
        return cls.of(inputs, None if unknown else sum(map(prod, sides)))


def expect(remote: object, labels: Sequence[str]) -> None:
    """Tell a remote the names of the classes, if it wants to know."""
    told = getattr(remote, "expect", None)
    if callable(told):
        told(labels)


def expect_asked(remote: object, asked: AskedChat) -> None:
    """Tell a remote how a generative model was asked in calibration, if it wants to know.

    Raises:
        ArgumentError: it was made to ask in another way.
    """
    told = getattr(remote, "expect_asked", None)
    if callable(told):
        told(asked)


def expect_outputs(remote: object, names: Sequence[str]) -> None:
    """Tell a remote that it answers to a general task with these outputs, if it wants to know.

    Args:
        remote: any remote.
        names: of the outputs; empty for all.

    Raises:
        ArgumentError: the remote cannot answer with named arrays.
    """
    told = getattr(remote, "expect_outputs", None)
    if callable(told):
        told(tuple(names))


def is_chat(address: str) -> bool:
    """Return whether an address is that of OpenAI's chat completions: its path ends in /v1 or /chat/completions.

    >>> [is_chat(f"http://host/{path}") for path in ("v1", "api/v1/?key=3", "v2/models/v1", "v1/chat/completions")]
    [True, True, False, True]
    """
    try:
        parts = urlsplit(address)
    except ValueError:  # no address at all
        return False
    path = parts.path.rstrip("/")
    return parts.scheme in ("http", "https") and is_chat_path(path) and path.endswith(("/v1", CHAT_ENDPOINT))


def is_chat_path(path: str) -> bool:
    """Return whether a path may be that of a chat endpoint: there is one, and not that of an Open Inference model.

    >>> [is_chat_path(path) for path in ("/v1beta/openai/", "/", "/v2/models/large")]
    [True, False, False]
    """
    return bool(path.strip("/")) and "/v2/models/" not in path


def shown(address: str) -> str:
    """Return an address without its user, password and query, which may be secret; or a path as it is."""
    if "://" not in address:  # a file
        return address
    return re.sub(r"(?<=//)[^/?#]*@", "", address).partition("?")[0]


def without_secrets(said: str, headers: Iterable[tuple[str, str]], query: str = "") -> str:
    """Return what a server says, without the values of headers and query that it repeats.

    Args:
        said: the server's words.
        headers: names and values that were sent. Those about the body are not secret.
        query: of the address.
    """
    words = [word for name, value in headers if not _OF_BODIES.match(name) for word in (*value.split(), *_user(value))]
    values = [part.partition("=")[2] for part in query.lstrip("?").split("&")]
    words += [*values, *map(unquote, values)]
    for word in sorted({*words}, key=len, reverse=True):
        said = said.replace(word, "***") if len(word) >= _SHORTEST_SECRET else said
    return said


@contextmanager
def hiding_secrets(headers: Iterable[tuple[str, str]], query: str = "") -> Iterator[None]:
    """Take out of the errors of a remote what `without_secrets` takes out: a server may repeat it anywhere."""
    try:
        yield
    except RemoteError as error:
        error.args = (without_secrets(str(error), headers, query),)
        raise


def _user(value: str) -> list[str]:
    """Return the user and the password in the value of an `Authorization` header, which are base64 there."""
    try:
        return base64.b64decode(value.removeprefix("Basic "), validate=True).decode().split(":", 1)
    except ValueError:
        return []


def refuse_user(address: str) -> None:
    """Check that an address has no user and password.

    Raises:
        ArgumentError: it has; the message says how to send them.
    """
    if shown(address) != address.partition("?")[0]:
        raise ArgumentError(
            "remote: expected an address without user:password@, got one with it; send them as a header, "
            "'Authorization: Basic ' and the base64 of user:password, by `headers` or --header-file"
        )


def connect(
    remote: str | os.PathLike[str] | Remote | Callable[[Any], Replied] | None,
    *,
    threads: int = 1,
    output: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Remote | None:
    """Return a remote for an address, an ONNX file or a function.

    An address is wrapped as `CircuitBreaker(Retrying(...))`. A `Remote` is returned as it is.

    Args:
        remote: an address, a path, a function, a `Remote`, or None, for which None is returned. An address whose path
            ends in /v1 or /chat/completions is that of a generative model, which `Chat` asks as the cascade file says.
        threads: threads of ONNX Runtime for a file.
        output: the output of an address or a file that holds the logits, if it is not evident.
        headers: to send to an address.

    Raises:
        ModelFileError: the file is missing, or has no such output.
        ArgumentError: the address is neither that of chat completions nor that of an Open Inference Protocol v2 model,
            or there are headers and no address, or they are not lines of text.
        ModuleNotFoundError: the address is grpc://, and the `grpc` extra is not installed.
    """
    address = os.fspath(remote) if isinstance(remote, (str, os.PathLike)) else ""
    if headers and "://" not in address:
        raise ArgumentError(f"headers: expected with an address as remote, got {address or type(remote).__name__}")
    if headers and not (isinstance(headers, Mapping) and all(map(_is_line, (*headers, *headers.values())))):
        raise ArgumentError("headers: expected a mapping from names to values, each a line of text, got something else")
    if remote is None:
        return None
    if isinstance(remote, (str, os.PathLike)):
        if "://" in address:
            from edgecascade.runtime.remotes.circuit import CircuitBreaker
            from edgecascade.runtime.remotes.retry import Retrying

            return CircuitBreaker(Retrying(_server(address, output, headers or {})))
        from edgecascade.runtime.remotes.onnx_file import OnnxFile

        return OnnxFile(address, threads=threads, output=output)
    if hasattr(remote, "infer"):
        return cast(Remote, remote)
    if callable(remote):
        return InProcess(remote)
    raise ArgumentError(
        f"remote: expected an address, an ONNX file, a function or a Remote, got {type(remote).__name__}"
    )


def _is_line(text: Any) -> bool:
    return isinstance(text, str) and text.isprintable()


def _server(address: str, output: str | None, headers: Mapping[str, str]) -> Remote:
    if address.startswith(("grpc://", "grpcs://")):
        from edgecascade.runtime.remotes.open_inference_grpc import OpenInferenceGrpc

        return OpenInferenceGrpc(address, output=output, headers=headers)
    if is_chat(address):
        from edgecascade.runtime.remotes.chat import Chat

        if output is not None:
            raise ArgumentError(f"output: expected none for chat completions, which have no outputs, got {output}")
        return Chat(address, encoded=True, headers=headers)
    from edgecascade.runtime.remotes.open_inference import OpenInference

    return OpenInference(address, output=output, headers=headers)
