"""A language detector for the device: a bag of byte-level BPE tokens (Sennrich et al., 2016), trained here in seconds.

As in fastText (Joulin et al., 2017), the token vectors are summed and one linear layer classifies the sum. The
tokenizer learns its tokens, and the model its weights, from the training sentences only.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecascade.benchmarks.progress import counting
from edgecascade.export import LabelledData, export_torch, save_model
from edgecascade.export.cache import once
from edgecascade.export.hugging_face import TOKENIZER
from edgecascade.types.document import LABELS_KEY, PREPROCESSING_KEY

if TYPE_CHECKING:
    import torch

__all__ = ["language_body"]

_TOKENS, _WIDTH = 4000, 16
_LENGTH = 32  # tokens: of 500 snippets one has more
_EPOCHS, _BATCH, _PEAK, _DROPOUT = 4, 256, 0.02, 0.1
_SEED = 2601
_PADDING = 0


def language_body(train: LabelledData, folder: Path) -> Path:
    """The detector as ONNX from tokens to logits, its tokenizer beside it; trained if that was not done yet.

    Its metadata says how sentences become tokens, so that a cascade model made of it takes sentences.
    """
    tokenizer = once(folder / TOKENIZER, lambda part: _tokenizer(train).save(str(part)))
    return once(folder / "body.onnx", lambda part: _write(train, tokenizer, part))


def _tokenizer(train: LabelledData) -> Any:
    """Tokens of bytes, so that no character is unknown; one length for all, so that a batch changes nothing."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\d"), "0")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=_TOKENS,
        min_frequency=2,
        special_tokens=["<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(np.asarray(train.inputs).tolist(), trainer)
    tokenizer.enable_truncation(_LENGTH)
    tokenizer.enable_padding(length=_LENGTH, pad_id=_PADDING, pad_token="<pad>")
    return tokenizer


def _write(train: LabelledData, tokenizer: Path, part: Path) -> None:
    from tokenizers import Tokenizer

    encoded = Tokenizer.from_file(str(tokenizer)).encode_batch(np.asarray(train.inputs).tolist())
    tokens = np.array([one.ids for one in encoded], np.int64)
    model = export_torch(_train(tokens, train), {"input_ids": tokens[:_BATCH]})
    text = {
        "kind": "text",
        "tokenizer": tokenizer.name,
        "sha256": hashlib.sha256(tokenizer.read_bytes()).hexdigest(),
        "max_length": _LENGTH,
        "inputs": ["input_ids"],
    }
    model.metadata_props.add(key=PREPROCESSING_KEY, value=json.dumps(text))
    model.metadata_props.add(key=LABELS_KEY, value=json.dumps(train.names))
    save_model(model, part)


def _module(classes: int) -> torch.nn.Module:
    """From tokens [n, length] to logits [n, classes]."""
    import torch

    class Bag(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vectors = torch.nn.Embedding(_TOKENS, _WIDTH, padding_idx=_PADDING)
            self.dropout = torch.nn.Dropout(_DROPOUT)
            self.head = torch.nn.Linear(_WIDTH, classes)

        def forward(self, input_ids: torch.Tensor) -> Any:
            tokens = (input_ids != _PADDING).sum(1, keepdim=True).clamp(min=1)
            return self.head(self.dropout(self.vectors(input_ids).sum(1) / tokens.sqrt()))

    return Bag()


def _train(tokens: np.ndarray[Any, np.dtype[np.int64]], train: LabelledData) -> torch.nn.Module:
    """Every language weighs the same, as in the test, however long its sentences are."""
    import torch

    torch.manual_seed(_SEED)
    torch.set_num_threads(1)  # sums in one order: the same weights each time
    module = _module(len(train.names))
    inputs, labels = torch.from_numpy(tokens), torch.from_numpy(train.labels)
    weights = torch.from_numpy(1 / np.bincount(train.labels, minlength=len(train.names)).clip(1)).float()
    steps = -(-len(labels) // _BATCH) * _EPOCHS
    optimizer = torch.optim.Adam(module.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _PEAK, total_steps=steps)
    with counting("training the detector", _EPOCHS * len(labels)) as done:
        for _ in range(_EPOCHS):
            for rows in torch.split(torch.randperm(len(labels)), _BATCH):
                optimizer.zero_grad()
                loss: Any = torch.nn.functional.cross_entropy(module(inputs[rows]), labels[rows], weights)
                loss.backward()
                optimizer.step()
                schedule.step()
                done(len(rows))
    return module.eval()
