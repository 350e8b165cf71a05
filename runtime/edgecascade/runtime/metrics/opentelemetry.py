"""The metrics of a cascade as OpenTelemetry instruments, with the extra `otel`.

OpenTelemetry cannot observe a whole histogram, so the latency's buckets are a counter of answers by their bound `le`,
beside `count` and `sum`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any

from edgecascade.runtime.metrics.snapshot import CIRCUIT_STATES
from edgecascade.types.extras import naming_extras

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation

__all__ = ["export_to_opentelemetry"]

_Sample = tuple[float | None, Mapping[str, str]]
_Read = Callable[[Mapping[str, Any]], Iterable[_Sample]]


def export_to_opentelemetry(snapshot: Callable[[], Mapping[str, Any]], *, meter: Meter | None = None) -> None:
    """Register instruments that share one fresh snapshot at each collection.

    They cannot be removed: call it once for each cascade and meter. Two cascades in one process need two meters, or
    their streams would clash.

    Args:
        snapshot: returns the metrics, such as `cascade.metrics`.
        meter: meter of the collecting provider; by default the global provider's meter `edgecascade`.

    Raises:
        ModuleNotFoundError: the `otel` extra is not installed.
    """
    with naming_extras():
        from opentelemetry.metrics import get_meter

    meter = get_meter("edgecascade") if meter is None else meter
    shared = _Shared(snapshot)
    for name, unit, meaning, read in _COUNTERS:
        meter.create_observable_counter(name, [_callback(shared, name, read)], unit, meaning)
    for name, unit, meaning, read in _GAUGES:
        meter.create_observable_gauge(name, [_callback(shared, name, read)], unit, meaning)


class _Shared:
    """A snapshot shared by all instruments; a second read by one of them starts the next collection."""

    def __init__(self, snapshot: Callable[[], Mapping[str, Any]]) -> None:
        self._snapshot = snapshot
        self._lock = Lock()
        self._current: Mapping[str, Any] = {}
        self._read_by: set[str] | None = None

    def read(self, name: str) -> Mapping[str, Any]:
        with self._lock:
            if self._read_by is None or name in self._read_by:
                self._current, self._read_by = self._snapshot(), set()
            self._read_by.add(name)
            return self._current


def _callback(shared: _Shared, name: str, read: _Read) -> Callable[[CallbackOptions], Iterable[Observation]]:
    from opentelemetry.metrics import Observation

    def observe(options: CallbackOptions) -> Iterable[Observation]:  # noqa: ARG001
        for value, attributes in read(shared.read(name)):
            if value is not None:
                yield Observation(value, dict(attributes))

    return observe


def _answers(snapshot: Mapping[str, Any]) -> Iterator[_Sample]:
    for one in snapshot["answers"]:
        yield one["count"], {"source": one["source"], "reason": one["reason"]}


def _latency(key: str) -> _Read:
    return lambda snapshot: [(one[key], {"route": route}) for route, one in snapshot["latency"].items()]


def _buckets(snapshot: Mapping[str, Any]) -> Iterator[_Sample]:
    for route, one in snapshot["latency"].items():
        for bound, count in [*one["buckets"], ["+Inf", one["count"]]]:
            yield count, {"route": route, "le": str(bound)}


def _traffic(key: str) -> _Read:
    return lambda snapshot: [(snapshot.get("traffic", {}).get(key), {})]


def _reloads(snapshot: Mapping[str, Any]) -> Iterator[_Sample]:
    yield from ((n, {"outcome": name}) for name, n in snapshot.get("reloads", {}).items())


def _other_model(snapshot: Mapping[str, Any]) -> Iterator[_Sample]:
    yield snapshot.get("other_model"), {}


def _circuit(snapshot: Mapping[str, Any]) -> Iterator[_Sample]:
    if "circuit" in snapshot:
        for state in CIRCUIT_STATES:
            yield int(snapshot["circuit"] == state), {"state": state}


def _part(part: str, label: str) -> _Read:
    """Read the numbers of a part; those of a part inside it are named `first.second`."""

    def read(snapshot: Mapping[str, Any]) -> Iterator[_Sample]:
        for name, value in snapshot.get(part, {}).items():
            if isinstance(value, Mapping):
                yield from ((one, {label: f"{name}.{key}"}) for key, one in value.items())
            else:
                yield value, {label: name}

    return read


# name, unit (UCUM), description, samples of a snapshot
_COUNTERS: list[tuple[str, str, str, _Read]] = [
    ("edgecascade.answers", "{answer}", "Answers, by source and reason.", _answers),
    ("edgecascade.latency.count", "{answer}", "Answers, by route.", _latency("count")),
    ("edgecascade.latency.sum", "s", "Seconds from the call to the answer, summed.", _latency("sum")),
    ("edgecascade.latency.buckets", "{answer}", "Answers that took at most `le` seconds.", _buckets),
    ("edgecascade.reloads", "{file}", "New files that were taken, or refused.", _reloads),
    ("edgecascade.remote.requests", "{request}", "Requests to the remote.", _traffic("requests")),
    ("edgecascade.remote.sent", "By", "Bytes sent to the remote, before TLS.", _traffic("sent")),
    ("edgecascade.remote.received", "By", "Bytes received from the remote, before TLS.", _traffic("received")),
    ("edgecascade.remote.other_model", "{reply}", "Replies of another model than in calibration.", _other_model),
]
_GAUGES: list[tuple[str, str, str, _Read]] = [
    ("edgecascade.circuit", "1", "1 for the present state of the circuit breaker.", _circuit),
    ("edgecascade.certificate", "1", "The certificate's loss, its excess and their sum.", _part("certificate", "name")),
    ("edgecascade.budget", "1", "How full the budget is, from 0 to 1.", _part("budget", "budget")),
    ("edgecascade.outbox", "1", "The numbers of the queue of unsent inputs.", _part("outbox", "name")),
    ("edgecascade.watch", "1", "The numbers of the watch on live quality.", _part("watch", "name")),
]
