"""Estimates with intervals that hold at all times at once, however often somebody looks and whenever he stops."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

__all__ = ["Comparisons", "Estimate", "mean_gap", "rate", "stratified"]

_HALVINGS = 50
_VARIANCE = 0.25  # of a sub-Gaussian bound on anything within an interval of length 1 (Hoeffding's lemma)


@dataclass(frozen=True)
class Estimate:
    """A number with its interval and how many observations it rests on.

    Attributes:
        value: NaN without observations.
        low: of the interval.
        high: of the interval.
        n: observations.
    """

    value: float
    low: float
    high: float
    n: int


def rate(successes: int, n: int, risk: float) -> Estimate:
    """The rate of something that happens or not, from how often it happened.

    Robbins' beta-binomial mixture with the Beta(1/2, 1/2) prior: with observations that share one rate, given those
    before, the chance that the interval ever misses it, at any n, is at most `risk`. (Robbins, Annals of Mathematical
    Statistics 41, 1970; Howard, Ramdas, McAuliffe and Sekhon, arXiv 1810.08240.) If the rate changes on the way, the
    interval is about no one rate: begin anew now and then.

    Args:
        successes: how often it happened.
        n: out of how many.
        risk: the chance of a miss, in (0, 1).
    """
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0, 0)
    failures, value = n - successes, successes / n
    evidence = math.lgamma(successes + 0.5) + math.lgamma(failures + 0.5) - math.lgamma(n + 1.0) - math.log(math.pi)
    enough = evidence + math.log(risk)

    def refuted(p: float) -> bool:
        """Whether the mixture explains what was seen 1 / risk times better than the rate p does."""
        likelihood = (successes * math.log(p) if successes else 0.0) + (failures * math.log1p(-p) if failures else 0.0)
        return enough >= likelihood

    low = _end(refuted, 0.0, value) if successes else 0.0
    high = _end(refuted, 1.0, value) if failures else 1.0
    return Estimate(value, low, high, n)


def mean_gap(total: float, n: int, risk: float, *, best_at: int = 1000) -> Estimate:
    """The mean of claim minus outcome, where each claim in [0, 1] is known before its outcome in [0, 1].

    Claims minus outcomes, less what they are expected to be given all before, sum to a 1/2-sub-Gaussian martingale.
    The two-sided normal mixture bounds it at all n at once: with a chance of at least 1 - `risk` the interval always
    holds the mean of the expected gaps so far. The inputs need not be alike, nor independent. (Robbins 1970; Howard
    et al., arXiv 1810.08240, equation 14.)

    Args:
        total: sum of the gaps.
        n: how many.
        risk: the chance of a miss, in (0, 1).
        best_at: the n at which the interval is to be narrowest.
    """
    if n == 0:
        return Estimate(math.nan, -1.0, 1.0, 0)
    doubt = 2 * math.log(1 / risk)
    weight = best_at * _VARIANCE / (doubt + math.log1p(doubt))
    mixed = n * _VARIANCE + weight
    radius = math.sqrt(mixed * (math.log(mixed / weight) + doubt)) / n
    value = total / n
    return Estimate(value, max(-1.0, value - radius), min(1.0, value + radius), n)


def stratified(strata: Iterable[tuple[float, Estimate]]) -> Estimate:
    """The mean over strata, each with its known share of the whole.

    The interval misses with at most the sum of the strata's risks. With the share of a stratum over the share of it
    that was sampled as weights of its observations, this is Hajek's estimate.
    """
    present = [(share, estimate) for share, estimate in strata if share > 0]
    return Estimate(
        sum(share * estimate.value for share, estimate in present) if present else math.nan,
        sum(share * estimate.low for share, estimate in present),
        sum(share * estimate.high for share, estimate in present) if present else 1.0,
        sum(estimate.n for _, estimate in present),
    )


@dataclass
class Comparisons:
    """Sums over a stretch of inputs, of which some were compared: a sample of the kept, and of the forwarded.

    Attributes:
        inputs: all of them.
        forwarded: those that were to leave the device.
        kept_n: kept inputs that were audited.
        kept_agreed: of those, where both models gave one label.
        forwarded_n: forwarded inputs that the remote answered.
        forwarded_agreed: of those, where both models gave one label.
        gap: sum over the audited of the local confidence less the agreement.
        judged: sum over the audited of the local confidence less what the remote holds of the local label.
    """

    inputs: int = 0
    forwarded: int = 0
    kept_n: int = 0
    kept_agreed: int = 0
    forwarded_n: int = 0
    forwarded_agreed: int = 0
    gap: float = 0.0
    judged: float = 0.0

    def add(self, agreed: bool, confidence: float, judged: float, *, audited: bool) -> None:
        """Count one: do the labels agree, how sure was the local model, what does the remote hold of its label."""
        if audited:
            self.kept_n += 1
            self.kept_agreed += agreed
            self.gap += confidence - agreed
            self.judged += confidence - judged
        else:
            self.forwarded_n += 1
            self.forwarded_agreed += agreed

    def agreement(self, risk: float) -> Estimate:
        """Over all inputs, kept and forwarded weighted by their shares; each has half of the risk."""
        share = self.forwarded / self.inputs if self.inputs else 0.0
        kept = rate(self.kept_agreed, self.kept_n, risk / 2)
        forwarded = rate(self.forwarded_agreed, self.forwarded_n, risk / 2)
        return stratified([(1 - share, kept), (share, forwarded)])


def _end(refuted: Callable[[float], bool], outside: float, inside: float) -> float:
    """The border between what is refuted and what is not, never inside of it."""
    for _ in range(_HALVINGS):
        middle = (outside + inside) / 2
        if middle in (outside, inside):
            break
        if refuted(middle):
            outside = middle
        else:
            inside = middle
    return outside
