"""Whether the inputs still look like the calibration data, by the score that routes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecascade.runtime.watch.anytime import Estimate
from edgecascade.types.policy import Policy

if TYPE_CHECKING:
    from edgecascade.types.document import CascadeDocument

__all__ = ["BLOCKS", "CALM", "Departure", "Reference", "ScoreDrift", "differs", "rate_differs", "total_variation"]

BLOCKS = 10  # in a window
_MOST_GROUPS = 15
_FEWEST_PER_GROUP = 15  # with as many, G is chi-square's up to a few per cent, even at a chance of 1e-3
CALM = 0.05  # a chance at which nobody would think of drift


@dataclass(frozen=True)
class Reference:
    """The histogram of the calibration data over the bins of the advantage table.

    Attributes:
        values: the advantage of each bin, as float32 rounds it. Bins of equal advantage are one.
        counts: calibration inputs in each.
        forwarded: how many of them the policy in force forwards.
        n: all of them.
    """

    values: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    forwarded: int = 0
    n: int = 0

    @classmethod
    def of(cls, document: CascadeDocument, policy: Policy | None = None) -> Reference:
        """Return the reference of a file under its own policy or another one; it has no bins if they do not fit.

        A policy with another temperature or other edges fills the bins otherwise than the calibration data did.
        """
        own = document.device_policy()
        policy = own if policy is None else policy
        if (own.temperature, own.edges) != (policy.temperature, policy.edges) or policy.values is None:
            return cls()
        threshold = own.threshold if policy.threshold is None else policy.threshold
        bins: dict[float, int] = {}
        for value, count in zip(policy.values, document.policy.counts, strict=True):
            value = float(np.float32(value))
            bins[value] = bins.get(value, 0) + count
        forwarded = sum(count for value, count in bins.items() if not value >= np.float32(threshold))
        return cls(tuple(bins), tuple(bins.values()), forwarded, sum(bins.values()))


@dataclass(frozen=True)
class Departure:
    """What the test of one window, or of a tenth of one, found.

    Attributes:
        new: inputs in each group of bins.
        old: calibration inputs in each.
        whole: whether it was a window.
        drifted: unlike beyond chance, and by enough to matter.
        calm: not unlike, or not by enough. Between the two, an alarm stays as it is.
    """

    new: tuple[int, ...]
    old: tuple[int, ...]
    whole: bool
    drifted: bool
    calm: bool

    @property
    def distance(self) -> Estimate:
        """Total variation: the share of inputs that would have to move to another group."""
        return total_variation(self.new, self.old)

    def seen(self) -> tuple[Estimate, str]:
        """The distance, and a sentence for an alarm."""
        return self.distance, (
            f"the scores of the last {sum(self.new)} inputs are not distributed as those of the calibration data: "
            f"total variation distance {self.distance.value:.2f}, and {differs(self.new, self.old):.1g} is the "
            "chance of counts at least so unlike without drift"
        )


@dataclass(eq=False)
class ScoreDrift:
    """Compares windows of inputs, and tenths of windows, with the reference.

    The tenths find a sudden change at once, in coarse groups of bins; the windows find a smaller one. Both compare
    with the calibration data and not with the window before, so that slow drift is found once it has gone far
    enough, however slowly. The reference's own sampling error is in the test. A window has half of the risk, and its
    ten tenths share the other half: without drift, and averaged over calibration sets as this one, there is a false
    alarm in at most `risk` of the windows, or one in `window / risk` inputs. (One calibration set is used for all
    windows: with an unlucky one they are more frequent, with most they are far less.)

    Args:
        reference: calibration inputs per bin.
        window: inputs, a multiple of ten.
        risk: of a false alarm, per window.
        floor: the least total variation distance that matters.
    """

    reference: Sequence[int]
    window: int
    risk: float
    floor: float

    def __post_init__(self) -> None:
        self._fine = _groups(self.reference, self.window)
        self._coarse = _groups(self.reference, self.window // BLOCKS)
        self._sums = [0] * (len(self.reference) + 1)
        self._blocks = 0

    def add(self, counts: Sequence[int]) -> list[Departure]:
        """Count a tenth of a window.

        Args:
            counts: inputs per bin, and last those whose advantage is NaN.

        Returns:
            What the tests that are due found: of the tenth, and of the window if it was the last; none where the
            reference is too small to tell anything.
        """
        self._sums = [a + b for a, b in zip(self._sums, counts, strict=True)]
        self._blocks += 1
        found = [self._judge(counts, self._coarse, self.risk / 2 / BLOCKS, whole=False)]
        if self._blocks == BLOCKS:
            found.append(self._judge(self._sums, self._fine, self.risk / 2, whole=True))
            self._sums, self._blocks = [0] * len(self._sums), 0
        return [one for one in found if one is not None]

    def _judge(
        self, counts: Sequence[int], groups: Sequence[tuple[int, int]], risk: float, *, whole: bool
    ) -> Departure | None:
        if len(groups) < 2 or not any(counts):
            return None
        # The last is NaN, which the calibration data has none of.
        new = (*(sum(counts[start:end]) for start, end in groups), counts[-1])
        old = (*(sum(self.reference[start:end]) for start, end in groups), 0)
        distance = _distance(new, old)
        if distance < 0.8 * self.floor:  # most windows: no need to know the chance
            return Departure(new, old, whole, drifted=False, calm=whole)
        chance = differs(new, old)
        drifted = chance < risk and distance >= self.floor
        return Departure(new, old, whole, drifted, calm=whole and chance > CALM)


def differs(new: Sequence[int], old: Sequence[int]) -> float:
    """The chance that two samples of one distribution have counts at least so unlike.

    The likelihood ratio test of homogeneity (G) with Williams' correction (Biometrika 63, 1976) and Wilson and
    Hilferty's approximation to chi-square. It also holds if the bins were cut at quantiles of the old sample: the new
    counts are a Polya urn's then, and their variance is the same.
    """
    m, n = sum(new), sum(old)
    present = [(a, b) for a, b in zip(new, old, strict=True) if a + b]
    freedom = len(present) - 1
    if freedom < 1 or not m or not n:
        return 1.0
    g = 0.0
    for a, b in present:
        if a:
            g += a * math.log(a * (m + n) / (m * (a + b)))
        if b:
            g += b * math.log(b * (m + n) / (n * (a + b)))
    total = m + n
    excess = (total * (1 / m + 1 / n) - 1) * (total * sum([1 / (a + b) for a, b in present]) - 1)
    g /= 1 + excess / (6 * total * freedom)
    spread = 2 / (9 * freedom)
    z = (max(0.0, 2 * g / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return 0.5 * math.erfc(z / math.sqrt(2))


def total_variation(new: Sequence[int], old: Sequence[int], *, risk: float = 0.05) -> Estimate:
    """The total variation distance of two distributions, from a sample of each.

    The value is that of the samples, which is too high on average. Low allows for that; the rest is McDiarmid's
    inequality. For one pair of samples, not at all times.
    """
    m, n = sum(new), sum(old)
    value = _distance(new, old)
    radius = math.sqrt((1 / m + 1 / n) * math.log(2 / risk) / 2)
    excess = (math.sqrt((len(new) - 1) / m) + math.sqrt((len(old) - 1) / n)) / 2
    return Estimate(value, max(0.0, value - excess - radius), min(1.0, value + radius), m)


def _distance(new: Sequence[int], old: Sequence[int]) -> float:
    m, n = sum(new), sum(old)
    return sum([abs(a / m - b / n) for a, b in zip(new, old, strict=True)]) / 2


def rate_differs(new: int, m: int, old: int, n: int) -> float:
    """The chance that two samples with one rate have counts, new of m and old of n, at least so unlike.

    Fisher's exact test, twice the smaller tail: exact for rare events, too.
    """
    if not m or not n:
        return 1.0
    return min(1.0, 2 * min(_upper_tail(new, m, old, n), _upper_tail(m - new, m, n - old, n)))


def _upper_tail(new: int, m: int, old: int, n: int) -> float:
    """The hypergeometric chance of `new` or more of `m`, if `new + old` of `m + n` are marked."""
    marked = new + old
    logarithm = _log_choose(m, new) + _log_choose(n, old) - _log_choose(m + n, marked)
    term = total = 1.0
    for x in range(new, min(m, marked)):
        term *= (m - x) * (marked - x) / ((x + 1) * (n - marked + x + 1))
        total += term
        if term < 1e-17 * total:
            break
    return math.exp(min(0.0, logarithm + math.log(total)))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _groups(reference: Sequence[int], window: int) -> list[tuple[int, int]]:
    """Neighbouring bins together, from and to, so that each group has enough in the reference and the window."""
    n = sum(reference)
    wanted = min(_MOST_GROUPS, n // _FEWEST_PER_GROUP, window // _FEWEST_PER_GROUP)
    if wanted < 2:
        return []
    starts = [0]
    before, last = 0, 0
    for place, count in enumerate(reference):  # a bin belongs to the group that its middle falls into
        if not count:  # an empty bin joins the group before it or, if no calibration input came before, the first one
            continue
        group = min(wanted - 1, int((before + count / 2) * wanted / n))
        if before and group != last:
            starts.append(place)
        before, last = before + count, group
    return list(zip(starts, [*starts[1:], len(reference)], strict=True))
