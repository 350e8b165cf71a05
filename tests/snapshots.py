"""Snapshots of a cascade's metrics with given counts and parts."""

from types import SimpleNamespace
from typing import Any

from edgecascade.runtime import Counts
from edgecascade.runtime.metrics.snapshot import snapshot

__all__ = ["metrics"]


def metrics(counts: Counts, *, traffic: Any = None, circuit: Any = None, **given: Any) -> dict[str, Any]:
    """Return the snapshot of a cascade with these counts; `given` has those of the parts, and the health."""
    tally: Any = SimpleNamespace(snapshot=lambda: counts)
    parts = SimpleNamespace(
        remote=SimpleNamespace(traffic=traffic, state=circuit),
        budget=SimpleNamespace(levels=given["budget"]) if "budget" in given else None,
        outbox=SimpleNamespace(counts=lambda: given["outbox"]) if "outbox" in given else None,
        watch=SimpleNamespace(health=lambda: given["watch"]) if "watch" in given else None,
    )
    return snapshot(tally, parts, given.get("health"))
