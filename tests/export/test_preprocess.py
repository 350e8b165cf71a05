"""Preprocessing in the graph equals Pillow's, so training and device agree."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from PIL import Image

from edgecascade.calibration import softmax
from edgecascade.cli import main
from edgecascade.export import ExportError, ImagePreprocessing, prepend
from edgecascade.export.sources import standalone, suited
from edgecascade.runtime import Cascade
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


def shown(preprocessing: ImagePreprocessing, image: NDArray[np.uint8], build: Body) -> NDArray[Any]:
    """Return what a body of the preprocessing's form gets for an image."""
    kinds = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}
    channels, size = 1 if preprocessing.channels == "grey" else 3, [preprocessing.height, preprocessing.width]
    shape = [channels, *size] if preprocessing.layout == "NCHW" else [*size, channels]
    node = helper.make_node("Identity", ["z"], ["logits"])
    body = build([node], shape, shape, kind=kinds[preprocessing.dtype])
    assert suited(preprocessing, body) == preprocessing
    session = open_session(prepend(preprocessing, body).SerializeToString())
    (alone,) = open_session(standalone(preprocessing, body).SerializeToString()).run(None, {"image": image[None]})
    (found,) = session.run(["logits"], {"image": image[None]})
    np.testing.assert_array_equal(alone, found)
    assert found.dtype == preprocessing.dtype
    return np.asarray(found[0])


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", ["rgb", "bgr", "grey"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_a_body_gets_the_channels_layout_and_type_that_it_takes(
    build: Body, layout: str, channels: str, dtype: str
) -> None:
    """The pixels are those that Pillow and numpy give, up to their rounding."""
    usual = ((0.0,) * 3, (1.0,) * 3)
    mean, std = usual if dtype == "uint8" else (((100.0,) * 3, (50.0,) * 3) if channels == "grey" else (MEAN, STD))
    image = smooth(31, 45)
    resized = Image.fromarray(image).resize((12, 10), Image.Resampling.BILINEAR)
    wanted = np.asarray(resized.convert("L") if channels == "grey" else resized, np.float32).reshape(10, 12, -1)
    wanted = (wanted[..., ::-1] if channels == "bgr" else wanted) - np.array(mean[: wanted.shape[2]])
    wanted = wanted / np.array(std[: wanted.shape[2]])
    found = shown(
        ImagePreprocessing(10, 12, mean, std, channels=channels, layout=layout, dtype=dtype), image, build
    ).astype(np.float64)
    found = found.transpose(1, 2, 0) if layout == "NCHW" else found
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 1.6 / min(std)  # Pillow rounds twice


@pytest.mark.parametrize("size", [(90, 40), (40, 90), (20, 20), (7, 300), (500, 2)], ids="{0[0]}x{0[1]}".format)
def test_a_letterbox_keeps_the_aspect_ratio(build: Body, size: tuple[int, int]) -> None:
    """The image that Pillow resizes lies in the middle, and the rest has the level of the border."""
    preprocessing = ImagePreprocessing(24, 32, (0.0,) * 3, (1.0,) * 3, letterbox=114.0, layout="NHWC")
    image = smooth(*size)
    scale = min(24 / size[0], 32 / size[1])
    height, width = (max(1, int(scale * side + 0.5)) for side in size)
    top, left = (24 - height) // 2, (32 - width) // 2
    wanted = np.full((24, 32, 3), 114.0)
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    wanted[top : top + height, left : left + width] = np.asarray(resized)
    found = shown(preprocessing, image, build)
    border = np.ones((24, 32), bool)
    border[top : top + height, left : left + width] = False
    assert (found[border] == 114.0).all()
    assert np.abs(found - wanted).max() < 1.01


def test_a_crop_takes_the_centre_of_the_shorter_side(build: Body) -> None:
    """It equals Pillow's resizing and cropping."""
    preprocessing = ImagePreprocessing(24, 24, (0.0,) * 3, (1.0,) * 3, shortest_edge=30, layout="NHWC")
    image = smooth(60, 100)
    resized = Image.fromarray(image).resize((50, 30), Image.Resampling.BILINEAR).crop((13, 3, 37, 27))
    assert np.abs(shown(preprocessing, image, build) - np.asarray(resized, np.float32)).max() < 1.01


def test_a_uint8_body_gets_levels_that_do_not_wrap_around(build: Body) -> None:
    """Cubic interpolation overshoots at an edge between black and white."""
    edge = np.zeros((16, 16, 3), np.uint8)
    edge[:, 8:] = 255
    cubic = ImagePreprocessing(40, 40, (0.0,) * 3, (1.0,) * 3, "cubic", dtype="uint8", layout="NHWC")
    found = shown(cubic, edge, build)
    assert found[0, :15, 0].max() < 128 < found[0, 25:, 0].min()


def test_a_body_below_opset_18_is_converted(build: Body) -> None:
    """Resizing with antialiasing needs that version."""
    preprocessing = ImagePreprocessing(8, 8, MEAN, STD)
    node = helper.make_node("Identity", ["z"], ["logits"])
    old, new = (prepend(preprocessing, build([node], [3, 8, 8], [3, 8, 8], opset=opset)) for opset in (13, 20))
    assert old.opset_import[0].version == 18
    image = smooth(20, 30)[None]
    first, second = (open_session(one.SerializeToString()).run(None, {"image": image})[0] for one in (old, new))
    np.testing.assert_array_equal(first, second)


def test_a_constant_that_is_also_an_input_is_no_input_to_preprocess(build: Body) -> None:
    """Some exporters declare weights so, as defaults that a caller may override."""
    body = build(
        [helper.make_node("Mul", ["z", "weight"], ["logits"])], [3, 8, 8], [3, 8, 8], {"weight": np.float32(2)}
    )
    body.graph.input.insert(0, helper.make_tensor_value_info("weight", TensorProto.FLOAT, []))
    session = open_session(prepend(ImagePreprocessing(8, 8, MEAN, STD), body).SerializeToString())
    assert [one.name for one in session.get_inputs()] == ["image"]


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


def test_an_old_grey_body_of_another_layout_becomes_a_cascade(build: Body, tmp_path: Path) -> None:
    """From the file of an old exporter to answers about camera pixels, by commands alone."""
    nodes = [
        helper.make_node("Reshape", ["z", "row"], ["pixels"]),
        helper.make_node("MatMul", ["pixels", "weight"], ["logits"]),
    ]
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(64, 3)).astype(np.float32)
    body = build(nodes, [8, 8, 1], [3], {"row": np.array([-1, 64]), "weight": weight}, opset=9, ir=4)
    onnx.save(body, tmp_path / "old.onnx")
    shaping = ["--image-size", "8x8", "--mean", "127", "--std", "128", "--letterbox", "0"]
    assert main(["export", str(tmp_path / "old.onnx"), *shaping, "-o", str(tmp_path / "body.onnx")]) == 0
    images = rng.integers(0, 256, (400, 8, 8, 3), np.uint8)
    scores = ((images @ np.array([0.299, 0.587, 0.114]) - 127) / 128).reshape(-1, 64) @ weight
    np.savez(tmp_path / "data.npz", x=images, y=(scores + 2 * rng.gumbel(size=scores.shape)).argmax(axis=1))
    np.save(tmp_path / "remote.npy", scores)
    data = ["--data", str(tmp_path / "data.npz"), "--remote", str(tmp_path / "remote.npy"), "--offload-rate", "0.3"]
    assert main(["calibrate", str(tmp_path / "body.onnx"), *data, "-o", str(tmp_path / "local.onnx")]) == 0
    image = smooth(20, 12)
    framed = np.zeros((8, 8, 3), np.float32)
    framed[:, 1:6] = np.asarray(Image.fromarray(image).resize((5, 8), Image.Resampling.BILINEAR))
    logits = ((framed @ (0.299, 0.587, 0.114) - 127) / 128).reshape(1, 64) @ weight
    with Cascade.load(tmp_path / "local.onnx") as cascade:
        assert cascade.predict(image).label == logits.argmax()
        wanted = softmax(logits / cascade.document.calibration.temperature)[0]
        np.testing.assert_allclose(cascade.predict(image).local.probabilities, wanted, rtol=0, atol=0.05)


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
        ((8, 8, MEAN, STD, "linear", None, 256.0), "letterbox"),
        ((8, 8, MEAN, STD, "linear", 8, 0.0), "letterbox"),
        ((8, 8, MEAN, STD, "linear", None, None, "cmyk"), "channels"),
        ((8, 8, MEAN, STD, "linear", None, None, "grey"), "mean, std"),
        ((8, 8, MEAN, STD, "linear", None, None, "rgb", "NHCW"), "layout"),
        ((8, 8, MEAN, STD, "linear", None, None, "rgb", "NHWC", "int8"), "dtype"),
        ((8, 8, MEAN, STD, "linear", None, None, "rgb", "NHWC", "uint8"), "mean, std"),
    ],
)
def test_invalid_preprocessing_is_refused(arguments: tuple[object, ...], name: str) -> None:
    """The error names the argument."""
    with pytest.raises(ArgumentError, match=f"^{name}: expected"):
        ImagePreprocessing(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "given", "meant"),
    [
        ("--mean", "0.485,0.456,0.406", "123.675,116.28,103.53"),
        ("--std", "0.5", "127.5,127.5,127.5"),
        ("--mean", "0.5 --std 0.25", "127.5,127.5,127.5 --std 63.75,63.75,63.75"),
    ],
)
def test_fractions_are_not_taken_for_pixel_values(
    option: str, given: str, meant: str, build: Body, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Others normalize values from 0 to 1: the error has the numbers that mean the same here."""
    out = tmp_path / "out.onnx"
    nodes = [helper.make_node("GlobalAveragePool", ["z"], ["mean"]), helper.make_node("Flatten", ["mean"], ["logits"])]
    onnx.save(build(nodes, [3, 8, 8], [3]), tmp_path / "body.onnx")
    arguments = ["export", str(tmp_path / "body.onnx"), "--image-size", "8x8", "-o", str(out)]
    assert main([*arguments, option, *given.split()]) == 2
    assert f"write {option} {meant}" in capsys.readouterr().err
    assert not out.exists()
