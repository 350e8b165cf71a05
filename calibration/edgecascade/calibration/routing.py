"""Which score and which merge rule: chosen by cross-fitting, so that the choice costs no honesty.

Each candidate is planned on some of the inputs and judged on the others, in turn, until every input has
judged; the figures are those of inputs that had no say in the plan they judge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

from edgecascade.calibration.objective import Objective
from edgecascade.calibration.operating_curve import points
from edgecascade.calibration.outcomes import Outcomes
from edgecascade.calibration.plan import advantage_of
from edgecascade.calibration.scores import SCORES
from edgecascade.types.document import Routing
from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import Point
from edgecascade.types.merge import MERGES

__all__ = ["choose_routing"]


def choose_routing(
    outcomes: Callable[[str, str], Outcomes],
    objective: Objective,
    *,
    scores: Sequence[str] = SCORES,
    merges: Sequence[str] = MERGES,
    folds: int = 5,
    seed: int = 0,
) -> tuple[Routing, ...]:
    """All candidates, best first; of equal ones the earlier in `scores` and `merges`.

    Args:
        outcomes: gives what both models did, all on the same inputs, by score and merge rule.
        objective: what the plan is to achieve.
        scores: to choose among.
        merges: to choose among.
        folds: parts that the inputs are split into at random.
        seed: of that split.

    Raises:
        CalibrationError: the objective is out of reach for every candidate.
    """
    found, refusals = [], []
    for score, merge in product(scores, merges):
        try:
            found.append(_judged(outcomes(score, merge), objective, score, merge, folds, seed))
        except CalibrationError as error:
            refusals.append(error)
    if not found:
        raise refusals[0]
    return tuple(sorted(found, key=lambda candidate: -candidate.merit))


def _judged(outcomes: Outcomes, objective: Objective, score: str, merge: str, folds: int, seed: int) -> Routing:
    n = len(outcomes.score)
    fold = np.random.default_rng(seed).permutation(n) % folds
    forward = np.zeros(n, bool)
    for one in range(folds):
        planning, judging = outcomes[np.flatnonzero(fold != one)], outcomes[np.flatnonzero(fold == one)]
        table = advantage_of(planning)
        curve = points(table(planning.score), planning.local_correct, planning.merged_correct)
        chosen = objective.choose(curve, float(planning.remote_correct.mean()))
        forward[fold == one] = table(judging.score) < np.float32(chosen.threshold)
    right = np.where(forward, outcomes.merged_correct, outcomes.local_correct)
    judged = Point(float("nan"), float(forward.mean()), float(right.mean()))
    return Routing(score, merge, judged.offload_rate, judged.accuracy, objective.merit(judged))
