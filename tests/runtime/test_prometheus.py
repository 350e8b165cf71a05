"""The Prometheus text has the numbers of the snapshot."""

import textwrap
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from edgecascade.runtime.counts import BOUNDS, CascadeHealth, Counts, Histogram
from edgecascade.runtime.metrics.prometheus import CONTENT_TYPE, prometheus_text
from edgecascade.types.answer import Reason, Source
from edgecascade.types.document import Certificate
from snapshots import metrics


def example(**parts: Any) -> dict[str, Any]:
    """Return the metrics after two local answers and one remote answer of 100 s."""
    local, forwarded = Histogram(), Histogram()
    local.observe(1e-5)
    local.observe(0.25)
    forwarded.observe(100.0)
    answers = {(Source.LOCAL, Reason.CONFIDENT): 2, (Source.REMOTE, Reason.NOT_A_NUMBER): 1}
    return metrics(Counts(answers, local.snapshot(), forwarded.snapshot()), **parts)


CERTIFICATE = Certificate(loss=0.01, risk=0.05, threshold=0.0, offload_rate=0.3, n=1000, p_value=0.02)
EVERYTHING: dict[str, Any] = {
    "health": CascadeHealth(CERTIFICATE, 100, {Reason.DEADLINE: 1, Reason.BUDGET: 1}, overridden=False),
    "traffic": {"requests": 3, "sent": 4000, "received": 900},
    "circuit": "half-open",
    "budget": {"forwards/60s": 0.5, "money/86400s": 1.0},
    "outbox": {"waiting": 2, "not_stored": {"disk full": 1, "full": 0}},
    "watch": {"agreement": {"value": 0.9, "low": float("nan")}, "active": {"drift"}},
}


def parsed(text: str) -> dict[str, Metric]:
    """Parse a text with the reference parser, which raises on most malformed text."""
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    return {family.name: family for family in families}


def values(family: Metric) -> dict[tuple[str, ...], float]:
    """Return the samples' values by the suffix of the name and the values of the labels."""
    return {(sample.name.removeprefix(family.name), *sample.labels.values()): sample.value for sample in family.samples}


def test_the_reference_parser_reads_the_snapshot() -> None:
    """Every family has its type and help, and every sample its labels."""
    found = parsed(prometheus_text(example(**EVERYTHING)))
    assert {name.removeprefix("edgecascade_"): family.type for name, family in found.items()} == {
        "answers": "counter",
        "latency_seconds": "histogram",
        "remote_requests": "counter",
        "remote_sent_bytes": "counter",
        "remote_received_bytes": "counter",
        "circuit_state": "gauge",
        "certificate_bound": "gauge",
        "budget_level": "gauge",
        "outbox_waiting": "gauge",
        "outbox_not_stored": "gauge",
        "watch_agreement": "gauge",
        "watch_active": "gauge",
    }
    assert all(family.documentation for family in found.values())
    assert values(found["edgecascade_answers"]) == {
        ("_total", "local", "confident"): 2,
        ("_total", "remote", "not a number"): 1,
    }
    assert values(found["edgecascade_remote_sent_bytes"]) == {("_total",): 4000}
    assert values(found["edgecascade_circuit_state"]) == {("", "closed"): 0, ("", "open"): 0, ("", "half-open"): 1}
    assert values(found["edgecascade_certificate_bound"]) == {("",): pytest.approx(0.03)}
    assert values(found["edgecascade_budget_level"]) == {("", "forwards/60s"): 0.5, ("", "money/86400s"): 1.0}
    assert values(found["edgecascade_outbox_waiting"]) == {("",): 2}
    assert values(found["edgecascade_outbox_not_stored"]) == {("", "disk full"): 1, ("", "full"): 0}
    assert values(found["edgecascade_watch_agreement"]) == {("", "value"): 0.9}  # the other is unknown
    assert values(found["edgecascade_watch_active"]) == {("", "drift"): 1}


def test_a_histogram_is_cumulative() -> None:
    """It has a bucket for each bound and one for all durations."""
    found = values(parsed(prometheus_text(example()))["edgecascade_latency_seconds"])
    for route, count, total in (("local", 2, 0.25001), ("forwarded", 1, 100.0)):
        buckets = [(float(key[2]), value) for key, value in found.items() if key[:2] == ("_bucket", route)]
        assert [bound for bound, _ in buckets] == [*BOUNDS, float("inf")]
        assert [value for _, value in buckets] == sorted(value for _, value in buckets)
        assert buckets[-1][1] == found["_count", route] == count
        assert found["_sum", route] == pytest.approx(total)
    assert found["_bucket", "local", "1e-05"] == 1
    assert found["_bucket", "local", "0.1"] == 1
    assert found["_bucket", "local", "0.25"] == 2


def test_the_text_is_unchanged() -> None:
    """Dashboards depend on it."""
    lines = prometheus_text(example(circuit="open", budget={"forwards/60s": 0.5})).splitlines()
    head, tail = lines[:7], lines[-15:]
    assert "\n".join(head) == textwrap.dedent("""\
        # HELP edgecascade_answers_total Answers, by source and reason.
        # TYPE edgecascade_answers_total counter
        edgecascade_answers_total{source="local",reason="confident"} 2
        edgecascade_answers_total{source="remote",reason="not a number"} 1
        # HELP edgecascade_latency_seconds Seconds from the call to the answer.
        # TYPE edgecascade_latency_seconds histogram
        edgecascade_latency_seconds_bucket{route="local",le="1e-05"} 1""")
    assert "\n".join(tail) == textwrap.dedent("""\
        edgecascade_latency_seconds_bucket{route="forwarded",le="5.0"} 0
        edgecascade_latency_seconds_bucket{route="forwarded",le="10.0"} 0
        edgecascade_latency_seconds_bucket{route="forwarded",le="30.0"} 0
        edgecascade_latency_seconds_bucket{route="forwarded",le="60.0"} 0
        edgecascade_latency_seconds_bucket{route="forwarded",le="+Inf"} 1
        edgecascade_latency_seconds_sum{route="forwarded"} 100.0
        edgecascade_latency_seconds_count{route="forwarded"} 1
        # HELP edgecascade_circuit_state 1 for the present state of the circuit breaker.
        # TYPE edgecascade_circuit_state gauge
        edgecascade_circuit_state{state="closed"} 0
        edgecascade_circuit_state{state="open"} 1
        edgecascade_circuit_state{state="half-open"} 0
        # HELP edgecascade_budget_level How full the budget is, from 0 to 1.
        # TYPE edgecascade_budget_level gauge
        edgecascade_budget_level{budget="forwards/60s"} 0.5""")


def test_the_text_ends_with_a_line_feed_and_the_content_type_has_a_version() -> None:
    """The format requires both."""
    assert prometheus_text(example()).endswith("\n")
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=20))
def test_label_values_are_escaped(text: str) -> None:
    """Backslashes, quotes and line feeds are preserved."""
    found = parsed(prometheus_text(example(budget={text: 0.5})))
    (sample,) = found["edgecascade_budget_level"].samples
    assert sample.labels == {"budget": text}


def test_invalid_metric_names_are_changed() -> None:
    """The numbers of a part may have any name."""
    assert "edgecascade_outbox_too_late_" in parsed(prometheus_text(example(outbox={"too late!": 1})))
