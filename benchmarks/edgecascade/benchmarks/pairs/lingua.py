"""Lingua as a remote that is not ONNX: n-gram models of every language, a gigabyte in memory.

https://github.com/pemistahl/lingua-py, Apache-2.0; a Rust library with Python bindings.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.batch import Batch, are_sentences
from edgecascade.runtime.deadline import Deadline
from edgecascade.types.errors import BenchmarkError, RemoteError

__all__ = ["LinguaRemote"]

_FLOOR = 0.01  # its rules give some languages exactly 0; does the right one, in under 1 % of the training snippets
_OWN_CODES = {"no": "nb"}  # it distinguishes Bokmål from Nynorsk
_VERSION = "2.1.1"  # of the committed results; others have other language models


class LinguaRemote:
    """A `Remote` in this process: probabilities of languages for sentences.

    Lingua's rules on scripts and letters give most languages a probability of exactly zero. No temperature can correct
    that where the rules are wrong, so all languages share 1 % of the probability equally; no answer changes.

    Args:
        languages: ISO 639-1 codes, one per class, in the order of the labels.

    Raises:
        BenchmarkError: lingua is not installed, is another version than the results were made with, or does not know a
            language.
    """

    def __init__(self, languages: Sequence[str]) -> None:
        try:
            from lingua import Language, LanguageDetectorBuilder
        except ModuleNotFoundError as error:
            raise BenchmarkError("lingua is not installed: pip install 'edgecascade-benchmarks[languages]'") from error
        if (installed := version("lingua-language-detector")) != _VERSION:
            raise BenchmarkError(f"lingua: expected version {_VERSION}, as in the committed results, got {installed}")
        known = {language.iso_code_639_1.name.lower(): language for language in Language.all()}
        own = [known.get(_OWN_CODES.get(code, code)) for code in languages]
        if None in own or len(set(own)) != len(own) or len(own) < 2:
            unknown = [code for code, language in zip(languages, own, strict=True) if language is None]
            raise BenchmarkError(
                "languages: expected two or more different ISO 639-1 codes that lingua knows, got "
                f"{', '.join(unknown or languages) or 'none'}"
            )
        chosen = [language for language in own if language is not None]
        self._columns = {language: column for column, language in enumerate(chosen)}
        print("loading lingua's language models (1 GB of memory)", file=sys.stderr, flush=True)
        self._detector: Any = LanguageDetectorBuilder.from_languages(*chosen).with_preloaded_language_models().build()

    def infer(self, inputs: Batch, deadline: Deadline) -> NDArray[np.float64]:
        """Return probabilities float64 [n, classes] of sentences [n]; equal ones for a sentence without a letter.

        Raises:
            RemoteError: The inputs are not sentences.
            TimeoutError: The deadline passed before the last sentence.
        """
        if not are_sentences(inputs):
            seen = f"{inputs.dtype} {list(inputs.shape)}" if isinstance(inputs, np.ndarray) else "arrays by name"
            raise RemoteError(f"lingua: expected sentences [n], got {seen}")
        table = np.zeros((len(inputs), len(self._columns)))
        for row, sentence in zip(table, inputs, strict=True):
            if deadline.remaining() == 0:
                raise TimeoutError("lingua: the deadline passed")
            for found in self._detector.compute_language_confidence_values(str(sentence)):
                row[self._columns[found.language]] = found.value
        total = table.sum(axis=1, keepdims=True)
        shares = np.divide(table, total, out=np.full_like(table, 1 / table.shape[1]), where=total > 0)
        floored: NDArray[np.float64] = (1 - _FLOOR) * shares + _FLOOR / table.shape[1]
        return floored

    def close(self) -> None:
        """Free the language models; the next call would load them again."""
        self._detector.unload_language_models()
