"""Proof, before anything is written, that the file of a general task decides as planned and leaves the body alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgecascade.calibration.task import TaskRule, decide_task
from edgecascade.export.graph import own_inputs, runnable
from edgecascade.export.parity import Parity
from edgecascade.runtime.batch import Batch
from edgecascade.runtime.engine import Engine, run_in_batches, sessions
from edgecascade.runtime.golden import ExpectedTask
from edgecascade.runtime.model_inputs import ModelInputs
from edgecascade.types.errors import ModelFileError, ParityError

__all__ = ["check_task_parity", "expected_task"]

_SCORE = 1e-4  # of a score's scale: more than providers differ in float32
_NAMES = ("score", "confidence", "advantage", "forward")


def expected_task(score: NDArray[np.floating], rule: TaskRule) -> ExpectedTask:
    """Return the decisions of the reference arithmetic on scores [n]."""
    wanted, edges = decide_task(score, rule), rule.table.edges
    largest = float(np.abs(edges).max(initial=0.0))
    scale = np.maximum(np.maximum(np.abs(wanted.score), np.float32(largest)), np.finfo(np.float32).tiny)
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.abs(wanted.score[:, None] - np.append(edges, np.float32(np.inf))).min(axis=1) / scale
    return ExpectedTask(
        wanted.score, wanted.confidence, wanted.advantage, wanted.forward, distance.astype(np.float32), scale
    )


def check_task_parity(
    model: ModelProto,
    inputs: Batch | Sequence[Batch],
    score: NDArray[np.floating],
    rule: TaskRule,
    tolerance: float = 1e-5,
) -> Parity:
    """Run a cascade model of a general task on every execution provider here, and compare with the reference.

    Scores must be those of the body within a ten-thousandth of their scale (see `ExpectedTask`). Confidences,
    advantages and decisions must be those of `decide_task` for the scores that the file itself gives: confidences
    within the tolerance, the others exactly.

    Args:
        model: the cascade model, as it would be written.
        inputs: inputs [n, ...] of the model, by name if it takes several; or several such batches, where inputs differ
            in shape.
        score: floating [n], from the body and the confidence function on these inputs.
        rule: the rule that was folded into the model.
        tolerance: on confidences.

    Raises:
        ParityError: a decision differs; the message shows the first one.
    """
    parts = [inputs] if isinstance(inputs, (Mapping, np.ndarray)) else inputs
    name, expected = own_inputs(model)[0], expected_task(score, rule)
    feeds = [part if isinstance(part, Mapping) else {name: part} for part in parts]
    largest, providers, unusable = 0.0, [], []
    with runnable(model) as source:
        for provider, session in sessions(source):
            if isinstance(session, ModelFileError):
                unusable.append(provider)
                continue
            providers.append(provider)
            largest = max(largest, _difference(session, feeds, expected, rule, tolerance, provider))
    return Parity(tuple(providers), len(score), largest, tolerance, tuple(unusable))


def _difference(
    session: Engine,
    feeds: Sequence[Mapping[str, NDArray[np.generic]]],
    expected: ExpectedTask,
    rule: TaskRule,
    tolerance: float,
    provider: str,
) -> float:
    """Return the largest difference of a confidence from what follows from the file's own scores."""
    declared = ModelInputs(tuple(session.get_inputs()))
    parts = [run_in_batches(session, _NAMES, declared.feeds("inputs", part)) for part in feeds]
    got = dict(zip(_NAMES, map(np.concatenate, zip(*parts, strict=True)), strict=True))
    number, wanted = ~np.isnan(expected.score), decide_task(got["score"], rule)
    difference = np.where(number, np.abs(got["confidence"] - wanted.confidence), 0.0)
    apart = np.abs(got["score"] - expected.score) <= _SCORE * expected.scale
    wrong = {
        "score": np.where(number, ~apart, ~np.isnan(got["score"])),
        "confidence": ~(difference <= tolerance),
        "advantage": number & (got["advantage"] != wanted.advantage),
        "forward": got["forward"] != wanted.forward,
    }
    for name, where in wrong.items():
        if where.any():
            one = int(np.flatnonzero(where)[0])
            against = expected.score if name == "score" else getattr(wanted, name)
            raise ParityError(
                f"parity failed on {provider}: {name} of input {one} is {got[name][one]}, expected {against[one]} "
                f"({int(where.sum())} of {len(where)} inputs differ); nothing was written"
            )
    return float(difference.max(initial=0.0))
