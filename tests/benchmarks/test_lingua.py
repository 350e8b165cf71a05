"""Lingua as a remote: its own answers, as probabilities that the runtime can calibrate."""

import sys
import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.benchmarks.pairs import lingua as module
from edgecascade.benchmarks.pairs.lingua import LinguaRemote
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


@pytest.fixture(scope="module")
def lingua() -> LinguaRemote:
    """Four languages of it."""
    pytest.importorskip("lingua")
    return LinguaRemote(FOUR)


def test_its_answers_are_lingua_s_own(lingua: LinguaRemote) -> None:
    """Rows of finite probabilities that sum to one, in the order of the labels; the likeliest is lingua's answer."""
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


def test_what_its_rules_exclude_is_still_possible(lingua: LinguaRemote) -> None:
    """No probability is zero, so that a temperature below 1 leaves all of them finite."""
    table = lingua.infer(np.array(["大リーグの試"]), PATIENT)
    assert table.min() == pytest.approx(0.01 / 4)
    read = RemoteCalibration(0.3, True)
    assert np.isfinite(read.logits(table)).all()
    assert 0 < read(table).min() < 1e-6


def test_a_text_without_letters_is_anything(lingua: LinguaRemote) -> None:
    """Lingua says nothing then; nothing is equal probabilities."""
    assert np.allclose(lingua.infer(np.array(["", "12 345", "!?"], object), PATIENT), 0.25)


def test_many_may_ask_at_once(lingua: LinguaRemote) -> None:
    """As the runtime does, from several threads; also after it was closed, which only lets go of memory."""
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


def test_it_gives_up_at_the_deadline(lingua: LinguaRemote) -> None:
    """The rest would come too late."""
    with pytest.raises(TimeoutError, match="the deadline passed"):
        lingua.infer(np.array(TEXTS), Deadline.after(0.0))


def test_only_sentences_are_understood(lingua: LinguaRemote) -> None:
    """Tokens, pixels and the like are refused."""
    with pytest.raises(RemoteError, match=r"lingua: expected sentences \[n\], got float64 \[3, 4\]"):
        lingua.infer(np.zeros((3, 4)), PATIENT)


@pytest.mark.parametrize(
    ("codes", "seen"), [(("en", "qq"), "qq"), (("en",), "en"), ((), "none"), (("en", "de", "en"), "en, de, en")]
)
def test_languages_that_cannot_be_told_apart_are_refused(codes: tuple[str, ...], seen: str) -> None:
    """Unknown ones by name."""
    pytest.importorskip("lingua")
    with pytest.raises(BenchmarkError, match=f"different ISO 639-1 codes that lingua knows, got {seen}$"):
        LinguaRemote(codes)


def test_without_lingua_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra, by name."""
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
