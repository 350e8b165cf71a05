"""The document of two chat endpoints that work as a cascade, a JSON file of its own: format 3."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgecascade.types.document.calibration import ScoreCalibration, read_score_calibration, score_calibration_dict
from edgecascade.types.document.evidence import (
    Certificate,
    PolicyRecord,
    certificate_dict,
    point_dict,
    policy_dict,
    read_certificate,
    read_curve,
    read_policy,
)
from edgecascade.types.document.fields import read_estimate, strings, without_none
from edgecascade.types.document.metadata import CHAT_FORMAT, parsed
from edgecascade.types.errors import ArgumentError
from edgecascade.types.estimate import Estimate, OperatingPoint

__all__ = ["CHAT_SCORES", "ChatDocument", "ChatScore", "ChatSide", "TokenPrice", "is_chat_file"]

CHAT_SCORES = ("mean", "minimum", "first")


@dataclass(frozen=True)
class ChatScore:
    """How the log-probabilities of a reply's tokens become its score.

    A reply of at most `whole` tokens is scored by all of them, a longer one by its first `start` tokens, so that the
    decision never waits for more than `whole` tokens.

    Attributes:
        kind: `mean`, `minimum` or `first`, of the natural logarithms.
        whole: the most tokens of a reply that is scored whole.
        start: number of tokens by which a longer reply is scored, at most `whole`.

    Raises:
        ArgumentError: a value is out of range.
    """

    kind: str = "mean"
    whole: int = 64
    start: int = 32

    def __post_init__(self) -> None:
        if self.kind not in CHAT_SCORES:
            raise ArgumentError(f"kind: expected one of {', '.join(CHAT_SCORES)}, got {self.kind!r}")
        if not 1 <= self.start <= self.whole:
            raise ArgumentError(f"start: expected 1 to {self.whole}, the tokens scored whole, got {self.start}")

    def __call__(self, logprobs: Sequence[float]) -> float:
        """Return the score of a reply whose tokens have these log-probabilities; NaN if there are none.

        >>> ChatScore("minimum")([-0.1, -0.5])
        -0.5
        >>> ChatScore("mean", whole=3, start=2)([-1.0, -3.0, -5.0, -7.0])
        -2.0
        """
        scored = logprobs if len(logprobs) <= self.whole else logprobs[: self.start]
        if not scored:
            return math.nan
        if self.kind == "first":
            return float(scored[0])
        return float(min(scored)) if self.kind == "minimum" else math.fsum(scored) / len(scored)


@dataclass(frozen=True)
class TokenPrice:
    """What a million tokens cost, in one currency for both sides.

    Attributes:
        prompt: of the prompt.
        completion: of the generated tokens.
    """

    prompt: float
    completion: float


@dataclass(frozen=True)
class ChatSide:
    """One of the two endpoints.

    Attributes:
        url: its address, without secrets, up to and including `/v1`; or the path of a GGUF file for llama.cpp in the
            process.
        model: the name that it was asked for; None leaves the choice to the server.
        reported: the name in its replies.
        price: of its tokens; None if it costs nothing or is not known.
    """

    url: str
    model: str | None
    reported: str
    price: TokenPrice | None = None


@dataclass(frozen=True)
class ChatDocument:
    """Two chat endpoints, when to ask the second, and the evidence for it. Accuracies are mean values of replies.

    Attributes:
        written_by: program and version.
        local: the endpoint that is asked first.
        remote: the endpoint that is asked where the local reply is at a disadvantage.
        judge: what says how good a reply is, by name.
        score: how a local reply is scored.
        fields: of every request while calibrating, such as `temperature` and `max_tokens`.
        turns: the sequences of roles that the calibration prompts had, such as `("system", "user")`.
        calibration: from the score to the confidence, and what was measured of the local model.
        remote_value: mean value of the remote's replies.
        policy: the policy and the evidence for it; its edges and values are those of the advantage table.
        operating_curve: every operating point that the threshold can reach, by rising offload rate.
        certificate: the guarantee, or None if none was requested.
        data_sha256: of prompts and references, in hexadecimal.
    """

    written_by: str
    local: ChatSide
    remote: ChatSide
    judge: str
    score: ChatScore
    fields: Mapping[str, Any]
    turns: tuple[tuple[str, ...], ...]
    calibration: ScoreCalibration
    remote_value: Estimate
    policy: PolicyRecord
    operating_curve: tuple[OperatingPoint, ...]
    certificate: Certificate | None
    data_sha256: str

    def to_json(self, indent: int | None = 1) -> str:
        """Return the document as JSON text.

        Raises:
            ValueError: a number is not finite.
        """
        found = {
            "format": CHAT_FORMAT,
            "written_by": self.written_by,
            "local": without_none(asdict(self.local)),
            "remote": without_none(asdict(self.remote)),
            "judge": self.judge,
            "score": asdict(self.score),
            "fields": dict(self.fields),
            "turns": [list(roles) for roles in self.turns],
            "calibration": score_calibration_dict(self.calibration),
            "remote_value": asdict(self.remote_value),
            "policy": policy_dict(self.policy),
            "operating_curve": [point_dict(point) for point in self.operating_curve],
            "certificate": None if self.certificate is None else certificate_dict(self.certificate),
            "data_sha256": self.data_sha256,
        }
        return json.dumps(found, allow_nan=False, indent=indent)

    @classmethod
    def from_json(cls, text: str, where: str) -> ChatDocument:
        """Read a document.

        Args:
            text: JSON.
            where: the file's name, for error messages.

        Raises:
            ModelFileError: the text is too long, damaged, or of another format.
        """
        return parsed(text, where, {CHAT_FORMAT: _document})

    def _repr_html_(self) -> str:
        from edgecascade.types.document.summary import chat_rows
        from edgecascade.types.notebook import as_html, curve_picture

        return as_html(chat_rows(self), curve_picture(self.operating_curve, self.policy.threshold, "mean value"))


def is_chat_file(path: str | os.PathLike[str]) -> bool:
    """Return whether a file holds a JSON object, as that of two chat endpoints does, and no model."""
    try:
        with open(path, "rb") as file:
            return file.read(64).lstrip().startswith(b"{")
    except OSError:
        return False  # the next step says why


def _document(found: Mapping[str, Any]) -> ChatDocument:
    policy = read_policy(found["policy"])
    if policy.edges is None or policy.values is None or len(policy.values) != len(policy.edges) + 1:
        raise ArgumentError("values: expected the advantages between the edges, one more than these")
    curve, _ = read_curve(found)
    return ChatDocument(
        written_by=str(found["written_by"]),
        local=_side(found["local"]),
        remote=_side(found["remote"]),
        judge=str(found["judge"]),
        score=ChatScore(*(found["score"][name] for name in ("kind", "whole", "start"))),
        fields=dict(found["fields"]),
        turns=tuple(strings(roles) for roles in found["turns"]),
        calibration=read_score_calibration(found["calibration"]),
        remote_value=read_estimate(found["remote_value"]),
        policy=policy,
        operating_curve=curve,
        certificate=None if found["certificate"] is None else read_certificate(found["certificate"]),
        data_sha256=str(found["data_sha256"]),
    )


def _side(found: Mapping[str, Any]) -> ChatSide:
    price, model = found.get("price"), found.get("model")
    return ChatSide(
        url=str(found["url"]),
        model=None if model is None else str(model),
        reported=str(found["reported"]),
        price=None if price is None else TokenPrice(float(price["prompt"]), float(price["completion"])),
    )
