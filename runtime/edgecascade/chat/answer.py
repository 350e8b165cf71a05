"""Who answered a chat request, and why; what it used and cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from edgecascade.chat.decision import ChatDecision
from edgecascade.chat.reply import Usage
from edgecascade.types.answer import Source

__all__ = ["ChatAnswer", "ChatReason", "Verdict"]

_HEADER = "X-Edgecascade-"
_LONGEST = 400  # characters of a header


class ChatReason(str, Enum):
    """Why a reply has its source."""

    CONFIDENT = "confident"  # the local reply is not at a disadvantage, and nothing was sent
    OFFLOADED = "offloaded"  # the local reply is at a disadvantage, and the remote replied
    UNSCORED = "unscored"  # the local reply cannot be scored, and `unscored` chose the side
    LOCAL_ERROR = "local error"  # the local endpoint failed, and the remote replied
    DEADLINE = "deadline"  # the remote did not begin to reply in time
    BUDGET = "budget"  # the budget for forwards is short, and other requests need it more
    EGRESS = "egress"  # the application does not allow this request to leave the device
    CIRCUIT_OPEN = "circuit open"  # the remote failed so often that it is not asked for a while
    OFFLINE = "offline"  # the remote could not be reached
    REMOTE_ERROR = "remote error"  # the remote refused, or its reply is not valid


@dataclass(frozen=True)
class Verdict:
    """Who answers a request, and why.

    Attributes:
        source: local or remote; a reply is never merged.
        reason: why it has that source.
        decision: about the local reply; its numbers are NaN where it could not be scored.
        uncalibrated: what is unlike the calibration: fields by name, `turns`, `content`, `local model`, `remote model`.
        detail: a sentence about what failed, or why the local reply could not be scored; otherwise empty.
    """

    source: Source
    reason: ChatReason
    decision: ChatDecision
    uncalibrated: tuple[str, ...] = ()
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as the object `edgecascade` of a reply, without what is not known."""
        found: dict[str, Any] = {"source": self.source.value, "reason": self.reason.value}
        numbers = {name: getattr(self.decision, name) for name in ("score", "confidence", "advantage")}
        found |= {name: number for name, number in numbers.items() if math.isfinite(number)}
        if self.uncalibrated:
            found["uncalibrated"] = list(self.uncalibrated)
        return {**found, "detail": self.detail} if self.detail else found

    def headers(self) -> dict[str, str]:
        """Return the verdict as HTTP headers: `X-Edgecascade-Source`, `-Reason`, `-Confidence` and so on."""
        found = {}
        for name, value in self.to_dict().items():
            text = (
                ", ".join(value) if isinstance(value, list) else f"{value:.6g}" if isinstance(value, float) else value
            )
            plain = "".join(one if " " <= one <= "~" else "?" for one in text)
            found[f"{_HEADER}{name.capitalize()}"] = plain[:_LONGEST]
        return found


@dataclass(frozen=True)
class ChatAnswer:
    """A whole reply.

    Attributes:
        text: what the assistant says; empty if it only calls tools.
        completion: the chat completion, as the endpoint sent it.
        verdict: who answered, and why.
        usage: the tokens that each side used, by `local` and `remote`.
        cost: of both sides, in the currency of the prices in the document; a side without a price costs nothing.
        elapsed: seconds from the call to the reply.
    """

    text: str
    completion: Mapping[str, Any]
    verdict: Verdict
    usage: Mapping[Source, Usage]
    cost: float
    elapsed: float

    @property
    def source(self) -> Source:
        """Which endpoint answered."""
        return self.verdict.source

    @property
    def reason(self) -> ChatReason:
        """Why it did."""
        return self.verdict.reason

    @property
    def confidence(self) -> float:
        """The expected value of the local reply, in [0, 1]; NaN if it could not be scored."""
        return self.verdict.decision.confidence
