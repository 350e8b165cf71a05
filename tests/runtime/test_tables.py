"""Inputs from tables and tensors of other libraries are those of the same numbers in numpy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from edgecascade.runtime import Cascade
from edgecascade.types.errors import InputError
from edgecascade.types.extras import installing

Z = np.random.default_rng(2).normal(0, 2, (50, 3)).astype(np.float32)
LISTS = pa.array(Z.tolist(), pa.list_(pa.float32()))
FIXED = pa.FixedSizeListArray.from_arrays(pa.array(Z.reshape(-1)), 3)
TENSORS = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), (3,)), FIXED)
FEATURES = {"a": Z[:, 0], "b": Z[:, 1], "c": Z[:, 2]}


class Exports:
    """Another library's table, which exports Arrow data and has no method of pyarrow's, pandas' or polars' own."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Export the table."""
        return self._table.__arrow_c_stream__(requested_schema)


GIVEN: dict[str, Callable[[], Any]] = {
    "arrow lists": lambda: pa.table({"z": LISTS}),
    "arrow chunks": lambda: pa.table({"z": pa.chunked_array([LISTS[:7], LISTS[7:7], LISTS[7:]])}),
    "arrow large lists": lambda: pa.table({"z": LISTS.cast(pa.large_list(pa.float32()))}),
    "arrow lists of one length": lambda: pa.table({"z": FIXED}),
    "arrow tensors": lambda: pa.table({"z": TENSORS, "id": range(50)}),
    "arrow record batch": lambda: pa.record_batch({"z": LISTS}),
    "arrow column": lambda: pa.chunked_array([LISTS]),
    "arrow array": lambda: FIXED,
    "a slice": lambda: pa.table({"z": pa.concat_arrays([FIXED[:5], FIXED])}).slice(5),
    "arrow column of any name": lambda: pa.table({"q": LISTS, "label": range(50)}),
    "arrow x": lambda: pa.table({"q": range(50), "x": LISTS}),
    "arrow features": lambda: pa.table({**FEATURES, "label": range(50)}),
    "arrow stream": lambda: Exports(pa.table({"z": LISTS})),
    "pandas features": lambda: pd.DataFrame(FEATURES),
    "pandas whole numbers": lambda: pd.DataFrame(FEATURES).astype(np.float64),
    "pandas lists": lambda: pd.DataFrame({"z": Z.tolist()}).assign(z=lambda t: t["z"].map(np.float32)),
    "pandas column": lambda: pd.Series(list(Z)),
    "pandas of arrow": lambda: pa.table(FEATURES).to_pandas(types_mapper=pd.ArrowDtype),
    "polars features": lambda: pl.DataFrame(FEATURES),
    "polars lists": lambda: pl.DataFrame({"z": pl.Series(Z.tolist(), dtype=pl.List(pl.Float32))}),
    "polars arrays": lambda: pl.DataFrame({"z": Z}),
    "pandas without names": lambda: pd.DataFrame(Z),
    "pandas with names of two parts": lambda: pd.DataFrame(Z, columns=pd.MultiIndex.from_product([["q"], list("abc")])),
    "pandas with missing values allowed": lambda: pd.DataFrame(FEATURES).astype("Float32"),
    "pandas tensors": lambda: pd.DataFrame({"z": list(torch.from_numpy(Z))}),
    "datasets": lambda: datasets.Dataset.from_dict({"z": Z.tolist(), "id": range(50)}),
    "datasets that are selected": lambda: datasets.Dataset.from_dict({"z": [[0] * 3, *Z.tolist()]}).select(
        range(1, 51)
    ),
    "torch": lambda: torch.from_numpy(Z),
    "torch with a gradient": lambda: torch.from_numpy(Z).requires_grad_(),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_every_table_gives_the_numbers_in_it(file: Path, kind: str) -> None:
    """The library is not imported for it."""
    with Cascade.load(file) as cascade:
        expected, found = cascade.decide(Z), cascade.decide(GIVEN[kind]())
        np.testing.assert_array_equal(found.probabilities, expected.probabilities)
        assert [one.label for one in cascade.predict_batch(GIVEN[kind]())] == expected.label.tolist()


BAD: dict[str, Callable[[], Any]] = {
    "a missing row": lambda: pa.table({"z": pa.array([[1.0, 2.0, 3.0], None])}),
    "a missing number": lambda: pa.table({"z": pa.array([[1.0, 2.0, 3.0], [1.0, None, 2.0]], pa.list_(pa.float32()))}),
    "a missing feature": lambda: pa.table({**FEATURES, "b": pa.array([None, *Z[1:, 1].tolist()], pa.float32())}),
    "rows of several lengths": lambda: pa.table({"z": [[1.0, 2.0, 3.0], [1.0]]}),
    "text": lambda: pa.table({"z": ["a", "b"]}),
    "a text among features": lambda: pa.table({**FEATURES, "b": ["x"] * 50}),
    "too many features": lambda: pa.table({**FEATURES, "d": Z[:, 0]}),
    "no column": lambda: pa.table({}),
    "pandas without a value": lambda: pd.DataFrame({"z": [list(Z[0]), None]}),
    "pandas of several lengths": lambda: pd.DataFrame({"z": [[1.0, 2.0, 3.0], [1.0]]}),
    "polars without a value": lambda: pl.DataFrame({**FEATURES, "b": [None, *Z[1:, 1].tolist()]}),
    "pandas Float32 without a value": lambda: pd.DataFrame(FEATURES).astype("Float32").mask(Z > 2),
    "pandas of arrow without a value": lambda: pd.DataFrame(FEATURES).astype("float[pyarrow]").mask(Z > 2),
    "pandas text without a value": lambda: pd.DataFrame({"z": pd.array(["a", None], "string")}),
    "pandas NA": lambda: pd.DataFrame({"z": pd.Series([list(Z[0]), pd.NA], dtype=object)}),
    "polars list without a value": lambda: pl.DataFrame({"z": [[1.0, 2.0, 3.0], [1.0, None, 3.0]]}),
    "polars array without a value": lambda: pl.DataFrame(
        {"z": pl.Series([[1.0, 2.0, 3.0], [1.0, None, 3.0]], dtype=pl.Array(pl.Float32, 3))}
    ),
    "polars lazy": lambda: pl.LazyFrame(FEATURES),
    "bfloat16": lambda: torch.from_numpy(Z).bfloat16(),
    "bfloat16 by name": lambda: {"z": torch.from_numpy(Z).bfloat16()},
    "tensors with gradients in a list": lambda: list(torch.from_numpy(Z).requires_grad_()),
    "None": lambda: None,
    "a number": lambda: 5,
    "a generator": lambda: (one for one in Z),
    "two columns of a name": lambda: pa.table([LISTS, LISTS], names=["z", "z"]),
    "whole numbers": lambda: torch.zeros((2, 3), dtype=torch.int64),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_does_not_fit_is_refused(file: Path, kind: str) -> None:
    """In one sentence that names the column or the table."""
    with Cascade.load(file) as cascade, pytest.raises(InputError, match=r"^x[\[:]") as raised:
        cascade.decide(BAD[kind]())
    assert "\n" not in str(raised.value)


def test_images_in_a_table_may_be_pixels_or_files(pair: Path) -> None:
    """Files are bytes, alone or beside a path as Hugging Face's `datasets` has them."""
    import io

    from PIL import Image

    images: NDArray[np.uint8] = np.load(pair / "test.npz")["x"][:20]
    files = []
    for one in images:
        buffer = io.BytesIO()
        Image.fromarray(one).save(buffer, "PNG")
        files.append(buffer.getvalue())
    structures = pa.array(
        [{"bytes": one, "path": None} for one in files], pa.struct({"bytes": pa.binary(), "path": pa.string()})
    )
    with Cascade.load(pair / "local.onnx") as cascade:
        expected = cascade.decide(images).probabilities
        for column in (
            pa.array(images.tolist(), pa.list_(pa.list_(pa.list_(pa.uint8())))),
            pa.array(files),
            structures,
        ):
            np.testing.assert_array_equal(cascade.decide(pa.table({"image": column})).probabilities, expected)
        lists = pl.DataFrame({"x": pl.Series(images.tolist(), dtype=pl.List(pl.List(pl.List(pl.UInt8))))})
        np.testing.assert_array_equal(cascade.decide(lists).probabilities, expected)
        for frame in (
            pd.DataFrame({"image": files}),
            pa.table({"image": pa.array(images.tolist())}).to_pandas(types_mapper=pd.ArrowDtype),
            pa.table({"image": pa.array(files, pa.binary_view())}),
        ):
            np.testing.assert_array_equal(cascade.decide(frame).probabilities, expected)


@pytest.mark.parametrize("kind", ["binary", "large binary", "polars"])
def test_images_as_polars_writes_them(pair: Path, kind: str) -> None:
    """A structure without an image is refused, whether it is missing itself or only its bytes are."""
    import io

    from PIL import Image

    image: NDArray[np.uint8] = np.load(pair / "test.npz")["x"][0]
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    there, none = {"bytes": buffer.getvalue(), "path": "a"}, {"bytes": None, "path": "a"}

    def table(rows: list[Any]) -> Any:
        if kind == "polars":
            return pl.DataFrame({"image": pl.Series(rows, dtype=pl.Struct({"bytes": pl.Binary, "path": pl.String}))})
        files = pa.binary() if kind == "binary" else pa.large_binary()
        return pa.table({"image": pa.array(rows, pa.struct({"bytes": files, "path": pa.string()}))})

    with Cascade.load(pair / "local.onnx") as cascade:
        expected = cascade.decide(image[None]).probabilities
        np.testing.assert_array_equal(cascade.decide(table([there])).probabilities, expected)
        for rows in ([there, None], [none, none], [there, none]):
            with pytest.raises(InputError, match=r"^x\['image'\]: .*without$"):
                cascade.decide(table(rows))
        masked = pa.StructArray.from_arrays(
            [pa.array([buffer.getvalue()] * 2)], ["bytes"], mask=pa.array([False, True])
        )
        with pytest.raises(InputError, match=r"without$"):
            cascade.decide(pa.table({"image": masked}))
        with pytest.raises(InputError, match=r"without$"):
            cascade.decide(pa.table({"image": [{"bytes": None}]}))


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_tensors_with_their_axes_in_another_order_are_read(pair: Path, order: tuple[int, ...]) -> None:
    """Whether pyarrow wrote them, or Arrow's definition of a permutation is followed; a slice too."""
    images: NDArray[np.uint8] = np.load(pair / "test.npz")["x"][:20]
    stored = np.ascontiguousarray(images.transpose(0, *(1 + i for i in order)))
    flat = pa.FixedSizeListArray.from_arrays(pa.array(stored.reshape(-1)), images[0].size)
    kind = pa.fixed_shape_tensor(pa.uint8(), stored.shape[1:], permutation=order)
    by_definition = pa.ExtensionArray.from_storage(kind, flat)
    strided = stored.transpose(0, *(1 + i for i in order))
    with Cascade.load(pair / "local.onnx") as cascade:
        expected = cascade.decide(images[3:]).probabilities
        for column in (by_definition, pa.FixedShapeTensorArray.from_numpy_ndarray(strided)):
            found = cascade.decide(pa.table({"x": column}).slice(3)).probabilities
            np.testing.assert_array_equal(found, expected)


def test_permutations_that_pyarrow_writes_wrongly_are_refused(pair: Path) -> None:
    """It stores the inverse of what Arrow defines, so that nothing says which of the two is meant."""
    images: NDArray[np.uint8] = np.load(pair / "test.npz")["x"][:20]
    stored = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    with Cascade.load(pair / "local.onnx") as cascade, pytest.raises(InputError, match="permutation"):
        cascade.decide(pa.table({"x": pa.FixedShapeTensorArray.from_numpy_ndarray(stored)}))


@pytest.mark.parametrize(
    "kind", ["arrow lists", "arrow tensors", "arrow features", "polars lists", "pandas lists", "pandas features"]
)
def test_a_table_without_rows_has_no_decisions(file: Path, kind: str) -> None:
    """Whether the rows would have numbers or lists."""
    with Cascade.load(file) as cascade:
        assert len(cascade.decide(GIVEN[kind]()[:0])) == 0


def test_scores_may_be_a_tensor_and_names_a_list(pair: Path) -> None:
    """With a gradient, too."""
    images: NDArray[np.uint8] = np.load(pair / "test.npz")["x"]
    with Cascade.load(pair / "local.onnx") as cascade:
        decided = cascade.decide(images)
        scores = np.random.default_rng(3).normal(size=(int(decided.forward.sum()), len(cascade.labels)))
        expected = cascade.merged(decided, scores).probabilities
        tensor: Any = torch.from_numpy(scores).requires_grad_()
        found = cascade.merged(decided, tensor, class_names=list(cascade.labels))
        np.testing.assert_array_equal(found.probabilities, expected)


def test_a_missing_pyarrow_names_its_extra() -> None:
    """It is the one that `run` needs for tables."""
    assert installing("pyarrow.parquet", "images") == "pip install 'edgecascade[parquet]'"
