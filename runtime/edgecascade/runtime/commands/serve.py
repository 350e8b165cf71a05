"""`edgecascade serve`: serve ONNX files as remotes, or the answers of a cascade."""

from __future__ import annotations

import os
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from edgecascade.cli import rare
from edgecascade.runtime.commands.budget_arguments import with_flag
from edgecascade.runtime.commands.cascade_arguments import add_cascade_arguments, check_cascade_arguments, open_cascade
from edgecascade.runtime.commands.console import Console, logged
from edgecascade.runtime.commands.listening import is_loopback, read_token
from edgecascade.runtime.commands.remote_arguments import flag
from edgecascade.runtime.commands.service import Reloads, Watchdog, notify
from edgecascade.types.errors import ArgumentError

__all__ = ["configure", "execute"]

_LARGE = 16  # requests of more inputs than a batch that run at once; each may wait in a thread for its deadline
_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[1-9][0-9]{0,4}))?")
_USUAL_PORTS = {"http": "80", "https": "443"}  # which browsers leave out
_OF_ANY_FILE = (
    *("help", "help_all", "files", "name", "host", "port", "token_file", "cors", "max_batch", "instances", "cascade"),
    *("threads", "providers", "fallback", "engine_cache", "log_json"),
)


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "examples:\n"
        "  edgecascade serve large.onnx --name large --port 8000\n"
        "  edgecascade serve local.onnx --name mine --port 8001 --remote http://127.0.0.1:8000/v2/models/large\n"
        "  curl http://127.0.0.1:8001/v2/models/mine http://127.0.0.1:8001/metrics\n\n"
        "FILE is any ONNX model, or with --remote or --cascade a cascade model, whose outputs are confidence,\n"
        "advantage, source, reason, forwarded, and label, name, probabilities, or a general task's and `result`. The\n"
        "protocol is Open Inference v2 over REST. Images can come as BYTES, tokens as `Authorization: Bearer TOKEN`."
    )
    files = "ONNX or cascade model; several are served by their names, or as NAME=FILE."
    parser.add_argument("files", metavar="FILE", nargs="+", help=files)
    parser.add_argument("--name", help="Name of a single model in the address /v2/models/NAME (default model).")
    parser.add_argument("--host", default="127.0.0.1", help="Address to listen on (default this machine only).")
    parser.add_argument(
        "--port", type=int, default=8000, help="TCP port to listen on (default 8000); 0 takes a free one."
    )
    token = "File with a token that clients must send, for hosts that others can reach."
    parser.add_argument("--token-file", metavar="FILE", help=token)
    cors = "Let scripts of web pages from ORIGIN (https://HOST, or * for all) read replies (repeatable)."
    rare(parser.add_argument("--cors", metavar="ORIGIN", action="append", default=[], help=cors))
    batch = "Most inputs that requests share a run for (default 32); 1 runs every request alone."
    rare(parser.add_argument("--max-batch", metavar="N", type=int, default=32, help=batch))
    instances = "Runs of a model at once (default: CPUs divided by --threads; 1 with other --providers)."
    rare(parser.add_argument("--instances", metavar="N", type=int, help=instances))
    parser.add_argument("--cascade", action="store_true", help="Serve the answers of a cascade without a remote.")
    add_cascade_arguments(parser, serves=True)
    of_cascades = (action for action in parser._actions if action.dest not in _OF_ANY_FILE)
    parser.set_defaults(defaults={action.dest: action.default for action in of_cascades})


def execute(arguments: Namespace) -> int:
    """Serve until interrupted."""
    if not 0 <= arguments.port < 65536:
        raise ArgumentError(f"--port: expected 0 to 65535, got {arguments.port}")
    for name in ("max_batch", "instances"):
        if (given := getattr(arguments, name)) is not None and given < 1:
            raise ArgumentError(f"{flag(name)}: expected 1 or more, got {given}")
    wrong = next((one for one in arguments.cors if not _is_origin(one)), None)
    if wrong is not None:
        raise ArgumentError(
            f"--cors: expected an origin as browsers send it, such as https://example.org, or *, got {wrong!r}"
        )
    files = _by_name(arguments.files, arguments.name)
    check_cascade_arguments(arguments)
    token, console = read_token(arguments.token_file), Console()

    def ready(addresses: Sequence[str]) -> None:
        for address in addresses:
            print(f"serving at {address}", flush=True)
        if token is None and not is_loopback(arguments.host):
            console.say(
                f"edgecascade: --host {arguments.host} lets other machines use the model without a token; ask them for "
                "one with --token-file"
            )
        notify("READY=1")

    place = {"host": arguments.host, "port": arguments.port, "token": token, "origins": arguments.cors, "ready": ready}
    with logged(console, as_json=arguments.log_json):
        _serve(arguments, files, place, console)
    return 0


def _is_origin(text: str) -> bool:
    """Return whether a browser may send this as an origin: in small ASCII letters, without the usual port."""
    found = _ORIGIN.fullmatch(text)
    if found is None:
        return text == "*"
    return found["port"] != _USUAL_PORTS.get(found["scheme"], "") and int(found["port"] or 0) < 65536


def _by_name(files: Sequence[str], name: str | None) -> dict[str, str]:
    """Return the files by name.

    Raises:
        ArgumentError: a name is not one, or is given twice.
    """
    if name is not None and (name in ("", ".", "..") or "/" in name):
        raise ArgumentError(f"--name: expected a name without a slash, got {name!r}")
    if name is not None and len(files) > 1:
        raise ArgumentError(f"--name: expected with a single file, got {len(files)} files; write NAME=FILE for each")
    found: dict[str, str] = {}
    for file in files:
        given, equals, path = file.partition("=")
        if not equals or given in ("", ".", "..") or "/" in given or os.path.exists(file):
            given, path = name or ("model" if len(files) == 1 else Path(file).stem), file
        if given in found:
            raise ArgumentError(f"FILE: expected a name for each, got {given} twice; write NAME=FILE")
        found[given] = path
    return found


def _serve(arguments: Namespace, files: dict[str, str], place: dict[str, Any], console: Console) -> None:
    of_cascade = arguments.cascade or arguments.remote is not None
    given = [name for name, value in arguments.defaults.items() if getattr(arguments, name) != value]
    if given and not of_cascade:
        raise ArgumentError(f"{flag(given[0])}: expected with --remote or --cascade, got no such option")
    if of_cascade and len(files) > 1:
        raise ArgumentError(f"FILE: expected one with --remote or --cascade, got {len(files)}; start a server for each")
    from edgecascade.runtime.serving.batcher import Batching
    from edgecascade.runtime.serving.served import served_cascade, served_file
    from edgecascade.runtime.serving.server import serve

    providers = arguments.providers if arguments.providers == "auto" else arguments.providers.split(",")
    at_once = (os.cpu_count() or 1) // arguments.threads if providers == ["cpu"] else 1
    batching = Batching(arguments.max_batch, arguments.instances or max(at_once, 1))
    if of_cascade:
        ((name, arguments.file),) = files.items()
        large = ThreadPoolExecutor(_LARGE, thread_name_prefix="edgecascade-serve")
        try:
            reloads = Reloads(arguments.file, arguments.reload_every, console.say)
            with reloads, open_cascade(arguments) as cascade:
                watchdog = Watchdog(cascade)

                def ready(addresses: list[str]) -> None:
                    place["ready"](addresses)
                    reloads.start(cascade)  # not before, for it reports that the service is ready, too

                with watchdog.running():
                    models = {name: served_cascade(cascade, large, batching)}
                    serve(models, **{**place, "ready": ready}, tick=watchdog.tick)
        finally:
            large.shutdown(wait=False, cancel_futures=True)
        return
    options = {name: getattr(arguments, name) for name in ("threads", "fallback", "engine_cache")}
    try:
        models = {name: served_file(path, batching, providers=providers, **options) for name, path in files.items()}
    except ArgumentError as error:
        raise with_flag(error, {"providers": "--providers"}) from error
    watchdog = Watchdog(None)
    with watchdog.running():
        serve(models, **place, tick=watchdog.tick)
