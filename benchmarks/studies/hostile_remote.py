"""A server that describes a model and never gives an answer: it is silent, or replies with what costs most to read.

It runs in a process of its own, so that what it costs a client is the client's work only. It needs the standard library
alone, to start at once.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence

__all__ = ["hostile_remote", "main"]

_LENGTH = re.compile(rb"(?i)content-length: *(\d+)")
_WITHIN = 250_000  # bytes, which is about what a client has to read for one input


def _whole(body: bytes, status: str = "200 OK", header: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{header}\r\n".encode() + body


def _hostile() -> list[bytes]:
    """Return replies within the bounds of a client, and beyond them."""
    numbers = b'{"outputs":[{"name":"logits","datatype":"FP32","shape":[1,9],"data":[%b0]}]}'
    return [
        _whole(b"[" + b"[]," * (_WITHIN // 3) + b"0]"),
        _whole(b'{"outputs":[' + b'{"a":{}},' * (_WITHIN // 9) + b"0]}"),
        _whole(numbers % (b"1e-300," * (_WITHIN // 7))),
        _whole(b'["' + b"\\u00e9" * (_WITHIN // 6) + b'"]'),
        _whole(b"[" + b"0," * 20_000_000 + b"0]"),
        _whole(gzip.compress(bytes(50_000_000)), header="Content-Encoding: gzip\r\n"),
        _whole(b"no\n" * 10_000_000, "500 Internal Server Error"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n[\r\n" * (_WITHIN // 2),
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 9000,
    ]


def _description() -> bytes:
    """Return a description of a model that takes inputs of any type."""
    given, got = {"name": "x", "shape": [-1, -1]}, {"name": "logits", "datatype": "FP32", "shape": [-1, -1]}
    return _whole(json.dumps({"name": "m", "inputs": [given], "outputs": [got]}).encode())


def _read_request(connection: socket.socket, buffer: bytearray) -> bytes:
    """Return the head of a request, and drop its body; return nothing at the end of the stream."""
    head = b""
    while b"\r\n\r\n" not in head:
        received = connection.recv(65536)
        if not received:
            return b""
        head += received
    head, _, body = head.partition(b"\r\n\r\n")
    found = _LENGTH.search(head)
    left = int(found[1]) - len(body) if found else 0
    while left > 0:
        received_now = connection.recv_into(buffer, min(left, len(buffer)))
        if not received_now:
            return b""
        left -= received_now
    return head


def _serve(connection: socket.socket, replies: Iterator[bytes] | None, seconds: float) -> None:
    buffer = bytearray(1 << 20)
    with contextlib.suppress(OSError), connection:
        while head := _read_request(connection, buffer):
            if head.startswith(b"GET"):
                connection.sendall(_description())
            elif replies is not None:
                time.sleep(seconds * random.uniform(0.9, 1.0))  # so that it is read when the deadline comes
                connection.sendall(next(replies))
                return


def main(arguments: Sequence[str]) -> None:
    """Serve until the standard input ends; print the port first.

    Args:
        arguments: `silent` or `hostile`, and the seconds until which it replies.
    """
    kind, seconds = arguments[0], float(arguments[1])
    replies = itertools.cycle(_hostile()) if kind == "hostile" else None
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(connection, replies, seconds), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()


@contextlib.contextmanager
def hostile_remote(kind: str, seconds: float) -> Iterator[str]:
    """Give the address of a server in another process.

    Args:
        kind: `silent`, which never replies, or `hostile`.
        seconds: It replies after nine tenths of this time or later.
    """
    command = [sys.executable, __file__, kind, str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v2/models/m"
        finally:
            process.stdin.close()


if __name__ == "__main__":
    main(sys.argv[1:])
