"""Proof that a cascade model decides as the reference arithmetic does, before it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgecascade.calibration import DecisionRule, decide, routing_score
from edgecascade.runtime.batch import Batch
from edgecascade.runtime.engine import sessions
from edgecascade.runtime.golden import Expected, compare
from edgecascade.types.errors import ModelFileError, ParityError

__all__ = ["Parity", "check_parity", "expected_decisions"]


@dataclass(frozen=True)
class Parity:
    """What was compared.

    Attributes:
        providers: execution providers that agreed with the reference.
        n: inputs compared on each.
        largest: the largest difference of a confidence.
        tolerance: what it may be.
        unusable: execution providers that this onnxruntime has and that cannot run the model on this machine.
    """

    providers: tuple[str, ...]
    n: int
    largest: float
    tolerance: float
    unusable: tuple[str, ...] = ()


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
    expected = expected_decisions(logits, rule)
    own = [one.name for one in model.graph.input if one.name not in {i.name for i in model.graph.initializer}]
    feeds = inputs if isinstance(inputs, Mapping) else {own[0]: inputs}
    file = model.SerializeToString()
    largest = 0.0
    providers, unusable = [], []
    for provider, session in sessions(file):
        if isinstance(session, ModelFileError):
            unusable.append(provider)
            continue
        providers.append(provider)
        difference, sentence = compare(session, feeds, expected, tolerance)
        if sentence is not None:
            raise ParityError(f"parity failed on {provider}: {sentence}; nothing was written")
        largest = max(largest, difference)
    return Parity(tuple(providers), len(logits), largest, tolerance, tuple(unusable))


def expected_decisions(logits: NDArray[np.floating], rule: DecisionRule) -> Expected:
    """What the reference arithmetic makes of the body's logits [n, classes]."""
    wanted = decide(logits, rule)
    score = routing_score(rule.score, logits, rule.temperature)
    edges = np.append(rule.table.edges, np.float32(np.inf))
    with np.errstate(invalid="ignore"):
        distance = np.abs(score[:, None] - edges).min(axis=1) / np.maximum(1.0, np.abs(score))
    return Expected(wanted.label, wanted.confidence, wanted.advantage, wanted.forward, distance.astype(np.float32))
