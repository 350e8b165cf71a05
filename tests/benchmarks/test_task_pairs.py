"""The pairs of general tasks: inputs with exact references, models that take them, and cascades that help."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgecascade.benchmarks.cache import cache_folder
from edgecascade.benchmarks.commands import demo
from edgecascade.benchmarks.pairs.built_in import TASKS
from edgecascade.benchmarks.pairs.flagship import Protocol
from edgecascade.benchmarks.pairs.ocr import Tokens, ocr_lines, prepare_ocr
from edgecascade.benchmarks.pairs.prepared_task import PreparedTask, Sizes
from edgecascade.benchmarks.pairs.rendering import Renderer
from edgecascade.benchmarks.pairs.retrieval import prepare_retrieval, same_class, with_gallery
from edgecascade.benchmarks.pairs.text_detection import TextBoxes, detection_scenes, prepare_detection, sure_pixels
from edgecascade.calibration import MostAccuracy
from edgecascade.calibration.verifiers import box_iou
from edgecascade.cli import main
from edgecascade.export.data import ReferencedData
from edgecascade.runtime.decode import Ctc
from edgecascade.runtime.engine import open_session


def test_the_command_offers_every_task() -> None:
    """The command's list equals the table of pairs."""
    assert tuple(TASKS) == demo._TASKS


@pytest.mark.parametrize("option", ["--images 1,2,3", "--latency 1", "--network wifi"])
def test_options_of_classifiers_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The error is raised before anything is downloaded."""
    assert main(["bench", "demo", "--pair", "ocr", *option.split()]) == 2
    assert f"{option.split()[0]}: expected a pair of image classifiers, got ocr" in capsys.readouterr().err


def test_parts_have_numbers_of_their_own() -> None:
    """Planning and test are disjoint and complete."""
    split = Sizes(3, 4).split(lambda numbers: ReferencedData(np.array(numbers), list(numbers), ""))
    assert [list(split.planning.references), list(split.test.references)] == [[0, 1, 2], [3, 4, 5, 6]]


def test_likeliest_classes_read_like_their_scores() -> None:
    """The decoder of classes agrees with the one of scores."""
    rng = np.random.default_rng(0)
    for steps in (0, 1, 2, 30):
        scores = rng.random((steps, 4))
        tokens = scores.argmax(axis=1)
        assert Tokens("abc")({"tokens": tokens}) == Ctc("abc")({"scores": scores})


def test_boxes_hold_what_is_likely_text() -> None:
    """Two blocks of pixels give two boxes in pixels of the scene; specks and doubtful blocks give none."""
    probability = np.zeros((1, 64, 64), np.float32)
    probability[0, 4:12, 8:40] = 0.9
    probability[0, 30:36, 10:30] = 0.8
    probability[0, 50:60, 50:60] = 0.4
    probability[0, 20, 60] = 1.0
    found = TextBoxes(128)({"probabilities": probability})
    ink = np.array([[16, 8, 80, 24], [20, 60, 60, 72]])
    assert len(found.boxes) == 2
    assert (found.boxes[:, :2] < ink[:, :2]).all()
    assert (found.boxes[:, 2:] > ink[:, 2:]).all()
    assert found.scores == pytest.approx([0.9, 0.8])
    assert TextBoxes(128)({"probabilities": np.zeros((1, 64, 64))}).boxes.shape == (0, 4)


def test_unsure_pixels_lower_the_score() -> None:
    """It is minus the number of unsure pixels per pixel of text, for each input of a batch."""
    rng = np.random.default_rng(1)
    batch = rng.random((3, 1, 16, 16)).astype(np.float32)
    batch[1] = 0
    (score,) = open_session(sure_pixels().SerializeToString()).run(None, {"probabilities": batch})
    unsure, text = ((batch > 0.1) & (batch < 0.7)).sum(axis=(1, 2, 3)), (batch > 0.3).sum(axis=(1, 2, 3))
    assert score == pytest.approx(-unsure / np.maximum(text, 1))


def test_the_gallery_in_the_graph_finds_the_nearest() -> None:
    """The graph agrees with cosines of standardised features in numpy."""
    rng = np.random.default_rng(2)
    gallery, queries = (rng.normal(3, 2, (n, 8)).astype(np.float32) for n in (40, 5))
    shape: list[str | int | None] = ["batch", 8]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["features"])],
        "identity",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = open_session(with_gallery(model, gallery).SerializeToString())
    similarity, found = session.run(["similarity", "found"], {"x": queries})
    one, other = ((rows - gallery.mean(axis=0)) / gallery.std(axis=0) for rows in (queries, gallery))
    cosine = (one @ other.T) / np.linalg.norm(one, axis=1)[:, None] / np.linalg.norm(other, axis=1)
    assert similarity == pytest.approx(-np.sort(-cosine, axis=1)[:, :10], abs=1e-4)
    assert np.take_along_axis(cosine, found, axis=1) == pytest.approx(similarity, abs=1e-4)
    assert same_class([np.array([1, 1, 2, 2])], [2]) == pytest.approx([0.5])


@pytest.mark.slow
def test_an_image_depends_on_its_number_alone() -> None:
    """Lines have texts of their own, and parts of another size hold the same images."""
    renderer = Renderer(cache_folder())
    images, texts = renderer.lines(range(6))
    again, same = renderer.lines([4, 2])
    assert np.array_equal(again, images[[4, 2]])
    assert same == [texts[4], texts[2]]
    assert len(set(renderer.texts)) == len(renderer.texts) > 20_000
    assert all(8 <= len(text) <= 22 and text.isascii() for text in renderer.texts)
    assert ocr_lines(cache_folder(), Sizes(2, 3)).test.references == texts[2:5]


@pytest.mark.slow
def test_boxes_of_a_scene_do_not_overlap() -> None:
    """All lie inside the scene, and each holds ink: its pixels vary more than those of bare paper."""
    scenes = detection_scenes(cache_folder(), Sizes(1, 12)).test
    for image, reference in zip(np.asarray(scenes.inputs), scenes.references, strict=True):
        boxes = reference["boxes"]
        assert ((boxes >= 0) & (boxes <= 512)).all()
        assert box_iou(boxes, boxes).sum() == pytest.approx(len(boxes))
        for left, top, right, bottom in boxes.astype(int):
            assert image[top : bottom + 1, left : right + 1].std() > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ocr", "text-detection", "retrieval"])
def test_the_cascade_is_better_than_random_offloading(name: str) -> None:
    """A complete run on fewer inputs: the planned order wins, and the confidence is calibrated."""
    prepared = _few(name)
    result = prepared.measure()
    area = result.areas["advantage"]
    assert area is not None
    assert area.area.value > 0
    assert result.remote.accuracy.value > result.local.accuracy.value
    assert result.local.accuracy.value <= result.cascade.accuracy.value
    assert result.corrected_ece.low < 0.1
    assert prepared.cascade.stat().st_size < 1.1 * prepared.models.body.stat().st_size + 100_000


def _few(name: str) -> PreparedTask:
    objective, cache = MostAccuracy(0.3), cache_folder()
    if name == "ocr":
        return prepare_ocr(cache, objective, exact=True, sizes=Sizes(150, 150))
    if name == "text-detection":
        return prepare_detection(cache, objective, sizes=Sizes(120, 120))
    return prepare_retrieval(cache, objective, photos=Protocol(head=300, calibration=200, test=200))
