"""How well a text agrees with the text that it should be: recognised characters, transcripts, short answers.

All of them read text in Unicode's composed form (NFC), without white space around it, and with one space for each run
of white space. A reference may be several texts, of which the one that agrees best counts. An empty answer to an empty
reference has the value 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import category, normalize

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.verifiers.pairs import paired
from edgecascade.types.errors import CalibrationError
from edgecascade.types.extras import naming_extras

__all__ = ["CharacterAccuracy", "ExactMatch", "TokenF1", "WordAccuracy"]

Text = str | Sequence[str]


@dataclass(frozen=True)
class ExactMatch:
    """1 where the answer is the reference, 0 elsewhere.

    Attributes:
        ignore_case: whether upper and lower case are the same.
    """

    ignore_case: bool = False

    def __call__(self, answers: Sequence[str], references: Sequence[Text]) -> NDArray[np.float64]:
        """Return the value float64 [n], 0 or 1, of n texts.

        Raises:
            CalibrationError: they are not as many, or one is no text.
        """
        return _best(answers, references, lambda one, other: float(one == other), ignore_case=self.ignore_case)


@dataclass(frozen=True)
class CharacterAccuracy:
    """1 minus the character error rate: edits (Levenshtein) divided by the characters of the reference; at least 0.

    Attributes:
        ignore_case: whether upper and lower case are the same.
    """

    ignore_case: bool = False

    def __call__(self, answers: Sequence[str], references: Sequence[Text]) -> NDArray[np.float64]:
        """Return the value float64 [n] in [0, 1] of n texts.

        Raises:
            CalibrationError: they are not as many, or one is no text.
            ModuleNotFoundError: the `tasks` extra is not installed.
        """
        return _best(answers, references, _accuracy, ignore_case=self.ignore_case)


@dataclass(frozen=True)
class WordAccuracy:
    """1 minus the word error rate: edits of words, divided by the words of the reference; at least 0.

    Attributes:
        ignore_case: whether upper and lower case are the same.
        ignore_punctuation: whether punctuation is left out.
    """

    ignore_case: bool = False
    ignore_punctuation: bool = False

    def __call__(self, answers: Sequence[str], references: Sequence[Text]) -> NDArray[np.float64]:
        """Return the value float64 [n] in [0, 1] of n texts.

        Raises:
            CalibrationError: they are not as many, or one is no text.
            ModuleNotFoundError: the `tasks` extra is not installed.
        """

        def accuracy(one: str, other: str) -> float:
            texts = [_without_punctuation(text) if self.ignore_punctuation else text for text in (one, other)]
            return _accuracy(*(text.split() for text in texts))

        return _best(answers, references, accuracy, ignore_case=self.ignore_case)


@dataclass(frozen=True)
class TokenF1:
    """F1 of the words that answer and reference share, in any order: the measure of SQuAD (arXiv 1606.05250).

    Case and punctuation do not count. English articles do, unlike in SQuAD's own script.
    """

    def __call__(self, answers: Sequence[str], references: Sequence[Text]) -> NDArray[np.float64]:
        """Return the value float64 [n] in [0, 1] of n texts.

        Raises:
            CalibrationError: they are not as many, or one is no text.
        """

        def f1(one: str, other: str) -> float:
            words = [_without_punctuation(text).split() for text in (one, other)]
            if not words[0] and not words[1]:
                return 1.0
            shared = (Counter(words[0]) & Counter(words[1])).total()
            return 2 * shared / (len(words[0]) + len(words[1]))

        return _best(answers, references, f1, ignore_case=True)


def _best(
    answers: Sequence[str], references: Sequence[Text], value: Callable[[str, str], float], *, ignore_case: bool
) -> NDArray[np.float64]:
    """Return the value of each answer against the reference that agrees best with it."""
    found = []
    for i, (answer, reference) in enumerate(paired(answers, references)):
        texts = [reference] if isinstance(reference, str) else reference
        if not isinstance(texts, Sequence | np.ndarray) or len(texts) == 0:
            raise CalibrationError(f"references: expected text in input {i}, got {_shown(reference)}")
        text = _normal(answer, f"answers: expected text in input {i}", ignore_case=ignore_case)
        wanted = [_normal(one, f"references: expected text in input {i}", ignore_case=ignore_case) for one in texts]
        found.append(max(value(text, one) for one in wanted))
    return np.array(found, dtype=np.float64)


def _normal(text: Any, wanted: str, *, ignore_case: bool) -> str:
    if not isinstance(text, str):
        raise CalibrationError(f"{wanted}, got {_shown(text)}")
    normal = " ".join(normalize("NFC", text).split())
    return normal.casefold() if ignore_case else normal


def _accuracy(one: Sequence[Any], other: Sequence[Any]) -> float:
    """Return 1 minus edits over the length of the second, at least 0."""
    with naming_extras():
        from rapidfuzz.distance import Levenshtein

    if not other:
        return float(not one)
    return max(0.0, 1 - Levenshtein.distance(one, other) / len(other))


def _without_punctuation(text: str) -> str:
    return "".join(letter for letter in text if not category(letter).startswith("P"))


def _shown(value: Any) -> str:
    return f"a {type(value).__name__}: {' '.join(repr(value).split())[:40]}"
