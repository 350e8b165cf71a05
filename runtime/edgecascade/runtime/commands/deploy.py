"""`edgecascade deploy`: write what other engines need to serve a cascade."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from edgecascade.cli import rare
from edgecascade.runtime.commands.budget_arguments import with_flag
from edgecascade.types.errors import ArgumentError

__all__ = ["configure", "execute"]

_TRITON = "Write a model repository for NVIDIA Triton."


def configure(parser: ArgumentParser) -> None:
    """Add the engines and their arguments."""
    parser.epilog = "examples:\n  edgecascade deploy triton local.onnx --remote large.onnx -o repository"
    engines = parser.add_subparsers(dest="engine", metavar="ENGINE", required=True)
    triton = engines.add_parser("triton", help=_TRITON, description=_TRITON)
    _add_files(triton, "Folder to write, empty or new.")
    triton.add_argument(
        "--name", default="cascade", help="Name of the cascade among Triton's models (default cascade)."
    )
    triton.add_argument("--threshold", metavar="T", type=float, help="Forward below this advantage.")
    triton.add_argument("--max-batch", metavar="N", type=int, default=64, help="Most inputs in a batch (default 64).")
    instances = "Processes of the cascade, which wait for the remote (default 4)."
    triton.add_argument("--instances", metavar="N", type=int, default=4, help=instances)


def execute(arguments: Namespace) -> int:
    """Write the files for one engine, and say where they are."""
    from edgecascade.deploy.triton import write_triton

    options = ("name", "remote_output", "threshold", "max_batch", "instances")
    try:
        given = {name: getattr(arguments, name) for name in options}
        place = write_triton(arguments.file, arguments.remote, arguments.output, **given)
    except ArgumentError as error:
        raise with_flag(error, _FLAGS) from error
    print(f"wrote {place}")
    return 0


_FLAGS = {
    **{name: f"--{name}" for name in ("name", "remote", "output", "threshold", "instances")},
    "max batch": "--max-batch",
    "remote output": "--remote-output",
}


def _add_files(parser: ArgumentParser, output: str) -> None:
    parser.add_argument("file", metavar="FILE", help="Cascade model of a classifier.")
    parser.add_argument("--remote", metavar="FILE", required=True, help="The large model, an ONNX file.")
    rare(parser.add_argument("--remote-output", metavar="NAME", help="Its output with the scores, if not evident."))
    parser.add_argument("-o", "--output", metavar="PATH", required=True, help=output)
