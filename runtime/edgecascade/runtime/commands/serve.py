"""`edgecascade serve`: an ONNX file as the remote of other processes, or a cascade that they ask."""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace

from edgecascade.runtime.commands.cascade_arguments import add_cascade_arguments, check_cascade_arguments, open_cascade
from edgecascade.runtime.run.console import Console
from edgecascade.runtime.run.logged import logged
from edgecascade.types.errors import ArgumentError

__all__ = ["configure", "execute"]

_LOG = logging.getLogger("edgecascade")


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "examples:\n"
        "  edgecascade serve large.onnx --name large --port 8000\n"
        "  edgecascade serve local.onnx --name mine --port 8001 --remote http://127.0.0.1:8000/v2/models/large\n"
        "  curl http://127.0.0.1:8001/v2/models/mine\n"
        "  curl http://127.0.0.1:8001/metrics\n\n"
        "With --remote or --cascade, FILE is a cascade model, and what is served are its answers: label, name,\n"
        "confidence, advantage, probabilities, source, reason, forwarded. Its inputs are the file's own; an image may\n"
        "come as BYTES, its file as it is, and a sentence comes as BYTES in the input `text`. Otherwise FILE is any\n"
        "ONNX model, served as it is, which is all that a cascade on this or another machine needs as its remote.\n\n"
        "Speaks the Open Inference Protocol v2 over REST, with binary tensors, on KServe's server. Anyone who\n"
        "can reach the address can use it: listen on another host than 127.0.0.1 only in a trusted network."
    )
    parser.add_argument("file", metavar="FILE", help="any ONNX model, or a cascade model")
    parser.add_argument("--name", default="model", help="NAME in the address /v2/models/NAME (default: model)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="TCP port (default 8000)")
    parser.add_argument("--cascade", action="store_true", help="serve a cascade's answers even without a remote")
    add_cascade_arguments(parser)
    parser.set_defaults(alone=_defaults(parser))


def execute(arguments: Namespace) -> int:
    """Serve until interrupted."""
    if not 0 < arguments.port < 65536:
        raise ArgumentError(f"--port: expected 1 to 65535, got {arguments.port}")
    check_cascade_arguments(arguments)
    if arguments.remote is None and not arguments.cascade:
        return _serve_file(arguments)
    from edgecascade.runtime.serving.serve_cascade import serve_cascade

    console = Console()
    with (
        logged(console, as_json=arguments.log_json),
        open_cascade(arguments, on_alarm=lambda alarm: _LOG.warning("alarm: %s", alarm.sentence)) as cascade,
    ):
        serve_cascade(cascade, name=arguments.name, host=arguments.host, port=arguments.port)
    return 0


def _serve_file(arguments: Namespace) -> int:
    from edgecascade.runtime.serving.serve import serve

    given = [name for name, value in arguments.alone.items() if getattr(arguments, name) != value]
    if given:
        flag = f"--{given[0].replace('_', '-')}"
        raise ArgumentError(f"{flag}: expected with --remote or --cascade, since it is about a cascade")
    serve(arguments.file, name=arguments.name, host=arguments.host, port=arguments.port, threads=arguments.threads)
    return 0


def _defaults(parser: ArgumentParser) -> dict[str, object]:
    """Of the arguments that are about a cascade."""
    of_both = ("help", "file", "name", "host", "port", "cascade", "threads")
    return {action.dest: action.default for action in parser._actions if action.dest not in of_both}
