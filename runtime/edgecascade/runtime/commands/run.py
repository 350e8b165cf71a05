"""`edgecascade run`: files in, one JSON line per answer out."""

from __future__ import annotations

import json
import math
import sys
from argparse import ArgumentParser, Namespace
from typing import Any

from edgecascade.runtime.answer import Answer
from edgecascade.runtime.cascade import Cascade
from edgecascade.runtime.counts import Counts
from edgecascade.runtime.errors import InputError
from edgecascade.runtime.inputs import read_inputs

__all__ = ["add_remote_arguments", "configure", "execute"]


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "example:\n"
        "  edgecascade run local.onnx photos/ --remote http://127.0.0.1:8000/v2/models/large --deadline 0.15\n\n"
        "Each answer is one line of JSON on standard output; the totals follow on standard error.\n"
        "An input that does not fit the file gets a line with `error`, and the exit code is then 2."
    )
    parser.add_argument("file", help="a cascade model, as `edgecascade calibrate` writes it")
    parser.add_argument(
        "inputs",
        nargs="+",
        help="an image, a folder of images, lines of text (.txt), or arrays (.npy, .npz)",
    )
    add_remote_arguments(parser)


def add_remote_arguments(parser: ArgumentParser) -> None:
    """The arguments that say whom a cascade asks, and for how long."""
    parser.add_argument(
        "--remote",
        help="whom to ask: http://HOST:PORT/v2/models/NAME (Open Inference Protocol v2), or an ONNX file to run "
        "in this process; without it every answer is local",
    )
    parser.add_argument("--deadline", type=float, default=1.0, help="seconds until an answer is due (default 1)")
    parser.add_argument("--threshold", type=float, help="forward below this advantage, instead of the file's own")


def execute(arguments: Namespace) -> int:
    """Answer every input."""
    refused = 0
    with Cascade.load(
        arguments.file, remote=arguments.remote, deadline=arguments.deadline, threshold=arguments.threshold
    ) as cascade:
        for path in arguments.inputs:
            for name, x in read_inputs(path):
                try:
                    line = _line(name, cascade.predict(x))
                except InputError as error:
                    refused += 1
                    line = {"input": name, "error": str(error)}
                print(json.dumps(line), flush=True)
        _print_totals(cascade.counts(), refused)
    return 2 if refused else 0


def _line(name: str, answer: Answer) -> dict[str, Any]:
    return {
        "input": name,
        "label": answer.label,
        "name": answer.name,
        "confidence": _number(answer.confidence),
        "source": answer.source.value,
        "reason": answer.reason.value,
        "advantage": _number(answer.advantage),
        "elapsed_ms": round(answer.elapsed * 1e3, 3),
        **({"detail": answer.detail} if answer.detail else {}),
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


def _print_totals(counts: Counts, refused: int) -> None:
    reasons = ", ".join(f"{n} {reason.value}" for reason, n in counts.reasons.items() if n)
    print(
        f"{counts.inputs} answered: {counts.kept} kept, {counts.forwarded} to be forwarded ({reasons or 'none'})"
        + (f"; {refused} refused" if refused else ""),
        file=sys.stderr,
    )
