"""What is compared: edgecascade's cleaning, the paper's rule, and everything that cleanlab has for one or more models.

Each peer gets the same out-of-fold outputs and the same labels, some of them wrong, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.cleaning.outputs import Outputs
from edgecascade.calibration import fit_temperature, softmax
from edgecascade.calibration.cleaning import Experts, find_suspects, fit_pool
from edgecascade.types.errors import BenchmarkError
from edgecascade.types.extras import naming_extras

__all__ = ["METHODS", "Verdict", "cleanlab_crowd", "cleanlab_masks", "cleanlab_rankings", "ours"]

METHODS = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
_MOST = 1 - 1e-12  # cleanlab's weighted mean of ones rounds to more than 1, which it then refuses
Probabilities = list[NDArray[np.float64]]


@dataclass(frozen=True)
class Verdict:
    """What a peer says about all rows.

    Attributes:
        score: float64 [n], higher for labels that are more likely wrong.
        flagged: bool [n], the labels that it calls wrong by default.
        suggested: int64 [n], the labels to put in their place.
        weights: Of the experts, where they are fitted.
    """

    score: NDArray[np.float64]
    flagged: NDArray[np.bool_]
    suggested: NDArray[np.int64]
    weights: tuple[float, ...] = ()


def ours(outputs: Outputs, labels: NDArray[np.int64], rule: str = "posterior") -> Verdict:
    """Return edgecascade's verdict by one of its rules.

    The pool is fitted on the judged rows, as their outputs are out of fold.
    """
    experts = Experts.of(outputs.arrays, outputs.names, outputs.kinds)
    pool = fit_pool(experts, labels)
    found = find_suspects(experts, labels, pool, rule=rule, every_row=True)
    score, flagged, suggested = np.empty(found.n), np.empty(found.n, np.bool_), np.empty(found.n, np.int64)
    score[found.row], flagged[found.row], suggested[found.row] = found.score, found.flagged, found.suggested
    return Verdict(score, flagged, suggested, tuple(one.value for one in pool.weights))


def probabilities(outputs: Outputs, labels: NDArray[np.int64], *, calibrated: bool) -> Probabilities:
    """Return each expert's probabilities as they are, or after temperature scaling on the given labels."""
    found = []
    for array, kind in zip(outputs.arrays, outputs.kinds, strict=True):
        values = array.astype(np.float64)
        logits = np.log(values.clip(1e-7)) if kind == "probabilities" else values
        chances = softmax(logits / (fit_temperature(logits, labels) if calibrated else 1.0)).astype(np.float64)
        chances /= chances.sum(axis=1, keepdims=True)
        found.append(np.minimum(chances, _MOST))
    return found


def cleanlab_rankings(outputs: Outputs, labels: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Return cleanlab's scores [n] by name, higher for labels that are more likely wrong.

    Its three scores of each expert and of the mean of all, and of its ensembles, with probabilities as they are and
    calibrated. Its search for weights by log loss has one score only, as it takes seconds.
    """
    rank = _cleanlab("rank")
    found = {}
    for form in ("", ", calibrated"):
        experts = probabilities(outputs, labels, calibrated=bool(form))
        alone = {**dict(zip(outputs.names, experts, strict=True)), "mean": np.mean(experts, axis=0)}
        for method in METHODS:
            for name, one in alone.items():
                found[f"{method} of {name}{form}"] = rank.get_label_quality_scores(labels, one, method=method)
            for scheme in ("accuracy", "uniform"):
                found[f"{method} of the ensemble by {scheme}{form}"] = rank.get_label_quality_ensemble_scores(
                    labels, experts, method=method, weight_ensemble_members_by=scheme, verbose=False
                )
        if not form:
            found[f"{METHODS[0]} of the ensemble by log loss"] = rank.get_label_quality_ensemble_scores(
                labels, experts, weight_ensemble_members_by="log_loss_search", verbose=False
            )
    return {name: -np.asarray(score, np.float64) for name, score in found.items()}


def cleanlab_crowd(outputs: Outputs, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the scores [n] of CROWDLAB for ensembles (Goh et al. 2022), each expert counting as an annotator too.

    It needs two annotators or more, and half a minute for 10,000 rows.
    """
    experts = probabilities(outputs, labels, calibrated=True)
    votes = np.column_stack([labels, *(one.argmax(axis=1) for one in experts)])
    found = _cleanlab("multiannotator").get_label_quality_multiannotator_ensemble(
        votes, np.stack(experts), return_annotator_stats=False, verbose=False
    )
    return -np.asarray(found["detailed_label_quality"].iloc[:, 0], np.float64)


def cleanlab_masks(outputs: Outputs, labels: NDArray[np.int64]) -> dict[str, Verdict]:
    """Return the masks of `find_label_issues` by name: of each expert, and of the mean as it is and calibrated."""
    find = partial(_cleanlab("filter").find_label_issues, labels, n_jobs=1)
    plain = probabilities(outputs, labels, calibrated=False)
    mean = {
        "mean": np.mean(plain, axis=0),
        "mean, calibrated": np.mean(probabilities(outputs, labels, calibrated=True), 0),
    }
    blank = Verdict(np.zeros(len(labels)), np.zeros(len(labels), np.bool_), labels)
    return {
        name: replace(blank, flagged=np.asarray(find(one), np.bool_), suggested=one.argmax(axis=1).astype(np.int64))
        for name, one in {**mean, **dict(zip(outputs.names, plain, strict=True))}.items()
    }


def _cleanlab(module: str) -> Any:
    """Return one of cleanlab's modules."""
    from importlib import import_module

    try:
        with naming_extras():
            return import_module(f"cleanlab.{module}")
    except ModuleNotFoundError as error:
        raise BenchmarkError("cleanlab is not installed: pip install 'edgecascade-benchmarks[cleaning]'") from error
