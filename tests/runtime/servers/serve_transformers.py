"""transformers' own server with a small untrained Llama: it serves until its standard input ends.

`serve_transformers.py FOLDER` makes the model in the folder and prints `listening on URL`.
"""

import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers.commands.serving import ServeArguments, ServeCommand

untyped: Any = transformers
TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"


def make(folder: Path) -> None:
    """Write a model of bytes with random weights."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: at for at, letter in enumerate([*alphabet, "</s>"])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = ["input_ids", "attention_mask"]
    wrapped = untyped.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="</s>", model_input_names=names
    )
    wrapped.chat_template = TEMPLATE
    wrapped.save_pretrained(folder)
    torch.manual_seed(0)
    config = untyped.LlamaConfig(
        vocab_size=257, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        eos_token_id=256, pad_token_id=256, bos_token_id=None, max_position_embeddings=512,
    )  # fmt: skip
    untyped.LlamaForCausalLM(config).save_pretrained(folder)


def main() -> None:
    """Serve."""
    folder = Path(sys.argv[1])
    make(folder)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = ServeArguments(host="127.0.0.1", port=port, device="cpu", force_model=str(folder), log_level="error")
    threading.Thread(target=ServeCommand(arguments).run, daemon=True).start()
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            time.sleep(0.1)
    print(f"listening on http://127.0.0.1:{port}", flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
