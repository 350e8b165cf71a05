"""Verdicts: what a person said of the rows of a label audit, and what that proves about the rows nobody looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.cleaning.audit import Audit, draw_chances, suspects_hash
from edgecascade.calibration.cleaning.count import (
    TAILS,
    Prior,
    at_least,
    least_count,
    percent_down,
    percent_with_ends,
    total_ends,
    total_estimates,
)
from edgecascade.calibration.cleaning.suspects import Suspects
from edgecascade.calibration.intervals import accuracy_interval
from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import Estimate
from edgecascade.types.notebook import as_html

__all__ = ["Judged", "Judgement", "Mistake", "Precision", "Verdict", "judge"]

_RISK = 0.05
_ROUNDING = 1e-6
_FEWEST = 30  # judged rows in the first set that `largest_flagged` tests: fewer would seldom pass


class Verdict(Enum):
    """What a person says of a row: which of the given and the suggested label is right."""

    GIVEN = "given"
    SUGGESTED = "suggested"
    OTHER = "other"  # another class is right, and both labels are wrong
    BOTH = "both"  # the given label is no error
    CANNOT_TELL = "cannot_tell"


@dataclass(frozen=True)
class Judged:
    """The verdict on one row.

    Attributes:
        row: its number among the judged rows.
        verdict: what the person said: a `Verdict`, or its value.
        label: the class that is right where both labels are wrong; None if not said.
        time: when, as text; may be empty.
    """

    row: int
    verdict: Verdict | str
    label: int | None = None
    time: str = ""


@dataclass(frozen=True)
class Precision:
    """How many labels of a flagged set are wrong, at least.

    Attributes:
        flagged: rows in the set.
        judged: rows of it with a verdict.
        wrong: judged rows whose given label is wrong.
        bound: the share of the set whose given labels are wrong, at least, with 95 % confidence.
    """

    flagged: int
    judged: int
    wrong: int
    bound: float

    def __str__(self) -> str:
        if self.judged == self.flagged:
            return f"of all {self.flagged} flagged labels, {self.wrong} were found wrong"
        return (
            f"at least {percent_down(self.bound)} % of the {self.flagged} flagged labels are wrong (95 % confidence; "
            f"of {self.judged} that were judged, {self.wrong} are)"
        )


@dataclass(frozen=True)
class Mistake:
    """A class that is mistaken for another.

    Attributes:
        given: the class of the given labels.
        right: the class that is right.
        judged: rows where a person said so.
        share: of all wrong labels whose right class was said, exact if all rows were judged. The interval is that of
            this pair alone.
    """

    given: int
    right: int
    judged: int
    share: Estimate


@dataclass(frozen=True)
class Judgement:
    """What the verdicts of an audit prove.

    Attributes:
        design: of the audit.
        drawn: rows of the audit.
        judged: rows up to the last verdict, in the order of the audit.
        skipped: rows among them that have no verdict; they count as `cannot_tell`.
        verdicts: number of rows by verdict.
        precision: of the flagged rows; None if none of them was judged. An audit of the whole set yields a lower bound
            from the few that it has.
        wrong: how many given labels are wrong in the whole set; None for an audit of the flagged rows. The upper end
            allows for wrong labels that look right to every expert: no audit of n rows can put it less than about
            3 / n of all rows above the estimate.
        wrong_flagged: how many are wrong among the flagged rows; None if none was judged.
        suggested_right: the share of the flagged rows whose suggested label is right, of which undecided rows count
            against either end, and which is exact if all were judged; None if none was.
        mistakes: which class is mistaken for which, the largest share first.
    """

    design: str
    drawn: int
    judged: int
    skipped: int
    verdicts: Mapping[Verdict, int]
    precision: Precision | None
    wrong: Estimate | None
    wrong_flagged: Estimate | None
    suggested_right: Estimate | None
    mistakes: tuple[Mistake, ...]
    _nested: tuple[tuple[int, int, int], ...] = field(default=(), repr=False)

    def largest_flagged(self, precision: float) -> Precision | None:
        """Return the largest set of the most suspect flagged rows whose precision is proved, or None if there is none.

        Sets are tested from the smallest with 30 judged rows upwards, in twentieths of the flagged rows, until a test
        fails: a fixed sequence needs no correction for the number of tests. The claim holds with 95 % confidence if
        the precision was chosen before the verdicts were seen.

        Args:
            precision: the share of wrong labels that the set must have, in (0, 1).

        Raises:
            CalibrationError: the audit is one of the whole set, or the precision is out of range.
        """
        if self.design != "flagged":
            raise CalibrationError(f"audit: expected one of the flagged rows, got the design {self.design}")
        if not 0 < precision < 1:
            raise CalibrationError(f"precision: expected a share in (0, 1), got {precision:g}")
        found = None
        for size, judged, wrong in self._nested:
            if judged < _FEWEST and size < self._nested[-1][0]:
                continue
            if not at_least(size * precision, wrong, judged, size, _RISK):
                break
            found = Precision(size, judged, wrong, precision)
        return found

    def lines(self) -> Iterator[str]:
        """Yield sentences that say what is proved."""
        skipped = f", {self.skipped} of them skipped" if self.skipped else ""
        yield f"{self.judged} of {self.drawn} rows judged{skipped}: {_counts(self.verdicts)}"
        for one, rows in ((self.wrong, "whole set"), (self.wrong_flagged, "flagged rows")):
            if one is not None and one.low == one.high:
                yield f"{one.value:.0f} labels of the {rows} are wrong"
            elif one is not None:
                ends = f"between {one.low:.0f} and {one.high:.0f} (95 % confidence)"
                yield f"about {one.value:.0f} labels of the {rows} are wrong: {ends}"
        if self.precision is not None:
            yield str(self.precision)
        if self.suggested_right is not None:
            yield f"the suggested label is right for {percent_with_ends(self.suggested_right)} of the flagged rows"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        return as_html(("" if i else self.design, line) for i, line in enumerate(self.lines()))


def judge(
    suspects: Suspects,
    audit: Audit,
    verdicts: Mapping[int, Verdict | str] | Iterable[Judged],
    *,
    audit_hash: str | None = None,
) -> Judgement:
    """Return what verdicts on an audit prove about the rows that were drawn from.

    A person who stops early leaves a smaller audit, which holds as well. `cannot_tell` and skipped rows count against
    every claim: as no error in lower bounds, as one in upper bounds. `both` is no error.

    Args:
        suspects: what the audit was drawn from.
        audit: the audit.
        verdicts: by row, or one object per row, in any order.
        audit_hash: the hash that the verdicts came with, to be compared with the audit's; None if they had none.

    Raises:
        CalibrationError: the verdicts are those of other suspects or of another audit, name a row twice or one that
            is not in the audit, have unknown words, or there are none.

    >>> rng = np.random.default_rng(0)
    >>> labels = rng.integers(0, 3, 5000)
    >>> given = np.where(rng.random(5000) < 0.1, (labels + 1) % 3, labels)
    >>> from edgecascade.calibration.cleaning import Experts, draw_audit, find_suspects, fit_pool
    >>> experts = Experts.of([5 * np.eye(3)[labels] + rng.normal(size=(5000, 3))])
    >>> suspects = find_suspects(experts, given, fit_pool(experts, given))
    >>> audit = draw_audit(suspects, 100)
    >>> said = {row: "given" if given[row] == labels[row] else "suggested" for row in audit.rows}
    >>> print(judge(suspects, audit, said).precision)
    at least 97.4 % of the 513 flagged labels are wrong (95 % confidence; of 100 that were judged, 100 are)
    """
    said = _checked(suspects, audit, verdicts, audit_hash)
    last = max(place for place, row in enumerate(audit.rows.tolist()) if row in said) + 1
    answers = _Answers.of(suspects, audit, [said.get(row) for row in audit.rows[:last].tolist()])
    whole = audit.design == "all"
    wrong = _wrong(suspects, answers, np.ones(suspects.n, bool)) if whole else None
    wrong_flagged = _wrong(suspects, answers, _flagged(suspects)) if whole else _wrong_flagged(answers, audit)
    count = int(suspects.flagged.sum())
    weight, all_judged = answers.weight if whole else None, last == (suspects.n if whole else count)
    return Judgement(
        design=audit.design,
        drawn=len(audit),
        judged=last,
        skipped=last - len(said),
        verdicts=Counter(Verdict(one.verdict) for one in said.values()),
        precision=_weighted_precision(suspects, answers) if whole else _precision(answers, audit.nested[-1]),
        wrong=_with_part(wrong, wrong_flagged),
        wrong_flagged=wrong_flagged,
        suggested_right=_suggested_right(answers, weight, count),
        mistakes=tuple(_mistakes(answers, weight, all_judged)),
        _nested=() if whole else tuple((size, *_inside(answers, size)) for size in audit.nested),
    )


@dataclass(frozen=True)
class _Answers:
    """The judged rows as columns, in the order of the draws.

    Attributes:
        row: int64, its number.
        flagged: bool, whether the row is flagged.
        rank: int64, the place among the flagged rows; meaningless for others.
        chances: float64, of the row to be drawn first.
        expected: float64, the posterior.
        wrong: bool, whether the given label is said to be wrong.
        doubtful: bool, whether nothing was said of it.
        suggested: bool, whether the suggested label is said to be right.
        given: int64, the given class.
        right: int64, the class that is said to be right where the given one is wrong; else -1.
    """

    row: NDArray[np.int64]
    flagged: NDArray[np.bool_]
    rank: NDArray[np.int64]
    chances: NDArray[np.float64]
    expected: NDArray[np.float64]
    wrong: NDArray[np.bool_]
    doubtful: NDArray[np.bool_]
    suggested: NDArray[np.bool_]
    given: NDArray[np.int64]
    right: NDArray[np.int64]

    @classmethod
    def of(cls, suspects: Suspects, audit: Audit, said: Sequence[Judged | None]) -> _Answers:
        rows = audit.rows[: len(said)]
        places = np.empty(suspects.n, np.int64)
        places[suspects.row] = np.arange(len(suspects.row))
        place, ranks = places[rows], np.cumsum(suspects.flagged) - 1
        words = [Verdict.CANNOT_TELL if one is None else Verdict(one.verdict) for one in said]
        suggested = suspects.suggested[place]
        right = [
            best if word is Verdict.SUGGESTED else -1 if one is None or one.label is None else one.label
            for one, word, best in zip(said, words, suggested.tolist(), strict=True)
        ]
        return cls(
            row=rows,
            flagged=suspects.flagged[place],
            rank=ranks[place],
            chances=audit.chances[: len(said)],
            expected=np.clip(suspects.expected_wrong[rows].astype(np.float64), 0.0, 1.0),
            wrong=_are(words, Verdict.SUGGESTED, Verdict.OTHER),
            doubtful=_are(words, Verdict.CANNOT_TELL),
            suggested=_are(words, Verdict.SUGGESTED, Verdict.BOTH),
            given=suspects.given[place],
            right=np.array(right, np.int64),
        )

    @property
    def weight(self) -> NDArray[np.float64]:
        """How many rows each stands for, up to a factor: those before it leave the others a larger chance."""
        before = np.cumsum(self.chances) - self.chances
        return np.asarray((1 - before) / self.chances)


def _are(words: Sequence[Verdict], *some: Verdict) -> NDArray[np.bool_]:
    return np.array([word in some for word in words], bool)


def _checked(
    suspects: Suspects,
    audit: Audit,
    verdicts: Mapping[int, Verdict | str] | Iterable[Judged],
    audit_hash: str | None,
) -> dict[int, Judged]:
    """Return the verdicts by row."""
    if suspects_hash(suspects) != audit.suspects:
        raise CalibrationError("audit: expected one that was drawn from these suspects, got one drawn from others")
    if audit_hash is not None and audit_hash != audit.hash:
        raise CalibrationError(
            f"verdicts: expected those of the audit {audit.hash[:12]}, got those of another one ({audit_hash[:12]})"
        )
    given = [Judged(int(row), word) for row, word in verdicts.items()] if isinstance(verdicts, Mapping) else verdicts
    rows, words, said = set(audit.rows.tolist()), [one.value for one in Verdict], dict[int, Judged]()
    for one in given:
        if one.row not in rows:
            raise CalibrationError(f"verdicts: expected rows of the audit, got row {one.row}")
        if one.row in said:
            raise CalibrationError(f"verdicts: expected one for each row, got another one for row {one.row}")
        if not isinstance(one.verdict, Verdict) and one.verdict not in words:
            raise CalibrationError(
                f"verdicts: expected one of {', '.join(words)}, got {one.verdict!r} for row {one.row}"
            )
        _check_label(one, suspects.classes)
        said[one.row] = one
    if not said:
        raise CalibrationError("verdicts: expected at least one, got none")
    return said


def _check_label(one: Judged, classes: int) -> None:
    if one.label is None:
        return
    if Verdict(one.verdict) is not Verdict.OTHER:
        raise CalibrationError(
            f"verdicts: expected a label with the verdict other only, got one for row {one.row} with "
            f"{Verdict(one.verdict).value}"
        )
    if not 0 <= one.label < classes:
        raise CalibrationError(f"verdicts: expected a label from 0 to {classes - 1}, got {one.label} for row {one.row}")


def _inside(answers: _Answers, size: int) -> tuple[int, int]:
    """Return how many of the `size` most suspect flagged rows were judged, and how many of their labels are wrong."""
    inside = answers.rank < size
    return int(inside.sum()), int(answers.wrong[inside].sum())


def _precision(answers: _Answers, size: int) -> Precision:
    """Return the exact bound for the flagged rows, each drawn with the same chance."""
    judged, wrong = _inside(answers, size)
    return Precision(size, judged, wrong, least_count(wrong, judged, size, _RISK) / size)


def _wrong_flagged(answers: _Answers, audit: Audit) -> Estimate:
    """Return how many given labels of the flagged rows are wrong, each drawn with the same chance."""
    size, judged, wrong = audit.nested[-1], len(answers.wrong), int(answers.wrong.sum())
    right = judged - wrong - int(answers.doubtful.sum())
    low, high = least_count(wrong, judged, size, TAILS[0]), size - least_count(right, judged, size, TAILS[1])
    return Estimate(size * wrong / judged, low, high, judged)


def _with_part(whole: Estimate | None, part: Estimate | None) -> Estimate | None:
    """Return an estimate of the whole set that is at least that of a part, as each is estimated on its own."""
    if whole is None or part is None:
        return whole
    return replace(whole, value=max(whole.value, part.value), high=max(whole.high, part.high))


def _flagged(suspects: Suspects) -> NDArray[np.bool_]:
    """Return which rows are flagged, bool [n]."""
    found = np.zeros(suspects.n, bool)
    found[suspects.row] = suspects.flagged
    return found


def _weighted_precision(suspects: Suspects, answers: _Answers) -> Precision | None:
    """Return the bound for the flagged rows from an audit of the whole set."""
    member, inside = _flagged(suspects), answers.flagged
    found = _wrong(suspects, answers, member, (_RISK, _RISK))
    if found is None:
        return None
    size = int(member.sum())
    return Precision(size, found.n, int(answers.wrong[inside].sum()), found.low / size)


def _wrong(
    suspects: Suspects, answers: _Answers, member: NDArray[np.bool_], tails: tuple[float, float] = TAILS
) -> Estimate | None:
    """Return how many given labels of some of the rows are wrong; None if none of them was judged."""
    inside = member[answers.row]
    least, judged = int(answers.wrong[inside].sum()), int(inside.sum())
    if not judged:
        return None
    most = least + int(answers.doubtful[inside].sum()) + int(member.sum()) - judged
    ends = _total(suspects, answers, member, tails)
    if not least:  # the posterior alone is no evidence
        ends = (ends[0], 0.0, ends[2])
    value, low, high = np.clip([ends[0], np.ceil(ends[1] - _ROUNDING), np.floor(ends[2] + _ROUNDING)], least, most)
    value, low, high = value + 0.0, low + 0.0, high + 0.0  # none is -0.0
    return Estimate(float(np.clip(value, low, high)), float(low), float(high), judged)


def _total(
    suspects: Suspects, answers: _Answers, member: NDArray[np.bool_], tails: tuple[float, float]
) -> tuple[float, float, float]:
    """Return how many given labels of some of the rows are wrong, with the ends of the interval.

    Args:
        suspects: of every row.
        answers: of an audit of the whole set.
        member: bool [n], the rows that are counted.
        tails: probabilities that the number is below the interval, and above it.
    """
    inside = member[answers.row]
    expected = np.clip(suspects.expected_wrong.astype(np.float64), 0.0, 1.0) * member
    prior = Prior.of(expected, draw_chances(suspects.expected_wrong), member)
    least, most = (
        total_estimates(has & inside, answers.expected * inside, answers.chances, prior.total)
        for has in (answers.wrong, answers.wrong | answers.doubtful)
    )
    low, high = total_ends(least, most, prior, tails)
    return float(least.mean()), float(low), float(high)


def _suggested_right(answers: _Answers, weight: NDArray[np.float64] | None, flagged: int) -> Estimate | None:
    inside = answers.flagged
    if not inside.any():
        return None
    right, doubtful = answers.suggested[inside], answers.doubtful[inside]
    if len(right) == flagged:  # all were judged
        return Estimate(float(right.mean()), float(right.mean()), float((right | doubtful).mean()), flagged)
    own = None if weight is None else weight[inside]
    low, high = accuracy_interval(right, own)[0], accuracy_interval(right | doubtful, own)[1]
    return Estimate(float(np.average(right, weights=own)), low, high, len(right))


def _mistakes(answers: _Answers, weight: NDArray[np.float64] | None, all_judged: bool) -> Iterator[Mistake]:
    """Yield the pairs of classes, the largest share first."""
    known = answers.wrong & (answers.right >= 0)
    pairs, which = np.unique(np.stack([answers.given[known], answers.right[known]]), axis=1, return_inverse=True)
    own = None if weight is None or all_judged else weight[known]
    found = []
    for number, (given, right) in enumerate(pairs.T.tolist()):
        here = which.ravel() == number
        value = float(np.average(here, weights=own))
        ends: tuple[float, float] = (value, value) if all_judged else accuracy_interval(here, own)
        share = Estimate(value, *ends, len(here))
        found.append(Mistake(given, right, int(here.sum()), share))
    yield from sorted(found, key=lambda one: -one.share.value)


def _counts(verdicts: Mapping[Verdict, int]) -> str:
    return ", ".join(f"{verdicts[one]} {one.value.replace('_', ' ')}" for one in Verdict if verdicts.get(one))
