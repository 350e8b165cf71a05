"""Is a promise kept as often as it says, and what does it cost? Over repeated draws from a population that is known.

The pool of labelled inputs stands for the population: each calibration set is drawn from it with replacement, so the
true loss of whatever is certified is its loss on the pool, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.pairs import PairOutputs
from edgecascade.calibration import (
    CalibrationError,
    CertifiedLoss,
    LeastOffload,
    Outcomes,
    certify,
    choose_routing,
    estimate_advantage,
    operating_points,
    proportion_interval,
)

__all__ = ["CertificateDraws", "draw_certificates"]


@dataclass(frozen=True)
class CertificateDraws:
    """What became of the promises.

    Attributes:
        n: labelled inputs in each draw, a third of which plan and two thirds of which test.
        draws: how many.
        refused: draws in which nothing was promised.
        broken: promises whose true loss is above the promised one.
        broken_interval: 95 % interval of the share of broken promises among all draws.
        offload: certified offload rate on the pool, mean over the promises that some threshold of the same policy
            would really keep; None if there is no such promise.
        least: the least offload of those thresholds, mean over the same draws.
    """

    n: int
    draws: int
    refused: int
    broken: int
    broken_interval: tuple[float, float]
    offload: float | None
    least: float | None


def draw_certificates(
    outputs: PairOutputs, promise: CertifiedLoss, *, n: int, draws: int, seed: int = 0
) -> CertificateDraws:
    """Certify on `draws` sets of `n` inputs, each drawn with replacement from all there are."""
    rng = np.random.default_rng(seed)
    broken, refused, offload, least = 0, 0, [], []
    for _ in range(draws):
        drawn = rng.integers(0, len(outputs), n)
        testing = round(n * promise.testing_share)
        try:
            rate, best, loss = _one_draw(outputs, promise, drawn[testing:], drawn[:testing])
        except CalibrationError:
            refused += 1
            continue
        broken += loss > promise.loss
        if best is not None:
            offload.append(rate)
            least.append(best)
    return CertificateDraws(
        n=n,
        draws=draws,
        refused=refused,
        broken=broken,
        broken_interval=proportion_interval(broken, draws),
        offload=float(np.mean(offload)) if offload else None,
        least=float(np.mean(least)) if least else None,
    )


def _one_draw(
    outputs: PairOutputs, promise: CertifiedLoss, planning: NDArray[np.intp], testing: NDArray[np.intp]
) -> tuple[float, float | None, float]:
    """Certified offload rate, the least that would do (if any), and the true loss, on the pool."""
    pair = outputs.fitted(planning)
    routing = choose_routing(lambda s, m: pair.outcomes(s, m)[planning], LeastOffload(loss=promise.loss))[0]
    pool = pair.outcomes(routing.score, routing.merge)
    seen, fresh = pool[planning], pool[testing]
    table = estimate_advantage(seen)
    thresholds = [p.threshold for p in operating_points(table(seen.score), seen.local_correct, seen.merged_correct)]
    certificate = certify(
        table(fresh.score),
        fresh.local_correct,
        fresh.merged_correct,
        fresh.remote_correct,
        np.array(thresholds),
        loss=promise.loss,
        risk=promise.risk,
    )
    advantage = table(pool.score)
    would_do = [t for t in thresholds if _loss(pool, advantage, t) <= promise.loss]
    return (
        float(np.mean(advantage < np.float32(certificate.threshold))),
        min((float(np.mean(advantage < np.float32(t))) for t in would_do), default=None),
        _loss(pool, advantage, certificate.threshold),
    )


def _loss(pool: Outcomes, advantage: NDArray[np.float32], threshold: float) -> float:
    forward = advantage < np.float32(threshold)
    return float(np.mean(pool.remote_correct.astype(int) - np.where(forward, pool.merged_correct, pool.local_correct)))
