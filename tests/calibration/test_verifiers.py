"""Verifiers against independent references: other libraries, and brute force over all assignments."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pycocotools.mask import iou as coco_iou
from sklearn.metrics import jaccard_score

from edgecascade.calibration import CalibrationError, Verifier
from edgecascade.calibration.verifiers import (
    VERIFIERS,
    BoxF1,
    BoxOverlap,
    CharacterAccuracy,
    ExactMatch,
    MeanIou,
    RecallAt,
    ScaledError,
    TokenF1,
    Within,
    WordAccuracy,
    box_iou,
    verifier_named,
    verify,
)
from edgecascade.calibration.verifiers.pairs import labels_apart
from edgecascade.types.detections import Detections
from edgecascade.types.errors import ArgumentError

WORDS = st.lists(st.sampled_from(["der", "Zug", "hält", "in", "Ulm", "nicht"]), max_size=6).map(" ".join)
CORNERS = st.lists(st.tuples(*(st.integers(0, 6),) * 2, *(st.integers(1, 6),) * 2), max_size=4)


@st.composite
def detections(draw: st.DrawFn) -> Detections:
    """Return up to four boxes of whole pixels with one of two labels each."""
    corners = np.array(draw(CORNERS), np.float64).reshape(-1, 4)
    boxes = np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:]], axis=1)
    labels = draw(arrays(np.int64, len(boxes), elements=st.integers(0, 1)))
    return Detections(boxes, labels, np.ones(len(boxes)))


def as_coco(boxes: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return boxes as left, top, width and height."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def best_sum(weight: NDArray[Any]) -> float:
    """Return the largest sum over all ways to pair rows with columns."""
    wide = weight if weight.shape[0] <= weight.shape[1] else weight.T
    ways = permutations(range(wide.shape[1]), wide.shape[0])
    return max(float(sum(wide[row, column] for row, column in enumerate(way))) for way in ways)


@given(detections(), detections(), st.sampled_from([0.3, 0.5, 0.75]), st.booleans())
def test_boxes_are_matched_in_the_best_of_all_ways(one: Detections, two: Detections, iou: float, labels: bool) -> None:
    """The intersection over union is that of pycocotools, and the pairing is found by trying every one."""
    overlap = np.zeros((len(one.boxes), len(two.boxes)))
    if overlap.size:
        overlap = np.asarray(coco_iou(as_coco(one.boxes), as_coco(two.boxes), [0] * len(two.boxes)))
        np.testing.assert_allclose(box_iou(one.boxes, two.boxes), overlap, atol=1e-12)
        same = one.labels[:, None] == two.labels[None]
        overlap = overlap * same if labels else overlap
    total = len(one.boxes) + len(two.boxes)
    hard, soft = (2 * best_sum(one) / total if total else 1.0 for one in (1.0 * (overlap >= iou), overlap))
    assert BoxF1(iou, labels)([one], [two]) == pytest.approx(hard)
    assert BoxOverlap(labels)([one], [two]) == pytest.approx(soft)


@given(detections(), st.floats(0.1, 10), st.floats(0.1, 10))
def test_boxes_agree_with_themselves_in_any_unit(found: Detections, across: float, down: float) -> None:
    """The value is 1, and that of another answer stays when both sides are scaled."""
    scale = np.array([across, down] * 2)
    moved = found._replace(boxes=found.boxes + 0.25)
    assert BoxF1()([found], [found]) == BoxOverlap()([found], [found]) == pytest.approx(1)
    scaled = [one._replace(boxes=one.boxes * scale) for one in (found, moved)]
    np.testing.assert_allclose(BoxOverlap()([scaled[0]], [scaled[1]]), BoxOverlap()([found], [moved]), rtol=1e-9)


def test_boxes_without_area_match_nothing() -> None:
    """The same holds for boxes that are not finite, and for those with exchanged corners."""
    right = {"boxes": [[0, 0, 2, 2]]}
    for wrong in ([1, 1, 1, 1], [2, 2, 0, 0], [np.nan, 0, 2, 2], [-np.inf, -np.inf, np.inf, np.inf]):
        assert BoxF1()([{"boxes": [wrong]}], [right]) == BoxOverlap()([{"boxes": [wrong]}], [right]) == [0.0]


@given(WORDS, WORDS.filter(bool))
def test_text_accuracies_are_one_minus_the_error_rates_of_jiwer(answer: str, reference: str) -> None:
    """Where jiwer's rate exceeds 1, the value is 0."""
    assert CharacterAccuracy()([answer], [reference])[0] == pytest.approx(max(0, 1 - jiwer.cer(reference, answer)))
    assert WordAccuracy()([answer], [reference])[0] == pytest.approx(max(0, 1 - jiwer.wer(reference, answer)))


@given(WORDS, WORDS)
def test_token_f1_counts_each_shared_word_once(answer: str, reference: str) -> None:
    """It is the harmonic mean of precision and recall, by SQuAD's own formula."""
    one, two = answer.lower().split(), reference.lower().split()
    same = sum((Counter(one) & Counter(two)).values())
    wanted = float(one == two)
    if same:
        precision, recall = same / len(one), same / len(two)
        wanted = 2 * precision * recall / (precision + recall)
    assert TokenF1()([answer], [reference])[0] == pytest.approx(wanted)


def test_text_is_compared_in_a_normal_form() -> None:
    """White space and the form of letters never count, case and punctuation where the verifier says so."""
    assert ExactMatch()([" Zoë  Bell\n"], ["Zoe\u0308 Bell"]) == [1.0]
    assert ExactMatch()(["zoe"], ["Zoe"]) == [0.0]
    assert ExactMatch(ignore_case=True)(["STRASSE"], ["Straße"]) == [1.0]
    assert WordAccuracy(ignore_punctuation=True)(["Yes no"], ["Yes, no."]) == [1.0]
    assert TokenF1()(["Yes, no."], ["no yes"]) == [1.0]
    for verifier in (ExactMatch(), CharacterAccuracy(), WordAccuracy(), TokenF1()):
        np.testing.assert_array_equal(verifier(["", "a", ""], ["", "", "a"]), [1, 0, 0])


def test_the_best_of_several_reference_texts_counts() -> None:
    """SQuAD and others give several answers to a question."""
    assert CharacterAccuracy()(["colour"], [["color", "colour"]]) == [1.0]


@given(
    st.integers(1, 5).flatmap(lambda side: st.tuples(*(arrays(np.int64, (side, 3), elements=st.integers(0, 3)),) * 2))
)
def test_mean_iou_equals_that_of_scikit_learn(maps: tuple[NDArray[np.int64], NDArray[np.int64]]) -> None:
    """Classes that neither map has do not count."""
    answer, reference = maps
    wanted = jaccard_score(reference.ravel(), answer.ravel(), average="macro")
    assert MeanIou()([answer], [reference])[0] == pytest.approx(wanted)


def test_ignored_pixels_do_not_count() -> None:
    """A map of which nothing counts has the value 1."""
    answer = np.array([[1, 2], [1, 1]])
    assert MeanIou()([answer], [np.array([[1, 255], [1, 1]])]) == [1.0]
    assert MeanIou(ignore=None)([answer], [np.array([[1, 255], [1, 1]])])[0] < 1
    assert MeanIou()([answer], [np.full((2, 2), 255)]) == [1.0]


@given(
    st.integers(1, 5).flatmap(lambda n: st.tuples(*(arrays(np.float64, n, elements=st.floats(-100, 100)),) * 2)),
    st.floats(0.1, 50),
)
def test_errors_of_numbers_are_averaged(numbers: tuple[NDArray[np.float64], NDArray[np.float64]], scale: float) -> None:
    """Each number counts alike, and none for less than nothing."""
    error = np.abs(numbers[0] - numbers[1])
    assert Within(scale)([numbers[0]], [numbers[1]])[0] == pytest.approx(np.mean([one <= scale for one in error]))
    wanted = np.mean([max(0.0, 1 - one / scale) for one in error])
    assert ScaledError(scale)([numbers[0]], [numbers[1]])[0] == pytest.approx(wanted)


def test_numbers_that_are_not_finite_are_wrong() -> None:
    """An answer [1] fits a reference that is a single number, and a tolerance may be relative."""
    np.testing.assert_array_equal(ScaledError(2)([np.nan, np.inf, np.array([3.0])], [1, 2, 3]), [0, 0, 1])
    np.testing.assert_array_equal(Within(0.1, relative=True)([109, 111, -91], [100, 100, -100]), [1, 0, 1])


@given(st.lists(st.integers(0, 5), max_size=5), st.sets(st.integers(0, 5)), st.integers(1, 6))
def test_recall_counts_relevant_items_among_the_first(answer: list[int], relevant: set[int], k: int) -> None:
    """Numbers of NumPy and of Python are the same items."""
    wanted = sum(one in answer[:k] for one in relevant) / len(relevant) if relevant else 1.0
    assert RecallAt(k)([answer], [relevant])[0] == pytest.approx(wanted)
    assert RecallAt(k)([list(np.array(answer, np.int32))], [np.array(sorted(relevant))])[0] == pytest.approx(wanted)


def test_one_relevant_item_needs_no_list() -> None:
    """It may be a number or a text."""
    np.testing.assert_array_equal(RecallAt(2)([["a", "b"], [7, 8, 9]], ["b", np.int64(9)]), [1, 0])


@pytest.mark.parametrize("name", VERIFIERS)
def test_every_verifier_checks_the_number_of_references(name: str) -> None:
    """None of them pairs answers with the references of other inputs."""
    options = {"within": ":tolerance=1", "scaled-error": ":scale=1"}.get(name, "")
    verifier = verifier_named(name + options)
    np.testing.assert_array_equal(verifier([], []), [])
    with pytest.raises(CalibrationError, match="expected 1, one for each answer, got 2"):
        verifier(["a"], ["a", "b"])


@pytest.mark.parametrize(
    ("verifier", "answer", "reference", "message"),
    [
        (BoxF1(), "cat", {"boxes": []}, "^answers: input 0: .*a str"),
        (BoxF1(), {"boxes": [[1, 2]]}, {"boxes": []}, r"^answers: .*\[1, 2\]"),
        (BoxF1(), {"boxes": []}, {"boxes": [[0, 0, 1, 1]], "labels": [1, 2]}, "^references: .*1 boxes, got 2"),
        (
            BoxF1(),
            {"boxes": [[0, 0, 1, 1]], "labels": [3]},
            {"boxes": [[0, 0, 1, 1]], "labels": ["cat"]},
            "^answers: input 0: expected labels.*'cat'.* got .*3",
        ),
        (ExactMatch(), 7, "a", "^answers: .*input 0, got a int: 7"),
        (ExactMatch(), "a", None, "^references: .*a NoneType"),
        (ExactMatch(), "a", [], r"^references: .*\[\]"),
        (MeanIou(), np.zeros(2), np.zeros(2, int), "^answers: .*float64"),
        (MeanIou(), np.zeros(2, int), np.zeros(3, int), r"^answers: .*\[3\]"),
        (Within(1), [1, 2], [1, 2, 3], r"^answers: .*\[3\].*got \[2\]"),
        (Within(1), 1, np.nan, "^references: .*input 0"),
        (Within(1), {}, 1, "^answers: input 0: .*a dict"),
        (RecallAt(), "abc", "a", "^answers: .*a str"),
    ],
)
def test_answers_and_references_of_other_kinds_are_refused(
    verifier: Verifier[Any], answer: object, reference: object, message: str
) -> None:
    """The error names the argument, the input and what came."""
    with pytest.raises(CalibrationError, match=message):
        verifier([answer], [reference])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BoxF1(0), "^iou: .*got 0"),
        (lambda: Within(-1), "^tolerance: .*got -1"),
        (lambda: ScaledError(np.nan), "^scale: .*got nan"),
        (lambda: RecallAt(0), "^k: .*got 0"),
    ],
)
def test_options_out_of_their_range_are_refused(make: Callable[[], object], message: str) -> None:
    """The error names the option and its value."""
    with pytest.raises(CalibrationError, match=message):
        make()


@pytest.mark.parametrize(
    ("verifier", "message"),
    [
        (lambda answers, _: [0.5] * (len(answers) + 1), r"^verifier: expected 2 values, .* got \[3\]"),
        (lambda *_: [0.5, 1.5], "^verifier: .* got 1.5 for the model's answer to input 1"),
        (lambda *_: [np.nan, 1.0], "^verifier: .* got nan .*input 0"),
        (lambda answers, _: [one.score for one in answers], "^verifier: it raised AttributeError"),
        (lambda *_: ["good", "bad"], "^verifier: it raised ValueError"),
        (lambda _, references: [1.0 - one for one in references], "TypeError .*the reference str$"),
        (Within(1), "^answers of the model: input 0: expected numbers"),
    ],
)
def test_what_a_verifier_gives_is_checked(verifier: Callable[..., Any], message: str) -> None:
    """A user's own function may give anything."""
    with pytest.raises(CalibrationError, match=message):
        verify(verifier, ["a", "b"], ["a", "b"])


def boxes_of(*labels: int) -> Detections:
    """Return detections with these labels."""
    return Detections(np.ones((len(labels), 4)), np.array(labels, np.int64), np.ones(len(labels)))


@pytest.mark.parametrize(
    ("answers", "references", "apart"),
    [
        ([boxes_of(0, 1), boxes_of(2)], [boxes_of(1, 2), boxes_of(3)], ("0", "3")),
        ([boxes_of(0)], [{"boxes": np.ones((1, 4)), "labels": ["gate"]}], ("0", "gate")),
        ([np.array([[0, 1], [2, 0]])], np.array([[[0, 80], [160, 0]]]), ("1, 2", "80, 160")),
        ([boxes_of(0, 1), boxes_of(2)], [boxes_of(0, 1), boxes_of(3)], ("2", "3")),
        ([boxes_of(0, 1), boxes_of(1)], [boxes_of(0, 1), boxes_of(3)], None),
        ([boxes_of(*range(30)), boxes_of(40)], [boxes_of(*range(30)), boxes_of(50)], None),
        ([boxes_of()], [boxes_of(1)], None),
        (["text"], ["other"], None),
        ([1.5], np.array([2]), None),
        ([np.array([3, 1])], [[1, 2]], None),
    ],
)
def test_labels_that_are_numbered_in_two_ways_are_found(
    answers: Sequence[Any], references: Sequence[Any], apart: tuple[str, str] | None
) -> None:
    """Both sides often have some that the other never has; a rare label on either side means nothing."""
    said = labels_apart(BoxF1(), answers, references)
    assert labels_apart(BoxF1(labels=False), answers, references) is None
    if apart is None:
        assert said is None
    else:
        assert said is not None
        assert f"only the answers have {apart[0]}, only the references {apart[1]};" in said


def test_a_verifier_of_right_and_wrong_is_enough() -> None:
    """Bool becomes 1 and 0."""

    def same(answers: Sequence[str], references: Sequence[str]) -> list[bool]:
        return [one == other for one, other in zip(answers, references, strict=True)]

    np.testing.assert_array_equal(verify(same, ["a", "b"], ["a", "c"]), [1.0, 0.0])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("exact", ExactMatch()),
        ("box-f1:iou=0.75,labels=no", BoxF1(0.75, labels=False)),
        ("mean-iou:ignore=none", MeanIou(None)),
        ("recall:k=3", RecallAt(3)),
    ],
)
def test_verifiers_are_found_by_name_with_their_options(text: str, wanted: object) -> None:
    """An option has the type of the field."""
    assert verifier_named(text) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("magic", "^--verifier: expected box-f1, "),
        ("contain", r"did you mean contains\?$"),
        ("math:sqtr", r"^--verifier: cannot import 'sqtr' from math; did you mean sqrt\?$"),
        ("exact:iou=1", "^--verifier: expected options of exact .*'iou=1'"),
        ("within", r"^--verifier: expected within:tolerance=\.\.\., got 'within'"),
        ("within:tolerance=much", "^--verifier: within:tolerance: expected a number, got 'much'"),
        ("recall:k=1.5", "^--verifier: recall:k: expected a whole number, got '1.5'"),
        ("exact:ignore_case=perhaps", "expected yes or no"),
        ("box-f1:iou=2", "^--verifier: iou: expected"),
        ("no_such_module:function", "^--verifier: cannot import 'function' from no_such_module"),
        ("no_file.py:function", "^--verifier: cannot import"),
        ("math:pi", "^--verifier: expected a function, got a float at math:pi"),
        ("math:", "^--verifier: expected "),
    ],
)
def test_names_and_options_that_do_not_exist_are_refused(text: str, message: str) -> None:
    """The error names what there is."""
    with pytest.raises(ArgumentError, match=message):
        verifier_named(text, "--verifier")


def test_a_file_that_ends_the_program_is_refused(tmp_path: Any) -> None:
    """A script that calls `sys.exit` would end the command with success and without a word."""
    (tmp_path / "script.py").write_text("import sys\n\nsys.exit(0)\n")
    with pytest.raises(ArgumentError, match=r"^--verifier: cannot import 'judge'"):
        verifier_named(f"{tmp_path / 'script.py'}:judge", "--verifier")


def test_a_verifier_of_ones_own_is_imported(tmp_path: Any) -> None:
    """A function is used as it is; of a class, an instance is made."""
    file = tmp_path / "mine.py"
    file.write_text(
        "def all_right(answers, references):\n    return [1.0] * len(answers)\n\n\n"
        "class Wrong:\n    def __call__(self, answers, references):\n        return [0.0] * len(answers)\n"
    )
    np.testing.assert_array_equal(verify(verifier_named(f"{file}:all_right"), ["a"], ["b"]), [1.0])
    np.testing.assert_array_equal(verify(verifier_named(f"{file}:Wrong"), ["a"], ["a"]), [0.0])
