"""What changed between two results beyond noise, figure by figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from edgecascade.benchmarks.difference import difference, freedom, holm, surprise
from edgecascade.benchmarks.direction import more_is_better
from edgecascade.benchmarks.found import Found, Place, find_estimates
from edgecascade.types.estimate import Estimate

__all__ = ["Change", "Comparison", "Verdict", "compare_results"]

Verdict = Literal["better", "worse", "changed", "same"]
_RISK = 0.05
_FEWEST = 2  # with one run there is no spread


@dataclass(frozen=True)
class Change:
    """One figure that both results have.

    Attributes:
        place: where it is in both.
        before: in the first.
        after: in the second.
        difference: after less before, with its own 95 % interval; of runs taken as independent.
        p: adjusted for the number of figures compared, by Holm's method.
        verdict: "same" unless the adjusted p is at most .05; "changed" where nothing tells which way is better.
    """

    place: Place
    before: Estimate
    after: Estimate
    difference: Estimate
    p: float
    verdict: Verdict

    @property
    def alone(self) -> bool:
        """Whether it would pass for a change if it were the only figure: its own interval leaves out 0."""
        return self.difference.low > 0 or self.difference.high < 0


@dataclass(frozen=True)
class Comparison:
    """Two results side by side.

    Attributes:
        changes: every figure in both with an interval, in the order of the first.
        only_before: figures that the second lacks, or has no number for.
        only_after: figures that the first lacks, or has no number for.
    """

    changes: tuple[Change, ...]
    only_before: tuple[Place, ...]
    only_after: tuple[Place, ...]

    def of(self, verdict: Verdict) -> tuple[Change, ...]:
        """Those with one verdict."""
        return tuple(change for change in self.changes if change.verdict == verdict)


def compare_results(before: dict[str, Any], after: dict[str, Any]) -> Comparison:
    """Compare two documents, as `read_result` gives them.

    Raises:
        BenchmarkError: one of them is nested too deeply.
    """
    first, second = (_with_spread(find_estimates(document)) for document in (before, after))
    both = [place for place in first if place in second]
    adjusted = holm([_surprise(first[place], second[place]) for place in both])
    return Comparison(
        changes=tuple(_change(place, first[place], second[place], p) for place, p in zip(both, adjusted, strict=True)),
        only_before=tuple(place for place in first if place not in second),
        only_after=tuple(place for place in second if place not in first),
    )


def _with_spread(found: dict[Place, Found]) -> dict[Place, Found]:
    return {place: one for place, one in found.items() if one.estimate.n >= _FEWEST}


def _surprise(before: Found, after: Found) -> float:
    freedoms = freedom(before.estimate.n, before.quantile), freedom(after.estimate.n, after.quantile)
    return surprise(before.estimate, after.estimate, freedoms)


def _change(place: Place, before: Found, after: Found, p: float) -> Change:
    pair = before.estimate, after.estimate
    return Change(place, *pair, difference(*pair), p, _verdict(place, before, after, p))


def _verdict(place: Place, before: Found, after: Found, p: float) -> Verdict:
    if p > _RISK:
        return "same"
    told = before.at_least if before.at_least == after.at_least else None
    more = more_is_better(place) if told is None else told
    if more is None:
        return "changed"
    return "better" if (after.estimate.value > before.estimate.value) == more else "worse"
