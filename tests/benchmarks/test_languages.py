"""The languages pair: snippets that are in one split only, and lingua as a remote that can be calibrated."""

import sys
import threading
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecascade.benchmarks.cache import cache_folder
from edgecascade.benchmarks.pairs import languages as module
from edgecascade.benchmarks.pairs.languages import (
    LANGUAGES,
    LinguaRemote,
    Sizes,
    Snippets,
    load_languages,
    prepare_languages,
    snippets_of,
    split_sentences,
)
from edgecascade.calibration import MostAccuracy
from edgecascade.export import LabelledData
from edgecascade.runtime.deadline import Deadline
from edgecascade.types.errors import BenchmarkError, RemoteError
from edgecascade.types.policy import RemoteCalibration

PATIENT = Deadline.after(3600)
FOUR = ("en", "de", "ja", "no")
TEXTS = [
    "the quick brown",
    "according to the",
    "und das ist",
    "der größte Teil",
    "自已無意奪權",
    "大リーグの試",
    "kan også være",
]
SPACED = [code for code in LANGUAGES if code not in ("ja", "th", "zh")]


def _texts(data: LabelledData) -> list[str]:
    return list(np.asarray(data.inputs).tolist())


def _parts(snippets: Snippets) -> list[LabelledData]:
    return [snippets.train, snippets.calibration, snippets.test]


def _traceable(sentences: int, words: int) -> list[tuple[str, str]]:
    """Return sentences in which every word identifies its sentence, for languages with spaces between words."""
    return [(code, " ".join(f"{code}-{i}-{j}" for j in range(words))) for code in SPACED for i in range(sentences)]


def _assert_disjoint(parts: list[set[str]]) -> None:
    for i, one in enumerate(parts):
        for other in parts[i + 1 :]:
            assert not one & other


def _sentence(snippet: str) -> str:
    return snippet.split(" ")[0].rpartition("-")[0]


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(8, 14))
def test_no_sentence_is_in_two_splits(seed: int, train: int, calibration: int, test: int, words: int) -> None:
    """Each sentence belongs to one split, and gives at most one snippet outside training; sizes are per language."""
    sizes = Sizes(train, calibration, test, seed)
    snippets = split_sentences(_traceable(train + calibration + test + 1, words), sizes)
    origins = [[_sentence(text) for text in _texts(part)] for part in _parts(snippets)]
    _assert_disjoint([set(part) for part in origins])
    for found, size in zip(origins[1:], (calibration, test), strict=True):
        assert len(set(found)) == len(found) == len(SPACED) * size
    for part in _parts(snippets):
        assert [text.partition("-")[0] for text in _texts(part)] == [LANGUAGES[label] for label in part.labels]


def test_the_same_seed_gives_the_same_splits() -> None:
    """Another seed gives others, and a language's splits do not depend on the other languages."""
    sentences, seed = _traceable(8, 9), 7
    first, again = (split_sentences(sentences, Sizes(4, 2, 2, seed)) for _ in range(2))
    assert [part.digest for part in _parts(first)] == [part.digest for part in _parts(again)]
    other = split_sentences(sentences, Sizes(4, 2, 2, seed + 1))
    assert all(a.digest != b.digest for a, b in zip(_parts(first), _parts(other), strict=True))
    alone = split_sentences([pair for pair in sentences if pair[0] == "da"], Sizes(4, 2, 2, seed))
    for all_of_them, own in zip(_parts(first), _parts(alone), strict=True):
        assert {text for text in _texts(all_of_them) if text.startswith("da")} == set(_texts(own))


def test_a_text_in_two_splits_stays_in_the_later_one() -> None:
    """It stays in the test rather than calibration, and in calibration rather than training."""
    shared = [("en", f"one and the same {i}") for i in range(3)] + _traceable(3, 6)
    snippets = split_sentences(shared, Sizes(300, 300, 400))
    texts = [set(_texts(part)) for part in _parts(snippets)]
    _assert_disjoint(texts)
    crowded = split_sentences([("en", f"one and the same {i}") for i in range(40)], Sizes(20, 10, 10))
    assert set(_texts(crowded.test)) == {"one and the", "and the same"}
    assert len(crowded.test.labels) == 10  # repeated texts count each time they are drawn
    assert len(crowded.calibration.labels) == len(crowded.train.labels) == 0


@given(st.text(max_size=80), st.sampled_from(["en", "ko"]), st.integers(1, 3))
def test_a_snippet_is_three_words_with_letters(sentence: str, code: str, step: int) -> None:
    """The words are consecutive, and words without a letter are skipped."""
    words = unicodedata.normalize("NFC", sentence).split()
    for snippet in snippets_of(sentence, code, step):
        own = snippet.split(" ")
        assert len(own) == 3
        assert all(any(map(str.isalpha, word)) for word in own)
        assert any(words[start : start + 3] == own for start in range(len(words)))


@given(st.text(max_size=40), st.sampled_from(["ja", "th", "zh"]))
def test_languages_without_spaces_give_six_characters(sentence: str, code: str) -> None:
    """At least half of the characters are letters, and spaces do not count."""
    for snippet in snippets_of(sentence, code):
        assert len(snippet) == 6
        assert not any(map(str.isspace, snippet))
        assert sum(map(str.isalpha, snippet)) >= 3


@pytest.mark.parametrize("parts", [(0, 1, 1), (1, 1, -1), (600, 200, 201)])
def test_sizes_above_the_data_are_refused(parts: tuple[int, int, int]) -> None:
    """The error names the size."""
    with pytest.raises(BenchmarkError, match=r"sizes: expected at least 1 in each split and at most 1000 in all, got"):
        Sizes(*parts)


@pytest.mark.slow
def test_the_real_sentences_are_complete() -> None:
    """There are a thousand of each language; nearly every one gives a snippet, and no text is in two splits."""
    snippets = load_languages(cache_folder())
    texts = [set(_texts(part)) for part in _parts(snippets)]
    _assert_disjoint(texts)
    for part, most in ((snippets.calibration, 150), (snippets.test, 250)):
        counts = np.bincount(part.labels, minlength=len(LANGUAGES))
        assert 0.9 * most < counts.min() <= counts.max() <= most


@pytest.mark.slow
def test_the_cascade_is_better_than_the_local_model_alone() -> None:
    """A complete run on fewer sentences forwards a fifth or less, as planned, and is more accurate."""
    pytest.importorskip("lingua")
    result = prepare_languages(cache_folder(), MostAccuracy(0.2), Sizes(150, 60, 60)).measure(deadline=30.0)
    planned = result.document.policy.chosen.offload_rate
    n, rate = result.n, result.cascade.offload.value
    assert n > 3000
    assert 0.1 < planned <= 0.2
    assert abs(rate - planned) < 5 * np.sqrt(planned * (1 - planned) * 2 / n)
    assert result.served.reasons["confident"] + result.served.reasons["offloaded"] == n
    assert result.local.accuracy.high < result.cascade.accuracy.low
    assert result.local.accuracy.value > 0.6
    assert result.remote.accuracy.value > 0.9
    assert result.ece["remote after"] < result.ece["remote before"] / 2


@pytest.fixture(scope="module")
def lingua() -> LinguaRemote:
    """Return a remote of four languages."""
    pytest.importorskip("lingua")
    return LinguaRemote(FOUR)


def test_answers_equal_those_of_lingua(lingua: LinguaRemote) -> None:
    """Rows are finite probabilities in the order of the labels; the most probable label is lingua's answer."""
    from lingua import Language, LanguageDetectorBuilder

    known = (Language.ENGLISH, Language.GERMAN, Language.JAPANESE, Language.BOKMAL)
    detector = LanguageDetectorBuilder.from_languages(*known).build()
    table = lingua.infer(np.array(TEXTS), PATIENT)
    assert table.shape == (len(TEXTS), 4)
    assert np.isfinite(table).all()
    assert np.allclose(table.sum(axis=1), 1.0)
    assert [known[column] for column in table.argmax(axis=1)] == [detector.detect_language_of(text) for text in TEXTS]
    own = {value.language: value.value for value in detector.compute_language_confidence_values(TEXTS[0])}
    assert np.allclose(table[0], [0.99 * own.get(language, 0.0) + 0.01 / 4 for language in known])


def test_languages_excluded_by_rules_have_positive_probability(lingua: LinguaRemote) -> None:
    """With a temperature below 1, all logarithms stay finite."""
    table = lingua.infer(np.array(["大リーグの試"]), PATIENT)
    assert table.min() == pytest.approx(0.01 / 4)
    read = RemoteCalibration(0.3, True)
    assert np.isfinite(read.logits(table)).all()
    assert 0 < read(table).min() < 1e-6


def test_a_text_without_letters_has_equal_probabilities(lingua: LinguaRemote) -> None:
    """Lingua gives no answer for such a text."""
    assert np.allclose(lingua.infer(np.array(["", "12 345", "!?"], object), PATIENT), 0.25)


def test_concurrent_calls_are_answered(lingua: LinguaRemote) -> None:
    """The runtime calls from several threads; calls after closing work too, because closing only frees memory."""
    expected = lingua.infer(np.array(TEXTS), PATIENT)
    found: list[NDArray[np.float64]] = []
    threads = [
        threading.Thread(target=lambda: found.append(lingua.infer(np.array(TEXTS * 20), PATIENT))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    lingua.close()
    for thread in threads:
        thread.join(60)
    assert len(found) == 4
    for table in found:
        assert np.allclose(table, np.tile(expected, (20, 1)))


def test_it_stops_at_the_deadline(lingua: LinguaRemote) -> None:
    """Later results would be too late."""
    with pytest.raises(TimeoutError, match="the deadline passed"):
        lingua.infer(np.array(TEXTS), Deadline.after(0.0))


def test_only_sentences_are_accepted(lingua: LinguaRemote) -> None:
    """Tokens, pixels and other types are refused."""
    with pytest.raises(RemoteError, match=r"lingua: expected sentences \[n\], got float64 \[3, 4\]"):
        lingua.infer(np.zeros((3, 4)), PATIENT)


@pytest.mark.parametrize(
    ("codes", "seen"), [(("en", "qq"), "qq"), (("en",), "en"), ((), "none"), (("en", "de", "en"), "en, de, en")]
)
def test_unknown_languages_are_refused(codes: tuple[str, ...], seen: str) -> None:
    """The error names them."""
    pytest.importorskip("lingua")
    with pytest.raises(BenchmarkError, match=f"different ISO 639-1 codes that lingua knows, got {seen}$"):
        LinguaRemote(codes)


def test_without_lingua_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is one sentence."""
    monkeypatch.setitem(sys.modules, "lingua", None)
    with pytest.raises(
        BenchmarkError, match=r"lingua is not installed: pip install .edgecascade-benchmarks\[languages\]'$"
    ):
        LinguaRemote(FOUR)


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its language models would give other figures."""
    pytest.importorskip("lingua")
    monkeypatch.setattr(module, "version", lambda name: "9.0")  # noqa: ARG005
    with pytest.raises(BenchmarkError, match=r"expected version 2\.1\.1, .*got 9\.0"):
        LinguaRemote(FOUR)
