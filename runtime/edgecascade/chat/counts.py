"""Count the replies of a chat cascade, its tokens and its money, watch for drift, and write all that as metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from threading import Lock
from typing import Any

from edgecascade.chat.answer import ChatReason, Verdict
from edgecascade.chat.decision import ChatDecision
from edgecascade.chat.reply import Usage
from edgecascade.runtime.counts import BOUNDS, Histogram
from edgecascade.runtime.metrics.prometheus import Family, families_text, latency_samples
from edgecascade.runtime.metrics.snapshot import CIRCUIT_STATES
from edgecascade.runtime.watch.alarms import Alarm, Alarms
from edgecascade.runtime.watch.drift import Reference, Windows
from edgecascade.types.answer import Source
from edgecascade.types.document import ChatDocument, TokenPrice

__all__ = ["ChatTally", "cost_of"]

_WINDOW, _RISK = 1000, 1e-3  # decisions, and the probability of a false alarm in them
_WATCHED = ("drift", "offload rate")
_SIDES = (Source.LOCAL, Source.REMOTE)


def cost_of(usage: Usage, price: TokenPrice | None) -> float:
    """Return what tokens cost; 0 without a price.

    >>> cost_of(Usage(prompt=1000, completion=500), TokenPrice(prompt=2.0, completion=8.0))
    0.006
    """
    return 0.0 if price is None else (usage.prompt * price.prompt + usage.completion * price.completion) / 1e6


class ChatTally:
    """Counts, and raises the alarms `drift` and `offload rate` as a `Watch` does. Thread-safe.

    Args:
        document: the pair: its prices, and what its scores should be like.
        threshold: replies whose advantage is below it are forwarded; None takes the document's.
        on_alarm: called with each alarm, from a background thread.
    """

    def __init__(
        self,
        document: ChatDocument,
        threshold: float | None = None,
        on_alarm: Callable[[Alarm], None] | None = None,
    ) -> None:
        policy = document.policy
        bar = policy.threshold if threshold is None else threshold
        reference = Reference.binned(policy.values or (), policy.counts, bar)
        self._alarms = Alarms(on_alarm)
        self._windows = Windows(reference, _WINDOW, _RISK, self._alarms)
        self._prices = {Source.LOCAL: document.local.price, Source.REMOTE: document.remote.price}
        self._lock = Lock()
        self._answers: Counter[tuple[Source, ChatReason]] = Counter()
        self._waits = {side: Histogram() for side in _SIDES}
        self._tokens: Counter[tuple[Source, str, bool]] = Counter()
        self._money = dict.fromkeys(_SIDES, 0.0)
        self._unscored: Counter[str] = Counter()
        self._broken: Counter[Source] = Counter()
        self._others: Counter[str] = Counter()

    def decided(self, decision: ChatDecision) -> None:
        """Watch a decision about a local reply that could be scored."""
        with self._lock:
            advantages = [decision.advantage]
            self._windows.count(*(([], advantages) if decision.forward else (advantages, [])))

    def begun(self, verdict: Verdict, unscored: str, seconds: float) -> None:
        """Count a reply that begins.

        Args:
            verdict: who answers, and why.
            unscored: what keeps the local reply from being scored, in a word; empty if it was scored.
            seconds: since the request came.
        """
        with self._lock:
            self._answers[verdict.source, verdict.reason] += 1
            self._waits[verdict.source].observe(seconds)
            self._others["uncalibrated"] += bool(verdict.uncalibrated)
            if unscored:
                self._unscored[unscored] += 1

    def used(self, usage: Mapping[Source, Usage]) -> float:
        """Count the tokens of a request, and return what they cost."""
        with self._lock:
            total = 0.0
            for side, one in usage.items():
                self._tokens[side, "prompt", one.estimated] += one.prompt
                self._tokens[side, "completion", one.estimated] += one.completion
                cost = cost_of(one, self._prices[side])
                self._money[side] += cost
                total += cost
            return total

    def broke(self, side: Source) -> None:
        """Count a stream that broke after its first byte had gone to the client."""
        with self._lock:
            self._broken[side] += 1

    def ended(self, how: str) -> None:
        """Count a request without a reply: `unanswered`, as both sides failed, or `cancelled` by the client."""
        with self._lock:
            self._others[how] += 1

    def snapshot(self) -> dict[str, Any]:
        """Return all counts as one dict of plain JSON types."""
        with self._lock:
            return {
                "answers": [
                    {"source": source.value, "reason": reason.value, "count": n}
                    for (source, reason), n in sorted(self._answers.items())
                ],
                "first_byte": {side.value: _seconds(self._waits[side]) for side in _SIDES},
                "tokens": [
                    {"side": side.value, "kind": kind, "estimated": estimated, "count": n}
                    for (side, kind, estimated), n in sorted(self._tokens.items())
                ],
                "money": {side.value: self._money[side] for side in _SIDES},
                "unscored": dict(self._unscored),
                "broken": {side.value: self._broken[side] for side in _SIDES},
                "alarms": {name: int(name in self._alarms.snapshot()["active"]) for name in _WATCHED},
                **{name: self._others[name] for name in ("uncalibrated", "unanswered", "cancelled")},
            }

    def text(self, circuits: Mapping[Source, str], levels: Mapping[str, float]) -> str:
        """Return the counts in Prometheus's text format.

        Args:
            circuits: the state of each side's circuit breaker.
            levels: how full the budget is, by name.
        """
        return families_text(_families(self.snapshot(), circuits, levels))


def _seconds(histogram: Histogram) -> dict[str, Any]:
    found = histogram.snapshot()
    *cumulative, count = found.cumulative
    return {"count": count, "sum": found.sum, "buckets": [list(one) for one in zip(BOUNDS, cumulative, strict=True)]}


def _families(
    counts: Mapping[str, Any], circuits: Mapping[Source, str], levels: Mapping[str, float]
) -> Iterator[Family]:
    answers = [("", {"source": one["source"], "reason": one["reason"]}, one["count"]) for one in counts["answers"]]
    yield "chat_replies_total", "counter", "Replies, by source and reason.", answers
    waits = [sample for side, one in counts["first_byte"].items() for sample in latency_samples({"source": side}, one)]
    yield "chat_first_byte_seconds", "histogram", "Seconds from a request to the first byte of its reply.", waits
    tokens = [
        ("", {"side": one["side"], "kind": one["kind"], "estimated": str(one["estimated"]).lower()}, one["count"])
        for one in counts["tokens"]
    ]
    yield "chat_tokens_total", "counter", "Tokens, by side; estimated where a stream does not tell its usage.", tokens
    money = [("", {"side": side}, amount) for side, amount in counts["money"].items()]
    yield "chat_money_total", "counter", "What the tokens cost, in the currency of the prices.", money
    unscored = [("", {"why": why}, n) for why, n in counts["unscored"].items()]
    yield "chat_unscored_total", "counter", "Requests whose local reply could not be scored.", unscored
    broken = [("", {"side": side}, n) for side, n in counts["broken"].items()]
    yield "chat_broken_streams_total", "counter", "Streams that broke after their first byte.", broken
    for name, meaning in (
        ("uncalibrated", "Replies to requests unlike those of the calibration."),
        ("unanswered", "Requests that neither side answered."),
        ("cancelled", "Requests that the client gave up."),
    ):
        yield f"chat_{name}_total", "counter", meaning, [("", {}, counts[name])]
    states = [
        ("", {"side": side.value, "state": state}, int(found == state))
        for side, found in circuits.items()
        for state in CIRCUIT_STATES
    ]
    yield "chat_circuit_state", "gauge", "1 for the present state of each side's circuit breaker.", states
    alarms = [("", {"name": name}, active) for name, active in counts["alarms"].items()]
    yield "chat_alarm_active", "gauge", "1 while scores or forwards are unlike those of the calibration.", alarms
    if levels:
        budget = [("", {"budget": name}, level) for name, level in levels.items()]
        yield "budget_level", "gauge", "How full the budget is, from 0 to 1.", budget
