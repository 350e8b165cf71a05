"""`edgecascade serve`: serve an ONNX file as a remote, or the answers of a cascade."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from concurrent.futures import ThreadPoolExecutor

from edgecascade.runtime.commands.cascade_arguments import add_cascade_arguments, check_cascade_arguments, open_cascade
from edgecascade.runtime.commands.console import Console, logged
from edgecascade.runtime.commands.remote_arguments import flag
from edgecascade.types.errors import ArgumentError

__all__ = ["configure", "execute"]

_BATCHES = 16  # requests with several inputs at once; each waits in a thread for its deadline
_OF_ANY_FILE = ("help", "help_all", "file", "name", "host", "port", "cascade", "threads")


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "examples:\n"
        "  edgecascade serve large.onnx --name large --port 8000\n"
        "  edgecascade serve local.onnx --name mine --port 8001 --remote http://127.0.0.1:8000/v2/models/large\n"
        "  curl http://127.0.0.1:8001/v2/models/mine\n"
        "  curl http://127.0.0.1:8001/metrics\n\n"
        "Without --remote or --cascade, FILE is any ONNX model: all that a cascade needs as its remote. With one of\n"
        "them, FILE is a cascade model, and the outputs are its answers: label, name, confidence, advantage,\n"
        "probabilities, source, reason, forwarded. Images can come as BYTES, encoded files; sentences come as BYTES\n"
        "in the input `text`. The server speaks the Open Inference Protocol v2 over REST, with binary tensors. It\n"
        "has no access control: use another host than 127.0.0.1 only in a trusted network."
    )
    parser.add_argument("file", help="ONNX model, or cascade model.")
    parser.add_argument("--name", default="model", help="Name in the address /v2/models/NAME (default model).")
    parser.add_argument("--host", default="127.0.0.1", help="Address to listen on (default this machine only).")
    parser.add_argument("--port", type=int, default=8000, help="TCP port to listen on (default 8000).")
    parser.add_argument("--cascade", action="store_true", help="Serve the answers of a cascade without a remote.")
    add_cascade_arguments(parser)
    of_cascades = (action for action in parser._actions if action.dest not in _OF_ANY_FILE)
    parser.set_defaults(defaults={action.dest: action.default for action in of_cascades})


def execute(arguments: Namespace) -> int:
    """Serve until interrupted."""
    if not 0 < arguments.port < 65536:
        raise ArgumentError(f"--port: expected 1 to 65535, got {arguments.port}")
    check_cascade_arguments(arguments)
    place = {"name": arguments.name, "host": arguments.host, "port": arguments.port}
    if arguments.remote is None and not arguments.cascade:
        given = [name for name, value in arguments.defaults.items() if getattr(arguments, name) != value]
        if given:
            raise ArgumentError(f"{flag(given[0])}: expected with --remote or --cascade, got no such option")
        from edgecascade.runtime.commands.kserve_server import serve_model, served_file

        serve_model(served_file(arguments.file, threads=arguments.threads), **place)
        return 0
    from edgecascade.runtime.commands.kserve_server import serve_model, served_cascade

    with logged(Console(), as_json=arguments.log_json), open_cascade(arguments) as cascade:
        threads = ThreadPoolExecutor(_BATCHES, thread_name_prefix="edgecascade-serve")
        try:
            serve_model(served_cascade(cascade, threads), **place)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
    return 0
