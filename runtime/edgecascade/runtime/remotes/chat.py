"""A remote that generates text: any server with OpenAI's chat completions and their log-probabilities."""

from __future__ import annotations

import json
import math
import re
import ssl
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, get_args
from urllib.parse import urlsplit

import numpy as np

from edgecascade.runtime.batch import Batch, rows, size
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remote import Opinions, Scores
from edgecascade.runtime.remotes.chat_labels import Labels, label_probabilities
from edgecascade.runtime.remotes.chat_prompt import AnswerForm, Prompt, letters, messages_for
from edgecascade.runtime.remotes.chat_reply import Reply, read_reply
from edgecascade.runtime.remotes.http import HttpClient, Traffic
from edgecascade.runtime.remotes.successful import successful
from edgecascade.types.errors import ArgumentError, RemoteError

__all__ = ["Chat"]

_ENDPOINT = "/chat/completions"
_MAX_TOKENS = {"letter": 1, "label": 4, "text": 32}
_LISTED = 20  # the most likely tokens that OpenAI's API lists


class Chat:
    """A generating model on a server such as llama.cpp's, vLLM, or OpenAI's. Opens no connection until it is asked.

    Each input is a request of its own; those of one call go out side by side. An answer is read in one of three ways:

    - `letter`: the labels are listed as A, B, C..., and the probability of each is read from the likeliest tokens.
    - `label`: the same, with the labels' own words.
    - `text`: a text is generated and searched for a label. Its confidence is the logistic function of the mean
      log-probability of its tokens, by `scale`; without one, the exponential of that mean.

    Args:
        url: `http[s]://host[:port]/v1`, or with `/chat/completions` and a query behind it.
        labels: the classes' names, in order.
        model: which of the server's models; None leaves it to the server.
        answer: what to ask for and how to read it.
        prompt: a text with {input} and maybe {labels} in it; or a function from one input to a text or to messages,
            called from several threads at once.
        scale: slope and intercept for `text`, as `edgecascade.calibration.fit_platt` fits them.
        coverage: for `letter` and `label`, the least probability that the reply is any of the labels at all.
        max_tokens: how many to generate at most; by default 1, 4 and 32. A model that begins with quotes, spaces or
            emphasis needs more.
        fields: further fields of every request, such as `seed`; one that is None is left out.
        encoded: whether images come as files, which become data URLs behind the text.
        headers: sent with every request, such as `Authorization`.
        context: TLS settings for https; by default the system's certificates.
        concurrency: the most requests under way at once.

    Raises:
        ArgumentError: one of them cannot mean anything.
    """

    request_inputs = 1  # a reply that is of no use is then one input's, not that of all that were asked with it

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
        concurrency: int = 8,
    ) -> None:
        _check(answer, scale, coverage, max_tokens, concurrency)
        self._client, self._path = _endpoint(url, context)
        self._headers = {**(headers or {}), "Content-Type": "application/json"}
        self._answer, self._scale, self._coverage = answer, scale, coverage
        self._labels = Labels(labels)
        self._messages = messages_for(prompt, answer, labels)
        if answer == "letter":
            self._labels = Labels(letters(labels))
        fields = {
            "model": model,
            "temperature": 0,
            "max_tokens": max_tokens or _MAX_TOKENS[answer],
            "logprobs": True,
            "top_logprobs": None if answer == "text" else _LISTED,
            **(fields or {}),
        }
        self._fields = {name: value for name, value in fields.items() if value is not None}
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="edgecascade-chat")
        self.encoded = encoded

    @property
    def traffic(self) -> Traffic:
        """Requests and bytes so far."""
        return self._client.traffic

    def infer(self, inputs: Batch, deadline: Deadline) -> Scores:
        """Probabilities [n, classes] of inputs [n, ...], or for `text` opinions.

        Raises:
            TimeoutError: the deadline passed.
            RemoteUnreachable: no connection could be made.
            RemoteError: an input cannot be asked about, or a reply is no answer; the first one, for all of them.
        """
        replies = self._ask([self._request(inputs, at) for at in range(size(inputs))], deadline)
        if self._answer == "text":
            chosen = np.array([self._labels.named(reply) for reply in replies], np.int64)
            return Opinions(chosen, np.array([self._confidence(reply.mean_logprob) for reply in replies], np.float64))
        tables = [label_probabilities(reply, self._labels, coverage=self._coverage) for reply in replies]
        return np.array(tables, np.float64).reshape(len(replies), len(self._labels.plain))

    def close(self) -> None:
        """Close the idle connections. Requests under way end by their deadlines."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def _request(self, inputs: Batch, at: int) -> bytes:
        messages = self._messages(rows(inputs, at))
        try:
            return json.dumps({"messages": messages, **self._fields}, separators=(",", ":"), allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise RemoteError(f"remote: the request cannot be written as JSON: {error}") from error

    def _ask(self, requests: Sequence[bytes], deadline: Deadline) -> list[Reply]:
        try:
            asked = [self._pool.submit(self._exchange, request, deadline) for request in requests]
        except RuntimeError as error:  # after close, or no more threads to be had
            raise RemoteError(f"remote: cannot ask: {error}") from error
        done, unfinished = wait(asked, deadline.remaining(), FIRST_EXCEPTION)
        for one in unfinished:
            one.cancel()
        replies = [one.result() for one in asked if one in done]  # or the first error
        if unfinished:
            raise TimeoutError("the deadline has passed")
        return replies

    def _exchange(self, request: bytes, deadline: Deadline) -> Reply:
        response = self._client.request("POST", self._path, request, self._headers, deadline)
        return read_reply(successful(response).body)

    def _confidence(self, mean_logprob: float) -> float:
        if self._scale is None:
            return math.exp(mean_logprob)
        slope, intercept = self._scale
        return 0.5 + 0.5 * math.tanh((slope * mean_logprob + intercept) / 2)


def _endpoint(url: str, context: ssl.SSLContext | None) -> tuple[HttpClient, str]:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    path = parts.path.rstrip("/")
    written = url.isascii() and not re.search(r"\s", url)
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not path or not written:
        raise ArgumentError(f"url: expected http[s]://host[:port]/v1, got {url!r}")
    secure = parts.scheme == "https"
    client = HttpClient(
        parts.hostname, port or (443 if secure else 80), (context or ssl.create_default_context()) if secure else None
    )
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
        raise ArgumentError(f"scale: only for answer='text', which has no other confidence; got answer={answer!r}")
    if not 0 < coverage <= 1:
        raise ArgumentError(f"coverage: expected more than 0 and at most 1, got {coverage}")
    if max_tokens is not None and max_tokens < 1:
        raise ArgumentError(f"max_tokens: expected 1 or more, got {max_tokens}")
    if concurrency < 1:
        raise ArgumentError(f"concurrency: expected 1 or more, got {concurrency}")
