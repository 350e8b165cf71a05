"""Decide from the tokens of a local reply whether to ask the remote; see what the calibration does not cover."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgecascade.types.platt import Platt

if TYPE_CHECKING:
    from edgecascade.types.document import ChatDocument

__all__ = ["UNDECIDED", "ChatDecision", "ChatRule", "same_model", "unlike_calibration"]

# Fields that change neither the text nor its probabilities.
_NEUTRAL = {
    *("logprobs", "messages", "metadata", "model", "prompt_cache_key", "safety_identifier", "seed", "service_tier"),
    *("store", "stream", "stream_options", "top_logprobs", "user"),
}
_DEFAULTS = {"frequency_penalty": 0, "n": 1, "presence_penalty": 0, "top_p": 1}  # the same as no such field
_OTHER_NAMES = {"max_completion_tokens": "max_tokens"}


class ChatDecision(NamedTuple):
    """What the tokens of a local reply say.

    Attributes:
        score: of the reply; NaN if it has no tokens.
        confidence: the expected value of the reply, in [0, 1]; NaN where the score is NaN.
        advantage: expected value of the local reply minus the remote's, in [-1, 1]; NaN where the score is NaN.
        forward: whether the remote is to be asked: the advantage is below the threshold, or the score is NaN.
    """

    score: float
    confidence: float
    advantage: float
    forward: bool


UNDECIDED = ChatDecision(float("nan"), float("nan"), float("nan"), True)
"""The decision about a reply without tokens."""


class ChatRule:
    """The decision in float32, as `edgecascade.calibration.decide_task` takes it.

    Args:
        document: the calibrated pair of endpoints.
        threshold: replies whose advantage is below it are forwarded; None takes the document's.

    >>> from types import SimpleNamespace as Some
    >>> policy = Some(edges=(-1.0,), values=(-0.2, 0.1), threshold=0.0)
    >>> calibration = Some(confidence=Platt(2.0, 2.0))
    >>> rule = ChatRule(Some(score=lambda tokens: min(tokens), calibration=calibration, policy=policy))
    >>> rule([-0.5, -1.5]).forward, rule([-0.5, -0.5]).forward
    (True, False)
    """

    def __init__(self, document: ChatDocument, threshold: float | None = None) -> None:
        self._score, policy = document.score, document.policy
        self._edges = np.asarray(policy.edges, np.float32)
        self._values = np.asarray(policy.values, np.float32)
        self._threshold = np.float32(policy.threshold if threshold is None else threshold)
        self._confidence = document.calibration.confidence

    def __call__(self, logprobs: Sequence[float]) -> ChatDecision:
        """Return the decision about a reply whose tokens have these natural log-probabilities."""
        score = np.float32(self._score(logprobs))
        if np.isnan(score):
            return UNDECIDED
        advantage = self._values[np.searchsorted(self._edges, score, side="right")]
        forward = bool(advantage < self._threshold)
        return ChatDecision(float(score), self._confidence_of(score), float(advantage), forward)

    def _confidence_of(self, score: np.float32) -> float:
        found = self._confidence
        if not isinstance(found, Platt):
            return float(found(np.array([score]))[0].astype(np.float32))
        slope, intercept = np.float32(found.slope), np.float32(found.intercept)
        with np.errstate(over="ignore", invalid="ignore"):
            log_odds = np.array([slope * score + intercept])  # the same loop of numpy as for many scores
            return float((1 / (1 + np.exp(-log_odds)))[0])


def unlike_calibration(document: ChatDocument, request: Mapping[str, Any]) -> tuple[str, ...]:
    """Return in what a request differs from those of the calibration, whose evidence then does not cover its reply.

    Args:
        document: the calibrated pair of endpoints.
        request: the fields of the request.

    Returns:
        Names of fields, in order; `turns` for another sequence of roles; `content` for anything but text. Another bound
        of the tokens counts only where it can change those that the score reads: if one of the two is not above
        `score.whole`.
    """
    known, given = _telling(document.fields), _telling(request)
    found = sorted(name for name in {*known, *given} if known.get(name) != given.get(name))
    limits = [fields.get("max_tokens", math.inf) for fields in (known, given)]
    if "max_tokens" in found and all(isinstance(one, int | float) and one > document.score.whole for one in limits):
        found.remove("max_tokens")
    messages = [one for one in request.get("messages") or () if isinstance(one, Mapping)]
    if tuple(str(one.get("role")) for one in messages) not in document.turns:
        found.append("turns")
    if not all(isinstance(one.get("content"), str | None) for one in messages):
        found.append("content")
    return tuple(found)


def same_model(found: str, calibrated: str) -> bool:
    """Return whether a server reports the model that was calibrated, as far as it says; folders do not matter.

    >>> same_model("/models/small.gguf", "small.gguf"), same_model("large-2027", "large-2026"), same_model("", "x")
    (True, False, True)
    """
    last, known = (name.replace("\\", "/").rstrip("/").rpartition("/")[2] for name in (found, calibrated))
    return last == known or not last or not known


def _telling(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that matter for the reply, each under one name."""
    return {
        _OTHER_NAMES.get(name, name): value
        for name, value in fields.items()
        if name not in _NEUTRAL and value is not None and _DEFAULTS.get(name, ...) != value
    }
