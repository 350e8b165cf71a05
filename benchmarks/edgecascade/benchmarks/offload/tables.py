"""The tables and sentences that the reports of classification and of general tasks share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgecascade.benchmarks.offload.curves import Area
from edgecascade.benchmarks.offload.plan_check import PlanCheck, Planned
from edgecascade.benchmarks.offload.served import Served
from edgecascade.benchmarks.offload.strategies import INPUTS, Savings, Strategy
from edgecascade.benchmarks.report.contents import Table, fixed, interval, percent

__all__ = [
    "Row",
    "area_rows",
    "latency_rows",
    "order_findings",
    "plan_findings",
    "plan_rows",
    "savings_rows",
    "strategy_rows",
    "table",
    "text_table",
]

Row = tuple[str, ...]

_RULES = {
    "calibrated confidence": "confidence",
    "confidence": "raw confidence",
    "advantage": "advantage (the plan)",
}
_OUTCOMES = {
    "held": "on these inputs it holds",
    "violated": "on these inputs it is violated, beyond noise",
    "inconclusive": "these inputs are too few to tell",
}


def strategy_rows(strategies: Sequence[Strategy], measure: str = "accuracy") -> list[Row]:
    """Return a row for each strategy: offload rate, accuracy or another measure, and the lead of the cascade."""
    rows: list[Row] = [("", "offload", f"{measure} (95 %)", "cascade's lead, points")]
    for one in strategies:
        lead = "" if one.gap is None else fixed(one.gap, 1, 100, signed=True)
        rows.append((one.name, percent(one.offload.value), one.accuracy.percent(), lead))
    return rows


def area_rows(areas: Mapping[str, Area | None]) -> list[Row]:
    """Return a row for each order of the inputs, with the area under its curve."""
    rows: list[Row] = [("order", "area, 0 random to 1 oracle (95 %)", "plan's lead (95 %)")]
    for name, area in areas.items():
        label = _RULES.get(name, name.replace("advantage, ", "advantage, merge "))
        if area is None:
            rows.append((label, "none: forwarding changes nothing, or all alike", ""))
        else:
            rows.append((label, fixed(area.area, 3), "" if area.lead is None else fixed(area.lead, 3, signed=True)))
    return rows


def plan_rows(check: PlanCheck) -> list[Row]:
    """Return the plan's figures beside what happened, and the loss against always asking the remote."""
    rows: list[Row] = [("", "by the file (95 %)", "here (95 %)", "change, points")]
    rows += [
        (one.name, one.plan.percent(), one.here.percent(), fixed(one.change, 1, 100, signed=True)) for one in check.plan
    ]
    bound = "no certificate" if check.loss is None else f"at most {check.loss * 100:.1f}, risk {check.risk:.4g}"
    outcome = "" if check.outcome == "none" else check.outcome
    rows.append(("loss against the remote, points", bound, fixed(check.measured, 1, 100, signed=True), outcome))
    return rows


def order_findings(areas: Mapping[str, Area | None]) -> tuple[str, ...]:
    """Return a sentence about the value of the planned order."""
    area = areas["advantage"]
    if area is None:
        return ("Forwarding changes nothing, or the same for every input: no order is better than another here.",)
    return (
        f"Between random offloading (0) and the oracle (1), the planned order reaches {area.area.value:.2f} "
        f"({area.area.low:.2f} to {area.area.high:.2f}).",
    )


def plan_findings(check: PlanCheck) -> tuple[str, ...]:
    """Return sentences about estimates of the plan that differ from what happened, and about the certificate."""
    sentences = [_differs(one) for one in check.plan if one.change.low > 0 or one.change.high < 0]
    if check.loss is not None and check.risk is not None:
        sentences.append(
            f"Certified: a loss against always asking the remote of at most {check.loss * 100:.1f} points "
            f"(risk {check.risk:.4g}); measured {fixed(check.measured, 1, 100, signed=True)}, "
            f"n = {check.measured.n}: {_OUTCOMES[check.outcome]}."
        )
    return tuple(sentences)


def _differs(one: Planned) -> str:
    return (
        f"Planned {one.name}: {one.plan.percent()} on {one.plan.n} inputs; here {one.here.percent()}, "
        f"{one.change.value * 100:+.1f} points, beyond noise: these inputs may differ from those of the calibration."
    )


def savings_rows(saved: Savings, served: Served, n: int) -> list[Row]:
    """Return the traffic and the cost of the cascade beside those of always asking."""
    rows: list[Row] = [("", "cascade", "always asking (95 %)")]
    rows.append(("forwarded inputs", saved.offload.percent(), "100 %"))
    if served.sent is None or served.received is None:
        rows.append(("bytes", "not measured: not counted by this remote", "not measured"))
    elif saved.always_out is not None and saved.always_in is not None:
        rows.append((f"MB sent, {n} inputs", f"{served.sent / 1e6:.3f}", fixed(saved.always_out, 3, 1e-6)))
        rows.append((f"MB received, {n} inputs", f"{served.received / 1e6:.3f}", fixed(saved.always_in, 3, 1e-6)))
    if saved.spent is not None and saved.spent_always is not None:
        rows.append((f"cost, {INPUTS:,} inputs", fixed(saved.spent, 2), f"{saved.spent_always:.2f}"))
    return rows


def latency_rows(served: Served) -> list[Row]:
    """Return the latencies of all, local and forwarded answers in milliseconds."""
    rows: list[Row] = [("answers", "n", "p50 ms", "p90 ms", "p99 ms")]
    for name, latency in served.latency.items():
        cells = [interval(q, 1e3) for q in (latency.p50, latency.p90, latency.p99)]
        rows.append((name, str(latency.n), *cells))
    return rows


def table(rows: list[Row], note: str, title: str = "") -> Table:
    """Return rows, of which the first holds the headings, as a table of the page."""
    return Table(rows[0], tuple(rows[1:]), note, title)


def text_table(rows: list[Row]) -> str:
    """Return rows as aligned plain text."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
