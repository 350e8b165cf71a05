"""One kind and share of wrong labels in one data set: what each peer finds, and what is learned from what it leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.cache import once
from edgecascade.benchmarks.cleaning.data import SEED, DataSet, Task
from edgecascade.benchmarks.cleaning.detection import (
    Statistic,
    average_precision,
    precision,
    precision_at_recall,
    recall,
    summed_up,
)
from edgecascade.benchmarks.cleaning.noise import KINDS, planted
from edgecascade.benchmarks.cleaning.outputs import Outputs, learned, out_of_fold, outputs_for
from edgecascade.benchmarks.cleaning.peers import (
    METHODS,
    Verdict,
    cleanlab_crowd,
    cleanlab_masks,
    cleanlab_rankings,
    ours,
)
from edgecascade.benchmarks.report import HIGHER
from edgecascade.calibration import fit_temperature, mean
from edgecascade.types.estimate import Estimate

__all__ = ["LEARNED_FROM", "Cell", "Detection", "Prepared", "measure_cell"]

_DEFAULT = f"{METHODS[0]} of the ensemble by accuracy"
_ENOUGH = 0.05  # share of wrong labels from which on learning again is measured: fewer change no accuracy noticeably
LEARNED_FROM = (
    "nothing",
    "ours dropped",
    "ours corrected",
    "cleanlab's dropped",
    "cleanlab's corrected",
    "truth dropped",
    "truth",
)
"""What is done to the labels before a model learns from them again; `truth` is the oracle that corrects all."""


@dataclass(frozen=True)
class Detection:
    """Average precision, and precision at the recall of a mask.

    Attributes:
        ours: Average precision of the posterior, the default rule.
        pool: That of the pool alone.
        paper: That of the paper's rule.
        cleanlab: That of cleanlab's best ranking, chosen with knowledge of the truth among all of `rankings`.
        usual: That of cleanlab's default ranking for several models.
        lead: Ours minus cleanlab's best.
        weak: Ours with a weak expert added, minus ours.
        crowd: That of CROWDLAB in the first run, and ours in it; None where it was not measured.
        ranking: The name of cleanlab's best ranking.
        rankings: The average precision of each of its rankings.
        mask: The name of cleanlab's best mask, chosen by F1 with knowledge of the truth.
        mask_recall: The share of the wrong labels in it.
        mask_precision: The share of wrong labels in it.
        at_recall: The precision of ours at the same recall.
        times: `at_recall` over `mask_precision`.
        cut_precision: The share of wrong labels among those that we flag by default.
        cut_recall: The share of the wrong labels that we flag by default.
    """

    ours: Estimate = field(metadata=HIGHER)
    pool: Estimate
    paper: Estimate
    cleanlab: Estimate
    usual: Estimate
    lead: Estimate = field(metadata=HIGHER)
    weak: Estimate = field(metadata=HIGHER)
    crowd: tuple[Estimate, Estimate] | None
    ranking: str
    rankings: Mapping[str, float]
    mask: str
    mask_recall: Estimate
    mask_precision: Estimate
    at_recall: Estimate = field(metadata=HIGHER)
    times: Estimate = field(metadata=HIGHER)
    cut_precision: Estimate = field(metadata=HIGHER)
    cut_recall: Estimate = field(metadata=HIGHER)


@dataclass(frozen=True)
class Cell:
    """One kind and share of wrong labels in one data set.

    Attributes:
        name: Data set, kind and share.
        data: The name of the data set.
        kind: How labels were made wrong.
        share: The share of wrong labels.
        n: The number of judged rows in each run.
        runs: The number of runs, each with other wrong labels.
        accuracy: The accuracy of each expert on the right labels, mean over runs.
        weights: The mean weight of each expert in the pool.
        found: What the peers find.
        learned: Accuracy on clean test labels of a model that learned from the labels, by `LEARNED_FROM`.
        gained: Ours minus cleanlab's, dropped and corrected; empty below 5 % of wrong labels.
    """

    name: str
    data: str
    kind: str
    share: float
    n: int
    runs: int
    accuracy: Mapping[str, float]
    weights: Mapping[str, float]
    found: Detection
    learned: Mapping[str, Estimate]
    gained: Mapping[str, Estimate]


@dataclass(frozen=True)
class Prepared:
    """A loaded data set.

    Attributes:
        data: Its name and title.
        task: Rows, labels and experts.
        rival: float64 [n, classes], calibrated logits of the model that is no expert.
        folder: Where fitted outputs are saved.
    """

    data: DataSet
    task: Task
    rival: NDArray[np.float64]
    folder: Path

    @classmethod
    def of(cls, data: DataSet, cache: Path) -> Prepared:
        """Load a data set from the cache."""
        task = data.load(cache)
        logits = out_of_fold(task.rival, task.labels, task.folds, task.classes).astype(np.float64)
        folder = cache / f"cleaning-r1-s{SEED}" / data.name
        return cls(data, task, logits / fit_temperature(logits, task.labels), folder)

    def labels(self, kind: str, share: float, run: int) -> NDArray[np.int64]:
        """Return the labels of a run, some of them wrong."""
        rng = np.random.default_rng([SEED, run, list(KINDS).index(kind), round(1e4 * share)])
        return planted(kind, self.task.labels, self.rival, share, rng)

    def outputs(self, kind: str, share: float, run: int, labels: NDArray[np.int64]) -> Outputs:
        """Return the out-of-fold outputs of all experts, the weak one last, which learned from these labels."""
        path = self.folder / f"{kind}-{share:g}-{run}.npz"
        return outputs_for(self.task, (*self.task.experts, self.task.weak), labels, path)


@dataclass(frozen=True)
class _Run:
    labels: NDArray[np.int64]
    wrong: NDArray[np.bool_]
    verdicts: Mapping[str, Verdict]
    rankings: Mapping[str, NDArray[np.float64]]
    masks: Mapping[str, Verdict]
    crowd: NDArray[np.float64] | None
    accuracy: Mapping[str, float]


def measure_cell(prepared: Prepared, kind: str, share: float, runs: int, *, crowd: bool = False) -> Cell:
    """Measure one kind and share of wrong labels.

    Args:
        prepared: The data set.
        kind: One of `noise.KINDS`.
        share: The share of wrong labels.
        runs: The number of times that other labels are made wrong.
        crowd: Whether to ask CROWDLAB too, in the first run.
    """
    task = prepared.task
    found = [_run(prepared, kind, share, run, crowd=crowd and run == 0) for run in range(runs)]
    best_masks = _best([{name: _f1(one.wrong, mask.flagged) for name, mask in one.masks.items()} for one in found])
    learned_from = _learned(task, found, best_masks) if share >= _ENOUGH else {}
    names = [one.name for one in task.experts]
    weights = np.mean([one.verdicts["ours"].weights for one in found], axis=0)
    return Cell(
        name=f"{prepared.data.title}, {kind}, {100 * share:g} %",
        data=prepared.data.name,
        kind=kind,
        share=share,
        n=len(task.labels),
        runs=runs,
        accuracy={name: float(np.mean([one.accuracy[name] for one in found])) for name in names},
        weights=dict(zip(names, weights.tolist(), strict=True)),
        found=_detection(found, len(task.labels), best_masks),
        learned={name: _shares(right) for name, right in learned_from.items()},
        gained={
            what: _shares(learned_from[f"ours {what}"] - learned_from[f"cleanlab's {what}"])
            for what in ("dropped", "corrected")
            if learned_from
        },
    )


def _crowd(prepared: Prepared, name: str, outputs: Outputs, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    def make(part: Path) -> None:
        with part.open("wb") as file:
            np.save(file, cleanlab_crowd(outputs, labels))

    return np.asarray(np.load(once(prepared.folder / f"{name}-crowd.npy", make)))


def _run(prepared: Prepared, kind: str, share: float, run: int, *, crowd: bool) -> _Run:
    task = prepared.task
    labels = prepared.labels(kind, share, run)
    every = prepared.outputs(kind, share, run, labels)
    some = every.without_last()
    verdicts = {
        "ours": ours(some, labels),
        "pool": ours(some, labels, "pool"),
        "paper": ours(some, labels, "all-disagree"),
        "weak": ours(every, labels),
    }
    accuracy = {
        name: float(np.mean(array.argmax(axis=1) == task.labels))
        for name, array in zip(some.names, some.arrays, strict=True)
    }
    return _Run(
        labels,
        labels != task.labels,
        verdicts,
        cleanlab_rankings(some, labels),
        cleanlab_masks(some, labels),
        _crowd(prepared, f"{kind}-{share:g}-{run}", some, labels) if crowd else None,
        accuracy,
    )


def _detection(found: Sequence[_Run], n: int, mask: str) -> Detection:
    def ordered(score: Callable[[_Run], NDArray[np.float64]]) -> list[Statistic]:
        return [average_precision(one.wrong, score(one)) for one in found]

    def masked(of: Callable[..., Statistic], flagged: Callable[[_Run], NDArray[np.bool_]]) -> list[Statistic]:
        return [of(one.wrong, flagged(one)) for one in found]

    by = {name: [average_precision(one.wrong, one.verdicts[name].score) for one in found] for name in found[0].verdicts}
    plain = np.ones((1, n))
    rankings = {
        name: float(np.mean([average_precision(one.wrong, one.rankings[name])(plain)[0] for one in found]))
        for name in found[0].rankings
    }
    ranking = max(rankings, key=rankings.__getitem__)
    best = ordered(lambda one: one.rankings[ranking])
    at_recall = [precision_at_recall(one.wrong, one.verdicts["ours"].score, one.masks[mask].flagged) for one in found]
    mask_precision = masked(precision, lambda one: one.masks[mask].flagged)
    crowd = None
    if (score := found[0].crowd) is not None:
        crowd = (summed_up([average_precision(found[0].wrong, score)], n), summed_up(by["ours"][:1], n))
    return Detection(
        ours=summed_up(by["ours"], n),
        pool=summed_up(by["pool"], n),
        paper=summed_up(by["paper"], n),
        cleanlab=summed_up(best, n),
        usual=summed_up(ordered(lambda one: one.rankings[_DEFAULT]), n),
        lead=summed_up(by["ours"], n, best),
        weak=summed_up(by["weak"], n, by["ours"]),
        crowd=crowd,
        ranking=ranking,
        rankings=rankings,
        mask=mask,
        mask_recall=summed_up(masked(recall, lambda one: one.masks[mask].flagged), n),
        mask_precision=summed_up(mask_precision, n),
        at_recall=summed_up(at_recall, n),
        times=summed_up(at_recall, n, mask_precision, ratio=True),
        cut_precision=summed_up(masked(precision, lambda one: one.verdicts["ours"].flagged), n),
        cut_recall=summed_up(masked(recall, lambda one: one.verdicts["ours"].flagged), n),
    )


def _learned(task: Task, found: Sequence[_Run], mask: str) -> dict[str, NDArray[np.float64]]:
    """Return the share of the runs [m] in which each test row is right, by what is done to the labels before."""
    right: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in LEARNED_FROM}
    every = np.ones(len(task.labels), np.bool_)
    for one in found:
        us, them = one.verdicts["ours"], one.masks[mask]
        treatments = (
            (one.labels, every),
            (one.labels, ~us.flagged),
            (np.where(us.flagged, us.suggested, one.labels), every),
            (one.labels, ~them.flagged),
            (np.where(them.flagged, them.suggested, one.labels), every),
            (one.labels, ~one.wrong),
            (task.labels, every),
        )
        for name, (labels, rows) in zip(LEARNED_FROM, treatments, strict=True):
            right[name].append(learned(task.experts[task.learner], labels, rows) == task.test_labels)
    return {name: np.mean(runs, axis=0) for name, runs in right.items()}


def _shares(right: NDArray[np.float64]) -> Estimate:
    return mean(right)


def _best(figures: Sequence[Mapping[str, float]]) -> str:
    """Return the name of the largest mean over runs."""
    return max(figures[0], key=lambda name: float(np.mean([one[name] for one in figures])))


def _f1(wrong: NDArray[np.bool_], flagged: NDArray[np.bool_]) -> float:
    return float(2 * np.sum(wrong & flagged) / (np.sum(wrong) + np.sum(flagged)))
