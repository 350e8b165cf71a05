"""The comparison of two results: which figures changed beyond noise, and how the runs themselves differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgecascade.benchmarks.report.estimates import (
    Found,
    Place,
    difference,
    find_estimates,
    freedom,
    holm,
    surprise,
    where,
)
from edgecascade.types.estimate import Estimate

__all__ = ["Change", "Circumstances", "Comparison", "Outcome", "compare_results", "comparison_text"]

Outcome = Literal["worse", "better", "changed", "same"]
_ORDER: tuple[Outcome, ...] = ("worse", "better", "changed", "same")
_RISK = 0.05
_FEWEST = 2  # a single run has no spread
_MOST_PLACES = 8
_MOVING = frozenset({"date", "megahertz"})  # these differ from run to run and say nothing
_SOFTWARE = frozenset({"python", "versions", "kernel", "libc", "thread_variables"})


@dataclass(frozen=True)
class Change:
    """One figure that both results have.

    Attributes:
        place: Its place in both.
        before: The estimate in the first.
        after: The estimate in the second.
        difference: After minus before, with a 95 % interval of its own; for independent runs.
        p: The p value, adjusted for the number of figures compared by Holm's method.
        outcome: "same" unless the adjusted p is at most .05; "changed" where neither result says which way is better.
    """

    place: Place
    before: Estimate
    after: Estimate
    difference: Estimate
    p: float
    outcome: Outcome

    @property
    def alone(self) -> bool:
        """Whether its own interval excludes 0: a change, if it were the only figure."""
        return self.difference.low > 0 or self.difference.high < 0


@dataclass(frozen=True)
class Circumstances:
    """What differs between the two runs; each entry is a line such as "cores: 2 > 4".

    Attributes:
        machine: The hardware and its settings.
        software: Versions.
        untold: What only one of the results says.
        same_command: Whether both ran the same command; None if one of them does not say.
    """

    machine: tuple[str, ...]
    software: tuple[str, ...]
    untold: tuple[str, ...]
    same_command: bool | None


@dataclass(frozen=True)
class Comparison:
    """Two results side by side.

    Attributes:
        changes: Every figure that both have with an interval, in the order of the first.
        only_before: Figures that the second does not have, or has no number for.
        only_after: Figures that the first does not have, or has no number for.
        circumstances: How the runs differ.
    """

    changes: tuple[Change, ...]
    only_before: tuple[Place, ...]
    only_after: tuple[Place, ...]
    circumstances: Circumstances

    def of(self, outcome: Outcome) -> tuple[Change, ...]:
        """Return the figures with one outcome."""
        return tuple(change for change in self.changes if change.outcome == outcome)


def compare_results(before: dict[str, Any], after: dict[str, Any]) -> Comparison:
    """Compare two documents, as `read_result` returns them.

    Raises:
        BenchmarkError: One of them is nested too deeply.
    """
    first, second = (
        {place: one for place, one in find_estimates(document).items() if one.estimate.n >= _FEWEST}
        for document in (before, after)
    )
    both = [place for place in first if place in second]
    adjusted = holm([_surprise(first[place], second[place]) for place in both])
    return Comparison(
        changes=tuple(_change(place, first[place], second[place], p) for place, p in zip(both, adjusted, strict=True)),
        only_before=tuple(place for place in first if place not in second),
        only_after=tuple(place for place in second if place not in first),
        circumstances=_compare_circumstances(before, after),
    )


def _surprise(before: Found, after: Found) -> float:
    freedoms = freedom(before.estimate.n, before.quantile), freedom(after.estimate.n, after.quantile)
    return surprise(before.estimate, after.estimate, freedoms)


def _change(place: Place, before: Found, after: Found, p: float) -> Change:
    pair = before.estimate, after.estimate
    told = {one for one in (before.better, after.better) if one}
    outcome: Outcome = "changed"
    if p > _RISK:
        outcome = "same"
    elif len(told) == 1:
        rose = pair[1].value > pair[0].value
        outcome = "better" if rose == (told == {"higher"}) else "worse"
    return Change(place, *pair, difference(*pair), p, outcome)


def _compare_circumstances(before: dict[str, Any], after: dict[str, Any]) -> Circumstances:
    first, second = (_flat(document["environment"]) for document in (before, after))
    differ = {name: f"{name}: {old} > {second[name]}" for name, old in first.items() if second.get(name, old) != old}
    commands = [document.get("command") for document in (before, after)]
    return Circumstances(
        machine=tuple(line for name, line in differ.items() if name.partition(" ")[0] not in _SOFTWARE),
        software=tuple(line for name, line in differ.items() if name.partition(" ")[0] in _SOFTWARE),
        untold=tuple(sorted(first.keys() ^ second.keys())),
        same_command=None if None in commands else commands[0] == commands[1],
    )


def _flat(environment: dict[str, Any]) -> dict[str, str]:
    """Return value by name, versions one by one, without what is not told."""
    flat: dict[str, str] = {}
    for name, value in environment.items():
        if isinstance(value, dict):
            flat.update({f"{name} {key}": str(one) for key, one in value.items() if one is not None})
        elif value is not None and name not in _MOVING:
            flat[name] = f"{value:.0f}" if isinstance(value, float) else str(value)
    return flat


def comparison_text(found: Comparison, *, everything: bool = False) -> str:
    """Return the comparison as text: circumstances, what changed, and what could not be compared.

    Args:
        found: The comparison.
        everything: Whether to list also what did not change.
    """
    shown = [change for outcome in _ORDER if everything or outcome != "same" for change in found.of(outcome)]
    parts = [_circumstances(found.circumstances), [_headline(found)], _lines(shown), _footnotes(found)]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _circumstances(found: Circumstances) -> list[str]:
    lines = []
    if found.machine:
        lines.append(f"DIFFERENT MACHINES: {'; '.join(found.machine)}.")
        lines.append("Differences in time, speed, memory and energy below are differences between these machines.")
    if found.software:
        lines.append(f"Different software: {'; '.join(found.software)}.")
    if found.untold:
        lines.append(f"Not compared, as only one of the results says it: {', '.join(found.untold)}.")
    if found.same_command is False:
        lines.append("The runs were made by different commands.")
    return lines


def _headline(found: Comparison) -> str:
    if not found.changes:
        return "The results have no figure in common that has an interval."
    counts = ", ".join(f"{len(found.of(outcome))} {outcome}" for outcome in _ORDER[:3])
    return f"{len(found.changes)} figures in both: {counts}, {len(found.of('same'))} within noise."


def _lines(changes: Sequence[Change]) -> list[str]:
    rows = [
        (
            change.outcome,
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


def _footnotes(found: Comparison) -> list[str]:
    lines = []
    if found.changes:
        lines.append(
            f"A change is significant at 5 % after Holm's correction for all {len(found.changes)} figures: without any "
            "real change,\n95 of 100 such comparisons would report none. In brackets: the 95 % interval of each "
            "difference alone, for independent\nruns. Differences between whole runs (heat, another process) are in "
            "no interval."
        )
        alone = sum(change.alone for change in found.of("same"))
        if alone:
            lines.append(f"The own interval of {alone} figures within noise excludes 0, as some do among so many.")
        if _same_inputs(found):
            lines.append(
                "Both runs seem to use the same inputs. Intervals paired by input would be narrower: a difference "
                "within noise\nhere may be significant there."
            )
    for name, places in (("first", found.only_before), ("second", found.only_after)):
        if places:
            lines.append(f"Only in the {name}: {_listed(places)}.")
    return lines


def _same_inputs(found: Comparison) -> bool:
    """Return whether the command, or else the n of every accuracy, is the same in both."""
    right = [change for change in found.changes if "accuracy" in change.place[-1]]
    return (
        found.circumstances.same_command is not False
        and bool(right)
        and all(change.before.n == change.after.n for change in right)
    )


def _listed(places: Sequence[Place]) -> str:
    more = len(places) - _MOST_PLACES
    named = "; ".join(where(place) for place in places[:_MOST_PLACES])
    return f"{named}; and {more} more" if more > 0 else named
