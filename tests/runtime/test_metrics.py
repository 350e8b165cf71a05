"""The counts of a cascade add up and are plain JSON."""

import json
import math
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecascade.runtime import ArgumentError
from edgecascade.runtime.counts import BOUNDS, Counts, Durations, Histogram
from edgecascade.runtime.metrics.snapshot import snapshot
from edgecascade.runtime.remotes.remote import Traffic
from edgecascade.types.answer import Reason, Source
from snapshots import metrics

NONE = Counts({}, Histogram().snapshot(), Histogram().snapshot())
seconds = st.floats(0, 100) | st.sampled_from(BOUNDS)
answer = st.tuples(st.sampled_from(Source), st.sampled_from(Reason), seconds)


def counted(stream: list[tuple[Source, Reason, float]]) -> Counts:
    """Return the counts of a tally with these answers."""
    local, forwarded = Histogram(), Histogram()
    for _, reason, elapsed in stream:
        (local if reason is Reason.CONFIDENT else forwarded).observe(elapsed)
    return Counts(Counter((source, reason) for source, reason, _ in stream), local.snapshot(), forwarded.snapshot())


def numbers(found: Any) -> list[Any]:
    """Return all leaves."""
    if isinstance(found, dict):
        return [leaf for value in found.values() for leaf in numbers(value)]
    return [leaf for value in found for leaf in numbers(value)] if isinstance(found, list) else [found]


@given(st.lists(seconds))
def test_a_histogram_counts_each_duration_in_one_bucket(durations: list[float]) -> None:
    """Upper bounds are inclusive, as in Prometheus; count and sum are those of the durations."""
    histogram = Histogram()
    for one in durations:
        histogram.observe(one)
    found = histogram.snapshot()
    assert found.cumulative[:-1] == [sum(one <= bound for one in durations) for bound in BOUNDS]
    assert found.count == found.cumulative[-1] == len(durations)
    assert found.sum == pytest.approx(math.fsum(durations))


def test_the_bounds_rise_from_ten_microseconds_to_a_minute() -> None:
    """They cover local answers and the longest deadlines."""
    assert list(BOUNDS) == sorted(set(BOUNDS))
    assert (BOUNDS[0], BOUNDS[-1]) == (1e-5, 60.0)


@pytest.mark.parametrize("odd", [-1.0, math.nan, -math.inf])
def test_an_invalid_duration_counts_as_0(odd: float) -> None:
    """Otherwise the sum would stay NaN."""
    histogram = Histogram()
    histogram.observe(odd)
    assert histogram.snapshot() == Durations((1, *[0] * len(BOUNDS)), 0.0)


def test_threads_lose_no_duration() -> None:
    """Eight threads add powers of two, so that the sum is exact."""
    histogram = Histogram()

    def observe() -> None:
        for k in [*range(8)] * 2000:
            histogram.observe(2.0**-k)

    threads = [threading.Thread(target=observe) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = histogram.snapshot()
    assert found.count == 8 * 2000 * 8
    assert found.sum == 8 * 2000 * sum(2.0**-k for k in range(8))
    assert found.buckets[bisect_left(BOUNDS, 1.0)] == 8 * 2000


@given(st.lists(answer, max_size=40))
def test_all_counts_add_up(stream: list[tuple[Source, Reason, float]]) -> None:
    """Local and forwarded inputs are all inputs; so are the sums of reasons, sources, pairs and histograms."""
    seen = counted(stream)
    found = metrics(seen)
    n = len(stream)
    assert found["inputs"] == n == found["local"] + found["forwarded"]
    assert sum(found["reasons"].values()) == sum(found["sources"].values()) == n
    assert sum(one["count"] for one in found["answers"]) == n
    assert found["latency"]["local"]["count"] == found["local"] == found["reasons"]["confident"]
    assert found["latency"]["forwarded"]["count"] == found["forwarded"]
    assert set(found["reasons"]) == {one.value for one in Reason}
    assert set(found["sources"]) == {one.value for one in Source}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_missing_part_has_no_key() -> None:
    """A missing outbox differs from an empty one."""
    assert set(metrics(NONE)) == {*("inputs", "local", "forwarded", "reasons", "sources", "answers", "latency")}


class Cause(str, Enum):
    """A key that is an enum."""

    FULL = "full"


@dataclass(frozen=True)
class Interval:
    """A number with its number of observations."""

    value: float
    n: int


@dataclass(frozen=True)
class Part:
    """A part with a value of every kind."""

    waiting: int = 3
    on: bool = True
    rate: Any = field(default_factory=lambda: np.float32(0.5))
    many: Any = field(default_factory=lambda: np.int64(7))
    unknown: float = math.nan
    not_stored: Mapping[Cause, int] = field(default_factory=lambda: MappingProxyType({Cause.FULL: 2}))
    agreement: Interval = Interval(math.inf, 4)
    active: frozenset[str] = frozenset({"drift", "agreement"})
    words: str = "secret"
    raw: bytes = b"secret"
    nothing: None = None
    some: tuple[str, ...] = ("secret",)
    deep: Mapping[str, Any] = field(default_factory=lambda: {"more": {"x": 1}, "text": "secret", "y": 2})


def test_only_the_numbers_of_a_part_are_included() -> None:
    """Two levels are included by name, as plain int and float; non-finite ones become None, and text is excluded."""
    found = metrics(NONE, watch=Part())["watch"]
    assert found == {
        "waiting": 3,
        "on": 1,
        "rate": 0.5,
        "many": 7,
        "unknown": None,
        "not_stored": {"full": 2},
        "agreement": {"value": None, "n": 4},
        "active": {"agreement": 1, "drift": 1},
        "deep": {"y": 2},
    }
    assert {type(leaf) for leaf in numbers(found)} == {int, float, type(None)}


def test_parts_may_be_mappings_or_dataclasses() -> None:
    """Both kinds give the same numbers."""
    found = metrics(
        NONE,
        traffic=Traffic(1, 2, 3),
        budget={"forwards/60s": 0.5},
        outbox={"waiting": 2},
        circuit="half-open",
    )
    assert found["traffic"] == {"requests": 1, "sent": 2, "received": 3}
    assert (found["budget"], found["outbox"]) == ({"forwards/60s": 0.5}, {"waiting": 2})
    assert found["circuit"] == "half-open"


@pytest.mark.parametrize("name", ["traffic", "outbox", "watch"])
def test_a_part_of_another_kind_is_refused(name: str) -> None:
    """The error names it."""
    with pytest.raises(ArgumentError, match=f"{name}: expected a dataclass or numbers by name, got list"):
        metrics(NONE, **{name: [1]})


def test_the_snapshot_of_a_cascade_includes_each_part() -> None:
    """The parts are the remote's traffic and circuit, the budget, the outbox and the watch."""
    seen = counted([(Source.LOCAL, Reason.CONFIDENT, 0.1), (Source.REMOTE, Reason.OFFLOADED, 0.2)])
    tally: Any = SimpleNamespace(snapshot=lambda: seen)
    parts = SimpleNamespace(
        remote=SimpleNamespace(traffic=Traffic(1, 2, 3), state="open"),
        budget=SimpleNamespace(levels={"forwards/60s": 0.5}),
        outbox=SimpleNamespace(counts=lambda: {"waiting": 2}),
        watch=SimpleNamespace(health=Part),
    )
    found = snapshot(tally, parts)
    assert (found["inputs"], found["local"], found["forwarded"]) == (2, 1, 1)
    assert (found["traffic"]["requests"], found["circuit"]) == (1, "open")
    assert (found["budget"], found["outbox"]) == ({"forwards/60s": 0.5}, {"waiting": 2})
    assert found["watch"]["waiting"] == 3


@pytest.mark.parametrize("remote", [None, SimpleNamespace(), SimpleNamespace(state={"unhashable": []})])
def test_the_snapshot_of_a_cascade_without_parts_has_only_counts(remote: Any) -> None:
    """A remote may lack counts and have a `state` of another kind."""
    tally: Any = SimpleNamespace(snapshot=lambda: NONE)
    parts = SimpleNamespace(remote=remote, budget=None, outbox=None, watch=None)
    assert snapshot(tally, parts) == metrics(NONE)
