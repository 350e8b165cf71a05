"""A latency run as findings, as sections of a report with a picture, and as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgecascade.benchmarks.latency.cell import QUANTILES, Cell
from edgecascade.benchmarks.latency.loadgen import METHOD
from edgecascade.benchmarks.latency.plan import DIRECT, Scenario, Subject
from edgecascade.benchmarks.latency.run import SHARE, LatencyRun
from edgecascade.benchmarks.latency.systems import CALLS
from edgecascade.benchmarks.latency.tables import (
    cost_table,
    forward_tables,
    latency_table,
    milliseconds,
    network_table,
    number,
    row_name,
    start_table,
    validity_table,
)
from edgecascade.benchmarks.report.contents import Figure, Section, Table
from edgecascade.benchmarks.report.formats import STYLE, svg_of
from edgecascade.runtime.providers import PROVIDERS

__all__ = ["latency_findings", "latency_sections", "latency_summary"]

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
    found = [_latency(run), Section("Throughput and cost", tables=tuple(cost_table(one, cells) for one in present))]
    if tables := forward_tables(cells):
        text = f"The cascade had {run.request.deadline:g} s for each answer; remote only waits longer if it must."
        found.append(Section("Local and forwarded", (text, *run.notes), tables=tables))
    if run.networks:
        text = (
            "The remote's traffic went through a proxy on this machine that shapes it. Round trip and rates are those "
            "of single messages and of transfers to a server of the probe's own. A small request to the remote takes "
            "longer, probably because it is sent in several segments, of which the last one counts."
        )
        paragraphs = (text, *(f"{one.name}: {one.profile.why}." for one in run.networks))
        found.append(Section("Network", paragraphs, tables=(network_table(run.networks),)))
    found.append(Section("Before the first answer", tables=(start_table(cells),)))
    found.append(Section("The machine", _machine(cells)))
    trust = [METHOD]
    if run.agreement is not None:
        agrees = "agrees" if run.agreement.met else "does NOT agree"
        trust.append(f"The harness {agrees} with a bare loop within 5 % or 10 us per query. {run.agreement}.")
    found.append(Section("How far to trust this", tuple(trust), tables=(validity_table(cells),)))
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
    return Section("Latency", tuple(text), figures, tuple(latency_table(one, run.cells) for one in present))


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
        f"{c.name} {number(c.megahertz, 'MHz')} of {number(c.maximum_megahertz, 'MHz')}" for c in board.clocks
    )
    return (
        f"Board: {board.model or 'not measured'}; JetPack: {board.jetpack or 'not reported'}; "
        f"power mode: {board.power_mode or 'not measured'}; clocks before: {clocks or 'not measured'}; "
        f"hottest zone before: {number(state.celsius, 'degrees Celsius')}.",
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
    axis.set_yticks(range(len(cells)), [row_name(cell) for cell in cells])
    axis.set_ylim(len(cells) - 0.5, -0.5)
    axis.grid(alpha=0.25, axis="x")


def _text(table: Table) -> str:
    rows = [table.columns, *table.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *([table.note] if table.note else [])])
