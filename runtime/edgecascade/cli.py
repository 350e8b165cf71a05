"""The command `edgecascade`. A command's module is imported when it is called, and no other."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version

from edgecascade.types.errors import EdgecascadeError

__all__ = ["main"]


@dataclass(frozen=True)
class _Command:
    module: str
    extra: str
    summary: str


_COMMANDS = {
    "export": _Command(
        "edgecascade.export.commands.export", "export", "a torch module or ONNX file -> an ONNX body for the device"
    ),
    "compare": _Command(
        "edgecascade.export.commands.compare", "export", "what quantization did to a body, on labelled data"
    ),
    "calibrate": _Command(
        "edgecascade.export.commands.calibrate", "export", "a body, a remote and labelled data -> a cascade model"
    ),
    "recalibrate": _Command(
        "edgecascade.export.commands.recalibrate",
        "export",
        "a cascade model -> the same one, with another threshold or planned anew",
    ),
    "tflite": _Command(
        "edgecascade.export.commands.tflite", "tflite", "a cascade model -> the same one for LiteRT (TensorFlow Lite)"
    ),
    "plan": _Command(
        "edgecascade.calibration.commands.plan", "plan", "what a cascade would do, from both models' saved outputs"
    ),
    "evaluate": _Command(
        "edgecascade.calibration.commands.evaluate",
        "plan",
        "how accurate and how well calibrated a model is, from its saved outputs",
    ),
    "inspect": _Command("edgecascade.runtime.commands.inspect", "", "what a cascade model holds and promises"),
    "run": _Command(
        "edgecascade.runtime.commands.run", "images", "answer files, lines, sockets, videos or cameras, as JSON lines"
    ),
    "serve": _Command(
        "edgecascade.runtime.commands.serve", "serve", "serve an ONNX file as a remote, or a cascade's answers"
    ),
    "bench": _Command("edgecascade.benchmarks.commands.bench", "bench", "accuracy against offload rate, with a report"),
}


_EXTRAS = {
    "ai_edge_litert": "litert",
    "av": "video",
    "grpc": "grpc",
    "lingua": "languages",
    "mlperf_loadgen": "latency",
    "onnxscript": "torch",
    "optimum": "hf",
    "pyarrow": "plan",
    "tokenizers": "text",
    "torch": "torch",
    "transformers": "hf",
}  # what only some inputs of a command need
_APART = "edgecascade.benchmarks"  # a distribution of its own


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, or 2 with one sentence on standard error."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    name = arguments[0] if arguments and arguments[0] in _COMMANDS else None
    try:
        parsed = _parser(name).parse_args(arguments)
        return int(import_module(_COMMANDS[parsed.command].module).execute(parsed))
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name is None or (missing.startswith("edgecascade") and missing != _APART):
            raise
        package = missing.partition(".")[0]
        extra = _EXTRAS.get(package, _COMMANDS[name].extra)
        return _fail(f"{name} needs {missing}: pip install 'edgecascade[{extra}]'")
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (EdgecascadeError, OSError) as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted", code=130)


def _parser(name: str | None) -> ArgumentParser:
    """All commands; only the one called knows its arguments."""
    parser = ArgumentParser(
        prog="edgecascade",
        description="A small calibrated model answers on the device, and asks a large remote one only where "
        "it is at a disadvantage.",
        epilog="In order: export, calibrate, then run with serve (or any server) as the remote; bench measures.\n"
        "`edgecascade COMMAND --help` explains each.",
        formatter_class=_formatter,
    )
    parser.add_argument("--version", action="version", version=f"edgecascade {version('edgecascade')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command, about in _COMMANDS.items():
        added = commands.add_parser(command, help=about.summary, description=about.summary, formatter_class=_formatter)
        if command == name:
            import_module(about.module).configure(added)
    return parser


def _formatter(prog: str) -> RawDescriptionHelpFormatter:
    return RawDescriptionHelpFormatter(prog, max_help_position=28, width=110)


def _fail(sentence: str, code: int = 2) -> int:
    print(f"edgecascade: {sentence}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
