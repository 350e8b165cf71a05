"""`edgecascade serve`: an ONNX file as the remote of other processes."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from edgecascade.runtime.errors import ArgumentError

__all__ = ["configure", "execute"]


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "example:\n"
        "  edgecascade serve large.onnx --name large --port 8000\n"
        "  curl http://127.0.0.1:8000/v2/models/large\n\n"
        "Speaks the Open Inference Protocol v2 over REST, with binary tensors, on KServe's server. Anyone who\n"
        "can reach the address can use it: listen on another host than 127.0.0.1 only in a trusted network."
    )
    parser.add_argument("file", help="any ONNX model")
    parser.add_argument("--name", default="model", help="NAME in the address /v2/models/NAME (default: model)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="TCP port (default 8000)")
    parser.add_argument("--threads", type=int, default=1, help="onnxruntime threads (default 1)")


def execute(arguments: Namespace) -> int:
    """Serve until interrupted."""
    from edgecascade.runtime.serve import serve

    if not 0 < arguments.port < 65536:
        raise ArgumentError(f"--port: expected 1 to 65535, got {arguments.port}")
    serve(
        arguments.file,
        name=arguments.name,
        host=arguments.host,
        port=arguments.port,
        threads=arguments.threads,
    )
    return 0
