"""Read what a remote returned or raised: a prediction or a failure for each input."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecascade.runtime.request import TOO_LATE, Failure
from edgecascade.types.answer import Prediction, Reason
from edgecascade.types.costs import labels_of
from edgecascade.types.errors import CircuitOpen, InvalidReply, RemoteUnreachable, first_line
from edgecascade.types.policy import Policy
from edgecascade.types.softmax import two_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgecascade.runtime.remotes.remote import Scores

__all__ = ["failure_of", "predictions"]

_ROUNDED = 1e-6  # of a probability, below 0
_SUM_ROUNDED = 1e-3


def predictions(
    scores: Scores, n: int, labels: Sequence[str], policy: Policy, *, names: Sequence[str] = ()
) -> list[Prediction | Failure]:
    """Return a prediction for each input; a row that is no answer fails, and the other rows do not.

    Args:
        scores: what the remote returned.
        n: number of inputs that it was asked about.
        labels: names of the classes.
        policy: defines how to read the scores.
        names: of the remote's classes, in the order of its scores; empty if that is the order in calibration.

    Raises:
        InvalidReply: the scores are not those of these inputs and classes, or of another kind than in calibration.
    """
    from edgecascade.runtime.remotes.remote import RemoteLabels

    calibration, classes = policy.calibrate_remote, len(labels)
    assert calibration is not None  # as in every classifier's policy
    if names:
        from edgecascade.types.class_names import columns_for

        calibration = calibration._replace(columns=columns_for(tuple(labels), names, calibration.columns))
    if isinstance(scores, RemoteLabels):
        scores, calibration = scores.probabilities(classes), calibration._replace(probabilities=True)
    scores = np.asarray(scores)
    if classes == 2 and scores.shape in ((n,), (n, 1)) and scores.dtype.kind in "fiu":
        scores = two_columns(scores.astype(np.float64), probabilities=calibration.probabilities)
    if scores.shape != (n, classes) or scores.dtype.kind not in "fiu":
        raise InvalidReply(f"remote: expected numbers [{n}, {classes}], got {scores.dtype} {list(scores.shape)}")
    if not calibration.probabilities and _are_probabilities(scores):
        raise InvalidReply(
            "remote: expected logits, as in calibration, got probabilities; name the output with the logits, or "
            "recalibrate"
        )
    usable, failure = _usable(scores, calibration.probabilities)
    probabilities = calibration(scores if usable.all() else np.where(usable[:, None], scores, 1))
    chosen = labels_of(probabilities, policy.costs)
    confidences = calibration.confidence(probabilities, chosen)
    return [
        Prediction(label, confidence, row) if good else failure
        for label, confidence, row, good in zip(
            chosen.tolist(), confidences.tolist(), probabilities, usable, strict=True
        )
    ]


def failure_of(error: BaseException) -> Failure:
    """Return the failure that an exception of the remote stands for."""
    from concurrent.futures import CancelledError
    from concurrent.futures import TimeoutError as FutureTimeoutError

    if isinstance(error, (TimeoutError, FutureTimeoutError, CancelledError)):
        return TOO_LATE
    detail, about_input = type(error).__name__, True  # of an error of another library, nothing is known
    with suppress(BaseException):  # the error is foreign code, too
        detail = first_line(error)
        about_input = getattr(error, "about_input", True) is not False
    if isinstance(error, RemoteUnreachable):
        reason = Reason.CIRCUIT_OPEN if isinstance(error, CircuitOpen) else Reason.OFFLINE
        return Failure(reason, detail)
    return Failure(Reason.REMOTE_ERROR, detail, about_input)


def _usable(scores: NDArray[Any], probabilities: bool) -> tuple[NDArray[np.bool_], Failure]:
    """Return which rows of scores [n, classes] are answers, bool [n], and the failure of the others.

    As in calibration, a logit may be -inf, which masks its class, but not all of a row.
    """
    most = scores.max(axis=1)  # NaN if any is
    if probabilities:
        wrong = "positive probabilities, got only zeros, or numbers below 0, or NaN"
        usable = (most > 0) & np.isfinite(most) & (scores.min(axis=1) >= -_ROUNDED)
    else:
        wrong, usable = "finite scores, got NaN or infinity", np.isfinite(most)
    return usable, Failure(Reason.REMOTE_ERROR, f"remote: expected {wrong}", about_input=True)


def _are_probabilities(scores: NDArray[Any]) -> bool:
    """Return whether every row sums to 1 within what float16 rounds off, and none is certain, as no logits do."""
    inside = (scores.min(axis=1) >= 0) & (scores.max(axis=1) < 1)
    return bool((inside & (np.abs(scores.sum(axis=1, dtype=np.float64) - 1) < _SUM_ROUNDED)).all())
