"""Labelled data in memory: tables of several libraries, data sets of Hugging Face, and batches of a DataLoader."""

import io
import tracemalloc
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
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from edgecascade.export import ExportError, read_labelled
from edgecascade.export.data import tables
from edgecascade.runtime import Cascade

X = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
Y = np.array([0, 1, 2, 2, 1, 0, 1])
NAMES = ("red", "green", "blue")
TEXTS = [f"sentence {i}" for i in range(7)]
CALLED = [NAMES[y] for y in Y]


datasets.disable_progress_bars()


def hugging_face(**columns: Any) -> Any:
    """Return a data set with named classes, of which the last row is left out by `select`."""
    made = datasets.Dataset.from_dict({**columns, "label": [*Y.tolist(), 0]})
    return made.cast_column("label", datasets.ClassLabel(names=list(NAMES))).select(range(7))


def loader(rows: Any) -> Any:
    """Return the batches of a list of rows, which torch takes as a data set."""
    return DataLoader(rows, batch_size=4)


class Named(TensorDataset):
    """Tensors with class names, as the data sets of torchvision have them."""

    classes = NAMES


GIVEN: dict[str, Callable[[], Any]] = {
    "arrow": lambda: pa.table({"x": X.tolist(), "label": Y}),
    "pandas": lambda: pd.DataFrame({"x": list(X), "label": Y}),
    "pandas of a selection": lambda: pd.DataFrame({"x": [X[0], *X], "label": [0, *Y]}).iloc[1:],
    "pandas with categories": lambda: pd.DataFrame({"x": list(X), "label": pd.Categorical(CALLED)}),
    "pandas features": lambda: pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "labels": Y}),
    "polars": lambda: pl.DataFrame({"x": X, "label": Y}),
    "polars with categories": lambda: pl.DataFrame({"x": X, "label": pl.Series(CALLED, dtype=pl.Categorical)}),
    "datasets": lambda: hugging_face(x=[*X.tolist(), X[0].tolist()]),
    "DataLoader": lambda: DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), batch_size=3),
    "DataLoader with names": lambda: DataLoader(Named(torch.from_numpy(X), torch.from_numpy(Y)), batch_size=3),
    "DataLoader of mappings": lambda: loader([{"x": x, "label": y} for x, y in zip(X, Y, strict=True)]),
    "iterable batches": lambda: hugging_face(x=[*X.tolist(), X[0].tolist()]).to_iterable_dataset().batch(3),
    "pairs": lambda: [(X[:5], Y[:5]), (X[5:], Y[5:])],
    "pairs with text": lambda: [(X, CALLED)],
}


@pytest.mark.parametrize("kind", GIVEN)
def test_inputs_and_labels_are_those_given(kind: str) -> None:
    """Class names are those of a `ClassLabel` or of a data set, or the labels in text in alphabetical order."""
    found = read_labelled(GIVEN[kind]())
    np.testing.assert_allclose(np.asarray(found.inputs), X, rtol=1e-7)
    called = found.names or NAMES
    assert [called[label] for label in found.labels] == CALLED
    assert found.names in ((), NAMES, tuple(sorted(NAMES)))
    assert bool(found.names) == (kind == "datasets" or any(word in kind for word in ("names", "categories", "text")))


@pytest.mark.parametrize(
    "given",
    [
        lambda: pd.DataFrame({"text": TEXTS, "label": CALLED}),
        lambda: pl.DataFrame({"text": TEXTS, "label": CALLED}),
        lambda: hugging_face(text=[*TEXTS, ""]),
        lambda: loader([*zip(TEXTS, CALLED, strict=True)]),
    ],
    ids=["pandas", "polars", "datasets", "DataLoader"],
)
def test_sentences_stay_text(given: Callable[[], Any]) -> None:
    """They are objects, as those of a table in a file are."""
    found = read_labelled(given())
    assert isinstance(found.inputs, np.ndarray)
    assert found.inputs.dtype == object
    assert found.inputs.tolist() == TEXTS


def test_one_long_sentence_does_not_widen_the_others() -> None:
    """Each takes its own memory, not that of the longest of all batches."""
    batches = [([f"sentence {i}"] * 50, [i % 2] * 50) for i in range(40)] + [(["word " * 4000], [1])]
    tracemalloc.start()
    try:
        found = read_labelled(batches)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(found.inputs, np.ndarray)
    assert found.inputs[-1] == "word " * 4000
    assert peak < 1 << 25  # bytes; as wide as the longest, they would take 160 MB


def test_tables_in_memory_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of tables in files; columns that are not read do not count."""
    monkeypatch.setattr(tables, "_MOST_BYTES", 200)
    beside = ["much text" * 100] * 7
    assert len(read_labelled(pd.DataFrame({"x": X[:, 0], "label": Y, "note": beside})).labels) == 7
    with pytest.raises(ExportError, match=r"^data: .* rows"):
        read_labelled(pd.DataFrame({"text": beside, "label": Y}))


def test_the_digest_of_several_texts_is_that_of_their_words() -> None:
    """Not of where they lie in memory."""

    def digest(word: str) -> str:
        return read_labelled([{"a": ["".join([*word])], "b": ["".join(["o", "ther"])], "label": [0]}]).digest

    assert digest("some") == digest("some")
    assert digest("some") != digest("more")


def test_images_of_a_data_set_are_decoded_when_they_are_read(pair: Path) -> None:
    """They may differ in size, in labelled data as in what a cascade decides about."""
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (8, 8 + i, 3), np.uint8) for i in range(8)]
    given = hugging_face(image=[Image.fromarray(one) for one in images])
    found = read_labelled(given)
    assert all(np.array_equal(one, image) for one, image in zip(found.inputs, images, strict=False))
    with Cascade.load(pair / "local.onnx") as cascade:
        assert cascade.decide(given).label.tolist() == cascade.decide(images[:7]).label.tolist()


def test_other_columns_come_beside() -> None:
    """Such as weights."""
    weight = np.linspace(0.5, 1.5, 7)
    for given in (
        pd.DataFrame({"x": list(X), "label": Y, "weight": weight}),
        [{"x": X, "label": Y, "weight": weight}],
    ):
        assert read_labelled(given, ["weight"]).columns["weight"].tolist() == weight.tolist()
    with pytest.raises(ExportError, match="weight"):
        read_labelled([(X, Y)], ["weight"])


def test_several_inputs_have_their_names() -> None:
    """In pairs whose first is a mapping, and in mappings."""
    for given in ([({"a": X, "b": X}, Y)], [{"a": X, "b": X, "label": Y}]):
        found = read_labelled(given)
        assert isinstance(found.inputs, dict)
        assert [*found.inputs] == ["a", "b"]


BAD: dict[str, Callable[[], Any]] = {
    "a number": lambda: 5,
    "no batches": lambda: [],
    "batches without labels": lambda: DataLoader(TensorDataset(torch.from_numpy(X))),
    "a mapping without labels": lambda: [{"x": X}],
    "fewer labels": lambda: [(X, Y[:5])],
    "labels with a fraction": lambda: [(X, Y + 0.5)],
    "other keys": lambda: [{"x": X, "label": Y}, {"z": X, "label": Y}],
    "other shapes": lambda: [(X, Y), (X[:, :2], Y)],
    "a table without labels": lambda: pd.DataFrame({"x": list(X)}),
    "an empty table": lambda: pd.DataFrame({"x": [], "label": []}),
    "a withheld label": lambda: pl.DataFrame({"x": X, "label": Y - 1}),
    "pixels in pandas": lambda: pd.DataFrame({"x": list(np.zeros((7, 2, 2))), "label": Y}),
    "bfloat16": lambda: [(torch.from_numpy(X).bfloat16(), Y)],
    "several splits": lambda: datasets.DatasetDict({"train": hugging_face(x=[*X.tolist(), X[0].tolist()])}),
    "rows one by one": lambda: hugging_face(x=[*X.tolist(), []]).to_iterable_dataset(),
}


@pytest.mark.parametrize("kind", BAD)
def test_other_data_is_refused(kind: str) -> None:
    """In one sentence that begins with the argument."""
    with pytest.raises(ExportError, match=r"^data[:\[]") as raised:
        read_labelled(BAD[kind]())
    assert "\n" not in str(raised.value)


def test_the_digest_is_that_of_the_same_table_in_a_file(tmp_path: Path) -> None:
    """So that a document names the data, wherever they come from."""
    table = pl.DataFrame({"text": TEXTS, "label": CALLED})
    table.write_parquet(tmp_path / "data.parquet")
    assert read_labelled(table).digest == read_labelled(tmp_path / "data.parquet").digest
    encoded = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(encoded, "png")
    images = pl.DataFrame({"image": [encoded.getvalue()] * 2, "label": [0, 1]})
    images.write_parquet(tmp_path / "images.parquet")
    assert read_labelled(images).digest == read_labelled(tmp_path / "images.parquet").digest
