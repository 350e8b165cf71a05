"""Certificates: the loss against asking the remote always is at most e, with probability at least 1 - d.

Learn then Test: thresholds are tested in a fixed order, from forwarding everything downwards, until a test fails; the
last that passed is certified. A fixed sequence needs no correction for the number of tests (Angelopoulos et al.,
arXiv 2110.01052, section 4). Each is a test of non-inferiority on n paired observations, valid at any n: the loss of
one input is remote right minus cascade right, which is -1, 0 or 1 and has an exact test; any other bounded loss has a
betting test.

`certify` tests thresholds that come from other data. `certify_order` tests every threshold of a score that needs no
labels, on all of the data: right and wrong answers by the exact test, graded ones by betting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.advantage import Correct
from edgecascade.calibration.objective import CertifiedLoss
from edgecascade.calibration.outcomes import Groups
from edgecascade.calibration.weights import effective_size, normalised, scaled_losses, weighted_mean
from edgecascade.types.document import Certificate
from edgecascade.types.errors import CalibrationError

__all__ = ["betting_p_value", "certify", "certify_order", "exact_p_value", "sample_size"]

_NUISANCE_LEVEL = 1e-4  # the smallest p-value; spent on an interval for the rate of disagreement
_NUISANCE_GRID = 20
_BETTING = 1.5  # times the inputs of a normal test are needed to show a loss by betting
_BOLDEST_BET = 0.95  # share of the bet that a single loss of 1 would ruin


def certify(
    advantage: NDArray[np.float32],
    local_correct: Correct,
    merged_correct: Correct,
    remote_correct: Correct,
    thresholds: NDArray[np.floating],
    *,
    loss: float,
    risk: float,
    weight: NDArray[np.float64] | None = None,
    groups: Groups | None = None,
    group_loss: float | None = None,
    looks: int = 1,
    attempt: int = 1,
) -> Certificate:
    """Return the certificate of the threshold that forwards least.

    The table, the score, the merge rule and the thresholds must come from other data than these arrays.

    Args:
        advantage: float32 [n], of fresh inputs.
        local_correct: bool [n], whether the local answer is right; or a verifier's scores in [0, 1], here and below.
        merged_correct: bool [n], whether the answer is right once the remote has replied.
        remote_correct: bool [n], whether the remote's answer is right.
        thresholds: floating [thresholds], tested from the highest down.
        loss: e, in (0, 1).
        risk: d, in (0, 1).
        weight: floating [n], above 0, how much each input counts; the loss is the weighted mean then. The largest is
            taken as the largest that there is.
        groups: the class or group of each input.
        group_loss: the largest loss within each group, in (0, 1); certified together with `loss`.
        looks: number of tests on growing data that were planned before the first; each has its share of the risk.
        attempt: which of them this is, from 1.

    Raises:
        CalibrationError: only forwarding everything can be certified, or a group is too small; the message says how
            many inputs would do.
    """
    CertifiedLoss(loss, risk)
    level = risk / looks
    claims = _claims(loss, level, normalised(weight, len(advantage)), groups, group_loss)
    found = None
    for threshold in np.sort(np.unique(thresholds))[::-1]:
        forward = ~(advantage >= np.float32(threshold))
        if forward.all() and np.array_equal(merged_correct, remote_correct):
            continue  # the cascade is the remote
        losses = remote_correct.astype(float) - np.where(forward, merged_correct, local_correct)
        largest = 0.0
        for claim in claims:
            largest = max(largest, _p_value(losses[claim.rows], claim.bound, claim.weight))
            if largest > level:
                return found or _refuse(losses[claim.rows], claim, risk, looks, attempt)
        rate = weighted_mean(forward, claims[0].weight)
        found = Certificate(loss, risk, float(threshold), rate, len(losses), largest, group_loss, looks, attempt)
    return found or _refuse(np.zeros(len(advantage)), claims[0], risk, looks, attempt)


def certify_order(
    score: NDArray[np.float32],
    local_correct: Correct,
    merged_correct: Correct,
    remote_correct: Correct,
    *,
    loss: float,
    risk: float,
    looks: int = 1,
    attempt: int = 1,
) -> Certificate:
    """Return the certificate of the least offload in the plain order of a score.

    Every threshold is tested, from forwarding everything downwards: at each the test sees how many inputs are better
    or worse, which only changes where a score of the sample is passed, so no threshold is left out. Nothing is chosen
    by labels, and all labelled inputs can be in the test. That requires a score and a merge rule whose decisions do not
    depend on labels either: the margin's order is the same at any temperature, and so are the remote's own answers.

    Args:
        score: float32 [n]; the lowest are forwarded first, and NaN always.
        local_correct: bool [n], whether the local answer is right; or a verifier's scores in [0, 1], here and below.
        merged_correct: bool [n], whether the answer is right once the remote has replied.
        remote_correct: bool [n], whether the remote's answer is right.
        loss: e, in (0, 1).
        risk: d, in (0, 1).
        looks: as in `certify`.
        attempt: as in `certify`.

    Returns:
        A certificate whose `threshold` is a score.

    Raises:
        CalibrationError: as in `certify`.
    """
    CertifiedLoss(loss, risk)
    n, level, always = len(score), risk / looks, int(np.isnan(score).sum())
    order = np.argsort(np.where(np.isnan(score), -np.inf, score), kind="stable")
    ascending = score[order]
    kept, sent = (remote_correct.astype(np.float64) - one for one in (local_correct, merged_correct))
    splits = np.concatenate([np.flatnonzero(ascending[1:] != ascending[:-1]) + 1, [always, n]])
    splits = np.unique(splits[splits >= always])
    if np.array_equal(merged_correct, remote_correct):
        splits = splits[:-1]  # the cascade is the remote
    right_or_wrong = bool(np.isin((kept, sent), (-1.0, 0.0, 1.0)).all())
    last_passed = _last_by_exact_tests if right_or_wrong else _last_by_betting
    found, p_value = last_passed(kept[order], sent[order], splits[::-1], loss, level)
    if found is None:
        first = splits[-1] if len(splits) else n
        failed = np.concatenate([sent[order][:first], kept[order][first:]]) if len(splits) else np.zeros(n)
        _refuse(failed, _Claim(slice(None), loss, None), risk, looks, attempt)
    return Certificate(loss, risk, _cut(ascending, found), found / n, n, p_value, looks=looks, attempt=attempt)


def _last_by_exact_tests(
    kept: NDArray[np.float64], sent: NDArray[np.float64], splits: NDArray[np.intp], loss: float, level: float
) -> tuple[int | None, float]:
    """Return the last number of forwarded inputs that passes, of those before the first that fails, and its p-value.

    Args:
        kept: float64 [n], the loss of each input where it stays on the device, in the order of forwarding.
        sent: float64 [n], its loss where it is forwarded.
        splits: numbers of forwarded inputs, in the order of testing.
        loss: e.
        level: of each test.
    """
    worse, better = (_counts(sign * kept > 0, sign * sent > 0) for sign in (1, -1))
    n, found, room = len(kept), None, (-1, 0)
    for split in splits.tolist():
        seen = int(worse[split]), int(better[split])
        if seen[0] > room[0] or seen[1] < room[1]:
            if exact_p_value(*seen, n, loss) > level:
                break
            room = _room(*seen, n, loss, level)
        found = split
    return found, 1.0 if found is None else exact_p_value(int(worse[found]), int(better[found]), n, loss)


def _last_by_betting(
    kept: NDArray[np.float64], sent: NDArray[np.float64], splits: NDArray[np.intp], loss: float, level: float
) -> tuple[int | None, float]:
    """Return the same as `_last_by_exact_tests` for losses in [-1, 1], at up to n tests of n bets each."""
    shuffled = np.random.default_rng(0).permutation(len(kept))  # in the order of the score, losses are predictable
    place, kept, sent = shuffled, kept[shuffled], sent[shuffled]
    found, passed = None, 1.0
    for split in splits.tolist():
        p_value = betting_p_value(np.where(place < split, sent, kept), loss)
        if p_value > level:
            break
        found, passed = split, p_value
    return found, passed


def exact_p_value(worse: int, better: int, n: int, bound: float) -> float:
    """Return the exact p-value of "the mean loss is above the bound" for losses of -1, 0 and 1.

    The unconditional test of non-inferiority for matched pairs (Hsueh, Liu and Chen, Biometrics 57, 2001),
    with the rate of disagreement held to a confidence interval (Berger and Boos, JASA 89, 1994). The interval depends
    on the counts: a p-value of about 0.5 or more may fall by a few hundredths with one more loss.

    Args:
        worse: number of inputs with loss 1.
        better: number of inputs with loss -1.
        n: number of inputs.
        bound: e, in (0, 1).

    Raises:
        CalibrationError: the counts do not fit into n, or the bound is not in (0, 1).

    >>> exact_p_value(0, 0, 400, 0.01) < 0.05 < exact_p_value(0, 0, 250, 0.01)
    True
    """
    from scipy.special import bdtr
    from scipy.stats import beta, binom

    if not (0 < bound < 1 and min(worse, better) >= 0 and worse + better <= n and n > 0):
        raise CalibrationError(
            f"worse, better, n, bound: expected counts within n > 0 and a bound in (0, 1), "
            f"got {worse}, {better}, {n} and {bound}"
        )
    disagree = worse + better
    low = float(beta.ppf(_NUISANCE_LEVEL / 2, disagree, n - disagree + 1)) if disagree else 0.0
    high = float(beta.ppf(1 - _NUISANCE_LEVEL / 2, disagree + 1, n - disagree)) if disagree < n else 1.0
    if high < bound:
        return _NUISANCE_LEVEL
    observed = _statistic(np.array(worse), np.array(better), n, bound)
    rates = np.linspace(max(low, bound), high, _NUISANCE_GRID)
    width = 6 * np.sqrt(n * rates * (1 - rates)) + 10
    first = np.maximum(0, n * rates - width).astype(int)
    last = np.minimum(n, n * rates + width).astype(int)
    m = np.arange(first.min(), last.max() + 1)
    most = _most_worse(float(observed), m, n, bound)
    largest = 0.0
    for rate, start, stop in zip(rates, first - m[0], last - m[0] + 1, strict=True):
        near, allowed = m[start:stop], most[start:stop]
        share = min(1.0, (rate + bound) / (2 * rate))
        at_most = np.where(allowed < 0, 0.0, bdtr(np.maximum(allowed, 0), near, share))
        largest = max(largest, float(np.sum(binom.pmf(near, n, rate) * at_most)))
    return min(1.0, largest + _NUISANCE_LEVEL)


def betting_p_value(losses: NDArray[np.floating], bound: float) -> float:
    """Return the p-value of "the mean loss is above the bound" for losses in [-1, 1].

    The capital of a gambler who bets on small losses, with predictable bets tuned to this n (Waudby-Smith and Ramdas,
    JRSS-B 86, 2024, sections 3 and 4); by Ville's inequality p is one over its largest value.

    Args:
        losses: floating [n], in an order independent of their values.
        bound: e, in (-1, 1).

    Raises:
        CalibrationError: a loss or the bound is out of range.

    >>> betting_p_value(np.zeros(400), 0.01) < 0.05 < betting_p_value(np.zeros(250), 0.01)
    True
    """
    losses = np.asarray(losses, np.float64)
    if losses.ndim != 1 or len(losses) == 0 or not (np.abs(losses) <= 1).all():
        raise CalibrationError(f"losses: expected numbers in [-1, 1], one per input, got {list(losses.shape)}")
    if not -1 < bound < 1:
        raise CalibrationError(f"bound: expected a number in (-1, 1), got {bound}")
    seen = np.arange(1, len(losses) + 1)
    mean = np.concatenate([[0.0], np.cumsum(losses)[:-1]]) / seen
    square = (0.25 + np.concatenate([[0.0], np.cumsum(losses**2)[:-1]])) / seen
    variance = np.maximum(square - mean**2, 1e-9)
    bet = np.minimum(np.sqrt(2 * np.log(20.0) / (len(losses) * variance)), _BOLDEST_BET / (1 - bound))
    capital = np.cumsum(np.log1p(bet * (bound - losses)))
    return float(min(1.0, np.exp(-capital.max())))


def sample_size(bound: float, risk: float, disagreement: float = 0.0, loss: float = 0.0) -> int:
    """Return the number of inputs that shows a loss of at most `bound` at level `risk` with power 0.8.

    Args:
        bound: e, in (0, 1).
        risk: d, in (0, 1).
        disagreement: share of the inputs that stay local and on which exactly one of local and remote is right.
        loss: the true loss, below the bound.

    >>> sample_size(0.01, 0.05)
    299
    """
    from scipy.stats import norm

    least = np.log(max(risk - _NUISANCE_LEVEL, 1e-12)) / np.log1p(-bound)
    usual = (norm.ppf(1 - risk) + norm.ppf(0.8)) ** 2 * disagreement / (bound - loss) ** 2
    return int(np.ceil(max(least, usual)))


@dataclass(frozen=True)
class _Claim:
    """A bound on the mean loss of some of the inputs."""

    rows: slice | NDArray[np.intp]
    bound: float
    weight: NDArray[np.float64] | None
    name: str = ""


def _claims(
    loss: float,
    risk: float,
    weight: NDArray[np.float64] | None,
    groups: Groups | None,
    group_loss: float | None,
) -> list[_Claim]:
    """Return the claim about all inputs, and one about each group after checking that it is large enough.

    All of them must pass at a threshold, each at the full risk: if the threshold breaks any one claim, that claim's
    test passes with probability `risk` at most (intersection-union; Berger, Technometrics 24, 1982). So the largest
    p-value is one of the joint claim, and the fixed sequence tests it like any other.
    """
    claims = [_Claim(slice(None), loss, weight)]
    if group_loss is None:
        return claims
    if groups is None:
        raise CalibrationError("groups: expected the group of each input with a largest loss within groups, got none")
    CertifiedLoss(group_loss, risk)
    need = sample_size(group_loss, risk)
    for name, rows in groups.members():
        own = None if weight is None else normalised(weight[rows], len(rows))
        size = effective_size(own, len(rows))
        if size < need:
            raise CalibrationError(
                f"groups: expected at least {need} inputs in each for the test of a loss of at most {group_loss:.1%}, "
                f"got {len(rows)} in {groups.by} {name}{_worth(size, len(rows))}"
            )
        claims.append(_Claim(rows, group_loss, own, f"{groups.by} {name}"))
    return claims


def _p_value(losses: NDArray[np.float64], bound: float, weight: NDArray[np.float64] | None) -> float:
    losses = scaled_losses(losses, bound, weight)
    if np.isin(losses, (-1.0, 0.0, 1.0)).all():
        return exact_p_value(int((losses > 0).sum()), int((losses < 0).sum()), len(losses), bound)
    shuffled = np.random.default_rng(0).permutation(losses)  # sorted data would be predictable
    return betting_p_value(shuffled, bound)


def _counts(kept: NDArray[np.bool_], sent: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return, for each number of forwarded inputs from 0 to n, how many of `kept` and `sent` there are, int64 [n + 1].

    Args:
        kept: bool [n], counts where the input stays on the device, in the order of forwarding.
        sent: bool [n], counts where it is forwarded.
    """
    stay, leave = (np.concatenate([[0], np.cumsum(one)]) for one in (kept, sent))
    counts: NDArray[np.int64] = leave + stay[-1] - stay
    return counts


def _room(worse: int, better: int, n: int, bound: float, level: float) -> tuple[int, int]:
    """Return counts that pass, with no fewer losses: fewer losses, or more inputs that are better, pass then too.

    The p-value may fall with a loss, by less than a tenth of any usual level, as its interval for the rate of
    disagreement moves; hence the distance from the level.
    """
    more = 0
    while worse + 2 * more + 1 + better <= n and exact_p_value(worse + 2 * more + 1, better, n, bound) <= 0.9 * level:
        more = 2 * more + 1
    return worse + more, better


def _cut(ascending: NDArray[np.float32], forwarded: int) -> float:
    """Return a score that so many are below: halfway between neighbours, as the edges of advantage tables are."""
    if forwarded in (0, len(ascending)):
        return -np.inf if forwarded == 0 else np.inf
    below, above = ascending[forwarded - 1], ascending[forwarded]
    middle = np.float32((float(below) + float(above)) / 2)
    return float(middle if middle > below else above)


def _refuse(losses: NDArray[np.float64], claim: _Claim, risk: float, looks: int, attempt: int) -> NoReturn:
    n, mean = len(losses), weighted_mean(losses, claim.weight)
    size = effective_size(claim.weight, n)
    if mean < claim.bound:
        graded = not np.isin(losses, (-1.0, 0.0, 1.0)).all()
        spread = _BETTING * losses**2 if graded else np.abs(losses)
        enough = sample_size(claim.bound, risk / looks, weighted_mean(spread, claim.weight), max(mean, 0.0))
        said = f"about {np.ceil(enough * n / size):.0f} new ones would"
    else:
        said = f"more would help only if its loss of {mean:.1%} on these is chance"
    if attempt < looks:
        said += f"; the next is test {attempt + 1} of {looks} planned"
    else:
        said += "; a test of data that includes these would break the risk, unless planned from the start (looks)"
    raise CalibrationError(
        f"certificate: {n} inputs{f' of {claim.name}' if claim.name else ''}{_worth(size, n)} do not show a loss of at "
        f"most {100 * claim.bound:.3g}% with probability {100 * (1 - risk):g}% for any cascade that answers "
        f"some inputs locally; {said}"
    )


def _worth(size: float, n: int) -> str:
    return f" (worth {size:.0f} of equal weight)" if round(size) < n else ""


def _statistic(worse: NDArray[np.int64], better: NDArray[np.int64], n: int, bound: float) -> NDArray[np.float64]:
    """Return Tango's score statistic (Statistics in Medicine 17, 1998), which rises with the loss."""
    linear = (1 - bound) * (worse + better) - 2 * bound * (n - worse)
    rate = (linear + np.sqrt(linear**2 + 8 * n * better * bound * (1 - bound))) / (4 * n)
    deviation = np.sqrt(n * (2 * np.maximum(rate, 0.0) + bound - bound**2))
    statistic: NDArray[np.float64] = (worse - better - n * bound) / deviation
    return statistic


def _most_worse(observed: float, disagree: NDArray[np.int64], n: int, bound: float) -> NDArray[np.int64]:
    """Return, for each number of disagreements, the most losses whose statistic is at most the observed one, or -1."""
    low, high = np.full(len(disagree), -1), disagree.copy()
    while (low < high).any():
        middle = (low + high + 1) // 2
        within = _statistic(middle, disagree - middle, n, bound) <= observed + 1e-9
        low, high = np.where(within, middle, low), np.where(within, high, middle - 1)
    return low
