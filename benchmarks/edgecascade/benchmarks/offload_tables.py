"""The result in tables that fit a terminal: rows of text, the first of them the heading."""

from __future__ import annotations

from edgecascade.benchmarks.digits import interval
from edgecascade.benchmarks.offload import Offload
from edgecascade.benchmarks.offload_savings import INPUTS
from edgecascade.benchmarks.offload_strategies import Strategy
from edgecascade.types.estimate import Estimate

__all__ = [
    "Row",
    "area_rows",
    "latency_rows",
    "percent",
    "plan_rows",
    "savings_rows",
    "summary_tables",
    "table_rows",
]

Row = tuple[str, ...]

_RULES = {
    "calibrated confidence": "confidence",
    "confidence": "raw confidence",
    "advantage": "advantage (the plan)",
}


def summary_tables(result: Offload) -> list[list[Row]]:
    """All tables that have a row beside their heading."""
    every = (table_rows, area_rows, savings_rows, plan_rows, latency_rows)
    return [rows for rows in (make(result) for make in every) if len(rows) > 1]


def table_rows(result: Offload) -> list[Row]:
    """Strategy, offload rate, accuracy, and how much better the cascade is, in points."""
    rows: list[Row] = [("", "offload", "accuracy (95 %)", "cascade's lead, points")]
    rows += [(s.name, percent(s.offload.value), s.accuracy.percent(), _lead(s)) for s in result.strategies]
    return rows


def area_rows(result: Offload) -> list[Row]:
    """Rule, area between random and oracle, and how much larger the plan's is."""
    rows: list[Row] = [("order", "area, 0 random to 1 oracle (95 %)", "plan's lead (95 %)")]
    for name, area in result.areas.items():
        label = _RULES.get(name, name.replace("advantage, ", "advantage, merge "))
        if area is None:
            rows.append((label, "none: sending changes nothing, or all alike", ""))
        else:
            lead = "" if area.lead is None else _plain(area.lead, 3, signed=True)
            rows.append((label, _plain(area.area, 3), lead))
    return rows


def savings_rows(result: Offload) -> list[Row]:
    """What the cascade sent and paid, and what asking always would."""
    saved, served, n = result.savings, result.served, result.n
    rows: list[Row] = [("", "cascade", "asking always (95 %)")]
    rows.append(("forwarded inputs", saved.offload.percent(), "100 %"))
    if served.sent is None or served.received is None:
        rows.append(("bytes", "not measured: this remote counts none", "not measured"))
    elif saved.always_out is not None and saved.always_in is not None:
        rows.append((f"MB sent, {n} inputs", f"{served.sent / 1e6:.3f}", _plain(saved.always_out, 3, 1e-6)))
        rows.append((f"MB received, {n} inputs", f"{served.received / 1e6:.3f}", _plain(saved.always_in, 3, 1e-6)))
    if saved.spent is not None and saved.spent_always is not None:
        rows.append((f"cost, {INPUTS:,} inputs", _plain(saved.spent, 2), f"{saved.spent_always:.2f}"))
    return rows


def plan_rows(result: Offload) -> list[Row]:
    """What the file says of itself, and what happened."""
    rows: list[Row] = [("", "by the file (95 %)", "here (95 %)", "change, points")]
    for one in result.promised.plan:
        change = _plain(one.change, 1, 100, signed=True)
        rows.append((one.name, one.plan.percent(), one.here.percent(), change))
    promised = result.promised
    measured = _plain(promised.measured, 1, 100, signed=True)
    bound = "no promise" if promised.loss is None else f"at most {promised.loss * 100:.1f}, risk {promised.risk:.4g}"
    rows.append(("loss against the remote, points", bound, measured, promised.outcome.replace("none", "")))
    return rows


def latency_rows(result: Offload) -> list[Row]:
    """Milliseconds at p50, p90 and p99, with intervals and n."""
    rows: list[Row] = [("answers", "n", "p50 ms", "p90 ms", "p99 ms")]
    for name, latency in result.served.latency.items():
        if latency.n:
            cells = [interval(q, 1e3) for q in (latency.p50, latency.p90, latency.p99)]
            rows.append((name, str(latency.n), *cells))
    return rows


def percent(share: float, digits: int = 1) -> str:
    """As a percentage."""
    return f"{share * 100:.{digits}f} %"


def _lead(strategy: Strategy) -> str:
    return "" if strategy.gap is None else _plain(strategy.gap, 1, 100, signed=True)


def _plain(estimate: Estimate, digits: int, factor: float = 1.0, *, signed: bool = False) -> str:
    value, low, high = (
        f"{number * factor:{'+' if signed else ''}.{digits}f}"
        for number in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} ({low} to {high})"
