"""More than two models in a chain: each answers, or forwards to the next, by its own advantage over that one.

The same words as for two: at every stage but the last there is an advantage table and a threshold, and inputs whose
advantage is below it go on. The thresholds are chosen jointly, because what one stage lets through is what the next
one sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.advantage import AdvantageTable, shrunk_advantage_table
from edgecascade.calibration.operating_curve import points
from edgecascade.types.errors import CalibrationError

__all__ = ["ChainPoint", "ChainPolicy", "Stage", "plan_chain"]

_MOST_COMBINATIONS = 20_000
_FOLDS = 5


@dataclass(frozen=True)
class Stage:
    """One model on the same labelled inputs as the others.

    Attributes:
        name: in messages.
        score: float32 [n], which orders inputs, the higher the surer; not looked at in the last stage.
        correct: bool [n].
        cost: of one inference and of getting the input there, in any unit common to all stages.
    """

    name: str
    score: NDArray[np.float32]
    correct: NDArray[np.bool_]
    cost: float


@dataclass(frozen=True)
class ChainPoint:
    """What a set of thresholds does.

    Attributes:
        reach: share of the inputs that each stage sees; the first is 1.
        accuracy: share of right answers.
        cost: mean cost per input.
    """

    reach: tuple[float, ...]
    accuracy: float
    cost: float


@dataclass(frozen=True)
class ChainPolicy:
    """The chosen thresholds.

    Attributes:
        tables: one advantage table for every stage but the last, over the stage after it.
        thresholds: as many; inputs whose advantage is below it go on.
        chosen: what they do on the planning inputs, which also chose them.
        held_out: what thresholds chosen on four fifths of the inputs do on the other fifth, in turn.
    """

    tables: tuple[AdvantageTable, ...]
    thresholds: tuple[float, ...]
    chosen: ChainPoint
    held_out: ChainPoint


def plan_chain(
    stages: Sequence[Stage], *, cost: float | None = None, accuracy: float | None = None, seed: int = 0
) -> ChainPolicy:
    """The most accurate chain within a mean cost, or the cheapest at an accuracy.

    Args:
        stages: two or more, in the order in which inputs visit them.
        cost: the largest mean cost per input wanted.
        accuracy: the least accuracy wanted; give one of the two.
        seed: of the folds that `held_out` comes from.

    Raises:
        CalibrationError: stages that do not fit together, or an aim that is out of reach.
    """
    _check(stages)
    if (cost is None) == (accuracy is None):
        raise CalibrationError("cost, accuracy: expected one of the two")
    tables, thresholds = _choose(stages, cost, accuracy)
    everyone = np.arange(len(stages[0].correct))
    fold = np.random.default_rng(seed).permutation(len(everyone)) % _FOLDS
    stop = np.empty(len(everyone), np.intp)
    for one in range(_FOLDS):
        planned = _choose([_rows(stage, fold != one) for stage in stages], cost, accuracy)
        stop[fold == one] = _stops([_rows(stage, fold == one) for stage in stages], *planned)
    return ChainPolicy(tables, thresholds, _point(stages, _stops(stages, tables, thresholds)), _point(stages, stop))


def _choose(
    stages: Sequence[Stage], cost: float | None, accuracy: float | None
) -> tuple[tuple[AdvantageTable, ...], tuple[float, ...]]:
    bins = max(1, min(int(_MOST_COMBINATIONS ** (1 / (len(stages) - 1))) - 1, 50, len(stages[0].correct) // 20))
    tables = tuple(
        shrunk_advantage_table(stage.score, stage.correct, after.correct, bins) for stage, after in pairwise(stages)
    )
    found = [(thresholds, _point(stages, _stops(stages, tables, thresholds))) for thresholds in _grid(stages, tables)]
    if cost is not None:
        within = [one for one in found if one[1].cost <= cost + 1e-9]
        if not within:
            least = min(point.cost for _, point in found)
            raise CalibrationError(f"cost: {cost:g} per input is out of reach; the least is {least:g}")
        return tables, max(within, key=lambda one: (one[1].accuracy, -one[1].cost))[0]
    enough = [one for one in found if one[1].accuracy >= (accuracy or 0.0) - 1e-9]
    if not enough:
        best = max(point.accuracy for _, point in found)
        raise CalibrationError(f"accuracy: {accuracy:.1%} is out of reach; the best on these inputs is {best:.1%}")
    return tables, min(enough, key=lambda one: (one[1].cost, -one[1].accuracy))[0]


def _grid(stages: Sequence[Stage], tables: Sequence[AdvantageTable]) -> Iterator[tuple[float, ...]]:
    """Every combination of the thresholds that the tables can tell apart."""
    return product(
        *(
            [point.threshold for point in points(table(stage.score), stage.correct, stage.correct)]
            for stage, table in zip(stages, tables, strict=False)
        )
    )


def _stops(stages: Sequence[Stage], tables: Sequence[AdvantageTable], thresholds: Sequence[float]) -> NDArray[np.intp]:
    """At which stage each input is answered."""
    stop = np.full(len(stages[0].correct), len(stages) - 1)
    for one in reversed(range(len(tables))):
        stop[tables[one](stages[one].score) >= np.float32(thresholds[one])] = one
    return stop


def _point(stages: Sequence[Stage], stop: NDArray[np.intp]) -> ChainPoint:
    correct = np.stack([stage.correct for stage in stages])[stop, np.arange(len(stop))]
    reach = tuple(float(np.mean(stop >= one)) for one in range(len(stages)))
    cost = sum(share * stage.cost for share, stage in zip(reach, stages, strict=True))
    return ChainPoint(reach, float(correct.mean()), float(cost))


def _rows(stage: Stage, rows: NDArray[np.bool_]) -> Stage:
    return Stage(stage.name, stage.score[rows], stage.correct[rows], stage.cost)


def _check(stages: Sequence[Stage]) -> None:
    if len(stages) < 2:
        raise CalibrationError(f"stages: expected two or more, got {len(stages)}")
    shape = stages[0].correct.shape
    for stage in stages:
        if stage.score.shape != shape or stage.correct.shape != shape or len(shape) != 1:
            raise CalibrationError(
                f"stages: expected score and correct {list(shape)} as in {stages[0].name!r}, got "
                f"{list(stage.score.shape)} and {list(stage.correct.shape)} in {stage.name!r}"
            )
        if not 0 <= stage.cost < np.inf:
            raise CalibrationError(f"stages: expected a cost of 0 or more in {stage.name!r}, got {stage.cost}")
