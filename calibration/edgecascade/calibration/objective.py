"""Objectives: how many inputs a plan forwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, log, log1p
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.advantage import Correct
from edgecascade.calibration.chance import chance_of_accuracy, chance_of_estimate, chance_of_loss, chance_of_share
from edgecascade.types.costs import ErrorCosts
from edgecascade.types.errors import ArgumentError, CalibrationError
from edgecascade.types.estimate import OperatingPoint, Point

__all__ = ["CertifiedLoss", "LeastCost", "LeastOffload", "MostAccuracy", "Objective", "WhileItHelps"]

_ROUNDING = 1e-9
_NEVER_WORTH_IT = 2.0  # no forward gains as much accuracy
P = TypeVar("P", bound=Point)


class Objective(Protocol):
    """A rule for how much to forward. Its `str` is the aim in words."""

    def aim(self, measure: str) -> str:  # noqa: ARG002
        """Return the aim in words, where accuracy is called `measure`; by default its `str`."""
        return str(self)

    @property
    def price(self) -> float:
        """The accuracy that a forward must gain, on average, to be worth making; by default none."""
        return 0.0

    def largest_rate(self, n: float) -> float:  # noqa: ARG002
        """Return the largest offload rate on n calibration inputs; by default 1."""
        return 1.0

    def choose(self, curve: Sequence[P], remote_accuracy: float, n: float) -> P:
        """Return one point of a curve that runs from forwarding nothing to forwarding everything.

        Args:
            curve: points by rising offload rate.
            remote_accuracy: accuracy of the remote's own answers on the same inputs.
            n: number of these inputs.

        Raises:
            CalibrationError: no point meets the objective; the message names the nearest.
        """
        ...


@dataclass(frozen=True)
class MostAccuracy(Objective):
    """Most accuracy at an offload rate: forward as much as the rate allows, where the remote is expected to help.

    Attributes:
        offload_rate: the offload rate, in [0, 1].
        confidence: None forwards about `offload_rate`: exactly this share of the calibration inputs, and on other
            inputs more or less by chance. A probability in (0, 1) forwards fewer, so that the rate on other inputs is
            at most `offload_rate` with this probability over the draw of the calibration inputs.
    """

    offload_rate: float
    confidence: float | None = None

    def __post_init__(self) -> None:
        _check_share("offload_rate", self.offload_rate)
        if self.confidence is not None:
            _check_probability("confidence", self.confidence)

    def __str__(self) -> str:
        return self.aim("accuracy")

    def aim(self, measure: str) -> str:
        """Return the aim in words, where accuracy is called `measure`."""
        most = "most accuracy" if measure == "accuracy" else f"highest {measure}"
        if self.confidence is None:
            return f"{most} at about {self.offload_rate:.0%} offload"
        return f"{most} at {self.offload_rate:.0%} offload or less, with a probability of {self.confidence:.4g}"

    def largest_rate(self, n: float) -> float:
        """Return `offload_rate`, or with a confidence the rate on n inputs that keeps to it.

        A threshold between order statistics k and k + 1 forwards a share of all inputs that is at most the (k + 1)th
        of n uniform order statistics, whose distribution is Beta(k + 1, n - k).
        """
        if self.confidence is None or self.offload_rate == 1.0:
            return self.offload_rate
        from scipy.stats import beta

        count = np.arange(int(self.offload_rate * n) + 1)
        held = beta.cdf(self.offload_rate, count + 1, n - count) >= self.confidence
        return float(held.sum() - 1) / n if held.any() else 0.0

    def choose(self, curve: Sequence[P], remote_accuracy: float, n: float) -> P:  # noqa: ARG002
        """Return the last point within the rate whose threshold is not above 0."""
        rate = self.largest_rate(n) + _ROUNDING
        return max(
            (point for point in curve if point.offload_rate <= rate and point.threshold <= 0.0),
            key=lambda point: point.offload_rate,
        )


@dataclass(frozen=True)
class WhileItHelps(Objective):
    """Forward wherever the remote is expected to do better: up to the point where the advantage crosses zero."""

    def __str__(self) -> str:
        return "forward wherever the remote is expected to do better"

    def choose(self, curve: Sequence[P], remote_accuracy: float, n: float) -> P:
        """Return the last point whose threshold is not above 0."""
        return MostAccuracy(1.0).choose(curve, remote_accuracy, n)


@dataclass(frozen=True)
class LeastOffload(Objective):
    """Least offload at an accuracy, or at a loss against asking the remote always. Give one of the two.

    Attributes:
        accuracy: the least accuracy, in [0, 1], or None.
        loss: the largest loss of accuracy against the remote's own answers to all inputs, in [0, 1], or None.
        confidence: probability, over the draw of the calibration inputs, that the aim is met, in (0, 1). At one half
            the estimate meets the aim, and the truth is as likely above as below.

    Raises:
        CalibrationError: not exactly one of accuracy and loss is given, or a value is out of range.
    """

    accuracy: float | None = None
    loss: float | None = None
    confidence: float = 0.5

    def __post_init__(self) -> None:
        if (self.accuracy is None) == (self.loss is None):
            raise CalibrationError(f"accuracy, loss: expected one of the two, got {self.accuracy} and {self.loss}")
        if self.accuracy is not None:
            _check_share("accuracy", self.accuracy)
        if self.loss is not None:
            _check_share("loss", self.loss)
        _check_probability("confidence", self.confidence)

    def __str__(self) -> str:
        return self.aim("accuracy")

    def aim(self, measure: str) -> str:
        """Return the aim in words, where accuracy is called `measure`."""
        held = "" if self.confidence == 0.5 else f", met with a probability of {self.confidence:.4g}"
        if self.accuracy is not None:
            article = "an" if measure == "accuracy" else "a"
            return f"least offload at {article} {measure} of {100 * self.accuracy:.6g} %{held}"
        return f"least offload at a loss of {100 * (self.loss or 0.0):.6g} % against asking the remote always{held}"

    def wanted(self, remote_accuracy: float) -> float:
        """Return the accuracy that meets the aim."""
        return self.accuracy if self.accuracy is not None else remote_accuracy - (self.loss or 0.0)

    def chances(
        self, right: Correct, remote_correct: Correct, weight: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """Return the probability, float64 [points], that each column meets the aim.

        Args:
            right: [n, points], whether the cascade's answers are right.
            remote_correct: [n], whether the remote's own answers are.
            weight: float64 [n], how much each input counts.
        """
        if self.accuracy is not None:
            return chance_of_accuracy(right, self.accuracy, weight)
        assert self.loss is not None
        return chance_of_loss(np.asarray(remote_correct, np.float64)[:, None] - right, self.loss, weight)

    def chance(self, point: Point, remote_accuracy: float, n: float) -> float:
        """Return the probability that a point of a curve that was measured on n inputs meets the aim."""
        if self.loss is not None and isinstance(point, OperatingPoint) and point.loss is not None:
            return chance_of_estimate(point.loss, self.loss)
        return chance_of_share(point.accuracy, n, self.wanted(remote_accuracy))

    def lowest(self, chances: Sequence[float]) -> int | None:
        """Return the position of the least offload that meets the aim with the confidence, or None.

        Points are tested downwards from the last, until one fails. Testing in an order that the tests do not choose
        keeps the probability of a wrong choice at the level of one test (Maurer, Hothorn and Lehmacher, 1995).

        Args:
            chances: probability of meeting the aim, by rising offload rate.
        """
        found = len(chances) - 1
        if chances[found] < self.confidence:
            return None
        while found and chances[found - 1] >= self.confidence:
            found -= 1
        return found

    def choose(self, curve: Sequence[P], remote_accuracy: float, n: float) -> P:
        """Return the point of least offload that meets the aim with the confidence, going down from the surest."""
        chances = [self.chance(point, remote_accuracy, n) for point in curve]
        first = max(range(len(curve)), key=lambda at: (chances[at], curve[at].accuracy, -at))
        found = self.lowest(chances[: first + 1])
        if found is None:
            raise self.refusal(chances, curve, remote_accuracy)
        return curve[found]

    def refusal(self, chances: Sequence[float], curve: Sequence[Point], remote_accuracy: float) -> CalibrationError:
        """Return the error that says how near these points come to the aim."""
        if self.confidence > 0.5:
            nearest = max(range(len(curve)), key=lambda at: chances[at])
            return CalibrationError(
                f"confidence: expected at most {chances[nearest]:.0%}, the chance of meeting the aim at the most "
                f"accurate offload rate ({curve[nearest].offload_rate:.1%}), got {self.confidence:.4g}"
            )
        best = max(curve, key=lambda point: point.accuracy)
        wanted = f"{100 * self.wanted(remote_accuracy):.4g} %"
        aim = f"accuracy: {wanted}" if self.loss is None else f"loss: {100 * self.loss:.6g} %, an accuracy of {wanted},"
        return CalibrationError(
            f"{aim} is out of reach on the calibration data; "
            f"the best is {best.accuracy:.1%}, at {best.offload_rate:.1%} offload"
        )


@dataclass(frozen=True)
class CertifiedLoss(Objective):
    """Least offload with a certificate that the loss against asking the remote always is at most `loss`.

    By default the plan is about the margin in its plain order and the remote's own answers. No label has a part in
    these decisions but for the threshold, so `plan_cascade` tests every threshold on all of the inputs. For any other
    policy it sets inputs aside for the test, on which nothing is fitted or chosen.

    Attributes:
        loss: e, the largest loss of accuracy against asking the remote always, in (0, 1).
        risk: d, the probability, over the draw of the data, that the loss is larger, in (0, 1).
        testing_share: share of the inputs that `plan_cascade` sets aside, if it has to.
        looks: sizes of the data at which a test is planned, ascending and chosen before the first test. Each of them
            has an equal share of the risk, so that d holds for all together. Empty if there is only one test.

    Raises:
        CalibrationError: loss or risk is not in (0, 1), the sizes do not ascend, or the first is too small to certify
            anything.
    """

    loss: float
    risk: float = 0.05
    testing_share: float = 0.8
    looks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("loss", "risk"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise CalibrationError(f"{name}: expected a number between 0 and 1, such as 0.01, got {value}")
        if list(self.looks) != sorted({*self.looks}) or min(self.looks, default=1) < 1:
            raise CalibrationError(f"looks: expected ascending sizes such as 1500, 3000, got {list(self.looks)}")
        if self.looks and self.looks[0] < (fewest := ceil(log(self.risk / len(self.looks)) / log1p(-self.loss))):
            raise CalibrationError(
                f"looks: expected sizes of at least {fewest}, the fewest inputs that can show a loss of at most "
                f"{100 * self.loss:.4g} % in one of {len(self.looks)} tests, got {self.looks[0]}"
            )

    def look(self, n: int) -> tuple[int, int]:
        """Return which of the planned tests n inputs are enough for, from 1, and the number of inputs in it.

        Raises:
            CalibrationError: they are fewer than the smallest planned size.
        """
        reached = [size for size in self.looks if size <= n]
        if self.looks and not reached:
            raise CalibrationError(f"looks: expected at least the first planned size, {self.looks[0]}, got {n} inputs")
        return (len(reached), reached[-1]) if reached else (1, n)

    def __str__(self) -> str:
        return (
            f"least offload at a loss of at most {100 * self.loss:.6g} % against asking the remote always, "
            f"certified with probability {1 - self.risk:.4g}"
        )

    def choose(self, curve: Sequence[P], remote_accuracy: float, n: float) -> P:
        """Return the point of least offload whose loss on these inputs is small enough. It is not certified."""
        return LeastOffload(loss=self.loss).choose(curve, remote_accuracy, n)


@dataclass(frozen=True)
class LeastCost(Objective):
    """Least expected cost per input. All costs are in one unit of the user's choice.

    Attributes:
        local: cost of one local inference.
        remote: cost of one remote inference.
        transfer: cost of the bytes of one forward.
        error: cost of one wrong answer; or, where errors cost differently, a cost per true class [classes], the same by
            class name, a matrix [classes, classes] by true class and answer, or `ErrorCosts`. Labels are then those of
            least expected cost.

    Raises:
        CalibrationError: a cost is negative or not finite, all are 0, or the costs of the errors are not of these
            forms.

    >>> LeastCost(0.0, 1.0, 0.5, [1.0, 20.0]).costs
    ErrorCosts(values=(1.0, 20.0))
    >>> LeastCost(0.0, 1.0, 0.5, {"defect": 20.0, "good": 1.0}).for_classes(2, ["good", "defect"]).costs
    ErrorCosts(values=(1.0, 20.0))
    """

    local: float
    remote: float
    transfer: float
    error: float | Mapping[str, float] | Sequence[float] | Sequence[Sequence[float]] | ErrorCosts

    def __post_init__(self) -> None:
        alike = isinstance(self.error, (int, float))
        for name in ("local", "remote", "transfer", *(["error"] if alike else [])):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise CalibrationError(f"{name}: expected a cost of 0 or more, got {value}")
        if alike and not any((self.local, self.remote, self.transfer, self.error)):
            raise CalibrationError("costs: expected one above 0, got zeros only")
        if alike or isinstance(self.error, ErrorCosts):
            return
        given: Any = self.error
        try:
            costs = ErrorCosts(tuple(given.values()) if isinstance(given, Mapping) else given)
        except ArgumentError as error:
            raise CalibrationError(f"error: {error}") from error
        if not isinstance(given, Mapping):
            object.__setattr__(self, "error", costs)

    def __str__(self) -> str:
        error = f"{self.error:g} per error" if isinstance(self.error, (int, float)) else self._values
        return (
            f"least cost at {self.local:g} per local and {self.remote:g} per remote inference, "
            f"{self.transfer:g} per transfer and {error}"
        )

    @property
    def costs(self) -> ErrorCosts | None:
        """The costs of the errors where they differ, else None.

        Raises:
            CalibrationError: they are given by class name; call `for_classes`.
        """
        if isinstance(self.error, Mapping):
            raise CalibrationError("error: expected costs in the order of the classes, got names; call for_classes")
        return None if isinstance(self.error, (int, float)) else self._values

    @property
    def largest_error(self) -> float:
        """The cost of the costliest error."""
        return float(self.error) if isinstance(self.error, (int, float)) else self._values.largest

    @property
    def _values(self) -> ErrorCosts:
        given: Any = self.error
        return ErrorCosts(tuple(given.values())) if isinstance(given, Mapping) else given

    def for_classes(self, classes: int, names: Sequence[str] = ()) -> LeastCost:
        """Return the objective with the costs of the errors in the order of the classes.

        Args:
            classes: number of classes.
            names: of the classes; empty if they are not known.

        Raises:
            CalibrationError: the costs are those of other classes.
        """
        costs: Any = self.error
        if isinstance(costs, Mapping):
            if set(costs) != set(names):
                expected = f"expected one for each of {', '.join(names)}" if names else "expected a list, without names"
                raise CalibrationError(f"error: {expected}, got costs of {', '.join(map(str, costs))}")
            return replace(self, error=[costs[name] for name in names])
        if isinstance(costs, ErrorCosts) and costs.classes != classes:
            raise CalibrationError(f"error: expected the costs of {classes} classes, got those of {costs.classes}")
        return self

    def cost(self, point: Point) -> float:
        """Return the expected cost per input at a point.

        Where errors cost differently and the point has no `cost` of its own, its accuracy counts as 1 - cost of its
        errors / largest cost.
        """
        errors = (1 - point.accuracy) * self.largest_error
        if isinstance(point, OperatingPoint) and point.cost is not None:
            errors = point.cost.value
        return self.local + point.offload_rate * (self.remote + self.transfer) + errors

    @property
    def price(self) -> float:
        """The cost of a forward, as a share of the cost of the costliest error."""
        forward, largest = self.remote + self.transfer, self.largest_error
        return min(forward / largest, _NEVER_WORTH_IT) if largest else _NEVER_WORTH_IT * (forward > 0)

    def choose(self, curve: Sequence[P], remote_accuracy: float, n: float) -> P:  # noqa: ARG002
        """Return the cheapest point, and of equally cheap ones the one that forwards least."""
        return min(curve, key=self.cost)


def _check_share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise CalibrationError(f"{name}: expected a share from 0 to 1, got {value}")


def _check_probability(name: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise CalibrationError(f"{name}: expected a probability between 0 and 1, got {value}")
