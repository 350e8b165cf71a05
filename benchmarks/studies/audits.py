"""Label audits: how often their bounds and intervals are true, and how short they are, where the truth is known.

Sets with wrong labels are made up, with posteriors that are good, overconfident, shifted, useless, or blind to some of
the wrong labels. Each is audited many times by the code that users run. The interval for the number of wrong labels is
compared with other methods on the same draws, and with a uniform sample of as many rows.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.report import write_study
from edgecascade.benchmarks.stored import Steps, at_once, stored_steps
from edgecascade.calibration.cleaning import Suspects, draw_audit, judge
from edgecascade.calibration.cleaning.audit import draw_chances
from edgecascade.calibration.cleaning.count import Prior, count_ends, total_ends, total_estimates
from edgecascade.calibration.intervals import proportion_interval

__all__ = ["FLAGGED", "METHODS", "WORLDS", "AuditStudy", "Bound", "Count", "main", "measure_audits", "summarize"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ends = tuple[Floats, Floats]

_SEPARATION = 4.0  # standard deviations between the scores of right and of wrong labels
_ASKED = 0.7  # precision of the largest set
_UNTELLING, _DOUBTFUL = "doubtful", 0.1  # the world where a person cannot tell, in this share of the rows
_FLAG = 0.5  # posterior from which rows are flagged
_GOAL = 0.95
_RATIO = 0.4  # of the width that a uniform sample has
_MONTE_CARLO = 0.99
_COMPARED = (50_000, 100)  # rows and judged rows at which all methods are compared


@dataclass(frozen=True)
class Bound:
    """Audits of the flagged rows of one set.

    Attributes:
        flagged: How precision falls with the rank.
        rows: Flagged rows.
        judged: Rows in an audit.
        precision: The true one.
        bound: The mean of the lower bounds.
        false: The share of audits whose bound is above the truth.
        largest: The mean size of the largest set with a precision of 70 %, over that of the largest there is; None if
            there is none.
        largest_false: The share of audits whose set has less.
        audits: Their number.
    """

    flagged: str
    rows: int
    judged: int
    precision: float
    bound: float
    false: float
    largest: float | None
    largest_false: float
    audits: int


@dataclass(frozen=True)
class Count:
    """Audits of one whole set.

    Attributes:
        world: How good the posterior is.
        rows: Rows in the set.
        rate: The share of wrong labels that it was made with.
        judged: Rows in an audit.
        wrong: Wrong labels.
        lower: The mean lower end, over the truth.
        upper: The mean upper end less the truth, over the rows.
        above: The share of audits whose interval is above the truth.
        below: The share whose interval is below it.
        covered: The share whose interval holds the truth, by method. The others take rows of which a person cannot
            tell for right.
        width: The mean width over that of exact intervals from uniform samples, by method.
        flagged_covered: The share of audits whose interval for the wrong labels among rows with a posterior of .5 or
            more holds the truth; None if there are no such rows.
        flagged_width: The mean width of these intervals, over that of uniform samples' intervals for the whole set.
        audits: Their number.
    """

    world: str
    rows: int
    rate: float
    judged: int
    wrong: int
    lower: float
    upper: float
    above: float
    below: float
    covered: dict[str, float]
    width: dict[str, float]
    flagged_covered: float | None
    flagged_width: float | None
    audits: int

    @property
    def missed(self) -> bool:
        """Whether the whole 99 % interval of a coverage is below 95 %."""
        shares = self.covered["ours"], 1.0 if self.flagged_covered is None else self.flagged_covered
        return any(_beyond(1 - share, self.audits, 1 - _GOAL) for share in shares)


@dataclass(frozen=True)
class AuditStudy:
    """The whole measurement.

    Attributes:
        seed: The seed of every draw.
        audits: Audits of each set.
        seconds: What it took on this machine.
        bounds: Audits of flagged rows.
        counts: Audits of whole sets.
    """

    seed: int
    audits: int
    seconds: float
    bounds: list[Bound]
    counts: list[Count]

    @property
    def missed(self) -> list[str]:
        """The cells whose bounds or intervals are false more often than 5 %, beyond chance."""
        return [
            *(
                f"{one.flagged}, {one.judged} judged"
                for one in self.bounds
                if _beyond(one.false, one.audits, 1 - _GOAL)
            ),
            *(
                f"{one.flagged}, {one.judged} judged, largest set"
                for one in self.bounds
                if _beyond(one.largest_false, one.audits, 1 - _GOAL)
            ),
            *(f"{one.world}, {one.rows} rows, {one.rate:.1%}, {one.judged}" for one in self.counts if one.missed),
        ]


def _beyond(share: float, n: int, most: float) -> bool:
    return proportion_interval(round(share * n), n, _MONTE_CARLO)[0] > most


FLAGGED: Mapping[str, Callable[[Floats], Floats]] = {
    "90 % throughout": lambda place: np.full(len(place), 0.9),
    "70 % throughout": lambda place: np.full(len(place), 0.7),
    "98 to 40 %": lambda place: 0.98 - 0.58 * place**3,
    "95 to 10 %": lambda place: 0.95 - 0.85 * place,
    "95 %, then 20 %": lambda place: np.where(place < 0.5, 0.95, 0.2),
    "60 to 90 %": lambda place: 0.6 + 0.3 * place,
}


def _posterior(name: str, log_odds: Floats) -> Floats:
    factor = {"overconfident": 2.0, "underconfident": 0.5}.get(name, 1.0)
    shift = {"too high": 1.5, "too low": -1.5}.get(name, 0.0)
    return np.asarray(1 / (1 + np.exp(-np.clip(factor * log_odds + shift, -700, 700))))


def _hidden(wrong: Bools, posterior: Floats, share: float, rng: np.random.Generator) -> Bools:
    """Move a share of the wrong labels to rows of the lower half of the posterior."""
    moved = rng.permutation(np.flatnonzero(wrong))[: int(np.ceil(share * wrong.sum()))]
    found = wrong.copy()
    found[moved] = False
    low = np.argsort(posterior)[: len(posterior) // 2]
    found[rng.choice(low[~found[low]], len(moved), replace=False)] = True
    return found


WORLDS = (
    "good",
    "overconfident",
    "underconfident",
    "too high",
    "too low",
    "useless",
    "a tenth hidden",
    "half hidden",
    "all hidden",
    _UNTELLING,
)
_HIDDEN = {"a tenth hidden": 0.1, "half hidden": 0.5, "all hidden": 1.0}


def made_up(world: str, rows: int, rate: float, rng: np.random.Generator) -> tuple[Floats, Bools]:
    """Return a posterior and which labels are wrong, [rows] each.

    `useless` posteriors say nothing; of `hidden` labels they say that they are right; the others come from the
    log-odds of normal scores, which they shift or stretch.
    """
    wrong = np.arange(rows) < max(1, round(rate * rows))
    score = rng.standard_normal(rows) + _SEPARATION * wrong
    log_odds = _SEPARATION * (score - _SEPARATION / 2) + np.log(rate / (1 - rate))
    posterior = _posterior(world, log_odds).astype(np.float32).astype(np.float64)
    if world == "useless":
        posterior = rng.permutation(posterior)
    return posterior, _hidden(wrong, posterior, _HIDDEN[world], rng) if world in _HIDDEN else wrong


@dataclass(frozen=True)
class _Drawn:
    """Draws of many audits of one set, [audits, judged] each.

    Attributes:
        least: Whether the label is said to be wrong.
        most: The same, or nothing is said.
        expected: The posterior.
        chances: Of the row to be drawn first.
        prior: Of all rows.
        rows: All rows.
    """

    least: Bools
    most: Bools
    expected: Floats
    chances: Floats
    prior: Prior
    rows: int

    def first(self, judged: int) -> _Drawn:
        """Return the audits that stop early."""
        part = slice(judged)
        return replace(
            self,
            least=self.least[:, part],
            most=self.most[:, part],
            expected=self.expected[:, part],
            chances=self.chances[:, part],
        )

    def estimates(self, has: Bools) -> Floats:
        """Return the estimate of the whole number from each judged row."""
        return total_estimates(has, self.expected, self.chances, self.prior.total)


def _ours(drawn: _Drawn) -> Ends:
    low, high = total_ends(drawn.estimates(drawn.least), drawn.estimates(drawn.most), drawn.prior)
    confirmed, most = drawn.least.sum(axis=1), drawn.most.sum(axis=1) + drawn.rows - drawn.least.shape[1]
    return np.maximum(np.ceil(low - 1e-6), confirmed), np.minimum(np.floor(high + 1e-6), most)


def _student(drawn: _Drawn) -> Ends:
    from scipy.stats import t

    each = drawn.estimates(drawn.least)
    half = t.isf((1 - _GOAL) / 2, each.shape[1] - 1) * _error(each)
    return each.mean(axis=1) - half, each.mean(axis=1) + half


def _error(each: Floats) -> Floats:
    return np.asarray(np.maximum(each.std(axis=1, ddof=1) / np.sqrt(each.shape[1]), 1e-9))


def _hall(drawn: _Drawn) -> Ends:
    """Return Hall's transformation of t, which allows for skewness."""
    from scipy.stats import t

    each = drawn.estimates(drawn.least)
    n, centre, error = each.shape[1], each.mean(axis=1), _error(each)
    skewness = np.sum((each - centre[:, None]) ** 3, axis=1) / n**3 / error**3
    skewness = np.where(np.abs(skewness) < 1e-6, 1e-6, skewness)
    quantile = t.ppf(1 - (1 - _GOAL) / 2, n - 1)
    moved = [3 / skewness * (np.cbrt(1 + skewness * (z - skewness / 6)) - 1) for z in (quantile, -quantile)]
    return centre - error * moved[0], centre - error * moved[1]


def _bootstrap_t(drawn: _Drawn, resamples: int = 400) -> Ends:
    each, rng = drawn.estimates(drawn.least), np.random.default_rng(0)
    centre, error = each.mean(axis=1), _error(each)
    statistics = np.empty((resamples, len(each)))
    for one in statistics:
        again = np.take_along_axis(each, rng.integers(0, each.shape[1], each.shape), axis=1)
        one[:] = (again.mean(axis=1) - centre) / _error(again)
    low, high = np.quantile(statistics, [(1 - _GOAL) / 2, (1 + _GOAL) / 2], axis=0)
    return centre - high * error, centre - low * error


def _bernstein(drawn: _Drawn) -> Ends:
    """Return the empirical Bernstein interval of Maurer and Pontil (arXiv 0907.3740)."""
    each = drawn.estimates(drawn.least)
    n, logarithm = each.shape[1], np.log(4 / (1 - _GOAL))
    span = drawn.prior.above + drawn.prior.below
    half = np.sqrt(2 * each.var(axis=1, ddof=1) * logarithm / n) + 7 * span * logarithm / (3 * (n - 1))
    return np.maximum(each.mean(axis=1) - half, 0), np.minimum(each.mean(axis=1) + half, drawn.rows)


def _betting(drawn: _Drawn) -> Ends:
    """Return the numbers that a gambler against each does not win from, with a mixture of three constant bets."""
    each, tail = drawn.estimates(drawn.least), (1 - _GOAL) / 2
    limits = drawn.prior.total - drawn.prior.below, drawn.prior.total + drawn.prior.above

    def refuted(number: Floats, limit: float) -> Bools:
        gain = (each - number[:, None]) / (number[:, None] - limit)
        capital = [np.log1p(bet * gain).sum(axis=1) + np.log(w) for bet, w in ((0.97, 0.6), (0.5, 0.25), (0.2, 0.15))]
        return np.asarray(np.logaddexp.reduce(capital, axis=0) >= -np.log(tail))

    ends = []
    for limit, up in ((limits[0], False), (limits[1], True)):
        inside, outside = each.mean(axis=1), np.full(len(each), limit)
        for _ in range(24):
            middle = (inside + outside) / 2
            out = refuted(middle, limit)
            inside, outside = np.where(out, inside, middle), np.where(out, middle, outside)
        ends.append(np.minimum(outside, drawn.rows) if up else np.maximum(outside, 0))
    return ends[0], ends[1]


METHODS: Mapping[str, Callable[[_Drawn], Ends]] = {
    "ours": _ours,
    "betting": _betting,
    "empirical Bernstein": _bernstein,
    "t": _student,
    "Hall's t": _hall,
    "bootstrap-t": _bootstrap_t,
}


def _uniform_width(wrong: int, rows: int, judged: int) -> float:
    """Return the mean width of the exact interval from a uniform sample."""
    from scipy.stats import hypergeom

    seen = np.arange(judged + 1)
    chance = hypergeom.pmf(seen, rows, wrong, judged)
    likely = seen[chance > 1e-6]
    width = [high - low for low, high in (count_ends(int(one), judged, rows) for one in likely)]
    return float(np.average(width, weights=chance[likely]))


def _count(world: str, rows: int, rate: float, sizes: Sequence[int], audits: int, seed: int) -> list[Count]:
    """Audit one set; audits of fewer rows are the first draws of those of more."""
    rng = np.random.default_rng([seed, rows, round(1e4 * rate), *world.encode()])
    posterior, wrong = made_up(world, rows, rate, rng)
    doubtful = rng.random(rows) < _DOUBTFUL if world == _UNTELLING else np.zeros(rows, bool)
    chances = draw_chances(posterior)
    places = many_draws(chances, max(sizes), audits, rng)
    least, most, flagged = wrong & ~doubtful, wrong | doubtful, posterior >= _FLAG
    whole = _Drawn(least[places], most[places], posterior[places], chances[places], Prior.of(posterior, chances), rows)
    inside = flagged[places]
    disputed = replace(
        whole,
        least=whole.least & inside,
        most=whole.most & inside,
        expected=whole.expected * inside,
        prior=Prior.of(posterior * flagged, chances, flagged),
    )
    found, truth = [], int(wrong.sum())
    for judged in sizes:
        drawn, uniform = whole.first(judged), _uniform_width(truth, rows, judged)
        compared = METHODS if (rows, judged) == _COMPARED else {name: METHODS[name] for name in ("ours", "t")}
        ends = {name: method(drawn) for name, method in compared.items()}
        low, high = ends["ours"]
        covered, width = _of_flagged(disputed.first(judged), inside[:, :judged], flagged, wrong)
        found.append(
            Count(
                world=world,
                rows=rows,
                rate=rate,
                judged=judged,
                wrong=truth,
                lower=float(low.mean()) / truth,
                upper=float(high.mean() - truth) / rows,
                above=float(np.mean(low > truth)),
                below=float(np.mean(high < truth)),
                covered={name: float(np.mean((a <= truth) & (truth <= b))) for name, (a, b) in ends.items()},
                width={name: float(np.mean(b - a)) / uniform for name, (a, b) in ends.items()},
                flagged_covered=covered,
                flagged_width=None if width is None else width / uniform,
                audits=audits,
            )
        )
    return found


def _of_flagged(drawn: _Drawn, inside: Bools, flagged: Bools, wrong: Bools) -> tuple[float | None, float | None]:
    """Return how often the interval of the flagged rows holds the truth, and its mean width, where one was judged."""
    some = inside.any(axis=1)
    if not some.any():
        return None, None
    low, high = total_ends(drawn.estimates(drawn.least)[some], drawn.estimates(drawn.most)[some], drawn.prior)
    confirmed, right = drawn.least[some].sum(axis=1), (inside & ~drawn.most)[some].sum(axis=1)
    low, high = np.maximum(np.ceil(low - 1e-6), confirmed), np.minimum(np.floor(high + 1e-6), flagged.sum() - right)
    truth = (flagged & wrong).sum()
    return float(np.mean((low <= truth) & (truth <= high))), float(np.mean(high - low))


def many_draws(chances: Floats, n: int, audits: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the rows of many audits in order, int64 [audits, n].

    A draw with replacement that gives a row again is drawn once more: the others keep their chances, so this is what
    `draw_in_order` does, and faster for many audits of one set.
    """
    edges, found = np.cumsum(chances), np.empty((audits, n), np.int64)
    for audit in found:
        kept = np.empty(0, np.int64)
        while len(kept) < n:
            more = np.searchsorted(edges, rng.random(2 * n) * edges[-1], side="right")
            every = np.concatenate([kept, np.minimum(more, len(chances) - 1)])
            kept = every[np.sort(np.unique(every, return_index=True)[1])]
        audit[:] = kept[:n]
    return found


def made_up_suspects(posterior: Floats, flagged: int) -> Suspects:
    """Return the suspects of two classes that have this posterior, the `flagged` most suspect of them flagged."""
    n = len(posterior)
    row, confidences = np.argsort(-posterior, kind="stable"), np.zeros((n, 1), np.float32)
    return Suspects(
        row=row,
        given=np.zeros(n, np.int64),
        suggested=np.ones(n, np.int64),
        score=posterior[row],
        posterior=posterior[row],
        confidences=confidences,
        given_confidences=confidences,
        flagged=np.arange(n) < flagged,
        n=n,
        classes=2,
        rule="posterior",
        threshold=0.5,
        experts=("made up",),
        expected_wrong=posterior.astype(np.float32),
    )


def _bound(name: str, rows: int, judged: int, audits: int, seed: int) -> Bound:
    """Audit the flagged rows of one set, with the functions that users call."""
    rng = np.random.default_rng([seed, rows, judged, *name.encode()])
    wrong = rng.random(rows) < FLAGGED[name]((np.arange(rows) + 0.5) / rows)
    suspects = made_up_suspects(np.linspace(0.99, 0.5, rows), rows)
    sizes = np.arange(1, rows + 1)
    enough = np.cumsum(wrong) >= _ASKED * sizes - 1e-6
    bounds, largest = [], []
    for audit_seed in rng.integers(0, 2**31, audits).tolist():
        audit = draw_audit(suspects, judged, seed=audit_seed)
        said = {row: "suggested" if wrong[row] else "given" for row in audit.rows.tolist()}
        found = judge(suspects, audit, said)
        assert found.precision is not None
        bounds.append(found.precision.bound)
        proved = found.largest_flagged(_ASKED)
        largest.append(proved.flagged if proved else 0)
    ideal = max((size for size in audit.nested if enough[size - 1]), default=0)
    return Bound(
        flagged=name,
        rows=rows,
        judged=judged,
        precision=float(wrong.mean()),
        bound=float(np.mean(bounds)),
        false=float(np.mean(np.array(bounds) > wrong.mean())),
        largest=float(np.mean(largest)) / ideal if ideal else None,
        largest_false=float(np.mean([size > 0 and not enough[size - 1] for size in largest])),
        audits=audits,
    )


@dataclass(frozen=True)
class Form:
    """What is measured.

    Attributes:
        worlds: Names in `WORLDS`.
        sets: Sizes of whole sets, with the shares of wrong labels.
        judged: Sizes of audits of the whole set.
        flagged: Numbers of flagged rows, with sizes of audits of them.
    """

    worlds: tuple[str, ...]
    sets: tuple[tuple[int, tuple[float, ...]], ...]
    judged: tuple[int, ...]
    flagged: tuple[tuple[int, int], ...]

    @property
    def steps(self) -> int:
        """The number of steps of `measure_audits`."""
        return len(self.flagged) * len(FLAGGED) + len(self.worlds) * sum(len(rates) for _, rates in self.sets)


FULL = Form(
    WORLDS,
    ((1000, (0.01, 0.05, 0.1)), (50_000, (0.002, 0.01, 0.05, 0.1)), (1_000_000, (0.002, 0.05))),
    (50, 100, 200, 400),
    ((400, 100), (2500, 50), (2500, 100), (2500, 400)),
)
REDUCED = Form(
    ("good", "useless", "half hidden", "doubtful"), ((1000, (0.01, 0.1)), (10_000, (0.1,))), (50, 100), ((400, 60),)
)


def measure_audits(form: Form, steps: Steps = at_once, *, audits: int, seed: int = 0) -> AuditStudy:
    """Audit every set.

    Args:
        form: What is measured.
        steps: Stores what is measured.
        audits: Audits of each set.
        seed: The seed of every draw.
    """
    started = time.monotonic()
    bounds = [
        steps(Bound, f"{name}, {rows}, {judged}", partial(_bound, name, rows, judged, audits, seed))
        for rows, judged in form.flagged
        for name in FLAGGED
    ]
    counts = [
        steps(
            list[Count],
            f"{world}, {rows}, {rate:.1%}",
            partial(_count, world, rows, rate, form.judged, audits, seed),
        )
        for rows, rates in form.sets
        for world in form.worlds
        for rate in rates
    ]
    return AuditStudy(seed, audits, time.monotonic() - started, bounds, [one for several in counts for one in several])


def summarize(found: AuditStudy) -> str:
    """Return tables as plain text."""
    return "\n".join(line.rstrip() for line in _lines(found))


def _lines(found: AuditStudy) -> Iterator[str]:
    yield (
        f"audits: {found.audits} of each of {len(found.bounds)} flagged sets, and of {len(found.counts)} whole sets "
        f"and sizes; seed {found.seed}, {found.seconds:.0f} s; {len(found.missed)} false beyond chance"
    )
    yield from found.missed
    yield ""
    yield (
        f"{'precision of the flagged':<26}{'flagged':>8}{'judged':>8}{'true %':>8}{'bound %':>9}{'false %':>9}"
        f"{'largest set at 70 %':>22}{'false %':>9}"
    )
    for one in found.bounds:
        largest = "none" if one.largest is None else f"{one.largest:.2f} of the ideal"
        yield (
            f"{one.flagged:<26}{one.rows:>8}{one.judged:>8}{100 * one.precision:>8.1f}{100 * one.bound:>9.1f}"
            f"{100 * one.false:>9.1f}{largest:>22}{100 * one.largest_false:>9.1f}"
        )
    yield ""
    yield from _coverage_lines(found.counts)
    yield ""
    yield from _width_lines(found.counts)
    yield ""
    yield from _method_lines(found.counts)


def _coverage_lines(counts: Sequence[Count]) -> Iterator[str]:
    yield (
        f"{'number of wrong labels':<26}{'covered %: mean':>16}{'least':>8}{'below 95 %':>12}{'above truth':>13}"
        f"{'below truth':>13}{'flagged: mean':>15}{'least':>8}{'t: mean':>9}{'least':>8}"
    )
    for world in dict.fromkeys(one.world for one in counts):
        each = [one for one in counts if one.world == world]
        ours, student = ([100 * one.covered[name] for one in each] for name in ("ours", "t"))
        missed = f"{sum(one.missed for one in each)} of {len(each)}"
        above, below = (
            100 * float(np.mean(ends)) for ends in zip(*((one.above, one.below) for one in each), strict=True)
        )
        flagged = [100 * one.flagged_covered for one in each if one.flagged_covered is not None]
        others = "" if world == _UNTELLING else f"{np.mean(student):>9.1f}{min(student):>8.1f}"
        yield (
            f"{world:<26}{np.mean(ours):>16.1f}{min(ours):>8.1f}{missed:>12}{above:>13.1f}{below:>13.1f}"
            f"{np.mean(flagged):>15.1f}{min(flagged):>8.1f}{others}"
        )


def _width_lines(counts: Sequence[Count]) -> Iterator[str]:
    """Yield widths, and where the ends are, of one size of set."""
    rows = _COMPARED[0] if any(one.rows == _COMPARED[0] for one in counts) else max(one.rows for one in counts)
    yield f"width over that of a uniform sample's exact interval; {rows} rows"
    for world in dict.fromkeys(one.world for one in counts):
        each = [one for one in counts if one.world == world and one.rows == rows]
        yield (
            f"{world:<22}{'wrong':>7}"
            + "".join(f"{f'{n} judged':>12}" for n in dict.fromkeys(one.judged for one in each))
            + "   flagged"
            + "   mean low end / truth, mean high end - truth (% of rows)"
        )
        for rate in dict.fromkeys(one.rate for one in each):
            here = [one for one in each if one.rate == rate]
            ends = "   ".join(f"{one.lower:.2f}, +{100 * one.upper:.1f}" for one in here)
            widths = "".join(f"{one.width['ours']:>12.2f}" for one in here)
            flagged = " ".join("-" if one.flagged_width is None else f"{one.flagged_width:.2f}" for one in here)
            yield f"{'':<22}{rate:>7.1%}{widths}   {flagged}   {ends}"


def _method_lines(counts: Sequence[Count]) -> Iterator[str]:
    each = [one for one in counts if len(one.covered) == len(METHODS) and one.world != _UNTELLING]
    if not each:
        return
    good = [one for one in each if one.world == "good"]
    yield (
        f"{_COMPARED[0]} rows, {_COMPARED[1]} judged".ljust(26)
        + f"{'covered %: mean':>16}{'least':>8}   width, good posterior, at "
        + ", ".join(f"{one.rate:.1%}" for one in good)
    )
    for name in METHODS:
        covered = [100 * one.covered[name] for one in each]
        widths = "  ".join(f"{one.width[name]:.2f}" for one in good)
        yield f"{name:<26}{np.mean(covered):>16.1f}{min(covered):>8.1f}   {widths}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what an interrupted run did not, print, and write the result; return 1 if a claim is false too often."""
    parser = ArgumentParser(prog="python -m studies.audits", description=__doc__)
    parser.add_argument("--reduced", action="store_true", help="Audit a few small sets only, in a minute.")
    parser.add_argument("--audits", type=int, help="Audits of each set (default: 1000; reduced: 200).")
    parser.add_argument("--seed", type=int, default=0, help="The seed of every draw (default: 0).")
    parser.add_argument("-o", "--out", type=Path, default=Path("report"), help="The folder (default: report).")
    asked = parser.parse_args(arguments)
    form, audits = REDUCED if asked.reduced else FULL, asked.audits or (200 if asked.reduced else 1000)
    command = f"python -m studies.audits {'--reduced ' * asked.reduced}--audits {audits} --seed {asked.seed}"
    about = {"form": form, "audits": audits, "seed": asked.seed}
    with stored_steps(asked.out / "steps", about, form.steps) as steps:
        found = measure_audits(form, steps, audits=audits, seed=asked.seed)
        write_study(asked.out, "audits", found, command=command, summary=summarize(found))
    print(summarize(found))
    return int(bool(found.missed))


if __name__ == "__main__":
    raise SystemExit(main())
