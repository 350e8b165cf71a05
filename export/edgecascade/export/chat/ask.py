"""Ask two chat endpoints about every prompt: each once, several at the same time, within a budget.

Prompts are asked in random order, and neither endpoint is far ahead of the other, so that the prompts with both replies
before an interruption are a sample of all. Replies are kept as they come, and what is kept is not asked again. A
failure that may pass is retried with growing waits.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from itertools import islice
from threading import Event, Lock

import numpy as np

from edgecascade.export.chat.endpoint import AskedEndpoint
from edgecascade.export.chat.prompts import ChatPrompt
from edgecascade.export.chat.replies import ChatReply, Replies
from edgecascade.runtime.background import DaemonPool
from edgecascade.runtime.remotes.retry import backoff
from edgecascade.types.errors import ArgumentError, ExportError, RemoteError, RemoteRefusal

__all__ = ["Asked", "Progress", "ask_both", "missing"]

_ATTEMPTS, _FIRST_ATTEMPTS = 6, 2  # requests about one prompt; until there has been a reply
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0  # seconds
_NOTICED = 3.0  # seconds of a wait that a person would notice
_LOG = logging.getLogger("edgecascade")
_PROBES = 3  # prompts that are asked before all others
_IN_A_ROW = 8  # failures after which a side is given up
_AHEAD = 8  # prompts for each request at once, by which an endpoint may be ahead of the other
_HOPELESS = ("401", "403", "404")  # statuses that other prompts would get as well

Progress = Callable[[str, float], object]
"""Called when a reply has come, with its side, `local` or `remote`, and the cost so far."""


@dataclass(frozen=True)
class Asked:
    """What both endpoints replied.

    Attributes:
        local: the local reply to each prompt, or None.
        remote: the remote reply to each prompt, or None.
        new: number of replies that were asked for; the others were there.
        cost: of these.
        failures: what each endpoint said of prompts that it did not answer, by side.
        exhausted: whether the budget ended it.
    """

    local: tuple[ChatReply | None, ...]
    remote: tuple[ChatReply | None, ...]
    new: int
    cost: float
    failures: dict[str, tuple[str, ...]]
    exhausted: bool

    @property
    def pairs(self) -> int:
        """Number of prompts with both replies."""
        return sum(one is not None and other is not None for one, other in zip(self.local, self.remote, strict=True))


def ask_both(
    prompts: Sequence[ChatPrompt],
    local: AskedEndpoint,
    remote: AskedEndpoint,
    replies: Replies,
    *,
    max_cost: float | None = None,
    concurrency: int = 4,
    progress: Progress | None = None,
    seed: int = 0,
) -> Asked:
    """Ask both endpoints about every prompt that they have not replied to yet.

    Args:
        prompts: the prompts.
        local: the endpoint whose replies are scored.
        remote: the other endpoint.
        replies: what is there, and where new replies are kept.
        max_cost: the most that the new replies may cost, in the currency of the prices; None for no limit. No request
            is sent that could exceed it.
        concurrency: the most requests under way at once at each endpoint.
        progress: called when a reply has come, with its side and the cost so far.
        seed: of the order in which prompts are asked.

    Raises:
        ArgumentError: an argument is out of range.
        ExportError: an endpoint cannot be asked at all, or fails again and again. Replies that came before are kept.
    """
    if concurrency < 1:
        raise ArgumentError(f"concurrency: expected 1 or more, got {concurrency}")
    if max_cost is not None and not max_cost > 0:
        raise ArgumentError(f"max_cost: expected a number above 0, got {max_cost}")
    if max_cost is not None and local.price is None and remote.price is None:
        raise ArgumentError("max_cost: expected the price of at least one endpoint with it, got none")
    asking = _Asking(prompts, replies, max_cost, progress)
    order = np.random.default_rng(seed).permutation(len(prompts)).tolist()
    try:
        for endpoint in (local, remote):
            asking.probe(endpoint, order)
        asking.everything((local, remote), order, concurrency)
    finally:
        asking.stopped.set()
    found = [tuple(asking.reply(side, at) for at in range(len(prompts))) for side in (local, remote)]
    return Asked(
        local=found[0],
        remote=found[1],
        new=asking.new,
        cost=asking.spent,
        failures={side: tuple(said) for side, said in asking.failures.items()},
        exhausted=asking.until < len(prompts),
    )


def missing(prompts: Sequence[ChatPrompt], endpoint: AskedEndpoint, replies: Replies) -> int:
    """Return the number of different prompts that an endpoint has yet to reply to."""
    digests = {one.digest for one in prompts}
    return sum(replies.get(one, endpoint.side, endpoint.request) is None for one in digests)


class _Asking:
    """The state of asking, which the threads share.

    Attributes:
        stopped: set to end waits and to start no further request.
        new: number of replies that were asked for.
        spent: their cost.
        failures: by side.
        until: prompts from this position of the order on are not asked, since the budget does not allow it.
    """

    def __init__(
        self, prompts: Sequence[ChatPrompt], replies: Replies, max_cost: float | None, progress: Progress | None
    ) -> None:
        self._prompts, self._replies, self._progress = prompts, replies, progress
        self._digests = [one.digest for one in prompts]
        self._max_cost, self._reserved = max_cost, 0.0
        self._lock, self._telling = Lock(), Lock()
        self._in_a_row = {"local": 0, "remote": 0}
        self._under_way: set[tuple[str, str]] = set()  # prompts that occur twice are asked once
        self._waited: set[str] = set()
        self.stopped = Event()
        self.new, self.spent, self.until = 0, 0.0, len(prompts)
        self.failures: dict[str, list[str]] = {"local": [], "remote": []}

    def reply(self, endpoint: AskedEndpoint, at: int) -> ChatReply | None:
        """Return the reply that is there for a prompt."""
        return self._replies.get(self._digests[at], endpoint.side, endpoint.request)

    def probe(self, endpoint: AskedEndpoint, order: Sequence[int]) -> None:
        """Ask about the first prompts until a reply is of use, so that what never works costs neither time nor money.

        Raises:
            ExportError: none is.
        """
        if all(self.reply(endpoint, at) for at in order):
            return
        why = ""
        for position, at in enumerate(order[:_PROBES]):
            reply = self.reply(endpoint, at)
            if reply is None:
                try:
                    reply = self._ask(endpoint, at, position, _FIRST_ATTEMPTS)
                except RemoteError as error:
                    if not error.about_input or _is_hopeless(error):
                        raise ExportError(f"{error}{_cure(error, endpoint.side)}") from error
                    why = str(error)
                    continue
            if reply is None or not reply.unscored:
                return
            why = f"{endpoint.side}: expected log-probabilities, by which replies are scored: {reply.unscored}"
        raise ExportError(f"{why} (and so for each of the {min(_PROBES, len(order))} prompts asked first)")

    def everything(self, endpoints: Sequence[AskedEndpoint], order: Sequence[int], concurrency: int) -> None:
        """Ask each endpoint about all prompts in this order, the faster one no further ahead than `_AHEAD` allows.

        Raises:
            ExportError: an endpoint fails again and again.
        """
        pools = [DaemonPool(concurrency, f"edgecascade-{one.side}") for one in endpoints]
        left = [deque(at for at, one in enumerate(order) if self.reply(side, one) is None) for side in endpoints]
        running: list[dict[Future[None], int]] = [{} for _ in endpoints]
        try:
            while True:
                both = [*zip(endpoints, pools, running, left, strict=True)]
                last = min((at for *_, some, rest in both for at in (*some.values(), *islice(rest, 1))), default=0)
                for endpoint, pool, some, rest in both:
                    while rest and len(some) < concurrency and rest[0] <= last + _AHEAD * concurrency:
                        position = rest.popleft()
                        some[pool.submit(self._one, endpoint, order[position], position)] = position
                if not any(running):
                    return
                for done in wait([one for some in running for one in some], return_when=FIRST_COMPLETED).done:
                    for some in running:
                        some.pop(done, None)
                    done.result()  # raises its error
        finally:
            self.stopped.set()
            for pool in pools:
                pool.close()

    def _one(self, endpoint: AskedEndpoint, at: int, position: int) -> None:
        """Ask one endpoint about one prompt, and count its failures."""
        side, key = endpoint.side, (endpoint.side, self._digests[at])
        with self._lock:
            if key in self._under_way or position >= self.until or self.stopped.is_set():
                return
            self._under_way.add(key)
        if self.reply(endpoint, at) is not None:  # of the same prompt elsewhere in the file
            return
        try:
            if self._ask(endpoint, at, position, _ATTEMPTS) is not None:
                self._in_a_row[side] = 0
        except RemoteError as error:
            with self._lock:
                self.failures[side].append(str(error))
                self._in_a_row[side] += 1
                hopeless = self._in_a_row[side] >= _IN_A_ROW or _is_hopeless(error)
            if hopeless:
                raise ExportError(f"{error} (after {self.new} new replies, which are kept)") from error

    def _ask(self, endpoint: AskedEndpoint, at: int, position: int, attempts: int) -> ChatReply | None:
        """Return the reply to a prompt, which is kept; None if the budget does not allow it.

        Raises:
            RemoteError: the last attempt's.
        """
        messages = self._prompts[at].messages
        reserved = 0.0 if self._max_cost is None else endpoint.most(messages)
        with self._lock:
            if self._max_cost is not None and self.spent + self._reserved + reserved > self._max_cost:
                self.until = min(self.until, position)
                return None
            self._reserved += reserved
        cost, reply = 0.0, None
        try:
            reply = self._patiently(endpoint, at, attempts)
            cost = endpoint.cost(messages, reply)
        finally:
            with self._lock:
                self._reserved -= reserved
                self.spent += cost
                self.new += reply is not None
        self._replies.add(self._digests[at], self._prompts[at].reference, endpoint.side, reply)
        if self._progress is not None:
            with self._telling:
                self._progress(endpoint.side, self.spent)
        return reply

    def _patiently(self, endpoint: AskedEndpoint, at: int, attempts: int) -> ChatReply:
        for attempt in range(attempts):
            try:
                return endpoint.ask(self._prompts[at].messages)
            except RemoteError as error:
                if attempt + 1 == attempts or not error.retry or self.stopped.is_set():
                    raise
                seconds = backoff(attempt, first=_FIRST_WAIT, longest=_LONGEST_WAIT) + (error.retry_after or 0.0)
                seconds = min(seconds, 2 * _LONGEST_WAIT)
                self._tell(endpoint.side, error, seconds)
                if self.stopped.wait(seconds):
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _tell(self, side: str, error: RemoteError, seconds: float) -> None:
        """Log the first wait of a side that a person would notice."""
        with self._telling:
            if seconds >= _NOTICED and side not in self._waited:
                self._waited.add(side)
                _LOG.warning("%s; asked again in %.0f s, and so on after growing waits", error, seconds)


def _is_hopeless(error: RemoteError) -> bool:
    return isinstance(error, RemoteRefusal) and error.status in _HOPELESS


def _cure(error: RemoteError, side: str) -> str:
    """Return what to check where an endpoint lets nobody in, or an empty text."""
    shut = isinstance(error, RemoteRefusal) and error.status in ("401", "403")
    return f"; check the headers for the {side} endpoint (--{side}-header-file)" if shut else ""
