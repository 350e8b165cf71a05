"""The result in words, for whoever reads nothing else."""

from __future__ import annotations

from edgecascade.benchmarks.offload import Offload
from edgecascade.benchmarks.offload_promise import Planned
from edgecascade.benchmarks.offload_tables import Row, latency_rows, percent, summary_tables, table_rows

__all__ = ["four_lines", "latency_rows", "offload_verdict", "summary", "table_rows"]


def summary(result: Offload) -> str:
    """The tables, then the verdict, as plain text of at most 100 columns, but for the sentences."""
    tables = "\n\n".join(_table(rows) for rows in summary_tables(result))
    return "\n\n".join((tables, "\n".join((*_order(result), *_promise(result), *four_lines(result)))))


def offload_verdict(result: Offload) -> tuple[str, ...]:
    """What a manager wants to know: the four lines, what was promised and happened, and what the order is worth."""
    return (*four_lines(result), *_promise(result), *_order(result))


def four_lines(result: Offload) -> tuple[str, str, str, str]:
    """Both models alone, the cascade, what left the device, and how long it took."""
    local, remote, cascade = result.local, result.remote, result.cascade
    return (
        f"Alone, the small model is right on {local.accuracy.percent()} of {result.n} inputs; "
        f"the large one on {remote.accuracy.percent()}.",
        f"Asking the large one about {percent(cascade.offload.value)} of them gives {cascade.accuracy.percent()}"
        f"{_gap_closed(result)}.",
        _traffic(result),
        _time(result),
    )


def _order(result: Offload) -> tuple[str, ...]:
    area = result.areas["advantage"]
    if area is None:
        return (
            "Sending an input changes nothing, or the same for every one: these inputs tell no order from another.",
        )
    found = area.area
    return (
        f"Between random offloading (0) and knowing all answers (1), the planned order is worth {found.value:.2f} "
        f"({found.low:.2f} to {found.high:.2f}).",
    )


_OUTCOMES = {
    "kept": "on these inputs the promise is kept",
    "broken": "on these inputs the promise is broken, beyond noise",
    "cannot tell": "these inputs cannot tell whether the promise is kept",
}


def _promise(result: Offload) -> tuple[str, ...]:
    promised = result.promised
    sentences = [_planned(one) for one in promised.plan if one.change.low > 0 or one.change.high < 0]
    if promised.loss is not None and promised.risk is not None:
        found = promised.measured
        sentences.append(
            f"Promised: a loss against asking the large model always of at most {promised.loss * 100:.1f} points "
            f"(risk {promised.risk:.4g}); measured {found.value * 100:+.1f} ({found.low * 100:+.1f} to "
            f"{found.high * 100:+.1f}), n = {found.n}: {_OUTCOMES[promised.outcome]}."
        )
    return tuple(sentences)


def _planned(one: Planned) -> str:
    return (
        f"Planned {one.name}: {one.plan.percent()} on {one.plan.n} inputs; here {one.here.percent()}, "
        f"{one.change.value * 100:+.1f} points, beyond noise: these inputs are not like those of the calibration."
    )


def _gap_closed(result: Offload) -> str:
    gap = result.remote.accuracy.value - result.local.accuracy.value
    won = result.cascade.accuracy.value - result.local.accuracy.value
    if gap <= 0:
        return ", and the large one is no better than the small one on these inputs"
    if won > gap:
        return ", more than either of them alone"
    return f": {percent(won / gap, 0)} of the gap, for {percent(result.cascade.offload.value, 0)} of the requests"


def _traffic(result: Offload) -> str:
    saved = result.savings
    stayed = f"{percent(1 - saved.offload.value)} of the inputs never left the device"
    if result.served.sent is None or saved.always_out is None:
        return f"{stayed}."
    always = saved.always_out
    return (
        f"{stayed}: {result.served.sent / 1e6:.2f} MB went out, where asking always would send "
        f"about {always.value / 1e6:.2f} MB."
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
        f"Half of the answers came within {latency.p50.value * 1e3:.3g} ms, 99 % within "
        f"{latency.p99.value * 1e3:.3g} ms; {ending}."
    )


def _table(rows: list[Row]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
