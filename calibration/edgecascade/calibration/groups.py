"""Accuracy in each class or group: where a cascade loses although it does well as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.advantage import Correct
from edgecascade.calibration.operating_curve import differences, shares
from edgecascade.calibration.outcomes import Outcomes
from edgecascade.calibration.weights import weighted_mean
from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import GroupAccuracy, GroupedAccuracy, Point

__all__ = ["group_advice", "grouped_accuracy", "within_groups"]

_NAMED = 3  # groups that the advice names
_DIGITS = 6  # of the accuracies along the curve, which would fill the document otherwise
_ROUNDING = 1e-9


def grouped_accuracy(outcomes: Outcomes, right: Correct, position: int) -> GroupedAccuracy | None:
    """Return the accuracy of both models and of the cascade in each group, with 95 % intervals.

    Args:
        outcomes: what both models did, with their groups; without groups, the result is None.
        right: [n, points], whether the cascade's answers are right at each operating point, or floating in [0, 1].
        position: the point that the cascade uses.
    """
    if outcomes.groups is None:
        return None
    found = []
    for name, rows in outcomes.groups.members():
        part = outcomes[rows]
        columns = np.column_stack((part.local_correct, part.remote_correct, right[rows]))
        local, remote, *points = shares(columns, part.weight)
        curve = tuple((round(one.value, _DIGITS), round(one.low, _DIGITS), round(one.high, _DIGITS)) for one in points)
        found.append(GroupAccuracy(name, len(part), local, remote, points[position], curve))
    return GroupedAccuracy(outcomes.groups.by, tuple(found))


def within_groups(outcomes: Outcomes, right: Correct, curve: Sequence[Point], most: float) -> NDArray[np.bool_]:
    """Return the operating points, bool [points], at which no group loses more than `most` against the remote.

    Args:
        outcomes: what both models did, with their groups.
        right: [n, points], as in `grouped_accuracy`.
        curve: the points.
        most: the largest loss of accuracy within a group.

    Raises:
        CalibrationError: there are no groups, or no such point.
    """
    if outcomes.groups is None:
        raise CalibrationError("groups: expected the group of each input with a largest loss within groups, got none")
    losses = {}
    for name, rows in outcomes.groups.members():
        part = outcomes[rows]
        lost = part.remote_correct[:, None].astype(np.float64) - right[rows]
        losses[name] = np.average(lost, axis=0, weights=part.weight)
    table = np.array(list(losses.values()))
    worst = table.max(axis=0)
    if worst.min() > most + _ROUNDING:
        at = int(worst.argmin())
        name = list(losses)[int(table[:, at].argmax())]
        raise CalibrationError(
            f"max_group_loss: expected at least {worst[at]:.3g}, the loss of {outcomes.groups.by} {name} at "
            f"{curve[at].offload_rate:.1%} offload, as it is larger elsewhere, got {most:g}"
        )
    return np.asarray(worst <= most + _ROUNDING)


def group_advice(outcomes: Outcomes, cascade: Correct) -> tuple[str, ...]:
    """Return sentences about the groups in which a cascade loses more than it does as a whole.

    A group is named if its loss is above zero and above that of all inputs, by the ends of their intervals. The
    intervals of all groups hold at once with 95 % (Bonferroni).

    Args:
        outcomes: what both models did, with their groups.
        cascade: [n], whether the cascade's answers are right.
    """
    if outcomes.groups is None:
        return ()
    return (
        *_losers(outcomes, cascade, outcomes.remote_correct, "asking the remote always"),
        *_losers(outcomes, cascade, outcomes.local_correct, "the local model alone"),
    )


def _losers(outcomes: Outcomes, cascade: Correct, other: Correct, rival: str) -> Iterator[str]:
    assert outcomes.groups is not None
    (whole,) = differences(other, cascade[:, None], outcomes.weight)
    groups = tuple(outcomes.groups.members())
    level = 1 - 0.05 / len(groups)
    least = max(whole.high, 0.0)
    losers = []
    for name, rows in groups:
        weight, lost = outcomes[rows].weight, other[rows].astype(np.float64) - cascade[rows]
        if weighted_mean(lost, weight) > least:  # an interval takes milliseconds, and begins below the mean
            loss = differences(other[rows], cascade[rows][:, None], weight, level=level)[0]
            losers += [(loss, name, rows)] if loss.low > least else []
    for loss, name, rows in sorted(losers, key=lambda one: -one[0].value)[:_NAMED]:
        before, after = (weighted_mean(one[rows], outcomes[rows].weight) for one in (other, cascade))
        yield (
            f"{outcomes.groups.by} {name} loses {loss.value * 100:.1f} points ({loss.low * 100:.1f} to "
            f"{loss.high * 100:.1f}, n = {loss.n}) against {rival}, {before:.1%} to {after:.1%}; all inputs together "
            f"{'lose' if whole.value >= 0 else 'gain'} {abs(whole.value) * 100:.1f}"
        )
    if len(losers) > _NAMED:
        yield f"{len(losers) - _NAMED} more of {len(groups)} lose more against {rival} than all inputs together"
