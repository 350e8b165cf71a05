"""`edgecascade serve`: serve an ONNX file as a remote, or the answers of a cascade."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from edgecascade.runtime.commands.cascade_arguments import add_cascade_arguments, check_cascade_arguments, open_cascade
from edgecascade.runtime.commands.console import Console, logged
from edgecascade.runtime.commands.listening import is_loopback, read_token
from edgecascade.runtime.commands.remote_arguments import flag
from edgecascade.types.errors import ArgumentError

__all__ = ["configure", "execute"]

_BATCHES = 16  # requests that run at once; each may wait in a thread for its deadline
_OF_ANY_FILE = ("help", "help_all", "file", "name", "host", "port", "token_file", "cascade", "threads", "log_json")


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "examples:\n"
        "  edgecascade serve large.onnx --name large --port 8000\n"
        "  edgecascade serve local.onnx --name mine --port 8001 --remote http://127.0.0.1:8000/v2/models/large\n"
        "  curl http://127.0.0.1:8001/v2/models/mine http://127.0.0.1:8001/metrics\n\n"
        "Without --remote or --cascade, FILE is any ONNX model, and a remote for cascades. With one, it is a cascade\n"
        "model, and the outputs are its answers: confidence, advantage, source, reason, forwarded, and label, name,\n"
        "probabilities, or a general task's arrays and the `result` of --decode. Images can come as BYTES, encoded\n"
        "files; sentences as BYTES in the input `text`. The protocol is Open Inference v2 over REST, without TLS; a\n"
        "proxy can add it. With --token-file, clients must send `Authorization: Bearer TOKEN`. SIGTERM ends it."
    )
    parser.add_argument("file", help="ONNX model, or cascade model.")
    parser.add_argument("--name", default="model", help="Name in the address /v2/models/NAME (default model).")
    parser.add_argument("--host", default="127.0.0.1", help="Address to listen on (default this machine only).")
    parser.add_argument(
        "--port", type=int, default=8000, help="TCP port to listen on (default 8000); 0 takes a free one."
    )
    token = "File with a token that clients must send, for hosts that others can reach."
    parser.add_argument("--token-file", metavar="FILE", help=token)
    parser.add_argument("--cascade", action="store_true", help="Serve the answers of a cascade without a remote.")
    add_cascade_arguments(parser)
    of_cascades = (action for action in parser._actions if action.dest not in _OF_ANY_FILE)
    parser.set_defaults(defaults={action.dest: action.default for action in of_cascades})


def execute(arguments: Namespace) -> int:
    """Serve until interrupted."""
    if not 0 <= arguments.port < 65536:
        raise ArgumentError(f"--port: expected 0 to 65535, got {arguments.port}")
    if not arguments.name or "/" in arguments.name:
        raise ArgumentError(f"--name: expected a name without a slash, got {arguments.name!r}")
    check_cascade_arguments(arguments)
    token, console = read_token(arguments.token_file), Console()

    def ready(address: str) -> None:
        print(f"serving at {address}", flush=True)
        if token is None and not is_loopback(arguments.host):
            console.say(
                f"edgecascade: --host {arguments.host} lets other machines use the model without a token; ask them for "
                "one with --token-file"
            )

    place = {"name": arguments.name, "host": arguments.host, "port": arguments.port, "token": token, "ready": ready}
    threads = ThreadPoolExecutor(_BATCHES, thread_name_prefix="edgecascade-serve")
    try:
        with logged(console, as_json=arguments.log_json):
            _serve(arguments, threads, place)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
    return 0


def _serve(arguments: Namespace, threads: ThreadPoolExecutor, place: dict[str, Any]) -> None:
    if arguments.remote is None and not arguments.cascade:
        given = [name for name, value in arguments.defaults.items() if getattr(arguments, name) != value]
        if given:
            raise ArgumentError(f"{flag(given[0])}: expected with --remote or --cascade, got no such option")
    from edgecascade.runtime.serving.served import served_cascade, served_file
    from edgecascade.runtime.serving.server import serve

    if arguments.remote is None and not arguments.cascade:
        serve(served_file(arguments.file, threads, engine_threads=arguments.threads), **place)
        return
    with open_cascade(arguments) as cascade:
        serve(served_cascade(cascade, threads), **place)
