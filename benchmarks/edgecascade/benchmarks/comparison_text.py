"""A comparison in words, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from edgecascade.benchmarks.circumstances import Circumstances
from edgecascade.benchmarks.compare import Change, Comparison, Verdict
from edgecascade.benchmarks.direction import depends_on_machine
from edgecascade.benchmarks.found import Place, where

__all__ = ["comparison_text"]

_ORDER: tuple[Verdict, ...] = ("worse", "better", "changed", "same")
_MOST_PLACES = 8


def comparison_text(found: Comparison, circumstances: Circumstances, *, everything: bool = False) -> str:
    """Circumstances, then what changed, then what could not be compared.

    Args:
        found: what changed.
        circumstances: under which.
        everything: whether to list what did not change, too.
    """
    shown = [change for verdict in _ORDER if everything or verdict != "same" for change in found.of(verdict)]
    parts = [
        _circumstances(found, circumstances),
        [_headline(found)],
        _lines(shown),
        _footnotes(found, circumstances),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _circumstances(found: Comparison, circumstances: Circumstances) -> list[str]:
    lines = []
    if circumstances.machine:
        lines.append(f"NOT THE SAME MACHINE: {'; '.join(circumstances.machine)}.")
        if any(depends_on_machine(change.place) for change in found.changes):
            lines.append("Times, speeds, memory and energy below compare these machines, not what ran on them.")
    if circumstances.software:
        lines.append(f"Other software: {'; '.join(circumstances.software)}.")
    if circumstances.untold:
        lines.append(f"Told of one run only, so not compared: {', '.join(circumstances.untold)}.")
    if circumstances.same_command is False:
        lines.append("The runs were made by different commands.")
    return lines


def _headline(found: Comparison) -> str:
    if not found.changes:
        return "The results have no figure in common that has an interval."
    counts = ", ".join(f"{len(found.of(verdict))} {verdict}" for verdict in _ORDER[:3])
    return f"{len(found.changes)} figures in both: {counts}, {len(found.of('same'))} within noise."


def _lines(changes: Sequence[Change]) -> list[str]:
    rows = [
        (
            change.verdict,
            where(change.place),
            f"{change.before.value:.4g} > {change.after.value:.4g}",
            f"{change.difference.value:+.3g} ({change.difference.low:+.3g} to {change.difference.high:+.3g})",
            f"n = {_counts(change)}",
        )
        for change in changes
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    return [
        "  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1])) for row in rows
    ]


def _counts(change: Change) -> str:
    old, new = change.before.n, change.after.n
    return str(new) if old == new else f"{old} > {new}"


def _footnotes(found: Comparison, circumstances: Circumstances) -> list[str]:
    lines = []
    if found.changes:
        lines.append(
            f"A change is what Holm's method lets pass at 5 % over all {len(found.changes)} figures: if nothing had "
            "changed, 95 of 100\nsuch comparisons would show no change at all. In brackets the 95 % interval of each "
            "difference by itself, of runs\ntaken as independent. What differs between whole runs (heat, another "
            "process) is in no interval."
        )
        alone = sum(change.alone for change in found.of("same"))
        if alone:
            lines.append(f"Within noise are {alone} whose own interval leaves out 0: so many figures, so many chances.")
        if _same_inputs(found, circumstances):
            lines.append(
                "Both seem to be of the same inputs. Intervals paired by input would be narrower: a difference within "
                "noise here may\nbe a change there."
            )
    for name, places in (("first", found.only_before), ("second", found.only_after)):
        if places:
            lines.append(f"Only in the {name}: {_listed(places)}.")
    return lines


def _same_inputs(found: Comparison, circumstances: Circumstances) -> bool:
    """By the command, if both tell it; or else no share of right answers rests on another number of inputs."""
    right = [change for change in found.changes if "accuracy" in change.place[-1]]
    return circumstances.same_command is not False and bool(right) and all(c.before.n == c.after.n for c in right)


def _listed(places: Sequence[Place]) -> str:
    more = len(places) - _MOST_PLACES
    named = "; ".join(where(place) for place in places[:_MOST_PLACES])
    return f"{named}; and {more} more" if more > 0 else named
