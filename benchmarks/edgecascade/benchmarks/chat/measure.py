"""A chat cascade beside its rivals on the same replies: mean values at given rates, areas, calibration, aims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.chat.rivals import CASCADEFLOW, RAW, ROUTER, SCORER, VERIFICATION
from edgecascade.benchmarks.chat.rows import ChatRows
from edgecascade.benchmarks.offload.curves import Area, Rule, areas
from edgecascade.benchmarks.offload.strategies import Strategy, lowest
from edgecascade.benchmarks.report.result import HIGHER, LOWER
from edgecascade.benchmarks.tasks import TaskOffload, TaskValues, measure_values
from edgecascade.benchmarks.tasks.measure import mean_value, value_difference
from edgecascade.calibration import (
    CalibrationError,
    CertifiedLoss,
    calibration_error,
    decide_task,
    plan_task,
    proportion,
)
from edgecascade.chat.decision import ChatRule
from edgecascade.types.document import ChatDocument
from edgecascade.types.errors import BenchmarkError
from edgecascade.types.estimate import Estimate

__all__ = ["RATES", "ChatComparison", "Draws", "Goal", "RuleResult", "Subject", "measure_chat"]

RATES = (0.2, 0.3, 0.5)
PLAN = "advantage"  # the name of the plan's own order
_OF_RAW, _OF_ROUTER, _MOST_ECE, _RAW_ECE = 0.95, 1.5, 0.05, 0.10
_RISK = 0.05


@dataclass(frozen=True)
class RuleResult:
    """One order of the prompts.

    Attributes:
        name: Its name.
        points: The mean value when the share `RATES` of the prompts with the lowest score is forwarded.
        area: The area between random (0) and the oracle (1); None where no order matters.
        ece: Expected calibration error of the score as a probability that the local reply is right, less its bias on
            finite data; None for a score that is none.
    """

    name: str
    points: tuple[Strategy, ...]
    area: Area | None
    ece: Estimate | None = field(metadata=LOWER)


@dataclass(frozen=True)
class Subject:
    """The prompts of one subject.

    Attributes:
        name: The subject.
        local: Mean value of the local replies.
        remote: Mean value of the remote's replies.
        gap: Remote minus local, on the same prompts.
        areas: By rule; None where no order matters.
    """

    name: str
    local: Estimate = field(metadata=HIGHER)
    remote: Estimate = field(metadata=HIGHER)
    gap: Estimate
    areas: Mapping[str, Area | None]


@dataclass(frozen=True)
class Draws:
    """Certificates of plans on resampled replies, against the loss on all replies.

    Attributes:
        loss: The certified loss that was asked for.
        risk: The probability with which a certificate may be false.
        n: Prompts in each draw.
        certified: The share of draws with a certificate.
        violated: The share of draws with a certificate that is false.
        offload: Mean offload rate of those with one; None if there are none.
    """

    loss: float
    risk: float
    n: int
    certified: Estimate
    violated: Estimate = field(metadata=LOWER)
    offload: float | None


@dataclass(frozen=True)
class Goal:
    """An aim of this comparison.

    Attributes:
        name: What is aimed at.
        value: What was found; None if it could not be measured.
        bound: The aim.
        met: Whether it was reached; None if it does not apply here.
    """

    name: str
    value: float | None
    bound: float
    met: bool | None


@dataclass(frozen=True)
class ChatComparison:
    """The whole comparison.

    Attributes:
        offload: The cascade by the file, as of a general task.
        rows: The test prompts with their replies and values.
        rules: The plan's order first, then random, the oracle and the rivals.
        subjects: By subject, if the prompts have subjects.
        draws: Certificates over draws; None if none were asked for.
        goals: The aims, and whether they were reached.
    """

    offload: TaskOffload
    rows: ChatRows
    rules: tuple[RuleResult, ...]
    subjects: tuple[Subject, ...]
    draws: Draws | None
    goals: tuple[Goal, ...]

    @property
    def honest_gap(self) -> bool:
        """Whether the remote is better than the local endpoint beyond noise."""
        return value_difference(self.rows.remote_value, self.rows.local_value).low > 0


def measure_chat(
    document: ChatDocument,
    rows: ChatRows,
    rivals: Mapping[str, NDArray[np.float64]],
    *,
    everything: ChatRows | None = None,
    draws: int = 0,
    loss: float = 0.05,
    knowledge: tuple[str, ...] = (),
) -> ChatComparison:
    """Compare the cascade of two chat endpoints with other ways to choose between them.

    Args:
        document: What `calibrate-chat` wrote.
        rows: Prompts that nothing was fitted on, with the replies of both endpoints.
        rivals: Scores of the local replies by name, as `rivals` returns them.
        everything: The replies to draw from for the certificate; by default `rows`.
        draws: Number of draws; 0 leaves the certificate out.
        loss: The loss to certify.
        knowledge: The subjects that count as knowledge questions, for the aim against the prompt-only router.

    Raises:
        BenchmarkError: There are too few rows, or a rival has another number of scores.
        KeyError: The rivals lack the raw mean log-probability.
    """
    n = len(rows)
    for name, score in rivals.items():
        if score.shape != (n,):
            raise BenchmarkError(f"{name}: expected {n} scores, one per prompt, got {list(score.shape)}")
    values = _decided(document, rows)
    offload = measure_values(document, values)
    orders = {PLAN: _unlike(values.advantage, values.score), **rivals}
    found = areas({name: Rule(key, values.remote) for name, key in orders.items()}, values.local)
    rules = tuple(_rules(orders, values, found))
    drawn = _draws(rows if everything is None else everything, document, draws, loss) if draws else None
    goals = tuple(_goals(rules, _on_knowledge(orders, rows, knowledge), drawn))
    return ChatComparison(offload, rows, rules, tuple(_subjects(rows, orders)), drawn, goals)


def _decided(document: ChatDocument, rows: ChatRows) -> TaskValues:
    """Return the decision about each local reply, as the device takes it."""
    rule = ChatRule(document)
    found = [rule(one.logprobs or ()) for one in rows.local]
    score, confidence, advantage = (
        np.array([getattr(one, name) for one in found], np.float32) for name in ("score", "confidence", "advantage")
    )
    forward = np.array([one.forward for one in found])
    return TaskValues(score, confidence, advantage, forward, rows.local_value, rows.remote_value)


def _unlike(advantage: NDArray[np.float32], score: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the rank of each prompt by advantage, and by score where the advantages are the same.

    A table has as many advantages as bins. A device that is to forward another share of its inputs moves the threshold
    from one to the next; only within a bin does the order come from the score.
    """
    order = np.lexsort((score, advantage))
    rank = np.empty(len(order), np.float64)
    pairs = np.stack([advantage[order], score[order]], axis=1)
    rank[order] = np.concatenate([[0], np.cumsum((pairs[1:] != pairs[:-1]).any(axis=1))])
    return rank


def _rules(
    orders: Mapping[str, NDArray[np.float64]], v: TaskValues, found: Mapping[str, Area | None]
) -> Iterator[RuleResult]:
    n = len(v.local)
    fixed = {"random": np.zeros(n), "oracle": v.local - v.remote}
    chances = {PLAN: v.confidence.astype(np.float64), **_chances(orders)}
    plan = {rate: _value(orders[PLAN], rate, v) for rate in RATES}
    names = [PLAN, *fixed, *(name for name in orders if name != PLAN)]
    for name in names:
        key = {**orders, **fixed}[name]
        points = tuple(_point(name, key, rate, v, plan[rate]) for rate in RATES)
        ece = calibration_error(chances[name].astype(np.float32), v.local) if name in chances else None
        yield RuleResult(name, points, found.get(name), ece)


def _chances(orders: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Return the scores that are probabilities that the local reply is right."""
    given = {name: orders[name] for name in orders if name.startswith((CASCADEFLOW, SCORER, VERIFICATION))}
    return {**given, **({RAW: np.exp(orders[RAW])} if RAW in orders else {})}


def _value(key: NDArray[np.float64], rate: float, v: TaskValues) -> NDArray[np.float64]:
    sent = lowest(key, round(rate * len(key)))
    return np.asarray(sent * v.remote + (1 - sent) * v.local)


def _point(name: str, key: NDArray[np.float64], rate: float, v: TaskValues, plan: NDArray[np.float64]) -> Strategy:
    n, value = len(key), _value(key, rate, v)
    gap = None if name == PLAN else value_difference(plan, value)
    return Strategy(name, proportion(round(rate * n) / n, n), mean_value(value), gap)


def _subjects(rows: ChatRows, orders: Mapping[str, NDArray[np.float64]]) -> Iterator[Subject]:
    names = rows.subjects
    for name in dict.fromkeys(names.tolist()):
        at = names == name
        if not name or at.sum() < 2:
            continue
        local, remote = rows.local_value[at], rows.remote_value[at]
        found = areas({rule: Rule(key[at], remote) for rule, key in orders.items()}, local)
        yield Subject(str(name), mean_value(local), mean_value(remote), value_difference(remote, local), found)


def _draws(rows: ChatRows, document: ChatDocument, draws: int, loss: float) -> Draws:
    """Certify plans on samples with replacement; the replies that were drawn from are then the whole population."""
    n, rng, score = len(rows), np.random.default_rng(0), rows.scores(document.score)
    certified = violated = 0
    rates = []
    for _ in range(draws):
        at = rng.integers(0, n, n)
        try:
            plan = plan_task(score[at], rows.local_value[at], rows.remote_value[at], CertifiedLoss(loss, _RISK))
        except CalibrationError:
            continue
        if plan.certificate is None:
            continue
        forward = decide_task(score, plan.rule).forward
        lost = float(np.where(forward, 0.0, rows.remote_value - rows.local_value).mean())
        certified += 1
        violated += lost > loss
        rates.append(float(forward.mean()))
    return Draws(
        loss=loss,
        risk=_RISK,
        n=n,
        certified=proportion(certified / draws, draws),
        violated=proportion(violated / draws, draws),
        offload=float(np.mean(rates)) if rates else None,
    )


def _on_knowledge(
    orders: Mapping[str, NDArray[np.float64]], rows: ChatRows, knowledge: tuple[str, ...]
) -> dict[str, Area | None]:
    """Return the areas of the plan and of the prompt-only router on knowledge questions."""
    at = np.isin(rows.subjects, knowledge)
    if not at.any() or ROUTER not in orders:
        return {}
    both = {name: Rule(orders[name][at], rows.remote_value[at]) for name in (PLAN, ROUTER)}
    return areas(both, rows.local_value[at])


def _goals(rules: tuple[RuleResult, ...], known: Mapping[str, Area | None], draws: Draws | None) -> Iterator[Goal]:
    by_name = {one.name: one for one in rules}
    plan, raw = by_name[PLAN], by_name[RAW]
    if plan.area is not None and raw.area is not None:
        ratio = plan.area.area.value / raw.area.area.value if raw.area.area.value > 0 else None
        met = None if ratio is None else ratio >= _OF_RAW
        yield Goal("area, as a share of that of the raw mean log-probability", ratio, _OF_RAW, met)
    ours, theirs = known.get(PLAN), known.get(ROUTER)
    if ours is not None and theirs is not None:
        lead = ours.area.value - _OF_ROUTER * max(theirs.area.value, 0.0)
        met = lead >= 0 and ours.area.value > 0
        yield Goal("area on knowledge questions, minus 1.5 times a prompt-only router's", lead, 0.0, met)
    if plan.ece is not None and raw.ece is not None:
        met = plan.ece.value <= _MOST_ECE if raw.ece.value >= _RAW_ECE else None
        name = f"calibration error, where the raw one ({raw.ece.value:.3f}) is at least {_RAW_ECE:g}"
        yield Goal(name, plan.ece.value, _MOST_ECE, met)
    if draws is not None:
        yield Goal("share of draws with a false certificate", draws.violated.value, _RISK, draws.violated.low <= _RISK)
