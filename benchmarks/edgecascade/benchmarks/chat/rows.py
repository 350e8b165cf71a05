"""Prompts with the replies of both endpoints and what these are worth, one row per prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.confidence import Verifier
from edgecascade.export.chat.calibrate import judge_replies
from edgecascade.export.chat.prompts import ChatPrompt
from edgecascade.export.chat.replies import ChatReply, RepliesToPrompt, prompt_digest
from edgecascade.types.document import ChatScore
from edgecascade.types.errors import BenchmarkError

__all__ = ["ChatRows", "chat_rows", "verification"]

_CHECK = "Is your last answer correct? Answer yes or no."


@dataclass(frozen=True)
class ChatRows:
    """Prompts that both endpoints replied to, and whose local reply has log-probabilities.

    Attributes:
        prompts: n prompts.
        local: The local replies.
        remote: The remote's replies.
        checks: The local endpoint's replies to `verification`, one for each prompt; None if one is missing.
        local_value: float64 [n], how good the local replies are, in [0, 1].
        remote_value: float64 [n], how good the remote's are.
        left_out: Number of prompts without both replies, or whose local reply has no log-probabilities.
    """

    prompts: tuple[ChatPrompt, ...]
    local: tuple[ChatReply, ...]
    remote: tuple[ChatReply, ...]
    checks: tuple[ChatReply, ...] | None
    local_value: NDArray[np.float64]
    remote_value: NDArray[np.float64]
    left_out: int = 0

    def __len__(self) -> int:
        """Return the number of prompts."""
        return len(self.prompts)

    def scores(self, score: ChatScore) -> NDArray[np.float64]:
        """Return the score float64 [n] of each local reply."""
        return np.array([score(one.logprobs or ()) for one in self.local], np.float64)

    @property
    def subjects(self) -> NDArray[np.str_]:
        """The subject [n] of each prompt, from its field `subject`; empty where it has none."""
        return np.array([str(one.other.get("subject", "")) for one in self.prompts])

    def __getitem__(self, rows: NDArray[Any]) -> ChatRows:
        """Return some rows, by their positions or as bool [n]."""
        at = np.arange(len(self))[rows]
        return ChatRows(
            prompts=tuple(self.prompts[one] for one in at),
            local=tuple(self.local[one] for one in at),
            remote=tuple(self.remote[one] for one in at),
            checks=None if self.checks is None else tuple(self.checks[one] for one in at),
            local_value=self.local_value[at],
            remote_value=self.remote_value[at],
        )


def verification(prompt: ChatPrompt, reply: ChatReply) -> tuple[Mapping[str, Any], ...]:
    """Return the messages that ask the local endpoint whether its own reply is right, as AutoMix does."""
    said = {"role": "assistant", "content": reply.text}
    return (*prompt.messages, said, {"role": "user", "content": _CHECK})


def chat_rows(prompts: Sequence[ChatPrompt], replies: Mapping[str, RepliesToPrompt], judge: Verifier[Any]) -> ChatRows:
    """Join prompts with what a replies file has on them, and judge the replies.

    Args:
        prompts: The prompts.
        replies: By the digest of a prompt, as `read_replies` returns them. The reply to a `verification` is a local
            reply to those messages.
        judge: From replies and references to values in [0, 1].

    Raises:
        BenchmarkError: No prompt has both replies and log-probabilities.
        CalibrationError: The judge cannot use a reply or a reference.
    """
    both = [(prompt, replies.get(prompt.digest)) for prompt in prompts]
    found = [
        (prompt, one.local, one.remote)
        for prompt, one in both
        if one is not None and one.local is not None and one.remote is not None and one.local.logprobs
    ]
    if not found:
        raise BenchmarkError(
            f"replies: expected those of both endpoints, with log-probabilities of the local one, got none to "
            f"{len(prompts)} prompts"
        )
    kept, local, remote = zip(*found, strict=True)
    checks = [_check(prompt, reply, replies) for prompt, reply in zip(kept, local, strict=True)]
    given = tuple(one for one in checks if one is not None)
    return ChatRows(
        prompts=kept,
        local=local,
        remote=remote,
        checks=given if len(given) == len(kept) else None,
        local_value=judge_replies(judge, kept, [one.text for one in local], model="local endpoint"),
        remote_value=judge_replies(judge, kept, [one.text for one in remote], model="remote endpoint"),
        left_out=len(prompts) - len(kept),
    )


def _check(prompt: ChatPrompt, reply: ChatReply, replies: Mapping[str, RepliesToPrompt]) -> ChatReply | None:
    found = replies.get(prompt_digest(verification(prompt, reply)))
    return None if found is None or found.local is None or not found.local.logprobs else found.local
