"""Inputs counted in windows, and each window held against the calibration data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from edgecascade.runtime.watch.alarms import Alarms
from edgecascade.runtime.watch.anytime import Estimate, rate
from edgecascade.runtime.watch.drift import BLOCKS, CALM, Departure, Reference, ScoreDrift, rate_differs

__all__ = ["Windows"]

_MISS = 0.05  # the chance that the interval of an alarm misses
_UNKNOWN = Estimate(float("nan"), 0.0, 1.0, 0)


class Windows:
    """Raises `drift` and `offload rate`. Not thread-safe.

    Args:
        reference: the calibration data.
        window: inputs, a multiple of ten.
        risk: of a false alarm of each name, per window.
        least_drift: the least total variation distance that matters.
        least_rate_change: the least change of the offload rate that does.
        alarms: where they are raised.
    """

    def __init__(
        self,
        reference: Reference,
        *,
        window: int,
        risk: float,
        least_drift: float,
        least_rate_change: float,
        alarms: Alarms,
    ) -> None:
        self._reference, self._risk, self._least_rate_change = reference, risk, least_rate_change
        self._alarms = alarms
        self._block = window // BLOCKS
        self._place = {value: place for place, value in enumerate(reference.values)}
        self._drift = ScoreDrift(reference.counts, window, risk, least_drift)
        self._departure: Departure | None = None
        self._inputs = self._forwarded = self._blocks = 0
        self._counts, self._block_inputs = [0] * (len(reference.counts) + 1), 0  # the last is of NaN

    @property
    def distance(self) -> Estimate:
        """Total variation distance between the latest window and the calibration data."""
        return _UNKNOWN if self._departure is None else self._departure.distance

    def count(self, kept: Sequence[float], forwarded: Sequence[float]) -> tuple[int, int]:
        """Count inputs, by their advantages.

        Returns:
            How many advantages were NaN, and how many in no bin of the table.
        """
        unplaced = nan = 0
        for advantage, n in Counter([*kept, *forwarded]).items():
            place = self._place.get(advantage)
            if place is not None:
                self._counts[place] += n
            elif advantage == advantage:
                unplaced += n
            else:
                nan += n
        self._counts[-1] += nan
        inputs = len(kept) + len(forwarded)
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
        small = change < 0.8 * self._least_rate_change
        chance = 1.0 if small else rate_differs(forwarded, window, self._reference.forwarded, n)
        self._alarms.settle(
            "offload rate",
            chance < self._risk and change >= self._least_rate_change,
            chance > CALM,
            lambda: (
                rate(forwarded, window, _MISS),
                f"{forwarded / window:.1%} of the last {window} inputs were to be forwarded, {planned:.1%} was planned",
            ),
        )
