"""The file of suspects: every judged row, most suspect first, as parquet with its provenance in the schema."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.cleaning import Suspects
from edgecascade.types.errors import CalibrationError, first_line

__all__ = ["SuspectsFile", "new_files", "read_suspects", "write_suspects"]

_KEY = b"edgecascade.clean"
_VERSION = 1
_CONFIDENCE, _GIVEN = "expert:", ":given"


@dataclass(frozen=True)
class SuspectsFile:
    """All judged rows, most suspect first, and where they come from.

    Attributes:
        suspects: of every judged row.
        names: of the classes; empty if they have none.
        ids: of the rows by their number; empty if they have none.
        provenance: files with their SHA-256, options, weights and versions, as JSON-like values.
    """

    suspects: Suspects
    names: tuple[str, ...]
    ids: tuple[str, ...]
    provenance: Mapping[str, Any]

    def name(self, label: int) -> str:
        """Return the name of a class, or its number if the classes have no names."""
        return self.names[label] if self.names else str(label)

    @property
    def hash(self) -> str:
        """The SHA-256 of what an audit depends on: rows, labels, scores and flags."""
        found, suspects = hashlib.sha256(), self.suspects
        for column in (suspects.row, suspects.given, suspects.suggested, suspects.score, suspects.posterior):
            found.update(np.ascontiguousarray(column).tobytes())
        found.update(np.packbits(suspects.flagged).tobytes())
        return found.hexdigest()

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of all classes, or their numbers."""
        return self.names or tuple(str(label) for label in range(self.suspects.classes))

    @property
    def labels(self) -> NDArray[np.int64]:
        """The given labels of all judged rows, int64 [n], in the order of the rows."""
        labels = np.empty(self.suspects.n, np.int64)
        labels[self.suspects.row] = self.suspects.given
        return labels

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """The place among the suspects of each row, int64 [n]."""
        places = np.empty(self.suspects.n, np.int64)
        places[self.suspects.row] = np.arange(self.suspects.n)
        return places

    def pair(self, row: int) -> tuple[str, str]:
        """Return the names of the given and the suggested class of a row."""
        place = self.places[row]
        return self.name(int(self.suspects.given[place])), self.name(int(self.suspects.suggested[place]))


@contextmanager
def new_files(*paths: str | Path) -> Iterator[None]:
    """Refuse paths that exist, and remove what was written to them if the writing fails.

    Raises:
        CalibrationError: a path exists or is named twice, or its folder does not exist.
    """
    if len({Path(path).absolute() for path in paths}) < len(paths):
        raise CalibrationError(f"{paths[0]}: expected another file for each output, got one file twice")
    for path in map(Path, paths):
        if path.exists() or path.is_symlink():
            raise CalibrationError(f"{path}: expected a new file, got one that exists; nothing was written")
        if not path.parent.is_dir():
            raise CalibrationError(f"{path}: expected a file in a folder that exists")
    try:
        yield
    except BaseException:
        for path in map(Path, paths):
            path.unlink(missing_ok=True)
        raise


def write_suspects(path: str | Path, file: SuspectsFile) -> None:
    """Write a file of suspects.

    Raises:
        CalibrationError: the suspects are not those of every row.
        ModuleNotFoundError: pyarrow is not installed.
    """
    import pyarrow
    import pyarrow.parquet

    suspects = file.suspects
    if len(suspects.row) != suspects.n:
        raise CalibrationError(f"suspects: expected all {suspects.n} rows, got {len(suspects.row)}")
    columns: dict[str, Any] = {"row": suspects.row}
    if file.ids:
        columns["id"] = [file.ids[row] for row in suspects.row]
    columns |= {"given": _called(suspects.given, file.names), "suggested": _called(suspects.suggested, file.names)}
    columns |= {"score": suspects.score, "posterior": suspects.posterior, "flagged": suspects.flagged}
    for k, name in enumerate(suspects.experts):
        columns[f"{_CONFIDENCE}{name}"] = suspects.confidences[:, k]
        columns[f"{_CONFIDENCE}{name}{_GIVEN}"] = suspects.given_confidences[:, k]
    about = {
        "version": _VERSION,
        "n": suspects.n,
        "classes": suspects.classes,
        "names": file.names,
        "experts": suspects.experts,
        "rule": suspects.rule,
        "threshold": suspects.threshold,
        "columns": file.hash,
        "provenance": file.provenance,
    }
    table = pyarrow.table(columns).replace_schema_metadata({_KEY: json.dumps(about)})
    pyarrow.parquet.write_table(table, path)


def read_suspects(path: str | Path) -> SuspectsFile:
    """Read a file of suspects.

    Raises:
        CalibrationError: the file cannot be read, is none of suspects, or was changed.
        ModuleNotFoundError: pyarrow is not installed.
    """
    import pyarrow
    import pyarrow.parquet

    if not Path(path).is_file():
        raise CalibrationError(f"{path}: no such file")
    try:
        table = pyarrow.parquet.read_table(path)
        about = json.loads((table.schema.metadata or {}).get(_KEY, b"null"))
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise CalibrationError(f"{path}: is not a readable .parquet file: {first_line(error)}") from error
    if not isinstance(about, dict):
        raise CalibrationError(
            f"{path}: expected a file that `edgecascade clean find` wrote, got another .parquet file"
        )
    if about.get("version") != _VERSION:
        raise CalibrationError(f"{path}: expected version {_VERSION} of the file, got {about.get('version')}")
    try:
        file = _parsed(table, about)
        kept = file.hash == about["columns"]
    except (LookupError, TypeError, ValueError, OverflowError, pyarrow.ArrowException) as error:
        raise CalibrationError(f"{path}: is a damaged file of suspects: {first_line(error)}") from error
    if not kept:
        raise CalibrationError(f"{path}: expected the columns as `edgecascade clean find` wrote them, got changed ones")
    return file


def _parsed(table: Any, about: Mapping[str, Any]) -> SuspectsFile:
    names, experts = tuple(about["names"]), tuple(about["experts"])
    numbers = {name: number for number, name in enumerate(names)}

    def labels(name: str) -> NDArray[np.int64]:
        column = table[name]
        return np.array([numbers[one] for one in column.to_pylist()], np.int64) if names else _array(column)

    def confidences(ending: str) -> NDArray[np.float32]:
        return np.stack([_array(table[f"{_CONFIDENCE}{name}{ending}"]) for name in experts], axis=1)

    row, posterior = _array(table["row"]), _array(table["posterior"])
    n = int(about["n"])
    if len(row) != n or not np.array_equal(np.sort(row), np.arange(n)):
        raise ValueError(f"expected each of {n} rows once")
    expected = np.empty(n, np.float32)
    expected[row] = posterior
    ids: tuple[str, ...] = ()
    if "id" in table.column_names:
        by_row = sorted(zip(row.tolist(), table["id"].to_pylist(), strict=True))
        ids = tuple(one for _, one in by_row)
    suspects = Suspects(
        row=row,
        given=labels("given"),
        suggested=labels("suggested"),
        score=_array(table["score"]),
        posterior=posterior,
        confidences=confidences(""),
        given_confidences=confidences(_GIVEN),
        flagged=_array(table["flagged"]),
        n=n,
        classes=int(about["classes"]),
        rule=str(about["rule"]),
        threshold=float(about["threshold"]),
        experts=experts,
        expected_wrong=expected,
    )
    return SuspectsFile(suspects, names, ids, about["provenance"])


def _array(column: Any) -> NDArray[Any]:
    return np.asarray(column.to_numpy())


def _called(labels: NDArray[np.int64], names: Sequence[str]) -> Any:
    return [names[label] for label in labels.tolist()] if names else labels
