"""Lingua as a remote gives its own answers, as probabilities that the runtime can calibrate."""

import sys
import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.benchmarks.pairs import languages as module
from edgecascade.benchmarks.pairs.languages import LinguaRemote
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
