"""A latency run as sections of the report."""

from __future__ import annotations

from collections.abc import Sequence

from edgecascade.benchmarks.latency.cascading import HOW
from edgecascade.benchmarks.latency.cell import Cell
from edgecascade.benchmarks.latency.connection import NetworkFound
from edgecascade.benchmarks.latency.loadgen import METHOD
from edgecascade.benchmarks.latency.picture import latency_svg
from edgecascade.benchmarks.latency.run import SHARE, LatencyRun
from edgecascade.benchmarks.latency.scenario import Scenario
from edgecascade.benchmarks.latency.tables import cost_table, forward_tables, latency_table, start_table, verdict_table
from edgecascade.benchmarks.latency.words import of
from edgecascade.benchmarks.report.contents import Figure, Section, Table
from edgecascade.benchmarks.report.formats import interval

__all__ = ["latency_sections", "machine_sentences"]


def latency_sections(run: LatencyRun) -> tuple[Section, ...]:
    """Latency, cost, forwards, network, start, machine, and what LoadGen and a bare loop say of the measurement."""
    cells = run.cells
    found = [_latency(run), _cost(cells)]
    if tables := forward_tables(cells):
        text = f"The cascade had {run.request.deadline:g} s for each answer; remote only waits as long as it takes."
        found.append(Section("Kept and forwarded", (text, *run.notes), tables=tables))
    if run.networks:
        found.append(_network(run.networks))
    found.append(Section("Before the first answer", tables=(start_table(cells),)))
    found.append(Section("The machine", machine_sentences(cells)))
    found.append(_validity(run))
    return tuple(found)


def machine_sentences(cells: Sequence[Cell]) -> tuple[str, ...]:
    """What the machine told of itself before the first cell and during all of them."""
    state = cells[0].machine
    board, told = state.board, [one for cell in cells for one in cell.machine.during]
    ranges = {
        name: (min(one.least for one in told if one.name == name), max(one.most for one in told if one.name == name))
        for name in dict.fromkeys(one.name for one in told)
    }
    during = "; ".join(f"{name} {low:.0f} to {high:.0f}" for name, (low, high) in ranges.items())
    slowed = [cell.machine.slowdowns for cell in cells]
    events = sorted({event for one in slowed for event in one or ()})
    throttled = "not measured" if None in slowed else "; ".join(events) or "none"
    clocks = ", ".join(f"{c.name} {of(c.megahertz, 'MHz')} of {of(c.maximum_megahertz, 'MHz')}" for c in board.clocks)
    return (
        f"Board: {board.model or 'not measured'}; JetPack: {board.jetpack or 'none told'}; "
        f"power mode: {board.power_mode or 'not measured'}; clocks before: {clocks or 'not measured'}; "
        f"hottest zone before: {of(state.celsius, 'degrees Celsius')}.",
        f"During the runs: {during or 'not measured'}. Throttling: {throttled}.",
        f"Energy sensors: {', '.join(e.sensor for e in state.energies) or 'none, so energy is not measured'}"
        + (f"; silent: {', '.join(state.silent)}." if state.silent else "."),
    )


def _latency(run: LatencyRun) -> Section:
    scenarios = [one for one in Scenario if one is not Scenario.OFFLINE]
    present = [one for one in scenarios if any(cell.plan.scenario is one for cell in run.cells)]
    text = [f"On {run.inputs}: the cascade is measured {run.preprocessing}.", HOW]
    if Scenario.SERVER in present and run.request.qps is None:
        text.append(f"In server, inputs arrive at {SHARE:.0%} of the answers per second that single stream reached.")
    figures: tuple[Figure, ...] = ()
    if present:
        caption = (
            "p50, p90, p99 and p99.9 of each subject's latencies in milliseconds, on a logarithmic axis, with 95 % "
            "intervals; percentiles with too few latencies are left out."
        )
        figures = (Figure("latency", latency_svg(run.cells), caption),)
    return Section("Latency", tuple(text), figures, tuple(latency_table(one, run.cells) for one in present))


def _cost(cells: Sequence[Cell]) -> Section:
    present = [one for one in Scenario if any(cell.plan.scenario is one for cell in cells)]
    return Section("Throughput and cost", tables=tuple(cost_table(one, cells) for one in present))


def _network(found: Sequence[NetworkFound]) -> Section:
    rows = []
    for one in found:
        profile, remote, probed = one.profile, one.remote, one.probed
        round_trip = "not measured" if probed is None else interval(probed.median, 1e3)
        rows.append((f"{one.name}: round trip, ms", _ms(profile.round_trip), round_trip))
        for name, up in (("up", True), ("down", False)):
            measured = "not measured" if probed is None else of(probed.up if up else probed.down, scale=1e-6)
            rows.append((f"{one.name}: {name}, Mbit/s", of(profile.goodput(up=up), scale=1e-6), measured))
        rows.append((f"{one.name}: a small request, ms", "", _request(one)))
        failed = "not measured" if remote is None else f"{remote.failed}"
        promised = f"{profile.reset_share:.0%} reset; down {profile.outage_share:.0%} of the time"
        rows.append((f"{one.name}: requests that failed", promised, failed))
    text = (
        "The remote's traffic went through a proxy on this machine that shapes it. Round trip and rates are those of "
        "single messages and of transfers to a server of the probe's own. A small request to the remote itself takes "
        "longer than that, probably since it goes in several segments, of which the last to come counts.",
        *(f"{one.name}: {one.profile.why}." for one in found),
    )
    return Section("Network", text, tables=(Table(("", "promised", "measured"), tuple(rows)),))


def _request(one: NetworkFound) -> str:
    if one.remote is None:
        return "not measured"
    added = _ms(one.remote.added)
    return f"{added} added; {interval(one.remote.shaped, 1e3)} through it, {interval(one.remote.bare, 1e3)} without"


def _ms(seconds: float) -> str:
    return of(seconds, scale=1e3)


def _validity(run: LatencyRun) -> Section:
    text = [METHOD]
    if run.agreement is not None:
        verdict = "agrees" if run.agreement.met else "does NOT agree"
        text.append(f"The harness {verdict} with a bare loop, within 5 % or 10 us a query. {run.agreement}.")
    return Section("How far to trust this", tuple(text), tables=(verdict_table(run.cells),))
