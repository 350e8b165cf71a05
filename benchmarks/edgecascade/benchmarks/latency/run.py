"""Every subject in every scenario over every network, each cell in a process of its own; what is finished is kept."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from edgecascade.benchmarks.errors import BenchmarkError
from edgecascade.benchmarks.latency.addresses import Addresses, check_remote
from edgecascade.benchmarks.latency.agreement import Agreement
from edgecascade.benchmarks.latency.cell import Cell
from edgecascade.benchmarks.latency.connection import NetworkFound, measure_network
from edgecascade.benchmarks.latency.data import Inputs, read_inputs_as_given
from edgecascade.benchmarks.latency.loadgen import load_module
from edgecascade.benchmarks.latency.plan import DIRECT, Plan, key_of, named
from edgecascade.benchmarks.latency.request import Request
from edgecascade.benchmarks.latency.scenario import Scenario
from edgecascade.benchmarks.latency.subject import Kind
from edgecascade.benchmarks.latency.worker import measured_apart
from edgecascade.benchmarks.network import PROFILES
from edgecascade.benchmarks.packages import sha256_of
from edgecascade.benchmarks.progress import progress
from edgecascade.benchmarks.stored import Store

__all__ = ["SHARE", "LatencyRun", "run_latency"]

SHARE = 0.5  # of single stream's answers per second, at which inputs arrive in the server scenario by default


@dataclass(frozen=True)
class LatencyRun:
    """Everything that was measured.

    Attributes:
        request: what was asked for, with names in place of paths.
        sha256: of the cascade model.
        inputs: what was asked about: how many, of how many, of what kind.
        preprocessing: what an answer takes beside the graph.
        cells: in the order of the tables.
        networks: profiles, and what was really measured through them.
        agreement: of the harness with a bare loop; None if the model alone was not measured.
        reused: cells and networks that an earlier run into the same folder had finished.
        notes: anything else to know.
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
    inputs = read_inputs_as_given(request.data)
    content = {"file": sha256_of(Path(request.file)), "data": inputs.digest, "remote": _identity(request.remote)}
    report = Path(request.report)
    store = Store(report / "cells")
    with Addresses(request.remote, report / "server.log") as addresses:
        measuring = _Measuring(request, content, store, addresses)
        cells = measuring.cells()
        networks = measuring.networks()
        agreement = measuring.agreement()
    if store.reused:
        print(f"reused {store.reused} finished cells from {report / 'cells'}", file=sys.stderr)
    return LatencyRun(
        request=named(request),
        sha256=content["file"],
        inputs=_described(inputs),
        preprocessing=inputs.preprocessing,
        cells=tuple(replace(cell, plan=named(cell.plan)) for cell in cells),
        networks=tuple(networks),
        agreement=agreement,
        reused=store.reused,
        notes=request.notes(),
    )


def _identity(remote: str | None) -> str:
    """An address as it is, a file by its hash: what is asked, wherever it is served."""
    return "none" if remote is None else remote if "://" in remote else sha256_of(Path(remote))


def _described(inputs: Inputs) -> str:
    drawn = f", drawn from {inputs.of}" if inputs.of > len(inputs.given) else ""
    return f"{len(inputs.given)} {inputs.kind}{drawn}"


class _Measuring:
    """One run: what it depends on, where it is kept, and where the remote is asked."""

    def __init__(self, request: Request, content: dict[str, str], store: Store, addresses: Addresses) -> None:
        self._request, self._content, self._store, self._addresses = request, content, store, addresses
        self._paces: dict[tuple[Kind, str], float] = {}

    def cells(self) -> list[Cell]:
        plans = list(self._plans())
        found = [self._cell(plan) for plan in progress(plans, "latency cells", len(plans))]
        asked = {scenario: place for place, scenario in enumerate(self._request.scenarios)}
        return [cell for cell in found if cell.plan.scenario in asked]

    def networks(self) -> list[NetworkFound]:
        if not any(subject.asks for subject in self._request.subjects):
            return []
        return [self._network(name) for name in self._request.networks if name != DIRECT]

    def agreement(self) -> Agreement | None:
        if Kind.ALONE not in self._request.subjects:
            return None
        plan = self._request.plan(Kind.ALONE, Scenario.SINGLE_STREAM, DIRECT)
        key = key_of(plan, {**self._content, "what": "agreement"})
        found = self._store.get(Agreement, key)
        if found is None:
            found = measured_apart("agreement", Agreement, plan)
            self._store.put(key, found)
        return found

    def _plans(self) -> Iterator[Plan]:
        """Single stream first: the server's arrivals depend on it."""
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
            reached = self._paces.get((plan.subject, plan.network), 0.0)
            plan = replace(plan, qps=self._request.qps or round(SHARE * reached, 3))
        key = key_of(plan, self._about(plan))
        found = self._store.get(Cell, key)
        if found is None:
            address = self._addresses.at(plan.network) if plan.subject.asks else None
            found = measured_apart("cell", Cell, replace(plan, remote=address))
            self._store.put(key, found)
        if plan.scenario is Scenario.SINGLE_STREAM:
            self._paces[plan.subject, plan.network] = found.throughput
        return found

    def _network(self, name: str) -> NetworkFound:
        profile = PROFILES[name]
        plan = self._request.plan(Kind.REMOTE, Scenario.SINGLE_STREAM, name)
        key = key_of(plan, {**self._about(plan), "what": "network"})
        found = self._store.get(NetworkFound, key)
        if found is None:
            direct, shaped = self._addresses.at(DIRECT), self._addresses.at(name)
            if direct is None or shaped is None:
                raise BenchmarkError(f"--network: expected a remote behind {name}, got none")
            found = measure_network(profile, direct, shaped)
            self._store.put(key, found)
        return found

    def _about(self, plan: Plan) -> dict[str, object]:
        """What the cell depends on beside the plan: no remote where none is asked."""
        remote = self._content["remote"] if plan.subject.asks else "none"
        profile = asdict(PROFILES[plan.network]) if plan.network in PROFILES else None
        return {**self._content, "remote": remote, "profile": profile}
