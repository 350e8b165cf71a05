"""Verdicts of a person, read from the CSV of the review page, or from an export of Label Studio or Argilla."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgecascade.calibration.cleaning import Judged, Verdict
from edgecascade.calibration.commands.clean.drawn import Drawn, drawn_again
from edgecascade.calibration.commands.clean.expert_files import sha256
from edgecascade.calibration.commands.clean.labelling_tools import Said, read_export
from edgecascade.calibration.commands.clean.suspects_file import SuspectsFile
from edgecascade.types.errors import CalibrationError, first_line

__all__ = ["COLUMNS", "Verdicts", "inert", "read_verdicts"]

COLUMNS = ("row", "id", "verdict", "label", "given", "suggested", "audit", "time")

_WORDS = tuple(verdict.value for verdict in Verdict)
_NEEDED = ("row", "verdict", "audit")
_SPECIAL = ("=", "+", "-", "@", "\t", "\r", "'")  # at the start of a cell: all but the last make a formula of it


@dataclass(frozen=True)
class Verdicts:
    """The verdicts of an audit.

    Attributes:
        drawn: the audit.
        judged: the verdicts by row, in the order of the audit.
        hash: SHA-256 of the file.
    """

    drawn: Drawn
    judged: Mapping[int, Judged]
    hash: str


def read_verdicts(path: str | Path, file: SuspectsFile) -> Verdicts:
    """Read verdicts on suspects: a .csv of the review page, or a .json of Label Studio or Argilla.

    Raises:
        CalibrationError: the file cannot be read, is about other suspects, names a row twice, or has unknown words.
    """
    path = Path(path)
    if not path.is_file():
        raise CalibrationError(f"{path}: no such file")
    found = list(read_export(path, file) if path.suffix.lower() == ".json" else _csv(path))
    tags = sorted({one.audit for one in found})
    if len(tags) != 1:
        raise CalibrationError(f"{path}: expected verdicts of one audit, got {f'those of {tags}' if tags else 'none'}")
    try:
        drawn = drawn_again(file, tags[0])
        order = {row: place for place, row in enumerate(drawn.audit.rows.tolist())}
        judged: dict[int, Judged] = {}
        for one in found:
            verdict = _checked(one, file, order)
            if verdict.row in judged:
                raise CalibrationError(f"{one.where}: expected one verdict on row {verdict.row}, got another before it")
            judged[verdict.row] = verdict
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from error
    return Verdicts(drawn, {row: judged[row] for row in order if row in judged}, sha256(path))


def inert(text: str) -> str:
    """Return the text of a CSV cell that a spreadsheet does not take for a formula; reading verdicts undoes it."""
    return f"'{text}" if text.startswith(_SPECIAL) else text


def _as_meant(cell: str | None) -> str | None:
    return cell[1:] if cell and cell[0] == "'" and cell[1:].startswith(_SPECIAL) else cell


def _checked(one: Said, file: SuspectsFile, order: Mapping[int, int]) -> Judged:
    try:
        row = int(one.row)
    except (TypeError, ValueError, OverflowError):
        raise CalibrationError(f"{one.where}: expected the number of a row, got {one.row!r}") from None
    if row not in order:
        raise CalibrationError(f"{one.where}: expected a row of the audit, got row {row}")
    word = one.verdict.replace(" ", "_")  # as a person writes `cannot tell`
    if word not in _WORDS:
        raise CalibrationError(f"{one.where}: expected one of {', '.join(_WORDS)}, got {one.verdict!r}")
    own = dict(zip(("given", "suggested"), file.pair(row), strict=True))
    for name, label in own.items():
        said = getattr(one, name)
        if said is not None and said != label:
            raise CalibrationError(f"{one.where}: expected the {name} label {label} of row {row}, got {said}")
    verdict = Verdict(word)
    if not one.label:
        return Judged(row, verdict, None, one.time)
    if verdict is not Verdict.OTHER:
        raise CalibrationError(
            f"{one.where}: expected a label with the verdict other only, got {one.label} with {one.verdict}"
        )
    alike = [name for name in file.classes if name.casefold() == one.label.casefold()]
    named = one.label if one.label in alike else next(iter(alike), None)
    if named is None or named in own.values():
        raise CalibrationError(
            f"{one.where}: expected another of the {len(file.classes)} classes where both labels are wrong, got "
            f"{one.label!r}"
        )
    return Judged(row, verdict, file.classes.index(named), one.time)


def _csv(path: Path) -> Iterator[Said]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            lines = csv.DictReader(stream, delimiter=";" if first.count(";") > first.count(",") else ",", strict=True)
            missing = [name for name in _NEEDED if name not in (lines.fieldnames or ())]
            if missing:
                raise CalibrationError(
                    f"{path}: expected the columns {', '.join(COLUMNS)}, got no {', '.join(missing)}"
                )
            for line in lines:
                values = {name: (line.get(name) or "").strip() for name in (*_NEEDED, "time")}
                if values["verdict"]:  # a row that is not judged yet may be listed
                    yield Said(
                        where=f"line {lines.line_num}",
                        label=(_as_meant(line.get("label")) or "").strip(),
                        given=_as_meant(line.get("given")) or None,
                        suggested=_as_meant(line.get("suggested")) or None,
                        **values,
                    )
    except CalibrationError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise CalibrationError(f"{path}: is not a readable .csv file: {first_line(error)}") from error
