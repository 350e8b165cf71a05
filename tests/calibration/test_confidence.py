"""Confidence and verdict: three kinds of answers through one interface, and the bins that relate the two."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration import CalibrationError, reliability, softmax
from edgecascade.calibration.confidence import relate
from edgecascade.calibration.platt import fit_platt
from edgecascade.calibration.tasks import Generation, Options, classification, generated_text, multiple_choice

Sampled = Callable[..., tuple[NDArray[np.float64], NDArray[np.int64]]]
UNIT = st.floats(0.0, 1.0)


def shared_words(answers: Sequence[str], references: Sequence[str]) -> ArrayLike:
    """A verifier that knows more than right and wrong: the share of the reference's words that the answer has."""
    return [
        np.mean([word in answer.split() for word in reference.split()])
        for answer, reference in zip(answers, references, strict=True)
    ]


def said(text: str, *probabilities: float) -> Generation:
    """A text whose tokens were sampled with these probabilities."""
    return Generation(text, np.log(probabilities))


def test_a_class_is_judged_by_its_label(sampled: Sampled) -> None:
    """The score is the confidence before calibration, the verdict whether the label is right."""
    logits, labels = sampled(n=50)
    judged = classification().judge(logits, labels)
    np.testing.assert_array_equal(judged.score, softmax(logits).max(axis=1))
    np.testing.assert_array_equal(judged.verdict, logits.argmax(axis=1) == labels)


def test_an_option_is_judged_as_a_class(sampled: Sampled) -> None:
    """Log-probabilities of options are logits like any others, a missing option a masked class."""
    logits, labels = sampled(n=50)
    logits[labels != 3, 3] = -np.inf
    judged, as_classes = multiple_choice().judge(Options(logits), labels), classification().judge(logits, labels)
    np.testing.assert_array_equal(judged.score, as_classes.score)
    np.testing.assert_array_equal(judged.verdict, as_classes.verdict)


def test_options_of_different_length_are_compared_per_token() -> None:
    """A long option is not held against itself."""
    options = Options(np.array([[-4.0, -9.0, -np.inf]]), np.array([[1, 3, 1]]))
    judged = multiple_choice().judge(options, np.array([1]))
    assert judged.verdict == 1.0
    assert judged.score == pytest.approx(1 / (1 + np.exp(-1)))


def test_text_is_judged_by_the_users_verifier() -> None:
    """The score is the mean log-probability of its tokens, whatever their number."""
    generations = [said("the white cat", 0.5, 0.25, 0.125), said("a dog", 1.0)]
    judged = generated_text(shared_words).judge(generations, ["the black cat", "dog"])
    np.testing.assert_allclose(judged.score, [np.log(0.25), 0.0])
    np.testing.assert_allclose(judged.verdict, [2 / 3, 1.0])


def test_text_gets_a_calibrated_confidence() -> None:
    """From token log-probabilities by Platt scaling to a confidence that the verdicts bear out."""
    rng = np.random.default_rng(0)
    mean = -rng.exponential(size=2000)
    right = rng.random(2000) < 1 / (1 + np.exp(-3 * mean - 2))
    generations = [Generation("yes" if r else "no", np.full(3, m)) for m, r in zip(mean, right, strict=True)]
    judged = generated_text(lambda a, r: np.array(a) == np.array(r)).judge(generations, ["yes"] * 2000)
    bins = relate(fit_platt(judged.score, judged.verdict >= 0.5)(judged.score), judged.verdict, bins=5)
    np.testing.assert_allclose(bins.confidence, bins.accuracy, atol=0.06)


@given(st.lists(st.tuples(UNIT, st.booleans()), min_size=1, max_size=50), st.integers(1, 20))
def test_right_and_wrong_are_related_as_reliability_does(verdicts: list[tuple[float, bool]], bins: int) -> None:
    """A verdict of 1 or 0 is an accuracy."""
    confidence, correct = (np.array(column) for column in zip(*verdicts, strict=True))
    plain, found = reliability(confidence, correct, bins), relate(confidence, correct.astype(np.float64), bins)
    np.testing.assert_array_equal(found.count, plain.count)
    np.testing.assert_array_equal(found.accuracy, plain.accuracy)


@given(arrays(np.float64, (2, 30), elements=UNIT))
def test_a_verdict_between_is_averaged(columns: NDArray[np.float64]) -> None:
    """Each bin has the mean verdict of its own."""
    confidence, verdict = columns
    found = relate(confidence, verdict, bins=4)
    index = np.clip(np.ceil(confidence * 4).astype(int) - 1, 0, 3)
    for i in np.unique(index):
        assert found.accuracy[i] == pytest.approx(verdict[index == i].mean())


def test_a_confidence_that_is_not_a_number_passes_through() -> None:
    """It is the runtime's business to forward it; here it is only not hidden."""
    judged = classification().judge(np.array([[np.nan, 0.0]]), np.array([0]))
    assert np.isnan(judged.score).all()


LOGITS = np.array([[2.0, 0.0], [0.0, 1.0]])
LABELS = np.array([0, 1])
TEXT = [said("yes", 0.5)]


def judge_text(verdict: ArrayLike, generations: Sequence[Generation] = TEXT) -> Any:
    """What a verifier with this verdict leads to."""
    return generated_text(lambda _answers, _references: verdict).judge(generations, None)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(
            lambda: classification().judge(LOGITS, LABELS[:1]), r"^references: .*\[2\].*\[1\]", id="too few labels"
        ),
        pytest.param(
            lambda: multiple_choice().judge(Options(LOGITS, LABELS), LABELS),
            r"^tokens: .*\[2, 2\].*got \[2\]",
            id="one length per question",
        ),
        pytest.param(
            lambda: multiple_choice().judge(Options(LOGITS, np.zeros((2, 2), int)), LABELS),
            "^tokens: .*from 0",
            id="an option of no tokens",
        ),
        pytest.param(lambda: judge_text([0.5, 0.5]), r"^verifier: .*1 answers, got \[2\]", id="too many verdicts"),
        pytest.param(lambda: judge_text(0.5), r"^verifier: .*got \[\]", id="one verdict for all"),
        pytest.param(lambda: judge_text([1.5]), r"^verdict: .*1.5 in row 0", id="above 1"),
        pytest.param(lambda: judge_text([np.nan]), "^verdict: .*nan in row 0", id="no verdict"),
        pytest.param(lambda: judge_text([1], [Generation("", np.array([]))]), "^log_prob.* at least one", id="nothing"),
        pytest.param(lambda: judge_text([1], [Generation("a", np.array([0.9]))]), "^log_prob.*0.9", id="probabilities"),
        pytest.param(
            lambda: relate(np.array([-0.5]), np.array([1.0])), r"^confidence: .*\[0, 1\]", id="a raw log-probability"
        ),
        pytest.param(lambda: relate(np.array([0.5]), np.array([2.0])), "^verdict: .*2.0", id="a verdict above 1"),
        pytest.param(
            lambda: relate(np.array([0.5]), np.array([[1.0]])), r"^confidence, correct: .*\[1, 1\]", id="not rows"
        ),
    ],
)
def test_what_cannot_be_judged_is_refused(call: Callable[[], Any], message: str) -> None:
    """One sentence that names the argument."""
    with pytest.raises(CalibrationError, match=message):
        call()
