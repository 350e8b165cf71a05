"""The Open Inference Protocol v2 over gRPC: requests, the parsing of replies, and failures.

The server here uses the message classes that KServe publishes, not those of edgecascade.
"""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from edgecascade.runtime import (
    ArgumentError,
    Cascade,
    Deadline,
    InvalidReply,
    Reason,
    RemoteError,
    RemoteRefusal,
    RemoteUnreachable,
    UnsendableInput,
)
from edgecascade.runtime.remotes.open_inference_grpc import OpenInferenceGrpc, make_messages

X = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
LOGITS = np.array([[0, 0, 4], [1, 0, 0]], np.float32)


def published() -> Any:
    """Return the messages that KServe 0.21 publishes, from the description in its generated module."""
    pool = DescriptorPool()
    pool.AddSerializedFile((Path(__file__).parent / "data" / "grpc_predict_v2.binpb").read_bytes())
    file = pool.FindFileByName("grpc_predict_v2.proto")
    return SimpleNamespace(**{name: GetMessageClass(one) for name, one in file.message_types_by_name.items()})


PUBLISHED = published()
Answer = Callable[[Any, Any], Any]


def described(inputs: list[Any], outputs: list[Any]) -> Any:
    """Return a model's metadata from tuples of name, type and shape."""
    reply = PUBLISHED.ModelMetadataResponse(name="m")
    for tensors, to in ((inputs, reply.inputs), (outputs, reply.outputs)):
        for name, datatype, shape in tensors:
            to.add(name=name, datatype=datatype, shape=shape)
    return reply


def raw(*tensors: Any) -> Any:
    """Return a reply of tensors as raw bytes, from tuples of name, type and array."""
    reply = PUBLISHED.ModelInferResponse(model_name="m")
    for name, datatype, array in tensors:
        reply.outputs.add(name=name, datatype=datatype, shape=array.shape)
        reply.raw_output_contents.append(array.tobytes())
    return reply


def typed(datatype: str, field: str, array: Any) -> Any:
    """Return a reply of one tensor as protobuf's numbers."""
    reply = PUBLISHED.ModelInferResponse(model_name="m")
    output = reply.outputs.add(name="logits", datatype=datatype, shape=array.shape)
    getattr(output.contents, field).extend(array.ravel().tolist())
    return reply


USUAL = described([("z", "FP32", [-1, 3])], [("logits", "FP32", [-1, 3])])


class GrpcServer:
    """A server that describes a model, answers by a function of the request and its context, and records requests."""

    def __init__(self, answer: Any, metadata: Any = USUAL, port: int = 0, largest: int = -1) -> None:
        self.requests: list[Any] = []
        self.metadata: list[dict[str, str]] = []
        self.bytes = 0
        self._answer = answer

        def describe(request: bytes, context: Any) -> bytes:
            self._keep(PUBLISHED.ModelMetadataRequest.FromString(request), request, context)
            return bytes(metadata.SerializeToString())

        def infer(request: bytes, context: Any) -> bytes:
            self._keep(PUBLISHED.ModelInferRequest.FromString(request), request, context)
            reply = self._answer(self.requests[-1], context) if callable(self._answer) else self._answer
            return reply if isinstance(reply, bytes) else bytes(reply.SerializeToString())

        methods = {
            name: grpc.unary_unary_rpc_method_handler(f)
            for name, f in (("ModelMetadata", describe), ("ModelInfer", infer))
        }
        options = (("grpc.max_receive_message_length", largest), ("grpc.max_send_message_length", -1))
        self._server = grpc.server(ThreadPoolExecutor(8), options=options)
        handler = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", methods)
        self._server.add_generic_rpc_handlers([handler])
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._server.start()

    @property
    def address(self) -> str:
        """Return the address of model `m`."""
        return f"grpc://127.0.0.1:{self.port}/v2/models/m"

    def close(self) -> None:
        """Stop at once."""
        self._server.stop(None).wait()

    def _keep(self, message: Any, request: bytes, context: Any) -> None:
        self.requests.append(message)
        self.bytes += len(request)
        self.metadata.append(dict(context.invocation_metadata()))


@pytest.fixture
def start() -> Iterator[Callable[..., GrpcServer]]:
    """Start servers, and stop them afterwards."""
    started: list[GrpcServer] = []

    def start(*arguments: Any, **options: Any) -> GrpcServer:
        started.append(GrpcServer(*arguments, **options))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def connect() -> Iterator[Callable[..., OpenInferenceGrpc]]:
    """Make remotes, and close them afterwards."""
    made: list[OpenInferenceGrpc] = []

    def connect(server: Any, path: str = "", **options: Any) -> OpenInferenceGrpc:
        made.append(OpenInferenceGrpc(server.address + path, **options))
        return made[-1]

    yield connect
    for remote in made:
        remote.close()


def infer(remote: OpenInferenceGrpc, x: Any = X, seconds: float = 10) -> Any:
    """Call the remote with a long deadline."""
    return remote.infer(x, Deadline.after(seconds))


def refusing(code: Any, details: str, *trailing: tuple[str, str]) -> Answer:
    """Return a reply with an error status."""

    def refuse(_: Any, context: Any) -> Any:
        context.set_trailing_metadata(trailing)
        context.abort(code, details)

    return refuse


def test_our_messages_are_a_subset_of_the_published_ones() -> None:
    """Every field has the protocol's number, type and cardinality."""
    for name, message in make_messages().items():
        theirs = {
            "InferInputTensor": PUBLISHED.ModelInferRequest.InferInputTensor,
            "InferRequestedOutputTensor": PUBLISHED.ModelInferRequest.InferRequestedOutputTensor,
            "InferOutputTensor": PUBLISHED.ModelInferResponse.InferOutputTensor,
            "TensorMetadata": PUBLISHED.ModelMetadataResponse.TensorMetadata,
        }.get(name) or getattr(PUBLISHED, name)
        assert message.DESCRIPTOR.fields
        for field in message.DESCRIPTOR.fields:
            same = theirs.DESCRIPTOR.fields_by_name[field.name]
            assert (field.number, field.type, field.label) == (same.number, same.type, same.label)


def test_tensors_are_sent_as_bytes(start: Any, connect: Any) -> None:
    """The model's metadata is read once; then each request names input and output and holds the array's bytes."""
    server = start(raw(("logits", "FP32", LOGITS)))
    remote = connect(server, "/versions/3", headers={"Authorization": "Bearer secret"})
    for _ in range(2):
        np.testing.assert_array_equal(infer(remote), LOGITS)
    asked, first, second = server.requests
    assert (asked.name, asked.version) == ("m", "3")
    prefix = first.id.partition("-")[0]
    assert (first.id, second.id) == (f"{prefix}-00000000", f"{prefix}-00000001")
    second.id = first.id
    assert first == second
    assert (first.model_name, first.model_version) == ("m", "3")
    assert [(i.name, i.datatype, list(i.shape)) for i in first.inputs] == [("z", "FP32", [2, 3])]
    assert [o.name for o in first.outputs] == ["logits"]
    assert list(first.raw_input_contents) == [X.tobytes()]
    assert [given["authorization"] for given in server.metadata] == ["Bearer secret"] * 3


def test_every_byte_of_the_messages_is_counted(start: Any, connect: Any) -> None:
    """The counts equal the server's."""
    reply = raw(("logits", "FP32", LOGITS))
    server = start(reply)
    remote = connect(server)
    for _ in range(3):
        infer(remote)
    assert remote.traffic.requests == 4
    assert remote.traffic.sent == server.bytes
    assert remote.traffic.received == USUAL.ByteSize() + 3 * reply.ByteSize()


@pytest.mark.parametrize(
    ("datatype", "dtype", "field"),
    [
        ("FP16", "float16", None),
        ("FP32", "float32", "fp32_contents"),
        ("FP64", "float64", "fp64_contents"),
        ("INT8", "int8", "int_contents"),
        ("INT32", "int32", "int_contents"),
        ("INT64", "int64", "int64_contents"),
        ("UINT8", "uint8", "uint_contents"),
        ("UINT64", "uint64", "uint64_contents"),
    ],
)
def test_outputs_of_every_numeric_type_are_read(
    start: Any, connect: Any, datatype: str, dtype: str, field: str | None
) -> None:
    """Both bytes and protobuf's numbers are read."""
    rows = LOGITS.astype(dtype)
    for reply in (raw(("logits", datatype, rows)), *([typed(datatype, field, rows)] if field else [])):
        declared = described([("z", "FP32", [-1, 3])], [("logits", datatype, [-1, 3])])
        found = infer(connect(start(reply, declared)))
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, rows)


def test_the_logits_are_selected_by_their_shape(start: Any, connect: Any) -> None:
    """They may be at any position, even if one-dimensional outputs come as [n, 1]."""
    label, sure = np.array([[2], [0]]), np.array([[0.9], [0.8]], np.float32)
    outputs = [("label", "INT64", [-1, 1]), ("sure", "FP32", [-1, 1]), ("scores", "FP32", [-1, 3])]
    reply = raw(("label", "INT64", label), ("sure", "FP32", sure), ("scores", "FP32", LOGITS))
    for declared in (outputs, []):
        server = start(reply, described([("z", "FP32", [-1, 3])], declared))
        np.testing.assert_array_equal(infer(connect(server)), LOGITS)


def test_several_inputs_are_sent_by_name(start: Any, connect: Any) -> None:
    """Each has its own bytes, in the order of the names."""
    server = start(raw(("logits", "FP32", LOGITS)), described([("a", "FP32", [-1, 3]), ("b", "INT64", [-1])], []))
    b = np.array([7, 8])
    infer(connect(server), {"b": b, "a": X})
    assert [i.name for i in server.requests[-1].inputs] == ["b", "a"]
    assert list(server.requests[-1].raw_input_contents) == [b.tobytes(), X.tobytes()]
    with pytest.raises(RemoteError, match=r"expected a model with one input, got 2; name it with `input`"):
        infer(connect(server))


def test_files_and_text_are_sent_as_bytes(start: Any, connect: Any) -> None:
    """Each follows its length, as [n, 1] if the server declares that."""
    files = np.empty(2, object)
    files[:] = [b"\xff\x00", b""]
    for shape, sent in (([-1], [2]), ([-1, 1], [2, 1])):
        server = start(raw(("logits", "FP32", LOGITS)), described([("f", "BYTES", shape)], []))
        remote = connect(server, encoded=True)
        assert remote.encoded
        infer(remote, files)
        assert list(server.requests[-1].inputs[0].shape) == sent
        assert server.requests[-1].inputs[0].datatype == "BYTES"
        assert server.requests[-1].raw_input_contents[0] == b"\x02\0\0\0\xff\0\0\0\0\0"
        infer(remote, np.array(["é", "no"]))
        assert server.requests[-1].raw_input_contents[0] == b"\x02\0\0\0\xc3\xa9\x02\0\0\0no"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        pytest.param(b"\xff\xff\xff", "not a valid message of the protocol", id="no message"),
        pytest.param(raw(), "expected one output with logits", id="no outputs"),
        pytest.param(raw(("logits", "FP32", LOGITS.astype(np.float64))), "malformed", id="too many bytes"),
        pytest.param(raw(("logits", "BYTES", LOGITS)), "malformed", id="no numbers"),
        pytest.param(raw(("logits", "INT32", LOGITS)), "expected FP32 in 'logits', as the server declares", id="type"),
        pytest.param(
            typed("INT32", "int_contents", LOGITS.astype(int)), "as the server declares, got INT32", id="kind"
        ),
        pytest.param(typed("FP32", "fp64_contents", LOGITS), "malformed", id="numbers of another type"),
        pytest.param(
            PUBLISHED.ModelInferResponse(outputs=[{"name": "logits", "datatype": "FP32", "shape": [2, 3]}]),
            "malformed",
            id="no contents",
        ),
    ],
)
def test_an_invalid_reply_is_an_error(start: Any, connect: Any, reply: Any, said: str) -> None:
    """The RemoteError has one line and is not worth a retry."""
    with pytest.raises(RemoteError, match=said) as raised:
        infer(connect(start(reply)))
    assert not raised.value.retry
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("code", "kind", "retry"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, RemoteError, False),
        (grpc.StatusCode.UNAUTHENTICATED, RemoteError, False),
        (grpc.StatusCode.INTERNAL, RemoteError, False),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, RemoteError, True),
        (grpc.StatusCode.UNAVAILABLE, RemoteUnreachable, True),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_error_statuses_are_reported(start: Any, connect: Any, code: Any, kind: type[RemoteError], retry: bool) -> None:
    """Each error has one line and says whether a retry may help."""
    server = start(refusing(code, "the first line\n and the second"))
    with pytest.raises(RemoteError, match="the first line and the second") as raised:
        infer(connect(server))
    assert isinstance(raised.value, kind)
    assert raised.value.retry is retry


def test_a_requested_pause_is_reported(start: Any, connect: Any) -> None:
    """The server states it in milliseconds, as in gRPC's retry design."""
    busy = refusing(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", ("grpc-retry-pushback-ms", "1500"))
    with pytest.raises(RemoteError) as raised:
        infer(connect(start(busy)))
    assert raised.value.retry_after == 1.5


@pytest.mark.parametrize("slow", ["sending nothing", "thinking"])
def test_a_call_to_a_slow_server_ends_by_the_deadline(start: Any, serve: Any, slow: str) -> None:
    """The server either never replies or replies late."""
    done = threading.Event()
    if slow == "thinking":
        path = start(lambda *_: (done.wait(5), raw())[1]).address
    else:
        path = f"grpc://127.0.0.1:{serve(lambda _: done.wait(5)).port}/v2/models/m"
    remote = OpenInferenceGrpc(path)
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        infer(remote, seconds=0.3)
    assert time.monotonic() - begun < 2
    done.set()
    remote.close()


def test_a_deadline_that_has_passed_sends_nothing(start: Any, connect: Any) -> None:
    """Neither metadata nor an inference is requested."""
    server = start(raw(("logits", "FP32", LOGITS)))
    with pytest.raises(TimeoutError):
        infer(connect(server), seconds=0)
    assert server.requests == []


def test_an_address_without_a_server_is_unreachable() -> None:
    """The error is raised at once, with the system's reason."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    remote = OpenInferenceGrpc(f"grpc://127.0.0.1:{port}/v2/models/m")
    with pytest.raises(RemoteUnreachable, match=rf"cannot reach 127.0.0.1:{port}: .*refused") as raised:
        infer(remote)
    assert raised.value.retry
    remote.close()


def test_a_recovered_server_is_used_again(start: Any, connect: Any) -> None:
    """It takes seconds on the same channel; with gRPC's defaults it could take minutes."""
    server = start(raw(("logits", "FP32", LOGITS)))
    remote = connect(server)
    infer(remote)
    server.close()
    for _ in range(10):
        with pytest.raises(RemoteUnreachable):
            infer(remote)
        time.sleep(0.1)
    start(raw(("logits", "FP32", LOGITS)), port=server.port)
    end = time.monotonic() + 10
    while True:
        try:
            infer(remote)
            return
        except RemoteUnreachable:
            assert time.monotonic() < end
            time.sleep(0.1)


def test_messages_above_the_limit_are_refused(start: Any, connect: Any) -> None:
    """The limit is 64 MiB in both directions, and the error is not worth a retry."""
    large = np.zeros((17, 1 << 20), np.float32)
    with pytest.raises(RemoteError, match=r"larger than max") as raised:
        infer(connect(start(raw(("logits", "FP32", large)))), seconds=60)
    assert not raised.value.retry
    with pytest.raises(RemoteError, match=r"larger than max") as raised:
        infer(connect(start(raw(("logits", "FP32", LOGITS)))), large, seconds=60)
    assert not raised.value.retry
    np.testing.assert_array_equal(infer(connect(start(raw(("logits", "FP32", large[:15])))), seconds=60), large[:15])


def test_two_outputs_of_one_name_are_no_answer(start: Any, connect: Any) -> None:
    """One of them may be anything."""
    with pytest.raises(InvalidReply, match="two outputs of one name"):
        infer(connect(start(raw(("logits", "FP32", LOGITS), ("logits", "FP32", -LOGITS)))))


@pytest.mark.parametrize(
    "said",
    [
        None,  # gRPC's own server: by default it takes 4 MiB
        "Received message larger than max (4800058 vs. 4194304)",
        "grpc: received message larger than max (4800058 vs. 4194304)",
        "gRPC message exceeds maximum size 4194304: 4800058",
    ],
)
def test_a_request_that_is_too_large_for_the_server_is_refused(start: Any, connect: Any, said: str | None) -> None:
    """It blames the input, and not the reply, so that no circuit opens and an outbox drops it in the end."""

    def refuse(_: Any, context: Any) -> Any:
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, said)

    server = start(raw(("logits", "FP32", LOGITS)), largest=4 << 20) if said is None else start(refuse)
    with pytest.raises(RemoteRefusal) as raised:
        infer(connect(server), np.zeros((2, 600_000), np.float32))
    assert (raised.value.about_input, raised.value.retry) == (True, False)


def test_a_message_that_unpacks_to_more_than_an_answer_needs_is_refused(start: Any, connect: Any) -> None:
    """A server may compress messages; the bound holds for what they unpack to."""

    def packed(*rows: Any) -> Answer:
        def answer(_: Any, context: Any) -> Any:
            context.set_compression(grpc.Compression.Gzip)
            return raw(("logits", "FP32", LOGITS), *rows)

        return answer

    for rows, refused in (((), False), ((("more", "FP32", np.zeros((2, 1 << 20), np.float32)),), True)):
        remote = connect(start(packed(*rows)))
        remote.expect(["a", "b", "c"])
        if refused:
            with pytest.raises(InvalidReply, match="more than an answer can need"):
                infer(remote)
        else:
            np.testing.assert_array_equal(infer(remote), LOGITS)


def test_a_call_that_the_server_cancels_says_so(start: Any, connect: Any) -> None:
    """It is not taken for a channel that was closed here."""
    with pytest.raises(RemoteUnreachable, match="the call was cancelled: draining"):
        infer(connect(start(refusing(grpc.StatusCode.CANCELLED, "draining"))))


def test_many_threads_share_one_remote(start: Any, connect: Any) -> None:
    """Each gets its own answer, and every call is counted."""

    def echo(request: Any, _: Any) -> Any:
        x = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(-1, 3)
        return raw(("logits", "FP32", x))

    remote = connect(start(echo))
    inputs = [np.full((1, 3), i, np.float32) for i in range(200)]
    with ThreadPoolExecutor(8) as threads:
        for x, found in zip(inputs, threads.map(lambda x: infer(remote, x, 30), inputs), strict=True):
            np.testing.assert_array_equal(found, x)
    assert 201 <= remote.traffic.requests <= 208  # up to eight threads ask for the metadata


def test_a_reply_to_another_request_is_refused(start: Any, connect: Any) -> None:
    """A server may send no id, or a UUID of its own until it sends one back, as over REST."""
    its_own = "2f1e3c5a-0b7d-4c1e-9a58-6d1b2f3a4c5e"
    ids = iter([its_own, "", "another's", "0123456789ab-00000001", "same", its_own, ""])

    def answer(request: Any, _: Any) -> Any:
        reply, id = raw(("logits", "FP32", LOGITS)), next(ids)
        reply.id = request.id if id == "same" else id
        return reply

    remote = connect(start(answer))
    for wrong in (False, False, True, True, False, True, False):
        if wrong:
            with pytest.raises(InvalidReply, match="got the reply to another one"):
                infer(remote)
        else:
            np.testing.assert_array_equal(infer(remote), LOGITS)


def test_closing_ends_calls_in_progress(start: Any, connect: Any) -> None:
    """They fail before the deadline; the next call connects anew."""
    asked, done = threading.Event(), threading.Event()

    def thinking(*_: Any) -> Any:
        asked.set()
        done.wait(10)
        return raw(("logits", "FP32", LOGITS))

    remote = connect(start(thinking))
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(infer, remote)
        assert asked.wait(10)
        remote.close()
        with pytest.raises(RemoteUnreachable, match="closed"):
            waiting.result(5)
    done.set()
    np.testing.assert_array_equal(infer(remote), LOGITS)


def test_a_cascade_accepts_the_address_as_remote(file: Path, start: Any) -> None:
    """A `grpc://` address suffices."""
    server = start(raw(("logits", "FP32", LOGITS[:1])))
    with Cascade.load(file, remote=server.address, deadline=10) as cascade:
        answer = cascade.predict(np.array([0, 0.5, 0], np.float32))
    assert (answer.name, answer.reason) == ("blue", Reason.OFFLOADED)


@pytest.mark.parametrize(
    "address", ["grpc://h:8001/v2/models/m", "grpcs://h/v2/models/m/versions/3", "grpc://[::1]:80/v2/models/m/"]
)
def test_valid_addresses_are_parsed(address: str) -> None:
    """The port and version are optional, and the host may be in brackets."""
    OpenInferenceGrpc(address).close()


@pytest.mark.parametrize(
    "address", ["grpc://h:8001", "grpc://h:8001/v2/models/", "http://h/v2/models/m", "grpc://h:port/v2/models/m"]
)
def test_invalid_addresses_are_refused(address: str) -> None:
    """The error shows the expected form."""
    with pytest.raises(ArgumentError, match=r"^remote: expected grpc\[s\]://host\[:port\]/v2/models/NAME, got"):
        OpenInferenceGrpc(address)


def test_a_path_before_the_model_is_refused() -> None:
    """Such a prefix is not supported over gRPC."""
    with pytest.raises(ArgumentError, match=r"a path before /v2/models"):
        OpenInferenceGrpc("grpc://h/prefix/v2/models/m")


def test_without_the_extra_the_missing_module_is_named(file: Path) -> None:
    """The error is raised when the cascade is loaded, not at the first forward."""
    code = (
        "import sys\n"
        "sys.modules['grpc'] = None\n"
        "from edgecascade.runtime import Cascade\n"
        "try:\n"
        "    Cascade.load(sys.argv[1], remote='grpc://127.0.0.1:9/v2/models/m')\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error)"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    assert "grpc" in ran.stdout


# --- what the server declares, and what it replies


@pytest.mark.parametrize(("datatype", "dtype"), [("FP16", "float16"), ("FP64", "float64"), ("INT64", "int64")])
def test_inputs_are_sent_in_the_declared_type(start: Any, connect: Any, datatype: str, dtype: str) -> None:
    """The values stay the same; those that the type cannot hold are refused."""
    server = start(raw(("logits", "FP32", LOGITS)), described([("z", datatype, [-1, 3])], []))
    infer(connect(server))
    assert server.requests[-1].inputs[0].datatype == datatype
    assert server.requests[-1].raw_input_contents[0] == X.astype(dtype).tobytes()
    if datatype == "INT64":
        with pytest.raises(UnsendableInput, match=r"'z' is INT64, which cannot hold 1.5 of float32"):
            infer(connect(server), X + 0.5)


def test_an_input_that_is_not_declared_can_be_named(start: Any, connect: Any) -> None:
    """A server need not describe the model then."""
    server = start(raw(("logits", "FP32", LOGITS)), described([], []))
    np.testing.assert_array_equal(infer(connect(server, input="z")), LOGITS)
    with pytest.raises(UnsendableInput, match="expected a model with one input, got 0"):
        infer(connect(server))


def test_a_signature_that_a_reply_contradicts_is_asked_again(start: Any, connect: Any) -> None:
    """The request is repeated with the new one."""
    metadata = described([("wrong", "FP32", [-1, 3])], [])

    def answer(request: Any, context: Any) -> Any:
        if request.inputs[0].name != "z":
            metadata.CopyFrom(USUAL)
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such input")
        return raw(("logits", "FP32", LOGITS))

    remote = connect(start(answer, metadata))
    for _ in range(2):
        np.testing.assert_array_equal(infer(remote), LOGITS)


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"model_name": "other"}, "expected a reply from the model 'm', got one from 'other'"),
        ({"model_version": "2"}, "expected a reply from version '3', got one from '2'"),
    ],
)
def test_a_reply_from_another_model_is_refused(start: Any, connect: Any, about: dict[str, str], said: str) -> None:
    """So is one from another version, if the address names one."""
    reply = raw(("logits", "FP32", LOGITS))
    for name, value in about.items():
        setattr(reply, name, value)
    with pytest.raises(InvalidReply, match=said):
        infer(connect(start(reply), "/versions/3"))


def test_messages_are_bounded_by_what_the_scores_can_need(start: Any, connect: Any) -> None:
    """Numbers of any type and an embedding beside them fit; larger messages, and those of countless parts, do not."""
    fitting = raw(("logits", "FP64", LOGITS.astype(np.float64)), ("embedding", "FP64", np.zeros((2, 4096))))
    for reply, said in (
        (fitting, None),
        (raw(("logits", "FP32", np.zeros((2, 200_000), np.float32))), "larger than .* bytes, more than an answer"),
        (raw(("logits", "FP32", np.zeros((2, 3_000_000), np.float32))), "more than an answer can need"),
        (b"\x2a\x00" * 1000, "not a valid message"),
        (raw(("logits", "FP32", np.zeros((1,) * 20, np.float32))), "too many sides"),
    ):
        remote = connect(start(reply))
        remote.expect(["0", "1", "2"])
        if said:
            with pytest.raises(InvalidReply, match=said):
                infer(remote)
        else:
            np.testing.assert_array_equal(infer(remote), LOGITS)


def test_a_query_is_refused() -> None:
    """GRPC has none; its text, which may be secret, is not shown."""
    with pytest.raises(ArgumentError, match=r"without a query for gRPC, got 'grpc://h/v2/models/m'$"):
        OpenInferenceGrpc("grpc://h/v2/models/m?key=s3cret")
