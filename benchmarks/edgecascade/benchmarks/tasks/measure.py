"""What the cascade of a general task saves and costs, against other ways to use its models, from values in [0, 1]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.offload.curves import Area, OffloadCurve, Rule, areas, offload_curve
from edgecascade.benchmarks.offload.plan_check import PlanCheck, check_plan
from edgecascade.benchmarks.offload.served import Served
from edgecascade.benchmarks.offload.strategies import Prices, Savings, Strategy, lowest, savings
from edgecascade.benchmarks.report.result import LOWER
from edgecascade.calibration import (
    accuracy_interval,
    calibration_error,
    expected_calibration_error,
    paired_difference_interval,
    proportion,
)
from edgecascade.types.document import ChatDocument, TaskDocument
from edgecascade.types.errors import BenchmarkError
from edgecascade.types.estimate import Estimate

__all__ = ["RATES", "TaskOffload", "TaskValues", "mean_value", "measure_values", "value_difference"]

_FEWEST = 10
RATES = tuple(float(rate) for rate in np.arange(11) / 10)


@dataclass(frozen=True)
class TaskValues:
    """One row per input: what the file says about it, and the values of both answers.

    Attributes:
        score: float32 [n].
        confidence: float32 [n], the expected value of the local answer.
        advantage: float32 [n].
        forward: bool [n], the decision of the file.
        local: float64 [n], the value of the local answer, in [0, 1].
        remote: float64 [n], the value of the remote's answer.
    """

    score: NDArray[np.float32]
    confidence: NDArray[np.float32]
    advantage: NDArray[np.float32]
    forward: NDArray[np.bool_]
    local: NDArray[np.float64]
    remote: NDArray[np.float64]

    @property
    def decided(self) -> NDArray[np.float64]:
        """Return the values under the decision of the file, nothing late or lost."""
        return np.where(self.forward, self.remote, self.local)


@dataclass(frozen=True)
class TaskOffload:
    """The whole measurement.

    Attributes:
        document: The document of the cascade file, or of two chat endpoints.
        n: The number of test inputs.
        strategies: The table, in which accuracies are mean values; the third is the cascade as it was served, or as the
            file decides if nothing was served.
        points: The mean value at offload rates of 0, 10, ... 100 %, when the inputs with the lowest advantage are
            forwarded, with intervals.
        curves: Mean value against offload rate, by rule.
        areas: Areas under the curves between random and the oracle, the advantage's first; None where no order matters.
        plan_check: The plan and the certificate in the file, against what happened.
        ece: Expected calibration error of the confidence on the test inputs.
        corrected_ece: The same minus its finite-sample bias.
        values: The rows behind all of it.
        served: The served run, or None.
        savings: Bytes and money, against always asking; None without a served run.
        warning: What seems wrong with answers or references, such as labels that are numbered in two ways.
    """

    document: TaskDocument | ChatDocument
    n: int
    strategies: tuple[Strategy, ...]
    points: tuple[Strategy, ...]
    curves: dict[str, OffloadCurve]
    areas: Mapping[str, Area | None]
    plan_check: PlanCheck
    ece: float
    corrected_ece: Estimate = field(metadata=LOWER)
    values: TaskValues
    served: Served | None = None
    savings: Savings | None = None
    warning: str | None = None

    @property
    def local(self) -> Strategy:
        """The local model alone."""
        return self.strategies[0]

    @property
    def remote(self) -> Strategy:
        """The remote, asked always."""
        return self.strategies[1]

    @property
    def cascade(self) -> Strategy:
        """The cascade."""
        return self.strategies[2]


def measure_values(
    document: TaskDocument | ChatDocument,
    v: TaskValues,
    served: tuple[Served, NDArray[np.float64]] | None = None,
    prices: Prices | None = None,
) -> TaskOffload:
    """Measure the cascade of a general task, or of two chat endpoints, against simple rules.

    Args:
        document: The document of the cascade file, or of the endpoints.
        v: What the file says about inputs that nothing was fitted on, and the values of both answers.
        served: The served run and the values float64 [n] of its answers; None if nothing was served.
        prices: Prices of a request and of traffic.

    Raises:
        BenchmarkError: There are too few inputs, the columns do not fit together, or a confidence is not a number.
    """
    n = len(v.local)
    if n < _FEWEST or any(column.shape != (n,) for column in vars(v).values()):
        shapes = ", ".join(f"{name} {list(column.shape)}" for name, column in vars(v).items())
        raise BenchmarkError(f"values: expected at least {_FEWEST} rows, as many in every column, got {shapes}")
    if not np.isfinite(v.confidence).all():
        rows = np.flatnonzero(~np.isfinite(v.confidence))
        raise BenchmarkError(f"confidence: expected numbers, got {v.confidence[rows[0]]} for input {rows[0]}")
    forwarded, values = int(v.forward.sum()), v.decided
    if served is not None:
        forwarded, values = n - served[0].reasons["confident"], served[1]
    rules = {"advantage": Rule(v.advantage, v.remote), "score": Rule(v.score, v.remote)}
    every = {**rules, "random": Rule(np.zeros(n), v.remote), "oracle": Rule(v.local - v.remote, v.remote)}
    return TaskOffload(
        document=document,
        n=n,
        strategies=_strategies(v, forwarded, values),
        points=tuple(_point(v, round(rate * n), values) for rate in RATES),
        curves={name: offload_curve(rule.key, v.local, rule.merged_correct) for name, rule in every.items()},
        areas=areas(rules, v.local),
        plan_check=check_plan(document, v.forward, v.remote, v.decided, values),
        ece=expected_calibration_error(v.confidence, v.local),
        corrected_ece=calibration_error(v.confidence, v.local),
        values=v,
        served=None if served is None else served[0],
        savings=None if served is None else savings(served[0], n, prices or Prices()),
    )


def _strategies(v: TaskValues, forwarded: int, values: NDArray[np.float64]) -> tuple[Strategy, ...]:
    """Return local only, remote only and the cascade, then others that forward as many inputs as it did."""
    n = len(values)
    orders: dict[str, NDArray[Any]] = {
        "random": np.zeros(n),
        "lowest score": v.score,
        "oracle": v.local - v.remote,
    }
    return (
        _strategy("local only", np.zeros(n), v, values),
        _strategy("remote only", np.ones(n), v, values),
        Strategy("cascade", proportion(forwarded / n, n), mean_value(values), None),
        _strategy("the file's decision, nothing late or lost", v.forward.astype(np.float64), v, values),
        *(_strategy(f"{name}, same rate", lowest(key, forwarded), v, values) for name, key in orders.items()),
    )


def _point(v: TaskValues, forwarded: int, values: NDArray[np.float64]) -> Strategy:
    return _strategy(f"{forwarded / len(values):.0%}", lowest(v.advantage, forwarded), v, values)


def _strategy(name: str, sent: NDArray[np.float64], v: TaskValues, values: NDArray[np.float64]) -> Strategy:
    """Return a way to use the models in which each input is sent with a probability of its own."""
    found = sent * v.remote + (1 - sent) * v.local
    return Strategy(name, proportion(float(sent.mean()), len(sent)), mean_value(found), value_difference(values, found))


def mean_value(values: NDArray[np.float64]) -> Estimate:
    """Return the mean of values [n] in [0, 1]."""
    low, high = accuracy_interval(values)
    value = float(values.mean())
    return Estimate(value, min(low, value), max(high, value), len(values))


def value_difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> Estimate:
    """Return the mean of `one - other` [n], values in [0, 1] of the same inputs."""
    low, high = paired_difference_interval(one, other)
    value = float((one - other).mean())
    return Estimate(value, min(low, value), max(high, value), len(one))
