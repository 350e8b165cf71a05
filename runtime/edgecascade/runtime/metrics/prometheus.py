"""The metrics of a cascade in Prometheus's text format, version 0.0.4.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from edgecascade.runtime.metrics.snapshot import CIRCUIT_STATES

__all__ = ["CONTENT_TYPE", "Family", "families_text", "latency_samples", "prometheus_text"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_TRAFFIC = {
    "requests": ("remote_requests_total", "Requests to the remote."),
    "sent": ("remote_sent_bytes_total", "Bytes sent to the remote, before TLS."),
    "received": ("remote_received_bytes_total", "Bytes received from the remote, before TLS."),
}

_Sample = tuple[str, Mapping[str, str], Any]  # suffix of the family's name, labels, value
Family = tuple[str, str, str, Sequence[_Sample]]
"""Name without `edgecascade_`, type, help, and samples: suffix of the name, labels, value."""


def prometheus_text(snapshot: Mapping[str, Any]) -> str:
    """Return the body of the reply to a scrape, of content type `CONTENT_TYPE`.

    Args:
        snapshot: the return value of `Cascade.metrics`.
    """
    return families_text(_families(snapshot))


def families_text(families: Iterable[Family]) -> str:
    """Return families of metrics as text; a sample whose value is None is left out."""
    return "".join(line + "\n" for family in families for line in _lines(*family))


def latency_samples(labels: Mapping[str, str], one: Mapping[str, Any]) -> Iterator[_Sample]:
    """Yield the samples of a histogram of seconds.

    Args:
        labels: of the histogram.
        one: its `count`, `sum` and `buckets`, which are pairs of a bound and the count up to it.
    """
    for bound, count in one["buckets"]:
        yield "_bucket", {**labels, "le": repr(float(bound))}, count
    yield "_bucket", {**labels, "le": "+Inf"}, one["count"]
    yield "_sum", labels, one["sum"]
    yield "_count", labels, one["count"]


def _families(snapshot: Mapping[str, Any]) -> Iterator[Family]:
    answers = [("", {"source": a["source"], "reason": a["reason"]}, a["count"]) for a in snapshot["answers"]]
    yield "answers_total", "counter", "Answers, by source and reason.", answers
    latencies = [
        sample for route, one in snapshot["latency"].items() for sample in latency_samples({"route": route}, one)
    ]
    yield "latency_seconds", "histogram", "Seconds from the call to the answer.", latencies
    for key, (name, meaning) in _TRAFFIC.items():
        if key in snapshot.get("traffic", ()):
            yield name, "counter", meaning, [("", {}, snapshot["traffic"][key])]
    if "reloads" in snapshot:
        samples = [("", {"outcome": name}, n) for name, n in snapshot["reloads"].items()]
        yield "reloads_total", "counter", "New files that were taken, or refused.", samples
    if "circuit" in snapshot:
        states = [("", {"state": state}, int(snapshot["circuit"] == state)) for state in CIRCUIT_STATES]
        yield "circuit_state", "gauge", "1 for the present state of the circuit breaker.", states
    if "other_model" in snapshot:
        meaning = "Replies of the remote that name another model than in calibration."
        yield "remote_other_model_total", "counter", meaning, [("", {}, snapshot["other_model"])]
    if "certificate" in snapshot:
        meaning = "Bound on the loss of accuracy: certified loss plus the share of missed forwards; 1 if void."
        yield "certificate_bound", "gauge", meaning, [("", {}, snapshot["certificate"]["bound"])]
    if "budget" in snapshot:
        levels = [("", {"budget": name}, level) for name, level in snapshot["budget"].items()]
        yield "budget_level", "gauge", "How full the budget is, from 0 to 1.", levels
    for part in ("outbox", "watch"):
        for name, value in snapshot.get(part, {}).items():
            several = value.items() if isinstance(value, Mapping) else [("", value)]
            samples = [("", {"name": key} if key else {}, one) for key, one in several]
            family = f"{part}_{re.sub(r'[^a-zA-Z0-9_]', '_', name)}"
            yield family, "gauge", f"The {part}'s {name.replace('_', ' ')}.", samples


def _lines(name: str, kind: str, meaning: str, samples: Iterable[_Sample]) -> Iterator[str]:
    """Yield the lines of a family; a value that is None has no line."""
    name = f"edgecascade_{name}"
    meaning = meaning.replace("\\", r"\\").replace("\n", r"\n")
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"
    for suffix, labels, value in samples:
        if value is not None:
            pairs = ",".join(f'{key}="{text.translate(_ESCAPES)}"' for key, text in labels.items())
            yield f"{name}{suffix}{{{pairs}}} {value!r}" if pairs else f"{name}{suffix} {value!r}"
