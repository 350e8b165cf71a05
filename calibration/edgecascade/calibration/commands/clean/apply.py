"""`edgecascade clean apply`: the labels with what a person confirmed."""

from __future__ import annotations

import csv
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.cleaning import Judged, Verdict
from edgecascade.calibration.commands.clean.judge import unjudged_sentences
from edgecascade.calibration.commands.clean.suspects_file import SuspectsFile, new_files, read_suspects
from edgecascade.calibration.commands.clean.verdicts_file import Verdicts, inert, read_verdicts
from edgecascade.types.errors import CalibrationError

__all__ = ["configure", "execute"]

_FORMS = (".npz", ".npy", ".csv", ".parquet")
_COLUMNS = ("row", "id", "old", "new", "why", "time", "audit")


@dataclass(frozen=True)
class _Change:
    row: int
    new: int | None  # None leaves the row out
    why: str
    time: str = ""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "examples:\n"
        "  edgecascade clean apply suspects.parquet verdicts.csv -o cleaned.npz\n"
        "  edgecascade clean apply suspects.parquet verdicts.csv --also-flagged drop -o cleaned.csv\n\n"
        "Only labels that a person found wrong are changed: to the suggested one where it is right, or to the one\n"
        "that the person named. The files that were read stay as they are, and no file is overwritten."
    )
    parser.add_argument("suspects", metavar="SUSPECTS", help="What `find` wrote.")
    text = "Verdicts of one audit or more: .csv of the review page, or .json of Label Studio or Argilla."
    parser.add_argument("verdicts", nargs="+", metavar="VERDICTS", help=text)
    text = "New file of labels: .npz (labels, rows, names, ids), .npy (labels alone), .csv or .parquet."
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help=text)
    text = "New .csv file of every change and its reason (default: the output's name with .changes.csv)."
    parser.add_argument("--changes", metavar="FILE", help=text)
    text = "Leave out the rows whose label a person found wrong without naming the right one."
    parser.add_argument("--drop", action="store_true", help=text)
    text = (
        "Also give the suggested label to the flagged rows that nobody has judged (correct), or leave them out (drop). "
        "Those that are right already are changed too, and some suggested labels are wrong: the audit says how many "
        "may be."
    )
    parser.add_argument("--also-flagged", choices=("correct", "drop"), help=text)


def execute(arguments: Namespace) -> int:
    """Write the labels and the changes."""
    output = Path(arguments.output)
    if output.suffix not in _FORMS:
        raise CalibrationError(f"--output: expected a file that ends in {', '.join(_FORMS)}, got {arguments.output!r}")
    if output.suffix == ".npy" and (arguments.drop or arguments.also_flagged == "drop"):
        raise CalibrationError("--output: expected .npz, .csv or .parquet where rows are left out, got .npy")
    listed = Path(arguments.changes) if arguments.changes else output.with_suffix(".changes.csv")
    with new_files(output, listed):
        file = read_suspects(arguments.suspects)
        found = [read_verdicts(path, file) for path in arguments.verdicts]
        changes = _confirmed(file, found, arguments.drop)
        if arguments.also_flagged:
            changes += _unjudged(file, found, arguments.also_flagged)
        _write_labels(file, changes, output)
        _write_changes(file, changes, found, listed)
    print("\n".join(_lines(file, found, changes, arguments)))
    print(f"wrote     {output} and {listed}")
    return 0


def _confirmed(file: SuspectsFile, found: Sequence[Verdicts], drop: bool) -> list[_Change]:
    """Return the changes that a person confirmed; verdicts of several audits on one row must agree."""
    changes: dict[int, _Change | None] = {}
    for one in (one for verdicts in found for one in verdicts.judged.values()):
        if one.verdict is Verdict.CANNOT_TELL:
            continue
        change = _change(file, one, drop)
        before = changes.setdefault(one.row, change)
        if (before is None) != (change is None) or (before and change and before.new != change.new):
            raise CalibrationError(f"verdicts: expected verdicts that agree on row {one.row}, got two that do not")
    return sorted(filter(None, changes.values()), key=lambda change: change.row)


def _change(file: SuspectsFile, one: Judged, drop: bool) -> _Change | None:
    """Return what a verdict changes, None if the label stays."""
    if one.verdict is Verdict.SUGGESTED:
        suggested = int(file.suspects.suggested[file.places[one.row]])
        return _Change(one.row, suggested, "judged: the suggested label is right", one.time)
    if one.verdict is Verdict.OTHER and one.label is not None:
        return _Change(one.row, one.label, "judged: another label is right", one.time)
    if one.verdict is Verdict.OTHER and drop:
        return _Change(one.row, None, "judged: both labels are wrong", one.time)
    return None


def _unjudged(file: SuspectsFile, found: Sequence[Verdicts], action: str) -> list[_Change]:
    suspects, judged = file.suspects, {row for verdicts in found for row in verdicts.judged}
    some = [place for place in np.flatnonzero(suspects.flagged).tolist() if int(suspects.row[place]) not in judged]
    return [
        _Change(
            int(suspects.row[place]),
            int(suspects.suggested[place]) if action == "correct" else None,
            "flagged, judged by nobody",
        )
        for place in some
    ]


def _write_labels(file: SuspectsFile, changes: Sequence[_Change], output: Path) -> None:
    labels, keep = file.labels, np.ones(file.suspects.n, bool)
    for change in changes:
        if change.new is None:
            keep[change.row] = False
        else:
            labels[change.row] = change.new
    rows = np.flatnonzero(keep)
    shown: NDArray[Any] = labels[rows]
    if output.suffix in (".csv", ".parquet") or file.provenance.get("text_labels"):
        shown = np.array(file.classes)[shown] if file.names else shown
    columns: dict[str, Any] = {"rows": rows}
    if file.ids:
        columns["ids"] = np.array([file.ids[row] for row in rows])
    columns["labels"] = shown
    if output.suffix == ".npy":
        np.save(output, shown, allow_pickle=False)
    elif output.suffix == ".npz":
        names = {"names": np.array(file.names)} if file.names else {}
        np.savez_compressed(output, allow_pickle=False, **columns, **names)
    elif output.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table({name: pyarrow.array(one) for name, one in columns.items()}), output)
    else:
        texts = {str(one) for name in ("ids", "labels") if name in columns for one in columns[name].tolist()}
        formula = next((one for one in sorted(texts) if inert(one) != one), None)
        if formula is not None:
            raise CalibrationError(
                f"--output: expected no ids or labels that a spreadsheet takes for formulas in a .csv file, got "
                f"{formula!r}; write .npz or .parquet"
            )
        singular = [name.removesuffix("s") for name in columns]
        with output.open("w", encoding="utf-8", newline="") as stream:
            lines = csv.writer(stream)
            lines.writerow(singular)
            lines.writerows(zip(*(one.tolist() for one in columns.values()), strict=True))


def _write_changes(file: SuspectsFile, changes: Sequence[_Change], found: Sequence[Verdicts], path: Path) -> None:
    tags = {row: verdicts.drawn.tag for verdicts in found for row in verdicts.judged}
    labels = file.labels
    with path.open("w", encoding="utf-8", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(_COLUMNS)
        for one in changes:
            new = "" if one.new is None else file.name(one.new)
            name = file.ids[one.row] if file.ids else ""
            old = file.name(int(labels[one.row]))
            told = (name, old, new, one.why, one.time, tags.get(one.row, ""))
            lines.writerow([one.row, *map(inert, told)])


def _lines(
    file: SuspectsFile, found: Sequence[Verdicts], changes: Sequence[_Change], arguments: Namespace
) -> Iterator[str]:
    judged = {row: one for verdicts in found for row, one in verdicts.judged.items()}
    reasons = [change.why for change in changes]
    changed = sum(change.new is not None for change in changes)
    yield f"changed   {changed} of {file.suspects.n} labels, and left out {len(changes) - changed} rows"
    for reason in dict.fromkeys(reasons):
        yield f"  {reasons.count(reason):>6}  {reason}"
    unnamed = sum(one.verdict is Verdict.OTHER and one.label is None for one in judged.values())
    if unnamed and not arguments.drop:
        yield f"kept      {unnamed} labels that are wrong, as the right one was not named; --drop leaves these rows out"
    if arguments.also_flagged:
        said = list(unjudged_sentences(file, found))
        yield f"unjudged  {said[0]}"
        if arguments.also_flagged == "correct":
            yield from (f"          {one}" for one in said[1:])
    yield "note      That these models agree more with the labels now proves nothing: they chose what was looked at."
