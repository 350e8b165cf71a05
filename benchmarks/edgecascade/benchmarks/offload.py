"""What a cascade saves and costs, against what else one could do, on labelled data nothing was fitted on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.errors import BenchmarkError
from edgecascade.benchmarks.offload_curve import OffloadCurve, offload_curve
from edgecascade.benchmarks.served import Served, run_served
from edgecascade.benchmarks.verdicts import Verdicts, judge
from edgecascade.calibration import expected_calibration_error
from edgecascade.calibration.estimate import Estimate, calibration_error, mean, proportion
from edgecascade.export.labelled import LabelledData
from edgecascade.runtime.metadata import Metadata

__all__ = ["Offload", "Strategy", "measure_offload"]

_RULE = 0.8  # the threshold that people write by hand


@dataclass(frozen=True)
class Strategy:
    """One way to use the two models.

    Attributes:
        name: what it is called in tables.
        offload: share of inputs forwarded.
        accuracy: share of right answers.
        gap: accuracy of the cascade minus this one's, on the same inputs; None for the cascade itself.
    """

    name: str
    offload: Estimate
    accuracy: Estimate
    gap: Estimate | None


@dataclass(frozen=True)
class Offload:
    """The whole measurement.

    Attributes:
        metadata: of the cascade model.
        n: test inputs.
        strategies: the table; the third is the cascade as it was served. The rules at the same rate merge as it
            does; the rule by hand replaces.
        curves: accuracy against offload rate, by rule.
        ece: expected calibration error on the test inputs, by model, before and after: as usually computed.
        corrected_ece: the same less its finite-sample bias.
        served: the served run.
        verdicts: the rows behind it all.
    """

    metadata: Metadata
    n: int
    strategies: tuple[Strategy, ...]
    curves: dict[str, OffloadCurve]
    ece: dict[str, float]
    corrected_ece: dict[str, Estimate]
    served: Served
    verdicts: Verdicts

    @property
    def local(self) -> Strategy:
        """The local model alone."""
        return self.strategies[0]

    @property
    def remote(self) -> Strategy:
        """The remote asked always."""
        return self.strategies[1]

    @property
    def cascade(self) -> Strategy:
        """The cascade as served."""
        return self.strategies[2]


def measure_offload(
    path: str | os.PathLike[str],
    data: LabelledData,
    remote_scores: NDArray[np.floating],
    *,
    remote: str,
    deadline: float,
) -> Offload:
    """Measure a cascade model against its remote and against simple rules.

    Args:
        path: a cascade model.
        data: labelled inputs that nothing was fitted, chosen or quantized on.
        remote_scores: [n, classes], what the remote says about each of them.
        remote: its address or file, for the served run.
        deadline: seconds each call of the served run is given.

    Raises:
        BenchmarkError: the model gives no number for an input, or the arrays do not fit.
    """
    if remote_scores.shape[0] != len(data.labels):
        raise BenchmarkError(f"remote: expected {len(data.labels)} rows of scores, got {remote_scores.shape[0]}")
    verdicts, metadata = judge(path, data, remote_scores)
    if np.isnan(verdicts.confidence).any():
        where = int(np.flatnonzero(np.isnan(verdicts.confidence))[0])
        raise BenchmarkError(f"data: the local model's confidence on input {where} is not a number")
    served, correct = run_served(path, data, remote=remote, deadline=deadline)
    return Offload(
        metadata=metadata,
        n=len(data.labels),
        strategies=_strategies(verdicts, served, correct),
        curves=_curves(verdicts),
        ece={name: expected_calibration_error(*pair) for name, pair in verdicts.confidences().items()},
        corrected_ece={name: calibration_error(*pair) for name, pair in verdicts.confidences().items()},
        served=served,
        verdicts=verdicts,
    )


def _curves(v: Verdicts) -> dict[str, OffloadCurve]:
    keys: dict[str, NDArray[Any]] = {
        "advantage": v.advantage,
        "confidence": v.raw_confidence,
        "random": np.zeros(len(v.forward)),
        "oracle": v.local_correct.astype(np.int8) - v.merged_correct,
    }
    return {name: offload_curve(key, v.local_correct, v.merged_correct) for name, key in keys.items()}


def _strategies(v: Verdicts, served: Served, correct: NDArray[np.bool_]) -> tuple[Strategy, ...]:
    n = len(correct)
    forwarded = n - served.reasons["confident"]
    rate = forwarded / n
    local, remote, merged = (c.astype(np.float64) for c in (v.local_correct, v.remote_correct, v.merged_correct))
    by_hand = v.raw_confidence < _RULE
    lowest = np.zeros(n, bool)
    lowest[np.argsort(v.raw_confidence, kind="stable")[:forwarded]] = True
    worth = v.local_correct.astype(np.int8) - v.merged_correct
    oracle = np.zeros(n, bool)
    oracle[np.argsort(worth, kind="stable")[:forwarded]] = True

    def strategy(name: str, offload: float, right: NDArray[np.float64]) -> Strategy:
        return Strategy(name, proportion(offload, n), proportion(float(right.mean()), n), mean(correct - right))

    return (
        strategy("local only", 0.0, local),
        strategy("remote only", 1.0, remote),
        Strategy("cascade", proportion(rate, n), proportion(float(correct.mean()), n), None),
        strategy("random, same rate", rate, (1 - rate) * local + rate * merged),
        strategy("lowest raw confidence, same rate", rate, np.where(lowest, merged, local)),
        strategy(f"raw confidence < {_RULE}", float(by_hand.mean()), np.where(by_hand, remote, local)),
        strategy("oracle, same rate", rate, np.where(oracle, merged, local)),
    )
