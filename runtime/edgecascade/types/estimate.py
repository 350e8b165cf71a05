"""A number with its 95 % interval and the number of inputs behind it, and the points of an operating curve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

__all__ = [
    "Estimate",
    "GroupAccuracy",
    "GroupedAccuracy",
    "OperatingPoint",
    "Point",
    "chance_in_words",
    "curve_table",
]

_LINES = 16


@dataclass(frozen=True)
class Estimate:
    """An estimate with its 95 % interval.

    Attributes:
        value: the estimate.
        low: lower end of the interval.
        high: upper end of the interval.
        n: number of inputs that it was measured on.
    """

    value: float
    low: float
    high: float
    n: int

    def percent(self) -> str:
        """Return it as a percentage with its interval, such as `84.0 % (82.8 to 85.1)`."""
        return f"{self.value * 100:.1f} % ({self.low * 100:.1f} to {self.high * 100:.1f})"


@dataclass(frozen=True)
class Point:
    """What one threshold does on labelled inputs.

    Attributes:
        threshold: inputs whose advantage is below it are forwarded.
        offload_rate: forwarded inputs / all inputs, in [0, 1].
        accuracy: share of right answers, in [0, 1].
    """

    threshold: float
    offload_rate: float
    accuracy: float


@dataclass(frozen=True)
class OperatingPoint(Point):
    """A point of the operating curve with its 95 % intervals.

    Attributes:
        offload_interval: of the offload rate.
        accuracy_interval: of the accuracy, for a threshold that was fixed beforehand.
        accuracy_band: of the accuracy at all thresholds of the curve at once, which allows for the choice of one.
        n: number of inputs that it was measured on.
        loss: accuracy of the remote's own answers to all inputs, minus this accuracy; None in a file without it.
        cost: expected cost of the errors per input, where errors cost differently; else None.
        cost_band: of the costs at all thresholds of the curve at once.
    """

    offload_interval: tuple[float, float]
    accuracy_interval: tuple[float, float]
    accuracy_band: tuple[float, float]
    n: int
    loss: Estimate | None = None
    cost: Estimate | None = None
    cost_band: tuple[float, float] | None = None

    def __str__(self) -> str:
        return self.in_words()

    def in_words(self, measure: str = "accuracy") -> str:
        """Return it as text; `measure` is what its accuracies are, such as `mean value` for a general task."""
        low, high = self.accuracy_band
        cost = "" if self.cost is None else f"cost of errors {_cost(self)} per input, "
        return (
            f"offload {_share(self.offload_rate, self.offload_interval).strip()}, {cost}{measure} {self.accuracy:.1%} "
            f"({low:.1%} to {high:.1%}, allowing for the choice) on n = {self.n}"
        )


@dataclass(frozen=True)
class GroupAccuracy:
    """Accuracy on the inputs of one class or group.

    Attributes:
        name: of the group; of a class, its number.
        n: number of inputs in it.
        local: accuracy of the local model.
        remote: accuracy of the remote.
        cascade: accuracy of the cascade at its threshold.
        curve: accuracy of the cascade at each point of the operating curve, with the ends of its 95 % interval.
    """

    name: str
    n: int
    local: Estimate
    remote: Estimate
    cascade: Estimate
    curve: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class GroupedAccuracy:
    """Accuracy on the inputs of each class or group.

    Attributes:
        by: what a group is called, such as `class`.
        groups: those that have inputs.
    """

    by: str
    groups: tuple[GroupAccuracy, ...]

    def moved(self, position: int) -> GroupedAccuracy:
        """Return the same for a cascade at another point of the operating curve."""
        return replace(
            self, groups=tuple(replace(one, cascade=Estimate(*one.curve[position], one.n)) for one in self.groups)
        )

    def table(self, most: int = 20) -> Iterator[str]:
        """Yield a table of the groups, those that lose most against the remote first.

        Args:
            most: number of groups to show; the last line has the number of the others, if any.
        """
        losses = sorted(self.groups, key=lambda one: one.cascade.value - one.remote.value)[:most]
        names = [one.name.replace("\n", "\\n") for one in losses]  # a name must not look like another line
        width = max(map(len, (self.by, *names)))
        yield f"{self.by:<{width}}  {'n':>6}  {'local (95 % interval)':<24}{'cascade':<24}remote"
        for name, one in zip(names, losses, strict=True):
            yield (
                f"{name:<{width}}  {one.n:>6}  {one.local.percent():<24}{one.cascade.percent():<24}"
                f"{one.remote.percent()}"
            )
        if len(self.groups) > most:
            yield f"and {len(self.groups) - most} more, which lose less to the remote"


def curve_table(curve: Sequence[OperatingPoint], threshold: float, measure: str = "accuracy") -> Iterator[str]:
    """Yield the operating curve as a table of about 16 lines; the point of the given threshold is always shown.

    Thresholds have four decimals, or as many as neighbours need to differ, up to nine.

    Args:
        curve: the points.
        threshold: of the point that the device uses.
        measure: what their accuracies are, such as `mean value` for a general task.
    """
    costs = " cost of errors (95 %, at all at once)  " if curve and curve[0].cost is not None else ""
    step = max(1, -(-len(curve) // _LINES))
    last = len(curve) - 1
    shown = [one for at, one in enumerate(curve) if at % step == 0 or one.threshold == threshold or at == last]
    values = [one.threshold for one in shown]
    digits = next((n for n in range(4, 9) if len({f"{one:.{n}f}" for one in values}) == len(values)), 9)
    intervals = f"offload rate (95 % interval)  {costs} {measure} (95 % interval; at all thresholds at once)"
    yield f"{'threshold':<{digits + 5}}   {intervals}"
    for point in shown:
        low, high = point.accuracy_band
        yield (
            f"{point.threshold:+{digits + 5}.{digits}f}   {_share(point.offload_rate, point.offload_interval):<28}   "
            f"{f'{_cost(point):<38} ' if costs else ''}"
            f"{_share(point.accuracy, point.accuracy_interval)[:-1]}; {low:.1%} to {high:.1%})"
            f"{'  <- chosen' if point.threshold == threshold else ''}"
        )


def chance_in_words(chance: float) -> str:
    """Return the chance of meeting an aim to the nearest 5 %, since it is known no better.

    >>> chance_in_words(0.731), chance_in_words(0.984)
    ('about 75 %', 'above 95 %')
    """
    percent = 5 * round(20 * chance)
    if 0 < percent < 100:
        return f"about {percent} %"
    return "above 95 %" if percent else "below 5 %"


def _cost(point: OperatingPoint) -> str:
    assert point.cost is not None
    assert point.cost_band is not None
    low, high = point.cost_band
    return f"{point.cost.value:.3g} ({low:.3g} to {high:.3g})"


def _share(value: float, interval: tuple[float, float]) -> str:
    return f"{value:6.1%} ({interval[0]:.1%} to {interval[1]:.1%})"
