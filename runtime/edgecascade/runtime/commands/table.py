"""Answer the rows of a parquet file into another one: row group by row group, and on from there after a kill."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from argparse import Namespace
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from edgecascade.cli import rare
from edgecascade.runtime.bulk import Bulk
from edgecascade.runtime.cascade import Cascade
from edgecascade.runtime.columns import REASONS, SOURCES, Columns
from edgecascade.runtime.commands.answering import REPLIED, Stop, unanswered
from edgecascade.runtime.commands.budget_arguments import with_flag
from edgecascade.runtime.commands.console import Console, counting
from edgecascade.runtime.commands.remote_arguments import flag
from edgecascade.runtime.engine import numpy_dtype
from edgecascade.runtime.remotes.remote import shown
from edgecascade.runtime.tables import chosen_columns
from edgecascade.types.answer import Reason
from edgecascade.types.errors import ArgumentError, InputError, first_line, no_file

__all__ = ["add_table_arguments", "answer_table", "check_table_arguments"]

_PARQUET = ".parquet"
_ROWS, _BYTES, _IMAGE_BYTES = 8192, 16 << 20, 1 << 20  # most of what is read at once; images grow when they are decoded
_AHEAD = 2  # batches that are answered at the same time
_TOGETHER = 1 << 16  # rows in a row group of the output
_BUFFER = 1 << 20  # bytes
_LEAST = {"BOOLEAN": 1, "INT32": 1, "INT64": 8, "FLOAT": 4, "DOUBLE": 8}  # bytes of a number of a type of parquet
_ANSWER = ("label", "name", "confidence", "source", "reason", "advantage", "probabilities")


def add_table_arguments(add: Callable[..., Any]) -> None:
    """Add the arguments by the method `add_argument` of a parser or a group."""
    output = "New .parquet of answers to a .parquet; the same command goes on after a kill."
    add("-o", "--output", metavar="F", help=output)
    rare(add("--columns", metavar="A,B", help="Columns of a .parquet that are inputs, if it has others."))
    rare(add("--keep", metavar="A,B", help="Columns of a .parquet to copy to the answers, such as an id."))
    for option, kind, default, about in (
        ("--request-inputs", int, 256, "Most rows in one request"),
        ("--in-flight", int, 4, "Most requests at the same time"),
        ("--patience", float, 60.0, "Seconds for which a remote that cannot be reached is asked again"),
    ):
        metavar = "N" if kind is int else "SECONDS"
        rare(add(option, metavar=metavar, type=kind, default=default, help=f"{about} (default {default:g})."))


def check_table_arguments(arguments: Namespace) -> bool:
    """Return whether the inputs are a table; check the arguments before anything is loaded.

    Raises:
        ArgumentError: they do not go together, or the output exists.
        InputError: the table does not exist.
    """
    output, tables = arguments.output, [one for one in arguments.inputs if one.lower().endswith(_PARQUET)]
    if output is None:
        if tables:
            raise ArgumentError(f"--output: expected a new .parquet file for the answers to {tables[0]}, got none")
        given = next((f"--{name}" for name in ("columns", "keep") if getattr(arguments, name)), None)
        if given is not None:
            raise ArgumentError(f"{given}: expected with a .parquet file and --output, got neither")
        return False
    if arguments.every != 1:
        raise ArgumentError(f"--every: expected without --output, which answers every row, got {arguments.every}")
    for name in ("columns", "keep"):
        listed = _listed(getattr(arguments, name))
        if twice := [one for one in listed if listed.count(one) > 1]:
            raise ArgumentError(f"--{name}: expected every column once, got {twice[0]!r} twice")
    if len(tables) != 1 or len(arguments.inputs) != 1:
        raise ArgumentError(f"inputs: expected one .parquet file with --output, got {' '.join(arguments.inputs)}")
    if not output.lower().endswith(_PARQUET):
        raise ArgumentError(f"--output: expected a file that ends in .parquet, got {output}")
    if not os.path.isfile(tables[0]):
        raise InputError(no_file(tables[0]))
    if os.path.lexists(output):
        same = os.path.exists(output) and os.path.samefile(output, tables[0])
        raise ArgumentError(
            f"--output: expected a new file, got {output}, which {'is the input' if same else 'exists'}"
        )
    if not os.path.isdir(os.path.dirname(output) or "."):
        raise ArgumentError(f"--output: expected a file in a folder that exists, got {output}")
    if arguments.deadline != 1:
        raise ArgumentError(f"--deadline: expected without --output, which waits for all, got {arguments.deadline:g}")
    if arguments.outbox is not None:
        raise ArgumentError("--outbox: expected without --output, which has no place for late answers, got both")
    try:
        _bulk(arguments).check()
    except ArgumentError as error:
        raise with_flag(error, {name: flag(name) for name in Bulk._fields}) from error
    return True


def answer_table(cascade: Cascade, arguments: Namespace, console: Console, stop: Stop) -> Counter[Reason]:
    """Write the answers, unless a signal comes before; return how many this run gave for each reason.

    Raises:
        ArgumentError: the file is that of a general task, or the parts of an earlier run are those of another.
        InputError: the table is damaged, or a column does not fit.
        ModuleNotFoundError: pyarrow is not installed.
    """
    import pyarrow.parquet

    (path,) = arguments.inputs
    if not cascade.labels:
        raise ArgumentError("--output: expected the file of a classifier, got that of a general task")
    given: Counter[Reason] = Counter()
    with ExitStack() as opened:
        with _readable(path):
            table = opened.enter_context(pyarrow.parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False))
        job = _Job(cascade, arguments, table)
        opened.enter_context(job.begun())
        left = job.left()
        total, of = sum(map(job.rows, left)), table.metadata.num_rows
        if total < of:
            console.say(f"{of - total} of {of} rows were answered before")
        with counting("answering", total, amount="{} rows") as progress:
            for counts in chain.from_iterable(job.answer(group, stop) for group in left):
                given.update(counts)
                progress(counts.total())
        console.say("stopped; the same command goes on after the last whole row group" if stop else job.finish())
    return given


class _Job:
    """The answers to one table: a file for each row group in a folder beside the output, and at last the output.

    Raises:
        InputError: the table lacks a column, or has two of one name.
    """

    def __init__(self, cascade: Cascade, arguments: Namespace, table: Any) -> None:
        (self._path,), self._output = arguments.inputs, arguments.output
        self._cascade, self._table, self._with_probabilities = cascade, table, arguments.probabilities
        self._options, self._patience = _bulk(arguments)._asdict(), arguments.patience
        self._folder = Path(f"{self._output}.parts")
        names = table.schema_arrow.names
        self._inputs = chosen_columns(cascade.inputs, names, _listed(arguments.columns))
        self._keep = _listed(arguments.keep)
        taken = (*_ANSWER, *cascade.outputs)
        for name in self._keep:
            if name not in names:
                raise InputError(f"--keep: expected columns of {self._path}, {', '.join(names):.200}, got {name!r}")
            if name in taken:
                raise InputError(f"--keep: expected other names than the answers' {', '.join(taken)}, got {name!r}")
        twice = next((name for name in (*self._inputs, *self._keep) if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"{self._path}: expected one column of the name {twice!r}, got {names.count(twice)}")
        self._description = _description(cascade, arguments, table, [*self._inputs, *self._keep])

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Keep other runs away from the folder, and remove damaged parts from it.

        Raises:
            ArgumentError: another run uses the folder, or it has the parts of another job.
        """
        self._folder.mkdir(exist_ok=True)
        with _locked(self._folder):
            if os.path.lexists(self._output):  # written by a run that has just ended
                shutil.rmtree(self._folder, ignore_errors=True)
                raise ArgumentError(f"--output: expected a new file, got {self._output}, which exists")
            self._begin()
            for group in self.done():
                if not _is_whole(self._part(group), self.rows(group)):
                    self._part(group).unlink()
            yield

    def rows(self, group: int) -> int:
        """Return the number of rows in a row group."""
        return int(self._table.metadata.row_group(group).num_rows)

    def done(self) -> list[int]:
        """Return the row groups that have been answered."""
        return [group for group in range(self._table.num_row_groups) if self._part(group).exists()]

    def left(self) -> list[int]:
        """Return the others that have rows."""
        return [
            group for group in range(self._table.num_row_groups) if self.rows(group) and not self._part(group).exists()
        ]

    def answer(self, group: int, stop: Stop) -> Iterator[Counter[Reason]]:
        """Answer a row group, unless `stop` comes before; yield the answers by reason, as they are given."""
        if stop:
            return
        with _whole(self._part(group), self._folder) as (path, writer), ThreadPoolExecutor(_AHEAD) as pool:
            answering: deque[tuple[Any, Future[Columns]]] = deque()  # so that the local model need not wait
            for batch in chain(self._read(group), [None] * _AHEAD):
                if stop:
                    path.unlink(missing_ok=True)
                    return
                if len(answering) == _AHEAD or (batch is None and answering):
                    rows, future = answering.popleft()
                    columns = self._columns(group, future)
                    writer(self._answers(columns, rows))
                    counts: Counter[Reason] = Counter()
                    for (_, reason), n in columns.counts().items():
                        counts[reason] += n
                    if unanswered(counts):  # it was waited for: until it answers again, each request is sent once
                        self._options["patience"] = 0.0
                    elif any(counts[reason] for reason in REPLIED):
                        self._options["patience"] = self._patience
                    yield counts
                if batch is not None:
                    ask = partial(self._cascade.predict_columns, batch.select(self._inputs), **self._options)
                    answering.append((batch, pool.submit(ask)))

    def _columns(self, group: int, answering: Future[Columns]) -> Columns:
        try:
            return answering.result()
        except InputError as error:
            raise InputError(f"{self._path}: row group {group}: {error}") from error

    def _read(self, group: int) -> Iterator[Any]:
        columns = [*self._inputs, *self._keep]
        with _readable(self._path):
            yield from self._table.iter_batches(self._step(group), row_groups=[group], columns=columns)

    def finish(self) -> str:
        """Write the output from the parts, remove them, and return what the answers are in one sentence."""
        import pyarrow.compute
        import pyarrow.parquet

        counts, expected = Counter[str](), self._table.metadata.num_rows
        with _whole(Path(self._output), self._folder) as (_, writer):
            for group in self.done():
                part = self._part(group)
                with _readable(str(part)), pyarrow.parquet.ParquetFile(part) as answers:
                    for batch in answers.iter_batches(_TOGETHER):
                        writer(batch)
                        for one in pyarrow.compute.value_counts(batch.column("reason")).to_pylist():
                            counts[one["values"]] += one["counts"]
            if not counts:
                none = pyarrow.RecordBatch.from_pylist([], self._table.schema_arrow)
                writer(self._answers(self._no_answers(), none))
            if counts.total() != expected:
                raise InputError(
                    f"{self._folder}: expected answers to {expected} rows, got {counts.total()}; run the command again"
                )
        shutil.rmtree(self._folder, ignore_errors=True)
        local, reasons = counts[Reason.CONFIDENT.value], ", ".join(f"{n} {one}" for one, n in counts.items())
        away = counts.total() - local
        return f"{counts.total()} answered: {local} locally, {away} to be forwarded ({reasons or 'none'})"

    def _no_answers(self) -> Columns:
        """Return the columns of no row, with the outputs whose shape the model declares."""
        outputs = {
            name: np.zeros((0, *sides), numpy_dtype(one.type))
            for name, one in self._cascade.outputs.items()
            if len(sides := [side for side in one.shape[1:] if isinstance(side, int)]) == len(one.shape) - 1
        }
        return replace(Columns.of([], len(self._cascade.labels)), outputs=outputs)

    def _begin(self) -> None:
        about, before, description = self._folder / "job.json", {}, self._description
        if self.done():
            with suppress(OSError, ValueError):
                before = json.loads(about.read_text(encoding="utf-8"))
            other = next((name for name, value in description.items() if before.get(name) != value), None)
            if other is not None:
                raise ArgumentError(
                    f"--output: expected the parts of this run in {self._folder}, got those of another: "
                    f"its {other} differs; remove the folder to start anew"
                )
        else:
            begun = self._folder / "job.json.part"
            begun.write_text(json.dumps(description, indent=1), encoding="utf-8")
            os.replace(begun, about)

    def _part(self, group: int) -> Path:
        return self._folder / f"{group}.parquet"

    def _step(self, group: int) -> int:
        metadata = self._table.metadata.row_group(group)
        cells = [metadata.column(i) for i in range(metadata.num_columns)]
        stored = sum(  # many equal numbers are stored in fewer bytes than they have
            max(one.total_uncompressed_size, one.num_values * _LEAST.get(one.physical_type, 0))
            for one in cells
            if one.path_in_schema.split(".")[0] in self._inputs
        )
        most = _IMAGE_BYTES if self._cascade.inputs.images else _BYTES
        return max(1, min(_ROWS, int(most * metadata.num_rows // max(1, stored))))

    def _answers(self, columns: Columns, batch: Any) -> Any:
        import pyarrow

        def named(codes: Any, names: tuple[str, ...]) -> Any:
            return pyarrow.DictionaryArray.from_arrays(pyarrow.array(codes, pyarrow.int32()), pyarrow.array(names))

        found = {name: batch.column(name) for name in self._keep}
        found |= {
            "label": columns.label,
            "name": named(columns.label, self._cascade.labels),
            "confidence": columns.confidence,
            "source": named(columns.source_codes, tuple(one.value for one in SOURCES)),
            "reason": named(columns.reason_codes, tuple(one.value for one in REASONS)),
            "advantage": columns.advantage,
        }
        if self._with_probabilities:
            flat = pyarrow.array(columns.probabilities.reshape(-1))
            found["probabilities"] = pyarrow.FixedSizeListArray.from_arrays(flat, len(self._cascade.labels))
        for name, array in columns.outputs.items():
            if array.dtype == object:
                raise InputError(f"--outputs: expected {name!r} of one shape in every row, got others")
            found[name] = array if array.ndim == 1 else _tensors(array)
        return pyarrow.record_batch(found)


def _tensors(array: Any) -> Any:
    """Return rows as an Arrow column of tensors, also if there are none."""
    import pyarrow

    kind = pyarrow.fixed_shape_tensor(pyarrow.from_numpy_dtype(array.dtype), array.shape[1:])
    flat = pyarrow.array(np.ascontiguousarray(array).reshape(-1))
    return pyarrow.ExtensionArray.from_storage(
        kind, pyarrow.FixedSizeListArray.from_arrays(flat, type=kind.storage_type)
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which ends with the process; on systems without `fcntl` there is none.

    Raises:
        ArgumentError: another run holds it.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    taken = ArgumentError(f"--output: expected no other run with it, got one that writes to {folder}")
    path, held = folder / "lock", False
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError as error:  # the other has just removed the folder
        raise taken from error
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = os.path.samestat(os.fstat(descriptor), os.stat(path))
        if not held:
            raise taken
        yield
    finally:
        os.close(descriptor)


def _is_whole(path: Path, rows: int) -> bool:
    """Return whether a part has so many rows, and none of its pages is damaged."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as part:
            return rows == sum(int(batch.num_rows) for batch in part.iter_batches(_TOGETHER))
    except (OSError, pyarrow.ArrowException):
        return False


@contextmanager
def _readable(path: str) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path}: not a readable table: {first_line(error)}") from error


@contextmanager
def _whole(path: Path, folder: Path) -> Iterator[tuple[Path, Callable[[Any], None]]]:
    """Give a place in a folder for a parquet file and a function that appends a batch; at the end it moves to its path.

    If the place is empty then, or there was an exception, there is no file.
    """
    import pyarrow.parquet

    part, writers = folder / f"{path.name}.{os.getpid()}.part", list[Any]()

    def write(batch: Any) -> None:
        if not writers:
            writers.append(pyarrow.parquet.ParquetWriter(part, batch.schema, write_page_checksum=True))
        writers[0].write_batch(batch)

    try:
        yield part, write
    except BaseException:
        for writer in writers:
            writer.close()
        part.unlink(missing_ok=True)
        raise
    for writer in writers:
        writer.close()
    if part.exists():
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)


def _bulk(arguments: Namespace) -> Bulk:
    return Bulk(arguments.request_inputs, arguments.in_flight, arguments.patience)


def _listed(names: str | None) -> list[str]:
    return [one for one in (names or "").split(",") if one]


def _description(cascade: Cascade, arguments: Namespace, table: Any, columns: list[str]) -> dict[str, Any]:
    """Return what the answers depend on."""
    found = os.stat(arguments.inputs[0])
    model = os.stat(arguments.file)
    return {
        "table": [os.path.abspath(arguments.inputs[0]), found.st_size, found.st_mtime_ns, table.metadata.num_rows],
        "cascade file": [model.st_size, model.st_mtime_ns],
        "columns": columns,
        "policy": repr(cascade.policy),
        "remote": None if arguments.remote is None else shown(arguments.remote),
        "remote file": _digest(arguments.remote),
        **{
            flag(name): getattr(arguments, name) for name in ("remote_input", "remote_output", "remote_model", "answer")
        },
        "--remote-prompt": _digest(arguments.remote_prompt),
        "--remote-fields": _digest(None, (arguments.remote_fields or "").encode()),  # they may hold secrets
        "probabilities": arguments.probabilities,
        "outputs": [*cascade.outputs],
    }


def _digest(path: str | None, content: bytes = b"") -> str | None:
    """Return the SHA-256 of a file, or of some content without one; None for an address."""
    if path is None:
        return hashlib.sha256(content).hexdigest()
    if not os.path.isfile(path):
        return None
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_BUFFER):
            digest.update(piece)
    return digest.hexdigest()
