"""A prompt around the input, as the template of a tokenizer file; and the tokens that answers to it begin with.

Every binding of the tokenizers library then makes the whole prompt of the input alone. Truncation shortens the input,
never the prompt. The input has no special tokens: text that spells one, such as `<|im_end|>`, stays text.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecascade.types.errors import ExportError, first_line

__all__ = ["PLACEHOLDER", "Answer", "Prompt", "answer_tokens", "read_answers", "read_prompt", "with_template"]

PLACEHOLDER = "{input}"
_WORDS = ("A", "the", "7", "Zebra", "go", "quite well", "B 2", "it is")  # no two begin, or end, with the same token
_DICTIONARIES = ("BPE", "WordLevel", "WordPiece")  # models whose vocabulary is an object of ids by token


@dataclass(frozen=True)
class Prompt:
    """What the model reads before the input and after it.

    Attributes:
        before: text before the input.
        after: text after it.
        special: whether the tokenizer's own special tokens come first, as for plain text; a chat template has its own.
    """

    before: str
    after: str
    special: bool

    def around(self, text: str) -> str:
        """Return the whole prompt of a text."""
        return f"{self.before}{text}{self.after}"


@dataclass(frozen=True)
class Answer:
    """An answer as the model would generate it.

    Attributes:
        label: the name of its class.
        text: what follows the prompt.
        tokens: its ids there.
    """

    label: str
    text: str
    tokens: tuple[int, ...]


def read_prompt(path: str | os.PathLike[str], tokenizer: Any, chat: bool = False) -> Prompt:
    """Read a prompt with the placeholder `{input}`.

    Args:
        path: a text, of which the last end of line is not part; or a JSON list of turns (`role`, `content`), one of
            which has the placeholder.
        tokenizer: of the model, from transformers; its chat template formats turns.
        chat: whether a text is what a user says in a chat; turns always are a chat.

    Raises:
        ExportError: it cannot be read, does not have the placeholder once, or the model has no chat template.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        turns = json.loads(text) if str(path).endswith(".json") else None
    except (OSError, ValueError, RecursionError) as error:
        raise ExportError(f"--prompt: cannot read {path}: {first_line(error)}") from error
    text = text.removesuffix("\n").removesuffix("\r")
    if turns is None and chat:
        turns = [{"role": "user", "content": text}]
    if turns is not None:
        text = _formatted(turns, tokenizer, path)
    if text.count(PLACEHOLDER) != 1:
        raise ExportError(
            f"--prompt: expected {PLACEHOLDER} once, where the text to classify goes, in {path}, got it "
            f"{text.count(PLACEHOLDER)} times"
        )
    before, _, after = text.partition(PLACEHOLDER)
    return Prompt(before, after, special=turns is None)


def _formatted(turns: Any, tokenizer: Any, path: str | os.PathLike[str]) -> str:
    """Return turns in the chat template of a tokenizer, up to where the reply begins."""
    fields = {"role", "content"}
    if not isinstance(turns, list) or not all(isinstance(one, Mapping) and one.keys() == fields for one in turns):
        raise ExportError(f"--prompt: expected a list of turns, each with role and content, in {path}")
    if not tokenizer.chat_template:
        raise ExportError("--prompt: expected a model with a chat template for turns or --chat, got one without")
    try:
        return str(
            tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, enable_thinking=False)
        )
    except Exception as error:  # jinja, and templates themselves, raise their own
        raise ExportError(f"--prompt: the chat template of the model refuses {path}: {first_line(error)}") from error


def read_answers(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read the answers by label: a JSON object of texts, or a list of texts, whose labels are the texts without spaces.

    Raises:
        ExportError: the file is no such thing, or has fewer than two answers, an empty one, or one label twice.
    """
    try:
        said = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ExportError(f"--answers: cannot read {path}: {first_line(error)}") from error
    pairs = list(said.items()) if isinstance(said, dict) else [(_label(one), one) for one in _listed(said)]
    if len(pairs) < 2 or not all(isinstance(text, str) and text and label for label, text in pairs):
        raise ExportError(
            f"--answers: expected two or more answers as the model would write them, a JSON object by label or a "
            f"list, in {path}"
        )
    twice = next((label for i, (label, _) in enumerate(pairs) if label in dict(pairs[:i])), None)
    if twice is not None:
        raise ExportError(f"--answers: expected every label once in {path}, got {twice!r} twice")
    return dict(pairs)


def _listed(said: Any) -> list[Any]:
    return said if isinstance(said, list) else []


def _label(text: Any) -> str:
    return text.strip() if isinstance(text, str) else ""


def answer_tokens(answers: Mapping[str, str], prompt: Prompt, tokenizer: Any) -> tuple[Answer, ...]:
    """Return the answers with their tokens, as they follow the prompt.

    Raises:
        ExportError: an answer changes the tokens of the prompt before it, or two answers begin with the same token.
    """
    found: list[Answer] = []
    for label, text in answers.items():
        tokens = {_following(prompt, word, text, tokenizer) for word in _WORDS[:2]}
        following = tokens.pop() if len(tokens) == 1 else None
        if not following:
            raise ExportError(
                f"--answers: expected an answer that follows the prompt as a token of its own, got {text!r} for "
                f"{label!r}, which joins the end of the prompt; put the space between them where the model writes it, "
                "usually at the beginning of the answer"
            )
        found.append(Answer(label, text, following))
    for i, one in enumerate(found):
        same = next((other for other in found[:i] if other.tokens[0] == one.tokens[0]), None)
        if same is not None:
            raise ExportError(
                f"--answers: expected answers that begin with different tokens, got {same.text!r} ({same.label}) and "
                f"{one.text!r} ({one.label}), which both begin with "
                f"{tokenizer.decode([one.tokens[0]])!r}; reword one of them"
            )
    return tuple(found)


def _following(prompt: Prompt, word: str, text: str, tokenizer: Any) -> tuple[int, ...] | None:
    """Return the tokens of an answer after the prompt of a word; None if it changes those of the prompt."""
    asked, answered = (_ids(tokenizer, prompt.around(word) + end) for end in ("", text))
    return tuple(answered[len(asked) :]) if answered[: len(asked)] == asked else None


def with_template(text: str, prompt: Prompt, tokenizer: Any) -> tuple[str, list[int], list[int]]:
    """Return a tokenizer file whose template is a prompt, and the prompt's ids before and after the input.

    The ids are those of the whole prompt of simple words, where one template gives them for all of these words: a space
    before the input may then become part of its first token, as in running text. Otherwise the texts before and after
    the input are encoded alone.

    Args:
        text: the content of the model's `tokenizer.json`.
        prompt: from `read_prompt`.
        tokenizer: of the model, from transformers.
    """
    from tokenizers import Tokenizer

    whole = {word: encode_whole(prompt, word, tokenizer) for word in _WORDS}
    before, after = _common(list(whole.values())), _common([ids[::-1] for ids in whole.values()])[::-1]
    alone = [*_leading(prompt, tokenizer), *_ids(tokenizer, prompt.before)], _ids(tokenizer, prompt.after)
    space = prompt.before[len(prompt.before.rstrip()) :]
    plain = _without_special(json.loads(text), tokenizer)
    for document in (plain, *([_prepending(space, plain)] if space else []), _joined(plain)):
        bare = Tokenizer.from_str(json.dumps({**document, "post_processor": None, "truncation": None}))
        if all([*before, *bare.encode(word).ids, *after] == ids for word, ids in whole.items()):
            return _templated(document, before, after, tokenizer), before, after
    return _templated(plain, *alone, tokenizer), *alone


def encode_whole(prompt: Prompt, text: str, tokenizer: Any) -> list[int]:
    """Return the ids of a prompt with a text in it, as transformers encodes it in one piece."""
    return [*_leading(prompt, tokenizer), *_ids(tokenizer, prompt.around(text))]


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def _leading(prompt: Prompt, tokenizer: Any) -> list[int]:
    """Return the special tokens that a tokenizer puts before a text; those after it would end the text."""
    if not prompt.special:
        return []
    plain, framed = _ids(tokenizer, "A"), list(tokenizer("A").input_ids)
    starts = (i for i in range(len(framed)) if framed[i : i + len(plain)] == plain)
    return framed[: next(starts, 0)]


def _common(rows: Sequence[Sequence[int]]) -> list[int]:
    """Return the ids that all rows begin with."""
    shortest = min(rows, key=len)
    end = next((i for i, one in enumerate(shortest) if any(row[i] != one for row in rows)), len(shortest))
    return list(shortest[:end])


def _prepending(space: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tokenizer that puts a space before every text."""
    own = document.get("normalizer")
    steps = [{"type": "Prepend", "prepend": space}, *([own] if own else [])]
    return {**document, "normalizer": {"type": "Sequence", "normalizers": steps}}


def _joined(document: Any) -> Any:
    """Return a tokenizer, or a part of one, that puts no space before a text, as those of SentencePiece do."""
    if isinstance(document, list):
        return [_joined(one) for one in document if not (isinstance(one, Mapping) and one.get("type") == "Prepend")]
    if not isinstance(document, Mapping):
        return document
    changed = {**document}
    if document.get("type") == "Metaspace":
        changed["prepend_scheme"] = "never"
    for name in ("normalizer", "pre_tokenizer", "normalizers", "pretokenizers"):
        if name in document:
            (changed[name],) = _joined([document[name]]) or [None]
    return changed


def _without_special(document: Mapping[str, Any], tokenizer: Any) -> dict[str, Any]:
    """Return a tokenizer that reads no special token in a text; their ids, and those of the others, stay."""
    model, added = dict(document["model"]), document.get("added_tokens") or []
    if model.get("type") not in _DICTIONARIES:
        return dict(document)
    model["vocab"] = {**model["vocab"], **{one["content"]: one["id"] for one in added}}
    special = set(tokenizer.all_special_tokens)
    kept = [one for one in added if not one["special"] and one["content"] not in special]
    return {**document, "model": model, "added_tokens": kept}


def _templated(document: Mapping[str, Any], before: list[int], after: list[int], tokenizer: Any) -> str:
    """Return a tokenizer file whose template puts ids before and after the input."""
    tokens = {one: str(tokenizer.convert_ids_to_tokens(one)) for one in {*before, *after}}

    def pieces(ids: list[int]) -> list[dict[str, Any]]:
        return [{"SpecialToken": {"id": tokens[one], "type_id": 0}} for one in ids]

    single = [*pieces(before), {"Sequence": {"id": "A", "type_id": 0}}, *pieces(after)]
    template = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {name: {"id": name, "ids": [one], "tokens": [name]} for one, name in tokens.items()},
    }
    return json.dumps({**document, "post_processor": template}, ensure_ascii=False)
