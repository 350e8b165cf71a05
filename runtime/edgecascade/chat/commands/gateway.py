"""`edgecascade gateway`: serve two chat endpoints as one that is compatible with OpenAI's API."""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from edgecascade.cli import rare
from edgecascade.runtime.commands.budget_arguments import add_budget_arguments, budget_of, check_budget_arguments
from edgecascade.runtime.commands.console import Console, logged
from edgecascade.runtime.commands.listening import is_loopback, listen_tcp, read_token
from edgecascade.runtime.commands.remote_arguments import (
    add_connection_arguments,
    flag,
    headers_of,
    read_context,
)
from edgecascade.runtime.commands.service import notify
from edgecascade.types.errors import ArgumentError
from edgecascade.types.named import own

__all__ = ["configure", "execute"]

_FLAGS = {name: flag(name) for name in ("local", "remote", "unscored", "deadline", "patience")}


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "examples:\n"
        "  edgecascade gateway chat.json --port 8001\n"
        "  edgecascade gateway chat.json --local small.gguf --remote https://api.example.com/v1 \\\n"
        "      --remote-header-file cloud.txt\n"
        "\n"
        "The local endpoint generates first; where its tokens show that it is at a disadvantage, the remote answers.\n"
        "An application changes its base URL, and nothing else. Headers X-Edgecascade-* and the object `edgecascade`\n"
        "in a body say who answered and why. A client's Authorization goes to neither endpoint. SIGTERM ends it."
    )
    parser.add_argument("file", help="JSON file that `calibrate-chat` writes.")
    parser.add_argument("--name", help="Name of the model in /v1/models (default: the file's name without .json).")
    parser.add_argument("--host", default="127.0.0.1", help="Address to listen on (default this machine only).")
    parser.add_argument(
        "--port", type=int, default=8001, help="TCP port to listen on (default 8001); 0 takes a free one."
    )
    token = "File with a token that clients must send, for hosts that others can reach."
    parser.add_argument("--token-file", metavar="FILE", help=token)
    parser.add_argument("--plain", action="store_true", help="Leave the object `edgecascade` out of bodies.")
    rare(parser.add_argument("--log-json", action="store_true", help="Log events on standard error as JSON lines."))
    _add_endpoint_arguments(parser)
    add = parser.add_argument_group("forwarding").add_argument
    unscored = "Side that answers where the local reply cannot be scored, local or remote (default remote)."
    add("--unscored", metavar="SIDE", choices=("local", "remote"), default="remote", help=unscored)
    add("--threshold", metavar="T", type=float, help="Forward below this advantage, instead of the file's threshold.")
    deadline = "Seconds for the local reply to be decided about, and again for the remote to begin (default 60)."
    add("--deadline", metavar="SECONDS", type=float, default=60.0, help=deadline)
    patience = "Seconds without a byte after which a reply counts as broken (default 60)."
    rare(add("--patience", metavar="SECONDS", type=float, default=60.0, help=patience))
    fill = "Give requests the fields of the calibration that they leave out, such as temperature."
    add("--calibrated-fields", action="store_true", help=fill)
    egress = "MODULE:NAME of a function that returns whether a request, a dict, may go to the remote."
    rare(add("--egress", metavar="NAME", help=egress))
    add_budget_arguments(add)


def _add_endpoint_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("the endpoints").add_argument
    local = "Local endpoint, http://HOST:PORT/v1, or a GGUF file for llama.cpp in this process (default: the file's)."
    add("--local", metavar="URL", help=local)
    add("--remote", metavar="URL", help="Remote endpoint, http[s]://HOST[:PORT]/v1 (default: the file's).")
    headers = "Headers to send to the {} endpoint only, one 'Name: value' a line, such as Authorization."
    add("--local-header-file", metavar="FILE", help=headers.format("local"))
    add("--remote-header-file", metavar="FILE", help=headers.format("remote"))
    add_connection_arguments(add)


def execute(arguments: Namespace) -> int:
    """Serve until interrupted."""
    if not 0 <= arguments.port < 65536:
        raise ArgumentError(f"--port: expected 0 to 65535, got {arguments.port}")
    if arguments.threshold is not None and math.isnan(arguments.threshold):
        raise ArgumentError("--threshold: expected a number, got NaN")
    if arguments.name is not None and not arguments.name.strip():
        raise ArgumentError(f"--name: expected a name, got {arguments.name!r}")
    if arguments.key and not arguments.cert:
        raise ArgumentError("--key: expected with --cert, got no certificate for the key")
    check_budget_arguments(arguments)
    token, console = read_token(arguments.token_file), Console()
    from edgecascade.chat.gateway import serve

    options = _options(arguments)
    with listen_tcp("--host, --port", arguments.host, arguments.port) as listener:
        cascade = _open(arguments, options)
        host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host

        def ready() -> None:
            print(f"serving at http://{host}:{listener.getsockname()[1]}/v1", flush=True)
            if token is None and not is_loopback(arguments.host):
                console.say(
                    f"edgecascade: --host {arguments.host} lets other machines use both endpoints without a token; ask "
                    "them for one with --token-file"
                )
            notify("READY=1")

        name = arguments.name or Path(arguments.file).stem
        with cascade, logged(console, as_json=arguments.log_json):
            asyncio.run(serve(cascade, listener, name, token=token, plain=arguments.plain, ready=ready))
    return 0


def _options(arguments: Namespace) -> dict[str, Any]:
    secure = bool(arguments.ca or arguments.cert)
    context: ssl.SSLContext | None = read_context(arguments) if secure else None
    return {
        "local": arguments.local,
        "remote": arguments.remote,
        "unscored": arguments.unscored,
        "local_headers": headers_of((), arguments.local_header_file, "--local-header-file"),
        "remote_headers": headers_of((), arguments.remote_header_file, "--remote-header-file"),
        "context": context,
        "proxy": arguments.proxy,
        "budget": budget_of(arguments),
        "egress": None if arguments.egress is None else own(arguments.egress, "--egress"),
        "threshold": arguments.threshold,
        "deadline": arguments.deadline,
        "patience": arguments.patience,
        "fill": arguments.calibrated_fields,
        "on_alarm": lambda alarm: logging.getLogger("edgecascade").warning("alarm: %s", alarm.sentence),
    }


def _open(arguments: Namespace, options: dict[str, Any]) -> Any:
    from edgecascade.chat.cascade import ChatCascade

    try:
        return ChatCascade.load(arguments.file, **options)
    except ArgumentError as error:
        name, _, rest = str(error).partition(": ")
        raise ArgumentError(f"{_FLAGS[name]}: {rest}" if name in _FLAGS else str(error)) from error
