"""Read what a remote returned or raised: a prediction or a failure for each input."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from edgecascade.runtime.decisions import NO_CLASSES
from edgecascade.runtime.request import TOO_LATE, Failure
from edgecascade.types.answer import Decode, Outputs, Prediction, Reason
from edgecascade.types.costs import labels_of
from edgecascade.types.errors import CircuitOpen, InvalidReply, RemoteRefusal, RemoteUnreachable, first_line
from edgecascade.types.merge import PredictionRows
from edgecascade.types.policy import Policy
from edgecascade.types.softmax import two_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgecascade.runtime.remotes.remote import Remote, Replied
    from edgecascade.types.document import AskedChat

__all__ = [
    "OutputReader",
    "Reader",
    "ScoreReader",
    "ScoresRead",
    "check_outputs",
    "failure_of",
    "outputs_of",
    "predictions",
    "read_scores",
]

_ROUNDED = 1e-6  # of a probability, below 0
_SUM_ROUNDED = 1e-3
_SUM_OF_ALL = 0.02  # by which probabilities may miss a sum of 1
_KINDS = "biufSUO"  # of arrays that a general task may answer with: numbers, text, and objects that are text or bytes


class ScoresRead(NamedTuple):
    """Scores of n inputs as they were read.

    Attributes:
        rows: the predictions; those of rows that are no answers mean nothing.
        usable: bool [n], which rows are answers.
        failure: of the other rows.
    """

    rows: PredictionRows
    usable: NDArray[np.bool_]
    failure: Failure

    def predictions(self) -> list[Prediction | Failure]:
        """Return a prediction or the failure for each input."""
        label, confidence, probabilities = self.rows
        return [
            Prediction(k, sure, row) if good else self.failure
            for k, sure, row, good in zip(
                label.tolist(), confidence.tolist(), probabilities, self.usable.tolist(), strict=True
            )
        ]


class Reader(Protocol):
    """Reads the replies of a remote."""

    def expect(self, remote: Remote) -> None:
        """Tell a remote what its replies are read for, if it wants to know.

        Raises:
            ArgumentError: the remote cannot answer so.
        """
        ...

    def __call__(self, replied: Replied, n: int, remote: Remote) -> list[Prediction | Failure]:
        """Return a prediction or a failure for each of n inputs.

        Raises:
            InvalidReply: the reply is not one about n inputs.
        """
        ...


@dataclass(frozen=True)
class ScoreReader:
    """Reads scores as calibrated predictions of a classifier.

    Attributes:
        labels: names of the classes, of which the scores must have one column each.
        policy: returns the policy in force, which defines how to read the scores.
        asked: how a generative model was asked in calibration, or None if the remote was another model.
    """

    labels: tuple[str, ...]
    policy: Callable[[], Policy]
    asked: AskedChat | None = None

    def expect(self, remote: Remote) -> None:
        """Tell the remote the names of the classes, and before that how it was asked in calibration."""
        from edgecascade.runtime.remotes.remote import expect, expect_asked

        if self.asked is not None:
            expect_asked(remote, self.asked)
        expect(remote, self.labels)

    def __call__(self, replied: Replied, n: int, remote: Remote) -> list[Prediction | Failure]:
        """Return the predictions; rows that are no scores fail."""
        return self.rows(replied, n, remote).predictions()

    def rows(self, replied: Replied, n: int, remote: Remote) -> ScoresRead:
        """Return the same as arrays."""
        names = getattr(remote, "class_names", ())
        read = read_scores(replied, n, self.labels, self.policy(), names=names)
        return read if self.asked is None else _of_chat(read, replied)


@dataclass(frozen=True)
class OutputReader:
    """Reads named arrays as the answers to a general task.

    Attributes:
        names: of the outputs that an answer has; empty for all that come.
        decode: returns the result for the outputs of one input. An exception of it is a failure of the remote.
    """

    names: tuple[str, ...]
    decode: Decode | None = None

    def expect(self, remote: Remote) -> None:
        """Tell the remote the names of the outputs."""
        from edgecascade.runtime.remotes.remote import expect_outputs

        expect_outputs(remote, self.names)

    def __call__(self, replied: Replied, n: int, remote: Remote) -> list[Prediction | Failure]:  # noqa: ARG002
        """Return the answers; those without an output, with one that is only NaN, or that `decode` refuses, fail."""
        return [self._prediction(one) for one in outputs_of(replied, n, self.names)]

    def _prediction(self, outputs: Outputs) -> Prediction | Failure:
        result = None
        try:
            check_outputs(outputs, self.names)
            if self.decode is not None:
                result = self.decode(outputs)
        except InvalidReply as error:
            return Failure(Reason.REMOTE_ERROR, str(error), about_input=True)
        except Exception as error:  # the application's; its words may hold data
            said = f"remote: its outputs cannot be decoded: {type(error).__name__}"
            return Failure(Reason.REMOTE_ERROR, said, about_input=True)
        return Prediction(-1, math.nan, NO_CLASSES, outputs, result)


def outputs_of(replied: Any, n: int, names: Sequence[str] = ()) -> list[Outputs]:
    """Return the named arrays of each of n inputs, without the batch axis, in a remote's reply.

    Args:
        replied: arrays [n, ...] by name; or a sequence of n mappings from names to arrays of any shape, for outputs
            that have no batch axis, such as the boxes found in each image.
        n: number of inputs that it was asked about.
        names: of the outputs to return; empty for all. A mapping of a sequence that lacks one is returned as it is.

    Raises:
        InvalidReply: it is neither, lacks an output, or has an array without n rows.
    """
    if isinstance(replied, Mapping):
        arrays = {str(name): np.asarray(array) for name, array in _chosen(replied, names).items()}
        if missing := [name for name in names if name not in arrays]:
            raise InvalidReply(_lacks(missing, replied))
        wrong = next((name for name, array in arrays.items() if array.ndim == 0 or len(array) != n), None)
        if wrong is not None:
            raise InvalidReply(
                f"remote: expected {n} rows in the output {wrong!r:.80}, one for each input, got "
                f"{list(arrays[wrong].shape)!s:.80}"
            )
        return [{name: array[i, ...] for name, array in arrays.items()} for i in range(n)]
    if not isinstance(replied, Sequence) or not all(isinstance(one, Mapping) for one in replied):
        raise InvalidReply(f"remote: expected arrays by name, got {type(replied).__name__}")
    if len(replied) != n:
        raise InvalidReply(f"remote: expected the outputs of {n} inputs, got those of {len(replied)}")
    return [{str(name): np.asarray(array) for name, array in _chosen(one, names).items()} for one in replied]


def _chosen(found: Mapping[Any, Any], names: Sequence[str]) -> Mapping[Any, Any]:
    return {name: found[name] for name in names} if names and all(name in found for name in names) else found


def check_outputs(outputs: Outputs, names: Sequence[str]) -> None:
    """Check that the outputs of one input are an answer.

    Raises:
        InvalidReply: one is missing, is neither numbers nor text, or holds only NaN.
    """
    if missing := [name for name in names if name not in outputs]:
        raise InvalidReply(_lacks(missing, outputs))
    if not outputs:
        raise InvalidReply("remote: expected arrays by name, got none")
    for name, array in outputs.items():
        objects = array.dtype.kind == "O"
        if array.dtype.kind not in _KINDS or (objects and not all(isinstance(one, (str, bytes)) for one in array.flat)):
            raise InvalidReply(f"remote: expected numbers or text in the output {name!r:.80}, got {array.dtype}")
        if array.dtype.kind == "f" and array.size and np.isnan(array).all():
            raise InvalidReply(f"remote: expected numbers in the output {name!r:.80}, got only NaN")


def _lacks(missing: Sequence[str], found: Mapping[Any, Any]) -> str:
    got = ", ".join(sorted(map(str, found)))
    return f"remote: expected the outputs {', '.join(missing)!s:.200}, got {got or 'none'!s:.200}"


def predictions(
    scores: Replied, n: int, labels: Sequence[str], policy: Policy, *, names: Sequence[str] = ()
) -> list[Prediction | Failure]:
    """Return what `read_scores` does, as a prediction for each input; a row that is no answer fails."""
    return read_scores(scores, n, labels, policy, names=names).predictions()


def read_scores(
    scores: Replied, n: int, labels: Sequence[str], policy: Policy, *, names: Sequence[str] = ()
) -> ScoresRead:
    """Return the calibrated predictions for n inputs, and which rows are answers.

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
    read = PredictionRows(chosen, calibration.confidence(probabilities, chosen), probabilities)
    return ScoresRead(read, usable, failure)


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
    kind = type(error).__name__ + (f" {error.status}" if isinstance(error, RemoteRefusal) else "")
    if isinstance(error, RemoteUnreachable):
        reason = Reason.CIRCUIT_OPEN if isinstance(error, CircuitOpen) else Reason.OFFLINE
        return Failure(reason, detail, error=kind)
    return Failure(Reason.REMOTE_ERROR, detail, about_input, kind)


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


def _of_chat(read: ScoresRead, replied: Replied) -> ScoresRead:
    """Return what was read of a generative model, whose scores are probabilities that sum to 1; others fail."""
    scores = np.asarray(getattr(replied, "confidences", replied))
    if scores.ndim != 2 or scores.shape[1] < 2:
        return read
    with np.errstate(invalid="ignore"):  # of infinities, which are not usable
        whole = read.usable & (np.abs(scores.sum(axis=1, dtype=np.float64) - 1) <= _SUM_OF_ALL)
    if whole.all():
        return read
    said = "remote: expected probabilities that sum to 1, as of the generative model in calibration, got other scores"
    return ScoresRead(read.rows, whole, Failure(Reason.REMOTE_ERROR, said, about_input=True))


def _are_probabilities(scores: NDArray[Any]) -> bool:
    """Return whether every row sums to 1 within what float16 rounds off, and none is certain, as no logits do."""
    inside = (scores.min(axis=1) >= 0) & (scores.max(axis=1) < 1)
    return bool((inside & (np.abs(scores.sum(axis=1, dtype=np.float64) - 1) < _SUM_ROUNDED)).all())
