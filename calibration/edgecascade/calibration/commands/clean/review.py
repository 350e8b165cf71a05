"""`edgecascade clean review`: a page on which a person judges a random sample of the suspects."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from edgecascade.calibration.commands.clean.drawn import Item, add_draw_arguments, draw, drawn_sentence
from edgecascade.calibration.commands.clean.suspects_file import new_files, read_suspects
from edgecascade.calibration.commands.clean.verdicts_file import COLUMNS
from edgecascade.cli import rare
from edgecascade.types.errors import CalibrationError

__all__ = ["configure", "execute", "review_page"]

_TITLE, _QUESTION = "Label audit", "Which label is right?"
_VERDICTS = "verdicts.csv"  # as the page saves it


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "examples:\n"
        "  edgecascade clean review suspects.parquet --data photos/ -o review.html\n"
        "  edgecascade clean review suspects.parquet --data texts.txt --design all -n 200 -o review.html\n\n"
        "The page needs neither network nor server. It shows each input with the given and the suggested label in\n"
        "random order, and no score. Keys 1 to 5 answer; the browser keeps the verdicts, and saves them as CSV."
    )
    parser.add_argument("suspects", metavar="SUSPECTS", help="What `find` wrote.")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="New .html file.")
    add_draw_arguments(parser)
    parser.add_argument(
        "--question", default=_QUESTION, help=f"What is asked about each input (default {_QUESTION!r})."
    )
    rare(parser.add_argument("--title", default=_TITLE, help=f"Title of the page (default {_TITLE!r})."))


def execute(arguments: Namespace) -> int:
    """Draw rows and write the page."""
    if not arguments.output.endswith((".html", ".htm")):
        raise CalibrationError(f"--output: expected a file that ends in .html, got {arguments.output!r}")
    with new_files(arguments.output):
        file = read_suspects(arguments.suspects)
        drawn, items = draw(file, arguments, Path(arguments.output))
        page = review_page(items, file.classes, drawn.tag, title=arguments.title, question=arguments.question)
        Path(arguments.output).write_text(page, encoding="utf-8")
    print(f"{drawn_sentence(file, arguments, drawn)}; {arguments.output} has {len(page) / 1e3:.0f} kB")
    print(f"next: open {arguments.output} in a browser, judge in its order, and save {_VERDICTS}; then run")
    print(f"  edgecascade clean judge {arguments.suspects} {_VERDICTS}")
    return 0


def review_page(
    items: Sequence[Item], classes: Sequence[str], tag: str, *, title: str = _TITLE, question: str = _QUESTION
) -> str:
    """Return the page as HTML, which loads nothing from elsewhere.

    Args:
        items: in the order in which they are judged.
        classes: names of all classes.
        tag: of the audit; the browser keeps verdicts under it.
        title: of the page.
        question: about each input.
    """
    folder = files("edgecascade.calibration.commands.clean")
    style, script = (folder.joinpath(f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    listed = [
        {
            "row": item.row,
            "id": item.id,
            "labels": item.labels,
            "given": item.given,
            **{name: value for name, value in asdict(item.shown).items() if value not in (None, "")},
        }
        for item in items
    ]
    data = {"audit": tag, "file": _VERDICTS, "columns": COLUMNS, "classes": classes, "items": listed}
    # Only this style and this script may be used, so that no text in the data can become either.
    policy = (
        f"default-src 'none'; img-src data:; media-src * file:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "policy": policy,
        "title": html.escape(title),
        "question": html.escape(question),
        "style": style,
        "script": script,
        "data": _embedded(data),
    }
    template = folder.joinpath("page.html").read_text(encoding="utf-8")
    return re.sub("@([a-z]+)@", lambda found: parts[found[1]], template)


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _embedded(data: Any) -> str:
    """Return JSON that can stand within a script element."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
