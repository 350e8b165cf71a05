"""What the watch knows of a deployed cascade, at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgecascade.runtime.watch.alarms import Alarm
from edgecascade.runtime.watch.anytime import Estimate

__all__ = ["Health"]


@dataclass(frozen=True)
class Health:
    """A snapshot. Counts are of all time; estimates are of the latest stretch of inputs, see `Watch`.

    Each interval but that of `drift` holds at all times of its stretch at once, with probability .95. Where replies
    fail to come, the compared inputs stand for those that were not.

    Attributes:
        inputs: all inputs; of them `forwarded` were to leave the device, `not_a_number` have an advantage that is NaN,
            and `unplaced` one that is not in the file's table, so that the drift detector leaves them out.
        audited: kept inputs drawn for an audit.
        compared: replies compared, to audited and forwarded inputs.
        pairs: kept in memory, for `Watch.save`.
        agreement: the share of all inputs on which local and remote give one label.
        agreement_kept: the same of kept inputs.
        agreement_forwarded: the same of forwarded inputs.
        calibration_gap: of kept inputs, mean local confidence less agreement: above 0 if the local model claims too
            much, and also if the remote errs.
        judged_gap: of kept inputs, mean local confidence less the remote's calibrated probability of the local label:
            as far as the remote is calibrated, this is the local model's own calibration gap.
        offload_rate: the share of inputs that was to leave the device.
        drift: total variation distance between the latest window and the calibration data.
        active: names of the alarms that have started and not cleared.
        raised: how often each has started.
        alarms: the latest, oldest first.
    """

    inputs: int
    forwarded: int
    not_a_number: int
    unplaced: int
    audited: int
    compared: int
    pairs: int
    agreement: Estimate
    agreement_kept: Estimate
    agreement_forwarded: Estimate
    calibration_gap: Estimate
    judged_gap: Estimate
    offload_rate: Estimate
    drift: Estimate
    active: frozenset[str]
    raised: Mapping[str, int]
    alarms: tuple[Alarm, ...]
