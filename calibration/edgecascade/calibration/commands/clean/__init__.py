"""`edgecascade clean`: find wrong labels with several calibrated models, and let a person prove how many there are."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from importlib import import_module
from typing import Any

__all__ = ["configure", "execute"]

_STEPS = {
    "plant": "Change some labels on purpose, to measure how many wrong labels are found.",
    "find": "Rank the rows whose labels several models dispute.",
    "review": "Draw rows for a person to judge, and write a page for it.",
    "export": "Draw rows for a person to judge in Label Studio or Argilla, or write a table of suspects.",
    "judge": "Say what the verdicts prove.",
    "apply": "Write the labels with what a person confirmed.",
}


def configure(parser: ArgumentParser) -> None:
    """Add the steps and their arguments."""
    parser.epilog = (
        "in this order:\n"
        "  edgecascade clean find outputs.npz --held-out held-out.npz -o suspects.parquet\n"
        "  edgecascade clean review suspects.parquet -o review.html     # judge in a browser, save verdicts.csv\n"
        "  edgecascade clean judge suspects.parquet verdicts.csv\n"
        "  edgecascade clean apply suspects.parquet verdicts.csv -o cleaned.npz"
    )
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    for name, summary in _STEPS.items():
        _module(name).configure(steps.add_parser(name, help=summary, description=summary))


def execute(arguments: Namespace) -> int:
    """Run one step."""
    return int(_module(arguments.step).execute(arguments))


def _module(name: str) -> Any:
    return import_module(f"edgecascade.calibration.commands.clean.{name}")
