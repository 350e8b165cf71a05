"""Serve a GGUF file with llama.cpp until standard input ends: `serve_llama.py MODEL THREADS CONTEXT`.

It runs in an environment that has xllamacpp and need not have edgecascade.
"""

import os
import sys


def main() -> None:
    """Print `listening on URL` when the server is ready."""
    import xllamacpp  # type: ignore[import-not-found,unused-ignore]

    model, threads, context = sys.argv[1:]
    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0  # any port
    parameters.n_ctx, parameters.n_parallel = int(context), 1
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = int(threads)
    server = xllamacpp.Server(parameters)
    print(f"listening on {server.listening_address}", flush=True)
    sys.stdin.read()
    os._exit(0)  # the server's destructors need not run


if __name__ == "__main__":
    main()
