"""A latency run in a few sentences, and as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from edgecascade.benchmarks.latency.cell import Cell
from edgecascade.benchmarks.latency.loadgen import METHOD
from edgecascade.benchmarks.latency.run import LatencyRun
from edgecascade.benchmarks.latency.scenario import Scenario
from edgecascade.benchmarks.latency.sections import latency_sections
from edgecascade.benchmarks.latency.subject import Kind
from edgecascade.benchmarks.latency.tables import who
from edgecascade.benchmarks.latency.words import digits, milliseconds
from edgecascade.benchmarks.section import Table
from edgecascade.runtime.providers import PROVIDERS

__all__ = ["latency_summary", "latency_verdict"]


def latency_verdict(run: LatencyRun) -> tuple[str, ...]:
    """What to know if nothing else is read: medians and tails of single stream, forwards, providers, validity."""
    single = [cell for cell in run.cells if cell.plan.scenario is Scenario.SINGLE_STREAM]
    found = [
        f"{who(cell)}: {_said(cell, 'p50')}, {_said(cell, 'p99')}, "
        f"{digits(cell.throughput)} answers/s in single stream (n = {cell.answers})."
        for cell in single
    ]
    found += [_forwarded(cell) for cell in single if cell.plan.subject is Kind.CASCADE]
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


def _said(cell: Cell, name: str) -> str:
    known = cell.latency is not None and cell.latency.at(name) is not None
    return f"{name} {milliseconds(cell.latency, name)} ms" if known else f"{name} not known from so few"


def _forwarded(cell: Cell) -> str:
    assert cell.forwards is not None
    late = f"{cell.forwards.late} answers came after the deadline" if cell.forwards.late else "no answer came late"
    share = cell.forwards.share
    return f"The cascade ({cell.plan.network}) forwarded {share.percent()} of {share.n} answers; {late}."


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
