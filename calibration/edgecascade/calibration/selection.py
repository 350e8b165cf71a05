"""What a cross-fit selects: the candidate, and how much it forwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.advantage import AdvantageTable, Correct
from edgecascade.calibration.cross_fit import CrossFit, estimate_advantage
from edgecascade.calibration.groups import within_groups
from edgecascade.calibration.objective import CertifiedLoss, LeastOffload, Objective
from edgecascade.calibration.operating_curve import operating_points, shares
from edgecascade.calibration.outcomes import Outcomes
from edgecascade.types.document import Routing
from edgecascade.types.estimate import Point

__all__ = ["Selection", "points_of", "ranking", "select"]

_RATES = np.linspace(0.0, 1.0, 101)  # offload rates that `LeastOffload` goes down through


@dataclass(frozen=True)
class Selection:
    """What cross-fitting chooses.

    Attributes:
        candidate: the position of the candidate.
        by_fold: intp [1, folds], the candidate that the inputs outside each fold would choose.
        rate: the offload rate, or the largest one.
        chance: the probability that the aim is met; None for an objective that always is.
        answers: [n], whether the answers at the rate are right, each by the choices of other folds.
    """

    candidate: int
    by_fold: NDArray[np.intp]
    rate: float
    chance: float | None
    answers: Correct


def select(fit: CrossFit, objective: Objective, max_group_loss: float | None = None) -> Selection:
    """Return the candidate and the offload rate that serve an objective, within a largest loss in any group."""
    if isinstance(objective, (LeastOffload, CertifiedLoss)):
        return _least_offload(fit, objective, max_group_loss)
    rate = objective.largest_rate(fit.outcomes[0].size)
    choices = fit.choices(np.array([rate]))
    _, right = fit.decisions(choices[:, :-1], np.array([rate]))
    return Selection(int(choices[0, -1]), choices[:, :-1], rate, None, right[:, 0])


def _least_offload(fit: CrossFit, objective: LeastOffload | CertifiedLoss, max_group_loss: float | None) -> Selection:
    """Go down from a first offload rate while the answers to inputs outside the fit meet the aim.

    For a loss, the first rate is 1. For an accuracy, it is the most accurate one; each fold starts from that of the
    others, so that the first rate is not the luckiest.
    """
    aim = LeastOffload(loss=objective.loss) if isinstance(objective, CertifiedLoss) else objective
    seen, choices, last = fit.outcomes[0], fit.choices(_RATES), len(_RATES) - 1
    starts = fit.most_accurate(_RATES) if aim.loss is None else np.full(choices.shape[1], last)
    steps = np.arange(starts[-1] + 1)  # of the rates, from forwarding nothing to the first rate
    at = np.round(np.outer(steps / max(1, starts[-1]), starts)).astype(np.intp)
    if starts[-1] == 0:
        at[0] = starts
    by_fold = np.take_along_axis(choices, at, axis=0)
    _, right = fit.decisions(by_fold[:, :-1], _RATES[at[:, :-1]])
    chances = aim.chances(right, seen.remote_correct, seen.weight).tolist()
    remote = [one for one, some in enumerate(fit.outcomes) if np.array_equal(some.merged_correct, seen.remote_correct)]
    if aim.loss is not None and remote:  # the cascade is the remote
        by_fold[-1], right[:, -1], chances[-1] = remote[0], seen.remote_correct, 1.0
    curve = [Point(math.nan, rate, seen.mean(one)) for rate, one in zip(_RATES.tolist(), right.T, strict=False)]
    if max_group_loss is not None:
        within = within_groups(seen, right, curve, max_group_loss)
        chances = np.where(within, chances, 0.0)[: np.flatnonzero(within)[-1] + 1].tolist()
    found = aim.lowest(chances)
    if found is None:
        found = len(chances) - 1
        if objective is aim:
            _check_within_reach(fit, aim, chances[found:], curve[found : found + 1])
    return Selection(
        candidate=int(by_fold[found, -1]),
        by_fold=by_fold[found : found + 1, :-1],
        rate=float(_RATES[found]),
        chance=chances[found],
        answers=right[:, found],
    )


def _check_within_reach(fit: CrossFit, aim: LeastOffload, chances: Sequence[float], curve: Sequence[Point]) -> None:
    """Refuse an aim that no candidate reaches on the very inputs that it is fitted on."""
    remote_accuracy = fit.outcomes[0].mean(fit.outcomes[0].remote_correct)
    if aim.confidence > 0.5:
        raise aim.refusal(chances, curve, remote_accuracy)
    points = [
        point
        for candidate, seen in zip(fit.candidates, fit.outcomes, strict=True)
        for point in points_of(seen, estimate_advantage(seen, candidate.estimate, fit.bins))
    ]
    if max(point.accuracy for point in points) < aim.wanted(remote_accuracy):
        raise aim.refusal(chances, points, remote_accuracy)


def points_of(seen: Outcomes, table: AdvantageTable) -> tuple[Point, ...]:
    """Return the operating points that a table can reach on these inputs."""
    return operating_points(table(seen.score), seen.local_correct, seen.merged_correct, seen.weight)


def ranking(fit: CrossFit, selected: Selection) -> tuple[Routing, ...]:
    """Return how every candidate does at the chosen offload rate, on inputs that it was not fitted on."""
    measured = [fit.measured(candidate, selected.rate) for candidate in range(len(fit.candidates))]
    merits = [seen.mean(right) for seen, (_, right) in zip(fit.outcomes, measured, strict=True)]
    true = fit.outcomes[0].answers.true if fit.outcomes[0].answers is not None else None
    if true is not None:  # accuracies beside the costs
        every = (np.full_like(selected.by_fold, candidate) for candidate in range(len(fit.candidates)))
        answered = [fit.answered(choices, np.array([selected.rate]))[:, 0] for choices in every]
        measured = [(forward, one == true) for (forward, _), one in zip(measured, answered, strict=True)]
    weight = fit.outcomes[0].weight
    rates, accuracies = (shares(np.stack(columns, axis=1), weight) for columns in zip(*measured, strict=True))
    found = [
        Routing(
            score=candidate.score,
            merge=candidate.merge,
            offload_rate=rate.value,
            accuracy=accuracy.value,
            merit=merit - fit.price * rate.value,
            estimate=candidate.estimate,
            offload_interval=(rate.low, rate.high),
            accuracy_interval=(accuracy.low, accuracy.high),
        )
        for candidate, merit, rate, accuracy in zip(fit.candidates, merits, rates, accuracies, strict=True)
    ]
    chosen = found.pop(selected.candidate)
    return (chosen, *sorted(found, key=lambda one: -one.merit))
