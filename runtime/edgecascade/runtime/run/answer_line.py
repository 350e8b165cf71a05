"""Answers as JSON: one object a line, in plain types, without NaN."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.run.given import Answered, Refused
from edgecascade.types.answer import Answer, LateAnswer
from edgecascade.types.merge import merge

__all__ = ["answer_line", "late_line", "probabilities_of"]


def answer_line(one: Answered | Refused, *, merged_by: str | None = None) -> dict[str, Any]:
    """The fields of one line.

    Args:
        one: what became of an input.
        merged_by: the rule of the policy, to have the answer's probabilities too.
    """
    named = {"input": one.name, **({} if one.key is None else {"key": one.key})}
    if isinstance(one, Refused):
        return {**named, "error": one.error}
    return {**named, **_fields(one.answer, merged_by)}


def late_line(late: LateAnswer, *, merged_by: str | None = None) -> dict[str, Any]:
    """The same for an answer that came too late for the one that was given."""
    return {"late": True, "key": late.key, **_fields(late.answer, merged_by)}


def probabilities_of(answer: Answer, merged_by: str) -> NDArray[np.float32]:
    """The calibrated probabilities float32 [classes] behind an answer's label."""
    verdict = answer.local if answer.remote is None else merge(merged_by, answer.local, answer.remote)[0]
    return verdict.probabilities


def _fields(answer: Answer, merged_by: str | None) -> dict[str, Any]:
    line: dict[str, Any] = {
        "label": answer.label,
        "name": answer.name,
        "confidence": _number(answer.confidence),
        "source": answer.source.value,
        "reason": answer.reason.value,
        "advantage": _number(answer.advantage),
        "elapsed_ms": round(answer.elapsed * 1e3, 3),
    }
    if merged_by is not None:
        line["probabilities"] = [_number(value) for value in probabilities_of(answer, merged_by).tolist()]
    return line | {name: text for name, text in (("detail", answer.detail), ("queued", answer.queued)) if text}


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
