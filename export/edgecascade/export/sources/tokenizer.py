"""The tokenizer of a Hugging Face text classifier: taken from its folder, and proved against transformers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper

from edgecascade.export.graph import open_model
from edgecascade.runtime.engine import Engine
from edgecascade.runtime.text import TextInput
from edgecascade.types.document import TextPreprocessing
from edgecascade.types.errors import ExportError

__all__ = [
    "LONGEST",
    "TOKENIZER",
    "Proved",
    "add_tokenizer",
    "load_tokenizer",
    "own_file",
    "pad_token",
    "reference_texts",
    "shortened",
    "token_limit",
    "with_padding",
]

TOKENIZER = "tokenizer.json"
LONGEST = 4096  # tokens: the attention of a longer text takes gigabytes
_LONG = 512  # tokens: longer reference texts are encoded, but not run
_TOLERANCE = 1e-3  # of the largest logit, between transformers and the graph
_SAME = 1e-4  # of the largest logit: more than float32 differs between batches
_PLAIN = ("", " ", "A", "Café, naïve: 3.14!", "one  two\n\tthree", "日本語 😀", "(e.g.) it's-a_test @home #1")
_ENCODED = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class Proved:
    """A graph and its tokenizer, which give what transformers gives on reference texts.

    Attributes:
        model: the graph, without inputs that the tokenizer does not make.
        content: of the file `tokenizer.json`.
        text: how to use it.
        singly: whether padding changes the scores, so that texts must be run one at a time.
        notes: sentences that the user should read.
    """

    model: ModelProto
    content: bytes
    text: TextPreprocessing
    singly: bool
    notes: tuple[str, ...]


def load_tokenizer(source: str, offline: bool, **options: Any) -> Any:
    """Return the tokenizer of a model, as transformers loads it.

    Args:
        source: a folder, or the name of a model on the hub.
        offline: whether nothing may be downloaded.
        options: others of `from_pretrained`.

    Raises:
        ExportError: the tokenizers library, which the device has, cannot run it.
    """
    import transformers

    loader: Any = transformers.AutoTokenizer
    found = loader.from_pretrained(source, local_files_only=offline, trust_remote_code=False, **options)
    if not found.is_fast:
        raise ExportError(
            f"source: expected a tokenizer of the tokenizers library, which the device has; {source!r} has one of the "
            f"class {type(found).__name__} without {TOKENIZER}"
        )
    return found


def pad_token(config: Any, tokenizer: Any) -> int | None:
    """Return the id that the model takes for padding, or None if neither model nor tokenizer has one."""
    own = getattr(config, "pad_token_id", None)
    found = tokenizer.pad_token_id if own is None else own
    return None if found is None else int(found)


def add_tokenizer(model: ModelProto, source: str, network: Any, tokenizer: Any, folder: Path) -> Proved:
    """Take the tokenizer of a text classifier for its exported graph, and prove both against transformers.

    The file is the classifier's own `tokenizer.json`, with the padding and truncation that transformers sets for each
    call. Reference texts are encoded with it and by transformers, and run alone and padded to one length.

    Args:
        model: the graph that optimum exported.
        source: a folder, or the name of a model on the hub.
        network: the transformers model that was exported, in float32.
        tokenizer: its tokenizer, from `load_tokenizer`.
        folder: a folder for the tokenizer while it is proved.

    Raises:
        ExportError: the graph takes what no tokenizer makes, or gives other scores than transformers.
    """
    model, names = _with_inputs_of(tokenizer, model)
    pad, limit, own = pad_token(network.config, tokenizer), token_limit(network, tokenizer), own_file(source)
    length = min(limit or LONGEST, LONGEST)
    content = with_padding(own or tokenizer.backend_tokenizer.to_str(), tokenizer, pad, length)
    (folder / TOKENIZER).write_bytes(content)
    text = TextPreprocessing(TOKENIZER, hashlib.sha256(content).hexdigest(), length, names)
    encoder = TextInput(folder / "model.onnx", text)
    texts = [one for one in reference_texts(tokenizer) if tokenizer(one).input_ids]
    longest = " ".join([max(texts, key=len)] * length)
    special = " ".join(["A", *tokenizer.all_special_tokens, "A"])
    difference, notes = _difference(encoder, tokenizer, [*texts, longest, special], length, pad), []
    if difference is not None and own is None:
        raise ExportError(f"source: the tokenizer of {source!r} cannot be exported: {difference}")
    if difference is not None:
        notes.append(f"{TOKENIZER} is used as it is in {source!r}, although transformers changes it: {difference}")
    if limit != length:
        allowed = "any number" if limit is None else limit
        notes.append(f"texts are truncated to {length} tokens, although the model allows {allowed}")
    if "token_type_ids" not in names and _uses_types(network, tokenizer, texts[0]):
        notes.append("texts have no token_type_ids here, although the tokenizer makes them and transformers uses them")
    network.config.pad_token_id = pad
    singly = _prove(open_model(model), network, encoder, texts, longest)
    return Proved(model, content, text, singly, tuple(notes))


def _with_inputs_of(tokenizer: Any, model: ModelProto) -> tuple[ModelProto, tuple[str, ...]]:
    """Return a graph whose inputs are all made by the tokenizer, and their names."""
    names = [one.name for one in model.graph.input]
    unknown = [name for name in names if name not in _ENCODED]
    if unknown:
        raise ExportError(f"source: expected a model whose inputs are among {', '.join(_ENCODED)}, got {unknown[0]!r}")
    if "token_type_ids" in names and "token_type_ids" not in tokenizer.model_input_names:
        names.remove("token_type_ids")
        model = _with_zeros(model, "token_type_ids")
    return model, tuple(names)


def own_file(source: str) -> str | None:
    """Return the text of the source's `tokenizer.json`, or None if it has only files of older tokenizers."""
    from transformers.utils.hub import cached_file

    found = cached_file(
        source, TOKENIZER, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )
    return None if found is None else Path(found).read_text(encoding="utf-8")


def with_padding(text: str, tokenizer: Any, pad: int | None, length: int, side: str | None = None) -> bytes:
    """Return a tokenizer file with the padding and truncation of a tokenizer of transformers, otherwise unchanged.

    Args:
        text: the content of the file.
        tokenizer: from transformers.
        pad: the id for padding, or None if the model has none.
        length: tokens; longer texts are truncated.
        side: `left` or `right`, where padding goes; None is the tokenizer's own side.
    """
    document = json.loads(text)
    token = None if pad is None else tokenizer.convert_ids_to_tokens(pad)
    document["padding"] = {
        "strategy": "BatchLongest",
        "direction": (side or tokenizer.padding_side).capitalize(),
        "pad_to_multiple_of": None,
        "pad_id": pad or 0,
        "pad_type_id": tokenizer.pad_token_type_id,
        "pad_token": token or "[PAD]",
    }
    document["truncation"] = {
        "direction": tokenizer.truncation_side.capitalize(),
        "max_length": length,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    return json.dumps(document, ensure_ascii=False).encode("utf-8")


def token_limit(network: Any, tokenizer: Any) -> int | None:
    """Return the number of tokens that the model's positions and its tokenizer both allow, or None if neither tells."""
    positions = [getattr(network.config, "max_position_embeddings", None), tokenizer.model_max_length]
    for name, module in network.named_modules():  # RoBERTa and its kin count positions from the one after padding
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            positions.append(module.num_embeddings - module.padding_idx - 1)
    known = [int(one) for one in positions if isinstance(one, (int, float)) and 0 < one < 1 << 30]
    return min(known, default=None)


def _with_zeros(model: ModelProto, name: str) -> ModelProto:
    """Return a copy in which an input is zeros [batch, tokens], as in transformers without that argument."""
    copy = ModelProto()
    copy.CopyFrom(model)
    (position,) = (i for i, one in enumerate(copy.graph.input) if one.name == name)
    del copy.graph.input[position]
    zero, shape = numpy_helper.from_array(np.zeros(1, np.int64)), f"{name}/shape"
    nodes = [
        helper.make_node("Shape", ["input_ids"], [shape], name=shape),
        helper.make_node("ConstantOfShape", [shape], [name], name=name, value=zero),
        *copy.graph.node,
    ]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def reference_texts(tokenizer: Any) -> list[str]:
    """Return words of the vocabulary in texts of several lengths, and texts of several scripts."""
    special = set(tokenizer.all_special_ids)
    ids = [i for i in np.linspace(0, len(tokenizer) - 1, 40).astype(int).tolist() if i not in special]
    words = " ".join(tokenizer.decode([i]).strip() for i in ids).split() or ["A"]
    return [*(" ".join(words[:n]) for n in (1, 2, 3, 5, 9, 17, 30)), *_PLAIN]


def _difference(encoder: TextInput, tokenizer: Any, texts: list[str], length: int, pad: int | None) -> str | None:
    """Return in words how transformers encodes a text otherwise, alone or padded with others; None if it does not."""
    together = [texts] if pad is not None and pad == tokenizer.pad_token_id else []
    for some in [*([one] for one in texts), *together]:
        ours = encoder.encode(some)
        theirs = tokenizer(some, padding=len(some) > 1, truncation=True, max_length=length)
        for name in (name for name in ours if name in theirs):
            for one, mine, other in zip(some, ours[name].tolist(), theirs[name], strict=True):
                if mine != other:
                    return f"{name} of {one[:40]!r} are {shortened(mine)}, in transformers {shortened(other)}"
    return None


def _uses_types(network: Any, tokenizer: Any, text: str) -> bool:
    """Return whether token types that the tokenizer makes would change the scores in transformers, as in GPT-2."""
    import torch

    if (
        "token_type_ids" not in tokenizer.model_input_names
        or "token_type_ids" not in signature(network.forward).parameters
    ):
        return False
    tokens = dict(tokenizer(text, return_tensors="pt"))
    with torch.no_grad():
        typed = network(**tokens).logits
        del tokens["token_type_ids"]
        return not torch.allclose(typed, network(**tokens).logits)


def shortened(ids: list[int]) -> str:
    """Return ids as text, of which a long row has its beginning only."""
    return str(ids) if len(ids) <= 12 else f"{str(ids[:12])[:-1]}, ...]"


def _prove(session: Engine, network: Any, encoder: TextInput, texts: list[str], longest: str) -> bool:
    """Compare a graph with transformers on texts, alone and padded, and return whether padding changes the scores."""
    scores = _check(session, network, [encoder.encode([one]) for one in texts], "alone")
    tokens = encoder.encode([longest])
    if tokens["input_ids"].size <= _LONG:
        _check(session, network, [tokens], "of the largest length")
    if network.config.pad_token_id is None:  # transformers refuses to pad for such a model
        return True
    padded = _check(session, network, [encoder.encode(texts)], "padded to one length")
    return bool(np.abs(padded - scores).max() > _SAME * max(1.0, float(np.abs(scores).max())))


def _check(
    session: Engine, network: Any, batches: Sequence[Mapping[str, NDArray[np.int64]]], how: str
) -> NDArray[np.float32]:
    """Return the graph's logits [n, classes] of encoded texts, after comparing them with those of transformers."""
    import torch

    ours, theirs = [], []
    for tokens in batches:
        ours.append(session.run(["logits"], tokens)[0])
        with torch.no_grad():
            found = network(**{name: torch.from_numpy(array) for name, array in tokens.items()})
        theirs.append(found.logits.numpy())
    got, wanted = np.concatenate(ours), np.concatenate(theirs)
    difference = float(np.abs(got - wanted).max())
    if not difference <= _TOLERANCE * max(1.0, float(np.abs(wanted).max())):
        raise ExportError(
            f"source: the exported graph differs from transformers by {difference:.2g} in a logit of reference texts "
            f"{how}"
        )
    return np.asarray(got, np.float32)
