"""Serve a chat cascade as an OpenAI-compatible endpoint: chat completions, models, health and metrics."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any

from aiohttp import web

from edgecascade.chat.cascade import ChatCascade
from edgecascade.chat.open_reply import OpenReply
from edgecascade.runtime.metrics.prometheus import CONTENT_TYPE
from edgecascade.types.errors import ArgumentError, NoReply

__all__ = ["application", "serve"]

_LOG = logging.getLogger("edgecascade")
_LARGEST_BODY = 32 << 20  # bytes of a request, which may hold images
_MOST_REQUESTS = 256  # at a time
_GRACE = 30.0  # seconds for requests under way after a signal
_PATIENCE = 60.0  # seconds for a client to send its request

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(cascade: ChatCascade, name: str, *, token: str | None = None, plain: bool = False) -> web.Application:
    """Return the application.

    Args:
        cascade: gives the replies.
        name: the model's name in `/v1/models`; requests may name any model.
        token: what clients must send as `Authorization: Bearer TOKEN`, except to ask for the health; None serves
            everyone but pages in browsers. Whatever a client sends there goes no further.
        plain: whether bodies leave the verdict out; headers always have it.
    """
    handlers = _Handlers(cascade, name, plain)
    served = web.Application(client_max_size=_LARGEST_BODY, middlewares=[_in_openais_form, _guard(token)])
    served.add_routes(
        [
            web.post("/v1/chat/completions", handlers.complete),
            web.get("/v1/models", handlers.models),
            web.get("/v1/models/{name}", handlers.model),
            web.get("/metrics", handlers.metrics),
            web.get("/health", handlers.health),
        ]
    )
    return served


async def serve(
    cascade: ChatCascade,
    listener: socket.socket,
    name: str,
    *,
    token: str | None = None,
    plain: bool = False,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGINT or SIGTERM; requests that are under way then have 30 seconds.

    Args:
        cascade: gives the replies.
        listener: a socket that listens.
        name: the model's name.
        token: what clients must send, or None.
        plain: whether bodies leave the verdict out.
        ready: called once clients can connect.
    """
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    for one in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(one, ended.set)
    served = application(cascade, name, token=token, plain=plain)
    runner = web.AppRunner(served, handler_cancellation=True, access_log=None, shutdown_timeout=_GRACE)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        ready()
        await ended.wait()
    finally:
        await runner.cleanup()
        await cascade.close_async()


class _Handlers:
    def __init__(self, cascade: ChatCascade, name: str, plain: bool) -> None:
        self._cascade, self._name, self._plain = cascade, name, plain
        self._requests, self._since = 0, int(time.time())

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Answer a chat completion request; a client that disconnects cancels it."""
        asked = await _asked(request)
        if self._requests >= _MOST_REQUESTS:
            sentence = f"the gateway takes at most {_MOST_REQUESTS} requests at a time"
            return _error(503, sentence, "overloaded", {"Retry-After": "1"})
        self._requests += 1
        try:
            reply = await self._cascade.open(asked, annotate=not self._plain)
            try:
                return await self._sent(request, reply, bool(asked.get("stream")))
            finally:
                reply.close()
        except asyncio.CancelledError:
            self._cascade.cancelled()
            raise
        except ArgumentError as error:
            return _error(400, str(error), "invalid_request")
        except NoReply as error:
            wait = {} if error.retry_after is None else {"Retry-After": f"{error.retry_after:.0f}"}
            return _error(error.status, str(error), "no_endpoint_replied", wait)
        finally:
            self._requests -= 1

    async def _sent(self, request: web.Request, reply: OpenReply, stream: bool) -> web.StreamResponse:
        headers = {**reply.verdict.headers(), "Content-Type": reply.content_type}
        async with aclosing(reply.pieces()) as pieces:
            if not stream:
                body = b"".join([piece async for piece in pieces])
                return web.Response(body=body, headers=headers)
            response = web.StreamResponse(headers={**headers, "Cache-Control": "no-cache"})
            try:
                await response.prepare(request)
                async for piece in pieces:
                    await response.write(piece)
            except ConnectionError:  # the client has gone; a failure of an endpoint is a RemoteError or an event
                self._cascade.cancelled()
            return response  # aiohttp ends it; a client may close at the last event, which is not the last byte

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [self._model()]})

    async def model(self, request: web.Request) -> web.Response:
        if request.match_info["name"] != self._name:
            return _error(404, f"expected the model {self._name!r}", "model_not_found")
        return web.json_response(self._model())

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(text=self._cascade.metrics_text(), headers={"Content-Type": CONTENT_TYPE})

    async def health(self, _: web.Request) -> web.Response:
        circuits = {side.value: state for side, state in self._cascade.circuits.items()}
        up = any(state != "open" for state in circuits.values())
        refused = {side.value: int(status) for side, status in self._cascade.shut_out.items()}
        return web.json_response(
            {"status": "ok" if up else "unavailable", "circuits": circuits, "refused": refused},
            status=200 if up else 503,
        )

    def _model(self) -> dict[str, Any]:
        return {"id": self._name, "object": "model", "created": self._since, "owned_by": "edgecascade"}


async def _asked(request: web.Request) -> dict[str, Any]:
    """Return the fields of a request.

    Raises:
        web.HTTPException: the body is too large, came too slowly, or is no object.
    """
    try:
        body = await asyncio.wait_for(request.read(), _PATIENCE)
    except (asyncio.TimeoutError, TimeoutError) as error:
        raise web.HTTPRequestTimeout(text=f"the request did not come within {_PATIENCE:.0f} s") from error
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise web.HTTPBadRequest(text="the body: expected JSON, got something else") from error
    if not isinstance(found, dict):
        raise web.HTTPBadRequest(text="the body: expected a JSON object, got another value")
    if not isinstance(found.get("stream"), bool | None):
        raise web.HTTPBadRequest(text="stream: expected true or false")
    return found


def _guard(token: str | None) -> Any:
    expected = None if token is None else token.encode()

    @web.middleware
    async def guarded(request: web.Request, handler: _Handler) -> web.StreamResponse:
        if expected is None and "Origin" in request.headers:  # any page in a browser of this machine could spend money
            raise web.HTTPForbidden(text="the gateway: expected no page of a browser, or a token of the gateway")
        if expected is not None and request.path != "/health":
            scheme, _, given = request.headers.get("Authorization", "").partition(" ")
            if not hmac.compare_digest(given.strip().encode(), expected) or scheme.lower() != "bearer":
                raise web.HTTPUnauthorized(
                    text="authorization: expected `Bearer` and the token", headers={"WWW-Authenticate": "Bearer"}
                )
        return await handler(request)

    return guarded


@web.middleware
async def _in_openais_form(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Give every error the form of OpenAI's."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        kept = {name: value for name, value in error.headers.items() if name in ("WWW-Authenticate", "Allow")}
        sentence = error.text if isinstance(error.text, str) else error.reason
        return _error(
            error.status,
            sentence.partition(": ")[2] if sentence.startswith(f"{error.status}") else sentence,
            "invalid_request",
            kept,
        )
    except Exception:
        _LOG.exception("a request failed")
        return _error(500, "the gateway failed; its log says how", "internal_error")


def _error(status: int, sentence: str, code: str, headers: Mapping[str, str] | None = None) -> web.Response:
    kind = "invalid_request_error" if 400 <= status < 500 else "server_error"
    said = {"message": sentence, "type": kind, "param": None, "code": code}
    return web.json_response({"error": said}, status=status, headers=headers)
