"""Everything that a cascade counts, as one dict of plain JSON types.

    {
      "inputs": 12, "kept": 9, "forwarded": 3,            kept + forwarded = inputs
      "reasons": {"confident": 9, "offloaded": 2, ...},   every `Reason`; their sum is inputs
      "sources": {"local": 10, "remote": 2, ...},         every `Source`; their sum is inputs
      "answers": [{"source": "local", "reason": "confident", "count": 9}, ...],  what there was of both together
      "latency": {                                        seconds from the call to the answer
        "kept": {"count": 9, "sum": 0.003, "buckets": [[1e-05, 0], [2.5e-05, 4], ...]},   at most so long: so many
        "forwarded": {...}
      },
      "traffic": {"requests": 3, "sent": 4000, "received": 900},   bytes; the rest only if the cascade has the part
      "circuit": "closed",                                         or "open", "half-open"
      "budget": {"forwards/60s": 0.8},                             levels, in [0, 1]
      "outbox": {...}, "watch": {...}                              their own numbers, by name
    }

A number that is not finite is None, since JSON has no such number. Of a part only numbers are taken, and the members of
a set, as {"drift": 1}; no text, which could be anyone's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from enum import Enum
from numbers import Integral, Real
from typing import Any, Protocol, TypeAlias

from edgecascade.runtime.durations import Durations
from edgecascade.runtime.histogram import BOUNDS
from edgecascade.types.answer import Reason, Source
from edgecascade.types.errors import ArgumentError

__all__ = ["CIRCUIT_STATES", "Answers", "Counted", "Parts", "metrics", "snapshot"]

Answers: TypeAlias = Mapping[tuple[Source, Reason], int]

CIRCUIT_STATES = ("closed", "open", "half-open")


class Counted(Protocol):
    """What a tally has counted by some moment."""

    @property
    def answers(self) -> Answers:
        """How many there were of each source and reason."""

    @property
    def kept_seconds(self) -> Durations:
        """How long the answers took that were kept."""

    @property
    def forwarded_seconds(self) -> Durations:
        """How long the others took."""


class Tallying(Protocol):
    """Anything that counts answers."""

    def snapshot(self) -> Counted:
        """The counts as they are now."""


class Parts(Protocol):
    """The parts of a cascade that count on their own; None if it has not got one."""

    @property
    def remote(self) -> Any:
        """With `traffic`, and the `state` of a circuit, if it has them."""

    @property
    def budget(self) -> Any:
        """With `levels`."""

    @property
    def outbox(self) -> Any:
        """With `counts()`."""

    @property
    def watch(self) -> Any:
        """With `health()`."""


def snapshot(tally: Tallying, parts: Parts) -> dict[str, Any]:
    """The snapshot of a cascade, as above."""
    counted = tally.snapshot()
    state = getattr(parts.remote, "state", None)
    return metrics(
        counted.answers,
        kept=counted.kept_seconds,
        forwarded=counted.forwarded_seconds,
        traffic=getattr(parts.remote, "traffic", None),
        circuit=state if state in CIRCUIT_STATES else None,  # another's remote may have a state of another kind
        budget=None if parts.budget is None else parts.budget.levels,
        outbox=None if parts.outbox is None else parts.outbox.counts(),
        watch=None if parts.watch is None else parts.watch.health(),
    )


def metrics(
    answers: Answers,
    *,
    kept: Durations,
    forwarded: Durations,
    traffic: Any = None,
    circuit: str | None = None,
    budget: Mapping[str, float] | None = None,
    outbox: Any = None,
    watch: Any = None,
) -> dict[str, Any]:
    """The snapshot of these, as above.

    Args:
        answers: how many there were of each source and reason; absent is none.
        kept: how long the answers took that were kept.
        forwarded: and the others.
        traffic: `requests`, `sent` and `received`, as a dataclass or mapping.
        circuit: state of the circuit breaker.
        budget: level of each bucket.
        outbox: numbers of the queue of unsent inputs, or again such parts, as a dataclass or mapping.
        watch: the same of the watch on live quality.

    Raises:
        ArgumentError: a circuit in no known state, or a part of another kind.
    """
    if circuit is not None and circuit not in CIRCUIT_STATES:
        raise ArgumentError(f"circuit: expected one of {', '.join(CIRCUIT_STATES)}, got {circuit!r}")
    taken: dict[str, Any] = {**_counts(answers), "latency": {"kept": _latency(kept), "forwarded": _latency(forwarded)}}
    if circuit is not None:
        taken["circuit"] = circuit
    for name, part in {"traffic": traffic, "budget": budget, "outbox": outbox, "watch": watch}.items():
        if part is not None:
            if not (isinstance(part, Mapping) or is_dataclass(part)):
                raise ArgumentError(f"{name}: expected a dataclass or numbers by name, got {type(part).__name__}")
            taken[name] = _numbers(part)
    return taken


def _counts(answers: Answers) -> dict[str, Any]:
    reasons = {one.value: sum(n for (_, reason), n in answers.items() if reason is one) for one in Reason}
    sources = {one.value: sum(n for (source, _), n in answers.items() if source is one) for one in Source}
    inputs, kept = sum(reasons.values()), reasons[Reason.CONFIDENT.value]
    pairs = [(source, reason) for reason in Reason for source in Source if answers.get((source, reason))]
    return {
        "inputs": inputs,
        "kept": kept,
        "forwarded": inputs - kept,
        "reasons": reasons,
        "sources": sources,
        "answers": [{"source": s.value, "reason": r.value, "count": answers[s, r]} for s, r in pairs],
    }


def _latency(latencies: Durations) -> dict[str, Any]:
    *cumulative, count = latencies.cumulative
    pairs = [[bound, n] for bound, n in zip(BOUNDS, cumulative, strict=True)]
    return {"count": count, "sum": latencies.sum, "buckets": pairs}


def _numbers(part: Any, levels: int = 2) -> dict[str, Any]:
    """The numbers of a part, by name, and of the parts in it, so many levels down."""
    found: dict[str, Any] = {}
    items = part.items() if isinstance(part, Mapping) else [(one.name, getattr(part, one.name)) for one in fields(part)]
    for key, value in items:
        if isinstance(value, Real):
            found[_text(key)] = _plain(value)
        elif levels > 1 and (isinstance(value, Mapping) or is_dataclass(value)):
            found[_text(key)] = _numbers(value, levels - 1)
        elif levels > 1 and isinstance(value, Set):
            found[_text(key)] = dict.fromkeys(sorted(map(_text, value)), 1)
    return found


def _text(key: object) -> str:
    return str(key.value if isinstance(key, Enum) else key)


def _plain(value: Real) -> int | float | None:
    if isinstance(value, Integral):
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else None
