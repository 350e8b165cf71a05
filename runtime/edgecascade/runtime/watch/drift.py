"""Detect drift: test windows of advantages against the histogram of the calibration data."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecascade.types.policy import Policy

if TYPE_CHECKING:
    from edgecascade.types.document import CascadeDocument, TaskDocument
from edgecascade.runtime.watch.alarms import Alarms
from edgecascade.runtime.watch.intervals import rate
from edgecascade.types.estimate import Estimate

__all__ = [
    "BLOCKS",
    "Departure",
    "Reference",
    "ScoreDrift",
    "Windows",
    "differs",
    "rate_differs",
    "total_variation",
]

BLOCKS = 10  # in a window
_LEAST_DRIFT = 0.1  # the least total variation distance that matters
_LEAST_RATE_CHANGE = 0.05  # the least change of the offload rate that matters
_MOST_GROUPS = 15
_FEWEST_PER_GROUP = 15  # with as many, G follows chi-square within a few per cent, even at a probability of 1e-3
_CALM = 0.05  # the p-value above which an alarm clears
_MISS = 0.05  # the probability that the interval of an alarm misses
_UNKNOWN = Estimate(math.nan, 0.0, 1.0, 0)


@dataclass(frozen=True)
class Reference:
    """The histogram of the calibration data over the bins of the advantage table.

    Attributes:
        values: the advantage of each bin, rounded to float32. Bins of equal advantage are merged.
        counts: calibration inputs in each bin.
        forwarded: calibration inputs that the policy in force forwards.
        n: number of calibration inputs.
    """

    values: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    forwarded: int = 0
    n: int = 0

    @classmethod
    def of(cls, document: CascadeDocument | TaskDocument, policy: Policy | None = None) -> Reference:
        """Return the histogram in a file's document, under the file's policy or another.

        It has no bins if the document holds no advantage table, or if the policy has another temperature or other
        edges, so that the counts per bin no longer apply.
        """
        own = document.device_policy()
        policy = own if policy is None else policy
        if (own.temperature, own.edges) != (policy.temperature, policy.edges) or policy.values is None:
            return cls()
        threshold = document.policy.threshold if policy.threshold is None else policy.threshold
        return cls.binned(policy.values, document.policy.counts, threshold)

    @classmethod
    def binned(cls, values: Sequence[float], counts: Sequence[int], threshold: float) -> Reference:
        """Return the histogram of an advantage table.

        Args:
            values: the advantage of each bin.
            counts: calibration inputs in each bin.
            threshold: inputs whose advantage is below it are forwarded.
        """
        bins: dict[float, int] = {}
        for value, count in zip(values, counts, strict=True):
            value = float(np.float32(value))
            bins[value] = bins.get(value, 0) + count
        forwarded = sum(count for value, count in bins.items() if not value >= np.float32(threshold))
        return cls(tuple(bins), tuple(bins.values()), forwarded, sum(bins.values()))


class Windows:
    """Counts inputs in windows, and raises `drift` and `offload rate`. Not thread-safe.

    Args:
        reference: the histogram of the calibration data.
        window: inputs, a multiple of ten.
        risk: the probability of a false alarm of each name, per window.
        alarms: receives them.
    """

    def __init__(self, reference: Reference, window: int, risk: float, alarms: Alarms) -> None:
        self._reference, self._risk, self._alarms = reference, risk, alarms
        self._block = window // BLOCKS
        self._place = {value: place for place, value in enumerate(reference.values)}
        self._drift = ScoreDrift(reference.counts, window, risk, _LEAST_DRIFT)
        self._departure: Departure | None = None
        self._inputs = self._forwarded = self._blocks = 0
        self._counts, self._block_inputs = [0] * (len(reference.counts) + 1), 0  # the last count is of NaN

    @property
    def distance(self) -> Estimate:
        """Total variation distance between the latest window and the calibration data."""
        return _UNKNOWN if self._departure is None else self._departure.distance

    def count(self, local: Sequence[float], forwarded: Sequence[float]) -> tuple[int, int]:
        """Count inputs by their advantages; return how many are NaN, and how many are in no bin of the table."""
        unplaced = nan = 0
        for advantage, n in Counter([*local, *forwarded]).items():
            place = self._place.get(advantage)
            if place is not None:
                self._counts[place] += n
            elif advantage == advantage:
                unplaced += n
            else:
                nan += n
        self._counts[-1] += nan
        inputs = len(local) + len(forwarded)
        self._inputs += inputs
        self._forwarded += len(forwarded)
        self._block_inputs += inputs
        if self._block_inputs >= self._block:
            self._end_block()
        return nan, unplaced

    def _end_block(self) -> None:
        for found in self._drift.add(self._counts):
            self._departure = found if found.whole else self._departure
            if found.drifted or found.calm:
                self._alarms.settle("drift", found.drifted, found.calm, found.seen)
        self._blocks += 1
        if self._blocks == BLOCKS:
            self._judge_rate(self._forwarded, self._inputs)
            self._inputs = self._forwarded = self._blocks = 0
        self._counts, self._block_inputs = [0] * len(self._counts), 0

    def _judge_rate(self, forwarded: int, window: int) -> None:
        n = self._reference.n
        if not n:
            return
        planned = self._reference.forwarded / n
        change = abs(forwarded / window - planned)
        small = change < 0.8 * _LEAST_RATE_CHANGE
        chance = 1.0 if small else rate_differs(forwarded, window, self._reference.forwarded, n)
        self._alarms.settle(
            "offload rate",
            chance < self._risk and change >= _LEAST_RATE_CHANGE,
            chance > _CALM,
            lambda: (
                rate(forwarded, window, _MISS),
                f"{forwarded / window:.1%} of the last {window} inputs were to be forwarded; {planned:.1%} was planned",
            ),
        )


@dataclass(frozen=True)
class Departure:
    """The outcome of the test of a window, or of a tenth of one.

    Attributes:
        new: inputs in each group of bins.
        old: calibration inputs in each group.
        whole: whether it was a window.
        drifted: whether they differ significantly, and by enough to matter.
        calm: whether they clearly do not differ. If neither is true, an alarm does not change.
    """

    new: tuple[int, ...]
    old: tuple[int, ...]
    whole: bool
    drifted: bool
    calm: bool

    @property
    def distance(self) -> Estimate:
        """Total variation distance: the share of inputs that would have to move to another group."""
        return total_variation(self.new, self.old)

    def seen(self) -> tuple[Estimate, str]:
        """Return the distance, and a sentence for an alarm."""
        return self.distance, (
            f"the scores of the last {sum(self.new)} inputs are not distributed as those of the calibration data: "
            f"total variation distance {self.distance.value:.2f}, p-value {differs(self.new, self.old):.1g}"
        )


@dataclass(eq=False)
class ScoreDrift:
    """Compares windows of inputs, and tenths of windows, with the reference.

    The tenths find a sudden change at once, in coarse groups of bins; the windows find a smaller one. Both compare
    with the calibration data and not with the window before, so that slow drift is found once it has gone far
    enough, however slowly. The test includes the reference's own sampling error. A window has half of the risk, and
    its ten tenths share the other half: without drift, and averaged over calibration sets of this size, there is a
    false alarm in at most `risk` of the windows, or one in `window / risk` inputs. (All windows share one calibration
    set: with an unlucky one false alarms are more frequent, with most they are far rarer.)

    Args:
        reference: calibration inputs per bin.
        window: inputs, a multiple of ten.
        risk: the probability of a false alarm, per window.
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
            The outcomes of the tests that are due: of the tenth, and of the window if it was the last; none if the
            reference is too small for a test.
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
        # The last group is NaN, which the calibration data does not have.
        new = (*(sum(counts[start:end]) for start, end in groups), counts[-1])
        old = (*(sum(self.reference[start:end]) for start, end in groups), 0)
        distance = _distance(new, old)
        if distance < 0.8 * self.floor:  # most windows need no p-value
            return Departure(new, old, whole, drifted=False, calm=whole)
        chance = differs(new, old)
        drifted = chance < risk and distance >= self.floor
        return Departure(new, old, whole, drifted, calm=whole and chance > _CALM)


def differs(new: Sequence[int], old: Sequence[int]) -> float:
    """Return the p-value of two samples' counts under the hypothesis of one distribution.

    The likelihood ratio test of homogeneity (G) with Williams' correction (Biometrika 63, 1976) and Wilson and
    Hilferty's approximation to chi-square. It also holds if the bins were cut at quantiles of the old sample: the new
    counts are then those of a Polya urn, and their variance is the same.
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
    """Return the total variation distance of two distributions, from a sample of each.

    The value is that of the samples, which is too high on average; `low` allows for that, and the rest is McDiarmid's
    inequality. The interval is for one pair of samples, not for all times at once.
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
    """Return the p-value of `new` of m against `old` of n under the hypothesis of one rate.

    Fisher's exact test, twice the smaller tail, which is exact for rare events, too.
    """
    if not m or not n:
        return 1.0
    return min(1.0, 2 * min(_upper_tail(new, m, old, n), _upper_tail(m - new, m, n - old, n)))


def _upper_tail(new: int, m: int, old: int, n: int) -> float:
    """Return the hypergeometric probability of `new` or more of `m`, if `new + old` of `m + n` are marked."""
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
    """Return neighbouring bins as groups, from and to, each with enough inputs of the reference and the window."""
    n = sum(reference)
    wanted = min(_MOST_GROUPS, n // _FEWEST_PER_GROUP, window // _FEWEST_PER_GROUP)
    if wanted < 2:
        return []
    starts = [0]
    before, last = reference[0], 0
    for place, count in enumerate(reference[1:], 1):  # a bin belongs to the group that its middle falls into
        group = min(wanted - 1, int((before + count / 2) * wanted / n))
        if group != last and count:
            if before:  # else the bins so far are empty, and belong to this group
                starts.append(place)
            last = group
        before += count
    return list(zip(starts, [*starts[1:], len(reference)], strict=True))
