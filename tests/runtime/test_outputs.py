"""Further outputs of a classifier's file: they come with the answer of one run, and with the decisions as they were."""

import asyncio
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper

from documents import document_of
from edgecascade.calibration import AdvantageTable, DecisionRule
from edgecascade.cli import main
from edgecascade.export import fold, save_model
from edgecascade.runtime import ArgumentError, Cascade, Outbox, Source
from edgecascade.runtime.outputs import by_input
from edgecascade.runtime.serving.served import served_cascade
from edgecascade.types.answer import NO_OUTPUTS

ROWS = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)


def classifier(folder: Path, shape: list[Any], operator: str = "Neg", times: int = 1, **attributes: Any) -> Path:
    """Write a cascade file of three logits with an `embedding`, the negated logits, which declares this shape.

    Beside it lies its body, `body.onnx`.
    """
    nodes = [
        helper.make_node("Identity", ["z"], ["logits"]),
        helper.make_node(operator, ["z"] * times, ["embedding"], **attributes),
    ]
    shapes: list[tuple[str, list[Any]]] = [("z", ["batch", 3]), ("logits", ["batch", 3]), ("embedding", shape)]
    described = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name, sides in shapes]
    graph = helper.make_graph(nodes, "g", described[:1], described[1:])
    body = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    table = AdvantageTable(np.array([0.6], np.float32), np.array([-0.25, 0.25], np.float32), np.array([10, 10]))
    rule = DecisionRule(1.0, table, threshold=0.0)
    save_model(body, folder / "body.onnx")
    save_model(fold(body, logits="logits", rule=rule, document=document_of(rule)), folder / "local.onnx")
    return folder / "local.onnx"


@pytest.mark.parametrize("shape", [["batch", 3], ["other", 3], [None, 3]])
def test_an_embedding_comes_with_the_answer(tmp_path: Path, shape: list[Any]) -> None:
    """One by one and in a batch, each input gets its own, without the batch axis; the decisions are those without."""
    path = classifier(tmp_path, shape)
    with Cascade.load(path) as plain, Cascade.load(path, outputs=["embedding"]) as cascade:
        for answers in ([cascade.predict(row) for row in ROWS], cascade.predict_batch(ROWS)):
            for row, answer in zip(ROWS, answers, strict=True):
                without = plain.predict(row)
                assert answer[:2] == without[:2]
                assert answer.advantage == without.advantage
                assert without.outputs == {}
                assert list(answer.outputs) == ["embedding"]
                np.testing.assert_array_equal(answer.outputs["embedding"], -row)
                assert answer.local.outputs is answer.outputs


def test_the_outputs_are_those_of_the_model_that_answered(tmp_path: Path) -> None:
    """The local model's are in `local.outputs` all the same."""
    path = classifier(tmp_path, ["batch", 3])
    with Cascade.load(path, outputs=["embedding"], remote=lambda z: 2 * z, threshold=2.0, deadline=5.0) as cascade:
        answer = cascade.predict(ROWS[0])
    assert answer.source is Source.REMOTE
    assert answer.outputs == {}
    np.testing.assert_array_equal(answer.local.outputs["embedding"], -ROWS[0])


def test_run_and_serve_add_outputs_whichever_model_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line has all values of a long one, and a request may ask for it; without the option there is none."""
    path = classifier(tmp_path, ["batch", 12], "Concat", times=4, axis=1)
    np.save(tmp_path / "x.npy", ROWS)
    remote = ["--remote", str(tmp_path / "body.onnx"), "--remote-output", "logits", "--deadline", "30"]
    arguments = ["run", str(path), str(tmp_path / "x.npy"), *remote]
    assert main([*arguments, "--outputs", "embedding"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["source"] for one in lines} == {"local", "remote"}
    for row, line in zip(ROWS, lines, strict=True):
        found = line["outputs"]["embedding"]
        assert (found["dtype"], found["shape"]) == ("float32", [12])
        np.testing.assert_allclose(found["values"], np.tile(row, 4), rtol=1e-5)
    assert main(arguments) == 0
    assert all("outputs" not in json.loads(line) for line in capsys.readouterr().out.splitlines())
    pq.write_table(pa.table({"z": list(ROWS)}), tmp_path / "rows.parquet")
    table = ["run", str(path), str(tmp_path / "rows.parquet"), "-o", str(tmp_path / "answers.parquet"), *remote]
    assert main([*table[:-2], "--outputs", "embedding"]) == 0
    column = pq.read_table(tmp_path / "answers.parquet")["embedding"].combine_chunks()
    np.testing.assert_array_equal(column.to_numpy_ndarray(), np.tile(ROWS, 4))
    pq.write_table(pa.table({"z": list(ROWS)})[:0], tmp_path / "none.parquet")
    none = ["run", str(path), str(tmp_path / "none.parquet"), "-o", str(tmp_path / "no_answers.parquet")]
    assert main([*none, "--outputs", "embedding"]) == 0
    assert pq.read_schema(tmp_path / "no_answers.parquet") == pq.read_schema(tmp_path / "answers.parquet")
    assert main([*arguments, "--outputs", "features"]) == 2
    assert "--outputs: expected names among" in capsys.readouterr().err
    with ThreadPoolExecutor(1) as threads, Cascade.load(path, outputs=["embedding"], remote=np.negative) as cascade:
        served = served_cascade(cascade, threads)

        async def ask() -> Any:
            return await served.infer({"z": ROWS}, ["label", "embedding"])

        reply = asyncio.run(ask())
    assert {"name": "embedding", "datatype": "FP32", "shape": [-1, 12]} in served.outputs
    np.testing.assert_array_equal(reply["embedding"], np.tile(ROWS, 4))


def test_an_output_is_decoded_on_the_device(tmp_path: Path) -> None:
    """An exception of the function reaches the caller, also in a batch, and later inputs are answered."""
    path = classifier(tmp_path, ["batch", 3])

    def decode(outputs: Any) -> float:
        if outputs["embedding"][0] == 0:
            raise LookupError
        return float(outputs["embedding"].sum())

    with Cascade.load(path, outputs=["embedding"], decode=decode) as cascade:
        assert cascade.predict(ROWS[0]).result == -ROWS[0].sum()
        with pytest.raises(LookupError):
            cascade.predict_batch(np.concatenate([ROWS[:1], np.zeros((1, 3), np.float32)]))
        assert cascade.predict_batch(ROWS)[7].local.result == float((-ROWS[7]).sum())


def test_a_late_local_answer_has_no_outputs(tmp_path: Path) -> None:
    """The merge rule may keep the local label; its outputs are not stored, and so are not decoded."""
    path, box = classifier(tmp_path, ["batch", 3]), tmp_path / "unsent.db"
    options: dict[str, Any] = {"outputs": ["embedding"], "decode": lambda outputs: outputs["embedding"].sum()}
    with Cascade.load(path, outbox=Outbox(box), threshold=2.0, **options) as cascade:
        assert cascade.predict(ROWS[0], key="a").queued == "a"
    with Cascade.load(path, outbox=Outbox(box), remote=lambda z: 0 * z, **options) as cascade:
        cascade.swap(replace(cascade.policy, merge="confident"))
        late = next(cascade.late(timeout=20.0))
    assert (late.key, late.answer.source, late.answer.outputs, late.answer.result) == ("a", Source.LOCAL, {}, None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"outputs": ["elsewhere"]}, "outputs: expected names among embedding, logits"),
        ({"outputs": ["label"]}, "outputs: expected names among"),
        ({"outputs": "embedding"}, "outputs: expected a sequence"),
        ({"decode": len}, "decode: expected with `outputs`"),
    ],
)
def test_outputs_that_the_file_lacks_are_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    """Nothing is loaded then."""
    with pytest.raises(ArgumentError, match=f"^{said}"):
        Cascade.load(classifier(tmp_path, ["batch", 3]), **options)


def test_arrays_are_told_apart_by_input() -> None:
    """A single input keeps arrays whose first side is not the batch's; several need a row each."""
    boxes = np.zeros((5, 4))
    assert by_input({"boxes": boxes, "n": np.zeros((1, 1)), "scalar": np.array(3)}, 1)[0]["boxes"] is boxes
    assert by_input({"n": np.zeros((1, 1)), "scalar": np.array(3)}, 1)[0]["n"].shape == (1,)
    with pytest.raises(ValueError, match=r"expected 2 rows in 'boxes', got \[5, 4\]"):
        by_input({"boxes": boxes}, 2)


def test_no_outputs_are_one_object() -> None:
    """Answers can be pickled, to send them to another process."""
    assert pickle.loads(pickle.dumps(NO_OUTPUTS)) is NO_OUTPUTS
    assert dict(NO_OUTPUTS) == {}
