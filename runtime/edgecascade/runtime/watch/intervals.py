"""Confidence sequences: intervals that hold at all times at once, so that they may be read at any time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from edgecascade.types.estimate import Estimate

__all__ = ["mean_gap", "rate", "stratified"]

_HALVINGS = 50
_BEST_AT = 1000  # observations at which the interval of a gap is narrowest
_VARIANCE = 0.25  # of a sub-Gaussian bound on anything within an interval of length 1 (Hoeffding's lemma)


def rate(successes: float, n: int, risk: float) -> Estimate:
    """Return the rate of an event, or the mean of values in [0, 1], with an interval that holds at all n at once.

    Robbins' beta-binomial mixture with the Beta(1/2, 1/2) prior: if all observations share one rate, given those
    before, the probability that the interval ever misses it is at most `risk`. (Robbins, Annals of Mathematical
    Statistics 41, 1970; Howard, Ramdas, McAuliffe and Sekhon, arXiv 1810.08240.) If the rate changes over
    time, the interval describes no single rate, so restart the count from time to time.

    It holds for values in [0, 1] with one mean, too: the evidence is a product of factors that are convex in each
    value, so its expectation is at most that for events of this rate.

    Args:
        successes: how often the event occurred, or the sum of the values.
        n: number of observations.
        risk: the probability of a miss, in (0, 1).
    """
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0, 0)
    failures, value = max(0.0, n - successes), min(1.0, successes / n)
    evidence = math.lgamma(successes + 0.5) + math.lgamma(failures + 0.5) - math.lgamma(n + 1.0) - math.log(math.pi)
    enough = evidence + math.log(risk)

    def refuted(p: float) -> bool:
        """Return whether the mixture explains the observations 1 / risk times better than the rate p does."""
        likelihood = (successes * math.log(p) if successes else 0.0) + (failures * math.log1p(-p) if failures else 0.0)
        return enough >= likelihood

    low = _end(refuted, 0.0, value) if successes else 0.0
    high = _end(refuted, 1.0, value) if failures else 1.0
    return Estimate(value, low, high, n)


def mean_gap(total: float, n: int, risk: float) -> Estimate:
    """Return the mean of claim minus outcome, where each claim in [0, 1] is known before its outcome in [0, 1].

    Claims minus outcomes, less their expectations given everything before, sum to a 1/2-sub-Gaussian martingale. The
    two-sided normal mixture bounds it at all n at once: with probability at least 1 - `risk` the interval always
    holds the mean of the expected gaps so far. The inputs need not be identically distributed or independent.
    (Robbins 1970; Howard et al., arXiv 1810.08240, equation 14.)

    Args:
        total: sum of the gaps.
        n: number of gaps.
        risk: the probability of a miss, in (0, 1).
    """
    if n == 0:
        return Estimate(math.nan, -1.0, 1.0, 0)
    doubt = 2 * math.log(1 / risk)
    weight = _BEST_AT * _VARIANCE / (doubt + math.log1p(doubt))
    mixed = n * _VARIANCE + weight
    radius = math.sqrt(mixed * (math.log(mixed / weight) + doubt)) / n
    value = total / n
    return Estimate(value, max(-1.0, value - radius), min(1.0, value + radius), n)


def stratified(strata: Iterable[tuple[float, Estimate]]) -> Estimate:
    """Return the mean over strata, given as each stratum's known share of the whole and its estimate.

    The interval misses with at most the sum of the strata's risks. With the share of a stratum over its share of the
    sample as the weight of its observations, this is Hajek's estimate.
    """
    present = [(share, estimate) for share, estimate in strata if share > 0]
    return Estimate(
        sum(share * estimate.value for share, estimate in present) if present else math.nan,
        sum(share * estimate.low for share, estimate in present),
        sum(share * estimate.high for share, estimate in present) if present else 1.0,
        sum(estimate.n for _, estimate in present),
    )


def _end(refuted: Callable[[float], bool], outside: float, inside: float) -> float:
    """Return the border of the refuted values, between a refuted and an accepted one, never on the accepted side."""
    for _ in range(_HALVINGS):
        middle = (outside + inside) / 2
        if middle in (outside, inside):
            break
        if refuted(middle):
            outside = middle
        else:
            inside = middle
    return outside
