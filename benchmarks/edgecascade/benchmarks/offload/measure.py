"""What a cascade saves and costs, against other ways to use its models, on labelled data that nothing was fitted on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.offload.curves import Area, OffloadCurve, Rule, areas, offload_curve
from edgecascade.benchmarks.offload.examples import find_examples
from edgecascade.benchmarks.offload.plan_check import PlanCheck, check_plan
from edgecascade.benchmarks.offload.predictions import Predictions, predict_all
from edgecascade.benchmarks.offload.remote_scores import RemoteLike
from edgecascade.benchmarks.offload.served import Served, run_served
from edgecascade.benchmarks.offload.strategies import Prices, Savings, Strategy, savings, strategies
from edgecascade.benchmarks.report.contents import Examples
from edgecascade.benchmarks.stored import StoredRows
from edgecascade.calibration import calibration_error, expected_calibration_error
from edgecascade.export.class_names import labelled_as
from edgecascade.export.data import LabelledData
from edgecascade.runtime.engine import open_session, read_classifier
from edgecascade.types.document import CascadeDocument
from edgecascade.types.errors import BenchmarkError, ExportError
from edgecascade.types.estimate import Estimate

__all__ = ["Offload", "check_test_data", "measure_offload"]

_FEWEST = 10
_SCORES = {"confidence": "calibrated confidence", "margin": "margin", "entropy": "entropy"}


@dataclass(frozen=True)
class Offload:
    """The whole measurement.

    Attributes:
        document: The document of the cascade model.
        n: The number of test inputs.
        strategies: The table; the third is the cascade as it was served. Rules at the same rate merge as it does; the
            rule of thumb replaces.
        curves: Accuracy against offload rate, by rule.
        areas: Areas under the curves between random and the oracle, the advantage's first; None where the two agree.
        savings: Bytes and money, against always asking.
        plan_check: The plan and the certificate in the file, against what happened.
        ece: Expected calibration error on the test inputs, by model, before and after calibration.
        corrected_ece: The same minus its finite-sample bias.
        served: The served run.
        predictions: The rows behind all of it.
        examples: A few inputs, where they are images or text.
        reused: Inputs whose remote scores are from an earlier run.
    """

    document: CascadeDocument
    n: int
    strategies: tuple[Strategy, ...]
    curves: dict[str, OffloadCurve]
    areas: Mapping[str, Area | None]
    savings: Savings
    plan_check: PlanCheck
    ece: dict[str, float]
    corrected_ece: dict[str, Estimate]
    served: Served
    predictions: Predictions
    examples: tuple[Examples, ...] = ()
    reused: int = 0

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
    stored: StoredRows | None = None,
    reused: int = 0,
) -> Offload:
    """Measure a cascade model against its remote and against simple rules.

    Args:
        path: A cascade model.
        data: Labelled inputs that nothing was fitted, chosen or quantized on. Where both it and the model have class
            names, labels are matched by name.
        remote_scores: [n, classes], the remote's scores for each of them.
        remote: The remote of the served run: an address, an ONNX file, a function from inputs [n, ...] to scores
            [n, classes], or a `Remote`, which is left open.
        deadline: Seconds for each call of the served run.
        prices: Prices of a request and of traffic.
        stored: Where the answers of the served run are stored as they come; stored inputs are not asked again.
        reused: The number of inputs whose `remote_scores` are from an earlier run, for the report.

    Raises:
        BenchmarkError: A confidence is not a number, the arrays do not fit together, the classes differ, the model was
            calibrated on the same inputs, or a stored file is damaged.
    """
    data = check_test_data(path, data)
    v, document = predict_all(path, data, remote_scores)
    served, correct = run_served(path, data, remote=remote, deadline=deadline, expected=v.remote_label, stored=stored)
    rules = _rules(v)
    return Offload(
        document=document,
        n=len(data.labels),
        strategies=strategies(v, served.reasons["confident"], correct),
        curves=_curves(v, rules),
        areas=areas(rules, v.local_correct),
        savings=savings(served, len(data.labels), prices or Prices()),
        plan_check=check_plan(document, v.forward, v.remote_correct, v.decided_correct, correct),
        ece={name: expected_calibration_error(*pair) for name, pair in v.confidences().items()},
        corrected_ece={name: calibration_error(*pair) for name, pair in v.confidences().items()},
        served=served,
        predictions=v,
        examples=find_examples(data.inputs, v, document.labels),
        reused=reused,
    )


def check_test_data(path: str | os.PathLike[str], data: LabelledData) -> LabelledData:
    """Return the data with the labels of the model; call it before a remote is asked about any of the inputs.

    Raises:
        BenchmarkError: There are too few inputs, classes that the model does not have, or the inputs that the model was
            calibrated on.
    """
    document = read_classifier(open_session(path), path)
    if len(data.labels) < _FEWEST:
        raise BenchmarkError(f"data: expected at least {_FEWEST} labelled inputs, got {len(data.labels)}")
    if document.source.data_sha256 == data.digest:
        raise BenchmarkError(f"data: expected inputs that nothing was fitted on, got those {path} was calibrated on")
    try:
        found, classes = labelled_as(data, document.labels), len(document.labels)
    except ExportError as error:
        raise BenchmarkError(str(error)) from error
    least, most = int(found.labels.min()), int(found.labels.max())
    if least < 0 or most >= classes:
        raise BenchmarkError(f"data: expected labels from 0 to {classes - 1}, got {least} to {most}")
    return found


def _rules(v: Predictions) -> dict[str, Rule]:
    """Return all orders with the file's merge rule, the planned one first, and the planned one with the others."""
    rules = {"advantage": Rule(v.advantage, v.merged_correct)}
    rules |= {_SCORES[name]: Rule(score, v.merged_correct) for name, score in v.scores.items()}
    rules["confidence"] = Rule(v.raw_confidence, v.merged_correct)
    others = {merge: merged for merge, merged in v.merged.items() if merge != v.merge}
    return rules | {f"advantage, {merge}": Rule(v.advantage, merged) for merge, merged in others.items()}


def _curves(v: Predictions, rules: Mapping[str, Rule]) -> dict[str, OffloadCurve]:
    ends: dict[str, NDArray[Any]] = {
        "random": np.zeros(len(v.forward)),
        "oracle": v.local_correct.astype(np.int8) - v.merged_correct,
    }
    every = {**rules, **{name: Rule(key, v.merged_correct) for name, key in ends.items()}}
    return {name: offload_curve(rule.key, v.local_correct, rule.merged_correct) for name, rule in every.items()}
