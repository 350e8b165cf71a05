"""Tables of latencies, throughput and forwards, few columns each: they are read on a phone."""

from __future__ import annotations

from collections.abc import Sequence

from edgecascade.benchmarks.latency.cell import Cell
from edgecascade.benchmarks.latency.plan import DIRECT
from edgecascade.benchmarks.latency.scenario import STREAMS, Scenario
from edgecascade.benchmarks.latency.words import milliseconds, of
from edgecascade.benchmarks.report.contents import Table
from edgecascade.benchmarks.report.formats import digits, interval

__all__ = ["cost_table", "forward_tables", "latency_table", "start_table", "verdict_table", "who"]

_WHAT = {
    Scenario.SINGLE_STREAM: "from one call to its answer",
    Scenario.MULTI_STREAM: f"from {STREAMS} inputs at once to the last of their answers",
    Scenario.SERVER: "from the scheduled arrival to the answer, waiting included",
}


def who(cell: Cell) -> str:
    """Subject, and the network that it asks over."""
    between = cell.plan.subject.asks and cell.plan.network != DIRECT
    return f"{cell.plan.subject.value}, {cell.plan.network}" if between else cell.plan.subject.value


def latency_table(scenario: Scenario, cells: Sequence[Cell]) -> Table:
    """Milliseconds of one scenario; not of offline."""
    served = scenario is Scenario.SERVER
    rows = [
        (
            f"{who(one)}, {digits(one.plan.qps)} per second" if served else who(one),
            *(milliseconds(one.latency, name) for name in ("p50", "p90", "p99", "p99_9")),
            str(one.latency.n if one.latency else 0),
        )
        for one in cells
        if one.plan.scenario is scenario
    ]
    note = (
        f"Milliseconds {_WHAT[scenario]}, with 95 % intervals between order statistics: exact for independent "
        "latencies of this one run. Where n is too small for a percentile's interval, it says how many it needs."
    )
    return Table((scenario.words, "p50", "p90", "p99", "p99.9", "n"), tuple(rows), note)


def cost_table(scenario: Scenario, cells: Sequence[Cell]) -> Table:
    """Throughput, processor time, memory and energy of one scenario."""
    rows = [
        (
            who(one),
            digits(one.throughput),
            digits(1e3 * one.cpu),
            of(one.machine.growth),
            _joules(one),
        )
        for one in cells
        if one.plan.scenario is scenario
    ]
    note = (
        "Processor time is this process's, LoadGen included, and not a remote's. Memory is what the process grew by at "
        "most from before the session was made. Energy is the sensors' over the run, what the machine takes at rest "
        "included. Each is one run's total, without an interval."
    )
    columns = (scenario.words, "answers/s", "CPU ms per answer", "memory, MiB", "energy per answer")
    return Table(columns, tuple(rows), note)


def forward_tables(cells: Sequence[Cell]) -> tuple[Table, ...]:
    """How cascades answered, and the latencies of what they kept and forwarded."""
    asking = [(cell, cell.forwards) for cell in cells if cell.forwards is not None and cell.plan.subject.asks]
    counted = tuple(
        (
            f"{who(cell)}, {cell.plan.scenario.words}",
            found.share.percent(),
            ", ".join(f"{reason} {count}" for reason, count in found.reasons.items()),
            f"{found.late}, by {digits(1e3 * found.overshoot)} ms at most" if found.late else "none",
        )
        for cell, found in asking
    )
    apart = tuple(
        (
            f"{who(cell)}, {cell.plan.scenario.words}: {name}",
            *(milliseconds(one, p) for p in ("p50", "p99")),
            str(one.n),
        )
        for cell, found in asking
        for name, one in (("kept", found.kept), ("forwarded", found.forwarded))
        if one is not None and one.n
    )
    note = "LoadGen draws inputs with replacement: n answers are fewer inputs. Late answers came after the deadline."
    tables = [Table(("", "forwarded (95 %)", "answers by reason", "late"), counted, note)] if counted else []
    if apart:
        tables.append(Table(("", "p50, ms", "p99, ms", "n"), apart, "Inputs that were kept and forwarded, apart."))
    return tuple(tables)


def start_table(cells: Sequence[Cell]) -> Table:
    """What it took before the first counted answer."""
    first = {who(cell): cell for cell in reversed(cells)}
    rows = tuple(
        (
            name,
            of(cell.warm_up.session, "ms", 1e3) + ("" if not cell.warm_up.engines else ", engines kept"),
            of(cell.warm_up.first, "ms", 1e3),
            f"{cell.warm_up.runs} in {of(cell.warm_up.seconds, 'ms', 1e3)}",
            cell.provider,
        )
        for name, cell in reversed(first.items())
    )
    note = "Measured once, in each subject's first cell, in a new process. None of it is in the latencies."
    return Table(("", "session", "first answer", "warm-up answers", "provider"), rows, note)


def verdict_table(cells: Sequence[Cell]) -> Table:
    """LoadGen's own word on each run."""
    rows = tuple(
        (
            cell.name,
            "valid" if cell.verdict.valid else "not valid",
            " ".join(part for part in (cell.verdict.reason, cell.note) if part) or "all conditions met",
            interval(cell.right, 100),
        )
        for cell in cells
    )
    note = "Right: share of the distinct inputs asked about that got their label, with Wilson's interval."
    return Table(("run", "LoadGen says", "why", "right, %"), rows, note)


def _joules(cell: Cell) -> str:
    found = [(one.sensor, one.per(cell.answers)) for one in cell.machine.energies]
    told = [f"{digits(1e3 * joules)} mJ, {sensor}" for sensor, joules in found if joules is not None]
    return "; ".join(told) or "not measured"
