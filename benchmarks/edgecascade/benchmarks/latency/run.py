"""Measure every subject in every scenario over every network; finished cells are stored and not measured again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from edgecascade.benchmarks.cache import sha256_of
from edgecascade.benchmarks.latency.agreement import Agreement
from edgecascade.benchmarks.latency.cell import Cell
from edgecascade.benchmarks.latency.connection import NetworkFound, check_remote, measure_network, remote_addresses
from edgecascade.benchmarks.latency.data import read_inputs_as_given
from edgecascade.benchmarks.latency.loadgen import load_module
from edgecascade.benchmarks.latency.measure import measured_apart
from edgecascade.benchmarks.latency.plan import DIRECT, Plan, Request, Scenario, Subject, key_of, without_paths
from edgecascade.benchmarks.network import PROFILES
from edgecascade.benchmarks.progress import counting
from edgecascade.benchmarks.stored import Store
from edgecascade.runtime.engine import open_session, read_classifier
from edgecascade.types.errors import BenchmarkError

__all__ = ["SHARE", "LatencyRun", "run_latency"]

T = TypeVar("T")
SHARE = 0.5  # default arrivals per second in the server scenario, as a share of single stream's throughput


@dataclass(frozen=True)
class LatencyRun:
    """The results of one request.

    Attributes:
        request: the request, with file names in place of paths.
        sha256: of the cascade model.
        inputs: the inputs: how many, of which kind, drawn from how many.
        preprocessing: what an answer includes beside the graph.
        cells: in the order of the tables.
        networks: profiles, and what was measured through them.
        agreement: of the harness with a bare loop; None if the model alone was not measured.
        reused: cells and networks that an earlier run into the same folder had finished.
        notes: remarks on the remote.
    """

    request: Request
    sha256: str
    inputs: str
    preprocessing: str
    cells: tuple[Cell, ...]
    networks: tuple[NetworkFound, ...]
    agreement: Agreement | None
    reused: int
    notes: tuple[str, ...]


def run_latency(request: Request) -> LatencyRun:
    """Measure what `request.report/cells` does not hold yet.

    Raises:
        BenchmarkError: LoadGen is not installed, or an argument, a remote or a cell failed.
        ExportError: there is no such data.
    """
    request.check()
    check_remote(request.remote, request.networks)
    load_module()
    classes = read_classifier(open_session(request.file), request.file).labels
    inputs = read_inputs_as_given(request.data, classes=classes)
    remote = request.remote
    content = {
        "file": sha256_of(Path(request.file)),
        "data": inputs.digest,
        "remote": "none" if remote is None else remote if "://" in remote else sha256_of(Path(remote)),
    }
    report = Path(request.report)
    store = Store(report / "cells")
    with remote_addresses(remote, report / "server.log") as address:
        measuring = _Measuring(request, content, store, address)
        cells, networks, agreement = measuring.cells(), measuring.networks(), measuring.agreement()
    if store.reused:
        print(f"reused {store.reused} finished cells from {report / 'cells'}", file=sys.stderr)
    return LatencyRun(
        request=without_paths(request),
        sha256=content["file"],
        inputs=str(inputs),
        preprocessing=inputs.preprocessing,
        cells=tuple(replace(cell, plan=without_paths(cell.plan)) for cell in cells),
        networks=tuple(networks),
        agreement=agreement,
        reused=store.reused,
        notes=request.notes(),
    )


class _Measuring:
    """One run: the hashes it depends on, the store of its results, and the remote's addresses."""

    def __init__(
        self, request: Request, content: dict[str, str], store: Store, address: Callable[[str], str | None]
    ) -> None:
        self._request, self._content, self._store, self._address = request, content, store, address
        self._throughput: dict[tuple[Subject, str], float] = {}

    def cells(self) -> list[Cell]:
        plans, found = list(self._plans()), []
        with counting("latency cells", len(plans)) as done:
            for plan in plans:
                found.append(self._cell(plan))
                done(1)
        return [cell for cell in found if cell.plan.scenario in self._request.scenarios]

    def networks(self) -> list[NetworkFound]:
        if not any(subject.asks for subject in self._request.subjects):
            return []
        return [self._network(name) for name in self._request.networks if name != DIRECT]

    def agreement(self) -> Agreement | None:
        if Subject.ALONE not in self._request.subjects:
            return None
        plan = self._request.plan(Subject.ALONE, Scenario.SINGLE_STREAM, DIRECT)
        key = key_of(plan, {**self._content, "what": "agreement"})
        return self._stored(Agreement, key, lambda: measured_apart("agreement", Agreement, plan))

    def _plans(self) -> Iterator[Plan]:
        """Yield single stream first: the server's arrivals depend on it."""
        request = self._request
        scenarios = sorted(request.scenarios, key=list(Scenario).index)
        if Scenario.SERVER in scenarios and request.qps is None and Scenario.SINGLE_STREAM not in scenarios:
            scenarios.insert(0, Scenario.SINGLE_STREAM)
        for subject in request.subjects:
            for network in request.networks if subject.asks else (DIRECT,):
                for scenario in scenarios:
                    yield request.plan(subject, scenario, network)

    def _cell(self, plan: Plan) -> Cell:
        if plan.scenario is Scenario.SERVER:
            reached = self._throughput.get((plan.subject, plan.network), 0.0)
            plan = replace(plan, qps=self._request.qps or round(SHARE * reached, 3))

        def measure() -> Cell:
            address = self._address(plan.network) if plan.subject.asks else None
            return measured_apart("cell", Cell, replace(plan, remote=address))

        found = self._stored(Cell, key_of(plan, self._about(plan)), measure)
        if plan.scenario is Scenario.SINGLE_STREAM:
            self._throughput[plan.subject, plan.network] = found.throughput
        return found

    def _network(self, name: str) -> NetworkFound:
        plan = self._request.plan(Subject.REMOTE, Scenario.SINGLE_STREAM, name)

        def measure() -> NetworkFound:
            direct, shaped = self._address(DIRECT), self._address(name)
            if direct is None or shaped is None:
                raise BenchmarkError(f"--network: expected a remote behind {name}, got none")
            return measure_network(PROFILES[name], direct, shaped)

        return self._stored(NetworkFound, key_of(plan, {**self._about(plan), "what": "network"}), measure)

    def _stored(self, kind: type[T], key: str, measure: Callable[[], T]) -> T:
        found = self._store.get(kind, key)
        if found is None:
            found = measure()
            self._store.put(key, found)
        return found

    def _about(self, plan: Plan) -> dict[str, object]:
        """Return what the cell depends on beside the plan; the remote only if it is asked."""
        remote = self._content["remote"] if plan.subject.asks else "none"
        profile = asdict(PROFILES[plan.network]) if plan.network in PROFILES else None
        return {**self._content, "remote": remote, "profile": profile}
