"""Resizing before LiteRT equals the resizing in the ONNX graph."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from edgecascade.export import ImagePreprocessing
from edgecascade.export.sources import standalone
from edgecascade.runtime.engine import open_session
from edgecascade.runtime.litert import Resize
from edgecascade.types.document import read_preprocessing

side = st.integers(3, 60)
FITS = ["stretch", "crop", "letterbox"]


@settings(max_examples=100)
@given(
    side,
    side,
    st.integers(1, 30),
    st.integers(1, 30),
    st.sampled_from(["linear", "cubic"]),
    st.sampled_from(FITS),
    st.data(),
)
def test_it_equals_the_graph(
    rows: int, columns: int, height: int, width: int, interpolation: str, fit: str, data: st.DataObject
) -> None:
    """At any scale, aspect ratio, crop and letterbox, they agree to a hundredth of a pixel value."""
    edge = data.draw(st.integers(max(height, width), 40)) if fit == "crop" else None
    level = 114.0 if fit == "letterbox" else None
    preprocessing = ImagePreprocessing(height, width, (0.0,) * 3, (1.0,) * 3, interpolation, edge, level)
    like = helper.make_model(
        helper.make_graph([], "like", [], []), opset_imports=[helper.make_opsetid("", 20)], ir_version=9
    )
    image = np.random.default_rng(rows * columns).integers(0, 256, (rows, columns, 3), np.uint8)
    session = open_session(standalone(preprocessing, like).SerializeToString())
    (wanted,) = session.run(None, {"image": image[None]})
    found = Resize(preprocessing)(image)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted[0].transpose(1, 2, 0), rtol=0, atol=0.01)


def test_an_image_of_the_right_size_is_only_converted() -> None:
    """The values are equal bit for bit."""
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    np.testing.assert_array_equal(
        Resize(ImagePreprocessing(7, 9, (0.0,) * 3, (1.0,) * 3, "cubic"))(image), image.astype(np.float32)
    )


@pytest.mark.parametrize("edge", [None, 20])
def test_preprocessing_is_read_from_the_metadata(edge: int | None) -> None:
    """Older files have no crop."""
    found = {"height": 16, "width": 12, "mean": [0, 0, 0], "std": [1, 1, 1], "interpolation": "cubic"}
    text = json.dumps(found if edge is None else {**found, "shortest_edge": edge})
    assert read_preprocessing(text, "f") == ImagePreprocessing(16, 12, (0.0,) * 3, (1.0,) * 3, "cubic", edge)
