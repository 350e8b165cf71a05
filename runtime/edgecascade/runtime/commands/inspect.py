"""`edgecascade inspect`: show the contents of a cascade model, or verify it."""

from __future__ import annotations

import math
from argparse import ArgumentParser, ArgumentTypeError, Namespace

from edgecascade.cli import rare
from edgecascade.runtime.commands.inspect_chat import inspect_chat
from edgecascade.types.document import is_chat_file

__all__ = ["configure", "execute"]


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "examples:\n  edgecascade inspect local.onnx\n  edgecascade inspect local.onnx --verify\n"
        "  edgecascade inspect local.onnx --vectors > vectors.json"
    )
    parser.add_argument(
        "file", help="Cascade model, as `edgecascade calibrate`, `tflite` or `calibrate-chat` writes it."
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="Run the golden inputs of the file on every execution provider of this machine, and compare the "
        "decisions. The exit code is 1 if they differ.",
    )
    rare(
        parser.add_argument(
            "--tolerance",
            type=_tolerance,
            default=1e-3,
            help="Largest difference of a confidence that --verify accepts (default 0.001).",
        )
    )
    parser.add_argument("--json", action="store_true", help="Print the metadata document of the file as JSON.")
    rare(
        parser.add_argument(
            "--vectors",
            action="store_true",
            help="Print the golden inputs with their decisions, also under other thresholds, as JSON: test vectors for "
            "readers in other languages.",
        )
    )


def execute(arguments: Namespace) -> int:
    """Print what the file says, or verify it."""
    if is_chat_file(arguments.file):
        return inspect_chat(arguments)
    from edgecascade.runtime.commands.inspect_model import inspect_model  # which needs ONNX Runtime

    return inspect_model(arguments)


def _tolerance(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ArgumentTypeError(f"expected a number of 0 or more, such as 0.001, got {text!r}")
    return number
