"""Preprocessing in the graph is what Pillow does, so training and device agree."""

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
    """A picture with shapes and noise, like a photo."""
    rng = np.random.default_rng(height * width)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 5, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    noise = rng.normal(0, 10, (height, width, 3))
    return np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def pixels(build: Body) -> Callable[[ImagePreprocessing], ModelProto]:
    """Makes a body that gives back the pixels it gets."""

    def pixels(preprocessing: ImagePreprocessing) -> ModelProto:
        shape = [3, preprocessing.height, preprocessing.width]
        return build([helper.make_node("Identity", ["z"], ["logits"])], shape, shape)

    return pixels


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
@pytest.mark.parametrize("size", [(32, 32), (64, 48), (300, 200), (97, 131), (1, 7)], ids="{0[0]}x{0[1]}".format)
def test_resizing_is_pillows(pixels: Body, interpolation: str, size: tuple[int, int]) -> None:
    """Up and down, any aspect, to within the bytes that Pillow rounds and clips to between its two passes."""
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
def test_before_rounding_it_is_pillow_to_a_thousandth(pixels: Body, interpolation: str, size: tuple[int, int]) -> None:
    """In Pillow's floating-point mode, which neither rounds nor clips, the two are one resize."""
    preprocessing = ImagePreprocessing(48, 56, (0.0,) * 3, (1.0,) * 3, interpolation)
    image = smooth(*size)
    resampling = {"linear": Image.Resampling.BILINEAR, "cubic": Image.Resampling.BICUBIC}[interpolation]
    wanted = [Image.fromarray(image[..., c].astype(np.float32)).resize((56, 48), resampling) for c in range(3)]
    model = prepend(preprocessing, pixels(preprocessing))
    (found,) = open_session(model.SerializeToString()).run(["logits"], {"image": image[None]})
    np.testing.assert_allclose(found[0], np.stack([np.asarray(channel) for channel in wanted]), rtol=0, atol=1e-3)


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_an_image_of_the_right_size_is_only_normalised(pixels: Body, interpolation: str) -> None:
    """Pixel less mean, by standard deviation, channel by channel, to the bit."""
    preprocessing = ImagePreprocessing(9, 7, MEAN, STD, interpolation)
    image = smooth(9, 7)
    model = prepend(preprocessing, pixels(preprocessing))
    (found,) = open_session(model.SerializeToString()).run(["logits"], {"image": image[None]})
    wanted = (image.astype(np.float32) - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    np.testing.assert_array_equal(found[0], wanted.transpose(2, 0, 1))


def test_one_file_takes_images_of_any_size(pixels: Body) -> None:
    """Batch, height and width are free; the type is not."""
    preprocessing = ImagePreprocessing(8, 8, MEAN, STD)
    session = open_session(prepend(preprocessing, pixels(preprocessing)).SerializeToString())
    for n, height, width in ((1, 8, 8), (3, 20, 10)):
        image = np.zeros((n, height, width, 3), np.uint8)
        assert session.run(["logits"], {"image": image})[0].shape == (n, 3, 8, 8)
    (declared,) = session.get_inputs()
    assert (declared.name, declared.type, declared.shape[3]) == ("image", "tensor(uint8)", 3)


def test_it_can_stand_alone(pixels: Body) -> None:
    """The same pixels as in front of the body, for quantizing on."""
    preprocessing = ImagePreprocessing(8, 8, MEAN, STD)
    image = smooth(20, 30)[None]
    whole = open_session(prepend(preprocessing, pixels(preprocessing)).SerializeToString())
    alone = open_session(standalone(preprocessing, pixels(preprocessing)).SerializeToString())
    np.testing.assert_array_equal(whole.run(None, {"image": image})[0], alone.run(None, {"image": image})[0])


def test_it_is_recorded_in_the_file(pixels: Body) -> None:
    """For whoever has to do the same elsewhere."""
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


def test_the_body_is_left_alone_and_its_batch_stays(build: Body) -> None:
    """A copy is made; a batch that was fixed is still fixed, and sides that were free take the size."""
    body = build([helper.make_node("Identity", ["z"], ["logits"])], ["c", "h", "w"], [3, 8, 8], batch=2)
    before = body.SerializeToString()
    session = open_session(prepend(ImagePreprocessing(8, 8, MEAN, STD), body).SerializeToString())
    assert body.SerializeToString() == before
    assert session.get_inputs()[0].shape == [2, "height", "width", 3]
    assert session.run(None, {"image": np.zeros((2, 5, 6, 3), np.uint8)})[0].shape == (2, 3, 8, 8)


@pytest.mark.parametrize(
    ("source", "inner"), [("image", "inner"), ("z", "image"), ("z", "preprocess/float"), ("preprocess/size", "inner")]
)
def test_names_inside_the_body_collide_with_nothing(build: Body, source: str, inner: str) -> None:
    """A body may call its input `image`, as many do, or use any name that prepending adds."""
    nodes = [helper.make_node("Neg", [source], [inner]), helper.make_node("Neg", [inner], ["logits"])]
    body = build(nodes, [3, 8, 8], [3, 8, 8], source=source)
    model = prepend(ImagePreprocessing(8, 8, MEAN, STD), body)
    onnx.checker.check_model(model)
    (found,) = open_session(model.SerializeToString()).run(["logits"], {"image": np.full((1, 8, 8, 3), 100, np.uint8)})
    assert found[0, 0].tolist() == [[0.0] * 8] * 8


def test_a_body_of_two_inputs_is_refused(build: Body) -> None:
    """There is one image to put before it."""
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
        pytest.param({"shape": [3, 8, 8], "opset": 17}, r"its opset is 17, expected 18", id="an old opset"),
    ],
)
def test_a_body_that_takes_something_else_is_refused(build: Body, options: dict[str, object], message: str) -> None:
    """One sentence."""
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
def test_preprocessing_that_cannot_be_is_refused(arguments: tuple[object, ...], name: str) -> None:
    """One sentence that names the argument."""
    with pytest.raises(ArgumentError, match=f"^{name}: expected"):
        ImagePreprocessing(*arguments)  # type: ignore[arg-type]
