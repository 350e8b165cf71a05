"""Objectives: which point of an operating curve a plan chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import Point

__all__ = ["CertifiedLoss", "LeastCost", "LeastOffload", "MostAccuracy", "Objective", "WhileItHelps"]

_ROUNDING = 1e-9
P = TypeVar("P", bound=Point)


class Objective(Protocol):
    """A rule that chooses a point of an operating curve. Its `str` is the aim in words."""

    def choose(self, curve: Sequence[P], remote_accuracy: float) -> P:
        """Return one point of a curve that runs from forwarding nothing to forwarding everything.

        Args:
            curve: points by rising offload rate.
            remote_accuracy: accuracy of the remote's own answers on the same inputs.

        Raises:
            CalibrationError: no point meets the objective; the message names the nearest.
        """
        ...

    def merit(self, point: Point) -> float:
        """Return how well a point that was chosen on other inputs serves; higher is better."""
        ...


@dataclass(frozen=True)
class MostAccuracy:
    """Most accuracy at an offload rate: forward as much as the rate allows, where the remote is expected to help.

    Attributes:
        offload_rate: the largest offload rate, in [0, 1].
    """

    offload_rate: float

    def __post_init__(self) -> None:
        _check_share("offload_rate", self.offload_rate)

    def __str__(self) -> str:
        return f"most accuracy at {self.offload_rate:.0%} offload or less"

    def merit(self, point: Point) -> float:
        """Return its accuracy."""
        return point.accuracy

    def choose(self, curve: Sequence[P], remote_accuracy: float) -> P:  # noqa: ARG002
        """Return the last point within the rate whose threshold is not above 0."""
        return max(
            (p for p in curve if p.offload_rate <= self.offload_rate + _ROUNDING and p.threshold <= 0.0),
            key=lambda point: point.offload_rate,
        )


@dataclass(frozen=True)
class WhileItHelps:
    """Forward wherever the remote is expected to do better: up to the point where the advantage crosses zero."""

    def __str__(self) -> str:
        return "forward wherever the remote is expected to do better"

    def merit(self, point: Point) -> float:
        """Return its accuracy."""
        return point.accuracy

    def choose(self, curve: Sequence[P], remote_accuracy: float) -> P:
        """Return the last point whose threshold is not above 0."""
        return MostAccuracy(1.0).choose(curve, remote_accuracy)


@dataclass(frozen=True)
class LeastOffload:
    """Least offload at an accuracy, or at a loss against asking the remote always. Give one of the two.

    Attributes:
        accuracy: the least accuracy, in [0, 1], or None.
        loss: the largest loss of accuracy against asking the remote always, in [0, 1], or None.

    Raises:
        CalibrationError: not exactly one is given, or it is not in [0, 1].
    """

    accuracy: float | None = None
    loss: float | None = None

    def __post_init__(self) -> None:
        if (self.accuracy is None) == (self.loss is None):
            raise CalibrationError(f"accuracy, loss: expected one of the two, got {self.accuracy} and {self.loss}")
        if self.accuracy is not None:
            _check_share("accuracy", self.accuracy)
        if self.loss is not None:
            _check_share("loss", self.loss)

    def __str__(self) -> str:
        if self.accuracy is not None:
            return f"least offload at an accuracy of {self.accuracy:.1%}"
        return f"least offload at a loss of {self.loss:.1%} against asking the remote always"

    def merit(self, point: Point) -> float:
        """Return its offload rate, negative."""
        return -point.offload_rate

    def choose(self, curve: Sequence[P], remote_accuracy: float) -> P:
        """Return the first point that is accurate enough."""
        wanted = self.accuracy if self.accuracy is not None else remote_accuracy - (self.loss or 0.0)
        for point in curve:
            if point.accuracy >= wanted - _ROUNDING:
                return point
        best = max(curve, key=lambda point: point.accuracy)
        raise CalibrationError(
            f"accuracy: {wanted:.1%} is out of reach on the calibration data; "
            f"the best is {best.accuracy:.1%}, at {best.offload_rate:.1%} offload"
        )


@dataclass(frozen=True)
class CertifiedLoss:
    """Least offload with a certificate that the loss against asking the remote always is at most `loss`.

    A certificate is tested on inputs that nothing was fitted or chosen on. `plan_cascade` sets them aside, and
    `plan_certified` takes them as an argument. Until the test, points are chosen as `LeastOffload(loss=loss)` does.

    Attributes:
        loss: e, the largest loss of accuracy against asking the remote always, in (0, 1).
        risk: d, the probability, over the draw of the data, that the loss is larger, in (0, 1).
        testing_share: share of the inputs that `plan_cascade` sets aside for the test.

    Raises:
        CalibrationError: loss or risk is not in (0, 1).
    """

    loss: float
    risk: float = 0.05
    testing_share: float = 2 / 3

    def __post_init__(self) -> None:
        for name in ("loss", "risk"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise CalibrationError(f"{name}: expected a number between 0 and 1, such as 0.01, got {value}")

    def __str__(self) -> str:
        return (
            f"least offload at a loss of at most {self.loss:.1%} against asking the remote always, "
            f"certified with probability {1 - self.risk:.4g}"
        )

    def merit(self, point: Point) -> float:
        """Return its offload rate, negative."""
        return -point.offload_rate

    def choose(self, curve: Sequence[P], remote_accuracy: float) -> P:
        """Return the first point whose loss on these inputs is small enough. It is not certified."""
        return LeastOffload(loss=self.loss).choose(curve, remote_accuracy)


@dataclass(frozen=True)
class LeastCost:
    """Least expected cost per input. All costs are in one unit of the user's choice.

    Attributes:
        local: cost of one local inference.
        remote: cost of one remote inference.
        transfer: cost of the bytes of one forward.
        error: cost of one wrong answer.

    Raises:
        CalibrationError: a cost is negative or not finite.
    """

    local: float
    remote: float
    transfer: float
    error: float

    def __post_init__(self) -> None:
        for name in ("local", "remote", "transfer", "error"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise CalibrationError(f"{name}: expected a cost of 0 or more, got {value}")

    def __str__(self) -> str:
        return (
            f"least cost at {self.local:g} per local and {self.remote:g} per remote inference, "
            f"{self.transfer:g} per transfer and {self.error:g} per error"
        )

    def cost(self, point: Point) -> float:
        """Return the expected cost per input at a point."""
        forwarding = point.offload_rate * (self.remote + self.transfer)
        return self.local + forwarding + (1 - point.accuracy) * self.error

    def merit(self, point: Point) -> float:
        """Return its cost, negative."""
        return -self.cost(point)

    def choose(self, curve: Sequence[P], remote_accuracy: float) -> P:  # noqa: ARG002
        """Return the cheapest point, and of equally cheap ones the one that forwards least."""
        return min(curve, key=self.cost)


def _check_share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise CalibrationError(f"{name}: expected a share from 0 to 1, got {value}")
