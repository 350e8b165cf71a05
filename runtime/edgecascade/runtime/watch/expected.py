"""What the calibration data lets one expect of audits, and the alarms if they do not bear it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgecascade.runtime.watch.alarms import Alarms
from edgecascade.runtime.watch.anytime import Comparisons, mean_gap, rate

if TYPE_CHECKING:
    from edgecascade.types.document import CascadeDocument

__all__ = ["Expected", "judge"]


@dataclass(frozen=True)
class Expected:
    """Bounds.

    Attributes:
        kept: the least agreement of kept inputs, if the caller gave one.
        overall: the least agreement of all inputs, by the accuracies on the calibration data.
        gap: the largest calibration gap.
    """

    kept: float | None
    overall: float
    gap: float

    @classmethod
    def of(cls, document: CascadeDocument, least_agreement: float | None, tolerance: float) -> Expected:
        """From a file's document, and what the caller gave."""
        return cls(least_agreement, _least_agreement(document), max(tolerance, document.calibration.ece_after.high))


def judge(stretch: Comparisons, expected: Expected, risk: float, alarms: Alarms) -> None:
    """Raise `agreement` and `calibration`, or let them clear, after an audit."""
    if expected.kept is not None:
        seen, least, of = rate(stretch.kept_agreed, stretch.kept_n, risk), expected.kept, "kept inputs"
    else:
        seen, least, of = stretch.agreement(risk), expected.overall, "all inputs"
    sentence = f"local and remote agree on {seen.value:.1%} of {of}, at least {least:.1%} was expected"
    alarms.settle("agreement", seen.high < least, seen.value >= least, lambda: (seen, sentence))
    gap, judged = (mean_gap(total, stretch.kept_n, risk) for total in (stretch.gap, stretch.judged))
    most = expected.gap
    alarms.settle(
        "calibration",
        min(gap.low, judged.low) > most,
        min(gap.value, judged.value) <= most,
        lambda: (
            gap,
            f"kept answers claim {gap.value:.1%} more than the remote's labels confirm, and {judged.value:.1%} "
            f"more than its probabilities do; at most {most:.1%} was expected",
        ),
    )


def _least_agreement(document: CascadeDocument) -> float:
    """Both models are right, and so agree, on at least the sum of their accuracies less 1."""
    return max(0.0, document.calibration.accuracy.low + document.remote.accuracy.low - 1)
