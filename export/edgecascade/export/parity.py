"""Proof that a cascade model decides as the reference arithmetic does, before it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto

from edgecascade.calibration import Decision, DecisionRule, decide, routing_score
from edgecascade.export.errors import ParityError
from edgecascade.runtime.batch import Batch
from edgecascade.runtime.session import run_in_batches

__all__ = ["Parity", "check_parity"]

_ELSEWHERE = {"AzureExecutionProvider"}  # calls a cloud service: not a way to run a file here


@dataclass(frozen=True)
class Parity:
    """What was compared.

    Attributes:
        providers: execution providers that agreed with the reference.
        n: inputs compared on each.
        largest: the largest difference of a confidence.
        tolerance: what it may be.
    """

    providers: tuple[str, ...]
    n: int
    largest: float
    tolerance: float


def check_parity(
    model: ModelProto,
    inputs: Batch,
    logits: NDArray[np.floating],
    rule: DecisionRule,
    tolerance: float = 1e-5,
) -> Parity:
    """Run the cascade model on every execution provider here, and compare with `decide` on the logits.

    Labels must be equal, confidences within the tolerance, and `forward` and advantage equal wherever the score is
    further than the tolerance (of 1, or of the score if that is larger) from an edge of the advantage table.

    Args:
        model: as it would be written.
        inputs: [n, ...], what the model takes; by name if it takes several.
        logits: [n, classes], what the body alone gave for them.
        rule: what was folded into the model.
        tolerance: on confidences.

    Raises:
        ParityError: showing the first difference.
    """
    wanted = decide(logits, rule)
    providers = [p for p in ort.get_available_providers() if p not in _ELSEWHERE]
    score = routing_score(rule.score, logits, rule.temperature)
    edges = np.append(rule.table.edges, np.float32(np.inf))
    with np.errstate(invalid="ignore"):
        distance = np.abs(score[:, None] - edges).min(axis=1)
    near_edge = distance <= tolerance * np.maximum(1.0, np.abs(score))
    own = [one.name for one in model.graph.input if one.name not in {i.name for i in model.graph.initializer}]
    feeds = inputs if isinstance(inputs, Mapping) else {own[0]: inputs}
    largest = max(_compare(model, feeds, wanted, near_edge, provider, tolerance) for provider in providers)
    return Parity(tuple(providers), len(logits), largest, tolerance)


def _compare(
    model: ModelProto,
    feeds: Mapping[str, NDArray[Any]],
    wanted: Decision,
    near_edge: NDArray[np.bool_],
    provider: str,
    tolerance: float,
) -> float:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=[provider])
    names = ["label", "confidence", "advantage", "forward"]
    label, confidence, advantage, forward = run_in_batches(session, names, feeds)
    number = ~np.isnan(wanted.confidence)
    difference = np.abs(np.where(number, confidence - wanted.confidence, 0.0))
    wrong = {
        "label": number & (label != wanted.label),
        "confidence": (np.isnan(confidence) == number) | ~(difference <= tolerance),
        "forward": ~near_edge & (forward != wanted.forward),
        "advantage": ~near_edge & number & (advantage != wanted.advantage),
    }
    got = {"label": label, "confidence": confidence, "advantage": advantage, "forward": forward}
    for name, where in wrong.items():
        if where.any():
            first = int(np.flatnonzero(where)[0])
            raise ParityError(
                f"parity failed on {provider}: {name} of input {first} is {got[name][first]}, "
                f"expected {getattr(wanted, name)[first]} ({int(where.sum())} of {len(where)} inputs differ); "
                "nothing was written"
            )
    return float(difference.max())
