"""Is this pair worth a cascade? What an operating curve shows, in sentences."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.intervals import paired_difference_interval
from edgecascade.types.estimate import OperatingPoint

__all__ = ["viability"]

_NEAR = 0.01  # within a point of the remote
_TOO_WEAK = 0.9  # share forwarded at which a cascade is hardly one


def viability(
    advantage: NDArray[np.float32],
    kept_correct: NDArray[np.bool_],
    forwarded_correct: NDArray[np.bool_],
    curve: tuple[OperatingPoint, ...],
    chosen: OperatingPoint,
) -> tuple[str, ...]:
    """Sentences that a person can act on; a difference is called one only if its 95 % interval excludes 0.

    Args:
        advantage: float32 [n].
        kept_correct: bool [n], the local answers.
        forwarded_correct: bool [n], the answers once the remote has replied.
        curve: of these arrays.
        chosen: the point of it that the plan chose.
    """
    low, high = paired_difference_interval(forwarded_correct, kept_correct)
    gain = f"asking always changes accuracy by {_points(low)} to {_points(high)} points (95 %, n = {chosen.n})"
    if low <= 0:
        verdict = "not shown to be better than the local model" if high > 0 else "worse than the local model"
        return (
            f"the remote is {verdict} on these inputs: {gain}",
            *_too_far(advantage, kept_correct, forwarded_correct, curve),
        )
    return (
        _needed(curve),
        *_too_far(advantage, kept_correct, forwarded_correct, curve),
        *_blind(advantage, kept_correct, forwarded_correct, chosen),
    )


def _needed(curve: tuple[OperatingPoint, ...]) -> str:
    always = curve[-1].accuracy
    near = next(point for point in curve if point.accuracy >= always - _NEAR)
    if near.offload_rate == 0:
        return "the local model alone is within a point of asking the remote always"
    if near.offload_rate >= _TOO_WEAK:
        return (
            f"the local model is too weak: {near.offload_rate:.0%} would have to be forwarded to come within a point "
            "of asking the remote always"
        )
    return f"forwarding {near.offload_rate:.0%} comes within a point of asking the remote always"


def _too_far(
    advantage: NDArray[np.float32],
    kept_correct: NDArray[np.bool_],
    forwarded_correct: NDArray[np.bool_],
    curve: tuple[OperatingPoint, ...],
) -> tuple[str, ...]:
    best = max(curve, key=lambda point: point.accuracy)
    cascade = np.where(advantage < np.float32(best.threshold), forwarded_correct, kept_correct)
    low, high = paired_difference_interval(
        cascade, forwarded_correct, level=1 - 0.05 / len(curve)
    )  # the best was sought
    if low <= 0:
        return ()
    return (
        f"forwarding beyond {best.offload_rate:.0%} makes the answer worse: forwarding everything loses "
        f"{low * 100:.1f} to {high * 100:.1f} points",
    )


def _blind(
    advantage: NDArray[np.float32],
    kept_correct: NDArray[np.bool_],
    forwarded_correct: NDArray[np.bool_],
    chosen: OperatingPoint,
) -> tuple[str, ...]:
    """Whether the inputs chosen gain more from being forwarded than the others."""
    forward = advantage < np.float32(chosen.threshold)
    if not 0 < forward.sum() < len(forward):
        return ()
    gain = forwarded_correct.astype(float) - kept_correct
    difference = gain[forward].mean() - gain[~forward].mean()
    error = np.sqrt(gain[forward].var() / forward.sum() + gain[~forward].var() / (~forward).sum())
    if difference > 1.96 * error:
        return ()
    return ("the score does not tell where the remote helps: forwarding inputs at random would do as well",)


def _points(share: float) -> str:
    return f"{share * 100:+.1f}"
