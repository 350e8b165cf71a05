"""`edgecascade run rows.parquet -o answers.parquet`: streamed by row group, and resumed after a kill."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from edgecascade.cli import main
from edgecascade.runtime import Cascade
from edgecascade.runtime.commands import table as table_command

Write = Callable[..., Path]


@pytest.fixture
def images(pair: Path) -> NDArray[np.uint8]:
    """Return 400 images."""
    found: NDArray[np.uint8] = np.load(pair / "test.npz")["x"]
    return found


def tensors(array: NDArray[Any]) -> Any:
    """Return an Arrow column of tensors."""
    return pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.from_numpy_dtype(array.dtype), array.shape[1:]),
        pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), int(np.prod(array.shape[1:]))),
    )


@pytest.fixture
def rows(images: NDArray[np.uint8], tmp_path: Path) -> Path:
    """Write a table of images in eight row groups, beside an id and a label."""
    path = tmp_path / "rows.parquet"
    ids = [f"row {i}" for i in range(len(images))]
    table = pa.table({"id": ids, "x": tensors(images), "label": np.zeros(len(images), np.int64)})
    pq.write_table(table, path, row_group_size=50)
    return path


def run(pair: Path, rows: Path, *arguments: object) -> int:
    """Run the command."""
    given = (pair / "local.onnx", rows, "-o", rows.with_name("answers.parquet"), *arguments)
    return main(["run", *map(str, given)])


def test_answers_are_those_of_the_cascade(pair: Path, rows: Path, images: NDArray[np.uint8]) -> None:
    """Row by row, with the columns to keep and the probabilities, and without a trace of how they were made."""
    assert run(pair, rows, "--remote", pair / "remote.onnx", "--keep", "id", "--probabilities") == 0
    found = pq.read_table(rows.with_name("answers.parquet"))
    with Cascade.load(pair / "local.onnx", remote=pair / "remote.onnx") as cascade:
        expected = cascade.predict_columns(images)
        assert found["name"].to_pylist() == [cascade.labels[label] for label in expected.label]
    assert found["id"].to_pylist() == [f"row {i}" for i in range(400)]
    for name in ("label", "confidence", "source", "reason", "advantage"):
        np.testing.assert_array_equal(found[name].to_numpy(), getattr(expected, name))
    np.testing.assert_array_equal(np.stack(found["probabilities"].to_numpy()), expected.probabilities)
    assert sorted(one.name for one in rows.parent.iterdir()) == ["answers.parquet", "rows.parquet"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_goes_on_where_it_ended(pair: Path, rows: Path, number: int) -> None:
    """After a kill or a stop in the middle, no row group is answered twice, and the output is the same."""
    parts = rows.with_name("answers.parquet.parts")
    command = [sys.executable, "-m", "edgecascade.cli", "run", pair / "local.onnx", rows]
    command += ["-o", rows.with_name("answers.parquet"), "--remote", pair / "remote.onnx", "--request-inputs", "1"]
    slowed = "import sys, time, edgecascade.runtime.remotes.onnx_file as o, edgecascade.cli as c\n"
    slowed += "ask = o.OnnxFile.infer\n"
    slowed += "o.OnnxFile.infer = lambda self, *given: time.sleep(0.1) or ask(self, *given)\n"
    slowed += "sys.exit(c.main(sys.argv[1:]))"
    begun = subprocess.Popen([sys.executable, "-c", slowed, *map(str, command[3:])])
    until = time.monotonic() + 60
    while not (parts / "1.parquet").exists() and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(begun.pid, number)
    assert begun.wait(30) == (-number if number == signal.SIGKILL else 128 + number)
    before = {one.name: one.stat().st_mtime_ns for one in parts.glob("?.parquet")}
    assert 2 <= len(before) < 8
    assert not rows.with_name("answers.parquet").exists()

    answered: list[int] = []
    ask = Cascade.predict_columns

    def counted(self: Cascade, x: Any, **options: Any) -> Any:
        answered.append(len(x))
        return ask(self, x, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Cascade, "predict_columns", counted)
        assert run(pair, rows, "--remote", pair / "remote.onnx") == 0
    assert sum(answered) == 400 - 50 * len(before)
    found = pq.read_table(rows.with_name("answers.parquet"))
    rows.with_name("answers.parquet").unlink()
    assert run(pair, rows, "--remote", pair / "remote.onnx") == 0
    assert found.equals(pq.read_table(rows.with_name("answers.parquet")))


def test_parts_of_another_run_are_not_taken(
    pair: Path, rows: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another threshold, table or file; the message names what differs, and the folder."""
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        assert run(pair, rows) == 0
    rows.with_name("answers.parquet").unlink()
    capsys.readouterr()
    assert run(pair, rows, "--threshold", "0.1") == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "policy" in said
    assert str(rows.with_name("answers.parquet.parts")) in said


@pytest.mark.parametrize("other", ["--remote-output", "content"])
def test_parts_of_another_remote_are_not_taken(
    pair: Path, rows: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """Of another output at the same address, or of another model in the same file."""
    remote = rows.with_name("remote.onnx")
    remote.write_bytes((pair / "remote.onnx").read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        assert run(pair, rows, "--remote", remote) == 0
    rows.with_name("answers.parquet").unlink()
    options: list[object] = ["--remote", remote]
    if other == "content":
        model = onnx.load(remote)
        model.doc_string = "another"
        onnx.save(model, remote)
    else:
        options += ["--remote-output", onnx.load(remote).graph.output[0].name]
    capsys.readouterr()
    assert run(pair, rows, *options) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert ".parts" in said


def test_a_second_run_is_refused(pair: Path, rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While the first answers; its output is whole."""
    codes: list[int] = []
    ask = Cascade.predict_columns

    def asked(self: Cascade, x: Any, **options: Any) -> Any:
        if not codes:
            codes.append(-1)
            codes.append(run(pair, rows))
        return ask(self, x, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Cascade, "predict_columns", asked)
        assert run(pair, rows) == 0
    assert codes == [-1, 2]
    assert "answers.parquet.parts" in capsys.readouterr().err
    assert pq.read_metadata(rows.with_name("answers.parquet")).num_rows == 400


@pytest.mark.parametrize("damage", ["cut", "bytes", "none of its rows"])
def test_a_damaged_part_is_answered_again(pair: Path, rows: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    """And only that one, before the output is written."""
    output = rows.with_name("answers.parquet")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        assert run(pair, rows) == 0
    expected = pq.read_table(output)
    output.unlink()
    part = rows.with_name("answers.parquet.parts") / "3.parquet"
    content = bytearray(part.read_bytes())
    if damage == "cut":
        part.write_bytes(content[:-100])
    elif damage == "bytes":
        content[60:80] = b"\xff" * 20
        part.write_bytes(content)
    else:
        pq.write_table(pq.read_table(part)[:0], part)
    answered: list[int] = []
    ask = Cascade.predict_columns

    def counted(self: Cascade, x: Any, **options: Any) -> Any:
        answered.append(len(x))
        return ask(self, x, **options)

    monkeypatch.setattr(Cascade, "predict_columns", counted)
    assert run(pair, rows) == 0
    assert sum(answered) == 50
    assert pq.read_table(output).equals(expected)


def test_too_few_parts_are_no_output(pair: Path, rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although every row group was answered, one is lost before the output is written."""
    finish = table_command._Job.finish

    def lost(self: Any) -> str:
        self._part(2).unlink()
        return finish(self)

    with monkeypatch.context() as patch:
        patch.setattr(table_command._Job, "finish", lost)
        assert run(pair, rows) == 2
    assert not rows.with_name("answers.parquet").exists()
    assert run(pair, rows) == 0
    assert pq.read_metadata(rows.with_name("answers.parquet")).num_rows == 400


def test_equal_numbers_are_read_in_pieces(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as others, although parquet stores them in a few bytes."""
    pq.write_table(pa.table({"z": tensors(np.zeros((10_000, 3), np.float32))}), tmp_path / "rows.parquet")
    monkeypatch.setattr(table_command, "_BYTES", 12_000)
    asked: list[int] = []
    ask = Cascade.predict_columns

    def counted(self: Cascade, x: Any, **options: Any) -> Any:
        asked.append(len(x))
        return ask(self, x, **options)

    monkeypatch.setattr(Cascade, "predict_columns", counted)
    assert main(["run", str(file), str(tmp_path / "rows.parquet"), "-o", str(tmp_path / "answers.parquet")]) == 0
    assert sum(asked) == 10_000
    assert max(asked) <= 1000


def test_a_remote_that_never_replies_has_an_exit_code(pair: Path, rows: Path) -> None:
    """The answers are written all the same."""
    assert run(pair, rows, "--remote", "http://127.0.0.1:9/v2/models/m", "--patience", "0") == 3
    reasons = {*pq.read_table(rows.with_name("answers.parquet"))["reason"].to_pylist()}
    assert "confident" in reasons
    assert reasons <= {"confident", "offline", "circuit open"}


def test_a_remote_that_is_away_is_waited_for_once(pair: Path, rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once for each row group; after a reply, it is waited for again."""
    waited, ask = list[float](), Cascade.predict_columns

    def counted(self: Cascade, x: Any, **options: Any) -> Any:
        waited.append(options["patience"])
        return ask(there if len(waited) == 3 else self, x, **options)

    monkeypatch.setattr(Cascade, "predict_columns", counted)
    assert pq.ParquetFile(rows).num_row_groups > 4
    with Cascade.load(pair / "local.onnx", remote=pair / "remote.onnx", threshold=9.0) as there:
        options = ("--remote", "http://127.0.0.1:9/v2/models/m", "--patience", "0.2", "--threshold", "9")
        assert run(pair, rows, *options) == 0
    assert waited == [0.2, 0.0, 0.0, 0.2, *[0.0] * (len(waited) - 4)]


def test_features_in_columns_of_their_own(file: Path, tmp_path: Path) -> None:
    """A model of one input of n numbers takes n columns, in their order; `--columns` chooses among others."""
    z = np.random.default_rng(1).normal(0, 2, (100, 3)).astype(np.float32)
    table = {"a": z[:, 0], "b": z[:, 1], "c": z[:, 2], "day": np.arange(100), "label": np.arange(100)}
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")
    output = tmp_path / "answers.parquet"
    assert main(["run", str(file), str(tmp_path / "rows.parquet"), "-o", str(output), "--columns", "a,b,c"]) == 0
    with Cascade.load(file) as cascade:
        expected = cascade.decide(z)
    assert pq.read_table(output)["label"].to_pylist() == expected.label.tolist()


@pytest.mark.parametrize("groups", [0, 3])
def test_a_table_without_rows_has_answers_without_rows(file: Path, tmp_path: Path, groups: int) -> None:
    """With the same columns as others, whether it has row groups or none; empty row groups do no harm."""
    schema = pa.schema({"z": pa.list_(pa.float32(), 3)})
    with pq.ParquetWriter(tmp_path / "rows.parquet", schema) as writer:
        for _ in range(groups):
            writer.write_table(schema.empty_table())
        if groups:
            writer.write_table(pa.table({"z": [[1.0, 2.0, 3.0]]}, schema))
    output = tmp_path / "answers.parquet"
    assert main(["run", str(file), str(tmp_path / "rows.parquet"), "-o", str(output)]) == 0
    found = pq.read_table(output)
    assert found.num_rows == (1 if groups else 0)
    assert found.column_names == ["label", "name", "confidence", "source", "reason", "advantage"]


def bad(kind: str, rows: Path) -> list[object]:
    """Make the bad input, and return the arguments."""
    output = rows.with_name("answers.parquet")
    usual: list[object] = [rows, "-o", output]
    z = np.zeros((4, 3), np.float32)
    columns: dict[str, Any] = {
        "nulls": pa.array([[1.0, 2.0, 3.0], None, [1.0, 2.0, 3.0]], pa.list_(pa.float32())),
        "null inside": pa.array([[1.0, 2.0, 3.0], [1.0, None, 3.0]], pa.list_(pa.float32())),
        "other lengths": pa.array([[1.0, 2.0, 3.0], [1.0, 2.0]], pa.list_(pa.float32())),
        "other length": pa.array([[1.0, 2.0]] * 2, pa.list_(pa.float32())),
        "text": pa.array(["a", "b"]),
        "whole numbers": pa.array([[1, 2, 3]] * 2),
    }
    if kind in columns:
        pq.write_table(pa.table({"z": columns[kind]}), rows)
    elif kind == "other row group":
        schema = pa.schema({"z": pa.list_(pa.float32())})
        with pq.ParquetWriter(rows, schema) as writer:
            writer.write_table(pa.table({"z": [[1.0, 2.0, 3.0]]}, schema))
            writer.write_table(pa.table({"z": [[1.0, 2.0]]}, schema))
    elif kind == "other columns":
        pq.write_table(pa.table({"a": z[:, 0], "b": ["x"] * 4}), rows)
    elif kind == "two columns of a name":
        pq.write_table(pa.table([tensors(z), tensors(z)], names=["z", "z"]), rows)
    elif kind == "no parquet":
        rows.write_bytes(b"PAR1 and no more")
    else:
        pq.write_table(pa.table({"z": tensors(z)}), rows)
    if kind == "output exists":
        output.write_bytes(b"kept")
    others: dict[str, list[object]] = {
        "missing": [rows.with_name("none.parquet"), "-o", output],
        "output is the input": [rows, "-o", rows],
        "output is no parquet": [rows, "-o", rows.with_name("answers.csv")],
        "no folder": [rows, "-o", rows.with_name("none") / "answers.parquet"],
        "two tables": [rows, rows, "-o", output],
        "no output": [rows],
        "no such column": [*usual, "--columns", "q"],
        "no such column to keep": [*usual, "--keep", "q"],
        "a column as of answers": [*usual, "--keep", "label"],
        "no rows in a request": [*usual, "--request-inputs", "0"],
        "every": [*usual, "--every", "2"],
        "deadline": [*usual, "--deadline", "0.2"],
        "a port": [*usual, "--metrics", "99999"],
        "a column twice": [*usual, "--columns", "z,z"],
        "a column to keep twice": [*usual, "--keep", "z,z"],
        "outbox": [*usual, "--outbox", rows.with_name("outbox.db"), "--remote", "http://127.0.0.1:9/v2/models/m"],
    }
    return others.get(kind, usual)


BAD = [
    *("nulls", "null inside", "other lengths", "other length", "text", "whole numbers", "other row group"),
    *("other columns", "no parquet", "output exists", "missing", "output is the input", "output is no parquet"),
    *("no folder", "two tables", "no output", "no such column", "no such column to keep", "a column as of answers"),
    *("no rows in a request", "outbox", "every", "deadline", "a port", "a column twice", "a column to keep twice"),
    "two columns of a name",
]


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_refused_in_one_sentence(
    kind: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And no output is written; one that exists is left as it is."""
    arguments = bad(kind, tmp_path / "rows.parquet")
    before = {one: one.read_bytes() for one in tmp_path.iterdir() if one.is_file()}
    assert main(["run", str(file), *map(str, arguments)]) == 2
    *_, said = capsys.readouterr().err.splitlines()
    assert said.startswith("edgecascade: ")
    after = {one: one.read_bytes() for one in tmp_path.iterdir() if one.is_file()}
    assert after == before


def test_a_file_that_is_no_cascade_is_refused(pair: Path, rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before the table is read."""
    assert main(["run", str(pair / "remote.onnx"), str(rows), "-o", str(rows.with_name("a.parquet"))]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "remote.onnx" in said
