"""`edgecascade deploy`: write what other engines need to serve a cascade."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from edgecascade.cli import rare
from edgecascade.runtime.commands.budget_arguments import with_flag
from edgecascade.types.errors import ArgumentError

__all__ = ["configure", "execute"]

_TRITON = "Write a model repository for NVIDIA Triton."
_KSERVE = "Write a ServingRuntime and an InferenceService for KServe."
_OPTIONS = {
    "triton": ("name", "remote_output", "threshold", "max_batch", "instances"),
    "kserve": ("name", "remote_output", "threshold", "deadline", "image", "storage"),
}
_FLAGS = {
    name.replace("_", " "): f"--{name.replace('_', '-')}"
    for names in (*_OPTIONS.values(), ("remote", "output"))
    for name in names
}


def configure(parser: ArgumentParser) -> None:
    """Add the engines and their arguments."""
    parser.epilog = (
        "examples:\n"
        "  edgecascade deploy triton local.onnx --remote large.onnx -o repository\n"
        "  edgecascade deploy kserve local.onnx --remote large.onnx --image registry.example/edgecascade:1 \\\n"
        "      --storage s3://models/pair -o cascade.yaml"
    )
    engines = parser.add_subparsers(dest="engine", metavar="ENGINE", required=True)
    triton = engines.add_parser("triton", help=_TRITON, description=_TRITON)
    _add_files(triton, "The large model, an ONNX file.", "Folder to write, empty or new.")
    triton.add_argument("--max-batch", metavar="N", type=int, default=64, help="Most inputs in a batch (default 64).")
    instances = "Processes of the cascade, which wait for the remote (default 4)."
    triton.add_argument("--instances", metavar="N", type=int, default=4, help=instances)
    kserve = engines.add_parser("kserve", help=_KSERVE, description=_KSERVE)
    _add_files(kserve, "The large model, an ONNX file, or the address of a remote.", "File to write, which is new.")
    image = "Container image in which edgecascade[cpu,serve] is installed."
    kserve.add_argument("--image", metavar="IMAGE", required=True, help=image)
    storage = "Folder with the files, under the same names, for KServe to fetch: s3://... or another address."
    kserve.add_argument("--storage", metavar="URI", required=True, help=storage)
    deadline = "Seconds until an answer is due (default 1)."
    kserve.add_argument("--deadline", metavar="SECONDS", type=float, default=1.0, help=deadline)


def execute(arguments: Namespace) -> int:
    """Write the files for one engine, and say where they are."""
    from edgecascade.deploy.kserve import write_kserve
    from edgecascade.deploy.triton import write_triton

    options = {name: getattr(arguments, name) for name in _OPTIONS[arguments.engine]}
    write = write_triton if arguments.engine == "triton" else write_kserve
    try:
        place = write(arguments.file, arguments.remote, arguments.output, **options)
    except ArgumentError as error:
        raise with_flag(error, _FLAGS) from error
    print(f"wrote {place}")
    return 0


def _add_files(parser: ArgumentParser, remote: str, output: str) -> None:
    parser.add_argument("file", metavar="FILE", help="Cascade model.")
    parser.add_argument("--remote", metavar="REMOTE", required=True, help=remote)
    rare(parser.add_argument("--remote-output", metavar="NAME", help="Its output with the scores, if not evident."))
    parser.add_argument("-o", "--output", metavar="PATH", required=True, help=output)
    parser.add_argument("--name", default="cascade", help="Name of the served cascade (default cascade).")
    threshold = "Forward below this advantage, instead of the file's threshold."
    parser.add_argument("--threshold", metavar="T", type=float, help=threshold)
