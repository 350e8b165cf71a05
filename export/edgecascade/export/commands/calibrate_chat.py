"""`edgecascade calibrate-chat`: ask two chat endpoints about prompts, judge their replies, and plan."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from shlex import quote
from threading import current_thread, main_thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.commands.arguments import add_plan_arguments, objective_of, share, task_plan_options
from edgecascade.calibration.commands.population import array_names, task_population_options
from edgecascade.calibration.verifiers import VERIFIERS, verifier_named
from edgecascade.cli import rare
from edgecascade.export.chat.ask import Progress, missing
from edgecascade.export.chat.calibrate import CalibratedChat, calibrate_chat, check_prompts, replies_beside
from edgecascade.export.chat.endpoint import AskedEndpoint
from edgecascade.export.chat.prompts import ChatPrompt, read_prompts
from edgecascade.export.chat.replies import SIDES, Replies
from edgecascade.export.writing import check_out, refuse_same
from edgecascade.runtime.commands.console import counting
from edgecascade.runtime.commands.remote_arguments import add_connection_arguments, headers_of, read_context
from edgecascade.runtime.remotes.remote import shown
from edgecascade.types.document import CHAT_SCORES, TokenPrice
from edgecascade.types.errors import ArgumentError, ExportError

__all__ = ["configure", "execute"]

_JUDGES = ("exact", "contains", "number", "choice")
_THOUSAND = 1000


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "example:\n"
        "  edgecascade calibrate-chat prompts.jsonl --local http://127.0.0.1:8080/v1 --remote https://HOST/v1 \\\n"
        "      --remote-model NAME --remote-header-file secret.txt --judge contains --offload-rate 0.3 -o chat.json\n\n"
        "Each line of the prompts is an object such as\n"
        '  {"prompt": "What is the capital of Peru?", "reference": "Lima"}\n'
        "or has `messages` in place of `prompt`. A few hundred prompts like those of the application are enough for a\n"
        "first plan, about a thousand are advised. Replies are kept beside the output: another objective, or the rest\n"
        "after an interruption, needs no reply twice."
    )
    parser.add_argument("prompts", metavar="PROMPTS", help="Prompts with references: JSON lines, CSV or parquet.")
    parser.add_argument("-o", "--out", metavar="FILE", required=True, help="File to write, such as chat.json.")
    parser.add_argument(
        "--judge",
        metavar="NAME",
        required=True,
        help=f"What a reply is worth: {', '.join(_JUDGES)}, with options as in number:tolerance=0.01, another of the "
        f"verifiers ({', '.join(sorted(set(VERIFIERS) - set(_JUDGES)))}), or MODULE:NAME or FILE.py:NAME of your own.",
    )
    _add_endpoints(parser)
    add_plan_arguments(parser, classes=False)
    choices = ("auto", *CHAT_SCORES)
    text = "Score of a reply: mean, minimum or first log-probability of its tokens (default auto: by cross-fitting)."
    parser.add_argument("--score", dest="chat_score", choices=choices, default="auto", help=text)
    _add_population(parser)


def _add_endpoints(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("the endpoints")
    add = group.add_argument
    local = "Endpoint that is asked first, http[s]://HOST[:PORT]/v1, or a GGUF file for llama.cpp in this process."
    add("--local", metavar="URL", required=True, help=local)
    add("--remote", metavar="URL", required=True, help="Endpoint that is asked where the first is at a disadvantage.")
    for side in ("local", "remote"):
        add(f"--{side}-model", metavar="NAME", help=f"Model of the {side} endpoint (default: the server chooses).")
        headers = f"Headers for the {side} endpoint alone, one 'Name: value' a line."
        add(f"--{side}-header-file", metavar="FILE", help=headers)
        price = f"Price of a million tokens of prompt and reply at the {side} endpoint, such as 0.5,1.5."
        add(f"--{side}-price", type=_price, metavar="IN,OUT", help=price)
    add("--max-cost", type=_positive, metavar="C", help="The most that new replies may cost, in the same currency.")
    add("--max-tokens", type=int, metavar="N", default=256, help="The most tokens of a reply (default 256).")
    add("--replies", metavar="FILE", help="Where replies are kept (default: OUT with the ending .replies.jsonl).")
    fields = "Further fields of every request as a JSON object, such as '{\"top_p\": 1}'; null leaves a field out."
    rare(add("--fields", type=_fields, metavar="JSON", default={}, help=fields))
    own = "Fields of requests to the remote endpoint that are unlike those."
    rare(add("--remote-fields", type=_fields, metavar="JSON", default={}, help=own))
    rare(add("--concurrency", type=int, metavar="N", default=4, help="Requests at once at each endpoint (default 4)."))
    rare(add("--timeout", type=_positive, metavar="S", default=300.0, help="Seconds for a reply (default 300)."))
    add_connection_arguments(add)


def _add_population(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("population").add_argument
    weights = "Field of the prompts by which they count, numbers above 0 on any scale; or an .npy file."
    rare(add("--weights", metavar="FIELD", help=weights))
    add("--groups", metavar="FIELD", help="Field of the prompts with their group, such as a subject; or an .npy file.")
    loss = "Largest loss to the remote in any group; certified under --certify."
    add("--max-group-loss", type=share, metavar="X", help=loss)
    parser.set_defaults(prior=None)


def execute(arguments: Namespace) -> int:
    """Ask both endpoints, then write the file."""
    import scipy.stats  # noqa: F401  # which the plan needs: it is missed before anything is asked

    objective = objective_of(arguments)
    if arguments.key and not arguments.cert:
        raise ArgumentError("--key: expected with --cert, got no certificate for the key")
    if arguments.max_cost is not None and not (arguments.local_price or arguments.remote_price):
        raise ArgumentError("--max-cost: expected --local-price or --remote-price with it, got neither")
    judge = verifier_named(arguments.judge, "--judge")  # an error of it names the argument
    check_out(arguments.out, "--out")
    path = Path(arguments.replies) if arguments.replies else replies_beside(arguments.out)
    check_out(path, "--replies")
    read = {"the prompts": arguments.prompts, "--local": arguments.local}
    refuse_same(arguments.out, {**read, "--replies": path}, "--out")
    refuse_same(path, read, "--replies")
    prompts = read_prompts(arguments.prompts)
    options = {**task_plan_options(arguments), **task_population_options(arguments, _arrays(arguments, prompts))}
    check_prompts(prompts, judge, weight=options["weight"], groups=options["groups"])
    replies, local, remote = Replies(path), _endpoint(arguments, "local"), _endpoint(arguments, "remote")
    try:
        left = {one.side: missing(prompts, one, replies) for one in (local, remote)}
        with _ending_at_once(), _showing(arguments, left) as progress:
            written = calibrate_chat(
                prompts,
                arguments.out,
                local=local,
                remote=remote,
                judge=arguments.judge,
                objective=objective,
                replies=replies,
                score=arguments.chat_score,
                max_cost=arguments.max_cost,
                concurrency=arguments.concurrency,
                progress=progress,
                **options,
            )
    except KeyboardInterrupt:
        total = 2 * len({one.digest for one in prompts})
        kept = total - sum(missing(prompts, one, replies) for one in (local, remote))
        said = f"{kept} of {total} replies are kept, in {path}; the same command goes on from there"
        print(said, file=sys.stderr)
        raise
    _report(written, arguments)
    return 0


@contextmanager
def _ending_at_once() -> Iterator[None]:
    """Within this context, a second interruption ends the process, whatever it waits for."""

    def interrupted(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or current_thread() is not main_thread():
        yield
        return
    signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _showing(arguments: Namespace, left: Mapping[str, int]) -> Iterator[Progress]:
    """Within this context, show how many of the replies have come from each side, and what they cost so far."""
    cost = 0.0
    if not any(left.values()):
        yield lambda *_: None
        return

    def note() -> str:
        return f", {cost:.4g} spent" if arguments.local_price or arguments.remote_price else ""

    with counting("asking both endpoints", left, amount="for {} replies", note=note) as count:

        def progress(side: str, spent: float) -> None:
            nonlocal cost
            cost = spent
            count(1, side)

        yield progress


def _endpoint(arguments: Namespace, side: str) -> AskedEndpoint:
    def given(name: str) -> Any:
        return getattr(arguments, f"{side}_{name}")

    path, secure = given("header_file"), bool(arguments.ca or arguments.cert)
    try:
        return AskedEndpoint(
            side,
            getattr(arguments, side),
            model=given("model"),
            fields={
                "max_tokens": arguments.max_tokens,
                **arguments.fields,
                **(arguments.remote_fields if side == "remote" else {}),
            },
            headers=headers_of((), path, f"--{side}-header-file"),
            price=given("price"),
            timeout=arguments.timeout,
            context=read_context(arguments) if secure else None,
            proxy=arguments.proxy if side == "remote" else None,
        )
    except ArgumentError as error:
        raise ArgumentError(str(error).replace(f"{side}:", f"--{side}:", 1)) from error


def _arrays(arguments: Namespace, prompts: list[ChatPrompt]) -> dict[str, NDArray[Any]]:
    """Return the fields of the prompts that hold weights and groups."""
    found = {}
    for name in array_names(arguments):
        if missing := [at for at, one in enumerate(prompts, 1) if name not in one.other]:
            raise ExportError(
                f"{arguments.prompts}: expected a field `{name}` in every prompt, got none in {missing[0]}"
            )
        found[name] = np.array([one.other[name] for one in prompts])
    return found


def _report(written: CalibratedChat, arguments: Namespace) -> None:
    """Print what was asked, fitted, chosen and written, and what comes next."""
    planned, document, asked = written.planned, written.document, written.asked
    there = sum(one is not None for one in (*asked.local, *asked.remote))
    print(f"replies     {there} to {len(asked.local)} prompts, {asked.new} of them new; judged by {document.judge}")
    for side, one in (("local", document.local), ("remote", document.remote)):
        name = PurePath(one.reported).name if one.reported.startswith("/") else one.reported  # llama.cpp's is a path
        place = f" at {one.url}" if one.url != name else ""  # the same for a GGUF file beside
        print(f"{side:<12}{name or 'a model without a name'}{place}")
    print(planned.plan)
    if arguments.groups is not None and planned.plan.policy.groups is not None:
        print("\n".join(f"            {line}" for line in planned.plan.policy.groups.table()))
    for line in _money(written):
        print(line)
    print(f"wrote       {arguments.out}\nnext        edgecascade inspect {quote(arguments.out)}")
    reached = _to_reach(arguments)
    print(f"            {shlex.join(['edgecascade', 'gateway', arguments.out, '--port', '8001', *reached])}")
    bench = ["edgecascade", "bench", "chat", arguments.out, "--data", "OTHER-PROMPTS.jsonl", *reached]
    print(f"            {shlex.join(bench)}    # on other prompts")


def _to_reach(arguments: Namespace) -> list[str]:
    """Return the options that were given to reach the endpoints and are not in the file, without secrets in them."""
    words = []
    for name in ("local-header-file", "remote-header-file", "proxy", "ca", "cert", "key"):
        if (value := getattr(arguments, name.replace("-", "_"))) is not None:
            words += [f"--{name}", shown(value)]
    for side in SIDES:
        if "?" in (address := getattr(arguments, side)) and "://" in address:
            words += [f"--{side}", f"{shown(address)}?..."]
    return words


def _money(written: CalibratedChat) -> list[str]:
    """Return what a thousand prompts cost, if prices are known and the servers count tokens."""
    document, asked = written.document, written.asked
    cost = {}
    for side, replies, price in (
        ("local", asked.local, document.local.price),
        ("remote", asked.remote, document.remote.price),
    ):
        used = [one.usage for at in written.planned.rows if (one := replies[at]) is not None and one.usage is not None]
        if price is not None and used:
            spent = [price.prompt * one.prompt + price.completion * one.completion for one in used]
            cost[side] = float(np.mean(spent)) / 1e6 * _THOUSAND
    if "remote" not in cost:
        return []
    rate = document.policy.chosen.offload_rate
    cascade = cost.get("local", 0.0) + rate * cost["remote"]
    return [
        f"cost        of a thousand prompts: {cost['remote']:.4g} if the remote answers all, about {cascade:.4g} with "
        f"this plan ({asked.cost:.4g} spent now)"
    ]


def _price(text: str) -> TokenPrice:
    try:
        prompt, completion = (float(part) for part in text.split(","))
    except ValueError:
        prompt = completion = -1.0
    if not (0 <= prompt < float("inf") and 0 <= completion < float("inf")):
        raise ArgumentTypeError(f"expected two prices such as 0.5,1.5, got {text!r}")
    return TokenPrice(prompt, completion)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < float("inf"):
        raise ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number


def _fields(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
        json.dumps(found, allow_nan=False)  # Python reads NaN, which no server does
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ArgumentTypeError(f"expected a JSON object such as '{{\"top_p\": 1}}', got {text!r}")
    return found
