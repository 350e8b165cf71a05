"""Ask a generative model: any server with OpenAI's chat completions and their log-probabilities."""

from __future__ import annotations

import json
import logging
import math
import re
import ssl
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from threading import Lock
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from edgecascade.runtime.background import DaemonPool
from edgecascade.runtime.batch import Batch, rows, size
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.recipe import Remade
from edgecascade.runtime.remotes.chat_prompt import Messages, Prompt, letters, messages_for, template_of
from edgecascade.runtime.remotes.chat_reply import (
    LabelMatcher,
    Reply,
    UnscoredReply,
    label_probabilities,
    read_reply,
    text_confidence,
)
from edgecascade.runtime.remotes.http import HttpClient
from edgecascade.runtime.remotes.remote import (
    CHAT_ENDPOINT,
    RemoteLabels,
    Scores,
    Traffic,
    hiding_secrets,
    is_chat_path,
    refuse_user,
    shown,
)
from edgecascade.types.class_names import columns_for
from edgecascade.types.document import ANSWER_FORMS, AnswerForm, AskedChat, template_sha256
from edgecascade.types.errors import ArgumentError, InvalidReply, RemoteError, RemoteRefusal, UnsendableInput

__all__ = ["LIMITS", "AnswerForm", "Chat", "Prompt", "chat_client", "check_fields", "lacks_logprobs"]

_DEFAULT: AnswerForm = "label"  # small models say a word where they cannot tell which letter it has
_MAX_TOKENS = {"letter": 1, "label": 4, "text": 32}
LIMITS = ("max_completion_tokens", "max_tokens")
"""Fields that bound how many tokens a reply has."""
_SET = ("messages", "model", "stream", "stream_options", "logprobs")  # fields that are set from elsewhere
_MANY = 4096  # tokens for which a reply is read, however many are asked for
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
_REFUSALS = ("400", "422")  # statuses for a field that the server does not take
_LISTED, _FEWER = 20, 5  # the most likely tokens that OpenAI's API lists, and what nearly every server does
_NUMBER = re.compile(r"(?<!\d)\d{1,4}(?!\d)")
_NAMES = 16  # of models in replies that are counted
_log = logging.getLogger(__name__)


class _Way(NamedTuple):
    """How to ask and read, once the labels are known.

    Attributes:
        answer: the form of the answer.
        labels: what replies are searched for.
        messages: writes the messages for one input.
        fields: of every request beside the messages.
        scale: slope and intercept for `text`, or None.
        scored: whether replies must have log-probabilities.
    """

    answer: AnswerForm
    labels: LabelMatcher
    messages: Messages
    fields: Mapping[str, Any]
    scale: tuple[float, float] | None
    scored: bool

    @property
    def values(self) -> int:
        """The most values of a reply."""
        tokens = next((self.fields[name] for name in LIMITS if isinstance(self.fields.get(name), int)), _MANY)
        return _MARGIN + _PER_TOKEN * min(max(1, tokens), _MANY)

    def request(self, messages: Sequence[Mapping[str, Any]]) -> bytes:
        """Return the body of a request."""
        try:
            return json.dumps({"messages": messages, **self.fields}, separators=(",", ":"), allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise UnsendableInput(f"remote: the request cannot be written as JSON: {error}") from error


class Chat(Remade):
    """A generative model on a server such as llama.cpp's, vLLM, or OpenAI's. It connects when first asked.

    Each input is one request; those of one call are sent concurrently. An answer is read in one of three ways:

    - `label`: the probability of each label is read from the likeliest tokens.
    - `letter`: the same, with the labels listed as A, B, C, ...; it takes one token, and a model that can tell them.
    - `text`: text is generated and searched for a label. Its confidence is the logistic function of the mean
      log-probability of its tokens, by `scale`; without one, the exponential of that mean.

    A cascade file that was calibrated with a generative model says how it was asked. What is not given here is taken
    from there, and what is given must be the same, but for the name of the model and for `fields`. If a server refuses
    to list 20 likely tokens, and neither `fields` nor a file sets their number, as many are asked for as it allows.

    Args:
        url: `http[s]://host[:port]/v1`, or the same with `/chat/completions` and a query.
        labels: the names of the cascade's classes, in any order; a description of them belongs in the prompt. By
            default those of the cascade, in its order.
        model: one of the server's models; None leaves the choice to the file, or else to the server.
        answer: the form of the answer, one of the three above; by default that of the file, or else `label`.
        prompt: a text that contains {input} and may contain {labels}; messages whose contents do, such as examples
            before the question; or a function from one input to a text or to messages, which several threads call at
            once.
        scale: slope and intercept for `text`, as `edgecascade.calibration.fit_platt` fits them. With a slope of 0,
            every reply has the same confidence, and no log-probabilities are asked for.
        coverage: for `letter` and `label`, the least probability that the reply is any of the labels.
        max_tokens: the most tokens to generate; by default 4, 1 and 32. A model that begins with quotes, spaces or
            emphasis needs more.
        fields: further fields of every request, such as `seed`, none of which `check_fields` refuses; those that are
            None are left out.
        encoded: whether images come as files; they become data URLs after the text.
        headers: sent with every request, such as `Authorization`.
        context: TLS settings for https; by default the system's certificates.
        proxy: `http://[user:password@]host[:port]`, an HTTP proxy to connect through. Environment variables such as
            `HTTPS_PROXY` are not read.
        concurrency: the most requests under way at once.

    Attributes:
        class_names: names of the classes in the order of the scores; empty until they are known.

    Raises:
        ArgumentError: an argument is out of range.
    """

    request_inputs = 1  # a reply that is not an answer then concerns one input, not all of a micro-batch

    def __init__(
        self,
        url: str,
        *,
        labels: Sequence[str] = (),
        model: str | None = None,
        answer: AnswerForm | None = None,
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
        check_fields(fields or {})
        template_of(prompt, answer or _DEFAULT)
        self._client, self._path = chat_client(url, context, proxy)
        self._headers = {**(headers or {}), "Content-Type": "application/json"}
        self._secrets = [*self._headers.items(), *self._client.proxy_headers]
        self._model, self._answer, self._prompt, self._scale = model, answer, prompt, scale
        self._coverage = coverage
        self._fields = {**({} if max_tokens is None else {"max_tokens": max_tokens}), **(fields or {})}
        self._calibrated: AskedChat | None = None
        self._way: _Way | None = None
        self._lock = Lock()
        self._reported: Counter[str] = Counter()
        self._other_model = 0
        self._pool = DaemonPool(concurrency, "edgecascade-chat")
        self.encoded = encoded
        self.class_names: tuple[str, ...] = ()
        if labels:
            self._begin(labels)

    @property
    def traffic(self) -> Traffic:
        """Requests and bytes so far."""
        return self._client.traffic

    @property
    def other_model(self) -> int:
        """Number of replies that name another model than those in calibration did."""
        return self._other_model

    @property
    def reported(self) -> Mapping[str, int]:
        """Number of replies by the name of the model in them, of up to 16 models."""
        with self._lock:
            return dict(self._reported)

    @property
    def asked(self) -> AskedChat:
        """How it asks, for the file of a cascade that is calibrated with it.

        Raises:
            ArgumentError: the labels are not known yet.
        """
        way = self._known_way()
        prompt = template_of(self._whole_prompt, way.answer)
        reported = self.reported
        apart = ("model", "logprobs", "top_logprobs")
        return AskedChat(
            answer=way.answer,
            prompt=prompt,
            prompt_sha256=None if prompt is None else template_sha256(prompt),
            model=way.fields.get("model"),
            reported=max(reported, key=reported.__getitem__, default=""),
            top_logprobs=way.fields.get("top_logprobs"),
            scale=way.scale,
            fields={name: value for name, value in way.fields.items() if name not in apart},
        )

    def infer(self, inputs: Batch, deadline: Deadline) -> Scores:
        """Return probabilities [n, classes] of inputs [n, ...]; for `text`, labels with confidences.

        Raises:
            TimeoutError: the deadline passed.
            RemoteUnreachable: no connection could be made.
            RemoteError: an input cannot be sent, or a reply is not an answer; the first such error of all inputs.
            ArgumentError: the labels are not known yet.
        """
        with hiding_secrets(self._secrets, self._path.partition("?")[2]):
            return self._scores(inputs, deadline)

    def expect(self, labels: Sequence[str]) -> None:
        """Take these labels if there are none yet; otherwise check that a cascade of them can use the answers.

        Raises:
            ArgumentError: they are others, or no answer can be read in them.
        """
        if not self.class_names:
            self._begin(labels)
            return
        try:
            columns_for(tuple(labels), self.class_names, None)
        except InvalidReply as error:
            raise ArgumentError(f"labels: {str(error).removeprefix('remote: ')}") from error
        if len(labels) != len(self.class_names):
            raise ArgumentError(f"labels: expected {len(labels)}, one per class, got {len(self.class_names)}")

    def expect_asked(self, asked: AskedChat) -> None:
        """Ask from now on as in calibration.

        Raises:
            ArgumentError: something else was given, or another file says otherwise.
        """
        if self._answer not in (None, asked.answer):
            raise ArgumentError(f"answer: expected {asked.answer!r}, as in calibration, got {self._answer!r}")
        if self._scale is not None and self._scale != asked.scale:
            raise ArgumentError(f"scale: expected {asked.scale}, as in calibration, got {self._scale}")
        self._check_prompt(asked)
        if self._calibrated not in (None, asked):
            raise ArgumentError("remote: expected a remote of its own, got one whose cascade asks it otherwise")
        self._calibrated = asked
        if self.class_names:
            self._begin(self.class_names)

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

    @property
    def _whole_prompt(self) -> Prompt | None:
        """The prompt that was given, or else that of the file; None for the default one."""
        return self._calibrated.prompt if self._prompt is None and self._calibrated else self._prompt

    def _check_prompt(self, asked: AskedChat) -> None:
        """Check that the prompt is that of calibration, as far as this is known."""
        expected = asked.prompt_sha256
        if self._prompt is None and (asked.prompt is None or expected is None):
            wrote = "the function that wrote the prompts" if expected is None else "the template"
            raise ArgumentError(f"prompt: expected {wrote} in calibration, which the file does not hold, got none")
        if self._prompt is None or (expected is None and callable(self._prompt)):
            return
        template = template_of(self._prompt, asked.answer)
        got = "a function" if template is None else f"one with {template_sha256(template)[:12]}..."
        if template is None or template_sha256(template) != expected:
            whose = "a function" if expected is None else f"the template with SHA-256 {expected[:12]}..."
            raise ArgumentError(f"prompt: expected {whose}, as in calibration, got {got}")

    def _begin(self, labels: Sequence[str]) -> None:
        """Fix the labels, and how to ask for them."""
        calibrated = self._calibrated
        answer: AnswerForm = self._answer or (calibrated.answer if calibrated else _DEFAULT)
        matcher, messages = LabelMatcher(labels), messages_for(self._whole_prompt, answer, labels)
        if answer == "letter":
            matcher = LabelMatcher(letters(labels))
        scale = self._scale if calibrated is None else calibrated.scale
        scored = scale is None or scale[0] != 0
        lists = scored and answer != "text"
        listed = calibrated.top_logprobs if calibrated else _LISTED
        fields = {
            "model": self._model or (calibrated.model if calibrated else None),
            **(calibrated.fields if calibrated else {"temperature": 0, "max_tokens": _MAX_TOKENS[answer]}),
            **({"logprobs": True} if scored else {}),
            **({"top_logprobs": listed} if lists else {}),
            **self._fields,
        }
        idle = {"logprobs": not scored, "top_logprobs": not lists}  # what this form does not need, a server may refuse
        sent = {name: value for name, value in fields.items() if value is not None and not idle.get(name)}
        self._way = _Way(answer, matcher, messages, sent, scale, scored)
        self.class_names = tuple(labels)

    def _known_way(self) -> _Way:
        if self._way is None:
            raise ArgumentError("labels: expected the names of the classes, which a cascade gives, got none yet")
        return self._way

    def _scores(self, inputs: Batch, deadline: Deadline) -> Scores:
        way = self._known_way()
        replies = self._ask([way.messages(rows(inputs, at)) for at in range(size(inputs))], deadline)
        if way.answer == "text":
            chosen = np.array([way.labels.named(reply) for reply in replies], np.int64)
            sure = np.array([text_confidence(reply.mean_logprob, way.scale) for reply in replies], np.float64)
            return RemoteLabels(chosen, sure)
        tables = [label_probabilities(reply, way.labels, coverage=self._coverage) for reply in replies]
        return np.array(tables, np.float64).reshape(len(replies), len(way.labels.plain))

    def _ask(self, questions: Sequence[list[dict[str, Any]]], deadline: Deadline) -> list[Reply]:
        way = self._known_way()
        requests = [way.request(messages) for messages in questions]  # all, before one is sent
        try:
            asked = [
                self._pool.submit(self._exchange, way, messages, request, deadline)
                for messages, request in zip(questions, requests, strict=True)
            ]
        except RuntimeError as error:  # closed, or no thread can be started
            raise RemoteError(f"remote: cannot ask: {error}") from error
        done, unfinished = wait(asked, deadline.remaining(), FIRST_EXCEPTION)
        for one in unfinished:
            one.cancel()
        replies = [one.result() for one in asked if one in done]  # raises the first error
        if unfinished:
            raise TimeoutError("the deadline has passed")
        return replies

    def _exchange(self, way: _Way, messages: list[dict[str, Any]], request: bytes, deadline: Deadline) -> Reply:
        response = self._client.request(
            "POST", self._path, request, self._headers, deadline, largest=_WIDTH * way.values
        )
        try:
            reply = read_reply(response.json(values=way.values, deadline=deadline), scored=way.scored)
        except RemoteRefusal as error:
            fewer = self._listing_fewer(way, error)
            if fewer is not None:
                return self._exchange(fewer, messages, fewer.request(messages), deadline)
            advice = next((advice for words, advice in _ADVICE if words in str(error)), "")
            if not advice or error.status not in _REFUSALS:
                raise
            raise RemoteRefusal(f"{error}; {advice}", status=error.status) from error
        self._count(reply.model)
        return reply

    def _listing_fewer(self, way: _Way, error: RemoteRefusal) -> _Way | None:
        """Return how to ask for fewer likely tokens, after the server has refused so many; None if that is no remedy.

        The number is the largest smaller one that the server names, or 5.
        """
        listed = way.fields.get("top_logprobs")
        fixed = self._calibrated is not None or "top_logprobs" in self._fields
        if fixed or listed is None or not lacks_logprobs(error):
            return None
        named = [number for number in map(int, _NUMBER.findall(str(error))) if 0 < number < listed]
        fewer = max(named, default=_FEWER)
        if fewer >= listed:
            return None
        self._way = way._replace(fields={**way.fields, "top_logprobs": fewer})  # the next requests begin with it
        return self._way

    def _count(self, model: str) -> None:
        """Count the reply of a model, and warn once of one that is not the calibrated one."""
        expected = "" if self._calibrated is None else self._calibrated.reported
        with self._lock:
            if model in self._reported or len(self._reported) < _NAMES:
                self._reported[model] += 1
            other = bool(expected) and model != expected
            self._other_model += other
            first = other and self._other_model == 1
        if first:
            _log.warning("replies of the remote name another model than in calibration; recalibrate for that one")


def lacks_logprobs(error: BaseException) -> bool:
    """Return whether an error of a chat server is about the log-probabilities that were asked for."""
    refused = isinstance(error, RemoteRefusal) and error.status in _REFUSALS and "logprobs" in str(error)
    return refused or isinstance(error, UnscoredReply)


def chat_client(url: str, context: ssl.SSLContext | None = None, proxy: str | None = None) -> tuple[HttpClient, str]:
    """Return a client of the server of a chat endpoint, and the path of its chat completions.

    Args:
        url: `http[s]://host[:port]/v1`, or the same with `/chat/completions` and a query.
        context: TLS settings for https; by default the system's certificates.
        proxy: as in `HttpClient`.

    Raises:
        ArgumentError: the address has another form.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    path = parts.path.rstrip("/") if host else ""
    plain = url.isascii() and not re.search(r"\s", url)
    if not host or parts.scheme not in ("http", "https") or port == 0 or not is_chat_path(path) or not plain:
        raise ArgumentError(f"url: expected http[s]://host[:port]/v1, got {shown(url)!r}")
    refuse_user(url)
    secure = parts.scheme == "https"
    context = (context or ssl.create_default_context()) if secure else None
    client = HttpClient(host, port or (443 if secure else 80), context, proxy=proxy)
    path = path if path.endswith(CHAT_ENDPOINT) else path + CHAT_ENDPOINT
    return client, f"{path}?{parts.query}" if parts.query else path


def check_fields(fields: Mapping[str, Any]) -> None:
    """Check that fields can be added to every request.

    Raises:
        ArgumentError: one is set elsewhere, asks for several replies or no tokens, or is nothing that JSON can hold.
    """
    if taken := [name for name in _SET if name in fields]:
        raise ArgumentError(f"fields: expected others than {', '.join(_SET)}, which are set elsewhere, got {taken[0]}")
    try:
        json.dumps(fields, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(f"fields: expected values that JSON can hold, got others: {error}") from error
    if fields.get("n") not in (1, None):
        raise ArgumentError(f"fields: expected one reply to a request, got n: {fields['n']!r}")
    for name in LIMITS:
        limit = fields.get(name)
        if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
            raise ArgumentError(f"fields: expected {name} of 1 or more, got {limit!r}")


def _check(
    answer: str | None, scale: tuple[float, float] | None, coverage: float, max_tokens: int | None, concurrency: int
) -> None:
    if answer not in (None, *ANSWER_FORMS):
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
