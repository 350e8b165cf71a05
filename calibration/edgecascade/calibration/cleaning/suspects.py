"""Suspects: the rows whose given label the experts dispute, most suspect first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration.cleaning.experts import Experts, check_labels
from edgecascade.calibration.cleaning.label_noise import doubts
from edgecascade.calibration.cleaning.pool import Pool
from edgecascade.types.errors import CalibrationError
from edgecascade.types.notebook import as_html, picture

__all__ = ["RULES", "Suspects", "find_suspects"]

RULES = ("posterior", "pool", "all-disagree")

# The posterior is too small where wrong labels are systematic: this cut had the best F1 on the data it was chosen on.
_CUTS = {"posterior": 0.2, "pool": 0.5, "all-disagree": 0.9}


@dataclass(frozen=True)
class Suspects:
    """Rows whose label is disputed, as columns of length m, most suspect first.

    Attributes:
        row: int64, the number of the row among those judged.
        given: int64, its label.
        suggested: int64, the best other class.
        score: float64, how suspect the label is, by the rule: log-odds against it, or of the least confidence.
        posterior: float64, the model's chance that the label is wrong. It is no measured probability: what a person
            confirms is often less.
        confidences: float32 [m, K], each expert's calibrated confidence in the suggested class.
        given_confidences: float32 [m, K], the same in the given class.
        flagged: bool, above the cut.
        n: number of rows judged.
        classes: number of classes.
        rule: by which the rows are ordered and flagged.
        threshold: the cut.
        experts: names of the experts, in the order of the confidences.
        expected_wrong: float32 [n], the posterior of every row judged, for drawing an audit.
    """

    row: NDArray[np.int64]
    given: NDArray[np.int64]
    suggested: NDArray[np.int64]
    score: NDArray[np.float64]
    posterior: NDArray[np.float64]
    confidences: NDArray[np.float32]
    given_confidences: NDArray[np.float32]
    flagged: NDArray[np.bool_]
    n: int
    classes: int
    rule: str
    threshold: float
    experts: tuple[str, ...]
    expected_wrong: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.row)

    def _rows(self, most: int = 10) -> Iterator[tuple[str, str]]:
        """Yield the heading and the text of lines about the whole, and about the most suspect rows."""
        flagged = int(self.flagged.sum())
        yield "judged", f"{self.n} rows, {self.classes} classes, by {', '.join(self.experts)}"
        yield "flagged", f"{flagged} labels, by the rule {self.rule} from {self.threshold:g} on"
        for i in range(min(most, len(self))):
            labels = f"given {self.given[i]}, suggested {self.suggested[i]}"
            yield f"row {self.row[i]}", f"{labels}; score {self.score[i]:.2f}, posterior {self.posterior[i]:.3f}"

    def __str__(self) -> str:
        return "\n".join(f"{head:<12}{text}" for head, text in self._rows())

    def _repr_html_(self) -> str:
        rank = np.linspace(0.0, 1.0, len(self))
        axes = ("rank of the suspects", "posterior")
        return as_html(self._rows(), picture(rank, self.posterior, axes) if len(self) > 1 else "")


def find_suspects(
    experts: Experts,
    labels: ArrayLike,
    pool: Pool,
    *,
    rule: str = "posterior",
    threshold: float | None = None,
    every_row: bool = False,
) -> Suspects:
    """Order rows by how strongly the experts dispute their labels.

    Rules:
        `posterior`: the pool's log-odds of the best other class against the given one, allowing for which wrong labels
            are common in this data; the best order.
        `pool`: the same by the pool alone.
        `all-disagree`: every expert prefers another class; the least of their confidences in their best other class
            orders the rows (Hao et al., arXiv 2601.07965). Its first rows are good, and one weak expert ruins it.

    Args:
        experts: on the n rows to be judged, none of which any expert was trained on.
        labels: integers [n].
        pool: of the same experts, fitted on held-out rows.
        rule: see above.
        threshold: rows are flagged from this chance on: of the best other class, if the given one were the only
            alternative, or each expert's confidence for `all-disagree`; None for the rule's own.
        every_row: whether to list every row; otherwise only those that are flagged, or whose score is above 0.

    Raises:
        CalibrationError: labels or pool do not fit the experts.
    """
    if rule not in RULES:
        raise CalibrationError(f"rule: expected one of {', '.join(RULES)}, got {rule}")
    threshold = _CUTS[rule] if threshold is None else threshold
    if not 0 <= threshold <= 1:
        raise CalibrationError(f"threshold: expected a chance in [0, 1], got {threshold:g}")
    labels = check_labels(labels, experts)
    if pool.names != experts.names or pool.classes != experts.classes:
        raise CalibrationError(
            f"pool: expected one of the experts {', '.join(experts.names)} with {experts.classes} classes, got one of "
            f"{', '.join(pool.names)} with {pool.classes}"
        )
    found = doubts(experts, labels, pool)
    wrong = 1 / (1 + np.exp(-np.clip(found.log_odds, -700, 700)))
    score, suggested = (found.order, found.suggested) if rule == "posterior" else (found.pool, found.best_other)
    flagged = 1 / (1 + np.exp(-np.clip(score, -700, 700))) >= threshold
    if rule == "all-disagree":
        score, disagree, least = _all_disagree(experts, labels, pool)
        flagged = disagree & (least >= threshold)
    listed = np.arange(len(labels)) if every_row else np.flatnonzero(flagged | (score > 0))
    row = listed[np.argsort(-score[listed], kind="stable")]
    confidences, given_confidences = _confidences(experts, pool, row, suggested[row], labels[row])
    return Suspects(
        row=row,
        given=labels[row],
        suggested=suggested[row],
        score=score[row],
        posterior=wrong[row],
        confidences=confidences,
        given_confidences=given_confidences,
        flagged=flagged[row],
        n=len(labels),
        classes=experts.classes,
        rule=rule,
        threshold=threshold,
        experts=experts.names,
        expected_wrong=wrong.astype(np.float32),
    )


def _all_disagree(
    experts: Experts, labels: NDArray[np.int64], pool: Pool
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Return the log-odds of the least confidence, whether all experts disagree, and the least confidence, [n] each."""
    least, disagree = np.ones(len(labels)), np.ones(len(labels), bool)
    for part, block in experts.chunks():
        rows = np.arange(part.stop - part.start)
        for scores, temperature in zip(block, pool.temperatures, strict=True):
            chance = _softmax(scores, temperature)
            given = chance[rows, labels[part]]
            chance[rows, labels[part]] = -1
            most = chance.max(axis=1)
            least[part] = np.minimum(least[part], most)
            disagree[part] &= most > given
    bounded = np.clip(least, 1e-12, 1 - 1e-7)
    return np.log(bounded / (1 - bounded)), disagree, least


def _confidences(
    experts: Experts, pool: Pool, rows: NDArray[np.int64], suggested: NDArray[np.int64], given: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return each expert's calibrated confidence in the suggested and in the given class of some rows, [m, K] each."""
    found = np.empty((2, len(rows), len(experts)), np.float32)
    in_order = np.argsort(rows)  # as memory-mapped arrays are read best
    for part, block in experts.chunks(rows[in_order]):
        to, at = in_order[part], np.arange(part.stop - part.start)
        for k, (scores, temperature) in enumerate(zip(block, pool.temperatures, strict=True)):
            scores *= np.float32(1 / temperature)
            np.exp(scores, out=scores)
            total = np.einsum("ij->i", scores)
            found[0, to, k], found[1, to, k] = scores[at, suggested[to]] / total, scores[at, given[to]] / total
    return found[0], found[1]


def _softmax(scores: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Return probabilities of scores whose largest is 0; the scores are overwritten."""
    scores /= np.float32(temperature)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores
