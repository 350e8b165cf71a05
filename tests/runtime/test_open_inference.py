"""The Open Inference Protocol v2 over REST: requests and the parsing of replies."""

import base64
import gzip
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.runtime import (
    ArgumentError,
    Cascade,
    Deadline,
    InvalidReply,
    OpenInference,
    RemoteError,
    RemoteRefusal,
    UnsendableInput,
)
from edgecascade.runtime.bounded_json import Pace
from edgecascade.runtime.remotes.open_inference import json_request
from edgecascade.runtime.remotes.remote import connect as connect_to
from edgecascade.runtime.remotes.tensors import NUMPY, Tensor, contents

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
    return np.asarray(remote.infer(x, Deadline.after(5)))


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
    request = json.loads(body[:length])
    assert re.fullmatch(r"[0-9a-f]{12}-0{8}", request.pop("id"))
    assert request == {
        "inputs": [
            {"name": "z", "shape": [2, 3], "datatype": "FP32", "parameters": {"binary_data_size": X.nbytes}},
        ],
        "outputs": [{"name": "logits", "parameters": {"binary_data": True}}],
    }
    assert remote.traffic.requests == 3


def test_a_cascade_sends_headers_to_an_address(file: Path, serve: Any, recording: Any, respond: Any) -> None:
    """Where the remote is no address, they are refused."""
    record, requests = recording
    headers = {"Authorization": "Bearer secret"}
    server = serve(record(respond(LOGITS[:1])))
    with Cascade.load(file, remote=server.address, headers=headers, deadline=10, threshold=2.0) as cascade:
        cascade.predict(np.zeros(3, np.float32))
        assert "secret" not in repr(cascade)
    assert requests
    assert all(headers["authorization"] == "Bearer secret" for _, headers, _ in requests)
    others: tuple[Any, ...] = (None, file, len)
    for remote in others:
        with pytest.raises(ArgumentError, match="headers: expected with an address as remote, got"):
            Cascade.load(file, remote=remote, headers=headers)
    wrong: tuple[Any, ...] = ("Authorization: Bearer secret", [("A", "b")], {"A": "b\n"}, {"A": 5}, {1: "b"})
    for given in wrong:
        with pytest.raises(ArgumentError, match=r"^headers: expected a mapping"):
            Cascade.load(file, remote=server.address, headers=given)


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


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ({"properties": {"labels": '["a", "b", "c"]'}}, ("a", "b", "c")),
        ({"parameters": {"class_names": ["a", "b", "c"]}}, ("a", "b", "c")),
        ({"outputs": [{"name": "logits", "parameters": {"labels": {"0": "a", "1": "b", "2": "c"}}}]}, ("a", "b", "c")),
        ({"properties": ["a"], "parameters": {"labels": 3}}, ()),
        ({}, ()),
    ],
)
def test_class_names_come_from_the_metadata(
    connect: Any, serve: Any, respond: Any, said: dict[str, Any], names: tuple[str, ...]
) -> None:
    """They are known once the server has described the model; other metadata has none."""
    metadata = respond({"inputs": [{"name": "z"}], **said})

    def behave(connection: Any) -> None:
        while data := connection.recv(65536):
            connection.sendall(metadata if data.startswith(b"GET") else respond(LOGITS))

    remote = connect(serve(behave))
    assert remote.class_names == ()
    np.testing.assert_array_equal(infer(remote), LOGITS)
    assert remote.class_names == names


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
    connect: Any, serve: Any, respond: Any, datatype: str, dtype: str
) -> None:
    """Both bytes and JSON are read."""
    rows = LOGITS.astype(dtype)
    body, head = binary(rows, datatype)
    for response in (respond(body, Inference_Header_Content_Length=head), respond(tensor(datatype, rows.tolist()))):
        found = infer(connect(serve(declaring(respond, datatype, response))))
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, rows)


def tensor(datatype: str, data: Any) -> dict[str, Any]:
    """Return a reply of one tensor [2, 3] as JSON."""
    return {"outputs": [{"name": "logits", "datatype": datatype, "shape": [2, 3], "data": data}]}


def declaring(respond: Any, datatype: str, response: bytes) -> Callable[[Any], None]:
    """Return a server that declares the type of its output, and sends this response."""
    metadata = respond({"inputs": [{"name": "z"}], "outputs": [{"name": "logits", "datatype": datatype}]})

    def behave(connection: Any) -> None:
        while data := connection.recv(65536):
            connection.sendall(metadata if data.startswith(b"GET") else response)

    return behave


@pytest.mark.parametrize(
    ("declared", "datatype", "data", "said"),
    [
        ("FP32", "FP32", [0, 0, 4, True, 0, 0], "its `data` are FP32, and hold booleans"),
        ("FP32", "FP32", [[0, 0, "4"], ["0.3", 0, False]], "its `data` are FP32, and hold booleans and text"),
        ("FP32", "FP32", [0, 0, 4, 1, 0, {}], "its `data` are FP32, and hold objects"),
        ("INT32", "INT32", [0, 0, 4, 0.3, 0, 0], "its `data` are INT32, and hold fractions"),
        ("INT32", "INT32", [0, 0, 4, None, 0, 0], "its `data` are INT32, and hold null"),
        ("INT8", "INT8", [0, 0, 400, 1, 0, 0], "its `data` are not INT8"),
        ("BOOL", "BOOL", [0, 0, 1, 1, 0, 0], "its `data` are BOOL, and hold numbers"),
        ("FP32", "INT32", [0, 0, 4, 1, 0, 0], "expected FP32 in 'logits', as the server declares, got INT32"),
        ("INT32", "FP32", [0, 0, 4, 1, 0, 0], "expected INT32 in 'logits', as the server declares, got FP32"),
        ("FP32", "BOOL", [True] * 6, "expected FP32 in 'logits', as the server declares, got BOOL"),
        ("FP32", "BYTES", ["0", "0", "4", "1", "0", "0"], "it has the type 'BYTES', and not numbers"),
    ],
)
def test_data_of_another_type_than_declared_are_refused(
    connect: Any, serve: Any, respond: Any, declared: str, datatype: str, data: Any, said: str
) -> None:
    """The type may be declared in the reply itself, or before."""
    with pytest.raises(InvalidReply, match=said) as refused:
        infer(connect(serve(declaring(respond, declared, respond(tensor(datatype, data))))))
    assert "\n" not in str(refused.value)


def test_a_type_of_another_width_than_declared_is_read(connect: Any, serve: Any, respond: Any) -> None:
    """Some servers do not check what a user declares; whole numbers in JSON may be written as 4.0, and NaN as null."""
    data = [0, 0.0, 4, 1.0, 0, 0]
    found = infer(connect(serve(declaring(respond, "FP32", respond(tensor("FP64", data))))))
    np.testing.assert_array_equal(found, LOGITS)
    found = infer(connect(serve(declaring(respond, "INT64", respond(tensor("INT32", data))))))
    np.testing.assert_array_equal(found, LOGITS)
    found = infer(connect(serve(declaring(respond, "FP32", respond(tensor("FP32", [None, 1e300, *data[2:]]))))))
    np.testing.assert_array_equal(found[0], [np.nan, np.inf, 4])


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


@pytest.mark.parametrize(
    ("names", "sizes", "extra", "said"),
    [
        (("label", "logits", "label"), (16, 24, 8), 0, "two outputs of one name"),
        (("logits", "logits"), (24, 24), 0, "two outputs of one name"),
        (("label", "logits"), (8, 24), 8, "32 bytes, and 40 came"),
        (("label", "logits"), (16, 24), -8, "40 bytes, and 32 came"),
        (("label", "logits"), (-8, 24), 8, "not a number of bytes"),
        (("label", "logits"), (True, 24), 0, "not a number of bytes"),
    ],
)
def test_binary_outputs_whose_places_are_unclear_are_no_answer(
    connect: Any, serve: Any, answering: Any, respond: Any, names: Any, sizes: Any, extra: int, said: str
) -> None:
    """The bytes of another output may pass as scores."""
    outputs = [
        {"name": name, "datatype": "FP32", "shape": [2, 3], "parameters": {"binary_data_size": size}}
        for name, size in zip(names, sizes, strict=True)
    ]
    head = json.dumps({"outputs": outputs}).encode()
    response = respond(head + bytes(sum(sizes) + extra), Inference_Header_Content_Length=len(head))
    with pytest.raises(InvalidReply, match=said):
        infer(connect(serve(answering(response))))


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
    with pytest.raises(UnsendableInput, match="expected bytes or text in an array of objects, got int"):
        contents(np.array([1, 2], object))
    with pytest.raises(UnsendableInput, match="its input 'z' is FP32, which an array of object cannot become"):
        infer(connect(serve(answering(respond(LOGITS)))), np.array([1, 2], object))


ZEROS = np.zeros((2, 1000), np.float32)
NOISE = np.random.default_rng(0).integers(0, 2**32, (2, 1000), np.uint32).view(np.float32)


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
    sent = [headers.get("content-encoding") for first, headers, _ in requests if first.startswith("POST")]
    assert sent == ["gzip", "gzip", "gzip"]


def test_compressed_binary_responses_are_read(connect: Any, serve: Any, answering: Any, respond: Any) -> None:
    """Only `compress` allows them. The length of the JSON part is that before compression."""
    body, head = binary(LOGITS, "FP64")
    response = respond(gzip.compress(body), Content_Encoding="gzip", Inference_Header_Content_Length=head)
    np.testing.assert_array_equal(infer(connect(serve(answering(response)), compress=True)), LOGITS)
    with pytest.raises(RemoteError, match=r"compressed \('gzip'\), which the request did not ask for"):
        infer(connect(serve(answering(response))))


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
        *(
            "http://h:port/v2/models/m",
            "http://h:99999/v2/models/m",
            "http://h:0/v2/models/m",
            "http://[::1/v2/models/m",
        ),
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
    output = {"name": "logits", "datatype": "FP32", "shape": [2, 3], "data": LOGITS.ravel().tolist()}
    reply = respond({"model_name": unquote(name), "outputs": [output]})
    remote = OpenInference(serve(record(reply)).address.removesuffix("m") + name)
    infer(remote)
    assert [first.split()[1] for first, *_ in requests] == [f"/v2/models/{quoted}", f"/v2/models/{quoted}/infer"]
    remote.close()


# --- what the server declares


def picky(respond: Any, expected: dict[str, Any], answer: bytes, seen: list[dict[str, Any]]) -> Callable[[Any], None]:
    """Return a server that declares one input, and refuses every other name, type or missing declaration of it."""
    metadata = respond({"inputs": [expected] if expected.get("datatype") else [], "outputs": []})

    def behave(connection: Any) -> None:
        while data := connection.recv(65536):
            if data.startswith(b"GET"):
                connection.sendall(metadata)
                continue
            head, _, body = data.partition(b"\r\n\r\n")
            length = re.search(rb"Inference-Header-Content-Length: (\d+)", head)
            assert length
            (sent,) = json.loads(body[: int(length[1])])["inputs"]
            seen.append({**sent, "raw": body[int(length[1]) :]})
            same = all(sent[name] == expected[name] for name in ("name", "datatype") if expected.get(name))
            connection.sendall(answer if same else respond({"error": f"expected {expected}"}, "400 Bad Request"))

    return behave


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "INT64", "UINT8"])
def test_inputs_are_sent_in_the_declared_type(connect: Any, serve: Any, respond: Any, datatype: str) -> None:
    """The values stay the same."""
    seen: list[dict[str, Any]] = []
    declared = {"name": "z", "datatype": datatype, "shape": [-1, 3]}
    remote = connect(serve(picky(respond, declared, respond(LOGITS), seen)))
    for given in (np.float16, np.float32, np.float64, np.int32, np.uint8):
        np.testing.assert_array_equal(infer(remote, X.astype(given)), LOGITS)
        assert seen[-1]["raw"] == X.astype(NUMPY[datatype]).tobytes()


@pytest.mark.parametrize(
    ("datatype", "x", "said"),
    [
        ("INT64", X + 0.5, r"its input 'z' is INT64, which cannot hold 1.5 of float32"),
        ("FP16", X + 1e6, r"its input 'z' is FP16, which cannot hold 1000001.0 of float32"),
        ("UINT8", X - 2, r"its input 'z' is UINT8, which cannot hold -1.0 of float32"),
        ("BYTES", X, r"its input 'z' is BYTES, which an array of float32 cannot become"),
        ("BF16", X, r"its input 'z' is BF16, which an array of float32 cannot become"),
    ],
)
def test_values_that_the_declared_type_cannot_hold_are_refused(
    connect: Any, serve: Any, respond: Any, datatype: str, x: NDArray[Any], said: str
) -> None:
    """The error names the input, and nothing is sent."""
    seen: list[dict[str, Any]] = []
    remote = connect(serve(picky(respond, {"name": "z", "datatype": datatype}, respond(LOGITS), seen)))
    with pytest.raises(UnsendableInput, match=said):
        infer(remote, x)
    assert seen == []


def test_an_input_that_is_not_declared_can_be_named(connect: Any, serve: Any, respond: Any) -> None:
    """So can one of a server that does not describe its models at all."""
    seen: list[dict[str, Any]] = []
    server = serve(picky(respond, {"name": "z"}, respond(LOGITS), seen))
    np.testing.assert_array_equal(infer(connect(server, input="z")), LOGITS)
    with pytest.raises(RemoteError, match="expected a model with one input, got 0; name it"):
        infer(connect(server))

    def undescribed(connection: Any) -> None:
        while data := connection.recv(65536):
            connection.sendall(respond({}, "404 Not Found") if data.startswith(b"GET") else respond(LOGITS))

    np.testing.assert_array_equal(infer(connect(serve(undescribed), input="z")), LOGITS)
    with pytest.raises(RemoteRefusal, match="HTTP 404"):
        infer(connect(serve(undescribed)))


def changing(respond: Any, signatures: list[str], answers: Callable[[str], bytes]) -> tuple[Any, list[str]]:
    """Return a server that names its input in turn as listed, answers by the name that is sent, and logs requests."""
    left, log = list(signatures), []

    def behave(connection: Any) -> None:
        while data := connection.recv(65536):
            if data.startswith(b"GET"):
                name = left.pop(0) if len(left) > 1 else left[0]
                log.append(f"GET {name}")
                connection.sendall(respond({"inputs": [{"name": name}], "outputs": []}))
            else:
                found = re.search(rb'"name":"(\w+)"', data)
                assert found
                log.append(f"POST {found[1].decode()}")
                connection.sendall(answers(found[1].decode()))

    return behave, log


def test_a_signature_that_a_reply_contradicts_is_asked_again(connect: Any, serve: Any, respond: Any) -> None:
    """The request is repeated with the new one; a single wrong description costs no answer."""

    def answers(name: str) -> bytes:
        return bytes(respond(LOGITS) if name == "z" else respond({"error": "no such input"}, "404 Not Found"))

    behave, log = changing(respond, ["wrong", "z"], answers)
    remote = connect(serve(behave))
    np.testing.assert_array_equal(infer(remote), LOGITS)
    np.testing.assert_array_equal(infer(remote), LOGITS)
    assert log == ["GET wrong", "POST wrong", "GET z", "POST z", "POST z"]


def test_a_signature_that_is_the_same_again_is_not_asked_for_every_error(
    connect: Any, serve: Any, respond: Any
) -> None:
    """An error about the input then costs one request."""
    behave, log = changing(respond, ["z"], lambda _: bytes(respond({"error": "out of range"}, "404 Not Found")))
    remote = connect(serve(behave))
    for _ in range(3):
        with pytest.raises(RemoteRefusal, match="out of range"):
            infer(remote)
    assert log == ["GET z", "POST z", "GET z", "POST z", "POST z"]


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"model_name": "other"}, "expected a reply from the model 'm', got one from 'other'"),
        ({"model_version": "2"}, "expected a reply from version '3', got one from '2'"),
    ],
)
def test_a_reply_from_another_model_is_refused(
    serve: Any, answering: Any, respond: Any, about: dict[str, str], said: str
) -> None:
    """So is one from another version, if the address names one."""
    output = {"name": "logits", "datatype": "FP32", "shape": [2, 3], "data": LOGITS.ravel().tolist()}
    server = serve(answering(respond({"outputs": [output], **about})))
    server_at_version = OpenInference(f"{server.address}/versions/3")
    with pytest.raises(InvalidReply, match=said):
        infer(server_at_version)
    server_at_version.close()


def test_a_reply_to_another_request_is_refused(connect: Any, serve: Any, recording: Any, respond: Any) -> None:
    """A server may send no id, or a UUID of its own until it sends one back."""
    record, requests = recording
    its_own = "2f1e3c5a-0b7d-4c1e-9a58-6d1b2f3a4c5e"
    ids = iter([its_own, None, "", "-00000000", "another's", 7, "same", its_own, None])
    output = {"name": "logits", "datatype": "FP32", "shape": [2, 3], "data": LOGITS.ravel().tolist()}

    def behave(connection: Any) -> None:
        class Answering:
            def recv(self, size: int) -> bytes:
                return bytes(connection.recv(size))

            def sendall(self, data: bytes) -> None:
                first, headers, body = requests[-1]
                if first.startswith("GET"):
                    connection.sendall(data)
                    return
                sent, id = json.loads(body[: int(headers["inference-header-content-length"])])["id"], next(ids)
                id = sent if id == "same" else sent.partition("-")[0] + id if id == "-00000000" else id
                connection.sendall(respond({"id": id, "outputs": [output]}))

        record(b"")(Answering())

    remote = connect(serve(behave))
    for wrong in (False, False, False, True, True, True, False, True, False):
        if wrong:
            with pytest.raises(InvalidReply, match="got the reply to another one"):
                infer(remote)
        else:
            np.testing.assert_array_equal(infer(remote), LOGITS)


# --- addresses


def test_a_query_is_sent_with_every_request(serve: Any, recording: Any, respond: Any) -> None:
    """It stays as it is, but for characters that a request cannot hold."""
    record, requests = recording
    remote = OpenInference(f"{serve(record(respond(LOGITS))).address}?api-key=s3cret&a=%20 b")
    infer(remote)
    assert [first.split()[1] for first, *_ in requests] == [
        "/v2/models/m?api-key=s3cret&a=%20%20b",
        "/v2/models/m/infer?api-key=s3cret&a=%20%20b",
    ]
    remote.close()


@pytest.mark.parametrize("scheme", ["http", "https", "grpc", "grpcs"])
def test_a_user_in_the_address_is_refused(scheme: str) -> None:
    """The error says how to send one, and shows no secret."""
    with pytest.raises(ArgumentError, match="'Authorization: Basic '") as raised:
        connect_to(f"{scheme}://me:s3cret@h/v2/models/m")
    assert "s3cret" not in str(raised.value)
    with pytest.raises(ArgumentError, match=r"got '.*://h/v3'") as raised:
        connect_to(f"{scheme}://me:s3cret@h/v3?key=s3cret")
    assert "s3cret" not in str(raised.value)


# --- replies that are no answer


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ({"error": "CUDA out of memory"}, "the server says: CUDA out of memory"),
        ({"error": {"message": "no\nsecond line"}}, "the server says: no"),
        ({"outputs": None}, "malformed: it has no list of `outputs`"),
        ({"outputs": [{"datatype": "FP32"}]}, "malformed: it has no `name`"),
        ({"outputs": [{"name": "logits", "datatype": "BYTES", "shape": [1, 1], "data": ["a"]}]}, "type 'BYTES'"),
        ({"outputs": [{"name": "logits", "datatype": "FP32", "data": [0.0]}]}, "malformed: it has no shape"),
        ({"outputs": [{"name": "logits", "datatype": "FP32", "shape": [2, 3]}]}, "its `data` is not a list"),
        ({"outputs": [{"name": "logits", "datatype": "FP32", "shape": [2, 3], "data": [1.0]}]}, "1 numbers.*2, 3"),
        ({"outputs": [{"name": "logits", "datatype": "FP32", "shape": [1, 2], "data": [[0.0], 1]}]}, "malformed"),
        ({"outputs": [{"name": "logits", "datatype": "FP32", "shape": [1], "data": [10**400]}]}, "are not FP32"),
        ({"outputs": [{"name": "logits", "datatype": "FP32", "shape": [10**30], "data": [1.0]}]}, "1 numbers"),
    ],
)
def test_a_reply_that_is_no_answer_says_why(
    connect: Any, serve: Any, answering: Any, respond: Any, reply: Any, said: str
) -> None:
    """The error has one line."""
    with pytest.raises(RemoteError, match=said) as raised:
        infer(connect(serve(answering(respond(reply)))))
    assert "\n" not in str(raised.value)


def test_nested_data_is_read(connect: Any, serve: Any, answering: Any, respond: Any) -> None:
    """JSON may hold tensors as nested lists."""
    for rows in (LOGITS, LOGITS[:, :, None]):
        output = {"name": "logits", "datatype": "FP64", "shape": list(rows.shape), "data": rows.tolist()}
        np.testing.assert_array_equal(infer(connect(serve(answering(respond({"outputs": [output]}))))), LOGITS)


def test_a_reply_is_bounded_by_what_its_scores_can_need(connect: Any, serve: Any, answering: Any, respond: Any) -> None:
    """Longest numbers and an embedding beside them fit; a reply without bound does not, whatever it declares."""
    rng = np.random.default_rng(0)
    for classes in (3, 2000):
        logits, embedding = rng.normal(size=(2, classes)) * 1e-300, rng.normal(size=(2, 2048)) * 1e-300
        outputs = [
            {"name": name, "datatype": "FP64", "shape": list(rows.shape), "data": rows.ravel().tolist()}
            for name, rows in (("logits", logits), ("embedding", embedding))
        ]
        remote = connect(serve(answering(respond({"outputs": outputs}))))
        remote.expect(list(map(str, range(classes))))
        np.testing.assert_array_equal(infer(remote), logits)
    for body in (b" " * 20_000_000, json.dumps({"outputs": [{"name": "a", "data": [0] * 10**5}]}).encode()):
        remote = connect(serve(answering(respond(body))))
        remote.expect(["0", "1", "2"])
        with pytest.raises(
            InvalidReply, match=r"larger than \d+ bytes, more than an answer can need|more than \d+ values"
        ):
            infer(remote)


def test_an_error_page_is_cut_off(connect: Any, serve: Any, answering: Any, respond: Any) -> None:
    """Its first line is quoted, or where it redirects to."""
    for page, headers, said in (
        (b"x" * 300 + b"\n" * 20_000_000, {}, f"HTTP 500: {'x' * 200}$"),
        (b"\n" * 20_000_000, {}, "HTTP 500: no explanation$"),
        (b"Traceback" + b"\n" * 2000, {}, "HTTP 500: no explanation$"),
        (b"plain", {"Content_Encoding": "identity"}, "HTTP 500: plain$"),
        (gzip.compress(b"no"), {"Content_Encoding": "gzip"}, "HTTP 500: no explanation that is not compressed$"),
    ):
        with pytest.raises(RemoteRefusal, match=said):
            infer(connect(serve(answering(respond(page, "500 Oops", **headers)))))
    moved = respond(b"moved", "302 Found", Location="https://portal.example/login?key=s3cret")
    with pytest.raises(RemoteRefusal, match=r"HTTP 302: redirects to https://portal.example/login$"):
        infer(connect(serve(answering(moved))))
    with pytest.raises(InvalidReply, match="expected JSON, got an HTML page, perhaps of a proxy or a login"):
        infer(connect(serve(answering(respond(b"<html>")))))


def test_a_server_of_a_fixed_batch_is_asked_in_such_batches(connect: Any, serve: Any, respond: Any) -> None:
    """A cascade sends several inputs together where a calibration sent one, or the other way round."""
    metadata = respond({"inputs": [{"name": "z", "datatype": "FP32", "shape": [2, 3]}], "outputs": []})
    seen = []

    def behave(connection: Any) -> None:
        while data := connection.recv(65536):
            if data.startswith(b"GET"):
                connection.sendall(metadata)
                continue
            x = np.frombuffer(data[-24:], np.float32).reshape(2, 3)
            seen.append(x[:, 0].tolist())
            connection.sendall(respond(x))

    x = np.arange(15, dtype=np.float32).reshape(5, 3)
    np.testing.assert_array_equal(infer(connect(serve(behave)), x), x)
    assert seen == [[0, 3], [6, 9], [12, 12]]


def test_a_model_of_other_classes_is_asked_about_again(connect: Any, serve: Any, respond: Any) -> None:
    """A single wrong description costs one answer; a long list of names is read."""
    names = iter([["cat", "dog", "eel"], ["red", "green", "blue"]])

    def behave(connection: Any) -> None:
        while data := connection.recv(65536):
            about = {"parameters": {"classes": json.dumps(next(names))}} if data.startswith(b"GET") else {}
            connection.sendall(respond({"inputs": [{"name": "z"}], **about}) if about else respond(LOGITS))

    remote = connect(serve(behave))
    remote.expect(["red", "green", "blue"])
    with pytest.raises(RemoteError, match="expected the classes red, green, blue, got cat, dog, eel"):
        infer(remote)
    np.testing.assert_array_equal(infer(remote), LOGITS)
    many = [f'"class" {number}' for number in range(30_000)]
    for listed in (many, json.dumps(many)):
        metadata = respond({"inputs": [{"name": "z"}], "parameters": {"classes": listed}})
        remote = connect(serve(lambda one, metadata=metadata: (one.recv(65536), one.sendall(metadata))))
        with pytest.raises((RemoteError, TimeoutError)):
            remote.infer(X, Deadline.after(5))
        assert remote.class_names == tuple(many)


@pytest.mark.parametrize("shape", ["[1, 3]", ["a", None], 7, [10**12, 3], [True]])
def test_a_declared_shape_that_is_none_says_nothing(connect: Any, serve: Any, respond: Any, shape: Any) -> None:
    """Inputs are sent as they are."""
    metadata = respond({"inputs": [{"name": "z", "datatype": "FP32", "shape": shape}], "outputs": []})

    def behave(connection: Any) -> None:
        while data := connection.recv(65536):
            connection.sendall(metadata if data.startswith(b"GET") else respond(LOGITS))

    np.testing.assert_array_equal(infer(connect(serve(behave))), LOGITS)


@pytest.mark.parametrize("header", ["inference-header-content-length", "content-encoding"])
def test_a_server_that_is_replaced_is_asked_in_its_own_form(
    connect: Any, serve: Any, recording: Any, respond: Any, header: str
) -> None:
    """What one server accepted, the next may refuse; the request after the refusal tries the other form."""
    record, requests = recording
    accepts = [True]

    def behave(connection: Any) -> None:
        class Picky:
            def recv(self, size: int) -> bytes:
                return bytes(connection.recv(size))

            def sendall(self, data: bytes) -> None:
                refused = not accepts[0] and header in requests[-1][1]
                connection.sendall(respond({"error": "cannot read this"}, "400 Bad Request") if refused else data)

        record(respond(LOGITS))(Picky())

    remote = connect(serve(behave), compress=True)
    infer(remote, ZEROS)
    accepts[0] = False
    with pytest.raises(RemoteRefusal, match="cannot read this"):
        infer(remote, ZEROS)
    for _ in range(2):
        np.testing.assert_array_equal(infer(remote, ZEROS), LOGITS)
    assert header not in requests[-1][1]


@pytest.mark.parametrize(
    ("array", "kind", "data"),
    [
        (np.arange(10_000, dtype=np.float32).reshape(2, -1) / 7, "FP32", None),
        (np.zeros((1, 0), np.int64), "INT64", []),
        (np.array([[b"\xff\0", b"b"]], object), "BYTES", ["/wA=", "Yg=="]),
        (np.array([["ä", "b"]], object), "BYTES", ["ä", "b"]),
    ],
)
def test_a_json_request_has_all_values(array: Any, kind: str, data: Any) -> None:
    """It is written in parts, which together are the document that `json` would write."""
    tensors = [Tensor("x", kind, array.shape, array)] * 2
    request = json.loads(b"".join(json_request({"id": "7"}, tensors, Pace(Deadline.after(60)))))
    assert request["id"] == "7"
    assert [one["name"] for one in request["inputs"]] == ["x", "x"]
    for one in request["inputs"]:
        assert (one["shape"], one["datatype"]) == (list(array.shape), kind)
        assert one["data"] == (array.ravel().tolist() if data is None else data)


def test_a_large_json_request_lets_other_threads_run(stalled: Callable[[], float]) -> None:
    """A frame of a camera takes a second, in which another thread is not delayed; at its deadline it ends."""
    frame = np.full((1, 1080, 1920, 3), 127, np.uint8)
    tensors, done, gaps = [Tensor("x", "UINT8", frame.shape, frame)], threading.Event(), [0.0]

    def tick() -> None:
        before = time.monotonic()
        while not done.is_set():
            time.sleep(0.001)
            gaps.append(time.monotonic() - before)
            before = time.monotonic()

    ticking = threading.Thread(target=tick)
    lost = stalled()
    ticking.start()
    json_request({}, tensors, Pace(Deadline.after(60)))
    done.set()
    ticking.join()
    assert len(gaps) > 50
    assert max(gaps) < 0.1 + stalled() - lost
    with pytest.raises(TimeoutError):
        json_request({}, tensors, Pace(Deadline.after(0.05)))


@pytest.mark.parametrize("said", ["the token s3cr3t-t0ken is not valid", "no a%2Fsecret%2Fkey", "no a/secret/key"])
def test_a_secret_that_the_server_repeats_is_not_shown(serve: Any, answering: Any, respond: Any, said: str) -> None:
    """Servers quote what they refuse."""
    server = serve(answering(respond(said.encode(), "401 Unauthorized")))
    address = f"{server.address}?key=a%2Fsecret%2Fkey"
    remote = OpenInference(address, headers={"Authorization": "Bearer s3cr3t-t0ken"})
    with pytest.raises(RemoteRefusal, match=r"HTTP 401: .*\*\*\*") as refused:
        infer(remote)
    remote.close()
    assert not any(secret in str(refused.value) for secret in ("s3cr3t", "a/secret", "a%2Fsecret"))


@pytest.mark.parametrize(
    "reply",
    [
        {"error": "the token s3cr3t-t0ken is not valid"},
        {"model_name": "s3cr3t-t0ken", "outputs": []},
        {
            "model_name": "m",
            "outputs": [{"name": "s3cr3t-t0ken", "datatype": "s3cr3t-t0ken", "shape": [1], "data": []}],
        },
        b"{s3cr3t-t0ken",
    ],
)
def test_a_secret_in_a_successful_reply_is_not_shown(
    serve: Any, answering: Any, respond: Any, connect: Any, reply: Any
) -> None:
    """Nor is a password that is base64 in the header."""
    basic = base64.b64encode(b"device:s3cr3t-t0ken").decode()
    for authorization in ("Bearer s3cr3t-t0ken", f"Basic {basic}"):
        remote = connect(serve(answering(respond(reply))), headers={"Authorization": authorization})
        with pytest.raises(RemoteError) as refused:
            infer(remote)
        assert "s3cr3t" not in str(refused.value)
        assert basic not in str(refused.value)


def test_the_password_of_a_proxy_is_not_shown(serve: Any, answering: Any, respond: Any) -> None:
    """A proxy may repeat it in its page, as it is or in base64."""
    basic = base64.b64encode(b"device:s3cr3t-pw").decode()
    proxy = serve(answering(respond(f"who is s3cr3t-pw, {basic}?".encode(), "407 Proxy Authentication Required")))
    remote = OpenInference("http://model.test/v2/models/m", proxy=f"http://device:s3cr3t-pw@127.0.0.1:{proxy.port}")
    with pytest.raises(RemoteRefusal, match=r"HTTP 407: who is \*\*\*, \*\*\*\?"):
        infer(remote)
    remote.close()


def test_a_reply_to_the_request_of_another_device_is_refused(
    serve: Any, answering: Any, respond: Any, connect: Any
) -> None:
    """A proxy may mix up its connections; an id in our form that we did not send is another device's."""
    reply = {
        "model_name": "m",
        "id": "0123456789ab-00000001",
        "outputs": [{"name": "logits", "datatype": "FP32", "shape": [2, 3], "data": LOGITS.ravel().tolist()}],
    }
    with pytest.raises(InvalidReply, match="another one"):
        infer(connect(serve(answering(respond(reply)))))


def test_a_password_in_a_redirect_is_not_shown(serve: Any, answering: Any, respond: Any, connect: Any) -> None:
    """Nor is the query."""
    away = respond(b"", "302 Found", Location="http://user:s3cretpw@host/x?key=1")
    with pytest.raises(RemoteRefusal, match=r"redirects to http://host/x$"):
        infer(connect(serve(answering(away))))
