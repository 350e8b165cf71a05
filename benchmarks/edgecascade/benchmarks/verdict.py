"""The result in words and in a table that fits a terminal."""

from __future__ import annotations

from edgecascade.benchmarks.offload import Offload, Strategy

__all__ = ["four_lines", "latency_rows", "summary", "table_rows"]

Row = tuple[str, ...]


def summary(result: Offload) -> str:
    """Both tables, then the four lines, as plain text."""
    return "\n\n".join((_table(table_rows(result)), _table(latency_rows(result)), "\n".join(four_lines(result))))


def four_lines(result: Offload) -> tuple[str, str, str, str]:
    """What a manager wants to know."""
    local, remote, cascade = result.local, result.remote, result.cascade
    return (
        f"Alone, the small model is right on {local.accuracy.percent()} of {result.n} inputs; "
        f"the large one on {remote.accuracy.percent()}.",
        f"Asking the large one about {_percent(cascade.offload.value)} of them gives {cascade.accuracy.percent()}"
        f"{_gap_closed(result)}.",
        _traffic(result),
        _time(result),
    )


def table_rows(result: Offload) -> list[Row]:
    """Strategy, offload rate, accuracy, and how much better the cascade is, in points; with a heading."""
    rows: list[Row] = [("", "offload rate", "accuracy (95 % interval)", "cascade's lead in points (95 % interval)")]
    rows += [(s.name, _percent(s.offload.value), s.accuracy.percent(), _lead(s)) for s in result.strategies]
    return rows


def latency_rows(result: Offload) -> list[Row]:
    """Milliseconds at p50, p90 and p99, with intervals and n; with a heading."""
    rows: list[Row] = [("answers", "n", "p50 ms", "p90 ms", "p99 ms")]
    for name, latency in result.served.latency.items():
        if latency.n:
            cells = [
                f"{q.value * 1e3:.2f} ({q.low * 1e3:.2f} to {q.high * 1e3:.2f})"
                for q in (latency.p50, latency.p90, latency.p99)
            ]
            rows.append((name, str(latency.n), *cells))
    return rows


def _gap_closed(result: Offload) -> str:
    gap = result.remote.accuracy.value - result.local.accuracy.value
    won = result.cascade.accuracy.value - result.local.accuracy.value
    if gap <= 0:
        return ", and the large one is no better than the small one on these inputs"
    return f": {_percent(won / gap, 0)} of the gap, for {_percent(result.cascade.offload.value, 0)} of the requests"


def _traffic(result: Offload) -> str:
    forwarded = result.n - result.served.reasons["confident"]
    stayed = f"{_percent(1 - forwarded / result.n)} of the inputs never left the device"
    if result.served.sent is None or not forwarded:
        return f"{stayed}."
    everything = result.served.sent / forwarded * result.n
    return (
        f"{stayed}: {result.served.sent / 1e6:.2f} MB went out, where asking always would send "
        f"about {everything / 1e6:.2f} MB."
    )


def _time(result: Offload) -> str:
    latency, allowed = result.served.latency["all"], f"{result.served.deadline * 1e3:.0f} ms"
    failed = [
        f"{count} ({reason})"
        for reason, count in result.served.reasons.items()
        if count and reason not in ("confident", "offloaded")
    ]
    ending = f"{', '.join(failed)} kept the local answer" if failed else f"none missed its deadline of {allowed}"
    return (
        f"Half of the answers came within {latency.p50.value * 1e3:.1f} ms, 99 % within "
        f"{latency.p99.value * 1e3:.0f} ms; {ending}."
    )


def _table(rows: list[Row]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _percent(share: float, digits: int = 1) -> str:
    return f"{share * 100:.{digits}f} %"


def _lead(strategy: Strategy) -> str:
    if strategy.gap is None:
        return ""
    gap = strategy.gap
    return f"{gap.value * 100:+.1f} ({gap.low * 100:+.1f} to {gap.high * 100:+.1f})"
