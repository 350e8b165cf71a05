"""The addresses of served models: health, metadata, inference and metrics, as an ASGI application.

Models cannot be loaded or unloaded over the network. Bodies are bounded, and large ones are decoded in a thread.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from edgecascade.runtime.metrics.prometheus import CONTENT_TYPE
from edgecascade.runtime.serving.messages import HEADER_LENGTH, read_request, write_reply
from edgecascade.runtime.serving.served import ServedModel
from edgecascade.types.errors import InputError

__all__ = ["LARGEST_BODY", "LARGEST_JSON", "application"]

LARGEST_BODY = 64 << 20  # bytes
LARGEST_JSON = 8 << 20  # bytes of it in JSON, which takes a multiple of its size in memory
_MOST_HELD = 256 << 20  # bytes of all bodies at a time
_MOST_REQUESTS = 128  # at a time
_AT_ONCE = 64 << 10  # bytes of a body or a reply that the event loop itself decodes or writes
_DIGITS = re.compile("[0-9]{1,12}")

_Endpoint = Callable[[Request], Awaitable[Response]]


def application(models: Mapping[str, ServedModel], *, token: str | None = None, origins: Sequence[str] = ()) -> ASGIApp:
    """Return the application that serves models at `/v2/models/NAME`.

    Args:
        models: what to serve, by name.
        token: what clients must send as `Authorization: Bearer TOKEN`, except to ask for the server's health; None
            serves everyone.
        origins: those of web pages whose scripts may read replies, such as `https://example.org`; `*` for all.
    """
    endpoints = _Endpoints(models)
    guarded = {
        "/v2/models/{name}/infer": (endpoints.infer, "POST"),  # the most frequent is looked up first
        "/v2": (endpoints.server, "GET"),
        "/v2/models": (endpoints.models, "GET"),
        "/v2/models/{name}": (endpoints.metadata, "GET"),
        "/v2/models/{name}/ready": (endpoints.model_ready, "GET"),
        "/metrics": (endpoints.metrics, "GET"),
    }
    routes = [Route(path, _guarded(endpoint, token), methods=[method]) for path, (endpoint, method) in guarded.items()]
    routes += [Route(f"/v2/health/{what}", _health(what), methods=["GET"]) for what in ("live", "ready")]
    cors = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", HEADER_LENGTH],
        expose_headers=[HEADER_LENGTH],
    )
    served = Starlette(
        routes=routes,
        middleware=[cors] if origins else [],
        exception_handlers={HTTPException: _refused, Exception: _failed},
    )
    return _unambiguous(served)


def _unambiguous(served: ASGIApp) -> ASGIApp:
    """Refuse requests whose end a proxy in front may see elsewhere: behind it hides what passes as another request."""

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        given = {name for name, _ in scope["headers"]}
        if b"transfer-encoding" in given and (b"content-length" in given or scope["http_version"] == "1.0"):
            sentence = "the head: expected Content-Length or, in HTTP/1.1, Transfer-Encoding, got both or HTTP/1.0"
            await _error(400, sentence, {"Connection": "close"})(scope, receive, send)
            return
        try:
            await served(scope, receive, send)
        except asyncio.CancelledError:  # the server ends
            with suppress(RuntimeError):  # a reply has begun
                await _error(503, "the server: it ends before the request is answered")(scope, receive, send)

    return checked


def _health(what: str) -> _Endpoint:
    async def health(_: Request) -> Response:
        return JSONResponse({what: True})

    return health


def _guarded(endpoint: _Endpoint, token: str | None) -> _Endpoint:
    if token is None:
        return endpoint
    expected = token.encode()

    async def guarded(request: Request) -> Response:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if not hmac.compare_digest(given.strip().encode(), expected) or scheme.lower() != "bearer":
            sentence = "authorization: expected `Bearer` and the token"
            raise HTTPException(401, sentence, {"WWW-Authenticate": "Bearer"})
        return await endpoint(request)

    return guarded


class _Endpoints:
    def __init__(self, models: Mapping[str, ServedModel]) -> None:
        self._models = models
        self._decoding = asyncio.Lock()  # one large text of JSON at a time
        self._held = self._requests = 0
        self._statuses: Counter[int] = Counter()
        self._seconds = 0.0

    async def server(self, _: Request) -> Response:
        return JSONResponse(
            {"name": "edgecascade", "version": version("edgecascade"), "extensions": ["binary_tensor_data"]}
        )

    async def models(self, _: Request) -> Response:
        return JSONResponse({"models": [*self._models]})

    async def metadata(self, request: Request) -> Response:
        name, model = self._asked(request)
        described: dict[str, Any] = {"inputs": model.inputs, "outputs": model.outputs}
        if model.labels:  # properties are text in the protocol
            described["properties"] = {"labels": json.dumps(model.labels)}
        return JSONResponse({"name": name, "versions": [], "platform": "edgecascade", **described})

    async def model_ready(self, request: Request) -> Response:
        name, _ = self._asked(request)
        return JSONResponse({"name": name, "ready": True})

    async def metrics(self, _: Request) -> Response:
        text = "".join(model.metrics() for model in self._models.values() if model.metrics)
        lines = [
            "# HELP edgecascade_requests_total Inference requests by status.",
            "# TYPE edgecascade_requests_total counter",
        ]
        lines += [f'edgecascade_requests_total{{status="{one}"}} {n}' for one, n in sorted(self._statuses.items())]
        lines += ["# HELP edgecascade_request_seconds_total Seconds from head to reply of these requests."]
        lines += ["# TYPE edgecascade_request_seconds_total counter"]
        lines += [f"edgecascade_request_seconds_total {self._seconds:.6f}"]
        batchers = {json.dumps(name, ensure_ascii=False): model.batcher for name, model in self._models.items()}
        lines += ["# HELP edgecascade_batches_total Runs of each model.", "# TYPE edgecascade_batches_total counter"]
        lines += [f"edgecascade_batches_total{{model={name}}} {one.batches}" for name, one in batchers.items()]
        lines += ["# HELP edgecascade_batched_inputs_total Inputs of these runs."]
        lines += ["# TYPE edgecascade_batched_inputs_total counter"]
        lines += [f"edgecascade_batched_inputs_total{{model={name}}} {one.rows}" for name, one in batchers.items()]
        return Response(text + "\n".join(lines) + "\n", media_type=CONTENT_TYPE)

    async def infer(self, request: Request) -> Response:
        started, status = time.monotonic(), 500
        self._requests += 1
        try:
            response = await self._infer(request)
            status = response.status_code
            return response
        except HTTPException as error:
            status = error.status_code
            raise
        finally:
            self._requests -= 1
            self._statuses[status] += 1
            self._seconds += time.monotonic() - started

    async def _infer(self, request: Request) -> Response:
        name, model = self._asked(request)
        if self._requests > _MOST_REQUESTS:
            sentence = f"the server: expected at most {_MOST_REQUESTS} requests at a time"
            raise HTTPException(503, sentence, {"Retry-After": "1"})
        if request.headers.get("content-encoding", "identity") != "identity":
            raise HTTPException(415, "the body: expected no content encoding, got one")
        given = request.headers.get(HEADER_LENGTH)
        if given is not None and not _DIGITS.fullmatch(given):
            raise HTTPException(400, f"{HEADER_LENGTH}: expected a number of bytes")
        head = None if given is None else int(given)
        if head is not None and head > LARGEST_JSON:
            raise HTTPException(413, f"{HEADER_LENGTH}: expected at most {LARGEST_JSON >> 20} MiB of JSON")
        body = await self._body(request, LARGEST_JSON if head is None else LARGEST_BODY)
        try:
            return await self._reply(name, model, body, head)
        except InputError as error:
            return _error(400, str(error))
        except TimeoutError:
            return _error(400, "outputs: expected few enough numbers for JSON; ask for binary tensors")
        finally:
            self._held -= len(body)

    async def _reply(self, name: str, model: ServedModel, body: bytearray, head: int | None) -> Response:
        if len(body) <= _AT_ONCE:
            asked = read_request(body, head)
        elif head is not None and head <= _AT_ONCE:
            asked = await asyncio.to_thread(read_request, body, head)
        else:
            async with self._decoding:
                asked = await asyncio.to_thread(read_request, body, head)
        names = list(asked.outputs) or [one["name"] for one in model.outputs]
        arrays = await model.infer(asked.feeds, names)
        if sum(array.nbytes for array in arrays.values()) <= _AT_ONCE:
            content, headers = write_reply(name, asked, arrays)
        else:
            content, headers = await asyncio.to_thread(write_reply, name, asked, arrays)
        return Response(content, headers=headers)

    async def _body(self, request: Request, largest: int) -> bytearray:
        """Return the body, whose bytes count as held until the caller subtracts them.

        Raises:
            HTTPException: it is too large, or the server holds too much already.
        """
        too_large = HTTPException(
            413,
            f"the body: expected at most {largest >> 20} MiB, or {LARGEST_BODY >> 20} MiB with binary tensors; send "
            "fewer inputs at a time",
        )
        if int(request.headers.get("content-length", "0")) > largest:  # at most 20 digits, as h11 has checked
            raise too_large
        body = bytearray()
        try:
            async for piece in request.stream():
                if len(body) + len(piece) > largest:
                    raise too_large
                if self._held + len(piece) > _MOST_HELD:
                    raise HTTPException(503, "the server: it holds as many bytes as it may", {"Retry-After": "1"})
                body += piece
                self._held += len(piece)
        except BaseException as error:
            self._held -= len(body)
            if isinstance(error, ClientDisconnect):
                raise HTTPException(400, "the body: the client went away") from error
            raise
        return body

    def _asked(self, request: Request) -> tuple[str, ServedModel]:
        """Return name and model of an address."""
        name = request.path_params["name"]
        if name not in self._models:
            raise HTTPException(404, f"/v2/models/NAME: expected {', '.join(self._models)} as NAME, got another")
        return name, self._models[name]


def _error(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": sentence}, status, headers)


class _Refusal(JSONResponse):
    """A reply that is sent at once. The body that the client still sends is dropped, for many read no reply before."""

    def __init__(self, request: Request, error: HTTPException) -> None:
        closing = {"Connection": "close"} if "expect" in request.headers else {}  # such a client sends no body now
        super().__init__({"error": error.detail}, error.status_code, {**(error.headers or {}), **closing})
        self._request, self._unread = request, not closing

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        if self._unread:
            with suppress(ClientDisconnect):
                async for _ in self._request.stream():
                    pass
        await send({"type": "http.response.body", "body": b""})


async def _refused(request: Request, error: Any) -> Response:
    return _Refusal(request, error)


async def _failed(_: Request, __: Exception) -> Response:
    return _error(500, "the server failed; its log says why")
