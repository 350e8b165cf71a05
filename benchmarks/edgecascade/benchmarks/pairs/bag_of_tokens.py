"""A language detector for the device: a bag of byte-level BPE tokens (Sennrich et al., 2016), trained here in seconds.

As in fastText (Joulin et al., 2017), the token vectors are summed and one linear layer classifies the sum. Tokens and
weights are learned from the training sentences only, with numpy and scipy alone.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgecascade.benchmarks.cache import once
from edgecascade.benchmarks.progress import counting
from edgecascade.calibration import softmax
from edgecascade.export import LabelledData, save_model
from edgecascade.export.sources import TOKENIZER
from edgecascade.types.document import LABELS_KEY, PREPROCESSING_KEY

__all__ = ["language_body"]

_TOKENS, _WIDTH = 4000, 16
_LENGTH = 32  # tokens: one snippet in 500 has more
_EPOCHS, _BATCH, _PEAK, _DROPOUT = 4, 256, 0.02, 0.1
_SEED = 2601
_PADDING = 0

Weights = dict[str, NDArray[np.float32]]


def language_body(train: LabelledData, folder: Path) -> Path:
    """Return the detector as ONNX from tokens to logits, its tokenizer beside it; train it the first time.

    Its metadata describes how sentences become tokens, so that a cascade model made of it takes sentences.
    """
    tokenizer = once(folder / TOKENIZER, lambda part: _tokenizer(train).save(str(part)))
    return once(folder / "body.onnx", lambda part: _write(train, tokenizer, part))


def _tokenizer(train: LabelledData) -> Any:
    """Train byte-level tokens, which leave no character unknown; all inputs have one length, alone or in a batch."""
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
    model = _graph(_train(tokens, train.labels, len(train.names)))
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


def _graph(weights: Weights) -> ModelProto:
    """Return the sum of the token vectors, over the square root of their number, and the linear layer."""
    constants = {**weights, "padding": np.int64(_PADDING), "axis": np.array([1], np.int64), "one": np.float32(1)}
    nodes = [
        helper.make_node("Gather", ["vectors", "input_ids"], ["gathered"]),
        helper.make_node("ReduceSum", ["gathered", "axis"], ["sum"], keepdims=0),
        helper.make_node("Equal", ["input_ids", "padding"], ["is_padding"]),
        helper.make_node("Not", ["is_padding"], ["is_token"]),
        helper.make_node("Cast", ["is_token"], ["ones"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["ones", "axis"], ["count"], keepdims=1),
        helper.make_node("Max", ["count", "one"], ["tokens"]),
        helper.make_node("Sqrt", ["tokens"], ["root"]),
        helper.make_node("Div", ["sum", "root"], ["scaled"]),
        helper.make_node("Gemm", ["scaled", "weight", "bias"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "bag of tokens",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", _LENGTH])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(weights["bias"])])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _train(tokens: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> Weights:
    """Train with Adam on a one-cycle schedule; every language has the same weight, however long its sentences are."""
    rng = np.random.default_rng(_SEED)
    bag, n, bound = _bag(tokens), len(labels), 1 / math.sqrt(_WIDTH)
    weights: Weights = {
        "vectors": rng.normal(size=(_TOKENS, _WIDTH)).astype(np.float32),
        "weight": rng.uniform(-bound, bound, (classes, _WIDTH)).astype(np.float32),
        "bias": rng.uniform(-bound, bound, classes).astype(np.float32),
    }
    weights["vectors"][_PADDING] = 0
    share = (1 / np.bincount(labels, minlength=classes).clip(1)).astype(np.float32)
    adam = _Adam(weights, steps=-(-n // _BATCH) * _EPOCHS)
    with counting("training the detector", _EPOCHS * n) as done:
        for _ in range(_EPOCHS):
            order = rng.permutation(n)
            shuffled, wanted = bag[order], labels[order]
            for start in range(0, n, _BATCH):
                rows = slice(start, min(start + _BATCH, n))
                adam.step(_gradients(weights, shuffled[rows], wanted[rows], share, rng))
                done(rows.stop - start)
    return weights


def _bag(tokens: NDArray[np.int64]) -> Any:
    """Return a sparse matrix float32 [n, tokens]: how often each token occurs, over the square root of all."""
    from scipy.sparse import csr_matrix

    row, column = np.nonzero(tokens != _PADDING)
    scale = (1 / np.sqrt(np.bincount(row, minlength=len(tokens)).clip(1))).astype(np.float32)
    return csr_matrix((scale[row], (row, tokens[row, column])), shape=(len(tokens), _TOKENS))


def _gradients(
    weights: Weights, bag: Any, labels: NDArray[np.int64], share: NDArray[np.float32], rng: np.random.Generator
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the gradients of the weighted cross entropy, with dropout on the sums."""
    sums = bag @ weights["vectors"]
    mask = (rng.random(sums.shape, np.float32) >= _DROPOUT) / np.float32(1 - _DROPOUT)
    dropped = sums * mask
    gradient = softmax(dropped @ weights["weight"].T + weights["bias"])
    gradient[np.arange(len(labels)), labels] -= 1
    gradient *= (share[labels] / share[labels].sum())[:, None]
    yield "bias", gradient.sum(axis=0)
    yield "vectors", bag.T @ (gradient @ weights["weight"] * mask)
    yield "weight", gradient.T @ dropped


class _Adam:
    """Adam (Kingma and Ba, 2015) with a one-cycle rate (Smith and Topin, 2018); it changes the weights in place."""

    def __init__(self, weights: Weights, steps: int) -> None:
        self._weights, self._steps, self._step = weights, steps, 0
        self._first = {name: np.zeros_like(value) for name, value in weights.items()}
        self._second = {name: np.zeros_like(value) for name, value in weights.items()}

    def step(self, gradients: Iterator[tuple[str, NDArray[np.float32]]]) -> None:
        rate = self._rate()
        self._step += 1
        found = dict(gradients)
        corrections = (1 - 0.9**self._step, 1 - 0.999**self._step)
        for name, gradient in found.items():
            first, second = self._first[name], self._second[name]
            first += 0.1 * (gradient - first)
            second += 0.001 * (gradient * gradient - second)
            self._weights[name] -= rate / corrections[0] * first / (np.sqrt(second / corrections[1]) + 1e-8)

    def _rate(self) -> np.float32:
        """Return the rate: up to the peak by a cosine for 30 % of the steps, and down again."""
        top = 0.3 * self._steps - 1
        if self._step <= top:
            low, share = _PEAK / 25, self._step / top
        else:
            low, share = _PEAK / 25e4, 1 - (self._step - top) / (self._steps - 1 - top)
        return np.float32(low + (_PEAK - low) * (1 - math.cos(math.pi * share)) / 2)
