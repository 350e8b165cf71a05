"""Serve a model whose every reply is an attack on the client: `python serve_hostile.py NAME`; prints its port.

It runs in a process of its own, so that only the client's work is measured in the client.
"""

import gzip
import json
import socket
import sys
import threading
from collections.abc import Callable

MANY = 60 << 20  # bytes: more than any answer needs
FEW = 120_000  # bytes: as many as an answer of three classes may have


def reply(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """Return a response."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def outputs(part: bytes, size: int) -> bytes:
    """Return JSON of this size that repeats a part."""
    return b'{"outputs":[' + part * (size // len(part)) + b"0]}"


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ATTACKS: dict[str, Callable[[], bytes]] = {
    "many lists": lambda: reply(outputs(b"[],", MANY)),
    "lists": lambda: reply(outputs(b"[],", FEW)),
    "objects": lambda: reply(outputs(b'{"a":0},', FEW)),
    "numbers": lambda: reply(outputs(b"1.5,", FEW)),
    "escapes": lambda: reply(b'{"outputs":["' + b"\\u00e9" * (FEW // 6) + b'"]}'),
    "nested": lambda: reply(b"[" * FEW),
    "gzip": lambda: reply(gzip.compress(outputs(b"[],", MANY)), "200 OK", "Content-Encoding: gzip"),
    "a page of empty lines": lambda: reply(b"\n" * MANY, "500 Oops"),
    "a page of short lines": lambda: reply(b"a\n" * (MANY // 2), "404 No"),
    "small chunks": lambda: CHUNKED + b"1\r\n[\r\n" * FEW + b"0\r\n\r\n",
    "headers": lambda: b"HTTP/1.1 200 OK\r\n" + b"a:\r\n" * 16_000 + b"Content-Length: 2\r\n\r\n{}",
    "interim responses": lambda: b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000_000,
    "trailers": lambda: CHUNKED + b"0\r\n" + b"a:b\r\n" * 1_000_000,
}
TENSOR = {"datatype": "FP32", "shape": [-1, 3]}
METADATA = reply(json.dumps({"inputs": [{"name": "z", **TENSOR}], "outputs": [{"name": "logits", **TENSOR}]}).encode())


def serve(connection: socket.socket, attack: bytes) -> None:
    """Answer requests until the connection ends."""
    stream = connection.makefile("rb")
    try:
        while first := stream.readline().strip():
            length = 0
            while line := stream.readline().strip():
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            stream.read(length)
            connection.sendall(METADATA if first.startswith(b"GET") else attack)
    except OSError:
        pass
    finally:
        connection.close()


if __name__ == "__main__":
    attack = ATTACKS[sys.argv[1]]()
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0], attack), daemon=True).start()
