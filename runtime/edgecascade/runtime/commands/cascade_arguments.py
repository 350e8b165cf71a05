"""Arguments that say how a cascade runs: its time, its budget, its local model, and what it keeps."""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from edgecascade.runtime.cascade import Cascade
from edgecascade.runtime.commands.remote_arguments import add_remote_arguments, remote_of
from edgecascade.types.errors import ArgumentError

if TYPE_CHECKING:
    from edgecascade.runtime.outbox import Outbox
    from edgecascade.runtime.watch.watch import Alarm, Watch

__all__ = ["add_cascade_arguments", "check_cascade_arguments", "open_cascade"]

_LONGEST = 86_400.0  # seconds
# what the parts call an argument: what it is called here
_FLAGS = {"budget": "--budget", "record": "--keep-pairs", "providers": "--providers", "remote": "--remote"}
_FLAGS |= dict.fromkeys(("forwards", "bytes", "money"), "--budget")
_NEED_A_REMOTE = ("budget", "price", "budget_file", "audit", "keep_pairs")


def add_cascade_arguments(parser: ArgumentParser) -> None:
    """Add the arguments, in groups, those of the remote first."""
    add_remote_arguments(parser)
    group = parser.add_argument_group("how long and how much")
    group.add_argument(
        "--deadline", metavar="SECONDS", type=float, default=1.0, help="until an answer is due (default 1)"
    )
    group.add_argument(
        "--threshold", metavar="T", type=float, help="forward below this advantage, instead of the file's own"
    )
    group.add_argument(
        "--budget",
        metavar="RATE",
        action="append",
        default=[],
        help="forward no more than this: 100/min, 5MB/day, '2.50 money/day' (repeatable; per s, min, hour or day)",
    )
    group.add_argument("--price", metavar="MONEY", type=float, help="of one forward, for a budget of money")
    group.add_argument("--budget-file", metavar="FILE", help="where the budget's levels outlive this process")
    group = parser.add_argument_group("what is kept and watched")
    group.add_argument(
        "--outbox", metavar="FILE", help="keep what could not be sent in time on disk, and send it when it can be"
    )
    group.add_argument(
        "--audit", metavar="SHARE", type=float, help="ask about this share of the kept inputs too, and raise alarms"
    )
    group.add_argument(
        "--keep-pairs",
        metavar="DIR",
        help="keep audited inputs with both verdicts, for `edgecascade recalibrate` (audits 0.01 unless told)",
    )
    group.add_argument("--log-json", action="store_true", help="log what happens on standard error, as JSON lines")
    group = parser.add_argument_group("the local model")
    group.add_argument(
        "--providers",
        metavar="A,B",
        default="cpu",
        help="execution providers by preference: tensorrt, cuda, openvino, qnn, coreml, xnnpack, cpu; or auto "
        "(default cpu)",
    )
    group.add_argument("--fallback", action="store_true", help="let another provider stand in for the first")
    group.add_argument("--threads", metavar="N", type=int, default=1, help="of onnxruntime (default 1)")
    group.add_argument("--engines", metavar="DIR", help="where providers that compile the model keep the outcome")


def check_cascade_arguments(arguments: Namespace) -> None:
    """Refuse what cannot mean anything, before anything is loaded.

    Raises:
        ArgumentError: naming the argument.
    """
    if not 0 < arguments.deadline <= _LONGEST:
        raise ArgumentError(f"--deadline: expected seconds above 0, a day at most, got {arguments.deadline:g}")
    if arguments.threshold is not None and math.isnan(arguments.threshold):
        raise ArgumentError("--threshold: expected a number, got NaN")
    if arguments.threads < 1:
        raise ArgumentError(f"--threads: expected 1 or more, got {arguments.threads}")
    if arguments.audit is not None and not 0 < arguments.audit <= 1:
        raise ArgumentError(f"--audit: expected a share above 0 and at most 1, got {arguments.audit:g}")
    if arguments.price is not None and not 0 < arguments.price < math.inf:
        raise ArgumentError(f"--price: expected a number above 0, got {arguments.price:g}")
    idle = [name for name in _NEED_A_REMOTE if getattr(arguments, name) not in (None, [])]
    if idle and arguments.remote is None:
        raise ArgumentError(f"--{idle[0].replace('_', '-')}: expected with --remote, without which nothing is sent")
    for name in ("price", "budget_file"):
        if name in idle and not arguments.budget:
            raise ArgumentError(f"--{name.replace('_', '-')}: expected with --budget")


def open_cascade(arguments: Namespace, *, on_alarm: Callable[[Alarm], None]) -> Cascade:
    """Load the file as the arguments say. The cascade's `close` closes everything that they name.

    Raises:
        ArgumentError: an argument cannot mean anything.
        ModelFileError: the file, or the remote's, cannot be loaded.
        ModuleNotFoundError: an extra is not installed.
    """
    check_cascade_arguments(arguments)
    try:
        return _open(arguments, on_alarm)
    except ArgumentError as error:
        name, _, rest = str(error).partition(": ")
        raise ArgumentError(f"{_FLAGS[name]}: {rest}" if name in _FLAGS else str(error)) from error


def _open(arguments: Namespace, on_alarm: Callable[[Alarm], None]) -> Cascade:
    with ExitStack() as opened:

        def own(part: Any) -> Any:
            if part is not None:
                opened.callback(part.close)
            return part

        cascade = Cascade.load(
            arguments.file,
            remote=own(remote_of(arguments)),
            budget=own(_budget(arguments)),
            watch=own(_watch(arguments, on_alarm)),
            outbox=own(_outbox(arguments.outbox)),
            deadline=arguments.deadline,
            threshold=arguments.threshold,
            threads=arguments.threads,
            providers=arguments.providers if arguments.providers == "auto" else arguments.providers.split(","),
            fallback=arguments.fallback,
            engines=arguments.engines,
        )
        opened.pop_all()  # they are the cascade's now
    return cascade


def _budget(arguments: Namespace) -> Any:
    if not arguments.budget:
        return None
    from edgecascade.runtime.run.budget_argument import read_budget

    try:
        return read_budget(arguments.budget, price=arguments.price, path=arguments.budget_file)
    except ArgumentError as error:
        raise ArgumentError(str(error).replace("path: ", "--budget-file: ", 1)) from error


def _watch(arguments: Namespace, on_alarm: Callable[[Alarm], None]) -> Watch | None:
    if arguments.audit is None and arguments.keep_pairs is None:
        return None
    from edgecascade.runtime.watch.watch import Watch

    share = {} if arguments.audit is None else {"share": arguments.audit}
    return Watch(**share, record=arguments.keep_pairs, on_alarm=on_alarm)


def _outbox(path: str | None) -> Outbox | None:
    if path is None:
        return None
    from edgecascade.runtime.outbox import Outbox

    try:
        return Outbox(path)
    except ArgumentError as error:
        raise ArgumentError(str(error).replace("path: ", "--outbox: ", 1)) from error
