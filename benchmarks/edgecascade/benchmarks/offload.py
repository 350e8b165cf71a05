"""What a cascade saves and costs, against what else one could do, on labelled data nothing was fitted on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.class_names import labelled_as
from edgecascade.benchmarks.kept_answers import KeptAnswers
from edgecascade.benchmarks.kept_scores import RemoteLike
from edgecascade.benchmarks.offload_area import Area, Rule, areas
from edgecascade.benchmarks.offload_curve import OffloadCurve, offload_curve
from edgecascade.benchmarks.offload_promise import Promised, compare_promise
from edgecascade.benchmarks.offload_savings import Prices, Savings, savings
from edgecascade.benchmarks.offload_strategies import Strategy, strategies
from edgecascade.benchmarks.served import Served, run_served
from edgecascade.benchmarks.verdicts import Verdicts, judge
from edgecascade.calibration import calibration_error, expected_calibration_error
from edgecascade.export.labelled import LabelledData
from edgecascade.runtime.engine import open_session, read_document
from edgecascade.types.document import CascadeDocument
from edgecascade.types.errors import BenchmarkError
from edgecascade.types.estimate import Estimate

__all__ = ["Offload", "Strategy", "measure_offload", "tested_on"]

_FEWEST = 10


@dataclass(frozen=True)
class Offload:
    """The whole measurement.

    Attributes:
        document: of the cascade model.
        n: test inputs.
        strategies: the table; the third is the cascade as it was served. The rules at the same rate merge as it
            does; the rule by hand replaces.
        curves: accuracy against offload rate, by rule.
        areas: under the curves, between random and the oracle, the advantage's first; None where neither differs.
        savings: bytes and money, against asking always.
        promised: what the file says of itself, and what happened.
        ece: expected calibration error on the test inputs, by model, before and after: as usually computed.
        corrected_ece: the same less its finite-sample bias.
        served: the served run.
        verdicts: the rows behind it all.
    """

    document: CascadeDocument
    n: int
    strategies: tuple[Strategy, ...]
    curves: dict[str, OffloadCurve]
    areas: Mapping[str, Area | None]
    savings: Savings
    promised: Promised
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
    remote: RemoteLike,
    deadline: float,
    prices: Prices | None = None,
    kept: KeptAnswers | None = None,
) -> Offload:
    """Measure a cascade model against its remote and against simple rules.

    Args:
        path: a cascade model.
        data: labelled inputs that nothing was fitted, chosen or quantized on. Where it and the model have class names,
            labels are matched by name.
        remote_scores: [n, classes], what the remote says about each of them.
        remote: for the served run: an address, an ONNX file, a function from inputs [n, ...] to scores [n, classes], or
            a `Remote`, which is left open.
        deadline: seconds each call of the served run is given.
        prices: of a request and of traffic.
        kept: where the answers of the served run are kept as they come; those that are there are not asked for again.

    Raises:
        BenchmarkError: the model gives no number for an input, the arrays do not fit, the data's classes are not the
            model's, the model was calibrated on just these inputs, or what is kept is damaged.
    """
    data = tested_on(path, data)
    verdicts, document = judge(path, data, remote_scores)
    if np.isnan(verdicts.confidence).any():
        where = int(np.flatnonzero(np.isnan(verdicts.confidence))[0])
        raise BenchmarkError(f"data: the local model's confidence on input {where} is not a number")
    served, correct = run_served(
        path, data, remote=remote, deadline=deadline, expected=verdicts.remote_label, kept=kept
    )
    rules = _rules(verdicts, document.policy.merge)
    return Offload(
        document=document,
        n=len(data.labels),
        strategies=strategies(verdicts, document.policy.merge, served.reasons["confident"], correct),
        curves=_curves(verdicts, rules),
        areas=areas(rules, verdicts.local_correct),
        savings=savings(served, len(data.labels), prices or Prices()),
        promised=compare_promise(document.to_dict(), verdicts, correct),
        ece={name: expected_calibration_error(*pair) for name, pair in verdicts.confidences().items()},
        corrected_ece={name: calibration_error(*pair) for name, pair in verdicts.confidences().items()},
        served=served,
        verdicts=verdicts,
    )


def tested_on(path: str | os.PathLike[str], data: LabelledData) -> LabelledData:
    """The data with labels as the model counts; checked here, before a remote is asked about any of it.

    Raises:
        BenchmarkError: too few inputs, classes that are not the model's, or what the model was calibrated on.
    """
    document = read_document(open_session(path), path)
    if len(data.labels) < _FEWEST:
        raise BenchmarkError(f"data: expected at least {_FEWEST} labelled inputs, got {len(data.labels)}")
    if document.source.data_sha256 == data.digest:
        raise BenchmarkError(f"data: expected inputs that nothing was fitted on, got what {path} was calibrated on")
    return labelled_as(data, document.labels)


def _rules(v: Verdicts, own: str) -> dict[str, Rule]:
    """Every order of inputs with the file's own merge rule, and the advantage's with the others; the planned first."""
    rules = {"advantage": Rule(v.advantage, v.merged_correct)}
    rules |= {_SCORES[name]: Rule(score, v.merged_correct) for name, score in v.scores.items()}
    rules["confidence"] = Rule(v.raw_confidence, v.merged_correct)
    others = {merge: merged for merge, merged in v.merged.items() if merge != own}
    return rules | {f"advantage, {merge}": Rule(v.advantage, merged) for merge, merged in others.items()}


_SCORES = {"confidence": "calibrated confidence", "margin": "margin", "entropy": "entropy"}


def _curves(v: Verdicts, rules: Mapping[str, Rule]) -> dict[str, OffloadCurve]:
    ends: dict[str, NDArray[Any]] = {
        "random": np.zeros(len(v.forward)),
        "oracle": v.local_correct.astype(np.int8) - v.merged_correct,
    }
    every = {**rules, **{name: Rule(key, v.merged_correct) for name, key in ends.items()}}
    return {name: offload_curve(rule.key, v.local_correct, rule.merged_correct) for name, rule in every.items()}
