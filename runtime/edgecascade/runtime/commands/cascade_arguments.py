"""Arguments of `run` and `serve` that describe a cascade: its remote, deadline, budget, records and local model."""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from edgecascade.cli import rare
from edgecascade.runtime.cascade import Cascade
from edgecascade.runtime.commands.budget_arguments import (
    add_budget_arguments,
    budget_of,
    check_budget_arguments,
    with_flag,
)
from edgecascade.runtime.commands.remote_arguments import add_remote_arguments, flag, remote_of
from edgecascade.types.errors import ArgumentError, EdgecascadeError, first_line
from edgecascade.types.named import own

if TYPE_CHECKING:
    from edgecascade.runtime.outbox import Outbox
    from edgecascade.runtime.watch.watch import Watch
    from edgecascade.types.answer import Decode

__all__ = ["add_cascade_arguments", "check_cascade_arguments", "open_cascade"]

_LONGEST = 86_400.0  # seconds
# the option behind an argument of the classes that are made of the options
_FLAGS = {
    name: flag(name)
    for name in ("budget", "record", "providers", "remote", "outputs", "decode", "remote_decode", "agreement")
}
_FLAGS |= dict.fromkeys(("forwards", "bytes", "money"), "--budget")
_FLAGS |= {"answer": "--answer", "prompt": "--remote-prompt"}
_NEED_A_REMOTE = ("budget", "price", "budget_file", "audit", "record", "remote_decode", "agreement")


def add_cascade_arguments(parser: ArgumentParser, *, serves: bool = False) -> None:
    """Add the arguments, in groups, those of the remote first.

    Args:
        parser: the command's parser.
        serves: whether the command usually runs for so long that its file changes.
    """
    add_remote_arguments(parser)
    add = parser.add_argument_group("forwarding").add_argument
    deadline = "Seconds until an answer is due (default 1); 0 with --outbox, for late answers only."
    add("--deadline", metavar="SECONDS", type=float, default=1.0, help=deadline)
    add("--threshold", metavar="T", type=float, help="Forward below this advantage, instead of the file's threshold.")
    add_budget_arguments(add)
    add("--outbox", metavar="FILE", help="Store inputs that could not be sent in time, and send them later.")
    add("--audit", metavar="SHARE", type=float, help="Also forward this share of the confident inputs; warn of drift.")
    record = "Save audited inputs and both predictions for `recalibrate` (implies --audit 0.01)."
    add("--record", metavar="DIR", help=record)
    rare(add("--log-json", action="store_true", help="Log events on standard error as JSON lines."))
    group = parser.add_argument_group("the local model")
    _add_output_arguments(group)
    add = group.add_argument
    providers = "Execution providers in order of preference, such as cuda,cpu, or auto (default cpu)."
    add("--providers", metavar="A,B", default="cpu", help=providers)
    add("--threads", metavar="N", type=int, default=1, help="Threads of ONNX Runtime (default 1).")
    rare(add("--fallback", action="store_true", help="Accept another provider than the first."))
    engines = "Folder in which providers that compile the model store the result."
    rare(add("--engine-cache", metavar="DIR", help=engines))
    anew = "Look for a new FILE so often, and take it if its golden inputs agree."
    reloads = add("--reload-every", metavar="SECONDS", type=float, help=anew)
    if not serves:
        rare(reloads)


def _add_output_arguments(group: Any) -> None:
    """Add the arguments that say which outputs answers have, and what reads and compares them, to a group."""
    outputs = "Outputs to add to the answers, such as an embedding (default: none, or all of a general task)."
    rare(group.add_argument("--outputs", metavar="A,B", help=outputs))
    decode = "What reads outputs: a decoder, or FILE.py:NAME (--remote-decode: the remote's)."
    group.add_argument("--decode", metavar="NAME", help=decode)
    rare(group.add_argument("--remote-decode", metavar="NAME", help="The same for the remote (default: as --decode)."))
    agreement = "FILE.py:NAME of a function of both results, from 0 to 1, by which --audit compares them."
    rare(group.add_argument("--agreement", metavar="NAME", help=agreement))


def check_cascade_arguments(arguments: Namespace) -> None:
    """Check the arguments before anything is loaded.

    Raises:
        ArgumentError: an argument is out of range, or lacks another that it needs.
    """
    if not 0 <= arguments.deadline <= _LONGEST or (arguments.deadline == 0 and arguments.outbox is None):
        least = "above 0" if arguments.outbox is None else "of 0 or more"
        raise ArgumentError(f"--deadline: expected seconds {least}, a day at most, got {arguments.deadline:g}")
    if arguments.threshold is not None and math.isnan(arguments.threshold):
        raise ArgumentError("--threshold: expected a number, got NaN")
    if arguments.reload_every is not None and not 0 < arguments.reload_every <= _LONGEST:
        raise ArgumentError(f"--reload-every: expected seconds above 0, a day at most, got {arguments.reload_every:g}")
    if arguments.threads < 1:
        raise ArgumentError(f"--threads: expected 1 or more, got {arguments.threads}")
    if arguments.audit is not None and not 0 < arguments.audit <= 1:
        raise ArgumentError(f"--audit: expected a share above 0 and at most 1, got {arguments.audit:g}")
    given = [name for name in _NEED_A_REMOTE if getattr(arguments, name) not in (None, [])]
    if given and arguments.remote is None:
        raise ArgumentError(f"{flag(given[0])}: expected with --remote, got no remote")
    check_budget_arguments(arguments)


def open_cascade(arguments: Namespace) -> Cascade:
    """Return the cascade that the arguments describe; alarms are logged. Its `close` closes all of its parts.

    Raises:
        ArgumentError: an argument is invalid.
        ModelFileError: the cascade model or the remote's file cannot be loaded.
        ModuleNotFoundError: an extra is not installed.
    """
    check_cascade_arguments(arguments)
    with ExitStack() as opened:

        def own(part: Any) -> Any:
            if part is not None:
                opened.callback(part.close)
            return part

        try:
            options: dict[str, Any] = {
                "remote": own(remote_of(arguments)),
                "budget": own(budget_of(arguments)),
                "watch": own(_watch(arguments)),
                "outbox": own(_outbox(arguments.outbox)),
                "deadline": arguments.deadline,
                "threshold": arguments.threshold,
                "threads": arguments.threads,
                "providers": arguments.providers if arguments.providers == "auto" else arguments.providers.split(","),
                "fallback": arguments.fallback,
                "engine_cache": arguments.engine_cache,
                "outputs": () if arguments.outputs is None else arguments.outputs.split(","),
                "decode": _one_sentence(_decoder(arguments.decode, "--decode")),
                "remote_decode": _decoder(arguments.remote_decode, "--remote-decode"),
            }
            cascade = Cascade.load(arguments.file, **options)
        except ArgumentError as error:
            raise with_flag(error, _FLAGS) from error
        if arguments.audit is not None and arguments.agreement is None and not hasattr(cascade.document, "labels"):
            import logging

            logging.getLogger("edgecascade").warning(
                "nothing is audited: --audit of a general task needs --agreement, a function of both results"
            )
        opened.pop_all()  # the cascade closes them now
    return cascade


def _watch(arguments: Namespace) -> Watch | None:
    if arguments.audit is None and arguments.record is None:
        return None
    import logging

    from edgecascade.runtime.watch.watch import Watch

    log = logging.getLogger("edgecascade")
    share = {} if arguments.audit is None else {"share": arguments.audit}
    return Watch(
        **share,
        record=arguments.record,
        agreement=None if arguments.agreement is None else own(arguments.agreement, "--agreement"),
        on_alarm=lambda alarm: log.warning("alarm: %s", alarm.sentence),
    )


def _decoder(name: str | None, argument: str) -> Decode | None:
    if name is None:
        return None
    from edgecascade.runtime.decode import decoder_named

    return decoder_named(name, argument)


def _one_sentence(decode: Decode | None) -> Decode | None:
    """Return a decoder whose exceptions end the command in one sentence."""

    def decoded(outputs: Any) -> Any:
        assert decode is not None
        try:
            return decode(outputs)
        except EdgecascadeError:
            raise
        except Exception as error:
            raise ArgumentError(f"--decode: it raised {type(error).__name__}: {first_line(error)}") from error

    if decode is None:
        return None
    vars(decoded)["__wrapped__"] = decode
    return decoded


def _outbox(path: str | None) -> Outbox | None:
    if path is None:
        return None
    from edgecascade.runtime.outbox import Outbox

    try:
        return Outbox(path)
    except ArgumentError as error:
        raise with_flag(error, {"path": "--outbox"}) from error
