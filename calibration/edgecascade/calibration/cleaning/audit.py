"""Label audits: the sample of rows that a person judges, drawn so that it proves something about all of them.

Of the flagged rows, every one has the same chance; what is judged bounds how many of them are wrong. Of the whole set,
rows that are probably wrong are drawn more often, but most draws are uniform: an interval for the number of wrong
labels can be no shorter than what the rows that seem right leave open.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration._checks import check_seed
from edgecascade.calibration.cleaning.suspects import Suspects
from edgecascade.types.errors import CalibrationError

__all__ = ["DESIGNS", "Audit", "draw_audit", "draw_chances", "draw_in_order", "suspects_hash"]

DESIGNS = ("flagged", "all")

_UNIFORM = 0.85  # share of the draws from the whole set that does not depend on the posterior; from studies.audits
_NESTED = 20  # sets of flagged rows whose precision may be claimed


@dataclass(frozen=True)
class Audit:
    """The rows that a person judges.

    Attributes:
        rows: int64 [n], in the order in which they are to be judged. The first of them are an audit as well, so a
            person may stop early, for any reason but what the verdicts were.
        chances: float64 [n], the chance that a single draw has to be this row.
        design: `flagged`, or `all` for the whole set.
        nested: numbers of rows, ascending: the sets of the most suspect flagged rows that `largest_flagged` tests.
        seed: of the draw.
        suspects: hash of the suspects that the rows were drawn from.
    """

    rows: NDArray[np.int64]
    chances: NDArray[np.float64]
    design: str
    nested: tuple[int, ...]
    seed: int
    suspects: str

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def hash(self) -> str:
        """The SHA-256 of the audit, hexadecimal: verdicts that carry it are of these rows in this order."""
        found = hashlib.sha256(f"{self.design} {self.seed} {self.suspects} ".encode())
        found.update(np.ascontiguousarray(self.rows, "<i8").tobytes())
        return found.hexdigest()


def draw_audit(suspects: Suspects, n: int = 100, *, design: str = "flagged", seed: int = 0) -> Audit:
    """Draw rows without replacement.

    Designs:
        `flagged`: of the flagged rows, each with the same chance.
        `all`: of every row judged, 85 % of the draws uniformly and 15 % in proportion to the posterior. The chance of
            a draw is shared out anew among the rows that are left. An audit of the suspects of every row
            (`find_suspects(..., every_row=True)`).

    Args:
        suspects: what was found.
        n: number of rows; all there are if these are fewer.
        design: see above.
        seed: of the draw.

    Raises:
        CalibrationError: nothing is flagged, rows are missing, or an argument is out of range.

    >>> rng = np.random.default_rng(0)
    >>> labels = rng.integers(0, 3, 1000)
    >>> from edgecascade.calibration.cleaning import Experts, find_suspects, fit_pool
    >>> experts = Experts.of([2 * np.eye(3)[labels] + rng.normal(size=(1000, 3))])
    >>> suspects = find_suspects(experts, labels, fit_pool(experts, labels), every_row=True)
    >>> len(draw_audit(suspects, 100, design="all"))
    100
    """
    check_seed(seed)
    if design not in DESIGNS:
        raise CalibrationError(f"design: expected one of {', '.join(DESIGNS)}, got {design}")
    if n < 1:
        raise CalibrationError(f"n: expected at least one row to judge, got {n}")
    rng, flagged = np.random.default_rng(seed), suspects.row[suspects.flagged]
    if design == "all":
        if len(suspects.row) != suspects.n:
            raise CalibrationError(
                f"suspects: expected all {suspects.n} rows for an audit of the whole set, got {len(suspects.row)}; "
                "find_suspects lists them with every_row=True"
            )
        chances = draw_chances(suspects.expected_wrong)
        rows = draw_in_order(chances, n, rng)
        return Audit(rows, chances[rows], design, (), seed, suspects_hash(suspects))
    if not len(flagged):
        raise CalibrationError(
            f"suspects: expected flagged rows to draw from, got none among {suspects.n}; lower the threshold, or draw "
            "from all rows (design all)"
        )
    rows = rng.permutation(flagged)[:n]
    sizes = np.unique(np.ceil(np.arange(1, _NESTED + 1) * len(flagged) / _NESTED).astype(int))
    even = np.full(len(rows), 1 / len(flagged))
    return Audit(rows, even, design, tuple(sizes.tolist()), seed, suspects_hash(suspects))


def draw_chances(posterior: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the chance of each row to be the first that an audit of the whole set draws, float64 [n].

    Args:
        posterior: [n], the model's chances that the labels are wrong.
    """
    share = np.clip(np.asarray(posterior, np.float64), 0.0, 1.0)
    if not np.isfinite(share).all():
        raise CalibrationError(f"expected_wrong: expected chances in [0, 1], got {int(np.isnan(share).sum())} NaN")
    total = share.sum()
    aimed = share / total if total > 0 else np.full(len(share), 1 / len(share))
    return np.asarray(_UNIFORM / len(share) + (1 - _UNIFORM) * aimed)


def draw_in_order(chances: NDArray[np.float64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw n rows one after the other, each time in proportion to the chances of the rows that are left.

    The rows of the smallest exponential waiting times at these rates (Efraimidis and Spirakis, Information Processing
    Letters 97, 2006).
    """
    waiting = rng.standard_exponential(len(chances)) / chances
    first = np.argpartition(waiting, n)[:n] if n < len(chances) else np.arange(len(chances))
    return np.asarray(first[np.argsort(waiting[first])], np.int64)


def suspects_hash(suspects: Suspects) -> str:
    """Return the SHA-256 of what an audit depends on: rows, labels, flags and posterior."""
    found = hashlib.sha256(f"{suspects.n} {suspects.classes} ".encode())
    for column in (suspects.row, suspects.given, suspects.suggested):
        found.update(np.ascontiguousarray(column, "<i8").tobytes())
    found.update(np.ascontiguousarray(suspects.flagged, np.bool_).tobytes())
    found.update(np.ascontiguousarray(suspects.expected_wrong, "<f4").tobytes())
    return found.hexdigest()
