"""A latency run as findings, as sections of a report with tables and a picture, and as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgecascade.benchmarks.latency.cell import QUANTILES, Cell, Distribution, least
from edgecascade.benchmarks.latency.connection import NetworkFound
from edgecascade.benchmarks.latency.loadgen import METHOD
from edgecascade.benchmarks.latency.plan import DIRECT, STREAMS, Scenario, Subject
from edgecascade.benchmarks.latency.run import SHARE, LatencyRun
from edgecascade.benchmarks.latency.systems import CALLS
from edgecascade.benchmarks.report.contents import STYLE, Figure, Section, Table, digits, interval, svg_of
from edgecascade.runtime.providers import PROVIDERS

__all__ = ["latency_findings", "latency_sections", "latency_summary", "milliseconds"]

_MARKS = {"p50": ("o", "#0a62b5"), "p90": ("s", "#2a8f6f"), "p99": ("^", "#c2660a"), "p99_9": ("D", "#8a3ffc")}


def latency_findings(run: LatencyRun) -> tuple[str, ...]:
    """Return the most important sentences: medians and tails of single stream, forwards, providers, validity."""
    single = [cell for cell in run.cells if cell.plan.scenario is Scenario.SINGLE_STREAM]
    here = [_finding(cell) for cell in single if not cell.plan.subject.asks]
    found = [f"On the device alone, one input after the other: {'; '.join(here)}."] if here else []
    for network in run.request.networks:
        asking = [_finding(cell) for cell in single if cell.plan.subject.asks and cell.plan.network == network]
        where = "on this machine" if network == DIRECT else f"behind {network}"
        found += [f"With the remote {where}: {'; '.join(asking)}."] if asking else []
    found += _drift(single)
    found += _fallbacks(run.cells)
    valid = sum(cell.verdict.valid for cell in run.cells)
    found.append(f"LoadGen calls {valid} of {len(run.cells)} runs valid. {METHOD}")
    if run.reused:
        found.append(f"{run.reused} finished parts were reused from an earlier run into the same folder.")
    return tuple(found)


def latency_sections(run: LatencyRun) -> tuple[Section, ...]:
    """Return latency, cost, forwards, network, start, machine, and how far to trust the measurement."""
    cells = run.cells
    present = [one for one in Scenario if any(cell.plan.scenario is one for cell in cells)]
    found = [_latency(run), Section("Throughput and cost", tables=tuple(_cost_table(one, cells) for one in present))]
    if tables := _forward_tables(cells):
        text = f"The cascade had {run.request.deadline:g} s for each answer; remote only waits longer if it must."
        found.append(Section("Local and forwarded", (text, *run.notes), tables=tables))
    if run.networks:
        text = (
            "The remote's traffic went through a proxy on this machine that shapes it. Round trip and rates are those "
            "of single messages and of transfers to a server of the probe's own. A small request to the remote takes "
            "longer, probably because it is sent in several segments, of which the last one counts."
        )
        paragraphs = (text, *(f"{one.name}: {one.profile.why}." for one in run.networks))
        found.append(Section("Network", paragraphs, tables=(_network_table(run.networks),)))
    found.append(Section("Before the first answer", tables=(_start_table(cells),)))
    found.append(Section("The machine", _machine(cells)))
    trust = [METHOD]
    if run.agreement is not None:
        agrees = "agrees" if run.agreement.met else "does NOT agree"
        trust.append(f"The harness {agrees} with a bare loop within 5 % or 10 us per query. {run.agreement}.")
    found.append(Section("How far to trust this", tuple(trust), tables=(_validity_table(cells),)))
    return tuple(found)


def latency_summary(run: LatencyRun) -> str:
    """Return findings and tables as text."""
    parts = ["\n".join(latency_findings(run))]
    for section in latency_sections(run):
        tables = "\n\n".join(_text(table) for table in section.tables)
        parts.append("\n\n".join(part for part in (section.title.upper(), "\n".join(section.text), tables) if part))
    return "\n\n".join(parts)


def _finding(cell: Cell) -> str:
    half, most = (milliseconds(cell.latency, name) for name in ("p50", "p99"))
    known = cell.latency is not None and cell.latency.at("p99") is not None
    within = f"{cell.plan.subject.value} gives half of its answers within {half} ms, " + (
        f"99 % within {most} ms, n = {cell.answers}" if known else f"99 % not known from n = {cell.answers}"
    )
    if cell.plan.subject is not Subject.CASCADE:
        return within
    assert cell.forwards is not None
    late = f"{cell.forwards.late} after their deadline" if cell.forwards.late else "none late"
    return f"{within}, {cell.forwards.share.percent()} forwarded, {late}"


def _drift(single: Sequence[Cell]) -> list[str]:
    """Warn if a part came out slower than the whole: the machine was slower while the part was measured."""
    half = {cell.plan.subject: cell.latency.at("p50") for cell in single if cell.latency is not None}
    part, whole = half.get(Subject.ALONE), half.get(Subject.LOCAL)
    if part is None or whole is None or part.low <= whole.high:
        return []
    return [
        f"The model alone took {part.value / whole.value:.2f} times as long as the local path that contains it: "
        "this machine's speed changed between the runs, and smaller differences between rows mean nothing."
    ]


def _fallbacks(cells: Sequence[Cell]) -> list[str]:
    """Warn if a provider that was asked for did not run."""
    asked = {(cell.plan.providers[0], cell.provider) for cell in cells if cell.plan.providers not in ((), ("auto",))}
    return [
        f"{one} was asked for, and {got} ran instead: these are not {one}'s figures."
        for one, got in sorted(asked)
        if PROVIDERS.get(one.lower(), one) != got
    ]


def _latency(run: LatencyRun) -> Section:
    present = [
        one for one in Scenario if one is not Scenario.OFFLINE and any(cell.plan.scenario is one for cell in run.cells)
    ]
    text = [f"On {run.inputs}: the cascade is measured {run.preprocessing}.", CALLS]
    if Scenario.SERVER in present and run.request.qps is None:
        text.append(f"In server, inputs arrive at {SHARE:.0%} of single stream's throughput.")
    figures: tuple[Figure, ...] = ()
    if present:
        caption = (
            "p50, p90, p99 and p99.9 of each subject's latencies in milliseconds, on a logarithmic axis, with 95 % "
            "intervals; percentiles with too few latencies are left out."
        )
        figures = (Figure("latency", _picture(run.cells), caption),)
    return Section("Latency", tuple(text), figures, tuple(_latency_table(one, run.cells) for one in present))


def _machine(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Return the machine's state before the first cell and during all of them."""
    state = cells[0].machine
    board, courses = state.board, [one for cell in cells for one in cell.machine.during]
    ranges = {
        name: (
            min(one.least for one in courses if one.name == name),
            max(one.most for one in courses if one.name == name),
        )
        for name in dict.fromkeys(one.name for one in courses)
    }
    during = "; ".join(f"{name} {low:.0f} to {high:.0f}" for name, (low, high) in ranges.items())
    slowed = [cell.machine.slowdowns for cell in cells]
    events = sorted({event for one in slowed for event in one or ()})
    throttled = "not measured" if None in slowed else "; ".join(events) or "none"
    clocks = ", ".join(
        f"{c.name} {_number(c.megahertz, 'MHz')} of {_number(c.maximum_megahertz, 'MHz')}" for c in board.clocks
    )
    return (
        f"Board: {board.model or 'not measured'}; JetPack: {board.jetpack or 'not reported'}; "
        f"power mode: {board.power_mode or 'not measured'}; clocks before: {clocks or 'not measured'}; "
        f"hottest zone before: {_number(state.celsius, 'degrees Celsius')}.",
        f"During the runs: {during or 'not measured'}. Throttling: {throttled}.",
        f"Energy sensors: {', '.join(e.sensor for e in state.energies) or 'none, so energy is not measured'}"
        + (f"; silent: {', '.join(state.silent)}." if state.silent else "."),
    )


def _picture(cells: Sequence[Cell]) -> str:
    """Return percentiles in milliseconds as SVG: a panel for each scenario, a row for each subject."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    timed = [cell for cell in cells if cell.latency is not None]
    panels = {one: [cell for cell in timed if cell.plan.scenario is one] for one in Scenario}
    panels = {scenario: panel for scenario, panel in panels.items() if panel}
    heights = [len(panel) + 1.5 for panel in panels.values()]
    with mpl.rc_context(STYLE):
        figure = Canvas(figsize=(5.2, 0.42 * sum(heights) + 0.6))
        axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
        legend: dict[str, Any] = {}  # each percentile once
        for axis, (scenario, panel) in zip(axes, panels.items(), strict=True):
            _draw(axis, panel)
            axis.set_title(scenario.words, fontsize=10, loc="left")
            handles, labels = axis.get_legend_handles_labels()
            legend.update(zip(labels, handles, strict=True))
        axes[-1].set_xlabel("latency, ms")
        figure.legend(list(legend.values()), list(legend), loc="outside lower center", ncols=4, frameon=False)
        return svg_of(figure)


def _draw(axis: Any, cells: Sequence[Cell]) -> None:
    for name in QUANTILES:
        mark, color = _MARKS[name]
        points = [
            (row, found)
            for row, cell in enumerate(cells)
            if cell.latency is not None and (found := cell.latency.at(name)) is not None
        ]
        if not points:
            continue
        below = [max(0.0, 1e3 * (found.value - found.low)) for _, found in points]
        above = [max(0.0, 1e3 * (found.high - found.value)) for _, found in points]
        axis.errorbar(
            [1e3 * found.value for _, found in points],
            [row for row, _ in points],
            xerr=[below, above],
            fmt=mark,
            color=color,
            markersize=4,
            elinewidth=1,
            label=name.replace("_", "."),
        )
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_yticks(range(len(cells)), [_row_name(cell) for cell in cells])
    axis.set_ylim(len(cells) - 0.5, -0.5)
    axis.grid(alpha=0.25, axis="x")


def _text(table: Table) -> str:
    rows = [table.columns, *table.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *([table.note] if table.note else [])])


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


def _number(value: float | None, unit: str = "", scale: float = 1.0) -> str:
    """Return a number and its unit as text; None is "not measured"."""
    return "not measured" if value is None else f"{digits(scale * value)}{f' {unit}' if unit else ''}"


def _row_name(cell: Cell) -> str:
    """Return the subject, and the network before its remote."""
    between = cell.plan.subject.asks and cell.plan.network != DIRECT
    return f"{cell.plan.subject.value}, {cell.plan.network}" if between else cell.plan.subject.value


def _latency_table(scenario: Scenario, cells: Sequence[Cell]) -> Table:
    """Return the percentiles of one scenario other than offline."""
    served = scenario is Scenario.SERVER
    rows = [
        (
            f"{_row_name(one)}, {digits(one.plan.qps)} per second" if served else _row_name(one),
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


def _cost_table(scenario: Scenario, cells: Sequence[Cell]) -> Table:
    """Return throughput, processor time, memory and energy of one scenario."""
    rows = [
        (_row_name(one), digits(one.throughput), digits(1e3 * one.cpu), _number(one.machine.growth), _joules(one))
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


def _forward_tables(cells: Sequence[Cell]) -> tuple[Table, ...]:
    """Return how cascades answered, and the latencies of local and forwarded inputs; empty without a cascade."""
    asking = [(cell, cell.forwards) for cell in cells if cell.forwards is not None and cell.plan.subject.asks]
    counted = tuple(
        (
            f"{_row_name(cell)}, {cell.plan.scenario.words}",
            found.share.percent(),
            ", ".join(f"{reason} {count}" for reason, count in found.reasons.items()),
            f"{found.late}, by {digits(1e3 * found.overshoot)} ms at most" if found.late else "none",
        )
        for cell, found in asking
    )
    apart = tuple(
        (
            f"{_row_name(cell)}, {cell.plan.scenario.words}: {name}",
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


def _network_table(found: Sequence[NetworkFound]) -> Table:
    """Return each profile beside what was measured through it."""
    rows: list[tuple[str, str, str]] = []
    for one in found:
        profile, remote, probed = one.profile, one.remote, one.probed
        round_trip = "not measured" if probed is None else interval(probed.median, 1e3)
        request = failed = "not measured"
        if remote is not None:
            bare, through = interval(remote.bare, 1e3), interval(remote.shaped, 1e3)
            request = f"{_number(remote.added, scale=1e3)} added; {through} through it, {bare} without"
            failed = f"{remote.failed}"
        rows.append((f"{one.name}: round trip, ms", _number(profile.round_trip, scale=1e3), round_trip))
        for name, up in (("up", True), ("down", False)):
            rate = None if probed is None else probed.up if up else probed.down
            specified = _number(profile.goodput(up=up), scale=1e-6)
            rows.append((f"{one.name}: {name}, Mbit/s", specified, _number(rate, scale=1e-6)))
        rows.append((f"{one.name}: a small request, ms", "", request))
        specified = f"{profile.reset_share:.0%} reset; down {profile.outage_share:.0%} of the time"
        rows.append((f"{one.name}: requests that failed", specified, failed))
    return Table(("", "profile", "measured"), tuple(rows))


def _start_table(cells: Sequence[Cell]) -> Table:
    """Return the time before the first answer that counts."""
    first = {_row_name(cell): cell for cell in reversed(cells)}
    rows = tuple(
        (
            name,
            _number(cell.warm_up.session, "ms", 1e3) + ("" if not cell.warm_up.engines else ", stored engines"),
            _number(cell.warm_up.first, "ms", 1e3),
            f"{cell.warm_up.runs} in {_number(cell.warm_up.seconds, 'ms', 1e3)}",
            cell.provider,
        )
        for name, cell in reversed(first.items())
    )
    note = "Measured once, in each subject's first cell, in a new process. None of it counts as latency."
    return Table(("", "session", "first answer", "warm-up answers", "provider"), rows, note)


def _validity_table(cells: Sequence[Cell]) -> Table:
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
    note = "Right: share of the distinct inputs whose answer was their label, with its exact interval."
    return Table(("run", "LoadGen says", "why", "right, %"), rows, note)


def _joules(cell: Cell) -> str:
    found = [(one.sensor, one.per(cell.answers)) for one in cell.machine.energies]
    measured = [f"{digits(1e3 * joules)} mJ, {sensor}" for sensor, joules in found if joules is not None]
    return "; ".join(measured) or "not measured"
