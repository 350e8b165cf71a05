"""A model with two inputs of different types works from named arrays to an answer, local or from a server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgecascade.benchmarks.server import serving
from edgecascade.calibration import MostAccuracy
from edgecascade.cli import main
from edgecascade.export import ExportError, calibrate, local_scores, read_labelled, remote_scores, save_model, unfold
from edgecascade.export.data import each
from edgecascade.export.graph import load_model
from edgecascade.runtime import Cascade, InputError, Reason
from edgecascade.runtime.inputs import read_inputs

N = 600


def _model(noise: float) -> ModelProto:
    """Return a model with logits = values [n, 3] + row of a noisy table selected by `kind` [n, 1]."""
    table = (np.eye(3) * 2 + np.random.default_rng(1).normal(0, noise, (3, 3))).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "kind"], ["looked_up"]),
        helper.make_node("Squeeze", ["looked_up", "axis"], ["offset"]),
        helper.make_node("Add", ["values", "offset"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [
            helper.make_tensor_value_info("values", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("kind", TensorProto.INT64, ["batch", 1]),
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([1], np.int64), "axis")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `body.onnx`, `remote.onnx`, `data.npz` and the cascade model `local.onnx`."""
    folder = tmp_path_factory.mktemp("two")
    rng = np.random.default_rng(0)
    values, kind = rng.normal(0, 2, (N, 3)).astype(np.float32), rng.integers(0, 3, (N, 1))
    truth = values + np.eye(3)[kind[:, 0]] * 2
    np.savez(folder / "data.npz", values=values, kind=kind, y=(truth + rng.gumbel(size=(N, 3))).argmax(axis=1))
    save_model(_model(1.5), folder / "body.onnx")
    save_model(_model(0.0), folder / "remote.onnx")
    data = read_labelled(folder / "data.npz")
    local = local_scores(folder / "body.onnx", data.inputs)
    remote = remote_scores(str(folder / "remote.onnx"), data.inputs)
    calibrate(folder / "body.onnx", folder / "local.onnx", data, local, remote, objective=MostAccuracy(0.3))
    return folder


def _inputs(folder: Path, n: int) -> dict[str, NDArray[Any]]:
    with np.load(folder / "data.npz") as arrays:
        return {name: arrays[name][:n] for name in ("values", "kind")}


def test_one_input_and_a_batch_are_answered(folder: Path) -> None:
    """Inputs are given by name; a batch and its single inputs get the same answers."""
    with Cascade.load(folder / "local.onnx", remote=folder / "remote.onnx") as cascade:
        answers = cascade.predict_batch(_inputs(folder, 50))
        single = [cascade.predict(x) for x in each(_inputs(folder, 50))]
    assert {answer.reason for answer in answers} == {Reason.CONFIDENT, Reason.OFFLOADED}
    assert [answer.label for answer in answers] == [answer.label for answer in single]


def test_a_table_has_a_column_for_each_input(folder: Path, tmp_path: Path) -> None:
    """Of pyarrow, pandas or polars, with or without other columns; in a parquet file too."""
    given = _inputs(folder, 50)
    lists = {name: array.tolist() for name, array in given.items()}
    tables = [pa.table({"id": range(50), **lists}), pd.DataFrame(lists), pl.DataFrame(lists)]
    with Cascade.load(folder / "local.onnx") as cascade:
        expected = cascade.decide(given)
        for table in tables:
            np.testing.assert_array_equal(cascade.decide(table).probabilities, expected.probabilities)
            assert [one.label for one in cascade.predict_batch(table)] == expected.label.tolist()
    rows, out = tmp_path / "rows.parquet", tmp_path / "out.parquet"
    pq.write_table(tables[0], rows)
    assert main(["run", str(folder / "local.onnx"), str(rows), "-o", str(out)]) == 0
    assert pq.read_table(out)["label"].to_pylist() == expected.label.tolist()


@pytest.mark.parametrize("call", ["decide", "predict_columns", "predict_batch"])
def test_arrays_of_several_lengths_are_refused(folder: Path, call: str) -> None:
    """Also where the first array ends with a run of the model, so that the rest of the other would never be read."""
    values, kind = np.zeros((4096, 3), np.float32), np.zeros((5000, 1), np.int64)
    with (
        Cascade.load(folder / "local.onnx") as cascade,
        pytest.raises(InputError, match="4096 in values, 5000 in kind"),
    ):
        getattr(cascade, call)({"values": values, "kind": kind})


def test_the_body_unfolds(folder: Path) -> None:
    """The unfolded body has both inputs."""
    assert unfold(load_model(folder / "local.onnx")).SerializeToString() == (folder / "body.onnx").read_bytes()


def test_a_function_is_called_with_named_arrays(folder: Path) -> None:
    """It gets the forwarded rows of every array."""
    asked = []

    def remote(inputs: Any) -> NDArray[Any]:
        asked.append({name: array.shape for name, array in inputs.items()})
        return np.zeros((len(inputs["kind"]), 3), np.float32)

    with Cascade.load(folder / "local.onnx", remote=remote, threshold=2.0) as cascade:
        cascade.predict_batch(_inputs(folder, 5))
    assert asked == [{"values": (5, 3), "kind": (5, 1)}]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros(3, np.float32), r"^x: expected one array for each of values: float32 \[batch, 3\], kind: int64"),
        ({"values": np.zeros(3, np.float32)}, r"^x: expected one array for each of .*, got values$"),
        (
            {"values": np.zeros(3, int), "kind": np.zeros(1, int)},
            r"^x\['values'\]: expected float32 \[3\] per input, got int64",
        ),
    ],
)
def test_other_inputs_are_refused(folder: Path, x: Any, message: str) -> None:
    """The error names the inputs found and those expected."""
    with Cascade.load(folder / "local.onnx") as cascade, pytest.raises(InputError, match=message):
        cascade.predict(x)


def test_arrays_of_different_lengths_are_refused(folder: Path) -> None:
    """Arrays with different numbers of rows are refused."""
    inputs = {**_inputs(folder, 3), "kind": np.zeros((2, 1), np.int64)}
    with Cascade.load(folder / "local.onnx") as cascade:
        with pytest.raises(InputError, match=r"^x: expected as many inputs in every array, got 3 in values, 2 in kind"):
            cascade.predict_batch(inputs)
        with pytest.raises(InputError, match=r"^originals: expected 3, one per input, got 2"):
            cascade.predict_batch(_inputs(folder, 3), originals=_inputs(folder, 2))


def test_labelled_arrays_of_different_lengths_are_refused(tmp_path: Path) -> None:
    """The error names the array whose length differs from that of the labels."""
    np.savez(tmp_path / "d.npz", a=np.zeros((3, 1)), b=np.zeros((2, 1)), y=np.zeros(3, int))
    with pytest.raises(
        ExportError, match=r"expected integer labels or class names `y` \[2\], one per input in `b`, got int64 \[3\]"
    ):
        read_labelled(tmp_path / "d.npz")


def test_inputs_are_read_by_name(folder: Path, tmp_path: Path) -> None:
    """For `edgecascade run`, an npz file without `x` has one array for each input."""
    np.savez(tmp_path / "inputs.npz", **_inputs(folder, 2))  # type: ignore[arg-type]
    (first, x), _ = read_inputs(tmp_path / "inputs.npz")
    assert first.endswith("inputs.npz[0]")
    assert {name: array.shape for name, array in x.items()} == {"values": (3,), "kind": (1,)}


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Serve the remote and return its address."""
    with serving(folder / "remote.onnx", name="two", threads=1, log=folder / "log") as address:
        yield address


@pytest.mark.slow
def test_a_server_is_sent_named_tensors(folder: Path, address: str) -> None:
    """One request carries both tensors as bytes."""
    with (
        Cascade.load(folder / "local.onnx", remote=address, deadline=10, threshold=2.0) as served,
        Cascade.load(folder / "local.onnx", remote=folder / "remote.onnx", deadline=10, threshold=2.0) as here,
    ):
        answers = [cascade.predict_batch(_inputs(folder, 20)) for cascade in (served, here)]
    assert {answer.reason for answer in answers[0]} == {Reason.OFFLOADED}
    assert [a.label for a in answers[0]] == [a.label for a in answers[1]]
