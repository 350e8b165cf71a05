"""With an outbox, no input is lost that the remote did not answer, whatever it said instead."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecascade.runtime import (
    Budget,
    Cascade,
    CircuitBreaker,
    Deadline,
    InvalidReply,
    Outbox,
    Rate,
    Reason,
    RemoteError,
    RemoteRefusal,
    Source,
)
from edgecascade.runtime.remotes.remote import InProcess

UNSURE = np.array([0, 0.5, 0], np.float32)
PORTAL = b"<!DOCTYPE html><html><body>Welcome. Accept the terms to go online.</body></html>"
INSTEAD: dict[str, tuple[Any, ...]] = {
    "an expired token": ({"error": "token expired"}, "401 Unauthorized"),
    "no permission": ({"error": "no"}, "403 Forbidden"),
    "a model that is loading": ({"error": "model m is not found"}, "404 Not Found"),
    "the same with another status": ({"error": "Request for unknown model: 'm' is not found"}, "400 Bad Request"),
    "a proxy that wants a password": (b"", "407 Proxy Authentication Required"),
    "a slow upload": (b"", "408 Request Timeout"),
    "a request that is too large": (b"", "413 Content Too Large"),
    "an input that is refused": ({"error": "unexpected shape"}, "422 Unprocessable Content"),
    "too many requests": (b"", "429 Too Many Requests"),
    "an overload": (b"", "503 Service Unavailable"),
    "a redirect": (b"", "302 Found"),
    "a portal": (PORTAL, "511 Network Authentication Required"),
    "a portal that says OK": (PORTAL, "200 OK"),
    "a portal that redirects": (PORTAL, "307 Temporary Redirect"),
    "JSON of something else": ({"ok": True}, "200 OK"),
    "half of a JSON": (b'{"outputs": [', "200 OK"),
    "other classes": (np.zeros((1, 5)),),
    "no numbers": (np.full((1, 3), np.nan),),
}


def test_whatever_a_remote_replies_instead_of_an_answer_the_input_is_answered_later(
    file: Path, tmp_path: Path, serve: Any, always: Any, answering: Any, respond: Any
) -> None:
    """The call returns the local answer, and the late one comes once the remote works."""
    with ExitStack() as opened:
        made = {}
        for name, reply in INSTEAD.items():
            server, outbox = serve(always(respond(*reply))), Outbox(tmp_path / f"{name}.db")
            cascade = opened.enter_context(Cascade.load(file, remote=server.address, outbox=outbox, deadline=5.0))
            made[name] = cascade, server
            answer = cascade.predict(UNSURE, key=name)
            assert (answer.source, answer.reason, answer.queued) == (Source.LOCAL, Reason.REMOTE_ERROR, name)
        for _, server in made.values():
            server.behaviour = answering(respond(np.array([[0, 0, 4]])))
        for name, (cascade, _) in made.items():
            late = next(iter(cascade.late(timeout=60)))
            assert (late.key, late.answer.source, late.answer.label) == (name, Source.REMOTE, 2)


def test_what_the_application_or_its_budget_holds_back_is_not_stored(file: Path, tmp_path: Path) -> None:
    """Such an input must not leave the device later, either."""
    budget = Budget(forwards=Rate(1, 1e9))
    remote = lambda x: np.zeros((len(x), 3))  # noqa: E731
    with Cascade.load(file, remote=remote, outbox=Outbox(tmp_path / "a"), budget=budget) as cascade:
        reasons = [cascade.predict(UNSURE).reason for _ in range(3)]
        assert reasons == [Reason.OFFLOADED, Reason.BUDGET, Reason.BUDGET]
        assert cascade.metrics()["outbox"]["waiting"] == 0
    with Cascade.load(file, remote=remote, outbox=Outbox(tmp_path / "b"), egress=lambda _: False) as cascade:
        assert cascade.predict(UNSURE).reason is Reason.EGRESS
        assert cascade.metrics()["outbox"]["waiting"] == 0


@pytest.mark.parametrize(
    ("status", "message", "about"),
    [
        *((status, "said", True) for status in ("400", "413", "415", "422", "500", "INVALID_ARGUMENT")),
        *((status, "said", False) for status in ("301", "302", "401", "403", "404", "407", "408", "409", "429", "511")),
        *(
            (status, "said", False)
            for status in ("502", "503", "504", "NOT_FOUND", "UNAUTHENTICATED", "INTERNAL", "UNKNOWN")
        ),
        ("400", "remote: HTTP 400: Request for unknown model: 'm' is not found", False),
        ("400", "remote: HTTP 400: Model m is not ready", False),
        ("500", "remote: HTTP 500: the model is still loading", False),
        ("INVALID_ARGUMENT", "remote: Request for unknown model: 'm' has no available versions", False),
        ("400", "remote: HTTP 400: unexpected shape for input 'x' for model 'm'", True),
    ],
)
def test_a_refusal_is_about_the_input_or_about_all(status: str, message: str, about: bool) -> None:
    """Only one that is about the input counts as an answer of the remote."""

    def refuses(_: Any) -> Any:
        raise RemoteRefusal(message, status=status)

    assert RemoteRefusal(message, status=status).about_input is about
    breaker = CircuitBreaker(InProcess(refuses), failures=3)
    for _ in range(3):
        with pytest.raises(RemoteError):
            breaker.infer(np.zeros((1, 3)), Deadline.after(1))
    assert breaker.state == ("closed" if about else "open")


def test_a_reply_that_is_no_answer_opens_the_circuit() -> None:
    """It may come from a captive portal, which answers no input."""

    def replies(_: Any) -> Any:
        raise InvalidReply("remote: the response is not valid JSON")

    breaker = CircuitBreaker(InProcess(replies), failures=3)
    for _ in range(3):
        with pytest.raises(RemoteError):
            breaker.infer(np.zeros((1, 3)), Deadline.after(1))
    assert breaker.state == "open"
