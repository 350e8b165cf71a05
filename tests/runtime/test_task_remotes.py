"""Remotes of general tasks over the network: named tensors of every type, and replies that are no answer."""

import asyncio
import json
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.benchmarks.server import serving
from edgecascade.cli import main
from edgecascade.runtime import Cascade, Deadline, InputError, InvalidReply, OpenInference, Reason, RemoteError, Source
from edgecascade.runtime.remotes.open_inference_grpc import OpenInferenceGrpc
from edgecascade.runtime.remotes.remote import ReplyBound, connect
from edgecascade.runtime.serving.served import ServedModel, served_cascade
from edgecascade.types.answer import NO_OUTPUTS
from task_files import SURE, UNSURE, boxes_file, remote_file, tripled, twice_file

grpc = pytest.importorskip("grpc")
X = np.stack([UNSURE, UNSURE - 1])
Remotes = OpenInference | OpenInferenceGrpc
Tensors = dict[str, tuple[str, Any]]
"""Datatype and array of each output, by name."""


def metadata(outputs: list[tuple[str, str, list[int]]], first: int = -1) -> dict[str, Any]:
    """Return the description of a model with the input `x` [first, 3]."""
    declared = [{"name": "x", "datatype": "FP32", "shape": [first, 3]}]
    return {
        "name": "m",
        "inputs": declared,
        "outputs": [{"name": name, "datatype": kind, "shape": shape} for name, kind, shape in outputs],
    }


def binary(outputs: Tensors) -> tuple[bytes, int]:
    """Return a reply with binary tensors, and the length of its JSON."""
    raw = [raw_bytes(kind, array) for kind, array in outputs.values()]
    described = [
        {"name": name, "datatype": kind, "shape": list(array.shape), "parameters": {"binary_data_size": len(one)}}
        for (name, (kind, array)), one in zip(outputs.items(), raw, strict=True)
    ]
    head = json.dumps({"outputs": described}).encode()
    return b"".join([head, *raw]), len(head)


def raw_bytes(kind: str, array: Any) -> bytes:
    """Return the bytes of a tensor."""
    if kind != "BYTES":
        return bytes(array.tobytes())
    return b"".join(struct.pack("<I", len(one)) + one for one in array.ravel().tolist())


def text(*texts: bytes) -> NDArray[Any]:
    """Return texts as the protocol has them."""
    array = np.empty(len(texts), object)
    array[:] = texts
    return array


@pytest.fixture
def over_http(serve: Any, respond: Any) -> Iterator[Callable[..., OpenInference]]:
    """Return a remote whose server describes itself and replies with tensors, in binary or as JSON."""
    made: list[OpenInference] = []

    def connect(described: Any, outputs: Tensors, *, as_json: bool = False) -> OpenInference:
        body, length = binary(outputs)
        if as_json:
            data = [
                {"name": name, "datatype": kind, "shape": list(array.shape), "data": values(array)}
                for name, (kind, array) in outputs.items()
            ]
            reply = respond({"outputs": data})
        else:
            reply = respond(body, Inference_Header_Content_Length=length)

        def behave(connection: Any) -> None:
            while received := connection.recv(1 << 20):
                if received.startswith(b"GET"):
                    connection.sendall(respond(described))
                elif received.startswith(b"POST"):
                    connection.sendall(reply)

        made.append(OpenInference(serve(behave).address))
        return made[-1]

    yield connect
    for remote in made:
        remote.close()


def values(array: NDArray[Any]) -> list[Any]:
    """Return values as JSON has them."""
    return [one.decode() if isinstance(one, bytes) else None if one != one else one for one in array.ravel().tolist()]


@pytest.fixture
def over_grpc() -> Iterator[Callable[..., OpenInferenceGrpc]]:
    """Return a remote whose server describes itself and replies with tensors, as raw bytes or protobuf's numbers."""
    from edgecascade.runtime.remotes import open_inference_grpc

    messages = open_inference_grpc.make_messages()
    opened: list[Any] = []

    def connect(described: Any, outputs: Tensors, *, as_json: bool = False) -> OpenInferenceGrpc:
        about = messages["ModelMetadataResponse"]()
        for field in ("inputs", "outputs"):
            for one in described[field]:
                getattr(about, field).add(**one)
        reply = messages["ModelInferResponse"]()
        for name, (kind, array) in outputs.items():
            output = reply.outputs.add(name=name, datatype=kind, shape=array.shape)
            if as_json:
                getattr(output.contents, open_inference_grpc._FIELDS[kind]).extend(array.ravel().tolist())
            else:
                raw = raw_bytes(kind, array)
                reply.raw_output_contents.append(raw)
        methods = {
            name: grpc.unary_unary_rpc_method_handler(lambda _, __, said=said: said.SerializeToString())
            for name, said in (("ModelMetadata", about), ("ModelInfer", reply))
        }
        server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_send_message_length", -1)])
        handler = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", methods)
        server.add_generic_rpc_handlers([handler])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        remote = OpenInferenceGrpc(f"grpc://127.0.0.1:{port}/v2/models/m")
        opened.extend([remote, server])
        return remote

    yield connect
    for remote, server in zip(opened[::2], opened[1::2], strict=True):
        remote.close()
        server.stop(None).wait()


@pytest.fixture(params=["http", "http as JSON", "grpc", "grpc as numbers"])
def remote_of(request: Any, over_http: Any, over_grpc: Any) -> Callable[..., Remotes]:
    """Return a remote over either protocol, whose tensors travel in either form."""
    connect = over_http if request.param.startswith("http") else over_grpc

    def make(described: Any, outputs: Tensors) -> Any:
        return connect(described, outputs, as_json=" as " in request.param)

    return make


GOOD: Tensors = {
    "tripled": ("FP32", 3 * X),
    "count": ("INT64", np.array([2, 7])),
    "text": ("BYTES", text("ein Wört".encode(), b"")),
    "found": ("BOOL", np.array([[True], [False]])),
}
DECLARED = [(name, kind, [-1, *array.shape[1:]]) for name, (kind, array) in GOOD.items()]


def test_tensors_of_every_type_come_by_name(remote_of: Any) -> None:
    """Each input gets its rows; text comes as bytes in UTF-8, over either protocol and in either form."""
    for names in ((), ("text", "tripled"), tuple(GOOD)):
        remote = remote_of(metadata(DECLARED), GOOD)
        remote.expect_outputs(names)
        answers = remote.infer(X, Deadline.after(10))
        for i, answer in enumerate(answers):
            assert list(answer) == list(names or GOOD)
            for name, array in answer.items():
                np.testing.assert_array_equal(array, GOOD[name][1][i])
                assert array.dtype == GOOD[name][1].dtype


def test_a_server_that_takes_one_input_may_answer_without_a_batch_axis(remote_of: Any) -> None:
    """Its boxes have a first side of their own, also where there is one box; inputs are sent one by one."""
    for boxes in (np.zeros((0, 4)), np.ones((1, 4)), np.ones((5, 4))):
        reply: Tensors = {"boxes": ("FP64", boxes), "n": ("INT32", np.array([[len(boxes)]], np.int32))}
        remote = remote_of(metadata([("boxes", "FP64", [-1, 4]), ("n", "INT32", [1, 1])], first=1), reply)
        remote.expect_outputs(("boxes", "n"))
        answers = remote.infer(X, Deadline.after(10))
        assert len(answers) == 2
        for answer in answers:
            np.testing.assert_array_equal(answer["boxes"], boxes)
            assert answer["n"].tolist() == [len(boxes)]


BAD: list[tuple[list[tuple[str, str, list[int]]], Tensors, str]] = [
    (DECLARED[:1], {"other": ("FP32", X)}, "expected the outputs tripled, got other"),
    ([("other", "FP32", [-1, 3])], {"other": ("FP32", X)}, "expected the outputs tripled, the server declares other"),
    ([], {"other": ("FP32", X)}, "expected the outputs tripled, got other"),
    (DECLARED[:1], {"tripled": ("FP32", X[:1])}, "expected 2 rows in the output 'tripled'"),
    (DECLARED[:1], {"tripled": ("FP32", np.float32(3))}, "expected 2 rows in the output 'tripled'"),
    (DECLARED[:1], {"tripled": ("BYTES", text(b"a", b"b"))}, "expected FP32 in 'tripled', as the server declares"),
    (DECLARED[:1], {"tripled": ("INT32", X.astype(np.int32))}, "expected FP32 in 'tripled', as the server declares"),
    ([("tripled", "BYTES", [-1])], {"tripled": ("FP32", X)}, "expected BYTES in 'tripled', as the server declares"),
]


@pytest.mark.parametrize(("declared", "reply", "said"), BAD)
def test_a_reply_that_is_no_answer_is_an_error(remote_of: Any, declared: Any, reply: Tensors, said: str) -> None:
    """The sentence is one line."""
    remote = remote_of(metadata(declared), reply)
    remote.expect_outputs(("tripled",))
    with pytest.raises(InvalidReply, match=said) as raised:
        remote.infer(X, Deadline.after(10))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("raw", [b"\x05\0\0\0a", b"\xff\xff\xff\xff", b"\0\0\0", b"\0\0\0\0" * 3])
def test_texts_of_wrong_lengths_are_an_error(over_http: Any, over_grpc: Any, raw: bytes) -> None:
    """Whatever a length claims, no more is read than came."""
    for make in (over_http, over_grpc):
        array = np.frombuffer(raw, np.uint8)

        class Claimed:
            shape = (1,)

            def tobytes(self, array: NDArray[Any] = array) -> bytes:
                return array.tobytes()

            def ravel(self) -> Any:
                raise AssertionError

        reply: Tensors = {"tripled": ("INVALID", Claimed())}
        described = metadata([("tripled", "BYTES", [-1])])
        remote = make(described, reply)
        remote.expect_outputs(("tripled",))
        with pytest.raises(InvalidReply):
            remote.infer(X[:1], Deadline.after(10))


def test_replies_are_bounded_by_the_declared_shapes(over_http: Any, over_grpc: Any) -> None:
    """One far larger than they allow is refused; where a side is not declared, 64 MiB are the bound."""
    large: Tensors = {"tripled": ("FP32", np.zeros((1, 1 << 18), np.float32))}
    for make in (over_http, over_grpc):
        remote = make(metadata([("tripled", "FP32", [-1, 3])]), large)
        remote.expect_outputs(("tripled",))
        with pytest.raises(RemoteError):
            remote.infer(X[:1], Deadline.after(10))
        open_ended = make(metadata([("tripled", "FP32", [-1, -1])]), large)
        open_ended.expect_outputs(("tripled",))
        assert open_ended.infer(X[:1], Deadline.after(10))[0]["tripled"].shape == (1 << 18,)
    assert ReplyBound.of_outputs(2, [(3, 4), (5,)]) == ReplyBound.of(2, 17)
    assert ReplyBound.of_outputs(2, [(3, -1)]) == ReplyBound.of_outputs(2, []) == ReplyBound.of(2, None)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of `edgecascade serve remote.onnx`, in a process of its own."""
    folder = tmp_path_factory.mktemp("serve")
    with serving(remote_file(folder), name="large", threads=1, log=folder / "log") as address:
        yield address


def test_a_cascade_asks_a_real_server(address: str, tmp_path: Path) -> None:
    """All inputs of a batch are answered with its arrays; a model that lacks them gives no answer."""
    path = twice_file(tmp_path)
    with Cascade.load(path, remote=address, deadline=10.0) as cascade:
        for x, answer in zip(X, cascade.predict_batch(X), strict=True):
            assert answer.source is Source.REMOTE
            assert list(answer.outputs) == ["tripled"]
            np.testing.assert_array_equal(answer.outputs["tripled"], 3 * x)
    path = twice_file(tmp_path, remote=("elsewhere",))
    with Cascade.load(path, remote=address, deadline=10.0) as cascade:
        answer = cascade.predict(X[0])
    assert (answer.source, answer.reason) == (Source.LOCAL, Reason.REMOTE_ERROR)
    assert "expected the outputs elsewhere" in answer.detail


def run(served: ServedModel, x: NDArray[Any], names: list[str]) -> Any:
    """Return the reply to a request with one input."""

    async def infer() -> Any:
        return await served.infer({"x": x}, names)

    return asyncio.run(infer())


def test_a_served_cascade_passes_outputs_on(tmp_path: Path) -> None:
    """Those of whichever model answered, beside its reasons; what differs between inputs needs one request each."""
    with (
        ThreadPoolExecutor(2) as threads,
        Cascade.load(twice_file(tmp_path), remote=tripled, deadline=10.0, decode=len, remote_decode=dict) as cascade,
    ):
        served = served_cascade(cascade, threads)
        names = [one["name"] for one in served.outputs]
        assert names == ["confidence", "advantage", "source", "reason", "forwarded", "result", "twice", "quality"]
        assert {tuple(one["shape"]) for one in served.outputs} == {(-1,), (-1, 3), (-1, 1)}

        def ask(x: NDArray[Any], asked: list[str] = names) -> Any:
            return run(served, x, asked)

        local = ask(SURE[None])
        assert local["source"].tolist() == [b"local"]
        assert json.loads(local["result"][0]) == 2
        np.testing.assert_array_equal(local["twice"], [2 * SURE])
        remote = ask(X)
        np.testing.assert_array_equal(remote["tripled"], 3 * X)
        assert "twice" not in remote
        assert json.loads(remote["result"][1]) == {"tripled": (3 * X[1]).tolist()}
        np.testing.assert_array_equal(ask(X, ["tripled"])["tripled"], 3 * X)
        both = np.stack([SURE, UNSURE])
        assert ask(both, ["source"])["source"].tolist() == [b"local", b"remote"]
        with pytest.raises(InputError, match=r"^outputs: expected 'twice' .*; send one input at a time"):
            ask(both)
        with pytest.raises(InputError, match=r"^outputs: expected 'nothing'"):
            ask(both[:1], ["nothing"])


def test_boxes_are_served_with_a_batch_axis(tmp_path: Path) -> None:
    """So another device can take the cascade as its remote."""
    with ThreadPoolExecutor(1) as threads, Cascade.load(boxes_file(tmp_path)) as cascade:
        served = served_cascade(cascade, threads)
        reply = run(served, np.array([[2, 1, -1]], np.float32), ["boxes"])
        assert reply["boxes"].shape == (1, 2, 2)
        assert {"name": "boxes", "datatype": "INT64", "shape": [-1, -1, 2]} in served.outputs
        assert served.inputs[0]["shape"] == [-1, 3]


def test_run_prints_outputs_or_the_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a decoder, a line has type, shape and first values of each output; of text, too."""
    path, inputs = twice_file(tmp_path), tmp_path / "x.npy"
    np.save(inputs, np.stack([SURE, UNSURE]))
    remote = str(remote_file(tmp_path))
    assert main(["run", str(path), str(inputs), "--remote", remote, "--deadline", "10"]) == 0
    local, forwarded = map(json.loads, capsys.readouterr().out.splitlines())
    assert local["outputs"] == {
        "twice": {"dtype": "float32", "shape": [3], "values": [4, 0, -2]},
        "quality": {"dtype": "float32", "shape": [1], "values": [2]},
    }
    assert (local["source"], forwarded["source"]) == ("local", "remote")
    assert forwarded["outputs"]["tripled"]["values"] == [-6, 9, 12]
    assert not {"label", "name", "probabilities"} & {*local, *forwarded}
    (tmp_path / "mine.py").write_text("def read(outputs):\n    return {name: a.shape for name, a in outputs.items()}\n")
    decode = ["--decode", f"{tmp_path / 'mine.py'}:read", "--remote", remote, "--deadline", "10"]
    assert main(["run", str(path), str(inputs), *decode, "--probabilities"]) == 0
    local, forwarded = map(json.loads, capsys.readouterr().out.splitlines())
    assert (local["result"], forwarded["result"]) == ({"twice": [3], "quality": [1]}, {"tripled": [3]})
    assert "outputs" not in local


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--remote-decode", "math:fsum"], "--remote-decode: expected with --remote"),
        (["--decode", "nothing:here"], "--decode: cannot import"),
        (["--remote", "remote.onnx", "--record", "pairs"], "--record: expected with the file of a classifier"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence says why."""
    monkeypatch.chdir(tmp_path)
    remote_file(tmp_path)
    assert main(["run", str(twice_file(tmp_path)), "-", *options]) == 2
    assert said in capsys.readouterr().err


def test_a_classifier_is_decoded_where_outputs_are_named(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its remote gives scores, which no decoder reads; without outputs there is nothing to decode."""
    command = ["run", str(pair / "local.onnx"), str(pair / "test.npz"), "--decode", "value"]
    assert main(command) == 2
    assert "--decode: expected with `outputs` of a classifier" in capsys.readouterr().err
    command += ["--outputs", "logits", "--remote", str(pair / "remote.onnx")]
    assert main(command) == 0
    for line in map(json.loads, capsys.readouterr().out.splitlines()):
        assert line.get("result") == (line["outputs"]["logits"]["values"] if line["source"] == "local" else None)
    assert main([*command, "--remote-decode", "value"]) == 2
    assert "--remote-decode: expected with the file of a general task" in capsys.readouterr().err


def test_a_decoder_that_raises_ends_the_run_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It names the option and the exception."""
    np.save(tmp_path / "x.npy", SURE[None])
    (tmp_path / "mine.py").write_text("def read(outputs):\n    return outputs['nothing']\n")
    command = ["run", str(twice_file(tmp_path)), str(tmp_path / "x.npy"), "--decode", f"{tmp_path / 'mine.py'}:read"]
    assert main(command) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "edgecascade: --decode: it raised KeyError: 'nothing'"


def test_connect_keeps_an_onnx_file_for_either_use(tmp_path: Path) -> None:
    """It is not known when it is opened which of them it is for."""
    remote = connect(remote_file(tmp_path))
    assert remote is not None
    remote.expect_outputs(("tripled",))  # type: ignore[attr-defined]
    answers = remote.infer(X, Deadline.after(1))
    assert [list(one) for one in answers] == [["tripled"]] * 2  # type: ignore[union-attr]
    assert len(NO_OUTPUTS) == 0
