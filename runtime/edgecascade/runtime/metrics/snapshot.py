"""All counts of a cascade, as one dict of plain JSON types.

    {
      "inputs": 12, "local": 9, "forwarded": 3,           local + forwarded = inputs
      "reasons": {"confident": 9, "offloaded": 2, ...},   every `Reason`; they sum to inputs
      "sources": {"local": 10, "remote": 2, ...},         every `Source`; they sum to inputs
      "answers": [{"source": "local", "reason": "confident", "count": 9}, ...],  the combinations that occurred
      "latency": {                                        seconds from the call to the answer
        "local": {"count": 9, "sum": 0.003, "buckets": [[1e-05, 0], [2.5e-05, 4], ...]},  answers within each bound
        "forwarded": {...}
      },
      "reloads": {"taken": 1, "refused": 0},              new files that `Cascade.reload` took, or refused
      "traffic": {"requests": 3, "sent": 4000, "received": 900},   bytes; this and the rest only if the part exists
      "circuit": "closed",                                         or "open", "half-open"
      "other_model": 0,                                            replies of another generative model than calibrated
      "certificate": {"loss": 0.01, "excess": 0.002, "bound": 0.012},   `CascadeHealth`; the bound is 1 if it is void
      "budget": {"forwards/60s": 0.8},                             levels, in [0, 1]
      "outbox": {...}, "watch": {...}                              their own numbers, by name
    }

`local` counts the inputs that stay on the device; `sources` also counts the local answers to forwarded inputs. A number
that is not finite becomes None, since JSON has no such number. A part contributes only numbers, and the members of a
set as {"drift": 1}, but no text, which could be private.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from enum import Enum
from numbers import Integral, Real
from typing import Any, Protocol

from edgecascade.runtime.counts import BOUNDS, CascadeHealth, Durations, Tally
from edgecascade.types.answer import Reason, Source
from edgecascade.types.errors import ArgumentError

__all__ = ["CIRCUIT_STATES", "Parts", "snapshot"]

CIRCUIT_STATES = ("closed", "open", "half-open")


class Parts(Protocol):
    """The parts of a cascade that count on their own; None for a part that it lacks."""

    @property
    def remote(self) -> Any:
        """The remote, which may have `traffic`, `other_model`, and the `state` of a circuit."""

    @property
    def budget(self) -> Any:
        """The budget, with `levels`."""

    @property
    def outbox(self) -> Any:
        """The outbox, with `counts()`."""

    @property
    def watch(self) -> Any:
        """The watch, with `health()`."""


def snapshot(
    tally: Tally, parts: Parts, health: CascadeHealth | None = None, reloads: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Return all counts of a cascade by name, as described above.

    Raises:
        ArgumentError: the numbers of a part are neither a dataclass nor a mapping.
    """
    counts = tally.snapshot()
    pairs = [(source, reason) for reason in Reason for source in Source if counts.answers.get((source, reason))]
    taken: dict[str, Any] = {
        "inputs": counts.inputs,
        "local": counts.local,
        "forwarded": counts.forwarded,
        "reasons": {reason.value: n for reason, n in counts.reasons.items()},
        "sources": {source.value: n for source, n in counts.sources.items()},
        "answers": [{"source": s.value, "reason": r.value, "count": counts.answers[s, r]} for s, r in pairs],
        "latency": {"local": _latency(counts.local_seconds), "forwarded": _latency(counts.forwarded_seconds)},
    }
    if reloads is not None:
        taken["reloads"] = dict(reloads)
    state = getattr(parts.remote, "state", None)
    if state in CIRCUIT_STATES:  # a user's remote may have a state of its own
        taken["circuit"] = state
    other = getattr(parts.remote, "other_model", None)
    if isinstance(other, Integral):
        taken["other_model"] = int(other)
    if health is not None and health.certificate is not None:
        taken["certificate"] = {"loss": health.certificate.loss, "excess": health.excess, "bound": health.bound}
    found = {
        "traffic": getattr(parts.remote, "traffic", None),
        "budget": None if parts.budget is None else parts.budget.levels,
        "outbox": None if parts.outbox is None else parts.outbox.counts(),
        "watch": None if parts.watch is None else parts.watch.health(),
    }
    for name, part in found.items():
        if part is not None:
            if not (isinstance(part, Mapping) or is_dataclass(part)):
                raise ArgumentError(f"{name}: expected a dataclass or numbers by name, got {type(part).__name__}")
            taken[name] = _numbers(part)
    return taken


def _latency(seconds: Durations) -> dict[str, Any]:
    *cumulative, count = seconds.cumulative
    buckets = [[bound, n] for bound, n in zip(BOUNDS, cumulative, strict=True)]
    return {"count": count, "sum": seconds.sum, "buckets": buckets}


def _numbers(part: Any, levels: int = 2) -> dict[str, Any]:
    """Return the numbers of a part by name, and those of the parts inside it, down to so many levels."""
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
