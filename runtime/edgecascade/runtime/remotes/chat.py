"""Ask a generative model: any server with OpenAI's chat completions and their log-probabilities."""

from __future__ import annotations

import base64
import json
import math
import re
import ssl
import string
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from typing import Any, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

import numpy as np

from edgecascade.runtime.background import DaemonPool
from edgecascade.runtime.batch import Batch, rows, size
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remotes.chat_reply import LabelMatcher, Reply, label_probabilities, read_reply
from edgecascade.runtime.remotes.http import HttpClient
from edgecascade.runtime.remotes.remote import RemoteLabels, Scores, Traffic, hiding_secrets, refuse_user, shown
from edgecascade.types.class_names import columns_for
from edgecascade.types.errors import ArgumentError, InvalidReply, RemoteError, RemoteRefusal, UnsendableInput

__all__ = ["AnswerForm", "Chat", "Prompt", "chat_client"]

AnswerForm: TypeAlias = Literal["letter", "label", "text"]
Prompt: TypeAlias = str | Callable[[Any], str | list[dict[str, Any]]]

_ENDPOINT = "/chat/completions"
_MAX_TOKENS = {"letter": 1, "label": 4, "text": 32}
_LIMITS = ("max_completion_tokens", "max_tokens")  # fields that bound how many tokens a reply has
_MANY = 4096  # tokens of a reply without bound
_MARGIN, _PER_TOKEN, _WIDTH = 8192, 2048, 16  # values of a reply, those for each of its tokens, and bytes of a value
_ADVICE = (  # for refusals that name one of these
    (
        "max_completion_tokens",
        "pass fields={'max_tokens': None, 'max_completion_tokens': N} with the number of tokens to generate",
    ),
    (
        "logprobs",
        "pass fields={'top_logprobs': N} with the most that the server allows, or answer='text' if it allows none",
    ),
)
_LISTED = 20  # the most likely tokens that OpenAI's API lists
_QUESTION = "Which label fits the input best? {labels}\n\nInput: {input}\n\nAnswer with the {form} alone."
_PLACE = re.compile(r"(\{labels\}|\{input\})")
_IMAGES = ((b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n", "png"), (b"GIF8", "gif"), (b"RIFF", "webp"))


class Chat:
    """A generative model on a server such as llama.cpp's, vLLM, or OpenAI's. It connects when first asked.

    Each input is one request; those of one call are sent concurrently. An answer is read in one of three ways:

    - `letter`: the labels are listed as A, B, C, ..., and the probability of each is read from the likeliest tokens.
    - `label`: the same, with the labels' own words.
    - `text`: text is generated and searched for a label. Its confidence is the logistic function of the mean
      log-probability of its tokens, by `scale`; without one, the exponential of that mean.

    Args:
        url: `http[s]://host[:port]/v1`, or the same with `/chat/completions` and a query.
        labels: the names of the cascade's classes, in any order; a description of them belongs in the prompt.
        model: one of the server's models; None leaves the choice to the server.
        answer: the form of the answer, one of the three above.
        prompt: a text that contains {input} and may contain {labels}; or a function from one input to a text or to
            messages, which several threads call at once.
        scale: slope and intercept for `text`, as `edgecascade.calibration.fit_platt` fits them.
        coverage: for `letter` and `label`, the least probability that the reply is any of the labels.
        max_tokens: the most tokens to generate; by default 1, 4 and 32. A model that begins with quotes, spaces or
            emphasis needs more.
        fields: further fields of every request, such as `seed`; those that are None are left out.
        encoded: whether images come as files; they become data URLs after the text.
        headers: sent with every request, such as `Authorization`.
        context: TLS settings for https; by default the system's certificates.
        proxy: `http://[user:password@]host[:port]`, an HTTP proxy to connect through. Environment variables such as
            `HTTPS_PROXY` are not read.
        concurrency: the most requests under way at once.

    Raises:
        ArgumentError: an argument is out of range.
    """

    request_inputs = 1  # a reply that is not an answer then concerns one input, not all of a micro-batch

    def __init__(
        self,
        url: str,
        *,
        labels: Sequence[str],
        model: str | None = None,
        answer: AnswerForm = "letter",
        prompt: Prompt | None = None,
        scale: tuple[float, float] | None = None,
        coverage: float = 0.1,
        max_tokens: int | None = None,
        fields: Mapping[str, Any] | None = None,
        encoded: bool = False,
        headers: Mapping[str, str] | None = None,
        context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        concurrency: int = 8,
    ) -> None:
        _check(answer, scale, coverage, max_tokens, concurrency)
        self._client, self._path = chat_client(url, context, proxy)
        self._headers = {**(headers or {}), "Content-Type": "application/json"}
        self._secrets = [*self._headers.items(), *self._client.proxy_headers]
        self._answer, self._scale, self._coverage = answer, scale, coverage
        self.class_names = tuple(labels)
        self._labels = LabelMatcher(labels)
        self._messages = _messages_for(prompt, answer, labels)
        if answer == "letter":
            self._labels = LabelMatcher(_letters(labels))
        fields = {
            "model": model,
            "temperature": 0,
            "max_tokens": max_tokens or _MAX_TOKENS[answer],
            "logprobs": True,
            "top_logprobs": None if answer == "text" else _LISTED,
            **(fields or {}),
        }
        self._fields = {name: value for name, value in fields.items() if value is not None}
        tokens = next((fields[name] for name in _LIMITS if isinstance(fields.get(name), int)), _MANY)
        self._values = _MARGIN + _PER_TOKEN * max(1, tokens)
        self._pool = DaemonPool(concurrency, "edgecascade-chat")
        self.encoded = encoded

    @property
    def traffic(self) -> Traffic:
        """Requests and bytes so far."""
        return self._client.traffic

    def infer(self, inputs: Batch, deadline: Deadline) -> Scores:
        """Return probabilities [n, classes] of inputs [n, ...]; for `text`, labels with confidences.

        Raises:
            TimeoutError: the deadline passed.
            RemoteUnreachable: no connection could be made.
            RemoteError: an input cannot be sent, or a reply is not an answer; the first such error of all inputs.
        """
        with hiding_secrets(self._secrets, self._path.partition("?")[2]):
            return self._scores(inputs, deadline)

    def expect(self, labels: Sequence[str]) -> None:
        """Check that a cascade of these classes can use the answers.

        Raises:
            ArgumentError: they are others.
        """
        try:
            columns_for(tuple(labels), self.class_names, None)
        except InvalidReply as error:
            raise ArgumentError(f"labels: {str(error).removeprefix('remote: ')}") from error
        if len(labels) != len(self.class_names):
            raise ArgumentError(f"labels: expected {len(labels)}, one per class, got {len(self.class_names)}")

    def expect_outputs(self, names: Sequence[str]) -> None:  # noqa: ARG002
        """Refuse a general task.

        Raises:
            ArgumentError: always; a generative model answers with labels.
        """
        raise ArgumentError("remote: expected a remote for a general task, got Chat, which answers with labels")

    def close(self) -> None:
        """Close the idle connections. Requests under way end by their deadlines."""
        self._pool.close()
        self._client.close()

    def _scores(self, inputs: Batch, deadline: Deadline) -> Scores:
        replies = self._ask([self._request(inputs, at) for at in range(size(inputs))], deadline)
        if self._answer == "text":
            chosen = np.array([self._labels.named(reply) for reply in replies], np.int64)
            sure = np.array([self._confidence(reply.mean_logprob) for reply in replies], np.float64)
            return RemoteLabels(chosen, sure)
        tables = [label_probabilities(reply, self._labels, coverage=self._coverage) for reply in replies]
        return np.array(tables, np.float64).reshape(len(replies), len(self._labels.plain))

    def _request(self, inputs: Batch, at: int) -> bytes:
        messages = self._messages(rows(inputs, at))
        try:
            return json.dumps({"messages": messages, **self._fields}, separators=(",", ":"), allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise UnsendableInput(f"remote: the request cannot be written as JSON: {error}") from error

    def _ask(self, requests: Sequence[bytes], deadline: Deadline) -> list[Reply]:
        try:
            asked = [self._pool.submit(self._exchange, request, deadline) for request in requests]
        except RuntimeError as error:  # closed, or no thread can be started
            raise RemoteError(f"remote: cannot ask: {error}") from error
        done, unfinished = wait(asked, deadline.remaining(), FIRST_EXCEPTION)
        for one in unfinished:
            one.cancel()
        replies = [one.result() for one in asked if one in done]  # raises the first error
        if unfinished:
            raise TimeoutError("the deadline has passed")
        return replies

    def _exchange(self, request: bytes, deadline: Deadline) -> Reply:
        response = self._client.request(
            "POST", self._path, request, self._headers, deadline, largest=_WIDTH * self._values
        )
        try:
            return read_reply(response.json(values=self._values, deadline=deadline))
        except RemoteRefusal as error:
            advice = next((advice for words, advice in _ADVICE if words in str(error)), "")
            if not advice or error.status not in ("400", "422"):
                raise
            raise RemoteRefusal(f"{error}; {advice}", status=error.status) from error

    def _confidence(self, mean_logprob: float) -> float:
        if self._scale is None:
            return math.exp(mean_logprob)
        slope, intercept = self._scale
        return 0.5 + 0.5 * math.tanh((slope * mean_logprob + intercept) / 2)


def chat_client(url: str, context: ssl.SSLContext | None = None, proxy: str | None = None) -> tuple[HttpClient, str]:
    """Return a client of the server of a chat endpoint, and the path of its chat completions.

    Args:
        url: `http[s]://host[:port]/v1`, or the same with `/chat/completions` and a query.
        context: TLS settings for https; by default the system's certificates.
        proxy: as in `HttpClient`.

    Raises:
        ArgumentError: the address has another form.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    path = parts.path.rstrip("/")
    plain = url.isascii() and not re.search(r"\s", url)
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not path or not plain:
        raise ArgumentError(f"url: expected http[s]://host[:port]/v1, got {shown(url)!r}")
    refuse_user(url)
    secure = parts.scheme == "https"
    context = (context or ssl.create_default_context()) if secure else None
    client = HttpClient(parts.hostname, port or (443 if secure else 80), context, proxy=proxy)
    path = path if path.endswith(_ENDPOINT) else path + _ENDPOINT
    return client, f"{path}?{parts.query}" if parts.query else path


def _check(
    answer: str, scale: tuple[float, float] | None, coverage: float, max_tokens: int | None, concurrency: int
) -> None:
    if answer not in get_args(AnswerForm):
        raise ArgumentError(f"answer: expected 'letter', 'label' or 'text', got {answer!r}")
    if scale is not None and (len(scale) != 2 or not all(math.isfinite(number) for number in scale)):
        raise ArgumentError(f"scale: expected a slope and an intercept, got {scale!r}")
    if scale is not None and answer != "text":
        raise ArgumentError(f"scale: expected only with answer='text', got answer={answer!r}")
    if not 0 < coverage <= 1:
        raise ArgumentError(f"coverage: expected a number above 0 and at most 1, got {coverage}")
    if max_tokens is not None and max_tokens < 1:
        raise ArgumentError(f"max_tokens: expected 1 or more, got {max_tokens}")
    if concurrency < 1:
        raise ArgumentError(f"concurrency: expected 1 or more, got {concurrency}")


def _letters(labels: Sequence[str]) -> list[str]:
    """Return A, B, C, ..., each of which is one token in any tokenizer."""
    if len(labels) > len(string.ascii_uppercase):
        raise ArgumentError(
            f"labels: expected at most 26 for answers in one letter, got {len(labels)}; use answer='label'"
        )
    return list(string.ascii_uppercase[: len(labels)])


def _messages_for(
    prompt: Prompt | None, answer: AnswerForm, labels: Sequence[str]
) -> Callable[[Any], list[dict[str, Any]]]:
    """Return a function from one input to the messages of a request.

    Raises:
        ArgumentError: the prompt does not contain {input}.
    """
    if prompt is None:
        prompt = _QUESTION.replace("{form}", "letter" if answer == "letter" else "label")
    if not isinstance(prompt, str):
        return _written_by(prompt)
    if "{input}" not in prompt:
        raise ArgumentError(f"prompt: expected a text with {{input}}, got {prompt[:80]!r}")
    listed = ", ".join(labels)
    if answer == "letter":
        listed = "".join(f"\n{letter}. {label}" for letter, label in zip(_letters(labels), labels, strict=True))
    # Replaced in one pass, so that braces in an input or a label have no meaning.
    parts = [listed if part == "{labels}" else part for part in _PLACE.split(prompt)]
    places = [part == "{input}" for part in _PLACE.split(prompt)]

    def messages(one: Any) -> list[dict[str, Any]]:
        if not isinstance(one, str | bytes):
            kind = getattr(one, "dtype", type(one).__name__)
            raise UnsendableInput(
                f"remote: expected a text, got {kind}; pass a function as `prompt` that describes it in text"
            )
        said = "the image" if isinstance(one, bytes) else one
        text = "".join(said if place else part for part, place in zip(parts, places, strict=True))
        return _user([{"type": "text", "text": text}, _image(one)] if isinstance(one, bytes) else text)

    return messages


def _written_by(prompt: Callable[[Any], str | list[dict[str, Any]]]) -> Callable[[Any], list[dict[str, Any]]]:
    def messages(one: Any) -> list[dict[str, Any]]:
        written = prompt(one)
        if not isinstance(written, str | list):
            raise UnsendableInput(
                f"prompt: expected a function that returns text or messages, got {type(written).__name__} from it"
            )
        return _user(written) if isinstance(written, str) else written

    return messages


def _user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def _image(file: bytes) -> dict[str, Any]:
    kinds = [kind for start, kind in _IMAGES if file.startswith(start)]
    if not kinds:
        raise UnsendableInput("remote: expected the bytes of a JPEG, PNG, GIF or WebP file, got other bytes")
    return {
        "type": "image_url",
        "image_url": {"url": f"data:image/{kinds[0]};base64,{base64.b64encode(file).decode()}"},
    }
