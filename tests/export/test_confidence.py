"""Every confidence function gives in the graph what numpy gives for the same outputs of a body."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper

from edgecascade.export import ExportError
from edgecascade.export.task.confidence import Confidence, confidence_named
from edgecascade.export.task.fold import with_score
from edgecascade.runtime.decode import Boxes
from edgecascade.runtime.engine import open_session

Outputs = Mapping[str, NDArray[Any]]
OPSETS = (13, 18, 21)


def scored(
    confidence: Confidence, outputs: Outputs, opset: int, samples: Sequence[Outputs] | None = None
) -> NDArray[Any]:
    """Return the scores of outputs, by the graph that a confidence function writes for samples of them."""
    alone = [{name: array[[i]] for name, array in outputs.items()} for i in range(len(next(iter(outputs.values()))))]
    inputs = [
        helper.make_tensor_value_info(
            f"{name}_in", helper.np_dtype_to_tensor_dtype(array.dtype), [f"{name}{i}" for i in range(array.ndim)]
        )
        for name, array in outputs.items()
    ]
    given = [helper.make_value_info(name, one.type) for name, one in zip(outputs, inputs, strict=True)]
    nodes = [helper.make_node("Identity", [f"{name}_in"], [name]) for name in outputs]
    body = helper.make_model(
        helper.make_graph(nodes, "body", inputs, given), opset_imports=[helper.make_opsetid("", opset)], ir_version=8
    )
    model, score = with_score(body, confidence.graph(samples or alone, opset))
    feeds = {f"{name}_in": array for name, array in outputs.items()}
    found: NDArray[Any] = open_session(model.SerializeToString()).run([score], feeds)[0]
    assert found.dtype == np.float32
    return found


def softmax(x: NDArray[Any]) -> NDArray[np.float64]:
    """Return softmax over the last axis."""
    raised = np.exp(x.astype(np.float64) - x.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def detections(text: str, scores: NDArray[Any], count: NDArray[Any] | None = None, floor: float = -np.inf) -> list[Any]:
    """Return the reference of `max`, `mean` and `min`: one input at a time."""
    how: Any = {"max": np.max, "mean": np.mean, "min": np.min}[text.partition(":")[0]]
    rows = [row if count is None else row[: int(count[i].item())] for i, row in enumerate(scores)]
    kept = [row[~(row < floor)] for row in rows]
    return [how(row) if len(row) else 0.0 for row in kept]


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("name", ["max", "mean", "min"])
@pytest.mark.parametrize("floor", [None, 0.6])
@pytest.mark.parametrize("counted", [False, True])
def test_scores_of_detections(opset: int, name: str, floor: float | None, counted: bool) -> None:
    """Detections below the floor, and those after the count, are left out; an input without any scores 0."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(size=(6, 5)).astype(np.float32)
    scores[2] = 0.1
    count = np.array([[5], [2], [0], [3], [1], [0]], np.int32)
    options = ["output=scores", *([f"floor={floor}"] if floor else []), *(["count=count"] if counted else [])]
    text = f"{name}:{','.join(options)}"
    expected = detections(text, scores, count if counted else None, floor or -np.inf)
    got = scored(confidence_named(text), {"scores": scores, "count": count}, opset)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["max", "mean", "min"])
def test_scores_of_classes_of_detections(name: str) -> None:
    """Of several classes, the largest score of a detection counts; of a table, one column."""
    rng = np.random.default_rng(1)
    scores = rng.uniform(size=(3, 7, 4)).astype(np.float32)
    got = scored(confidence_named(f"{name}:floor=0.8"), {"scores": scores}, 17)
    np.testing.assert_allclose(got, detections(name, scores.max(axis=2), floor=float(np.float32(0.8))), rtol=1e-6)
    column = scored(confidence_named(f"{name}:column=2"), {"scores": scores}, 17)
    np.testing.assert_allclose(column, detections(name, scores[:, :, 2]), rtol=1e-6)


@pytest.mark.parametrize("name", ["max", "mean", "min"])
@pytest.mark.parametrize("n", [0, 1, 4])
def test_detections_without_a_batch_axis(name: str, n: int) -> None:
    """After non-maximum suppression there are [N] scores, or rows [N, columns], of one input; N may be 0."""
    rng = np.random.default_rng(n)
    scores, rows = rng.uniform(size=n).astype(np.float32), rng.uniform(size=(n, 6)).astype(np.float32)
    samples = [{"scores": rng.uniform(size=k).astype(np.float32)} for k in (3, 1)]
    got = scored(confidence_named(name), {"scores": scores}, 17, samples=samples)
    np.testing.assert_allclose(got, detections(name, scores[None]), rtol=1e-6)
    tables = [{"rows": rng.uniform(size=(k, 6)).astype(np.float32)} for k in (3, 1)]
    got = scored(confidence_named(f"{name}:column=4"), {"rows": rows}, 17, samples=tables)
    np.testing.assert_allclose(got, detections(name, rows[None, :, 4]), rtol=1e-6)


LAYOUTS = [
    ("mean:columns=classes,transposed=yes", Boxes(transposed=True, corners="cxcywh"), {"x": (8, 7)}),
    ("mean:columns=classes,background=-1", Boxes(background=-1), {"x": (7, 8)}),
    ("mean:columns=objectness", Boxes(columns="objectness", corners="cxcywh"), {"x": (7, 8)}),
    ("mean:columns=objectness", Boxes(columns="objectness"), {"x": (7, 5)}),
    ("mean:columns=score-label", Boxes(columns="score-label"), {"x": (7, 6)}),
    ("mean:output=s,background=0", Boxes(boxes="x", scores="s", background=0), {"x": (7, 4), "s": (7, 3)}),
]


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize(("text", "decode", "shapes"), LAYOUTS, ids=[f"{i}" for i in range(len(LAYOUTS))])
def test_scores_are_read_where_the_decoder_of_boxes_finds_them(
    text: str, decode: Boxes, shapes: dict[str, tuple[int, ...]], batched: bool, opset: int
) -> None:
    """Not coordinates, with which they share an output; with or without an axis of the batch."""
    rng = np.random.default_rng(3)
    outputs = {name: rng.uniform(size=(4, *shape)).astype(np.float32) for name, shape in shapes.items()}
    every = replace(decode, overlap=None)
    answers = [every({name: array[i] for name, array in outputs.items()}).scores for i in range(4)]
    assert all(len(one) > 0 for one in answers)
    confidence = confidence_named(f"{text},floor=0.25")
    if batched:
        got = scored(confidence, outputs, opset)
    else:
        each = [{name: array[i] for name, array in outputs.items()} for i in range(4)]
        got = np.concatenate([scored(confidence, one, opset, samples=each) for one in each])
    np.testing.assert_allclose(got, [one.mean() for one in answers], rtol=1e-6)


def log_probabilities(x: NDArray[Any], logits: bool) -> NDArray[np.float64]:
    """Return the logarithm of probabilities, or of the softmax of logits."""
    return np.log(softmax(x) if logits else np.maximum(x.astype(np.float64), np.finfo(np.float32).tiny))


def steps_of(x: NDArray[Any], length: int, blank: int | None) -> NDArray[np.bool_]:
    """Return which steps [steps] of one input count."""
    real = np.arange(len(x)) < length
    if blank is None:
        return real
    symbol = x.argmax(axis=1)
    spoken = real & (symbol != blank) & (symbol != np.append(-1, symbol[:-1]))
    return spoken if spoken.any() else real


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(
    ("name", "blank"),
    [
        *product(["mean-log-probability", "min-log-probability"], [None, 0, -1]),
        ("entropy", None),
        ("margin", None),
    ],
)
@pytest.mark.parametrize("logits", [True, False])
@pytest.mark.parametrize("padding", ["", "mask", "length"])
def test_scores_of_sequences(opset: int, name: str, logits: bool, padding: str, blank: int | None) -> None:
    """Padding does not count, nor do blanks and repeats under CTC; a sequence of blanks counts whole."""
    rng = np.random.default_rng(2)
    raw = rng.normal(0, 2, (5, 6, 4)).astype(np.float32)
    raw[3] = 0.1
    raw[3, :, -1 if blank == -1 else 0] = 3
    x = raw if logits else softmax(raw).astype(np.float32)
    length = np.array([6, 3, 1, 4, 5], np.int64)
    outputs: Outputs = {"x": x, "mask": (np.arange(6) < length[:, None]).astype(np.float32), "length": length}
    options = [
        "output=x",
        *([f"{padding}={padding}"] if padding else []),
        *([f"blank={blank}"] if blank is not None else []),
    ]
    expected = []
    for row, count in zip(x, length if padding else [6] * 5, strict=True):
        keep = steps_of(row, count, None if blank is None else blank % 4)
        p = softmax(row) if logits else row.astype(np.float64)
        each = {
            "entropy": (p * log_probabilities(row, logits)).sum(axis=1),
            "margin": np.sort(row)[:, -1] - np.sort(row)[:, -2],
        }.get(name, log_probabilities(row, logits).max(axis=1))
        expected.append(each[keep].min() if name.startswith("min") else each[keep].mean())
    got = scored(confidence_named(f"{name}:{','.join(options)}"), outputs, opset)
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("logits", [True, False])
@pytest.mark.parametrize("blank", [0, 7, -1])
@pytest.mark.parametrize("classes", [300, 307, 6625])
def test_scores_of_sequences_of_many_classes(classes: int, blank: int, logits: bool) -> None:
    """The characters and their log-probabilities are found in blocks as they are among few classes."""
    rng = np.random.default_rng(classes)
    raw = rng.normal(0, 1, (2, 12, classes)).astype(np.float32)
    raw[:, ::3, blank] = 6
    raw[:, 1::3, 5] = raw[:, 2::3, 5] = 7 + rng.random((2, 4), np.float32)
    raw[1, 2::3, classes - 2] = 9
    x = raw if logits else softmax(raw).astype(np.float32)
    expected = [
        np.log(softmax(raw[i : i + 1].astype(np.float64))[0].max(axis=1))[steps_of(x[i], 12, blank % classes)].mean()
        for i in range(2)
    ]
    got = scored(confidence_named(f"mean-log-probability:output=x,blank={blank}"), {"x": x}, 17)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    x[0] = np.nan
    assert np.isnan(scored(confidence_named(f"mean-log-probability:output=x,blank={blank}"), {"x": x}, 17)[0])


@pytest.mark.parametrize("name", ["mean-log-probability", "entropy", "margin"])
def test_scores_of_maps_and_single_answers(name: str) -> None:
    """The classes may be on another axis with several axes of steps behind it, or the only axis."""
    raw = np.random.default_rng(3).normal(0, 2, (4, 3, 5, 2)).astype(np.float32)
    rows = np.moveaxis(raw, 1, -1).reshape(4, 10, 3)
    text = f"{name}:kind=logits"
    wide = scored(confidence_named(f"{text},axis=1"), {"x": raw}, 17)
    np.testing.assert_allclose(wide, scored(confidence_named(text), {"x": rows}, 17), rtol=1e-5)
    single = scored(confidence_named(text), {"x": rows[:, 0]}, 17)
    np.testing.assert_allclose(single, scored(confidence_named(text), {"x": rows[:, :1]}, 17), rtol=1e-5)


def test_a_sequence_without_a_batch_axis() -> None:
    """Steps [steps, classes] are of one input."""
    rng = np.random.default_rng(4)
    samples = [{"x": rng.normal(size=(k, 3)).astype(np.float32)} for k in (4, 6)]
    got = scored(confidence_named("mean-log-probability:kind=logits"), samples[1], 17, samples=samples)
    assert got.shape == (1,)
    np.testing.assert_allclose(got[0], log_probabilities(samples[1]["x"], True).max(axis=1).mean(), rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_an_output_as_it_is(dtype: Any, shape: tuple[int, ...]) -> None:
    """A variance is negated, since less of it is surer."""
    variance = np.array([0.5, 2.0, np.nan, 0.0], dtype).reshape(shape)
    got = scored(confidence_named("output:negate=yes"), {"variance": variance}, 17)
    np.testing.assert_array_equal(got, -variance.ravel().astype(np.float32))


@pytest.mark.parametrize(
    "text", ["max", "mean", "min", "mean-log-probability", "min-log-probability", "entropy", "margin"]
)
def test_a_score_of_nothing_but_nan_is_nan(text: str) -> None:
    """A body that fails gives NaN, so that its input is forwarded; other inputs of the batch keep their scores."""
    x = np.random.default_rng(5).uniform(0.1, 0.9, (3, 4, 5)).astype(np.float32)
    x[1] = np.nan
    got = scored(confidence_named(text), {"x": x}, 17)
    assert np.isnan(got).tolist() == [False, True, False]


BAD: list[tuple[str, Outputs, str]] = [
    ("max:output=boxes", {"scores": np.zeros((2, 3), np.float32)}, r"max:output=one of scores, got 'boxes'"),
    ("max:count=n", {"scores": np.zeros((2, 3), np.float32)}, r"max:count=one of scores, got 'n'"),
    ("max", {"a": np.zeros((2, 3), np.float32), "b": np.zeros((2, 3), np.float32)}, r"max:output=NAME, .*a float32"),
    ("output", {"a": np.zeros((2, 3), np.float32)}, r"output:output=NAME, .* one number per input"),
    ("entropy:kind=odds", {"a": np.ones((2, 3), np.float32)}, r"kind=auto, kind=logits, kind=probabilities, got"),
    ("margin:axis=9", {"a": np.ones((1, 4, 3), np.float32)}, r"margin:output=NAME, .* scores of classes along axis 9"),
    (
        "entropy",
        {"a": np.ones((1, 4, 3, 3), np.float32)},
        r"entropy:axis=\.\.\., .* in 'a' \[1, 4, 3, 3\], such as axis=1",
    ),
    ("mean-log-probability:blank=7", {"a": np.ones((1, 4, 3), np.float32)}, r".*:blank=one of 3 classes, got 7"),
    ("max:columns=score", {"a": np.ones((1, 4, 6), np.float32)}, r"max:columns=one of classes, .*, got score"),
    ("max:columns=classes,background=2", {"a": np.ones((1, 4, 6), np.float32)}, r"background=one of 2 classes, got 2"),
    ("max:columns=classes", {"a": np.ones((1, 9, 4), np.float32)}, r"max:output=NAME, .*with boxes and scores"),
    ("max:column=1", {"a": np.ones(2, np.float32)}, r"max:output=NAME"),
]


@pytest.mark.parametrize(("text", "outputs", "message"), BAD)
def test_outputs_that_do_not_fit_are_refused(text: str, outputs: Outputs, message: str) -> None:
    """The error names the option, what was expected and what the body gives."""
    with pytest.raises(ExportError, match=rf"^confidence: expected .*{message}"):
        confidence_named(text).graph([outputs, outputs], 17)
