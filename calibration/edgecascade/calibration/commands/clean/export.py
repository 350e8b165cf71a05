"""`edgecascade clean export`: an audit for Label Studio or Argilla, or a plain table of suspects."""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from edgecascade.calibration.commands.clean.drawn import Item, add_draw_arguments, draw, drawn_sentence
from edgecascade.calibration.commands.clean.labelling_tools import (
    argilla_records,
    argilla_settings,
    label_studio_config,
    label_studio_tasks,
)
from edgecascade.calibration.commands.clean.suspects_file import SuspectsFile, new_files, read_suspects
from edgecascade.types.errors import CalibrationError

__all__ = ["configure", "execute"]

_ENDINGS = {"label-studio": ".json", "argilla": ".json", "parquet": ".parquet"}
_BESIDE = {"label-studio": ".config.xml", "argilla": ".settings.json"}
_QUESTION = "Which label is right?"


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "examples:\n"
        "  edgecascade clean export suspects.parquet --to label-studio --data texts.txt -o tasks.json\n"
        "  edgecascade clean export suspects.parquet --to argilla --data photos/ -o records.json\n"
        "  edgecascade clean export suspects.parquet --to parquet --data photos/ -o table.parquet\n\n"
        "Beside tasks.json stands tasks.config.xml, the labelling configuration; beside records.json stands\n"
        "records.settings.json, for Settings.from_json. `judge` and `apply` read what both tools export. The table is\n"
        "for FiftyOne, Spotlight or pandas, and is no audit."
    )
    parser.add_argument("suspects", metavar="SUSPECTS", help="What `find` wrote.")
    parser.add_argument("--to", required=True, choices=tuple(_ENDINGS), help="Form of the output.")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="New .json or .parquet file.")
    text = "Put in front of the ids to make addresses, such as /data/local-files/?d=photos/ of Label Studio, so that "
    text += "images are linked; otherwise small images are embedded."
    parser.add_argument("--address", metavar="PREFIX", help=text)
    add_draw_arguments(parser)
    parser.add_argument(
        "--question", default=_QUESTION, help=f"What is asked about each input (default {_QUESTION!r})."
    )


def execute(arguments: Namespace) -> int:
    """Write the files."""
    ending, output = _ENDINGS[arguments.to], Path(arguments.output)
    if output.suffix != ending:
        raise CalibrationError(f"--output: expected a file that ends in {ending}, got {arguments.output!r}")
    if arguments.to == "parquet":
        with new_files(output):
            file = read_suspects(arguments.suspects)
            count = _write_table(file, arguments.data, output)
        print(f"wrote {output}: {count} suspects, most suspect first")
        return 0
    beside = output.with_suffix(_BESIDE[arguments.to])
    with new_files(output, beside):
        file = read_suspects(arguments.suspects)
        drawn, items = draw(file, arguments, output)
        written: Any
        if arguments.to == "label-studio":
            written, settings = label_studio_tasks(items, drawn.tag), label_studio_config(items, arguments.question)
        else:
            written = argilla_records(items, drawn.tag)
            settings = json.dumps(argilla_settings(items, arguments.question), indent=1) + "\n"
        output.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
        beside.write_text(settings, encoding="utf-8")
    print(f"{drawn_sentence(file, arguments, drawn)}: {output} and {beside}")
    if telling := sum(map(_tells_given, items)):
        print(
            f"warning: {telling} of {len(items)} linked ids contain the name of the given label, which whoever judges "
            "can read; link copies with other names, or leave out --address to embed images"
        )
    print("next: import both, judge the rows in order, export them as JSON, and run")
    print(f"  edgecascade clean judge {arguments.suspects} EXPORT.json")
    return 0


def _tells_given(item: Item) -> bool:
    """Return whether the address that stands for an input contains the name of its given class as a word."""
    given = re.escape(item.labels[item.given])
    return re.search(rf"(?<![^\W_]){given}(?![^\W_])", unquote(item.shown.link or ""), re.IGNORECASE) is not None


def _write_table(file: SuspectsFile, data: str | None, output: Path) -> int:
    """Write the suspects alone, as a table without metadata; return how many there are."""
    import pyarrow
    import pyarrow.parquet

    suspects = file.suspects
    some = np.flatnonzero(suspects.flagged | (suspects.score > 0))
    rows = suspects.row[some]
    columns: dict[str, Any] = {"row": rows}
    if file.ids:
        columns["id"] = [file.ids[row] for row in rows]
        if data is not None and Path(data).is_dir():
            columns["filepath"] = [str((Path(data) / one).resolve()) for one in columns["id"]]
    for name in ("given", "suggested"):
        columns[name] = [file.name(int(label)) for label in getattr(suspects, name)[some]]
    columns |= {name: getattr(suspects, name)[some] for name in ("score", "posterior", "flagged")}
    for k, name in enumerate(suspects.experts):
        columns[f"{name} in suggested"] = suspects.confidences[some, k]
        columns[f"{name} in given"] = suspects.given_confidences[some, k]
    pyarrow.parquet.write_table(pyarrow.table(columns), output)
    return len(some)
