"""Lingua as a remote that is not ONNX: n-gram models of every language, a gigabyte in memory.

https://github.com/pemistahl/lingua-py, Apache-2.0; a Rust library behind Python bindings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.lingua_library import check_library
from edgecascade.runtime.batch import Batch, are_sentences
from edgecascade.runtime.deadline import Deadline
from edgecascade.types.errors import BenchmarkError, RemoteError

__all__ = ["LinguaRemote"]

_FLOOR = 0.01  # its rules give languages exactly 0, and so the right one in under 1 % of the training snippets
_OWN_CODES = {"no": "nb"}  # it tells Bokmål from Nynorsk


class LinguaRemote:
    """A `Remote` in this process: probabilities of languages for sentences.

    Lingua's rules on scripts and letters give most languages a probability of exactly zero. No temperature can mend
    that where the rules are wrong, so 1 % of the probability is shared equally by all; no answer changes by it.

    Args:
        languages: ISO 639-1 codes, one per class, in the order of the labels.

    Raises:
        BenchmarkError: the `languages` extra is not installed, it is not the lingua that figures are made with, or it
            knows no such language.
    """

    def __init__(self, languages: Sequence[str]) -> None:
        try:
            from lingua import Language, LanguageDetectorBuilder
        except ModuleNotFoundError as error:
            raise BenchmarkError("lingua is not installed: pip install 'edgecascade[languages]'") from error
        check_library()
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
        self._detector: Any = LanguageDetectorBuilder.from_languages(*chosen).with_preloaded_language_models().build()

    def infer(self, inputs: Batch, deadline: Deadline) -> NDArray[np.float64]:
        """Probabilities float64 [n, classes] of sentences [n]; equal ones for a sentence without a letter.

        Raises:
            RemoteError: no sentences.
            TimeoutError: the deadline passed before the last one.
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
        """Let go of the language models, which the next question would load again."""
        self._detector.unload_language_models()
