"""How a generative model was asked as the remote of a classifier, which its replies are only comparable with."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast, get_args

from edgecascade.types.document.fields import two, without_none
from edgecascade.types.errors import ArgumentError, printable

__all__ = ["ANSWER_FORMS", "AnswerForm", "AskedChat", "Template", "asked_dict", "read_asked", "template_sha256"]

AnswerForm: TypeAlias = Literal["letter", "label", "text"]
"""How a generative model answers: by the probabilities of letters or of labels, or in text."""

ANSWER_FORMS: tuple[AnswerForm, ...] = get_args(AnswerForm)

Template: TypeAlias = str | Sequence[Mapping[str, Any]]
"""A prompt with {input} and {labels} in place of them: a text, or messages with a `role` and a `content`."""


@dataclass(frozen=True)
class AskedChat:
    """How a generative model was asked for a label, and what its replies were read by.

    Attributes:
        answer: the form of the answer: `letter`, `label` or `text`.
        prompt: the template; None where a function wrote the prompts.
        prompt_sha256: of the template, in hexadecimal; None where a function wrote the prompts.
        model: the name that the server was asked for; None leaves the choice to the server.
        reported: the name in its replies; empty if they have none.
        top_logprobs: how many likely tokens the server was asked to list; None for `text`.
        scale: slope and intercept from the mean log-probability of a reply's tokens to the log-odds of its confidence,
            for `text` alone. Where the slope is 0, no log-probabilities are asked for. None takes the exponential of
            that mean.
        fields: further fields of every request.

    Raises:
        ArgumentError: a value is out of range, or the hash is not that of the template.
    """

    answer: AnswerForm
    prompt: Template | None = None
    prompt_sha256: str | None = None
    model: str | None = None
    reported: str = ""
    top_logprobs: int | None = None
    scale: tuple[float, float] | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.answer not in ANSWER_FORMS:
            raise ArgumentError(f"answer: expected one of {', '.join(ANSWER_FORMS)}, got {self.answer!r}")
        if self.prompt is not None and template_sha256(self.prompt) != self.prompt_sha256:
            raise ArgumentError(f"prompt_sha256: expected that of the prompt, got {self.prompt_sha256}")
        if self.scale is not None and (self.answer != "text" or not all(map(math.isfinite, self.scale))):
            raise ArgumentError(f"scale: expected a slope and an intercept, for text alone, got {self.scale}")
        if self.top_logprobs is not None and self.top_logprobs < 1:
            raise ArgumentError(f"top_logprobs: expected 1 or more, got {self.top_logprobs}")

    def __str__(self) -> str:
        """Say in a phrase how it was asked.

        >>> print(AskedChat("label", model="small", top_logprobs=20))
        asked small for a label, with 20 likely tokens; a function wrote the prompts
        """
        form = {"letter": "a letter", "label": "a label", "text": "text"}[self.answer]
        if self.top_logprobs is not None:
            form += f", with {self.top_logprobs} likely tokens"
        elif self.scale is not None and self.scale[0] == 0:
            form += ", without log-probabilities"
        prompt = "a function wrote the prompts"
        if self.prompt_sha256 is not None:
            prompt = f"prompt {self.prompt_sha256[:12]}..."
        model = self.model or self.reported or "the server's model"
        return f"asked {printable(model)} for {form}; {prompt}"


def template_sha256(prompt: Template) -> str:
    """Return the SHA-256 of a template, in hexadecimal: of a text in UTF-8, of messages as JSON in ASCII.

    That JSON has sorted keys and no spaces.
    """
    import hashlib

    text = prompt if isinstance(prompt, str) else json.dumps(list(prompt), separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def asked_dict(asked: AskedChat) -> dict[str, Any]:
    """Return how a generative model was asked, as it is in JSON."""
    return without_none(
        {
            "answer": asked.answer,
            "prompt": asked.prompt if asked.prompt is None or isinstance(asked.prompt, str) else list(asked.prompt),
            "prompt_sha256": asked.prompt_sha256,
            "model": asked.model,
            "reported": asked.reported or None,
            "top_logprobs": asked.top_logprobs,
            "scale": None if asked.scale is None else list(asked.scale),
            "fields": dict(asked.fields) or None,
        }
    )


def read_asked(found: Mapping[str, Any]) -> AskedChat:
    """Read how a generative model was asked from its JSON object."""
    prompt = found.get("prompt")
    if prompt is not None and not isinstance(prompt, str):
        prompt = tuple(dict(message) for message in prompt)
    texts = {name: None if found.get(name) is None else str(found[name]) for name in ("prompt_sha256", "model")}
    return AskedChat(
        answer=cast(AnswerForm, found["answer"]),
        prompt=prompt,
        reported=str(found.get("reported", "")),
        top_logprobs=None if found.get("top_logprobs") is None else int(found["top_logprobs"]),
        scale=None if found.get("scale") is None else two(found["scale"]),
        fields=dict(found.get("fields", {})),
        **texts,
    )
