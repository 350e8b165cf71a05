"""What a cascade's answers cost: the kinds of error and their rates, the curve of expected cost, and the savings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.advantage import Correct
from edgecascade.calibration.objective import LeastCost
from edgecascade.calibration.operating_curve import differences, measured_curve, shares
from edgecascade.calibration.outcomes import Outcomes
from edgecascade.types.costs import ErrorCosts
from edgecascade.types.document import Confusion
from edgecascade.types.estimate import Estimate, OperatingPoint

__all__ = ["confusions", "priced_curve", "saving_words", "savings"]

_MOST = 5  # kinds of error that are shown where there are more than two classes

Labels = NDArray[np.int64]


def confusions(
    true: Labels,
    answers: tuple[Labels, Labels, Labels],
    costs: ErrorCosts,
    weight: NDArray[np.float64] | None = None,
    names: Sequence[str] = (),
) -> tuple[Confusion, ...]:
    """Return how often the costliest kinds of error occur, the costliest first.

    For two classes both kinds are returned, and the one of the larger cost comes first: the missed positives, then the
    false alarms. For more classes at most five are returned, by what they cost the three ways to answer together.

    Args:
        true: int64 [n], the true class of each input.
        answers: int64 [n] each, by the local model, the cascade and the remote.
        costs: of the errors.
        weight: float64 [n], how much each input counts.
        names: of the classes; their numbers by default.

    >>> true, right = np.repeat([0, 1], [80, 20]), np.repeat([0, 1], [80, 20])
    >>> local = np.where(np.arange(100) < 90, 0, 1)  # misses half of the class 1
    >>> missed, alarm = confusions(true, (local, right, right), ErrorCosts((1.0, 20.0)))
    >>> missed.true, missed.answered, missed.cost, missed.local.value, missed.cascade.value, alarm.local.value
    ('1', '0', 20.0, 0.5, 0.0, 0.0)
    """
    classes, n = costs.classes, len(true)
    size = np.ones(n) if weight is None else weight
    total = sum(
        np.bincount(true * classes + one, size * costs.of(true, one), classes * classes).reshape(classes, classes)
        for one in answers
    )
    if classes == 2:
        (alarm,), (missed,) = (costs.of(np.array([one]), np.array([1 - one])) for one in (0, 1))
        found = [(1, 0), (0, 1)] if missed >= alarm else [(0, 1), (1, 0)]
    else:
        order = np.argsort(-np.ravel(total), kind="stable")[:_MOST]
        found = [divmod(int(one), classes) for one in order if np.ravel(total)[one] > 0]
    shown = [str(one) for one in range(classes)] if not names else list(names)
    return tuple(
        Confusion(
            shown[one],
            shown[other],
            float(costs.of(np.array([one]), np.array([other]))[0]),
            *(
                shares((labels[true == one] == other)[:, None], None if weight is None else weight[true == one])[0]
                for labels in answers
            ),
        )
        for one, other in found
        if (true == one).any()
    )


def priced_curve(
    curve: Sequence[OperatingPoint],
    forward: NDArray[np.bool_],
    answered: Labels,
    seen: Outcomes,
    costs: ErrorCosts,
) -> tuple[OperatingPoint, ...]:
    """Return a curve with the accuracies of its answers, and with their expected costs.

    Args:
        curve: whose accuracies are 1 - cost / largest cost.
        forward: bool [n, points], whether each input is forwarded.
        answered: int64 [n, points], the classes answered.
        seen: what both models did on the same inputs.
        costs: of the errors.
    """
    assert seen.answers is not None
    true, largest = seen.answers.true, costs.largest
    thresholds = [point.threshold for point in curve]
    accurate = measured_curve(thresholds, forward, answered == true[:, None], seen.weight, seen.answers.remote == true)
    return tuple(
        replace(
            plain,
            cost=Estimate((1 - one.accuracy) * largest, *_turned(one.accuracy_interval, largest), one.n),
            cost_band=_turned(one.accuracy_band, largest),
        )
        for one, plain in zip(curve, accurate, strict=True)
    )


def savings(
    objective: LeastCost, forward: NDArray[np.bool_], right: Correct, seen: Outcomes
) -> tuple[Estimate, Estimate, Estimate]:
    """Return what a cascade costs per input, and how much less than always local and always remote answers.

    Args:
        objective: the costs. Always asking the remote needs no local inference.
        forward: bool [n], whether each input is forwarded.
        right: [n], whether each answer is right, or floating in [0, 1].
        seen: what both models did on the same inputs.
    """
    forwarding, largest = objective.remote + objective.transfer, objective.largest_error
    most = objective.local + forwarding + largest or 1.0
    ways = (
        (right, objective.local + forward * forwarding),
        (seen.local_correct, np.full(len(seen), objective.local)),
        (seen.remote_correct, np.full(len(seen), forwarding)),
        (np.ones(len(seen)), np.zeros(len(seen))),  # costs nothing
    )
    cascade, local, remote, free = (1 - (paid + (1.0 - good) * largest) / most for good, paid in ways)
    pairs = ((free, cascade), (cascade, local), (cascade, remote))
    found = (differences(first, second[:, None], seen.weight)[0] for first, second in pairs)
    cost, over_local, over_remote = (
        Estimate(one.value * most, one.low * most, one.high * most, one.n) for one in found
    )
    least = min(cost.value, max(cost.low, objective.local))  # no input costs less than its local inference
    return replace(cost, low=least), over_local, over_remote


def saving_words(cost: Estimate, over_local: Estimate, over_remote: Estimate) -> str:
    """Return what `savings` found, in words."""
    return (
        f"costs {_with_interval(cost)} per input; it saves {_with_interval(over_local)} against always answering "
        f"locally and {_with_interval(over_remote)} against always asking the remote (95 %, n = {cost.n})"
    )


def _with_interval(one: Estimate) -> str:
    return f"{one.value:.3g} ({one.low:.3g} to {one.high:.3g})"


def _turned(interval: tuple[float, float], largest: float) -> tuple[float, float]:
    return (1 - interval[1]) * largest, (1 - interval[0]) * largest
