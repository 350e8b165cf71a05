"""The guarantees of calibration and plan on the built-in image pairs: policy, certificate, and the speed of the fit.

The planned policy is compared with every fixed score over repeated random splits into calibration and test.
Certificates are drawn from a population whose loss is known: the pool of labelled inputs stands for it, each
calibration set is drawn from it with replacement, and so the true loss of what is certified is its loss on the pool.
"""

from __future__ import annotations

import time
import tracemalloc
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.cache import cache_folder
from edgecascade.benchmarks.offload.curves import offload_curve
from edgecascade.benchmarks.report import write_study
from edgecascade.benchmarks.stored import Steps, at_once, stored_steps
from edgecascade.calibration import (
    MERGES,
    SCORES,
    CalibrationError,
    CertifiedLoss,
    LeastOffload,
    MostAccuracy,
    Outcomes,
    certify,
    choose_routing,
    estimate_advantage,
    fit_temperature,
    operating_points,
    plan,
    proportion_interval,
    routing_score,
)
from studies.outputs import PairOutputs, fashion_pair, flagship_pairs

__all__ = [
    "CertificateDraws",
    "FitSpeed",
    "Guarantees",
    "PolicyAtRate",
    "compare_fits",
    "compare_policies",
    "draw_certificates",
    "guarantees_steps",
    "main",
    "measure_guarantees",
    "summarize",
]

_RATES = (0.1, 0.2, 0.3, 0.35, 0.4, 0.5)
_CERTIFIED = CertifiedLoss(0.01, 0.05)
_DRAWN = (1000, 2000, 4000)  # inputs behind a certificate
_RULE = 0.8  # the usual threshold on raw confidence
_COLUMNS = ("policy", "confidence", "margin", "entropy", "raw confidence", "random", "oracle")


@dataclass(frozen=True)
class PolicyAtRate:
    """Accuracies on the test parts at one planned offload rate: means over splits, and standard deviations.

    Attributes:
        rate: The rate planned for.
        offload: The mean rate that the policy forwarded.
        accuracy: The mean by strategy, all at the policy's own rate and with its merge rule.
        deviation: The standard deviation of the same over splits.
        best: The fixed score that is best in hindsight.
        shortfall: The policy's accuracy minus that of `best`, mean over splits, in [-1, 1].
        shortfall_deviation: Its standard deviation over splits.
        local: The mean accuracy of the local model alone.
        remote: The mean accuracy of the remote alone.
    """

    rate: float
    offload: float
    accuracy: dict[str, float]
    deviation: dict[str, float]
    best: str
    shortfall: float
    shortfall_deviation: float
    local: float
    remote: float


@dataclass(frozen=True)
class CertificateDraws:
    """What became of repeated certificates.

    Attributes:
        n: Labelled inputs in each draw: a third plan, two thirds test.
        draws: The number of draws.
        refused: Draws without a certificate.
        violated: Certificates whose true loss exceeds the certified one.
        violated_interval: The 95 % interval of their share among all draws.
        offload: The mean certified offload rate on the pool, over draws in which some threshold of the same policy
            satisfies the loss; None if there is no such draw.
        least: The mean of the least offload of those thresholds, over the same draws.
    """

    n: int
    draws: int
    refused: int
    violated: int
    violated_interval: tuple[float, float]
    offload: float | None
    least: float | None


@dataclass(frozen=True)
class FitSpeed:
    """Both fits on logits [n, classes] in float32.

    Attributes:
        n: Rows.
        classes: Columns.
        seconds: The seconds of each of our runs.
        theirs: The seconds of each of scikit-learn's runs, in turn with ours.
        memory: Our peak memory beyond the logits, as a share of theirs.
        difference: The relative difference of the two temperatures.
    """

    n: int
    classes: int
    seconds: tuple[float, ...]
    theirs: tuple[float, ...]
    memory: float
    difference: float

    @property
    def ratio(self) -> float:
        """The median of our time over scikit-learn's, pair by pair."""
        return float(np.median(np.array(self.seconds) / np.array(self.theirs)))


@dataclass(frozen=True)
class Guarantees:
    """The whole measurement.

    Attributes:
        splits: Random splits behind each row of policies.
        calibration: Inputs that plan in each split; all others test.
        policies: By pair, one row per offload rate.
        rule: By pair, the rate that `raw confidence < 0.8` forwards; `policies` has a row at it.
        certificates: By pair, one row per size of the draws.
        fit: The temperature fit against scikit-learn's.
    """

    splits: int
    calibration: int
    policies: dict[str, list[PolicyAtRate]]
    rule: dict[str, float]
    certificates: dict[str, list[CertificateDraws]]
    fit: FitSpeed


def compare_policies(
    outputs: PairOutputs,
    rates: Sequence[float],
    *,
    calibration: int,
    splits: int,
    seed: int = 0,
) -> Iterator[PolicyAtRate]:
    """Plan on `calibration` random inputs and test on the others, `splits` times for each rate."""
    for rate in rates:
        rng = np.random.default_rng(seed)
        rows = [_one_split(outputs, rate, rng.permutation(len(outputs)), calibration) for _ in range(splits)]
        found = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        best = max(SCORES, key=lambda score: float(found[score].mean()))
        shortfall = found["policy"] - found[best]
        yield PolicyAtRate(
            rate=rate,
            offload=float(found.pop("offload").mean()),
            shortfall=float(shortfall.mean()),
            shortfall_deviation=float(shortfall.std()),
            best=best,
            local=float(found.pop("local").mean()),
            remote=float(found.pop("remote").mean()),
            accuracy={name: float(values.mean()) for name, values in found.items()},
            deviation={name: float(values.std()) for name, values in found.items()},
        )


def _one_split(outputs: PairOutputs, rate: float, order: NDArray[np.intp], calibration: int) -> dict[str, float]:
    planning, testing = order[:calibration], order[calibration:]
    pair = outputs.fitted(planning)
    objective = MostAccuracy(rate)
    seen = {(s, m): pair.outcomes(s, m) for s in SCORES for m in MERGES}
    routing = choose_routing(lambda s, m: seen[s, m][planning], objective)[0]
    outcomes = seen[routing.score, routing.merge][planning]
    policy = plan(outcomes, objective, estimate=routing.estimate or "auto", even_without_gain=True)
    test = {score: seen[score, routing.merge][testing] for score in SCORES}
    chosen = test[routing.score]
    forward = policy.table(chosen.score) < np.float32(policy.threshold)
    share = float(forward.mean())
    local, merged = chosen.local_correct, chosen.merged_correct

    def at_rate(key: NDArray[np.floating] | NDArray[np.integer]) -> float:
        return offload_curve(key, local, merged).at(share)

    return {
        "offload": share,
        "policy": float(np.where(forward, merged, local).mean()),
        **{score: at_rate(seen_so.score) for score, seen_so in test.items()},
        "raw confidence": at_rate(routing_score("confidence", outputs.local)[testing]),
        "random": float((1 - share) * local.mean() + share * merged.mean()),
        "oracle": at_rate(local.astype(np.int8) - merged),
        "local": float(local.mean()),
        "remote": float(chosen.remote_correct.mean()),
    }


def draw_certificates(
    outputs: PairOutputs, objective: CertifiedLoss, *, n: int, draws: int, seed: int = 0
) -> CertificateDraws:
    """Certify on `draws` sets of `n` inputs, each drawn with replacement from the pool."""
    rng = np.random.default_rng(seed)
    violated, refused, offload, least = 0, 0, [], []
    for _ in range(draws):
        drawn = rng.integers(0, len(outputs), n)
        testing = round(n * objective.testing_share)
        try:
            rate, best, loss = _one_draw(outputs, objective, drawn[testing:], drawn[:testing])
        except CalibrationError:
            refused += 1
            continue
        violated += loss > objective.loss
        if best is not None:
            offload.append(rate)
            least.append(best)
    return CertificateDraws(
        n=n,
        draws=draws,
        refused=refused,
        violated=violated,
        violated_interval=proportion_interval(violated, draws),
        offload=float(np.mean(offload)) if offload else None,
        least=float(np.mean(least)) if least else None,
    )


def _one_draw(
    outputs: PairOutputs, objective: CertifiedLoss, planning: NDArray[np.intp], testing: NDArray[np.intp]
) -> tuple[float, float | None, float]:
    """Return the certified offload rate, the least that satisfies the loss (if any), and the true loss on the pool."""
    pair = outputs.fitted(planning)
    routing = choose_routing(lambda s, m: pair.outcomes(s, m)[planning], LeastOffload(loss=objective.loss))[0]
    pool = pair.outcomes(routing.score, routing.merge)
    seen, fresh = pool[planning], pool[testing]
    table = estimate_advantage(seen, routing.estimate or "shrunk", at=routing.offload_rate)
    thresholds = [p.threshold for p in operating_points(table(seen.score), seen.local_correct, seen.merged_correct)]
    certificate = certify(
        table(fresh.score),
        fresh.local_correct,
        fresh.merged_correct,
        fresh.remote_correct,
        np.array(thresholds),
        loss=objective.loss,
        risk=objective.risk,
    )
    advantage = table(pool.score)
    would_do = [t for t in thresholds if _loss(pool, advantage, t) <= objective.loss]
    return (
        float(np.mean(advantage < np.float32(certificate.threshold))),
        min((float(np.mean(advantage < np.float32(t))) for t in would_do), default=None),
        _loss(pool, advantage, certificate.threshold),
    )


def _loss(pool: Outcomes, advantage: NDArray[np.float32], threshold: float) -> float:
    forward = advantage < np.float32(threshold)
    return float(np.mean(pool.remote_correct.astype(int) - np.where(forward, pool.merged_correct, pool.local_correct)))


def compare_fits(n: int = 50_000, classes: int = 1_000, repeats: int = 5, seed: int = 0) -> FitSpeed:
    """Fit logits that are 1.7 times too sharp for labels drawn from them."""
    from sklearn.calibration import _TemperatureScaling

    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, classes)).astype(np.float32)
    labels = (logits + rng.gumbel(size=logits.shape).astype(np.float32)).argmax(axis=1)
    logits *= np.float32(1.7)
    ours, theirs, scaling = [], [], _TemperatureScaling()
    for _ in range(repeats):
        ours.append(_seconds(lambda: fit_temperature(logits, labels)))
        theirs.append(_seconds(lambda: scaling.fit(logits, labels)))
    tracemalloc.start()
    temperature = fit_temperature(logits, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return FitSpeed(
        n, classes, tuple(ours), tuple(theirs), peak / logits.nbytes, abs(temperature * float(scaling.beta_) - 1)
    )


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure_guarantees(
    pairs: tuple[PairOutputs, ...], steps: Steps = at_once, *, splits: int, draws: int, calibration: int = 1000
) -> Guarantees:
    """Measure all of it in `guarantees_steps` steps.

    Args:
        pairs: Saved outputs.
        steps: Stores what is measured.
        splits: Random splits behind each row of policies.
        draws: Certificates in each row.
        calibration: Inputs that plan in each split.
    """

    def at(pair: PairOutputs, rate: float) -> PolicyAtRate:
        return steps(
            PolicyAtRate,
            f"{pair.name}, {rate:.0%} offload" if rate in _RATES else f"{pair.name}, rule of thumb",
            lambda: next(compare_policies(pair, [rate], calibration=calibration, splits=splits)),
        )

    def certificates(pair: PairOutputs, n: int) -> CertificateDraws:
        return steps(
            CertificateDraws,
            f"{pair.name}, certificate {n}",
            lambda: draw_certificates(pair, _CERTIFIED, n=n, draws=draws),
        )

    return Guarantees(
        splits=splits,
        calibration=calibration,
        policies={pair.name: [at(pair, rate) for rate in _rates(pair)] for pair in pairs},
        rule={pair.name: _by_rule(pair) for pair in pairs},
        certificates={pair.name: [certificates(pair, n) for n in _DRAWN] for pair in pairs},
        fit=steps(FitSpeed, "temperature fit", compare_fits),
    )


def guarantees_steps(pairs: tuple[PairOutputs, ...]) -> int:
    """Return the number of steps of `measure_guarantees`."""
    return 1 + sum(len(_rates(pair)) + len(_DRAWN) for pair in pairs)


def _rates(pair: PairOutputs) -> list[float]:
    return sorted({*_RATES, _by_rule(pair)})


def _by_rule(pair: PairOutputs) -> float:
    return float(np.mean(routing_score("confidence", pair.local) < _RULE))


def summarize(found: Guarantees) -> str:
    """Return tables and sentences as plain text."""
    return "\n".join(line.rstrip() for line in _lines(found))


def _lines(found: Guarantees) -> Iterator[str]:
    for name, rows in found.policies.items():
        yield (
            f"{name}: accuracy in % at the policy's own rate and merge rule; planned on {found.calibration} inputs, "
            f"tested on the others, mean of {found.splits} random splits"
        )
        yield f"planned  offload  {'  '.join(f'{c:>14}' for c in _COLUMNS)}  policy minus best fixed score (sd)"
        for row in rows:
            cells = "  ".join(f"{100 * row.accuracy[column]:14.2f}" for column in _COLUMNS)
            yield f"{row.rate:7.1%}  {row.offload:7.1%}  {cells}  {_shortfall(row)}"
        yield f"the rule `raw confidence < {_RULE}` forwards {found.rule[name]:.1%}: `raw confidence` in that row"
        yield f"alone: local {100 * rows[0].local:.2f}, remote {100 * rows[0].remote:.2f}"
        yield ""
    yield (
        f"certificate: loss at most {_CERTIFIED.loss:.0%} with a risk of {_CERTIFIED.risk:.0%}; draws with replacement "
        "from the pool, whose loss is the true one"
    )
    yield (
        "pair           inputs  draws  refused  violated (95 % interval)  certified offload  least sufficient  ratio"
    )
    for name, draws in found.certificates.items():
        yield from (_certificate(name, one) for one in draws)
    yield ""
    yield _speed(found.fit)


def _certificate(name: str, found: CertificateDraws) -> str:
    low, high = found.violated_interval
    violated = f"{found.violated / found.draws:6.1%} ({low:.1%} to {high:.1%})"
    row = f"{name:<13}  {found.n:6}  {found.draws:5}  {found.refused:7}  {violated:<24}"
    if found.offload is None or found.least is None:
        return f"{row}  all refused"
    return f"{row}  {found.offload:17.1%}  {found.least:16.1%}  {found.offload / found.least:5.2f}"


def _speed(fit: FitSpeed) -> str:
    return (
        f"temperature on {fit.n} x {fit.classes} float32: {fit.ratio:.3f} of scikit-learn's time (goal .1; "
        f"{min(fit.seconds):.2f} to {max(fit.seconds):.2f} s against {min(fit.theirs):.2f} to {max(fit.theirs):.2f} s, "
        f"{len(fit.seconds)} runs in turn), {fit.memory:.1%} of the logits' memory on top (goal 5 %), "
        f"T differs by {fit.difference:.0e}"
    )


def _shortfall(row: PolicyAtRate) -> str:
    return f"{100 * row.shortfall:+.2f} ({100 * row.shortfall_deviation:.2f}) {row.best}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what an interrupted run did not, print, and write the result."""
    parser = ArgumentParser(prog="python -m studies.guarantees", description=__doc__)
    parser.add_argument("--splits", type=int, default=100, help="Random splits behind each figure (default: 100).")
    parser.add_argument("--draws", type=int, default=1000, help="Certificates in each row (default: 1000).")
    parser.add_argument("-o", "--out", type=Path, default=Path("report"), help="The folder (default: report).")
    asked = parser.parse_args(arguments)
    cache = cache_folder()
    pairs = (*flagship_pairs(cache), fashion_pair(cache))
    about = {"splits": asked.splits, "draws": asked.draws, "outputs": [pair.digest for pair in pairs]}
    with stored_steps(asked.out / "steps", about, guarantees_steps(pairs)) as steps:
        found = measure_guarantees(pairs, steps, splits=asked.splits, draws=asked.draws)
        command = f"python -m studies.guarantees --splits {asked.splits} --draws {asked.draws}"
        write_study(asked.out, "guarantees", found, command=command, summary=summarize(found))
    print(summarize(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
