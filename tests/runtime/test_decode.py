"""Decoders against plain loops, and against the layouts that detectors have."""

from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgecascade.runtime import Boxes, ClassMap, Ctc, Decode, Ranking, Value, decoder_named
from edgecascade.types.errors import ArgumentError

FOUND = np.array([[10, 20, 50, 60], [12, 22, 52, 62], [100, 100, 120, 140]], np.float32)
SCORES = np.array([[0.9, 0.1], [0.6, 0.2], [0.1, 0.7]], np.float32)  # the first two overlap


@given(st.lists(st.integers(0, 3), max_size=12), st.sampled_from([0, 3, -1]))
def test_ctc_drops_repetitions_and_blanks(best: list[int], blank: int) -> None:
    """A character that is repeated after a blank is there twice."""
    scores = np.eye(4, dtype=np.float32)[best]
    letters = dict(zip((i for i in range(4) if i != blank % 4), "abc", strict=True))
    wanted = "".join(letters[one] for one, _ in groupby(best) if one != blank % 4)
    assert Ctc("abc", blank)({"scores": scores.reshape(-1, 4)}) == wanted


def test_ctc_reads_the_steps_that_count() -> None:
    """What stands in the padding is left out."""
    outputs = {"scores": np.eye(3)[[1, 0, 2, 2, 1]], "steps": np.array([3])}
    assert Ctc("ab", output="scores")(outputs) == "aba"
    assert Ctc("ab", length="steps")(outputs) == "ab"


def test_characters_come_from_a_file(tmp_path: Path) -> None:
    """Each line has one, which may be a space; PaddleOCR adds a space after them."""
    file = tmp_path / "keys.txt"
    file.write_text("ä\n \nb\n", encoding="utf-8")
    assert decoder_named(f"ctc:characters={file}") == Ctc(("ä", " ", "b"))
    assert decoder_named(f"ctc:characters={file},space=yes,blank=-1") == Ctc(("ä", " ", "b", " "), -1)


def corners(layout: str) -> NDArray[np.float32]:
    """Return the boxes in another layout of their numbers."""
    left, top, right, bottom = FOUND.T
    columns = {
        "xyxy": (left, top, right, bottom),
        "yxyx": (top, left, bottom, right),
        "xywh": (left, top, right - left, bottom - top),
        "cxcywh": ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top),
    }
    return np.stack(columns[layout], axis=1)


ONES = np.ones((3, 1), np.float32)
LAYOUTS = {
    "boxes and classes": ({"boxes": FOUND, "scores": SCORES}, Boxes("boxes", "scores")),
    "rows first": ({"boxes": corners("yxyx"), "scores": SCORES}, Boxes("boxes", "scores", corners="yxyx")),
    "left, top and size": ({"boxes": corners("xywh"), "s": SCORES}, Boxes("boxes", "s", corners="xywh")),
    "yolov5": (
        {"o": np.concatenate([corners("cxcywh"), 0.5 * ONES, 2 * SCORES], axis=1)},
        Boxes(corners="cxcywh", columns="objectness"),
    ),
    "yolov8": (
        {"o": np.concatenate([corners("cxcywh"), SCORES], axis=1).T},
        Boxes(corners="cxcywh", transposed=True),
    ),
    "background": (
        {"boxes": FOUND, "scores": np.concatenate([ONES, SCORES], axis=1)},
        Boxes("boxes", "scores", background=0, first_label=-1),
    ),
    "score and label": (
        {"o": np.concatenate([FOUND, [[0.9, 0], [0.6, 0], [0.7, 1]]], axis=1)},
        Boxes(columns="score-label"),
    ),
    "labels": (
        {"boxes": FOUND, "scores": np.array([0.9, 0.6, 0.7]), "labels": np.array([0, 0, 1], np.float32)},
        Boxes("boxes", "scores", "labels"),
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_holds_the_same_detections(name: str) -> None:
    """The weaker of two boxes of one label that overlap is suppressed."""
    outputs, decode = LAYOUTS[name]
    found = decode(outputs)
    np.testing.assert_allclose(found.boxes, FOUND[[0, 2]], atol=1e-5)
    np.testing.assert_allclose(found.scores, [0.9, 0.7], atol=1e-6)
    assert found.labels.tolist() == [0, 1]


def test_a_graph_may_suppress_boxes_itself() -> None:
    """The boxes up to its count are all kept, and low scores are left out."""
    outputs = {"boxes": FOUND, "scores": np.array([0.9, 0.6, 0.7]), "count": np.array([2], np.int32)}
    decode = Boxes("boxes", "scores", count="count", overlap=None)
    assert decode(outputs).scores.tolist() == [0.9, 0.6]
    assert Boxes("boxes", "scores", count="count", overlap=None, most=1)(outputs).scores.tolist() == [0.9]
    assert Boxes("boxes", "scores", count="count", least=0.8)(outputs).scores.tolist() == [0.9]
    empty = decode({**outputs, "count": np.array([0])})
    assert (empty.boxes.shape, empty.labels.shape, empty.scores.shape) == ((0, 4), (0,), (0,))


@pytest.mark.parametrize("scores", [SCORES, SCORES.max(axis=1)])
def test_the_only_box_of_an_input_is_one(scores: NDArray[Any]) -> None:
    """The runtime takes the first side of 1 for that of the batch, and drops it."""
    outputs = {"boxes": FOUND[0], "scores": scores[0]}
    found = Boxes("boxes", "scores")(outputs)
    np.testing.assert_array_equal(found.boxes, FOUND[:1])
    assert found.scores.tolist() == [pytest.approx(0.9)]
    packed = Boxes(columns="score-label")({"o": np.array([10, 20, 50, 60, 0.9, 3])})
    assert (packed.boxes.shape, packed.labels.tolist()) == ((1, 4), [3])


def test_boxes_may_be_shares_of_the_sides() -> None:
    """Widths and heights have their own scale."""
    found = Boxes("boxes", "scores", width=200, height=100)({"boxes": FOUND, "scores": SCORES})
    np.testing.assert_allclose(found.boxes[0], [0.05, 0.2, 0.25, 0.6])


@given(
    arrays(np.float64, (6, 4), elements=st.integers(0, 8)),
    arrays(np.float64, 6, elements=st.sampled_from([0.1, 0.3, 0.5, 0.7])),
    arrays(np.int64, 6, elements=st.integers(0, 1)),
    st.sampled_from([0.0, 0.3, 0.6]),
)
def test_suppression_equals_a_plain_loop(
    sizes: NDArray[Any], scores: NDArray[Any], labels: NDArray[Any], overlap: float
) -> None:
    """A box is left out if one that is kept, of its label and a higher score, overlaps it by more."""
    boxes = np.concatenate([sizes[:, :2], sizes[:, :2] + sizes[:, 2:]], axis=1)
    kept: list[int] = []
    for i in sorted(range(6), key=lambda i: -scores[i]):
        if scores[i] >= 0.25 and all(labels[i] != labels[j] or iou(boxes[i], boxes[j]) <= overlap for j in kept):
            kept.append(i)
    found = Boxes("boxes", "scores", "labels", overlap=overlap)({"boxes": boxes, "scores": scores, "labels": labels})
    np.testing.assert_array_equal(found.boxes, boxes[kept])
    np.testing.assert_array_equal(found.labels, labels[kept])


def iou(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the intersection over union of two boxes, by counting whole pixels."""
    pixels = [{(x, y) for x in range(int(a), int(c)) for y in range(int(b), int(d))} for a, b, c, d in (one, other)]
    return len(pixels[0] & pixels[1]) / max(1, len(pixels[0] | pixels[1]))


def test_maps_values_and_rankings() -> None:
    """A number is a float, and a ranking keeps the order of equal scores."""
    scores = np.array([[[0.1, 0.9]], [[0.8, 0.2]]], np.float32)
    np.testing.assert_array_equal(ClassMap()({"scores": scores}), [[1, 0]])
    np.testing.assert_array_equal(ClassMap(axis=-1)({"scores": scores}), [[1], [0]])
    assert Value("mean")({"mean": np.array([2.5], np.float32), "variance": np.array(1.0)}) == 2.5
    np.testing.assert_array_equal(Value()({"mean": np.array([1.0, 2.0])}), [1, 2])
    assert Ranking(most=3)({"scores": np.array([0.1, 0.5, 0.3, 0.5])}).tolist() == [1, 3, 2]


@pytest.mark.parametrize(
    ("decode", "outputs", "message"),
    [
        (Ctc("ab"), {}, "^decode: expected the name of an output, because there are none"),
        (Ctc("ab", output="text"), {"scores": np.zeros((2, 3))}, "^decode: expected an output 'text', got scores"),
        (Ctc("ab"), {"scores": np.zeros((2, 4))}, r"^decode: .*3 classes.* got \[2, 4\]"),
        (Ctc("ab"), {"scores": np.zeros(3)}, r"^decode: expected 'scores' \[steps, classes\].* got \[3\]"),
        (Ctc("ab", length="n"), {"s": np.zeros((2, 3)), "n": np.array([1, 2])}, "^decode: expected one number"),
        (Boxes(), {"boxes": np.zeros((2, 4))}, "^decode: expected scores beside the boxes"),
        (Boxes("b", "s"), {"b": np.zeros((2, 4)), "s": np.zeros(3)}, r"^decode: .*\[2, 4\] and \[3\]"),
        (Boxes("b", "s", "l"), {"b": np.zeros((2, 4)), "s": np.zeros(2), "l": np.zeros(3)}, "^decode: .*label.*2.*3"),
        (Boxes("b", "s", background=2), {"b": np.zeros((2, 4)), "s": np.zeros((2, 2))}, "^background: .*got 2"),
        (Value(), {"a": np.zeros(1), "b": np.zeros(1)}, "^decode: .*because there are a, b"),
        (ClassMap(axis=3), {"a": np.zeros((2, 2))}, "^axis: expected one of the 2 axes"),
    ],
)
def test_outputs_of_another_model_are_refused(decode: Decode, outputs: dict[str, NDArray[Any]], message: str) -> None:
    """The error names the output, what was expected and what came."""
    with pytest.raises(ArgumentError, match=message):
        decode(outputs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("boxes:corners=ltrb", "^--decode: corners: expected one of xyxy, "),
        ("boxes:columns=all", "^--decode: columns: expected one of "),
        ("boxes:most=0", "^--decode: most: expected a number above 0"),
        ("ctc", "^--decode: expected ctc:characters="),
        ("ctc:characters=no/such/file", "^--decode: characters: expected a text file"),
        ("speech", "^--decode: expected boxes, class-map, ctc"),
    ],
)
def test_decoders_and_options_that_do_not_exist_are_refused(text: str, message: str) -> None:
    """The error begins with the name of the argument."""
    with pytest.raises(ArgumentError, match=message):
        decoder_named(text, "--decode")


def test_a_blank_among_the_characters_is_a_class() -> None:
    """It lies within the classes."""
    with pytest.raises(ArgumentError, match=r"^blank: expected a class from 0 to 2, .* got 3"):
        Ctc("ab", 3)
