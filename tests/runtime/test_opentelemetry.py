"""OpenTelemetry exports the numbers of one snapshot."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from edgecascade.runtime.counts import BOUNDS, CascadeHealth, Counts, Histogram
from edgecascade.runtime.metrics.opentelemetry import export_to_opentelemetry
from edgecascade.types.answer import Reason, Source
from edgecascade.types.document import Certificate
from snapshots import metrics

Found = dict[str, dict[tuple[Any, ...], Any]]  # values by the attributes' values, by instrument


@pytest.fixture
def reader() -> Iterator[InMemoryMetricReader]:
    """Return a reader that collects on demand."""
    reader = InMemoryMetricReader()
    yield reader
    reader.shutdown()


@pytest.fixture
def provider(reader: InMemoryMetricReader) -> Iterator[MeterProvider]:
    """Return a provider of the meters that the reader collects."""
    provider = MeterProvider([reader], shutdown_on_exit=False)
    yield provider
    provider.force_flush()


def collected(reader: InMemoryMetricReader) -> Found:
    """Return the current values of the instruments."""
    data = reader.get_metrics_data()
    found: Found = {}
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                found[metric.name] = {
                    tuple((point.attributes or {}).values()): getattr(point, "value", None)
                    for point in metric.data.data_points
                }
    return found


def example(local: int, **parts: Any) -> dict[str, Any]:
    """Return the metrics after this many local answers of 1 ms and one remote answer."""
    quick, slow = Histogram(), Histogram()
    for _ in range(local):
        quick.observe(0.001)
    slow.observe(0.2)
    answers = {(Source.LOCAL, Reason.CONFIDENT): local, (Source.REMOTE, Reason.OFFLOADED): 1}
    return metrics(Counts(answers, quick.snapshot(), slow.snapshot()), **parts)


def test_the_instruments_have_the_numbers_of_the_snapshot(
    reader: InMemoryMetricReader, provider: MeterProvider
) -> None:
    """They have counts by source and reason, buckets by bound, and the numbers of each part by name."""
    snapshot = example(
        3,
        traffic={"requests": 3, "sent": 4000, "received": 900},
        circuit="open",
        health=CascadeHealth(Certificate(0.01, 0.05, 0.0, 0.3, 1000, 0.02), 50, {Reason.OFFLINE: 1}, overridden=False),
        budget={"forwards/60s": 0.5},
        outbox={"waiting": 2, "not_stored": {"full": 1}},
        watch={"drift": {"value": 0.25, "low": float("nan")}},
    )
    export_to_opentelemetry(lambda: snapshot, meter=provider.get_meter("test"))
    found = collected(reader)
    buckets = found.pop("edgecascade.latency.buckets")
    assert found == {
        "edgecascade.answers": {("local", "confident"): 3, ("remote", "offloaded"): 1},
        "edgecascade.latency.count": {("local",): 3, ("forwarded",): 1},
        "edgecascade.latency.sum": {("local",): pytest.approx(0.003), ("forwarded",): 0.2},
        "edgecascade.remote.requests": {(): 3},
        "edgecascade.remote.sent": {(): 4000},
        "edgecascade.remote.received": {(): 900},
        "edgecascade.circuit": {("closed",): 0, ("open",): 1, ("half-open",): 0},
        "edgecascade.certificate": {("loss",): 0.01, ("excess",): 0.02, ("bound",): 0.03},
        "edgecascade.budget": {("forwards/60s",): 0.5},
        "edgecascade.outbox": {("waiting",): 2, ("not_stored.full",): 1},
        "edgecascade.watch": {("drift.value",): 0.25},
    }
    assert len(buckets) == 2 * (len(BOUNDS) + 1)
    assert (buckets["local", "0.0005"], buckets["local", "0.001"], buckets["local", "+Inf"]) == (0, 3, 3)


def test_a_missing_part_has_no_instruments(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """A missing outbox differs from an empty one."""
    export_to_opentelemetry(lambda: example(1), meter=provider.get_meter("test"))
    names = {name for name, points in collected(reader).items() if points}
    assert names == {
        "edgecascade.answers",
        *(f"edgecascade.latency.{one}" for one in ("count", "sum", "buckets")),
    }


def test_each_collection_reads_one_new_snapshot(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """All instruments share it, so that they add up."""
    taken: list[int] = []

    def snapshot() -> dict[str, Any]:
        taken.append(len(taken))
        return example(len(taken), budget={"forwards/60s": 0.5})

    export_to_opentelemetry(snapshot, meter=provider.get_meter("test"))
    for n in (1, 2, 3):
        found = collected(reader)
        assert len(taken) == n
        assert found["edgecascade.answers"]["local", "confident"] == found["edgecascade.latency.count"]["local",] == n


def test_a_failing_snapshot_does_not_end_the_export(reader: InMemoryMetricReader, provider: MeterProvider) -> None:
    """The next collection is complete."""
    fails = [True]

    def snapshot() -> dict[str, Any]:
        if fails[0]:
            raise OSError("no")
        return example(2)

    export_to_opentelemetry(snapshot, meter=provider.get_meter("test"))
    assert not any(collected(reader).values())
    fails[0] = False
    assert collected(reader)["edgecascade.answers"]["local", "confident"] == 2


def test_opentelemetry_is_imported_on_use() -> None:
    """The module is part of the device install; without the extra, the import error names the missing package."""
    code = (
        "import sys\n"
        "from edgecascade.runtime.metrics.opentelemetry import export_to_opentelemetry\n"
        "assert 'opentelemetry' not in sys.modules\n"
        "sys.modules['opentelemetry'] = None\n"
        "try:\n    export_to_opentelemetry(dict)\n"
        "except ModuleNotFoundError:\n    print('missing')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "missing"


def test_the_global_meter_is_the_default() -> None:
    """Without an SDK it does nothing."""
    export_to_opentelemetry(lambda: example(1))
