"""The planned policy against every fixed score, over repeated random splits into calibration and test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.offload_curve import offload_curve
from edgecascade.benchmarks.pairs import PairOutputs
from edgecascade.calibration import MERGES, SCORES, MostAccuracy, Outcomes, choose_routing, plan, routing_score

__all__ = ["PolicyAtRate", "compare_policies"]


@dataclass(frozen=True)
class PolicyAtRate:
    """Accuracies on the test parts at one planned offload rate: means over splits, and their standard deviation.

    Attributes:
        rate: planned for.
        offload: what the policy really forwarded, mean over splits.
        accuracy: mean by strategy, all at the policy's own rate and with its merge rule.
        deviation: standard deviation of the same over splits.
        best: the fixed score that is best in hindsight.
        shortfall: the policy's accuracy less that one's, mean over splits, in [-1, 1].
        shortfall_deviation: its standard deviation over splits.
        local: mean accuracy of the local model alone.
        remote: mean accuracy of the remote alone.
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


def compare_policies(
    outputs: PairOutputs,
    rates: Sequence[float],
    *,
    calibration: int,
    splits: int,
    merges: Sequence[str] = MERGES,
    bins: int | None = None,
    seed: int = 0,
) -> Iterator[PolicyAtRate]:
    """Plan on `calibration` random inputs and test on the others, `splits` times for each rate."""
    for rate in rates:
        rng = np.random.default_rng(seed)
        rows = [
            _one_split(outputs, rate, rng.permutation(len(outputs)), calibration, merges, bins) for _ in range(splits)
        ]
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


def _one_split(
    outputs: PairOutputs,
    rate: float,
    order: NDArray[np.intp],
    calibration: int,
    merges: Sequence[str],
    bins: int | None,
) -> dict[str, float]:
    planning, testing = order[:calibration], order[calibration:]
    pair = outputs.fitted(planning)
    objective = MostAccuracy(rate)
    seen = {(s, m): pair.outcomes(s, m) for s in SCORES for m in merges}
    routing = choose_routing(lambda s, m: seen[s, m][planning], objective, merges=merges)[0]
    policy = plan(seen[routing.score, routing.merge][planning], objective, bins=bins)
    test = {score: seen[score, routing.merge][testing] for score in SCORES}
    chosen = test[routing.score]
    forward = policy.table(chosen.score) < np.float32(policy.threshold)
    share = float(forward.mean())
    raw = routing_score("confidence", outputs.local)
    return {
        "offload": share,
        "policy": _accuracy(chosen, forward),
        **{score: _at_rate(seen_so, share) for score, seen_so in test.items()},
        "raw confidence": offload_curve(raw[testing], chosen.local_correct, chosen.merged_correct).at(share),
        "random": float((1 - share) * chosen.local_correct.mean() + share * chosen.merged_correct.mean()),
        "oracle": offload_curve(
            chosen.local_correct.astype(np.int8) - chosen.merged_correct, chosen.local_correct, chosen.merged_correct
        ).at(share),
        "local": float(chosen.local_correct.mean()),
        "remote": float(chosen.remote_correct.mean()),
    }


def _at_rate(outcomes: Outcomes, share: float) -> float:
    return offload_curve(outcomes.score, outcomes.local_correct, outcomes.merged_correct).at(share)


def _accuracy(outcomes: Outcomes, forward: NDArray[np.bool_]) -> float:
    return float(np.where(forward, outcomes.merged_correct, outcomes.local_correct).mean())
