"""The table of the built-in pairs in docs/benchmarks.md, from their committed results."""

from __future__ import annotations

import sys
import textwrap
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgecascade.benchmarks.report import digits, read_result
from edgecascade.export.writing import write_whole
from edgecascade.types.errors import BenchmarkError

__all__ = ["MARKERS", "main", "readme_table", "with_table"]

MARKERS = ("<!-- results -->", "<!-- /results -->")
_PAIRS = {
    "flagship": "small > large",
    "comparable": "comparable",
    "fashion-mnist": "Fashion-MNIST",
    "languages": "languages",
}
_CERTIFIED = "-certified"  # after a pair's name: the folder of a run with `--certify`
_BASELINE = "lowest raw confidence, same rate"
_HEADING = ("pair", "n", "local", "remote", "cascade", "offload", "raw conf.", "MB sent", "p50 / p99 ms")
_NOTE = """\
Right answers in %, ± the longer arm of the 95 % interval. Raw conf.: the inputs of lowest uncalibrated confidence, as
many as the cascade sent. MB sent: by the cascade, of what asking always would send. p50, p99: from call to answer, all
inputs. All intervals: `benchmarks/results/*/summary.txt`."""
_UNMEASURED = "not measured"
_NEXT = ";\n"


def readme_table(results: Path) -> str:
    """Return Markdown: a row for each built-in pair with a result, the meaning of the columns, and the machine.

    Args:
        results: The folder with a folder for each pair.

    Raises:
        BenchmarkError: There is no result, or one of them lacks a figure of the table.
    """
    rows, machines, certificates = [], [], dict[str, tuple[str, str]]()
    certified = {f"{pair}{_CERTIFIED}": f"{title}, certified" for pair, title in _PAIRS.items()}
    for folder, title in {**_PAIRS, **certified}.items():
        path = results / folder / "result.json"
        if path.exists():
            cells, machine, certificate = _read(path)
            rows.append((title, *cells))
            machines.append(machine)
            if folder in certified:
                if certificate is None:
                    raise BenchmarkError(f"{path}: expected a model with a certificate (`--certify`), got one without")
                certificates[_PAIRS[folder.removesuffix(_CERTIFIED)]] = certificate
    if not rows:
        raise BenchmarkError(f"{results}: expected a result.json in at least one of {', '.join(_PAIRS)}")
    return "\n".join(
        (
            *_markdown((_HEADING, *rows)),
            "",
            _NOTE,
            *_certified(certificates),
            f"Measured on {_NEXT.join(dict.fromkeys(machines))}.",
        )
    )


def with_table(text: str, table: str) -> str:
    """Return a page with the table between its two markers.

    Raises:
        BenchmarkError: The page does not have both markers once and in order.
    """
    opening, closing = MARKERS
    before, _, rest = text.partition(opening)
    _, _, after = rest.partition(closing)
    if text.count(opening) != 1 or text.count(closing) != 1 or closing in before:
        raise BenchmarkError(f"page: expected {opening} and then {closing}, once each")
    return f"{before}{opening}\n{table}\n{closing}{after}"


def _read(path: Path) -> tuple[tuple[str, ...], str, tuple[str, str] | None]:
    """Return the cells after the first, the machine, and what the certificate says, if there is one."""
    document = read_result(path)
    try:
        offload = document["offload"]
        return _cells(offload), _machine(document["environment"]), _certificate(offload)
    except (KeyError, TypeError, AttributeError) as error:
        raise BenchmarkError(f"{path}: expected the result of an offload benchmark, but: {error}") from error


def _cells(offload: dict[str, Any]) -> tuple[str, ...]:
    by_name = {row["name"]: row for row in offload["strategies"]}
    local, remote, cascade, raw = (
        _percent(by_name[name]["accuracy"]) for name in ("local only", "remote only", "cascade", _BASELINE)
    )
    rate = f"{by_name['cascade']['offload']['value'] * 100:.1f} %"
    served = offload.get("served")
    return (f"{offload['n']:,}", local, remote, cascade, rate, raw, _sent(served, offload["n"]), _latency(served))


def _certificate(offload: dict[str, Any]) -> tuple[str, str] | None:
    """Return what the file certifies, and what happened."""
    check = offload.get("plan_check") or {}
    if check.get("loss") is None:
        return None
    risk = f"{check['risk']:.0%}".replace("%", " %")
    asked = f"at most {100 * check['loss']:.1f} points of accuracy, with a risk of {risk}"
    return asked, f"{_signed(check['measured'])}, {check['outcome']}"


def _certified(certificates: dict[str, tuple[str, str]]) -> list[str]:
    """Return the sentence about certified runs, in lines."""
    if not certificates:
        return []
    asked = dict.fromkeys(asked for asked, _ in certificates.values())
    happened = (f"{title} {outcome}" for title, (_, outcome) in certificates.items())
    text = (
        "Certified: planned (`--certify`) for the least offload that loses, against asking always, "
        f"{' or '.join(asked)}. Loss measured, in points: {'; '.join(happened)}."
    )
    return textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)


def _signed(estimate: dict[str, Any]) -> str:
    value, low, high = (f"{100 * estimate[end]:+.1f}" for end in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _percent(estimate: dict[str, Any]) -> str:
    value = estimate["value"]
    return f"{value * 100:.1f} ± {max(value - estimate['low'], estimate['high'] - value) * 100:.1f}"


def _sent(served: dict[str, Any] | None, n: int) -> str:
    """Return megabytes sent and those of always asking, by the mean of a forwarded input."""
    if served is None or served.get("sent") is None:
        return _UNMEASURED
    forwarded = n - served["reasons"]["confident"]
    if not forwarded:
        return _UNMEASURED
    sent = served["sent"] / 1e6
    return f"{sent:.2f} of {sent / forwarded * n:.2f}"


def _latency(served: dict[str, Any] | None) -> str:
    every = (served or {}).get("latency", {}).get("all")
    quantiles = [(every.get(name) or {}).get("value") for name in ("p50", "p99")] if every else [None]
    if None in quantiles:
        return _UNMEASURED
    return " / ".join(digits(value * 1e3) for value in quantiles if value is not None)


def _machine(environment: dict[str, Any]) -> str:
    memory = environment.get("memory_gib")
    size = f", {memory:.0f} GiB" if memory else ""
    return (
        f"{environment['processor']}, {environment['cores']} cores{size}, {environment['system']}, "
        f"onnxruntime {environment['versions']['onnxruntime']}, {environment['date']}"
    )


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return padded lines, legible in a terminal; names on the left, figures on the right."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [_line(row, widths) for row in rows]
    rule = "|".join(("-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])))
    return [lines[0], f"|{rule}|", *lines[1:]]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    figures = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
    return f"| {' | '.join((row[0].ljust(widths[0]), *figures))} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print, check or write the table; return 1 if --check finds another one."""
    parser = ArgumentParser(prog="python -m studies.readme_table", description=__doc__)
    parser.add_argument(
        "--results", type=Path, default=Path("benchmarks/results"), metavar="DIR", help="A folder for each pair."
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--check", type=Path, metavar="PAGE", help="Exit with 1 if this page has another table.")
    where.add_argument("--write", type=Path, metavar="PAGE", help="Write the table between the markers of this page.")
    asked = parser.parse_args(arguments)
    table = readme_table(asked.results)
    page = asked.check or asked.write
    if page is None:
        print(table)
        return 0
    text = page.read_text(encoding="utf-8")
    wanted = with_table(text, table)
    if text == wanted:
        return 0
    if asked.check:
        print(f"{page}: expected the table of {asked.results}; run `readme_table --write {page}`", file=sys.stderr)
        return 1
    write_whole(wanted.encode(), page)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
