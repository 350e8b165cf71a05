"""The command `edgecascade`. Only the module of the command that is called is imported."""

from __future__ import annotations

import os
import sys
from argparse import SUPPRESS, Action, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from importlib.metadata import version
from io import TextIOWrapper
from typing import Any, NamedTuple, NoReturn, TextIO, cast

from edgecascade.types.errors import EdgecascadeError, first_line, printable
from edgecascade.types.extras import installing

__all__ = ["main", "rare"]


class _Command(NamedTuple):
    part: str  # its module is edgecascade.PART.commands.NAME
    extra: str
    summary: str


_COMMANDS = {
    "export": _Command("export", "export", "Export a torch or Hugging Face model, or an ONNX file, as a body."),
    "compare": _Command("export", "export", "Compare two bodies on labelled data."),
    "calibrate": _Command("export", "export", "Make a cascade model of a body, a remote and labelled data."),
    "calibrate-chat": _Command("export", "calibration", "Plan when one chat endpoint asks another."),
    "recalibrate": _Command("export", "export", "Move a cascade model's threshold, or plan it again."),
    "tflite": _Command("export", "tflite", "Convert a cascade model for LiteRT (TensorFlow Lite)."),
    "plan": _Command("calibration", "plan", "Plan a cascade from the saved outputs of both models."),
    "clean": _Command("calibration", "clean", "Find wrong labels with several models, and prove how many there are."),
    "evaluate": _Command("calibration", "plan", "Measure the accuracy and the calibration of a model."),
    "inspect": _Command("runtime", "", "Show what a cascade model holds, or verify it."),
    "run": _Command("runtime", "images", "Answer files, lines, sockets, videos or cameras as JSON lines."),
    "serve": _Command("runtime", "serve", "Serve an ONNX file as a remote, or the answers of a cascade."),
    "deploy": _Command("deploy", "cpu", "Write what Triton or KServe needs to serve a cascade."),
    "gateway": _Command("chat", "gateway", "Serve two chat endpoints as one, compatible with OpenAI's API."),
    "bench": _Command("benchmarks", "bench", "Measure accuracy against offload rate, and latency."),
}
_GROUPS = {
    "Plan and make a cascade model": ("plan", "export", "compare", "calibrate", "recalibrate", "tflite"),
    "Use it": ("inspect", "run", "serve", "deploy"),
    "Join two language models": ("calibrate-chat", "gateway"),
    "Measure it": ("evaluate", "bench"),
    "Clean the data": ("clean",),
}
_APART = "edgecascade.benchmarks"  # a separate distribution


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, or 2 with one sentence on standard error."""
    for name in ("stdout", "stderr"):  # a closed one is None; what an encoding lacks is shown as an escape
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # until the process ends
        if isinstance(getattr(sys, name), TextIOWrapper):
            getattr(sys, name).reconfigure(errors="backslashreplace")
    with redirect_stdout(_printable(sys.stdout)), redirect_stderr(_printable(sys.stderr)):
        return _run(arguments)


def _run(arguments: Sequence[str] | None) -> int:
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    name = next((one for one in arguments if not one.startswith("-")), None)
    name = name if name in _COMMANDS else None
    try:
        parsed = _parser(name).parse_args(arguments)
        return int(_module(parsed.command).execute(parsed))
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name is None or (missing.startswith("edgecascade") and missing != _APART):
            raise
        checkout = ", or in a checkout of the source: pip install ./benchmarks" if missing == _APART else ""
        return _fail(f"{name} needs {missing}: {installing(missing, _COMMANDS[name].extra)}{checkout}")
    except ImportError as error:  # packages that do not fit one another
        if name is None or str(error.name).startswith("edgecascade"):
            raise
        return _fail(f"{name} cannot import {error.name or 'a package'}: {first_line(error)}")
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except EdgecascadeError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
    except KeyboardInterrupt:
        return _fail("interrupted", code=130)


class _Printable:
    """A text stream that shows control characters as escapes: names and messages of others must not steer a terminal.

    Attributes:
        stream: the stream itself, for control characters of our own.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(printable(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _printable(stream: TextIO) -> TextIO:
    return cast(TextIO, _Printable(stream))


def rare(action: Action) -> Action:
    """Mark an option as one that only `--help-all` shows, and return it."""
    vars(action)["rare"] = True
    return action


class _Formatter(RawDescriptionHelpFormatter):
    """A formatter whose usage line names the required arguments; `[options]` stands for the others."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=110)

    def add_usage(self, usage: str | None, actions: Iterable[Action], groups: Any, prefix: str | None = None) -> None:
        """Add the usage line."""
        actions, choices = list(actions), [group._group_actions for group in groups if group.required]
        shown = [one for one in actions if not one.option_strings or one.required]
        optional = len(actions) - len(shown) - sum(map(len, choices)) - 2  # without the two of help
        if prefix is None and optional > 0:
            shown.insert(0, Action([], "options", metavar="[options]"))
        for first, *_ in choices:
            shown.insert(0, Action([], "choice", metavar=f"({first.option_strings[0]} {first.metavar} | ...)"))
        super().add_usage(usage, shown, [], prefix)

    def _get_default_metavar_for_positional(self, action: Action) -> str:
        return action.dest.upper()


class _HelpAll(Action):
    def __call__(self, parser: ArgumentParser, *_: object) -> None:
        vars(parser)["everything"] = True
        parser.print_help()
        parser.exit()


class _Parser(ArgumentParser):
    """A parser whose help leaves out options marked as `rare`, and whose `--help-all` shows them."""

    everything = False
    given: Sequence[str] = ()

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": _Formatter, "add_help": False, "allow_abbrev": False, **options})
        self._positionals.title = "arguments"
        self.add_argument("-h", "--help", action="help", help="Show this help and exit.")
        text = "Show this help with the rare options and exit."
        self.add_argument("--help-all", action=_HelpAll, nargs=0, default=SUPPRESS, help=text)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse all arguments; those that the command does not know are its own error, which shows its usage."""
        self.given = sys.argv[1:] if args is None else args
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._meant(unknown)}")
        return found, unknown

    def _meant(self, unknown: Sequence[str]) -> str:
        """Return the options that an unknown one is like."""
        from difflib import get_close_matches

        name = next((one.partition("=")[0] for one in unknown if one.startswith("--")), "")
        likely = get_close_matches(name, self._option_string_actions, n=2, cutoff=0.7) if name else []
        return f"; did you mean {' or '.join(sorted(likely))}?" if likely else ""

    def error(self, message: str) -> NoReturn:
        """End with a message; it names unknown options, and says how to name a file that was taken for one."""
        known = [option for action in self._actions for option in action.option_strings]
        options = [one.partition("=")[0] for one in self.given if one.startswith("--") and one != "--"]
        unknown = [one for one in options if one not in known]
        if unknown and "required" in message:
            message = f"{message}; unrecognized arguments: {' '.join(unknown)}{self._meant(unknown)}"
        taken = next((one for one in self.given if one.startswith("-") and os.path.exists(one)), None)
        super().error(
            message if taken is None else f"{message}; for the file {taken} write ./{taken}, or put -- before it"
        )

    def format_help(self) -> str:
        """Return the help text."""
        with self._hidden():
            return super().format_help()

    def format_usage(self) -> str:
        """Return the usage line."""
        with self._hidden():
            return super().format_usage()

    @contextmanager
    def _hidden(self) -> Iterator[None]:
        hidden = [] if self.everything else [action for action in self._actions if vars(action).get("rare")]
        if not hidden:
            hidden = [action for action in self._actions if isinstance(action, _HelpAll)]
        shown = [action.help for action in hidden]
        for action in hidden:
            action.help = SUPPRESS
        try:
            yield
        finally:
            for action, text in zip(hidden, shown, strict=True):
                action.help = text


def _parser(name: str | None) -> ArgumentParser:
    """Return the parser of all commands; only the command that is called has its arguments."""
    parser = _Parser(
        prog="edgecascade",
        usage="edgecascade [--help] [--version] COMMAND ...",
        description="A small calibrated model answers on the device, and asks a large remote one where it is at a "
        "disadvantage.",
        epilog=_overview(),
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"edgecascade {version('edgecascade')}",
        help="Show the version and exit.",
    )
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, help=SUPPRESS, prog="edgecascade"
    )
    for command, about in _COMMANDS.items():
        added = commands.add_parser(command, description=about.summary)
        if command == name:
            _module(command).configure(added)
    return parser


def _module(command: str) -> Any:
    return import_module(f"edgecascade.{_COMMANDS[command].part}.commands.{command.replace('-', '_')}")


def _overview() -> str:
    lines = []
    for heading, names in _GROUPS.items():
        lines += [f"{heading}:", *(f"  {name:<14} {_COMMANDS[name].summary}" for name in names), ""]
    return "\n".join([*lines, "`edgecascade COMMAND --help` explains each."])


def _fail(sentence: str, code: int = 2) -> int:
    print(f"edgecascade: {sentence}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
