"""Tables of latencies, throughput and forwards, with few columns, since they are read on phones too."""

from __future__ import annotations

from collections.abc import Sequence

from edgecascade.benchmarks.latency.cell import QUANTILES, Cell, Distribution, least
from edgecascade.benchmarks.latency.connection import NetworkFound
from edgecascade.benchmarks.latency.plan import DIRECT, STREAMS, Scenario
from edgecascade.benchmarks.report.contents import Table
from edgecascade.benchmarks.report.formats import digits, interval

__all__ = [
    "cost_table",
    "forward_tables",
    "latency_table",
    "milliseconds",
    "network_table",
    "number",
    "row_name",
    "start_table",
    "validity_table",
]

_MEASURED = {
    Scenario.SINGLE_STREAM: "from a call to its answer",
    Scenario.MULTI_STREAM: f"from the arrival of {STREAMS} inputs to the last of their answers",
    Scenario.SERVER: "from the scheduled arrival to the answer, waiting included",
}


def milliseconds(found: Distribution | None, name: str) -> str:
    """Return a percentile and its interval as text, or the number of latencies that it would need."""
    if found is None:
        return "not meaningful"
    at = found.at(name)
    return interval(at, 1e3) if at is not None else f"n = {found.n}; needs {least(QUANTILES[name])}"


def number(value: float | None, unit: str = "", scale: float = 1.0) -> str:
    """Return a number and its unit as text; None is "not measured"."""
    return "not measured" if value is None else f"{digits(scale * value)}{f' {unit}' if unit else ''}"


def row_name(cell: Cell) -> str:
    """Return the subject, and the network before its remote."""
    between = cell.plan.subject.asks and cell.plan.network != DIRECT
    return f"{cell.plan.subject.value}, {cell.plan.network}" if between else cell.plan.subject.value


def latency_table(scenario: Scenario, cells: Sequence[Cell]) -> Table:
    """Return the percentiles of one scenario other than offline."""
    served = scenario is Scenario.SERVER
    rows = [
        (
            f"{row_name(one)}, {digits(one.plan.qps)} per second" if served else row_name(one),
            *(milliseconds(one.latency, name) for name in QUANTILES),
            str(one.latency.n if one.latency else 0),
        )
        for one in cells
        if one.plan.scenario is scenario
    ]
    note = (
        f"Milliseconds {_MEASURED[scenario]}, with 95 % intervals between order statistics, exact for independent "
        "latencies of this run. Where n is too small for an interval, the table gives the n that it needs."
    )
    return Table((scenario.words, "p50", "p90", "p99", "p99.9", "n"), tuple(rows), note)


def cost_table(scenario: Scenario, cells: Sequence[Cell]) -> Table:
    """Return throughput, processor time, memory and energy of one scenario."""
    rows = [
        (row_name(one), digits(one.throughput), digits(1e3 * one.cpu), number(one.machine.growth), _joules(one))
        for one in cells
        if one.plan.scenario is scenario
    ]
    note = (
        "Processor time is that of this process, LoadGen included, a remote excluded. Memory is the largest growth of "
        "the process since before the session was made. Energy is that of the sensors during the run, the machine's "
        "consumption at rest included. Each is the total of one run, without an interval."
    )
    columns = (scenario.words, "answers/s", "CPU ms per answer", "memory, MiB", "energy per answer")
    return Table(columns, tuple(rows), note)


def forward_tables(cells: Sequence[Cell]) -> tuple[Table, ...]:
    """Return how cascades answered, and the latencies of local and forwarded inputs; empty without a cascade."""
    asking = [(cell, cell.forwards) for cell in cells if cell.forwards is not None and cell.plan.subject.asks]
    counted = tuple(
        (
            f"{row_name(cell)}, {cell.plan.scenario.words}",
            found.share.percent(),
            ", ".join(f"{reason} {count}" for reason, count in found.reasons.items()),
            f"{found.late}, by {digits(1e3 * found.overshoot)} ms at most" if found.late else "none",
        )
        for cell, found in asking
    )
    apart = tuple(
        (
            f"{row_name(cell)}, {cell.plan.scenario.words}: {name}",
            *(milliseconds(one, p) for p in ("p50", "p99")),
            str(one.n),
        )
        for cell, found in asking
        for name, one in (("local", found.kept), ("forwarded", found.forwarded))
        if one is not None and one.n
    )
    note = "LoadGen draws inputs with replacement: n answers are fewer inputs. Late answers came after the deadline."
    tables = [Table(("", "forwarded (95 %)", "answers by reason", "late"), counted, note)] if counted else []
    if apart:
        tables.append(Table(("", "p50, ms", "p99, ms", "n"), apart, "Local answers and forwarded inputs apart."))
    return tuple(tables)


def network_table(found: Sequence[NetworkFound]) -> Table:
    """Return each profile beside what was measured through it."""
    rows: list[tuple[str, str, str]] = []
    for one in found:
        profile, remote, probed = one.profile, one.remote, one.probed
        round_trip = "not measured" if probed is None else interval(probed.median, 1e3)
        request = failed = "not measured"
        if remote is not None:
            bare, through = interval(remote.bare, 1e3), interval(remote.shaped, 1e3)
            request = f"{number(remote.added, scale=1e3)} added; {through} through it, {bare} without"
            failed = f"{remote.failed}"
        rows.append((f"{one.name}: round trip, ms", number(profile.round_trip, scale=1e3), round_trip))
        for name, up in (("up", True), ("down", False)):
            rate = None if probed is None else probed.up if up else probed.down
            specified = number(profile.goodput(up=up), scale=1e-6)
            rows.append((f"{one.name}: {name}, Mbit/s", specified, number(rate, scale=1e-6)))
        rows.append((f"{one.name}: a small request, ms", "", request))
        specified = f"{profile.reset_share:.0%} reset; down {profile.outage_share:.0%} of the time"
        rows.append((f"{one.name}: requests that failed", specified, failed))
    return Table(("", "profile", "measured"), tuple(rows))


def start_table(cells: Sequence[Cell]) -> Table:
    """Return the time before the first answer that counts."""
    first = {row_name(cell): cell for cell in reversed(cells)}
    rows = tuple(
        (
            name,
            number(cell.warm_up.session, "ms", 1e3) + ("" if not cell.warm_up.engines else ", stored engines"),
            number(cell.warm_up.first, "ms", 1e3),
            f"{cell.warm_up.runs} in {number(cell.warm_up.seconds, 'ms', 1e3)}",
            cell.provider,
        )
        for name, cell in reversed(first.items())
    )
    note = "Measured once, in each subject's first cell, in a new process. None of it counts as latency."
    return Table(("", "session", "first answer", "warm-up answers", "provider"), rows, note)


def validity_table(cells: Sequence[Cell]) -> Table:
    """Return LoadGen's decision on each run."""
    rows = tuple(
        (
            cell.name,
            "valid" if cell.verdict.valid else "not valid",
            " ".join(part for part in (cell.verdict.reason, cell.note) if part) or "all conditions met",
            interval(cell.right, 100),
        )
        for cell in cells
    )
    note = "Right: share of the distinct inputs whose answer was their label, with Wilson's interval."
    return Table(("run", "LoadGen says", "why", "right, %"), rows, note)


def _joules(cell: Cell) -> str:
    found = [(one.sensor, one.per(cell.answers)) for one in cell.machine.energies]
    measured = [f"{digits(1e3 * joules)} mJ, {sensor}" for sensor, joules in found if joules is not None]
    return "; ".join(measured) or "not measured"
