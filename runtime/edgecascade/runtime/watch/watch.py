"""The watch over a deployed cascade: does it still do what it did on the calibration data?"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from edgecascade.runtime.batch import Batch
from edgecascade.runtime.watch.alarms import ALARMS, Alarm, Alarms
from edgecascade.runtime.watch.anytime import Comparisons, mean_gap, rate
from edgecascade.runtime.watch.drift import BLOCKS, Reference
from edgecascade.runtime.watch.expected import Expected, judge
from edgecascade.runtime.watch.health import Health
from edgecascade.runtime.watch.kept_pairs import KeptPairs
from edgecascade.runtime.watch.windows import Windows
from edgecascade.types.answer import Prediction
from edgecascade.types.errors import ArgumentError
from edgecascade.types.policy import Policy

if TYPE_CHECKING:
    from edgecascade.types.document import CascadeDocument

__all__ = ["ALARMS", "Alarm", "Health", "Watch"]


_MISS = 0.05  # the chance that an interval of `Health` misses
_log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class Watch:
    """Draws kept inputs for an audit, compares what local and remote say, and raises alarms. Thread-safe.

    Estimates forget: they are of the latest `memory / 2` to `memory` inputs, so that a change shows. No alarm can say
    which of the two models fails: under noise, for one, the remote may fail before the local model does.

    - `drift`: the scores of a window, or of a tenth of one, are unlike those of the calibration data beyond chance,
      and by a total variation distance of at least `least_drift`.
    - `offload rate`: in a window, it is off the planned one beyond chance, and by at least `least_rate_change`.
    - `agreement`: its interval is wholly below `least_agreement`, of kept inputs; if none was given, the interval over
      all inputs is wholly below the least that the accuracies on the calibration data allow (their sum less 1).
    - `calibration`: the intervals of both gaps are wholly above `tolerance`, or above what calibration error (ECE)
      the calibration data left possible, if that is more.

    Each is raised as it starts, and not again until it has cleared.

    Args:
        share: of the kept inputs, to be audited; of the replies to forwarded ones, to be kept as pairs. So the pairs
            are a plain sample of all inputs, as far as replies come.
        on_alarm: called with each alarm, one at a time, in a thread of its own; what it raises is logged.
        window: inputs, a multiple of ten.
        risk: the chance of a false alarm of one name. `drift`, `offload rate`: per window, averaged over calibration
            sets, so that false alarms are `window / risk` inputs apart on average, or more. `agreement`,
            `calibration`: per `memory / 2` inputs, however often one looks meanwhile.
        memory: inputs after which the estimates have forgotten; at least two windows.
        least_drift: see above.
        least_rate_change: see above.
        least_agreement: see above.
        tolerance: see above.
        keep: the folder for pairs, see `KeptPairs`; None keeps none.
        most_kept: pairs.
        most_bytes: of the pairs in memory.
        seed: of the draws; None takes one from the system.

    Raises:
        ArgumentError: a value that cannot mean anything.
    """

    share: float = 0.01
    on_alarm: Callable[[Alarm], None] | None = None
    window: int = 1000
    risk: float = 1e-3
    memory: int = 200_000
    least_drift: float = 0.1
    least_rate_change: float = 0.05
    least_agreement: float | None = None
    tolerance: float = 0.05
    keep: str | os.PathLike[str] | None = None
    most_kept: int = 2000
    most_bytes: int = 64 << 20
    seed: int | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("share", "least_drift", "least_rate_change", "least_agreement", "tolerance"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ArgumentError(f"{name}: expected a number from 0 to 1, got {value}")
        if not 0 < self.risk < 1:
            raise ArgumentError(f"risk: expected a chance between 0 and 1, got {self.risk}")
        if self.window < 100 or self.window % BLOCKS:
            raise ArgumentError(f"window: expected a multiple of {BLOCKS}, 100 or more, got {self.window}")
        if self.memory < 2 * self.window:
            raise ArgumentError(f"memory: expected two windows ({2 * self.window}) or more, got {self.memory}")
        self._random = random.Random(self.seed).random
        self._lock = Lock()
        self._alarms = Alarms(self.on_alarm)
        self._totals = dict.fromkeys(("inputs", "forwarded", "not_a_number", "unplaced", "audited", "compared"), 0)
        self._block = self.window // BLOCKS
        self._new_kept: list[float] = []  # advantages that are not counted yet
        self._new_forwarded: list[float] = []
        self._pairs: KeptPairs | None = None
        self._restart(Reference(), Expected(self.least_agreement, 0.0, self.tolerance))

    def begin(self, document: CascadeDocument, policy: Policy | None = None) -> None:
        """Watch a file; or, later, another, or the same under another policy.

        Estimates, windows and alarms begin anew; counts go on.

        Args:
            document: the file's document.
            policy: what it decides by, if not by its own. With another temperature or other edges there is no
                reference, so that `drift` and `offload rate` rest.

        Raises:
            ArgumentError: `keep` is no folder that can be made.
        """
        names = list(document.labels)
        if self.keep is not None and (self._pairs is None or self._pairs.names != names):
            self.close()
            seed = None if self.seed is None else self.seed + 1  # draws of its own
            self._pairs = KeptPairs(Path(self.keep), names, self.most_kept, self.most_bytes, seed)
        with self._lock:
            self._collect()
            expected = Expected.of(document, self.least_agreement, self.tolerance)
            self._restart(Reference.of(document, policy), expected)

    def saw(self, advantage: float, forward: bool) -> bool:
        """Count one input.

        Args:
            advantage: as the file gives it.
            forward: whether it is to leave the device.

        Returns:
            Whether to ask the remote about it in the background, although its local answer stands.
        """
        (self._new_forwarded if forward else self._new_kept).append(advantage)  # atomic: a lock would cost more
        if len(self._new_kept) + len(self._new_forwarded) >= self._block:
            with self._lock:
                self._collect()
        if forward or self._random() >= self.share:
            return False
        with self._lock:
            self._totals["audited"] += 1
        return True

    def compared(self, x: Batch, local: Prediction, remote: Prediction, *, audited: bool) -> None:
        """Take the remote's reply to one input.

        Args:
            x: the input as a batch of one, as the local model takes it.
            local: the local verdict.
            remote: the remote's, calibrated.
            audited: whether `saw` asked for it; otherwise the input was forwarded.
        """
        sure = local.confidence == local.confidence
        agreed = sure and local.label == remote.label
        confidence = min(1.0, max(0.0, local.confidence)) if sure else 0.0
        judged = float(remote.probabilities[local.label])
        with self._lock:
            self._totals["compared"] += 1
            for stretch in (self._older, self._newer):
                stretch.add(agreed, confidence, judged, audited=audited)
            stretch = replace(self._older)
        if audited:
            judge(stretch, self._expected, self.risk, self._alarms)
        pairs = self._pairs
        if pairs is not None and (audited or self._random() < self.share):
            pairs.add(x, local, remote, audited=audited)

    def health(self) -> Health:
        """What is known by now."""
        with self._lock:
            self._collect()
            counts: dict[str, Any] = dict(self._totals)
            stretch, drift = replace(self._older), self._windows.distance
        return Health(
            **counts,
            pairs=0 if self._pairs is None else len(self._pairs),
            agreement=stretch.agreement(_MISS),
            agreement_kept=rate(stretch.kept_agreed, stretch.kept_n, _MISS),
            agreement_forwarded=rate(stretch.forwarded_agreed, stretch.forwarded_n, _MISS),
            calibration_gap=mean_gap(stretch.gap, stretch.kept_n, _MISS),
            judged_gap=mean_gap(stretch.judged, stretch.kept_n, _MISS),
            offload_rate=rate(stretch.forwarded, stretch.inputs, _MISS),
            drift=drift,
            **self._alarms.snapshot(),
        )

    def save(self) -> Path | None:
        """Write the pairs.

        Returns:
            The file, or None if there is nothing to write.

        Raises:
            OSError: it cannot be written; what was there before is still there.
        """
        return None if self._pairs is None else self._pairs.save()

    def close(self) -> None:
        """Write the pairs; a failure is logged."""
        try:
            self.save()
        except OSError as error:
            _log.warning("the audited pairs cannot be saved: %s", error)

    def _restart(self, reference: Reference, expected: Expected) -> None:
        """Forget what was estimated. Under the lock, or before anybody else has this."""
        self._alarms.clear()
        self._windows = Windows(
            reference,
            window=self.window,
            risk=self.risk,
            least_drift=self.least_drift,
            least_rate_change=self.least_rate_change,
            alarms=self._alarms,
        )
        self._expected = expected
        self._older, self._newer = Comparisons(), Comparisons()

    def _collect(self) -> None:
        """Count what is new. Under the lock."""
        kept, forwarded = _taken(self._new_kept), _taken(self._new_forwarded)
        not_a_number, unplaced = self._windows.count(kept, forwarded)
        self._totals["inputs"] += len(kept) + len(forwarded)
        self._totals["forwarded"] += len(forwarded)
        self._totals["not_a_number"] += not_a_number
        self._totals["unplaced"] += unplaced
        for stretch in (self._older, self._newer):
            stretch.inputs += len(kept) + len(forwarded)
            stretch.forwarded += len(forwarded)
        if self._newer.inputs >= self.memory // 2:
            self._older, self._newer = self._newer, Comparisons()


def _taken(new: list[float]) -> list[float]:
    """What is in a list that others append to meanwhile, taken out of it."""
    taken = new[:]
    del new[: len(taken)]
    return taken
