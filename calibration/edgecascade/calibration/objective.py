"""What a plan is to achieve: which point of an operating curve to choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import Point

__all__ = ["LeastCost", "LeastOffload", "MostAccuracy", "Objective", "WhileItHelps"]

_ROUNDING = 1e-9
P = TypeVar("P", bound=Point)


class Objective(Protocol):
    """Anything that can choose."""

    def choose(self, curve: Sequence[P], remote_accuracy: float) -> P:
        """One point of a curve that runs from forwarding nothing to forwarding everything.

        Args:
            curve: by rising offload rate.
            remote_accuracy: of the remote's own answers on the same inputs.

        Raises:
            CalibrationError: no point will do, with the nearest.
        """
        ...

    def merit(self, point: Point) -> float:
        """How well a point that was chosen on other inputs serves; the higher the better."""
        ...


@dataclass(frozen=True)
class MostAccuracy:
    """Most accuracy at an offload rate: forward as much as the rate allows, but only where it is expected to help.

    Attributes:
        offload_rate: the largest wanted, in [0, 1].
    """

    offload_rate: float

    def __post_init__(self) -> None:
        _check_share("offload_rate", self.offload_rate)

    def __str__(self) -> str:
        return f"most accuracy at {self.offload_rate:.0%} offload or less"

    def merit(self, point: Point) -> float:
        """Its accuracy."""
        return point.accuracy

    def choose(self, curve: Sequence[P], remote_accuracy: float) -> P:  # noqa: ARG002
        """The last point within the rate whose threshold is not above 0."""
        return max(
            (p for p in curve if p.offload_rate <= self.offload_rate + _ROUNDING and p.threshold <= 0.0),
            key=lambda point: point.offload_rate,
        )


@dataclass(frozen=True)
class WhileItHelps:
    """Forward wherever the remote is expected to do better: stop where advantage crosses zero."""

    def __str__(self) -> str:
        return "forward wherever the remote is expected to do better"

    def merit(self, point: Point) -> float:
        """Its accuracy."""
        return point.accuracy

    def choose(self, curve: Sequence[P], remote_accuracy: float) -> P:
        """The last point whose threshold is not above 0."""
        return MostAccuracy(1.0).choose(curve, remote_accuracy)


@dataclass(frozen=True)
class LeastOffload:
    """Least offload at an accuracy, or at a loss against asking the remote always.

    Attributes:
        accuracy: the least wanted, in [0, 1]; or None.
        loss: the largest difference to the accuracy of asking always; or None.
    """

    accuracy: float | None = None
    loss: float | None = None

    def __post_init__(self) -> None:
        if (self.accuracy is None) == (self.loss is None):
            raise CalibrationError("accuracy, loss: expected one of the two")
        if self.accuracy is not None:
            _check_share("accuracy", self.accuracy)
        if self.loss is not None:
            _check_share("loss", self.loss)

    def __str__(self) -> str:
        if self.accuracy is not None:
            return f"least offload at an accuracy of {self.accuracy:.1%}"
        return f"least offload at a loss of {self.loss:.1%} against asking the remote always"

    def merit(self, point: Point) -> float:
        """How little it forwards; of a score or merge rule that needs less for the same accuracy, more."""
        return -point.offload_rate

    def choose(self, curve: Sequence[P], remote_accuracy: float) -> P:
        """The first point that is accurate enough."""
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
class LeastCost:
    """Least expected cost per input, in any one currency.

    Attributes:
        local: of one local inference.
        remote: of one remote inference.
        transfer: of the bytes of one forward.
        error: of one wrong answer.
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
        """Expected cost per input at a point."""
        forwarding = point.offload_rate * (self.remote + self.transfer)
        return self.local + forwarding + (1 - point.accuracy) * self.error

    def merit(self, point: Point) -> float:
        """Its cost, negative."""
        return -self.cost(point)

    def choose(self, curve: Sequence[P], remote_accuracy: float) -> P:  # noqa: ARG002
        """The cheapest point; of equally cheap ones that which forwards least."""
        return min(curve, key=self.cost)


def _check_share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise CalibrationError(f"{name}: expected a share from 0 to 1, got {value}")
