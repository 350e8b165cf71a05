"""A chat endpoint that is asked while calibrating: what it is asked, what its reply says, and what that costs.

The local endpoint is asked for a stream, because the gateway asks it for one: scores are about the tokens that it sees.
"""

from __future__ import annotations

import hashlib
import json
import math
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from edgecascade.chat.events import END, EventReader, assembled, chunk_in
from edgecascade.chat.reply import Usage
from edgecascade.export.chat.replies import SIDES, ChatReply
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.remotes.chat import LIMITS, chat_client, check_fields
from edgecascade.runtime.remotes.chat_reply import token_logprobs
from edgecascade.runtime.remotes.http import HttpClient
from edgecascade.runtime.remotes.http_response import message_in
from edgecascade.runtime.remotes.remote import hiding_secrets, shown
from edgecascade.types.document import TokenPrice
from edgecascade.types.errors import (
    ArgumentError,
    InvalidReply,
    RemoteError,
    RemoteRefusal,
    RemoteUnreachable,
    UnsendableInput,
    no_file,
)

if TYPE_CHECKING:
    from edgecascade.chat.llama import LlamaServer

__all__ = ["AskedEndpoint"]

_MANY = 4096  # tokens of a reply without bound
_MARGIN, _PER_TOKEN, _WIDTH = 16384, 2048, 16  # values of a reply, those for each of its tokens, and bytes of a value
_ENDPOINT = "/chat/completions"
_FRAME = 64  # tokens that a chat template may put around a message
_UNKNOWN_FIELD = ("400", "422", "501")  # statuses for a field that a server does not take
_NO_MODEL = ("400", "404", "422")  # statuses of servers that want a model's name
_TO_LIST, _LISTED = 5.0, 6  # seconds for a server to list its models, and how many of them are told
_MILLION = 1_000_000
_LONGEST = 200  # characters of a model's name
_GIVING = "a local endpoint must give log-probabilities, as llama.cpp, vLLM and Ollama (0.12.11 or newer) do"


class AskedEndpoint:
    """An OpenAI-compatible chat endpoint and how it is asked. Thread-safe. It connects when first asked.

    Args:
        side: `local`, whose replies are scored, or `remote`.
        url: `http[s]://host[:port]/v1`, or the same with `/chat/completions` and a query; or, as `local`, a GGUF file,
            which llama.cpp serves in this process (package xllamacpp).
        model: one of the server's models; None leaves the choice to the server.
        fields: of every request, but for those of the arguments, of the stream and of log-probabilities; those that
            are None are left out. By default `temperature` 0 and `max_tokens` 256.
        headers: sent with every request, such as `Authorization`, but not to llama.cpp in this process.
        price: of a million tokens; None if they cost nothing.
        timeout: seconds after which a request is given up.
        context: TLS settings for https; by default the system's certificates.
        proxy: `http://[user:password@]host[:port]`, an HTTP proxy to connect through.

    Attributes:
        side: as given.
        url: the address up to `/v1`, without a query, which may be secret; or the GGUF file.
        model: as given.
        fields: of every request.
        price: as given.
        request: identifies address or file, model and fields.

    Raises:
        ArgumentError: an argument is out of range, or there is no such file.
    """

    def __init__(
        self,
        side: str,
        url: str,
        *,
        model: str | None = None,
        fields: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        price: TokenPrice | None = None,
        timeout: float = 300.0,
        context: ssl.SSLContext | None = None,
        proxy: str | None = None,
    ) -> None:
        if side not in SIDES:
            raise ArgumentError(f"side: expected local or remote, got {side!r}")
        if not 0 < timeout < math.inf:
            raise ArgumentError(f"timeout: expected seconds above 0, got {timeout}")
        if price is not None and not all(0 <= one < math.inf for one in (price.prompt, price.completion)):
            raise ArgumentError(f"price: expected numbers of 0 or more, got {price.prompt} and {price.completion}")
        file = Path(url) if side == "local" and url.endswith(".gguf") and "://" not in url else None
        if file is not None and not file.is_file():
            raise ArgumentError(f"{side}: {no_file(file)}")
        self._context, self._proxy = context, proxy
        self._connected: tuple[HttpClient, str] | None = None if file else self._connect(side, url)
        self._lock = Lock()
        self._llama: LlamaServer | None = None
        self._headers = {**(headers or {}), "Content-Type": "application/json"}
        self._timeout = timeout
        self.side, self.model, self.price = side, model, price
        self.url = url if file else shown(url).rstrip("/").removesuffix(_ENDPOINT)
        given = {"temperature": 0, "max_tokens": 256, **(fields or {})}
        self.fields = {name: value for name, value in given.items() if value is not None}
        check_fields(self.fields)
        place = f"{file.name} {file.stat().st_size}" if file else self.url
        self.request = _identity(place, model, self.fields)

    def ask(self, messages: Sequence[Mapping[str, Any]]) -> ChatReply:
        """Return the reply to messages.

        Raises:
            RemoteError: there is none; the message names the side, and has no secrets.
            ModelFileError: llama.cpp cannot load the file.
            ArgumentError: there is a file, and xllamacpp is not installed.
        """
        client, path = self._server()
        with hiding_secrets([*self._headers.items(), *client.proxy_headers], path.partition("?")[2]):
            try:
                return self._reply(client, path, messages)
            except TimeoutError as error:
                raise RemoteUnreachable(f"{self.side}: no reply within {self._timeout:g} s", retry=False) from error
            except RemoteError as error:
                error.args = (f"{self._in_words(error)}{self._unnamed(client, path, error)}",)
                raise

    def cost(self, messages: Sequence[Mapping[str, Any]], reply: ChatReply) -> float:
        """Return what a reply costs; if the server counts no tokens, the most that it can cost."""
        if self.price is None:
            return 0.0
        return self.most(messages) if reply.usage is None else _cost(self.price, *reply.usage[:2])

    def most(self, messages: Sequence[Mapping[str, Any]]) -> float:
        """Return the most that a reply can cost: a token for each byte of the prompt, and all that it may generate.

        Raises:
            ArgumentError: nothing bounds the tokens of a reply.
        """
        if self.price is None:
            return 0.0
        limit = self._limit
        if limit is None:
            raise ArgumentError("fields: expected max_tokens or max_completion_tokens, which bound a cost, got neither")
        size = len(json.dumps(list(messages), ensure_ascii=False).encode("utf-8", "replace"))
        return _cost(self.price, size + _FRAME * len(messages), limit)

    def close(self) -> None:
        """Close all connections, which ends requests under way with an error, and end the server of a file."""
        with self._lock:
            if self._connected is not None:
                self._connected[0].abort()  # llama.cpp would wait for the clients of its requests when it is ended
            if self._llama is not None:
                self._connected = self._llama = None

    @property
    def _limit(self) -> int | None:
        return next((self.fields[name] for name in LIMITS if isinstance(self.fields.get(name), int)), None)

    def _server(self) -> tuple[HttpClient, str]:
        """Return the client of the server and the path of its chat completions; the server of a file is started."""
        with self._lock:
            if self._connected is None:
                from edgecascade.chat.llama import LlamaServer

                self._llama = LlamaServer(self.url)
                self._headers = {**self._llama.headers, "Content-Type": "application/json"}
                self._connected = self._connect(self.side, self._llama.url)
            return self._connected

    def _connect(self, side: str, url: str) -> tuple[HttpClient, str]:
        try:
            return chat_client(url, self._context, self._proxy)
        except ArgumentError as error:
            said = str(error)
            raise ArgumentError(f"{side}: {said.removeprefix('url: ').removeprefix('remote: ')}") from error

    def _reply(self, client: HttpClient, path: str, messages: Sequence[Mapping[str, Any]]) -> ChatReply:
        tools = self.fields.get("tools") or self.fields.get("functions")  # llama.cpp streams no log-probabilities then
        stream = self.side == "local" and not tools
        asked = {"messages": list(messages), **({} if self.model is None else {"model": self.model}), **self.fields}
        asked |= {"logprobs": True} if self.side == "local" else {}
        asked |= {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        try:
            body = json.dumps(asked, separators=(",", ":"), allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise UnsendableInput(f"the request cannot be written as JSON: {error}") from error
        values = _MARGIN + _PER_TOKEN * max(1, self._limit or _MANY)
        deadline = Deadline.after(self._timeout)
        response = client.request("POST", path, body, self._headers, deadline, largest=_WIDTH * values)
        kind = response.headers.get("content-type", "")
        if stream and kind.startswith("text/event-stream"):
            return self._read(_joined(response.content()))
        reply = self._read(response.json(values=values, deadline=deadline))
        if stream:
            raise InvalidReply(f"expected a stream of events, as the gateway asks for, got {kind[:40]!r}")
        return reply

    def _read(self, found: Any) -> ChatReply:
        if isinstance(found, dict) and found.get("error") and "choices" not in found:
            raise RemoteRefusal(f"the server says: {message_in(found) or 'no explanation'}", status="200")
        try:
            choice = found["choices"][0]
            content = choice["message"].get("content")
        except (TypeError, KeyError, IndexError, AttributeError) as error:
            raise InvalidReply("expected choices[0].message in the reply, got none") from error
        logprobs, unscored = None, ""
        if self.side == "local":
            listed = choice.get("logprobs")
            try:
                logprobs = token_logprobs(listed.get("content") if isinstance(listed, dict) else None) or None
                unscored = "" if logprobs else "the reply has no tokens but the end of the text"
            except InvalidReply as error:
                unscored = str(error).removeprefix("remote: ")
        return ChatReply(
            text=content if isinstance(content, str) else "",
            model=str(found.get("model") or self.model or "")[:_LONGEST],
            usage=_usage(found.get("usage")),
            logprobs=logprobs,
            unscored=unscored,
            cut_off=choice.get("finish_reason") == "length",
            request=self.request,
        )

    def _unnamed(self, client: HttpClient, path: str, error: RemoteError) -> str:
        """Return what to do about a refusal for want of a model's name, with the names that the server knows."""
        refused = isinstance(error, RemoteRefusal) and error.status in _NO_MODEL and "model" in str(error).lower()
        if self.model is not None or not refused:
            return ""
        names: list[str] = []
        with suppress(RemoteError, TimeoutError, TypeError, KeyError, AttributeError):
            where = path.replace(_ENDPOINT, "/models", 1)
            deadline = Deadline.after(_TO_LIST)
            found = client.request("GET", where, None, self._headers, deadline).json(values=_MARGIN, deadline=deadline)
            names = [str(one["id"])[:_LONGEST] for one in found["data"]]
        known = f"; it has {', '.join(names[:_LISTED])}{', ...' if len(names) > _LISTED else ''}" if names else ""
        return f"; no model was named, which --{self.side}-model does{known}"

    def _in_words(self, error: RemoteError) -> str:
        """Return an error with the name of the side, and with advice where the server refuses a field."""
        said = f"{self.side}: {str(error).removeprefix('remote: ')}"
        if not isinstance(error, RemoteRefusal) or error.status not in _UNKNOWN_FIELD:
            return said
        if "logprob" in said.lower():
            return f"{said}; {_GIVING}"
        if "max_completion_tokens" in said:
            return f'{said}; its fields must have {{"max_tokens": null, "max_completion_tokens": N}}'
        refused = next((name for name in self.fields if name in said), "")
        return f'{said}; the field null leaves it out: {{"{refused}": null}}' if refused else said


def _joined(stream: bytes) -> dict[str, Any]:
    """Return the completion that the events of a stream add up to.

    Raises:
        RemoteRefusal: an event is an error.
        InvalidReply: an event is not that of a chat completion, or the stream ends before the reply.
    """
    chunks = [chunk_in(one) for one in EventReader().feed(stream + b"\n\n") if one != END]
    try:
        found = assembled(chunks)
        finished = any(one["finish_reason"] for one in found["choices"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidReply("the events of the stream do not add up to a chat completion") from error
    if not finished:
        raise InvalidReply("the stream ended before the reply", retry=True)
    return found


def _identity(url: str, model: str | None, fields: Mapping[str, Any]) -> str:
    text = json.dumps([url, model, fields], sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def _usage(found: Any) -> Usage | None:
    counts = [found.get(name) for name in ("prompt_tokens", "completion_tokens")] if isinstance(found, dict) else [None]
    if not all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in counts):
        return None
    return Usage(*counts)


def _cost(price: TokenPrice, prompt_tokens: int, completion_tokens: int) -> float:
    return (price.prompt * prompt_tokens + price.completion * completion_tokens) / _MILLION
