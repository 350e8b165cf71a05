"""Encode sentences as the token arrays that a text model takes, with the tokenizer that it was trained with."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.engine import Engine, read_properties
from edgecascade.types.document import PREPROCESSING_KEY, TextPreprocessing, read_preprocessing
from edgecascade.types.errors import InputError, ModelFileError
from edgecascade.types.extras import naming_extras

__all__ = ["TextInput", "text_input"]

_LARGEST = 1 << 26  # bytes: above any real tokenizer
_GIVEN = ("input_ids", "attention_mask", "token_type_ids")


class TextInput:
    """A tokenizer file in the folder of the model file, which holds its hash.

    Args:
        path: the model file.
        preprocessing: the tokenizer and how to use it, from its metadata.

    Attributes:
        name: of the tokenizer file.
        content: its bytes.

    Raises:
        ModelFileError: the tokenizer is missing, damaged, or not the one that the file names.
        ModuleNotFoundError: the `text` extra (tokenizers) is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], preprocessing: TextPreprocessing) -> None:
        with naming_extras():
            from tokenizers import Tokenizer

        file = Path(path).parent / Path(preprocessing.tokenizer).name
        if not file.is_file() or file.stat().st_size > _LARGEST:
            raise ModelFileError(f"{path}: expected its tokenizer {file.name} in the same folder, got no such file")
        content = file.read_bytes()
        self.name, self.content = file.name, content
        if hashlib.sha256(content).hexdigest() != preprocessing.sha256:
            raise ModelFileError(
                f"{path}: expected the tokenizer that it was exported with, got {file.name} with another SHA-256"
            )
        try:
            self._tokenizer = Tokenizer.from_str(content.decode("utf-8"))
            cut = self._tokenizer.truncation
            self._tokenizer.enable_truncation(preprocessing.max_length, direction=cut["direction"] if cut else "right")
        except Exception as error:  # tokenizers raises bare Exceptions
            raise ModelFileError(f"{path}: {file.name} is not a tokenizer: {error}") from error
        if self._tokenizer.padding is None:
            self._tokenizer.enable_padding()
        self._inputs = preprocessing.inputs
        if unknown := [name for name in self._inputs if name not in _GIVEN]:
            raise ModelFileError(f"{path}: expected its tokens as {', '.join(_GIVEN)}, got {', '.join(unknown)}")

    def encode(self, sentences: Sequence[str]) -> dict[str, NDArray[np.int64]]:
        """Return token arrays int64 [n, longest] by input name, padded to the longest sentence.

        Raises:
            InputError: one of them is not text, holds half of a surrogate pair, or gives no token.
        """
        encoded = self._tokenizer.encode_batch([_checked(sentence) for sentence in sentences])
        masks = [one.attention_mask for one in encoded]
        for mask, sentence in zip(masks, sentences, strict=True):
            if not any(mask):
                raise InputError(f"x: expected text with at least one token, got {str(sentence)[:40]!r}")
        arrays = {
            "input_ids": [one.ids for one in encoded],
            "attention_mask": masks,
            "token_type_ids": [one.type_ids for one in encoded],
        }
        return {name: np.array(arrays[name], np.int64) for name in self._inputs}


def _checked(sentence: Any) -> str:
    if not isinstance(sentence, str):
        raise InputError(f"x: expected a sentence (str), got {type(sentence).__name__}")
    try:
        sentence.encode()
    except UnicodeEncodeError as error:
        raise InputError("x: expected Unicode text, got a sentence with half of a surrogate pair") from error
    return str(sentence)  # not numpy's


def text_input(session: Engine, path: str | os.PathLike[str]) -> TextInput | None:
    """Return the tokenizer of an open model, or None if the model does not take text."""
    preprocessing = read_preprocessing(read_properties(session, path).get(PREPROCESSING_KEY), str(path))
    return TextInput(path, preprocessing) if isinstance(preprocessing, TextPreprocessing) else None
