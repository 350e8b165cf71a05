"""Every parser of what comes from outside: model files, documents, replies, requests and stored files.

Each has samples that are valid, a way to change them, and a function that reads them as the product does.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgecascade import cli
from edgecascade.calibration import MostAccuracy
from edgecascade.export import (
    LabelledData,
    calibrate,
    calibrate_task,
    local_scores,
    prepend,
    quantize_int8,
    save_model,
)
from edgecascade.runtime import (
    Budget,
    Cascade,
    Chat,
    Deadline,
    OpenInference,
    OpenInferenceGrpc,
    Outbox,
    Prediction,
    Rate,
    Reason,
    RemoteError,
)
from edgecascade.runtime.engine import numpy_dtype, open_session
from edgecascade.runtime.golden import read_golden
from edgecascade.runtime.outbox.packed import Packing, pack_prediction, unpack, unpack_prediction
from edgecascade.runtime.outbox.sender import Sender
from edgecascade.runtime.remotes.http_response import Response, ResponseReader
from edgecascade.runtime.remotes.open_inference_grpc import make_messages
from edgecascade.runtime.saturation import unsafe_weights
from edgecascade.runtime.serving.messages import read_request
from edgecascade.types.document import GOLDEN_KEY, KEY, CascadeDocument, ImagePreprocessing, TaskDocument
from studies.mutants import Mutate, mutate_bytes, mutate_json, mutate_message, mutate_onnx, mutate_packet, pick
from studies.speed import tiny_cascade

__all__ = ["PARSERS", "Parser", "make_parser"]

PARSERS: Mapping[str, int] = {  # percent of the mutants
    "model file": 8,
    "task file": 5,
    "LiteRT file": 3,
    "document": 8,
    "task document": 5,
    "golden inputs": 4,
    "JSON reply": 13,
    "binary reply": 11,
    "metadata": 8,
    "gRPC reply": 10,
    "chat reply": 9,
    "request": 5,
    "outbox file": 4,
    "outbox log": 3,
    "packed input": 2,
    "budget file": 2,
}
_LITERT = Path(__file__).parents[2] / "tests" / "runtime" / "data" / "colours.tflite"
_SECONDS = 5.0  # of each request
_CLASSES = 10
_INPUT = np.array([[0.0, 0.5, 0.0]], np.float32)
_HEADER_LENGTH = re.compile(rb"(?i)inference-header-content-length: (\d{1,9})\b")
_LOCAL = Prediction(0, 0.5, np.array([0.5, 0.3, 0.2], np.float32))
_LABELS = ("red", "green", "blue")


class Parser(NamedTuple):
    """A parser.

    Attributes:
        samples: Valid inputs.
        mutate: Returns a changed copy of a sample.
        read: Reads an input as the product does. It may raise an `EdgecascadeError`, or a `TimeoutError` of a remote.
    """

    samples: tuple[bytes, ...]
    mutate: Mutate
    read: Callable[[bytes], object]

    def mutant(self, rng: Random) -> bytes:
        """Return a changed copy of one of the samples."""
        sample = pick(self.samples, rng)
        try:
            return self.mutate(sample, rng)
        except Exception:  # two samples that were joined have no structure; libraries have many errors for that
            return mutate_bytes(sample, rng)


def make_parser(name: str, folder: Path) -> Parser:
    """Return the parser of this name.

    Args:
        name: One of `PARSERS`.
        folder: An empty folder for its files.

    Raises:
        ModuleNotFoundError: It needs a package that is not installed.
    """
    return _MAKERS[name](folder)


def _models(folder: Path, *, task: bool) -> Parser:
    """Return the parser of cascade files, those of a general task or of classifiers."""
    samples, path = _samples(folder, task=task), folder / "mutant.onnx"

    def read(content: bytes) -> None:
        unsafe_weights(content)  # which the runtime asks on some CPUs only
        path.write_bytes(content)
        _load_and_show(path)

    return Parser(tuple(one.read_bytes() for one in samples), mutate_onnx, read)


def _litert(folder: Path) -> Parser:
    if find_spec("ai_edge_litert") is None:
        raise ModuleNotFoundError("ai-edge-litert is not installed", name="ai_edge_litert")
    path = folder / "mutant.tflite"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        _load_and_show(path)

    return Parser((_LITERT.read_bytes(),), mutate_bytes, read)


def _load_and_show(path: Path) -> None:
    """Load a file, answer two inputs, and print what it holds."""
    with Cascade.load(path) as cascade:
        (declared, *_) = cascade._local.inputs.declared
        sides = [side if isinstance(side, int) else 8 for side in declared.shape[1:]]
        if np.prod(sides, dtype=float) < 1 << 20:
            cascade.predict(np.ones(sides, numpy_dtype(declared.type)))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        cli.main(["inspect", str(path)])


def _samples(folder: Path, *, task: bool) -> tuple[Path, Path]:
    """Write two cascade files of a general task, or of classifiers."""
    if task:
        return _task_cascade(folder, "platt"), _task_cascade(folder, "map")
    return tiny_cascade(folder, hidden=2)[0], _image_cascade(folder)


def _documents(folder: Path, *, task: bool) -> Parser:
    """Return the parser of the documents in such files."""
    paths, path = _samples(folder, task=task), folder / "mutant.onnx"
    model, kind = ModelProto.FromString(paths[0].read_bytes()), TaskDocument if task else CascadeDocument
    texts = [open_session(one).get_modelmeta().custom_metadata_map[KEY].encode() for one in paths]

    def mutate(sample: bytes, rng: Random) -> bytes:
        return mutate_json(sample, rng) if rng.random() < 0.6 else mutate_bytes(sample, rng)

    def read(content: bytes) -> None:
        text = content.decode(errors="replace")
        kind.from_json(text, "mutant")
        for entry in model.metadata_props:
            if entry.key == KEY:
                entry.value = text
        path.write_bytes(model.SerializeToString())
        _load_and_show(path)

    return Parser(tuple(texts), mutate, read)


def _golden(folder: Path) -> Parser:
    tiny, _ = tiny_cascade(folder, hidden=2)
    text = open_session(tiny).get_modelmeta().custom_metadata_map[GOLDEN_KEY]

    class Engine:
        def __init__(self, text: str) -> None:
            self.custom_metadata_map = {GOLDEN_KEY: text}

        def get_modelmeta(self) -> Any:
            return self

    def mutate(sample: bytes, rng: Random) -> bytes:
        packed = base64.b64decode(sample)
        if rng.random() < 0.5:
            return base64.b64encode(mutate_bytes(packed, rng))
        changed = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(packed)) as old, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as new:
            chosen = rng.choice(old.namelist())
            for name in old.namelist():
                new.writestr(name, mutate_bytes(old.read(name), rng) if name == chosen else old.read(name))
        return base64.b64encode(changed.getvalue())

    def read(content: bytes) -> None:
        read_golden(Engine(content.decode("latin-1")), "mutant")  # type: ignore[arg-type]

    return Parser((text.encode(),), mutate, read)


def _image_cascade(folder: Path) -> Path:
    """Write a cascade of an int8 network that takes images of any size."""
    rng = np.random.default_rng(1)
    weights = {"w": rng.normal(size=(4, 3, 3, 3)), "v": rng.normal(size=(4, 3)), "b": rng.normal(size=3)}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("GlobalAveragePool", ["r"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("Gemm", ["f", "v", "b"], ["logits"]),
        ],
        "image",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(one.astype(np.float32), name) for name, one in weights.items()],
    )
    plain = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    quantized = quantize_int8(plain, rng.normal(size=(64, 3, 8, 8)).astype(np.float32))
    form = ImagePreprocessing(8, 8, (127.0, 127.0, 127.0), (60.0, 60.0, 60.0))
    body, path = folder / "image-body.onnx", folder / "image.onnx"
    save_model(prepend(form, quantized), body)
    inputs = rng.integers(0, 256, (400, 10, 12, 3), dtype=np.uint8)
    logits = local_scores(body, inputs)
    remote = logits + rng.normal(size=logits.shape)
    labels = (remote + rng.gumbel(size=logits.shape)).argmax(axis=1)
    data = LabelledData(inputs, labels, _LABELS, "0" * 64)
    calibrate(body, path, data, logits, remote, objective=MostAccuracy(0.2), scores=["confidence"], merges=["replace"])
    return path


def _task_cascade(folder: Path, calibrator: str) -> Path:
    """Write the cascade of a regression that estimates its own error, with a map of this kind."""
    rng = np.random.default_rng(2)
    value, error = rng.normal(size=(2, 4, 1)).astype(np.float32)
    sides: list[str | int | None] = ["batch", 1]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "v"], ["value"]), helper.make_node("MatMul", ["x", "e"], ["error"])],
        "regression",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name in ("value", "error")],
        [numpy_helper.from_array(value, "v"), numpy_helper.from_array(error, "e")],
    )
    body, path = folder / "regression-body.onnx", folder / f"{calibrator}.onnx"
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), body)

    def truth(x: Any) -> Any:
        return (x @ value + np.exp(x @ error) * np.sin(100 * x.sum(axis=1, keepdims=True)))[:, 0]

    inputs = rng.normal(size=(400, 4)).astype(np.float32)
    calibrate_task(
        body,
        path,
        inputs,
        truth(inputs).tolist(),
        confidence="output:output=error,negate=yes",
        verifier="within:tolerance=1",
        remote=lambda x: {"value": truth(x)},
        decode=lambda outputs: float(outputs["value"][0]),
        remote_decode=lambda outputs: float(outputs["value"]),
        objective=MostAccuracy(0.3),
        calibrator=calibrator,
    )
    return path


class _Wire:
    """What `HttpClient` does, with the bytes of a response instead of a server."""

    def __init__(self, metadata: bytes = b"") -> None:
        self.metadata, self.response = metadata, b""

    def request(
        self, method: str, _path: str, _body: Any, headers: Mapping[str, str], deadline: Deadline, *, largest: int
    ) -> Response:
        """Return the response that was set, as far as its bytes reach."""
        pieces = iter([self.metadata if method == "GET" else self.response])
        reader = ResponseReader(lambda: next(pieces, b""))
        try:
            return reader.read(largest=largest, gzip="gzip" in headers.get("Accept-Encoding", ""), deadline=deadline)
        except ConnectionResetError as error:
            raise RemoteError(f"the connection broke: {error}") from error

    def close(self) -> None:
        """Do nothing."""


class _Judge:
    """A cascade that forwards an input to a remote with given scores.

    Args:
        folder: A folder for its file.
    """

    def __init__(self, folder: Path) -> None:
        path, inputs = tiny_cascade(folder, hidden=2)
        self._x, self._scores = inputs[0], np.zeros((1, _CLASSES))
        self._cascade = Cascade.load(path, remote=lambda _: self._scores, threshold=2.0, deadline=60)

    def judge(self, scores: Any) -> None:
        """Check that the answer is a valid one, whatever the scores are."""
        self._scores = scores
        answer = self._cascade.predict(self._x)
        assert answer.reason in (Reason.OFFLOADED, Reason.REMOTE_ERROR), answer
        assert 0 <= answer.confidence <= 1, answer


def _response(value: Any, raw: bytes = b"") -> bytes:
    text = json.dumps(value).encode()
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(text) + len(raw)}"]
    lines += [f"Inference-Header-Content-Length: {len(text)}"] if raw else []
    return "\r\n".join([*lines, "", ""]).encode() + text + raw


def _reply(**fields: Any) -> dict[str, Any]:
    output = {"name": "logits", "datatype": "FP32", "shape": [1, _CLASSES], **fields}
    other = {"name": "embedding", "datatype": "FP32", "shape": [1, 2], "data": [0.5, -1]}
    outputs = [output] if "parameters" in fields else [output, other]
    return {"model_name": "m", "model_version": "1", "outputs": outputs}


_DESCRIPTION = {
    "name": "m",
    "versions": ["1"],
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
    "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, _CLASSES]}],
    "parameters": {"classlabels": ",".join(map(str, range(_CLASSES)))},
}


def _json_replies(folder: Path) -> Parser:
    scores, judge = np.linspace(-3, 3, _CLASSES).tolist(), _Judge(folder)
    wire = _Wire(_response(_DESCRIPTION))
    remote = _with_wire(OpenInference("http://remote/v2/models/m", compress=True), wire)
    samples = _reply(data=scores), _reply(data=[scores]), {"error": "no such model"}

    def read(content: bytes) -> None:
        wire.response = content
        judge.judge(remote.infer(_INPUT, Deadline.after(_SECONDS)))

    return Parser(tuple(map(_response, samples)), mutate_packet, read)


def _binary_replies(folder: Path) -> Parser:
    judge, wire = _Judge(folder), _Wire(_response(_DESCRIPTION))
    remote = _with_wire(OpenInference("http://remote/v2/models/m"), wire)
    raws = {kind: np.linspace(-3, 3, _CLASSES).astype(of).tobytes() for kind, of in (("FP32", "<f4"), ("FP16", "<f2"))}
    samples = [
        _response(_reply(datatype=kind, parameters={"binary_data_size": len(raw)}), raw) for kind, raw in raws.items()
    ]

    def read(content: bytes) -> None:
        wire.response = content
        judge.judge(remote.infer(_INPUT, Deadline.after(_SECONDS)))

    return Parser(tuple(samples), partial(mutate_packet, binary=True), read)


def _metadata(folder: Path) -> Parser:
    judge, good = _Judge(folder), _response(_reply(data=[0.0] * _CLASSES))

    def read(content: bytes) -> None:
        wire = _Wire(content)
        wire.response = good
        remote = _with_wire(OpenInference("http://remote/v2/models/m"), wire)
        judge.judge(remote.infer(_INPUT, Deadline.after(_SECONDS)))

    return Parser((_response(_DESCRIPTION),), mutate_packet, read)


def _grpc_replies(folder: Path) -> Parser:
    judge, messages = _Judge(folder), make_messages()
    scores = np.linspace(-3, 3, _CLASSES).astype(np.float32)
    described = messages["ModelMetadataResponse"]()
    described.inputs.add(name="x", datatype="FP32", shape=[-1, 3])
    described.outputs.add(name="logits", datatype="FP32", shape=[-1, _CLASSES])
    raw, typed = (messages["ModelInferResponse"](model_name="m") for _ in range(2))
    for one in (raw, typed):
        one.outputs.add(name="logits", datatype="FP32", shape=[1, _CLASSES])
    raw.raw_output_contents.append(scores.tobytes())
    typed.outputs[0].contents.fp32_contents.extend(scores.tolist())
    mark = {True: b"M", False: b"I"}  # the first byte of a sample: a description or a reply
    samples = [mark[one is described] + one.SerializeToString() for one in (raw, typed, described)]

    def mutate(sample: bytes, rng: Random) -> bytes:
        if rng.random() < 0.5:
            return sample[:1] + mutate_bytes(sample[1:], rng)
        kind = "ModelMetadataResponse" if sample.startswith(b"M") else "ModelInferResponse"
        return sample[:1] + mutate_message(messages[kind].FromString(sample[1:]), rng)

    def read(content: bytes) -> None:
        remote: Any = OpenInferenceGrpc("grpc://remote/v2/models/m")
        given = {"ModelInfer": raw.SerializeToString(), "ModelMetadata": described.SerializeToString()}
        given["ModelMetadata" if content.startswith(b"M") else "ModelInfer"] = content[1:]
        remote._method = lambda path: lambda *_, **__: given[path.rpartition("/")[2]]
        judge.judge(remote.infer(_INPUT, Deadline.after(_SECONDS)))

    return Parser(tuple(samples), mutate, read)


def _chat_replies(folder: Path) -> Parser:
    judge, wire = _Judge(folder), _Wire()
    labels = ("red", "green", "blue", *(f"colour {i}" for i in range(_CLASSES - 3)))
    remotes = [
        _with_wire(Chat("http://remote/v1", labels=labels, answer=answer), wire)
        for answer in ("letter", "label", "text")
    ]

    def token(text: str, *others: str) -> dict[str, Any]:
        top = [
            {"token": one, "logprob": -0.5 - i, "bytes": list(one.encode())} for i, one in enumerate((text, *others))
        ]
        return {**top[0], "top_logprobs": top}

    def reply(text: str, *tokens: dict[str, Any]) -> bytes:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "logprobs": {"content": tokens}, "finish_reason": "stop"}
        return _response({"id": "a", "object": "chat.completion", "model": "m", "choices": [choice]})

    samples = (
        reply("B", token("B", "A", " C")),
        reply("green", token("gr", "re", "blue"), token("een", "ay"), token("")),
        _response({"error": {"message": "too long", "code": 400}}),
    )

    def read(content: bytes) -> None:
        wire.response = content
        refusals = []
        for remote in remotes:
            try:
                judge.judge(remote.infer(np.array(["a text"]), Deadline.after(_SECONDS)))
            except RemoteError as error:
                refusals.append(error)
        if len(refusals) == len(remotes):
            raise refusals[0]

    return Parser(samples, mutate_packet, read)


def _with_wire(remote: Any, wire: _Wire) -> Any:
    remote._client = wire
    return remote


def _requests(_: Path) -> Parser:
    raw = np.arange(6, dtype="<f4").tobytes()
    inputs = [{"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [0, 1, 2, 3.5, 4, -5]}]
    texts = [{"name": "t", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}]
    packed = [{"name": "x", "datatype": "FP32", "shape": [2, 3], "parameters": {"binary_data_size": len(raw)}}]
    asked = [{"name": "label", "parameters": {"binary_data": True}}]
    samples = [
        _response({"id": "1", "inputs": one, "outputs": asked}, raw if one is packed else b"")
        for one in (inputs, texts, packed)
    ]

    def read(content: bytes) -> None:
        head, _, body = content.partition(b"\r\n\r\n")
        size = _HEADER_LENGTH.search(head)
        read_request(body, int(size[1]) if size else None)

    return Parser(tuple(samples), mutate_packet, read)


def _outbox(folder: Path, *, log: bool) -> Parser:
    """Return the parser of the outbox's main file, or of the write-ahead log beside it."""
    place = folder / "outbox"
    main, ahead = _outbox_files(folder / "sample")

    def read(content: bytes) -> None:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        (place / "db").write_bytes(main if log else content)
        (place / "db-wal").write_bytes(content if log else ahead)
        with contextlib.closing(Outbox(place / "db")) as outbox:
            sender = Sender(outbox._store, lambda batch, _: [_LOCAL] * len(batch), None, keep=1e9, patience=1.0)
            for _ in range(4):
                sender.step()
            for late in outbox.late():
                assert late.remote.probabilities.shape == (3,), late
            assert outbox.counts().unusable is None, outbox.counts()
            assert outbox.put("new", np.array([[1.0]]), _LOCAL), outbox.counts()

    return Parser((ahead,) if log else (main,), mutate_bytes, read)


def _outbox_files(folder: Path) -> tuple[bytes, bytes]:
    """Return an outbox's main file and its log, as a crash leaves them: with inputs, answers and endings."""
    folder.mkdir()
    with contextlib.closing(Outbox(folder / "db")) as outbox:
        for i in range(12):
            outbox.put(f"key {i}", np.full((1, 40), i, np.float32), _LOCAL)
            if i == 6:
                outbox._store.sync()
            if i in (2, 8):
                outbox.answer(np.full((1, 40), i, np.float32), _LOCAL)
                outbox.flush()
        return (folder / "db").read_bytes(), (folder / "db-wal").read_bytes()


def _packed(_: Path) -> Parser:
    texts = np.array([b"\xff\xd8", b""], object)[:, None]
    inputs = [Packing(one).data() for one in (np.zeros((1, 4, 4), np.uint8), {"a": texts[:1], "b": np.array(["text"])})]
    samples = [bytes(one) for one in (*inputs, pack_prediction(_LOCAL))]

    def mutate(sample: bytes, rng: Random) -> bytes:
        changed = mutate_bytes(sample, rng)
        if len(changed) < 12 or rng.random() < 0.1:
            return changed
        sealed = zlib.crc32(changed[12:]).to_bytes(4, "little")  # as of one that was packed so
        return changed[:8] + sealed + changed[12:]

    def read(content: bytes) -> None:
        if content.startswith(samples[-1][:8]):
            unpack_prediction(content)
        else:
            unpack(content)

    return Parser(tuple(samples), mutate, read)


def _budgets(folder: Path) -> Parser:
    path = folder / "budget.json"

    def open_budget() -> Budget:
        return Budget(forwards=[Rate(10, 60), Rate(1000, 86_400)], bytes=Rate(1e6, 60), path=path)

    open_budget().close()
    sample = path.read_bytes()

    def mutate(sample: bytes, rng: Random) -> bytes:
        return mutate_json(sample, rng) if rng.random() < 0.6 else mutate_bytes(sample, rng)

    def read(content: bytes) -> None:
        path.write_bytes(content)
        with contextlib.closing(open_budget()) as budget:
            budget.admits(-0.5, 0.5, 100)
            assert all(0 <= level <= 1 for level in budget.levels.values()), budget.levels

    return Parser((sample,), mutate, read)


_MAKERS: Mapping[str, Callable[[Path], Parser]] = {
    "model file": partial(_models, task=False),
    "task file": partial(_models, task=True),
    "LiteRT file": _litert,
    "document": partial(_documents, task=False),
    "task document": partial(_documents, task=True),
    "golden inputs": _golden,
    "JSON reply": _json_replies,
    "binary reply": _binary_replies,
    "metadata": _metadata,
    "gRPC reply": _grpc_replies,
    "chat reply": _chat_replies,
    "request": _requests,
    "outbox file": partial(_outbox, log=False),
    "outbox log": partial(_outbox, log=True),
    "packed input": _packed,
    "budget file": _budgets,
}
