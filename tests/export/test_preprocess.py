"""Preprocessing in the graph equals Pillow's, so training and device agree."""

import json
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from PIL import Image

from edgecascade.export import ExportError, ImagePreprocessing, prepend
from edgecascade.export.sources import standalone
from edgecascade.runtime.engine import open_session
from edgecascade.types.document import PREPROCESSING_KEY
from edgecascade.types.errors import ArgumentError

Body = Callable[..., ModelProto]
MEAN, STD = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)


def smooth(height: int, width: int) -> NDArray[np.uint8]:
    """Return a picture of smooth shapes and noise, like a photograph."""
    rng = np.random.default_rng(height * width)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 5, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    noise = rng.normal(0, 10, (height, width, 3))
    return np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def pixels(build: Body) -> Callable[[ImagePreprocessing], ModelProto]:
    """Return a body that outputs the pixels of its input."""

    def pixels(preprocessing: ImagePreprocessing) -> ModelProto:
        shape = [3, preprocessing.height, preprocessing.width]
        return build([helper.make_node("Identity", ["z"], ["logits"])], shape, shape)

    return pixels


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
@pytest.mark.parametrize("size", [(32, 32), (64, 48), (300, 200), (97, 131), (1, 7)], ids="{0[0]}x{0[1]}".format)
def test_resizing_equals_pillow(pixels: Body, interpolation: str, size: tuple[int, int]) -> None:
    """At any scale and aspect ratio, the graph agrees with Pillow up to Pillow's rounding between its two passes."""
    preprocessing = ImagePreprocessing(48, 56, MEAN, STD, interpolation)
    image = smooth(*size)
    resampling = {"linear": Image.Resampling.BILINEAR, "cubic": Image.Resampling.BICUBIC}[interpolation]
    wanted = np.asarray(Image.fromarray(image).resize((56, 48), resampling), np.float32)
    model = prepend(preprocessing, pixels(preprocessing))
    (found,) = open_session(model.SerializeToString()).run(["logits"], {"image": image[None]})
    levels = found[0].transpose(1, 2, 0) * STD + MEAN
    difference = np.abs(levels.clip(0, 255) - wanted)
    assert difference.mean() < 0.35
    assert difference.max() < (1.01 if interpolation == "linear" else 2)


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
@pytest.mark.parametrize("size", [(32, 32), (300, 200), (97, 131), (1, 7)], ids="{0[0]}x{0[1]}".format)
def test_resizing_equals_pillow_in_floating_point(pixels: Body, interpolation: str, size: tuple[int, int]) -> None:
    """In Pillow's floating-point mode, which neither rounds nor clips, the difference is at most one thousandth."""
    preprocessing = ImagePreprocessing(48, 56, (0.0,) * 3, (1.0,) * 3, interpolation)
    image = smooth(*size)
    resampling = {"linear": Image.Resampling.BILINEAR, "cubic": Image.Resampling.BICUBIC}[interpolation]
    wanted = [Image.fromarray(image[..., c].astype(np.float32)).resize((56, 48), resampling) for c in range(3)]
    model = prepend(preprocessing, pixels(preprocessing))
    (found,) = open_session(model.SerializeToString()).run(["logits"], {"image": image[None]})
    np.testing.assert_allclose(found[0], np.stack([np.asarray(channel) for channel in wanted]), rtol=0, atol=1e-3)


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_an_image_of_the_right_size_is_only_normalised(pixels: Body, interpolation: str) -> None:
    """Each channel becomes (pixel - mean) / standard deviation, bit for bit."""
    preprocessing = ImagePreprocessing(9, 7, MEAN, STD, interpolation)
    image = smooth(9, 7)
    model = prepend(preprocessing, pixels(preprocessing))
    (found,) = open_session(model.SerializeToString()).run(["logits"], {"image": image[None]})
    wanted = (image.astype(np.float32) - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    np.testing.assert_array_equal(found[0], wanted.transpose(2, 0, 1))


def test_one_file_accepts_images_of_any_size(pixels: Body) -> None:
    """Batch, height and width are free; the type is fixed."""
    preprocessing = ImagePreprocessing(8, 8, MEAN, STD)
    session = open_session(prepend(preprocessing, pixels(preprocessing)).SerializeToString())
    for n, height, width in ((1, 8, 8), (3, 20, 10)):
        image = np.zeros((n, height, width, 3), np.uint8)
        assert session.run(["logits"], {"image": image})[0].shape == (n, 3, 8, 8)
    (declared,) = session.get_inputs()
    assert (declared.name, declared.type, declared.shape[3]) == ("image", "tensor(uint8)", 3)


def test_preprocessing_can_run_alone(pixels: Body) -> None:
    """It returns the same pixels as in front of the body, for use in quantization."""
    preprocessing = ImagePreprocessing(8, 8, MEAN, STD)
    image = smooth(20, 30)[None]
    whole = open_session(prepend(preprocessing, pixels(preprocessing)).SerializeToString())
    alone = open_session(standalone(preprocessing, pixels(preprocessing)).SerializeToString())
    np.testing.assert_array_equal(whole.run(None, {"image": image})[0], alone.run(None, {"image": image})[0])


def test_preprocessing_is_recorded_in_the_file(pixels: Body) -> None:
    """The record lets other programs reproduce it."""
    preprocessing = ImagePreprocessing(8, 8, MEAN, STD)
    properties = {entry.key: entry.value for entry in prepend(preprocessing, pixels(preprocessing)).metadata_props}
    assert json.loads(properties[PREPROCESSING_KEY]) == {
        "height": 8,
        "width": 8,
        "mean": [100.0, 110.0, 120.0],
        "std": [50.0, 60.0, 70.0],
        "interpolation": "linear",
        "shortest_edge": None,
    }


def test_the_body_is_unchanged_and_its_batch_stays(build: Body) -> None:
    """The body is copied; a fixed batch stays fixed, and free sides take the given size."""
    body = build([helper.make_node("Identity", ["z"], ["logits"])], ["c", "h", "w"], [3, 8, 8], batch=2)
    before = body.SerializeToString()
    session = open_session(prepend(ImagePreprocessing(8, 8, MEAN, STD), body).SerializeToString())
    assert body.SerializeToString() == before
    assert session.get_inputs()[0].shape == [2, "height", "width", 3]
    assert session.run(None, {"image": np.zeros((2, 5, 6, 3), np.uint8)})[0].shape == (2, 3, 8, 8)


@pytest.mark.parametrize(
    ("source", "inner"), [("image", "inner"), ("z", "image"), ("z", "preprocess/float"), ("preprocess/size", "inner")]
)
def test_names_in_the_body_do_not_collide(build: Body, source: str, inner: str) -> None:
    """The body may call its input `image` or use any other name that the preprocessing adds."""
    nodes = [helper.make_node("Neg", [source], [inner]), helper.make_node("Neg", [inner], ["logits"])]
    body = build(nodes, [3, 8, 8], [3, 8, 8], source=source)
    model = prepend(ImagePreprocessing(8, 8, MEAN, STD), body)
    onnx.checker.check_model(model)
    (found,) = open_session(model.SerializeToString()).run(["logits"], {"image": np.full((1, 8, 8, 3), 100, np.uint8)})
    assert found[0, 0].tolist() == [[0.0] * 8] * 8


def test_a_body_of_two_inputs_is_refused(build: Body) -> None:
    """Preprocessing takes one image, so the body must have one input."""
    body = build([helper.make_node("Identity", ["z"], ["logits"])], [3, 8, 8], [3, 8, 8])
    body.graph.input.add().CopyFrom(body.graph.input[0])
    with pytest.raises(ExportError, match=r"^body: expected one input .*got 2"):
        prepend(ImagePreprocessing(8, 8, MEAN, STD), body)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"shape": [3, 9, 8]}, r"expected a float32 input \[batch, 3, 8, 8\]", id="another size"),
        pytest.param({"shape": [1, 8, 8]}, r"expected a float32 input \[batch, 3, 8, 8\]", id="grey"),
        pytest.param({"shape": [8, 8]}, r"expected a float32 input", id="another rank"),
        pytest.param({"shape": [3, 8, 8], "kind": TensorProto.DOUBLE}, r"expected a float32 input", id="another type"),
    ],
)
def test_a_body_with_an_incompatible_input_is_refused(build: Body, options: dict[str, object], message: str) -> None:
    """The error is one sentence."""
    shape = options.pop("shape")
    body = build([helper.make_node("Identity", ["z"], ["logits"])], shape, shape, **options)
    with pytest.raises(ExportError, match=rf"^body: {message}"):
        prepend(ImagePreprocessing(8, 8, MEAN, STD), body)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((0, 8, MEAN, STD), "size"),
        ((8, 8, MEAN, (1.0, 0.0, 1.0)), "std"),
        ((8, 8, MEAN, STD, "nearest"), "interpolation"),
        pytest.param((8, 8, MEAN, (np.nan, 1.0, 1.0)), "std"),
        pytest.param((8, 8, (np.inf, 0.0, 0.0), STD), "mean"),
    ],
)
def test_invalid_preprocessing_is_refused(arguments: tuple[object, ...], name: str) -> None:
    """The error names the argument."""
    with pytest.raises(ArgumentError, match=f"^{name}: expected"):
        ImagePreprocessing(*arguments)  # type: ignore[arg-type]
