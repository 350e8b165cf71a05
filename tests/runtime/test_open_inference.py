"""The Open Inference Protocol v2 over REST: requests and the parsing of replies."""

import base64
import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.runtime import ArgumentError, Deadline, OpenInference, RemoteError

X = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
LOGITS = np.array([[0, 0, 4], [1, 0, 0]], np.float64)


@pytest.fixture
def connect() -> Iterator[Callable[..., OpenInference]]:
    """Make remotes, and close them afterwards."""
    made: list[OpenInference] = []

    def connect(server: Any, **options: Any) -> OpenInference:
        made.append(OpenInference(server.address, **options))
        return made[-1]

    yield connect
    for remote in made:
        remote.close()


def infer(remote: OpenInference, x: NDArray[Any] = X) -> NDArray[Any]:
    """Call the remote with a long deadline."""
    return remote.infer(x, Deadline.after(5))


def binary(rows: NDArray[Any], datatype: str, name: str = "logits") -> tuple[bytes, int]:
    """Return the body of a binary response, and the length of its JSON part."""
    raw = rows.tobytes()
    output = {"name": name, "datatype": datatype, "shape": list(rows.shape)}
    head = json.dumps({"outputs": [{**output, "parameters": {"binary_data_size": len(raw)}}]}).encode()
    return head + raw, len(head)


def test_tensors_are_sent_as_bytes(connect: Any, serve: Any, recording: Any, respond: Any) -> None:
    """The model's metadata is read once; then each request is a JSON header and the bytes of the array."""
    record, requests = recording
    server = serve(record(respond(LOGITS)))
    remote = connect(server, headers={"Authorization": "Bearer secret"})
    for _ in range(2):
        np.testing.assert_array_equal(infer(remote), LOGITS)
    assert [first for first, *_ in requests] == [
        "GET /v2/models/m HTTP/1.1",
        "POST /v2/models/m/infer HTTP/1.1",
        "POST /v2/models/m/infer HTTP/1.1",
    ]
    assert all(headers["authorization"] == "Bearer secret" for _, headers, _ in requests)
    _, headers, body = requests[1]
    length = int(headers["inference-header-content-length"])
    assert headers["content-type"] == "application/octet-stream"
    assert body[length:] == X.tobytes()
    assert json.loads(body[:length]) == {
        "inputs": [
            {"name": "z", "shape": [2, 3], "datatype": "FP32", "parameters": {"binary_data_size": X.nbytes}},
        ],
        "outputs": [{"name": "logits", "parameters": {"binary_data": True}}],
    }
    assert remote.traffic.requests == 3


def test_a_transient_error_leaves_binary_support_unknown(
    connect: Any, serve: Any, answering: Any, respond: Any
) -> None:
    """The next request tests whether the server accepts binary tensors."""
    answers = iter([respond({"error": "out of memory"}, "500 Oops"), *[respond(LOGITS)] * 2])
    remote = connect(serve(answering(lambda connection: connection.sendall(next(answers)))))
    np.testing.assert_array_equal(infer(remote), LOGITS)
    assert remote._binary is None
    np.testing.assert_array_equal(infer(remote), LOGITS)
    assert remote._binary is True


@pytest.mark.parametrize("status", ["400 Bad Request", "415 Unsupported Media Type", "422 Unprocessable", "500 Oops"])
def test_a_server_without_the_binary_extension_gets_json(
    connect: Any, serve: Any, recording: Any, respond: Any, status: str
) -> None:
    """Binary is tried once; afterwards every request is JSON."""
    record, requests = recording
    behave = record(respond(LOGITS))

    def only_json(connection: Any) -> None:
        send = connection.sendall

        class Picky:
            def recv(self, size: int) -> bytes:
                return bytes(connection.recv(size))

            def sendall(self, data: bytes) -> None:
                refused = "inference-header-content-length" in requests[-1][1]
                send(respond({"error": "failed to parse this"}, status) if refused else data)

        behave(Picky())

    remote = connect(serve(only_json))
    for _ in range(3):
        np.testing.assert_array_equal(infer(remote), LOGITS)
    posts = [(headers, body) for first, headers, body in requests if first.startswith("POST")]
    assert ["inference-header-content-length" in headers for headers, _ in posts] == [True, False, False, False]
    assert posts[1][0]["content-type"] == "application/json"
    assert json.loads(posts[1][1])["inputs"] == [
        {"name": "z", "shape": [2, 3], "datatype": "FP32", "data": X.ravel().tolist()}
    ]


@pytest.mark.parametrize(
    ("datatype", "dtype"), [("FP16", "float16"), ("FP32", "float32"), ("FP64", "float64"), ("INT64", "int64")]
)
def test_outputs_of_every_numeric_type_are_read(
    connect: Any, serve: Any, answering: Any, respond: Any, datatype: str, dtype: str
) -> None:
    """Both bytes and JSON are read."""
    rows = LOGITS.astype(dtype)
    body, head = binary(rows, datatype)
    as_json = {"outputs": [{"name": "logits", "datatype": datatype, "shape": [2, 3], "data": rows.ravel().tolist()}]}
    for response in (respond(body, Inference_Header_Content_Length=head), respond(as_json)):
        found = infer(connect(serve(answering(response))))
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, rows)


def test_several_binary_outputs_are_separated(connect: Any, serve: Any, answering: Any, respond: Any) -> None:
    """Their bytes follow in the order of the JSON part."""
    label, logits = np.array([2, 0]), LOGITS.astype(np.float32)
    outputs = [
        {"name": "label", "datatype": "INT64", "shape": [2], "parameters": {"binary_data_size": label.nbytes}},
        {"name": "logits", "datatype": "FP32", "shape": [2, 3], "parameters": {"binary_data_size": logits.nbytes}},
    ]
    head = json.dumps({"outputs": outputs}).encode()
    response = respond(head + label.tobytes() + logits.tobytes(), Inference_Header_Content_Length=len(head))
    np.testing.assert_array_equal(infer(connect(serve(answering(response)))), logits)


def described(respond: Any, inputs: list[str], outputs: list[dict[str, Any]], answer: bytes) -> Callable[[Any], None]:
    """Return a server with this metadata."""
    metadata = respond({"inputs": [{"name": name} for name in inputs], "outputs": outputs})

    def behave(connection: Any) -> None:
        while data := connection.recv(65536):
            connection.sendall(metadata if data.startswith(b"GET") else answer)

    return behave


def test_the_output_with_logits_is_selected(connect: Any, serve: Any, respond: Any) -> None:
    """It is the only two-dimensional floating output or the one that the user names; otherwise an error is raised."""
    table = {"name": "scores", "datatype": "FP32", "shape": [-1, 3]}
    label = {"name": "label", "datatype": "INT64", "shape": [-1]}
    other = {"name": "embedding", "datatype": "FP32", "shape": [-1, 8]}
    answer = respond({"outputs": [{"name": "scores", "datatype": "FP32", "shape": [2, 3], "data": [0.0] * 6}]})
    assert infer(connect(serve(described(respond, ["z"], [label, table], answer)))).shape == (2, 3)
    server = serve(described(respond, ["z"], [table, other], answer))
    assert infer(connect(server, output="scores")).shape == (2, 3)
    both = respond(
        {"outputs": [{**o, "shape": [2, 3], "data": [0.0] * 6} for o in (table, {**other, "name": "embedding"})]}
    )
    with pytest.raises(RemoteError, match=r"expected one output with logits, got .*name it with `output`"):
        infer(connect(serve(described(respond, ["z"], [table, other], both))))


def test_a_server_without_declared_outputs_is_read(connect: Any, serve: Any, respond: Any) -> None:
    """The response declares the outputs."""
    assert infer(connect(serve(described(respond, ["z"], [], respond(LOGITS))))).shape == (2, 3)


def test_with_several_inputs_the_user_names_one(connect: Any, serve: Any, respond: Any) -> None:
    """Otherwise an error is raised."""
    server = serve(described(respond, ["a", "b"], [], respond(LOGITS)))
    assert infer(connect(server, input="b")).shape == (2, 3)
    with pytest.raises(RemoteError, match=r"expected a model with one input, got 2; name it with `input`"):
        infer(connect(server))


def test_outputs_of_one_dimension_are_not_logits(connect: Any, serve: Any, respond: Any) -> None:
    """Some servers declare and send them as [n, 1]; text outputs are ignored too."""
    sure = {"name": "sure", "datatype": "FP32", "shape": [-1, 1]}
    word = {"name": "word", "datatype": "BYTES", "shape": [-1]}
    table = {"name": "scores", "datatype": "FP32", "shape": [-1, 3]}
    values: list[list[Any]] = [[0.9, 0.8], ["blue", "red"], LOGITS.ravel().tolist()]
    shapes = ([2, 1], [2], [2, 3])
    outputs = [
        {**one, "shape": shape, "data": data}
        for one, shape, data in zip((sure, word, table), shapes, values, strict=True)
    ]
    for declared in ([sure, word, table], []):
        server = serve(described(respond, ["z"], declared, respond({"outputs": outputs})))
        np.testing.assert_array_equal(infer(connect(server)), LOGITS)


@pytest.mark.parametrize("shape", [[2, 1, 3], [2, 3, 1], [2, 1, 1, 3]])
def test_added_dimensions_of_one_are_removed(
    connect: Any, serve: Any, answering: Any, respond: Any, shape: list[int]
) -> None:
    """Some servers add them."""
    output = {"name": "logits", "datatype": "FP64", "shape": shape, "data": LOGITS.ravel().tolist()}
    np.testing.assert_array_equal(infer(connect(serve(answering(respond({"outputs": [output]}))))), LOGITS)


def test_arrays_of_every_layout_are_sent_alike(connect: Any, serve: Any, recording: Any, respond: Any) -> None:
    """The protocol uses C order and little-endian."""
    record, requests = recording
    remote = connect(serve(record(respond(LOGITS))))
    for x in (X, np.asfortranarray(X), X.astype(">f4"), np.repeat(X, 2, axis=1)[:, ::2]):
        infer(remote, x)
        _, headers, body = requests[-1]
        head = int(headers["inference-header-content-length"])
        assert json.loads(body[:head])["inputs"][0]["datatype"] == "FP32"
        assert body[head:] == X.tobytes()


FILES = np.empty(2, object)
FILES[:] = [b"\xff\x00", b"a"]


@pytest.mark.parametrize(("declared", "sent"), [([-1], [2]), ([-1, 1], [2, 1])])
def test_files_are_sent_unchanged(connect: Any, serve: Any, respond: Any, declared: list[int], sent: list[int]) -> None:
    """They are BYTES, each after its length, in the declared shape; in JSON they are declared as base64."""
    seen: list[bytes] = []
    metadata = respond({"inputs": [{"name": "f", "datatype": "BYTES", "shape": declared}]})

    def behave(connection: Any) -> None:
        while data := connection.recv(65536):
            seen.append(data)
            connection.sendall(metadata if data.startswith(b"GET") else respond(LOGITS))

    remote = connect(serve(behave), encoded=True)
    assert remote.encoded
    infer(remote, FILES)
    assert seen[-1].endswith(b"}\x02\0\0\0\xff\0\x01\0\0\0a")
    remote._binary = False
    infer(remote, FILES)
    (described,) = json.loads(seen[-1].partition(b"\r\n\r\n")[2])["inputs"]
    assert (described["datatype"], described["shape"]) == ("BYTES", sent)
    assert described["parameters"] == {"content_type": "base64"}
    assert [base64.b64decode(one) for one in described["data"]] == FILES.tolist()


def test_objects_other_than_bytes_and_text_are_refused(connect: Any, serve: Any, answering: Any, respond: Any) -> None:
    """The error has one line."""
    with pytest.raises(RemoteError, match="expected bytes or text in an array of objects, got int"):
        infer(connect(serve(answering(respond(LOGITS)))), np.array([1, 2], object))


ZEROS = np.zeros((2, 1000), np.float32)
NOISE = np.random.default_rng(0).integers(0, 2**32, (2, 1000), np.uint32)


def test_compressible_requests_are_compressed(connect: Any, serve: Any, recording: Any, respond: Any) -> None:
    """This is done only if enabled, above 1 KiB and if the body shrinks; lengths are those before compression."""
    record, requests = recording
    server = serve(record(respond(LOGITS)))
    remote, plain = connect(server, compress=True), connect(server)
    for one, x, coded in ((remote, ZEROS, True), (remote, X, False), (plain, ZEROS, False), (remote, NOISE, False)):
        infer(one, x)
        _, headers, body = requests[-1]
        assert (headers.get("content-encoding") == "gzip") is coded
        content = gzip.decompress(body) if coded else body
        assert content[int(headers["inference-header-content-length"]) :] == x.tobytes()


@pytest.mark.parametrize("status", ["400 Bad Request", "415 Unsupported Media Type", "500 Oops"])
def test_a_server_without_gzip_gets_uncompressed_requests(connect: Any, serve: Any, respond: Any, status: str) -> None:
    """Gzip is tried once; binary support is still detected."""
    seen: list[bytes] = []
    metadata = respond({"inputs": [{"name": "z"}]})

    def behave(connection: Any) -> None:
        data = b""
        while received := connection.recv(65536):
            data += received
            head, _, body = data.partition(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
            if len(body) < int(length or 0):
                continue
            seen.append(head.lower())
            coded = b"content-encoding: gzip" in seen[-1]
            connection.sendall(
                metadata if data.startswith(b"GET") else respond({}, status) if coded else respond(LOGITS)
            )
            data = b""

    remote = connect(serve(behave), compress=True)
    for _ in range(3):
        np.testing.assert_array_equal(infer(remote, ZEROS), LOGITS)
    assert [b"content-encoding: gzip" in head for head in seen] == [False, True, False, False, False]
    assert all(b"inference-header-content-length" in head for head in seen[1:])


def test_an_invalid_input_does_not_disable_compression(connect: Any, serve: Any, recording: Any, respond: Any) -> None:
    """A server that has accepted gzip before refuses for another reason."""
    record, requests = recording
    refusals = iter([False, True, False])
    behave = record(respond(LOGITS))

    def picky(connection: Any) -> None:
        class Picky:
            def recv(self, size: int) -> bytes:
                return bytes(connection.recv(size))

            def sendall(self, data: bytes) -> None:
                refused = requests[-1][0].startswith("POST") and next(refusals)
                connection.sendall(respond({"error": "bad input"}, "400 Bad Request") if refused else data)

        behave(Picky())

    remote = connect(serve(picky), compress=True)
    infer(remote, ZEROS)
    with pytest.raises(RemoteError, match="bad input"):
        infer(remote, ZEROS)
    infer(remote, ZEROS)
    assert [headers.get("content-encoding") for _, headers, _ in requests] == [None, "gzip", "gzip", "gzip"]


def test_compressed_binary_responses_are_read(connect: Any, serve: Any, answering: Any, respond: Any) -> None:
    """The length of the JSON part is that before compression."""
    body, head = binary(LOGITS, "FP64")
    response = respond(gzip.compress(body), Content_Encoding="gzip", Inference_Header_Content_Length=head)
    np.testing.assert_array_equal(infer(connect(serve(answering(response)))), LOGITS)


def test_only_the_last_line_of_a_traceback_is_quoted(connect: Any, serve: Any, answering: Any, respond: Any) -> None:
    """MLServer sends one as its explanation."""
    said = b'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: no such shape\n'
    with pytest.raises(RemoteError, match=r"HTTP 500: ValueError: no such shape$"):
        infer(connect(serve(answering(respond(said, "500 Internal Server Error")))))


def test_arrays_outside_the_protocol_are_refused() -> None:
    """Nothing is sent."""
    with pytest.raises(RemoteError, match=r"got an array of complex128"):
        infer(OpenInference("http://127.0.0.1:9/v2/models/m"), X.astype(complex))


@pytest.mark.parametrize(
    "address", ["http://h/v2/models/m", "https://h:8443/a/b/v2/models/m/versions/3", "http://[::1]:80/v2/models/m/"]
)
def test_valid_addresses_are_parsed(address: str) -> None:
    """They may have a port, a prefix, a version, or brackets."""
    OpenInference(address).close()


@pytest.mark.parametrize(
    "address",
    [
        *("h:8000", "http://h", "http://h/v2/models/", "http://h/v2/models/m/infer", "ws://h/v2/models/m"),
        *("http://h:port/v2/models/m", "http://h:99999/v2/models/m", "http://[::1/v2/models/m"),
    ],
)
def test_invalid_addresses_are_refused(address: str) -> None:
    """The error shows the expected form."""
    with pytest.raises(ArgumentError, match=r"^remote: expected http\[s\]://host\[:port\]/v2/models/NAME"):
        OpenInference(address)


@pytest.mark.parametrize(("name", "quoted"), [("my model", "my%20model"), ("grün", "gr%C3%BCn"), ("a%2Fb", "a%2Fb")])
def test_names_are_percent_encoded_in_paths(serve: Any, recording: Any, respond: Any, name: str, quoted: str) -> None:
    """They are encoded once."""
    record, requests = recording
    remote = OpenInference(serve(record(respond(LOGITS))).address.removesuffix("m") + name)
    infer(remote)
    assert [first.split()[1] for first, *_ in requests] == [f"/v2/models/{quoted}", f"/v2/models/{quoted}/infer"]
    remote.close()
