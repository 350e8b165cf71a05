"""Cross-fitting: what every candidate policy does on inputs that it was not fitted on.

A candidate is a score, a merge rule and an estimate of the advantage. The inputs are split into five folds, and the
advantages of each fold come from a table that was fitted on the other four. Everything that a plan compares and prints
comes from them: the choice of the candidate, the operating curve, the intervals, and the chance of meeting an aim.

The choice itself is cross-fitted too: the accuracy that is printed for a fold is that of the candidate which the
*other* folds choose (bias correction as in Tsamardinos, Greasidou and Borboudakis, Machine Learning 107, 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.advantage import (
    AdvantageTable,
    Correct,
    advantage_table,
    monotone_advantage_table,
    shrunk_advantage_table,
)
from edgecascade.calibration.decision import LEARNED
from edgecascade.calibration.learned_score import LearnedScore
from edgecascade.calibration.objective import CertifiedLoss, LeastOffload, Objective
from edgecascade.calibration.operating_curve import operating_points
from edgecascade.calibration.outcomes import Outcomes
from edgecascade.types.errors import CalibrationError

__all__ = ["ESTIMATES", "Candidate", "CrossFit", "cross_fit", "estimate_advantage"]

ESTIMATES = ("monotone", "shrunk", "labels", "confidences")
_FOLDS = 5
_FEWEST = 13  # inputs: without a fold, they fill a bin of ten
_AUTO = ("monotone", "shrunk")


class Candidate(NamedTuple):
    """What a plan chooses among.

    Attributes:
        score: routing score, one of `SCORES` or `learned`.
        merge: merge rule, one of `MERGES`.
        estimate: of the advantage, one of `ESTIMATES`.
    """

    score: str
    merge: str
    estimate: str


@dataclass(frozen=True)
class CrossFit:
    """Decisions of all candidates on inputs that their tables were not fitted on.

    Attributes:
        candidates: what there is to choose among, the plainest first.
        outcomes: what both models did, for each candidate on the same inputs.
        bins: of the advantage tables, as in `estimate_advantage`.
        price: the accuracy that a forward must gain to be worth making.
        fold: intp [n], the fold of each input.
        place: float64 [candidates, n], in (0, 1), the place of each input in its fold's order of forwarding.
        stop: float64 [candidates, folds], the offload rate beyond which a candidate forwards nothing in a fold.
        learned: the score of each candidate that learns one, fitted to all inputs; None for the others.
    """

    candidates: tuple[Candidate, ...]
    outcomes: tuple[Outcomes, ...]
    bins: int | None
    price: float
    fold: NDArray[np.intp]
    place: NDArray[np.float64]
    stop: NDArray[np.float64]
    learned: tuple[LearnedScore | None, ...]

    def choices(self, rates: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the best candidate at each offload rate, intp [rates, folds + 1].

        Column k has the candidate that all folds but k choose, the last column the one that all choose. A
        learned score, or an estimate other than the first, such as `shrunk` beside `monotone`, is chosen if it gains
        more than the best of the plainer ones by at least one standard error of the difference.

        Args:
            rates: offload rates, ascending.
        """
        gains = self._gains(rates)
        plainest_estimate = self.candidates[0].estimate
        plain = np.array([one.estimate == plainest_estimate and one.score != LEARNED for one in self.candidates])
        every = gains.sum(axis=1, keepdims=True)
        sums = np.concatenate([every - gains, every], axis=1)
        found: NDArray[np.intp] = sums.argmax(axis=0).T
        if plain.all() or not plain.any():
            return found
        plainest = np.where(plain[:, None, None], sums, -np.inf).argmax(axis=0).T
        for position, part in np.argwhere(found != plainest):
            best, rival = found[position, part], plainest[position, part]
            if not self._shown(best, rival, rates[position], self.fold != part):
                found[position, part] = rival
        return found

    def most_accurate(self, rates: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the position of the rate at which a candidate gains most, intp [folds + 1].

        Column k has the rate that all folds but k choose, the last column the one that all choose.
        """
        gains = self._gains(rates)
        every = gains.sum(axis=1, keepdims=True)
        found: NDArray[np.intp] = np.concatenate([every - gains, every], axis=1).max(axis=0).argmax(axis=1)
        return found

    def decisions(
        self, choices: NDArray[np.intp], rates: NDArray[np.float64], *, beyond: bool = False
    ) -> tuple[NDArray[np.bool_], Correct]:
        """Return which inputs are forwarded, bool [n, rates], and whether the answers are right, [n, rates].

        Args:
            choices: intp [rates, folds], the candidate of each fold.
            rates: offload rates, [rates] or [rates, folds].
            beyond: whether to forward beyond `stop`.
        """
        each = np.broadcast_to(rates.reshape(len(rates), -1), choices.shape)
        local, merged = self.outcomes[0].local_correct, self.outcomes[0].merged_correct
        forward = np.zeros((len(self.fold), len(rates)), bool)
        right = np.empty(forward.shape, np.result_type(local, merged))
        for part in range(self.stop.shape[1]):
            rows = np.flatnonzero(self.fold == part)
            for candidate in np.unique(choices[:, part]):
                columns = np.flatnonzero(choices[:, part] == candidate)
                upto = each[columns, part] if beyond else np.minimum(each[columns, part], self.stop[candidate, part])
                asked = self.place[candidate, rows][:, None] < upto
                seen, at = self.outcomes[candidate], np.ix_(rows, columns)
                forward[at] = asked
                right[at] = np.where(asked, seen.merged_correct[rows][:, None], seen.local_correct[rows][:, None])
        return forward, right

    def answered(
        self, choices: NDArray[np.intp], rates: NDArray[np.float64], *, beyond: bool = False
    ) -> NDArray[np.int64]:
        """Return the classes answered, int64 [n, rates], with the arguments of `decisions`."""
        by_class = [
            replace(seen, local_correct=seen.answers.local, merged_correct=seen.answers.merged)
            for seen in self.outcomes
            if seen.answers is not None
        ]
        _, found = replace(self, outcomes=tuple(by_class)).decisions(choices, rates, beyond=beyond)
        return np.asarray(found, np.int64)

    def measured(self, candidate: int, rate: float) -> tuple[NDArray[np.bool_], Correct]:
        """Return which inputs one candidate forwards at an offload rate, bool [n], and the right answers, [n]."""
        seen, forward = self.outcomes[candidate], self._forward(candidate, rate)
        return forward, np.where(forward, seen.merged_correct, seen.local_correct)

    def _forward(self, candidate: int, rate: float) -> NDArray[np.bool_]:
        forward: NDArray[np.bool_] = self.place[candidate] < np.minimum(rate, self.stop[candidate])[self.fold]
        return forward

    def _worth(self, candidate: int) -> NDArray[np.float64]:
        """Return what forwarding gains on each input, less its price, times the weight of the input, [n]."""
        seen = self.outcomes[candidate]
        gain: NDArray[np.float64] = seen.merged_correct.astype(np.float64) - seen.local_correct - self.price
        return gain if seen.weight is None else gain * seen.weight

    def _gains(self, rates: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of `_worth` over the inputs that are forwarded, [candidates, folds, rates]."""
        folds, columns = self.stop.shape[1], len(rates) + 1
        found = np.empty((len(self.candidates), folds, len(rates)))
        for candidate, place in enumerate(self.place):
            within = np.where(place < self.stop[candidate][self.fold], place, np.inf)
            first = np.searchsorted(rates, within, side="right")  # the first rate at which the input is forwarded
            sums = np.bincount(self.fold * columns + first, self._worth(candidate), folds * columns)
            found[candidate] = sums.reshape(folds, columns)[:, :-1].cumsum(axis=1)
        return found

    def _shown(self, best: int, rival: int, rate: float, rows: NDArray[np.bool_]) -> bool:
        """Return whether one candidate gains more than another by at least one standard error on some inputs.

        The gain is that at an offload rate, or the mean over all rates: an order that is better as a whole is more
        likely to be better at this rate, too.
        """
        at_rate = [self._worth(one) * self._forward(one, rate) for one in (best, rival)]
        over_all = [self._worth(one) * (1 - self.place[one]) for one in (best, rival)]
        return any(_exceeds((first - second)[rows]) for first, second in (at_rate, over_all))


def cross_fit(
    outcomes: Callable[[str, str], Outcomes],
    objective: Objective,
    *,
    scores: Sequence[str],
    merges: Sequence[str],
    estimate: str = "auto",
    bins: int | None = None,
    seed: int = 0,
) -> CrossFit:
    """Fit every candidate on four fifths of the inputs, five times, and decide about the others.

    Args:
        outcomes: returns what both models did, always on the same inputs, for a score and a merge rule.
        objective: the aim of the plan.
        scores: routing scores to choose among.
        merges: merge rules to choose among.
        estimate: one of `ESTIMATES`, or `auto` to choose between `monotone` and `shrunk`.
        bins: of the advantage table, as in `estimate_advantage`.
        seed: of the split.

    Raises:
        CalibrationError: the estimate is unknown, there is no score or merge rule, or there are too few inputs.
    """
    if estimate not in ("auto", *ESTIMATES):
        raise CalibrationError(f"estimate: expected auto or one of {', '.join(ESTIMATES)}, got {estimate!r}")
    for name, given in (("scores", scores), ("merges", merges)):
        if len(given) == 0:
            raise CalibrationError(f"{name}: expected at least one to choose among, got none")
    estimates = _AUTO if estimate == "auto" else (estimate,)
    candidates = [
        Candidate(score, merge, one)
        for score, merge, one in product(scores, merges, estimates)
        if score != LEARNED or one == estimates[0]  # a learned score rises with the advantage already
    ]
    seen = [outcomes(candidate.score, candidate.merge) for candidate in candidates]
    n = len(seen[0])
    if n < _FEWEST:
        raise CalibrationError(f"labels: expected at least {_FEWEST} labelled inputs to plan on, got {n}")
    fold = np.random.default_rng(seed).permutation(n) % _FOLDS
    place, stop = np.empty((len(candidates), n)), np.ones((len(candidates), _FOLDS))
    for part in range(_FOLDS):
        fitting, judging = np.flatnonzero(fold != part), np.flatnonzero(fold == part)
        for position, candidate in enumerate(candidates):
            fitted, judged = seen[position][fitting], seen[position][judging]
            learned = fitted.learn_score()
            fitted, judged = fitted.scored(learned), judged.scored(learned)
            table, stop[position, part] = _fitted(fitted, candidate.estimate, bins, objective, n)
            place[position, judging] = _places(table(judged.score), judged, (part + 0.5) / _FOLDS)
    scores_of_all = tuple(one.learn_score() for one in seen)
    scored = tuple(one.scored(learned) for one, learned in zip(seen, scores_of_all, strict=True))
    return CrossFit(tuple(candidates), scored, bins, objective.price, fold, place, stop, scores_of_all)


def estimate_advantage(
    outcomes: Outcomes, estimate: str = "shrunk", bins: int | None = None, *, at: float | None = None
) -> AdvantageTable:
    """Return the advantage table of one of the estimates.

    Args:
        outcomes: at least ten inputs per bin.
        estimate: `monotone`, from correctness, rising with the score; `shrunk`, from correctness in small bins that
            borrow strength from their neighbours; `labels`, from correctness in each bin alone; `confidences`, from
            calibrated confidences alone, as in the paper.
        bins: number of bins; by default the 15 of the paper, or fewer that are full; for `monotone` and `shrunk` one
            per twenty inputs, up to 50.
        at: an offload rate, at which the nearest of the edges is put exactly.

    Raises:
        CalibrationError: the estimate is unknown, or as `advantage_table`.
    """
    few = max(1, min(15, len(outcomes.score) // 10)) if bins is None else bins
    many = max(1, min(50, len(outcomes.score) // 20)) if bins is None else bins
    score, local, merged = outcomes.score, outcomes.local_correct, outcomes.merged_correct
    if estimate == "confidences":
        local, merged = outcomes.local_confidence, outcomes.remote_confidence
        return advantage_table(score, local, merged, few, weight=outcomes.weight, at=at)
    if estimate == "labels":
        return advantage_table(score, local, merged, few, weight=outcomes.weight, at=at)
    if estimate == "shrunk":
        return shrunk_advantage_table(score, local, merged, many, weight=outcomes.weight, at=at)
    if estimate == "monotone":
        return monotone_advantage_table(score, local, merged, many, weight=outcomes.weight, at=at)
    raise CalibrationError(f"estimate: expected one of {', '.join(ESTIMATES)}, got {estimate!r}")


def _fitted(
    outcomes: Outcomes, estimate: str, bins: int | None, objective: Objective, n: int
) -> tuple[AdvantageTable, float]:
    """Return the table of a fold's other inputs, and the offload rate at which it stops forwarding for n inputs."""
    limit = objective.largest_rate(n)
    fewer = None if bins is None else max(1, min(bins, len(outcomes) // 10))  # a fold has room for fewer than all
    table = estimate_advantage(outcomes, estimate, fewer, at=limit)
    if isinstance(objective, (LeastOffload, CertifiedLoss)):
        return table, 1.0
    curve = operating_points(table(outcomes.score), outcomes.local_correct, outcomes.merged_correct, outcomes.weight)
    return table, objective.choose(curve, outcomes.mean(outcomes.remote_correct), n).offload_rate


def _exceeds(difference: NDArray[np.float64]) -> bool:
    """Return whether a sum of differences [n] is above its standard error."""
    return bool(difference.sum() > np.sqrt(np.sum((difference - difference.mean()) ** 2)))


def _places(advantage: NDArray[np.float32], outcomes: Outcomes, offset: float) -> NDArray[np.float64]:
    """Return the share of the inputs that is forwarded before each: by advantage, and of equal ones by score.

    The offset, in (0, 1), says where in its own share an input lies. With another one in each fold, all folds together
    forward the offload rate exactly.
    """
    order = np.lexsort((outcomes.score, advantage))
    size = np.ones(len(order)) if outcomes.weight is None else outcomes.weight
    upto = np.cumsum(size[order])
    found = np.empty(len(order))
    found[order] = (upto - (1 - offset) * size[order]) / upto[-1]
    return found
