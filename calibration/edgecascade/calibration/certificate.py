"""A promise: the loss against asking the remote always is at most e, with probability at least 1 - d.

Thresholds are tested one after the other, from forwarding everything downwards, until one cannot be
shown to hold; the last that could is the promise. Testing in a fixed order pays for no more than one test
(fixed-sequence testing; Angelopoulos et al., "Learn then Test", arXiv 2110.01052, section 4).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.noninferiority import betting_p_value, exact_p_value, sample_size
from edgecascade.types.document import Certificate
from edgecascade.types.errors import CalibrationError

__all__ = ["certify", "check_promise"]


def certify(
    advantage: NDArray[np.float32],
    kept_correct: NDArray[np.bool_] | NDArray[np.floating],
    forwarded_correct: NDArray[np.bool_] | NDArray[np.floating],
    remote_correct: NDArray[np.bool_] | NDArray[np.floating],
    thresholds: NDArray[np.floating],
    *,
    loss: float,
    risk: float,
) -> Certificate:
    """The threshold that forwards least and whose loss is certified.

    The table, the score, the merge rule and the thresholds must come from other data than these arrays.

    Args:
        advantage: float32 [n], of fresh inputs.
        kept_correct: bool [n], the local answers; or a verifier's scores in [0, 1], here and in the next two.
        forwarded_correct: bool [n], the merged answers; the remote's, if it replaces.
        remote_correct: bool [n], the remote's answers.
        thresholds: to be tested from the highest down.
        loss: e, in (0, 1).
        risk: d, in (0, 1).

    Raises:
        CalibrationError: nothing but forwarding everything can be promised; the message says how many inputs
            would do.
    """
    check_promise(loss, risk)
    found = None
    for threshold in np.sort(np.unique(thresholds))[::-1]:
        forward = ~(advantage >= np.float32(threshold))
        if forward.all() and np.array_equal(forwarded_correct, remote_correct):
            continue  # it is the remote
        losses = remote_correct.astype(float) - np.where(forward, forwarded_correct, kept_correct)
        p_value = _p_value(losses, loss)
        if p_value > risk:
            return _or_refusal(found, losses, loss, risk)
        found = Certificate(loss, risk, float(threshold), float(forward.mean()), len(losses), p_value)
    return _or_refusal(found, np.zeros(len(advantage)), loss, risk)


def check_promise(loss: float, risk: float) -> None:
    """Whether both can be promised at all.

    Raises:
        CalibrationError: one of them is not in (0, 1).
    """
    for name, value in (("loss", loss), ("risk", risk)):
        if not 0 < value < 1:
            raise CalibrationError(f"{name}: expected a number between 0 and 1, such as 0.01, got {value}")


def _p_value(losses: NDArray[np.float64], bound: float) -> float:
    if np.isin(losses, (-1.0, 0.0, 1.0)).all():
        return exact_p_value(int((losses > 0).sum()), int((losses < 0).sum()), len(losses), bound)
    shuffled = np.random.default_rng(0).permutation(losses)  # data may come sorted, and a bettor would see it
    return betting_p_value(shuffled, bound)


def _or_refusal(found: Certificate | None, losses: NDArray[np.float64], loss: float, risk: float) -> Certificate:
    if found is not None:
        return found
    n, mean = len(losses), float(losses.mean())
    if mean < loss:
        enough = f"about {sample_size(loss, risk, float(np.abs(losses).mean()), max(mean, 0.0))} would do"
    else:
        enough = f"more would help only if chance alone made it lose {mean:.1%} on these"
    raise CalibrationError(
        f"certificate: {n} inputs do not show a loss of at most {loss:.1%} with probability "
        f"{100 * (1 - risk):g}% for any cascade that keeps some local; {enough}"
    )
