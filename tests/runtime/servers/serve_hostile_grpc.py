"""Serve a model over gRPC whose every reply is an attack: `python serve_hostile_grpc.py NAME`; prints its port.

The library of the server is gRPC's own. Messages are encoded here, since those libraries write none that are wrong.
"""

import struct
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc

MANY = 60 << 20  # bytes: more than any answer needs
FEW = 120_000  # bytes: as many as an answer of three classes may have


def number(value: int) -> bytes:
    """Return an unsigned number as protobuf encodes it."""
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + number(value >> 7)


def part(field: int, content: bytes) -> bytes:
    """Return a field of bytes, text or a message."""
    return number(field << 3 | 2) + number(len(content)) + content


def tensor(datatype: str = "FP32", shape: tuple[int, ...] = (1, 3), contents: bytes = b"") -> bytes:
    """Return an output named `logits`."""
    described = part(1, b"logits") + part(2, datatype.encode()) + part(3, b"".join(map(number, shape)))
    return part(5, described + (part(5, contents) if contents else b""))


LOGITS = struct.pack("<3f", 1, 2, 3)
ATTACKS: dict[str, Callable[[], bytes]] = {
    "huge": lambda: tensor() + part(6, bytes(MANY)),
    "many outputs": lambda: part(5, b"") * (FEW // 2),
    "many contents": lambda: tensor() + part(6, b"") * (FEW // 2),
    "many names": lambda: part(5, part(1, b"logits") * (FEW // 8)),
    "many numbers": lambda: tensor(contents=part(6, bytes(FEW))),
    "many sides": lambda: tensor(shape=(1,) * FEW) + part(6, LOGITS),
    "deep": lambda: part(5, b"\x0b" * FEW),
    "nested": lambda: part(5, nested(2000)),
    "noise": lambda: b"\xff" * FEW,
    "a long number": lambda: b"\x08" + b"\x80" * FEW,
    "a field beyond the end": lambda: part(5, b"")[:1] + number(1 << 60),
    "large sides": lambda: tensor(shape=(1 << 62, 1 << 62)) + part(6, LOGITS),
    "wrong shape": lambda: tensor(shape=(3, 1)) + part(6, LOGITS),
    "text": lambda: tensor("BYTES") + part(6, b"\x01\0\0\0a" * 3),
    "integers": lambda: tensor("INT32") + part(6, LOGITS),
    "an unknown type": lambda: tensor("FP32\0\x1b[31m") + part(6, LOGITS),
    "not a number": lambda: tensor() + part(6, struct.pack("<3f", 1, float("nan"), 2)),
    "truncated": lambda: tensor() + part(6, LOGITS[:7]),
    "no contents": tensor,
    "empty": bytes,
}
DESCRIBED = part(1, b"z") + part(2, b"FP32") + part(3, number((1 << 64) - 1) + number(3))
METADATA = part(4, DESCRIBED) + part(5, DESCRIBED.replace(b"\x01z", b"\x06logits"))
METADATA_ATTACKS: dict[str, Callable[[], bytes]] = {
    "huge metadata": lambda: METADATA + part(9, bytes(MANY)),
    "metadata of many inputs": lambda: METADATA + part(4, b"") * 30_000,
    "metadata of noise": lambda: b"\xff" * 30_000,
}


def nested(depth: int) -> bytes:
    """Return messages within messages, of fields that the protocol lacks."""
    content = b""
    for _ in range(depth):
        content = part(9, content)
    return content


def hang(_: bytes, context: grpc.ServicerContext) -> bytes:
    """Wait until the client has gone."""
    gone = threading.Event()
    context.add_callback(gone.set)
    gone.wait()
    return b""


if __name__ == "__main__":
    name = sys.argv[1]
    metadata, attack = METADATA_ATTACKS.get(name, lambda: METADATA)(), ATTACKS.get(name, bytes)()
    methods = {
        "ModelMetadata": grpc.unary_unary_rpc_method_handler(lambda _, __: metadata),
        "ModelInfer": grpc.unary_unary_rpc_method_handler(hang if name == "no answer" else lambda _, __: attack),
    }
    server = grpc.server(ThreadPoolExecutor(32), options=[("grpc.max_send_message_length", -1)])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("inference.GRPCInferenceService", methods)])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()
