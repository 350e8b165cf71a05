"""A causal language model as a classifier: one forward pass over a prompt scores each answer by its first token.

The head is reduced to the rows of the output matrix for those tokens. The graph has the weights of the model itself,
whatever its architecture, and pads on either side.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgecascade.export.graph import open_model, set_first_sides
from edgecascade.export.sources.hugging_face import HuggingFaceBody
from edgecascade.export.sources.prompt import (
    Answer,
    Prompt,
    answer_tokens,
    encode_whole,
    read_answers,
    read_prompt,
    with_template,
)
from edgecascade.export.sources.tokenizer import (
    LONGEST,
    TOKENIZER,
    load_tokenizer,
    own_file,
    pad_token,
    reference_texts,
    shortened,
    token_limit,
    with_padding,
)
from edgecascade.export.sources.torch_module import export_torch, quiet
from edgecascade.runtime.engine import Engine
from edgecascade.runtime.text import TextInput
from edgecascade.types.document import LABELS_KEY, PREPROCESSING_KEY, PROMPT_KEY, TextPreprocessing, preprocessing_dict
from edgecascade.types.errors import ExportError, ParityError, first_line
from edgecascade.types.extras import naming_extras

__all__ = ["GGUF", "export_causal"]

GGUF = ".gguf"
_LOGGERS = ("transformers", "torch", "accelerate")
_LEAST_ROOM = 16  # tokens for the input, beside the prompt
_PROVED = 8  # reference texts that both models run on
_TOLERANCE = 1e-3  # of the largest logit, between transformers and the graph
_SAME = 1e-4  # of the largest logit: more than float32 differs between batches


def export_causal(
    source: str, answers: str | os.PathLike[str], prompt: str | os.PathLike[str], *, chat: bool = False
) -> HuggingFaceBody:
    """Export a causal language model that answers one prompt, as a classifier of texts.

    Args:
        source: a folder that `save_pretrained` wrote or a GGUF file (nothing is downloaded then), or the name of a
            model on the hub. A GGUF file is read in float32.
        answers: a file for `read_answers`.
        prompt: a file for `read_prompt`.
        chat: as `read_prompt` takes it.

    Returns:
        The body, with logits [batch, answers], and its tokenizer, whose template is the prompt.

    Raises:
        ExportError: there is no such model, prompt and answers do not fit it, or it cannot be exported.
        ParityError: the graph gives other scores than transformers.
        ModuleNotFoundError: the `hf` extra is not installed.
    """
    texts = read_answers(answers)
    offline = Path(source).exists()
    place: dict[str, Any] = {}
    if source.endswith(GGUF):
        if not offline:
            raise ExportError(f"source: expected a GGUF file, got no such file: {source}")
        place = {"gguf_file": Path(source).name}
    name = str(Path(source).parent) if place else source
    with quiet(*_LOGGERS), naming_extras():
        from transformers import AutoModelForCausalLM

        if place:
            import accelerate  # noqa: F401  # transformers needs both for GGUF files
            import gguf  # noqa: F401
    with quiet(*_LOGGERS), tempfile.TemporaryDirectory() as folder:
        try:
            tokenizer = load_tokenizer(name, offline, **place)
            asked = read_prompt(prompt, tokenizer, chat)
            asked = replace(asked, special=asked.special and not (place and _without_bos(source)))
            found = answer_tokens(texts, asked, tokenizer)
            load: Any = AutoModelForCausalLM.from_pretrained
            network = load(
                name,
                local_files_only=offline,
                trust_remote_code=False,
                dtype="float32",
                attn_implementation="eager",
                **place,
            ).eval()
            text, content, notes = _tokenizer(network, tokenizer, None if place else own_file(name), asked)
            (Path(folder) / TOKENIZER).write_bytes(content)
            encoder = TextInput(Path(folder) / "model.onnx", text)
            model = _exported(network, encoder, tokenizer, found)
        except (ExportError, ParityError, ModuleNotFoundError):
            raise
        except Exception as error:  # transformers raises whatever its parts raise
            raise ExportError(f"source: cannot export {source!r}: {first_line(error)[:200]}") from error
    described = {"prompt": asked.around("{input}"), "answers": {one.label: one.text for one in found}}
    model.metadata_props.add(key=PREPROCESSING_KEY, value=json.dumps(preprocessing_dict(text)))
    model.metadata_props.add(key=LABELS_KEY, value=json.dumps([one.label for one in found], ensure_ascii=False))
    model.metadata_props.add(key=PROMPT_KEY, value=json.dumps(described, ensure_ascii=False))
    return HuggingFaceBody(model, content, (*_described(found, tokenizer), *notes))


def _described(answers: Sequence[Answer], tokenizer: Any) -> list[str]:
    longer = [one for one in answers if len(one.tokens) > 1]
    if not longer:
        return []
    shown = ", ".join(f"{one.text!r} by {tokenizer.decode([one.tokens[0]])!r}" for one in longer[:5])
    more = f" and {len(longer) - 5} more" if len(longer) > 5 else ""
    return [f"answers of several tokens are scored by the first, which no two share: {shown}{more}"]


def _without_bos(path: str) -> bool:
    """Return whether a GGUF file says that no special token begins a text, which transformers does not read."""
    from gguf import GGUFReader

    field = GGUFReader(path).get_field("tokenizer.ggml.add_bos_token")
    return field is not None and not field.contents()


def _tokenizer(
    network: Any, tokenizer: Any, own: str | None, prompt: Prompt
) -> tuple[TextPreprocessing, bytes, list[str]]:
    """Return how a file encodes texts, its content, and notes, after comparing it with transformers."""
    limit = token_limit(network, tokenizer)
    length = min(limit or LONGEST, LONGEST)
    text, before, after = with_template(own or tokenizer.backend_tokenizer.to_str(), prompt, tokenizer)
    if length - len(before) - len(after) < _LEAST_ROOM:
        raise ExportError(
            f"--prompt: expected a prompt that leaves room for {_LEAST_ROOM} tokens of input among the {length} of the "
            f"model, got one of {len(before) + len(after)} tokens"
        )
    content = with_padding(text, tokenizer, pad_token(network.config, tokenizer), length, "right")
    found = TextPreprocessing(TOKENIZER, hashlib.sha256(content).hexdigest(), length, ("input_ids", "attention_mask"))
    notes = []
    if limit != length:
        allowed = "any number" if limit is None else limit
        notes.append(f"texts are truncated to {length} tokens with the prompt, although the model allows {allowed}")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / TOKENIZER).write_bytes(content)
        encoder = TextInput(Path(folder) / "model.onnx", found)
    texts = [one for one in reference_texts(tokenizer) if one]
    other = [(one, ours) for one in texts if (ours := _ids(encoder, one)) != encode_whole(prompt, one, tokenizer)]
    if other:
        one, ours = other[0]
        notes.append(
            f"prompt and text are encoded one after the other; transformers encodes {len(other)} of {len(texts)} "
            f"reference texts otherwise in one piece with the prompt, such as {one[:20]!r}: "
            f"{_differing(ours, encode_whole(prompt, one, tokenizer))}"
        )
    return found, content, notes


def _ids(encoder: TextInput, text: str) -> list[int]:
    ids: list[int] = encoder.encode([text])["input_ids"][0].tolist()
    return ids


def _differing(ours: list[int], theirs: list[int]) -> str:
    """Return the ids that differ between two rows, in words."""
    start = next((i for i, (one, other) in enumerate(zip(ours, theirs, strict=False)) if one != other), 0)
    end = next((i for i, (one, other) in enumerate(zip(ours[::-1], theirs[::-1], strict=False)) if one != other), 0)
    parts = [shortened(ids[start : max(start, len(ids) - end)]) for ids in (ours, theirs)]
    return f"{parts[0]} for {parts[1]}"


def _exported(network: Any, encoder: TextInput, tokenizer: Any, answers: Sequence[Answer]) -> ModelProto:
    """Return the graph of a model with the answers as its only outputs, proved on reference texts."""
    rows = [one.tokens[0] for one in answers]
    texts = [one for one in reference_texts(tokenizer) if one.strip()][-_PROVED:]
    expected = _scores(network, [encoder.encode([one]) for one in texts])[:, rows]
    example = encoder.encode(texts[:3])
    module = _with_answers(network, rows)
    model = export_torch(module, example, sides=("batch", "tokens"))
    session = open_model(model)
    alone = np.concatenate([_run(session, encoder.encode([one])) for one in texts])
    largest, difference = max(1.0, float(np.abs(expected).max())), float(np.abs(alone - expected).max())
    if not difference <= _TOLERANCE * largest:
        raise ParityError(
            f"source: the exported graph differs from transformers by {difference:.2g} in a logit of reference texts; "
            "nothing was written"
        )
    padded = _run(session, encoder.encode(texts))
    singly = not np.abs(padded - alone).max() <= _SAME * largest
    return set_first_sides(model, dict.fromkeys(example, 1)) if singly else model


def _scores(network: Any, batches: Sequence[Mapping[str, NDArray[np.int64]]]) -> NDArray[np.float32]:
    """Return the logits [n, vocabulary] of a model of transformers for the token after each text."""
    import torch

    with torch.no_grad():
        found = [
            network(input_ids=torch.from_numpy(one["input_ids"]), use_cache=False).logits[:, -1].numpy()
            for one in batches
        ]
    return np.concatenate(found)


def _run(session: Engine, tokens: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
    scores: NDArray[np.float32] = session.run(["logits"], tokens)[0]
    return scores


def _with_answers(network: Any, rows: Sequence[int]) -> Any:
    """Return a module that gives the logits [batch, answers] after the last token of each text.

    The model keeps everything that it does to its logits, such as a scale or a bound.

    Args:
        network: a causal language model, whose head is replaced.
        rows: of its output matrix.
    """
    import torch

    head = network.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        raise ExportError(
            f"source: expected a model whose head is one matrix of a row per token, got one with "
            f"{type(head).__name__} as its head"
        )
    small = torch.nn.Linear(head.in_features, len(rows), bias=head.bias is not None)
    with torch.no_grad():
        small.weight.copy_(head.weight[list(rows)])
        if head.bias is not None:
            small.bias.copy_(head.bias[list(rows)])
    network.set_output_embeddings(small)
    numbered = "position_ids" in signature(network.forward).parameters

    class Answers(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            positions = torch.arange(1, input_ids.shape[1] + 1)
            last = (attention_mask * positions).amax(dim=1) - 1
            options = {"position_ids": (attention_mask.cumsum(1) - 1).clamp(min=0)} if numbered else {}
            scores = self.network(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **options).logits
            return scores[torch.arange(scores.shape[0]), last]

    return Answers().eval()
