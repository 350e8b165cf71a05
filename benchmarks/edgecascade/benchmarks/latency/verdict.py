"""A latency run in a few sentences, and as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from edgecascade.benchmarks.latency.cell import Cell
from edgecascade.benchmarks.latency.loadgen import METHOD
from edgecascade.benchmarks.latency.plan import DIRECT
from edgecascade.benchmarks.latency.run import LatencyRun
from edgecascade.benchmarks.latency.scenario import Scenario
from edgecascade.benchmarks.latency.sections import latency_sections
from edgecascade.benchmarks.latency.subject import Kind
from edgecascade.benchmarks.latency.words import milliseconds
from edgecascade.benchmarks.report.contents import Table
from edgecascade.runtime.providers import PROVIDERS

__all__ = ["latency_summary", "latency_verdict"]


def latency_verdict(run: LatencyRun) -> tuple[str, ...]:
    """What to know if nothing else is read: medians and tails of single stream, forwards, providers, validity."""
    single = [cell for cell in run.cells if cell.plan.scenario is Scenario.SINGLE_STREAM]
    here = [_said(cell) for cell in single if not cell.plan.subject.asks]
    found = [f"On the device alone, one after the other: {'; '.join(here)}."] if here else []
    for network in run.request.networks:
        asking = [cell for cell in single if cell.plan.subject.asks and cell.plan.network == network]
        found += [f"{_over(network)}: {'; '.join(map(_said, asking))}."] if asking else []
    found += _drift(single)
    found += _fallbacks(run.cells)
    valid = sum(cell.verdict.valid for cell in run.cells)
    found.append(f"LoadGen calls {valid} of {len(run.cells)} runs valid. {METHOD}")
    if run.reused:
        found.append(f"{run.reused} finished parts were taken over from an earlier run into the same folder.")
    return tuple(found)


def latency_summary(run: LatencyRun) -> str:
    """Verdict and tables as they are printed and kept."""
    parts = ["\n".join(latency_verdict(run))]
    for section in latency_sections(run):
        tables = "\n\n".join(_text(table) for table in section.tables)
        parts.append("\n\n".join(part for part in (section.title.upper(), "\n".join(section.text), tables) if part))
    return "\n\n".join(parts)


def _over(network: str) -> str:
    return "With the remote on this machine" if network == DIRECT else f"With the remote behind {network}"


def _said(cell: Cell) -> str:
    half, most = (milliseconds(cell.latency, name) for name in ("p50", "p99"))
    known = cell.latency is not None and cell.latency.at("p99") is not None
    within = f"{cell.plan.subject.value} gives half of its answers within {half} ms, " + (
        f"99 % within {most} ms, n = {cell.answers}" if known else f"99 % not known from n = {cell.answers}"
    )
    if cell.plan.subject is not Kind.CASCADE:
        return within
    assert cell.forwards is not None
    late = f"{cell.forwards.late} after their deadline" if cell.forwards.late else "none late"
    return f"{within}, {cell.forwards.share.percent()} forwarded, {late}"


def _drift(single: Sequence[Cell]) -> list[str]:
    """Said aloud: a part that came out slower than the whole was measured while the machine was slower."""
    half = {cell.plan.subject: cell.latency.at("p50") for cell in single if cell.latency is not None}
    part, whole = half.get(Kind.ALONE), half.get(Kind.LOCAL)
    if part is None or whole is None or part.low <= whole.high:
        return []
    return [
        f"The model alone took {part.value / whole.value:.2f} times as long as the local path that it is part of: "
        "this machine's speed changed between the runs, and rows that differ by no more than that cannot be told apart."
    ]


def _fallbacks(cells: Sequence[Cell]) -> list[str]:
    """Said aloud: what was asked for and does not run."""
    asked = {(cell.plan.providers[0], cell.provider) for cell in cells if cell.plan.providers not in ((), ("auto",))}
    return [
        f"Asked for {one}, and {got} ran instead: these are not {one}'s figures."
        for one, got in sorted(asked)
        if PROVIDERS.get(one.lower(), one) != got
    ]


def _text(table: Table) -> str:
    rows = [table.columns, *table.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *([table.note] if table.note else [])])
