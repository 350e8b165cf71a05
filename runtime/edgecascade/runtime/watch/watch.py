"""The watch over a deployed cascade: audits, comparisons of the two models, and alarms."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from edgecascade.runtime.batch import Batch
from edgecascade.types.answer import Decode, Prediction
from edgecascade.types.errors import ArgumentError
from edgecascade.types.estimate import Estimate
from edgecascade.types.policy import Policy

if TYPE_CHECKING:
    from edgecascade.types.document import CascadeDocument, TaskDocument
from edgecascade.runtime.watch.alarms import ALARMS, Alarm, Alarms
from edgecascade.runtime.watch.drift import BLOCKS, Reference, Windows
from edgecascade.runtime.watch.intervals import mean_gap, rate, stratified
from edgecascade.runtime.watch.recorder import PairRecorder

__all__ = ["ALARMS", "Alarm", "Comparisons", "Health", "Watch"]

_MISS = 0.05  # the probability that an interval of `Health` misses
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Health:
    """A snapshot of the watch. Counts are of all time; estimates are of the latest stretch of inputs, see `Watch`.

    Every interval except that of `drift` holds at all times of its stretch at once, with probability .95. Where
    replies fail to come, the compared inputs stand for those that were not compared.

    Attributes:
        inputs: all inputs.
        forwarded: inputs that the policy wanted to forward.
        not_a_number: inputs whose advantage is NaN.
        unplaced: inputs whose advantage is not in the file's table; the drift detector leaves them out.
        audited: inputs that stay on the device and were drawn for an audit.
        compared: replies that were compared, to audited and forwarded inputs.
        pairs: recorded pairs in memory, for `Watch.save`.
        agreement: the share of all inputs on which local and remote model give one label; for a general task, the
            mean of `Watch.agreement`.
        agreement_local: the same share of the inputs that stay on the device.
        agreement_forwarded: the same share of the forwarded inputs.
        calibration_gap: of inputs that stay on the device, mean local confidence less agreement: above 0 if the local
            model is overconfident, and also if the remote errs.
        judged_gap: of the same inputs, mean local confidence less the remote's calibrated probability of the local
            label: if the remote is calibrated, this is the local model's own calibration gap. For a general task, whose
            remote gives no probability, it is `calibration_gap`.
        offload_rate: the share of inputs that the policy wanted to forward.
        drift: total variation distance between the latest window and the calibration data.
        active: names of the alarms that have started and not cleared.
        raised: how often each alarm has started.
        alarms: the latest alarms, oldest first.
    """

    inputs: int
    forwarded: int
    not_a_number: int
    unplaced: int
    audited: int
    compared: int
    pairs: int
    agreement: Estimate
    agreement_local: Estimate
    agreement_forwarded: Estimate
    calibration_gap: Estimate
    judged_gap: Estimate
    offload_rate: Estimate
    drift: Estimate
    active: frozenset[str]
    raised: Mapping[str, int]
    alarms: tuple[Alarm, ...]


@dataclass
class Comparisons:
    """Sums over a stretch of inputs, of which some were compared: a sample of the local, and of the forwarded ones.

    Attributes:
        inputs: all inputs.
        forwarded: inputs that the policy wanted to forward.
        local_n: audited inputs.
        local_agreed: those of them to which both models gave one label; of a general task, the sum of their agreement.
        forwarded_n: forwarded inputs to which the remote replied.
        forwarded_agreed: likewise, of these.
        gap: sum over the audited inputs of the local confidence less 1 where the local label is the remote's most
            probable class. Unless errors cost differently, that is where both models gave one label. Of a general
            task, the local confidence less the agreement.
        judged: sum over the audited inputs of the local confidence less the remote's probability of the local label.
    """

    inputs: int = 0
    forwarded: int = 0
    local_n: int = 0
    local_agreed: float = 0
    forwarded_n: int = 0
    forwarded_agreed: float = 0
    gap: float = 0.0
    judged: float = 0.0

    def add(self, agreed: float, gap: float, judged: float, *, audited: bool) -> None:
        """Count a comparison: agreement, and the local confidence less what the remote says of the local label."""
        if audited:
            self.local_n += 1
            self.local_agreed += agreed
            self.gap += gap
            self.judged += judged
        else:
            self.forwarded_n += 1
            self.forwarded_agreed += agreed

    def agreement(self, risk: float) -> Estimate:
        """Return the agreement over all inputs: local and forwarded ones by their shares, each with half the risk."""
        share = self.forwarded / self.inputs if self.inputs else 0.0
        local = rate(self.local_agreed, self.local_n, risk / 2)
        forwarded = rate(self.forwarded_agreed, self.forwarded_n, risk / 2)
        return stratified([(1 - share, local), (share, forwarded)])


@dataclass(kw_only=True, eq=False)
class Watch:
    """Draws inputs for an audit, compares the predictions of local and remote model, and raises alarms. Thread-safe.

    Estimates forget: they are of the latest `memory / 2` to `memory` inputs, so that a change shows. No alarm can say
    which of the two models fails: under noise, for one, the remote may fail before the local model does.

    - `drift`: the scores of a window, or of a tenth of one, differ significantly from those of the calibration data,
      with a total variation distance of at least .1.
    - `offload rate`: in a window, it differs significantly from the planned rate, and by at least .05.
    - `agreement`: its interval is wholly below `least_agreement`, of inputs that stay on the device; if none was
      given, the interval over all inputs is wholly below the least agreement that the accuracies on the calibration
      data allow (their sum less 1).
    - `calibration`: the intervals of both gaps are wholly above `tolerance`, or above the calibration error (ECE)
      that the calibration data leaves possible, if that is more. For a general task, the mean loss of the remote's
      answers on the calibration data is added, since they stand for the truth.

    For a general task, agreement is what a function of yours returns. The default of `least_agreement` holds for it, as
    the allowance of `calibration` does, if 1 - agreement is a distance: if the answers of two models differ by no more
    than the sum of their distances from a third answer, the right one. So it is for equality and, nearly, for error
    rates of text. Without such a function, nothing is audited, and the other two alarms remain.

    Each is raised when it starts, and not again until it has cleared.

    Args:
        share: share in [0, 1] of the inputs that stay on the device to audit, and of the replies to forwarded inputs to
            record. So the recorded pairs are a plain sample of all inputs that get a reply.
        on_alarm: called with each alarm, one at a time, in a background thread; its exceptions are logged.
        window: inputs, a multiple of ten.
        risk: the probability of a false alarm of one name. `drift`, `offload rate`: per window, averaged over
            calibration sets, so that false alarms are on average at least `window / risk` inputs apart. `agreement`,
            `calibration`: per `memory / 2` inputs, however often they are read.
        memory: inputs after which the estimates have forgotten; at least two windows.
        least_agreement: see above.
        tolerance: see above.
        agreement: for a general task, how far the answers of both models agree, in [0, 1]: a function of the local and
            the remote `result`, or of both `outputs` where no decode function is given. It is called in background
            threads, as the decode function of the local model then is for inputs that are forwarded.
        record: the folder for recorded pairs, see `PairRecorder`; None records none. Pairs of classifiers only: the
            answers of a general task's remote have no probability from which a reference could be drawn, and against
            itself the remote is always right.
        most_pairs: the most recorded pairs.
        most_bytes: the most bytes of recorded pairs in memory.
        seed: seed of the random draws; None takes one from the system.

    Raises:
        ArgumentError: a value is out of range.
    """

    share: float = 0.01
    on_alarm: Callable[[Alarm], None] | None = None
    window: int = 1000
    risk: float = 1e-3
    memory: int = 200_000
    least_agreement: float | None = None
    tolerance: float = 0.05
    agreement: Callable[[Any, Any], float] | None = None
    record: str | os.PathLike[str] | None = None
    most_pairs: int = 2000
    most_bytes: int = 64 << 20
    seed: int | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("share", "least_agreement", "tolerance"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ArgumentError(f"{name}: expected a number from 0 to 1, got {value}")
        if not 0 < self.risk < 1:
            raise ArgumentError(f"risk: expected a probability between 0 and 1, got {self.risk}")
        if self.window < 100 or self.window % BLOCKS:
            raise ArgumentError(f"window: expected a multiple of {BLOCKS}, 100 or more, got {self.window}")
        if self.memory < 2 * self.window:
            raise ArgumentError(f"memory: expected two windows ({2 * self.window}) or more, got {self.memory}")
        self._random = random.Random(self.seed).random
        self._lock = Lock()
        self._alarms = Alarms(self.on_alarm)
        self._totals = dict.fromkeys(("inputs", "forwarded", "not_a_number", "unplaced", "audited", "compared"), 0)
        self._block = self.window // BLOCKS
        self._new_local: list[float] = []  # advantages that are not counted yet
        self._new_forwarded: list[float] = []
        self._recorder: PairRecorder | None = None
        self._task, self._audited = False, self.share
        self._decode: Decode | None = None
        self._remote_decode: Decode | None = None
        self._restart(None, None)

    def begin(
        self,
        document: CascadeDocument | TaskDocument,
        policy: Policy | None = None,
        *,
        decode: Decode | None = None,
        remote_decode: Decode | None = None,
    ) -> None:
        """Watch a file; or, later, another file, or the same under another policy.

        Estimates, windows and alarms restart; counts continue.

        Args:
            document: the file's document.
            policy: the policy in force, if it is not the file's own. With another temperature or other edges there is
                no reference, so that `drift` and `offload rate` are not raised.
            decode: of the local model of a general task, if its result is to be compared.
            remote_decode: of the remote, likewise.

        Raises:
            ArgumentError: the folder `record` cannot be made, or `record` or `agreement` does not go with the file.
        """
        names = list(getattr(document, "labels", ()))
        self._task, self._decode, self._remote_decode = not names, decode, remote_decode
        self._audited = 0.0 if self._task and self.agreement is None else self.share
        if self._task and self.record is not None:
            raise ArgumentError("record: expected with the file of a classifier, got that of a general task")
        if not self._task and self.agreement is not None:
            raise ArgumentError("agreement: expected with the file of a general task, got that of a classifier")
        if self.record is not None and (self._recorder is None or self._recorder.names != names):
            self.close()
            seed = None if self.seed is None else self.seed + 1  # independent draws
            self._recorder = PairRecorder(Path(self.record), names, self.most_pairs, self.most_bytes, seed)
        with self._lock:
            self._collect()
            self._restart(document, policy)

    def saw(self, advantage: float, forward: bool) -> bool:
        """Count an input.

        Args:
            advantage: its advantage.
            forward: whether it is forwarded.

        Returns:
            Whether to audit it: to ask the remote in the background, although the local answer stands.
        """
        (self._new_forwarded if forward else self._new_local).append(advantage)  # atomic: a lock would cost more
        if len(self._new_local) + len(self._new_forwarded) >= self._block:
            with self._lock:
                self._collect()
        if forward or self._random() >= self._audited:
            return False
        with self._lock:
            self._totals["audited"] += 1
        return True

    def compared(self, x: Batch, local: Prediction, remote: Prediction, *, audited: bool) -> None:
        """Count the remote's reply to an input.

        Args:
            x: the input as a batch of one, as the local model takes it.
            local: the local prediction.
            remote: the remote prediction, calibrated.
            audited: whether `saw` asked for it; otherwise the input was forwarded.
        """
        if self._task and self.agreement is None:
            return
        agreed, gap, judged = (self._graded if self._task else _compared)(local, remote)
        with self._lock:
            self._totals["compared"] += 1
            for stretch in (self._older, self._newer):
                stretch.add(agreed, gap, judged, audited=audited)
            stretch = replace(self._older)
        if audited:
            self._judge(stretch)
        recorder = self._recorder
        if recorder is not None and (audited or self._random() < self.share):
            recorder.add(x, local, remote, audited=audited)

    def _graded(self, local: Prediction, remote: Prediction) -> tuple[float, float, float]:
        """Return the agreement of two answers to a general task, and twice the local confidence less it.

        Raises:
            ArgumentError: the application's function returns no number from 0 to 1. Its exceptions pass through.
        """
        assert self.agreement is not None
        ours: Any = local.outputs
        if self._decode is not None:
            ours = self._decode(local.outputs) if local.result is None else local.result
        said: Any = self.agreement(ours, remote.outputs if self._remote_decode is None else remote.result)
        try:
            found = float(said)
        except (TypeError, ValueError) as error:
            raise ArgumentError(f"agreement: expected a number from 0 to 1, got a {type(said).__name__}") from error
        if not 0 <= found <= 1:
            raise ArgumentError(f"agreement: expected a number from 0 to 1, got {found}")
        gap = _confidence(local) - found
        return found, gap, gap

    def health(self) -> Health:
        """Return a snapshot of counts, estimates and alarms."""
        with self._lock:
            self._collect()
            counts: dict[str, Any] = dict(self._totals)
            stretch, drift = replace(self._older), self._windows.distance
        return Health(
            **counts,
            pairs=0 if self._recorder is None else len(self._recorder),
            agreement=stretch.agreement(_MISS),
            agreement_local=rate(stretch.local_agreed, stretch.local_n, _MISS),
            agreement_forwarded=rate(stretch.forwarded_agreed, stretch.forwarded_n, _MISS),
            calibration_gap=mean_gap(stretch.gap, stretch.local_n, _MISS),
            judged_gap=mean_gap(stretch.judged, stretch.local_n, _MISS),
            offload_rate=rate(stretch.forwarded, stretch.inputs, _MISS),
            drift=drift,
            **self._alarms.snapshot(),
        )

    def save(self) -> Path | None:
        """Write the recorded pairs; return the path, or None if there is nothing to write.

        Raises:
            OSError: it cannot be written; the old file is still there.
        """
        return None if self._recorder is None else self._recorder.save()

    def close(self) -> None:
        """Write the recorded pairs; a failure is logged."""
        try:
            self.save()
        except OSError as error:
            _log.warning("the recorded pairs cannot be saved: %s", error)

    def _judge(self, stretch: Comparisons) -> None:
        """Raise `agreement` and `calibration`, or clear them, after an audit."""
        if self.least_agreement is not None:
            seen, least = rate(stretch.local_agreed, stretch.local_n, self.risk), self.least_agreement
            which = "inputs that stay on the device"
        else:
            seen, least, which = stretch.agreement(self.risk), self._least_agreement, "all inputs"
        said = (
            "the agreement of local and remote is {:.1%} over" if self._task else "local and remote agree on {:.1%} of"
        )
        sentence = f"{said.format(seen.value)} {which}; at least {least:.1%} was expected"
        self._alarms.settle("agreement", seen.high < least, seen.value >= least, lambda: (seen, sentence))
        gap, judged = (mean_gap(total, stretch.local_n, self.risk) for total in (stretch.gap, stretch.judged))
        self._alarms.settle(
            "calibration",
            min(gap.low, judged.low) > self._largest_gap,
            min(gap.value, judged.value) <= self._largest_gap,
            lambda: (
                gap,
                f"local confidence exceeds agreement with the remote by {gap.value:.1%}, and the remote's "
                f"probabilities by {judged.value:.1%}; at most {self._largest_gap:.1%} was expected",
            ),
        )

    def _restart(self, document: CascadeDocument | TaskDocument | None, policy: Policy | None) -> None:
        """Reset the estimates. The lock is held, or no other thread has the watch yet."""
        self._alarms.clear()
        reference = Reference() if document is None else Reference.of(document, policy)
        self._windows = Windows(reference, self.window, self.risk, self._alarms)
        self._least_agreement, self._largest_gap = 0.0, self.tolerance
        if document is not None:
            # Both models are right, and so agree, on at least the sum of their accuracies less 1.
            ours, theirs = _accuracies(document)
            self._least_agreement = max(0.0, ours.low + theirs.low - 1)
            self._largest_gap = max(self.tolerance, document.calibration.ece_after.high)
            if self._task:
                self._largest_gap = min(1.0, self._largest_gap + 1 - theirs.low)
        self._older, self._newer = Comparisons(), Comparisons()

    def _collect(self) -> None:
        """Count the new inputs. The lock is held."""
        local, forwarded = _taken(self._new_local), _taken(self._new_forwarded)
        not_a_number, unplaced = self._windows.count(local, forwarded)
        self._totals["inputs"] += len(local) + len(forwarded)
        self._totals["forwarded"] += len(forwarded)
        self._totals["not_a_number"] += not_a_number
        self._totals["unplaced"] += unplaced
        for stretch in (self._older, self._newer):
            stretch.inputs += len(local) + len(forwarded)
            stretch.forwarded += len(forwarded)
        if self._newer.inputs >= self.memory // 2:
            self._older, self._newer = self._newer, Comparisons()


def _compared(local: Prediction, remote: Prediction) -> tuple[float, float, float]:
    """Return whether two labels are the same, and the local confidence less what the remote says of the local label."""
    sure, confidence = local.confidence == local.confidence, _confidence(local)
    likeliest = sure and local.label == int(remote.probabilities.argmax())  # with costs, not always its label
    agreed = sure and local.label == remote.label
    return agreed, confidence - likeliest, confidence - float(remote.probabilities[local.label])


def _confidence(local: Prediction) -> float:
    """Return the confidence in [0, 1]; 0 for NaN."""
    return min(1.0, max(0.0, local.confidence)) if local.confidence == local.confidence else 0.0


def _accuracies(document: CascadeDocument | TaskDocument) -> tuple[Estimate, Estimate]:
    """Return the accuracies, or mean values, of both models on the calibration data."""
    from edgecascade.types.document import CascadeDocument

    if isinstance(document, CascadeDocument):
        return document.calibration.accuracy, document.remote.accuracy
    return document.calibration.value, document.remote


def _taken(new: list[float]) -> list[float]:
    """Take out the entries of a list to which other threads may append."""
    taken = new[:]
    del new[: len(taken)]
    return taken
