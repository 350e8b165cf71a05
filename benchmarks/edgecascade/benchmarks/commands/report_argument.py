"""Where a benchmark writes to."""

from __future__ import annotations

from argparse import ArgumentParser

__all__ = ["add_report"]


def add_report(parser: ArgumentParser) -> None:
    """The folder, made if it is not there."""
    parser.add_argument("--report", default="report", help="folder for what is written (default: report)")
