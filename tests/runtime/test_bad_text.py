"""Text that is no text: it is refused where it comes in, and never ends a run or another client's connection."""

import hashlib
import json
import os
import shutil
import socket
import string
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from documents import document_of
from edgecascade.calibration import AdvantageTable, DecisionRule
from edgecascade.cli import main
from edgecascade.export import fold, save_model
from edgecascade.runtime import Cascade, InputError
from edgecascade.runtime.commands.lines import Given, LineInput, Refused
from edgecascade.runtime.commands.sources import Stored, read_source
from edgecascade.types.document import PREPROCESSING_KEY, TextPreprocessing, preprocessing_dict
from edgecascade.types.errors import ModelFileError

PATIENCE = 60.0
WORDS = {"[UNK]": 0, "red": 1, "green": 2, "blue": 3}
HALF_AN_EMOJI = r"\ud83d"  # as JavaScript cuts a string: valid JSON, and no text


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cascade model of sentences whose label is the colour that they name most often."""
    folder = tmp_path_factory.mktemp("text")
    tokenizer = Tokenizer(WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    table = np.array([[0, 0, 0.1], [4, 0, 0], [0, 4, 0], [0, 0, 4]], np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
            helper.make_node("Cast", ["attention_mask"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["floats", "last"], ["mask"]),
            helper.make_node("Mul", ["rows", "mask"], ["masked"]),
            helper.make_node("ReduceSum", ["masked", "first"], ["logits"], keepdims=0),
        ],
        "colours",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array([2]), "last"),
            numpy_helper.from_array(np.array([1]), "first"),
        ],
    )
    body = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    digest = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
    preprocessing = TextPreprocessing("tokenizer.json", digest, 16, ("input_ids", "attention_mask"))
    body.metadata_props.add(key=PREPROCESSING_KEY, value=json.dumps(preprocessing_dict(preprocessing)))
    edges, values = np.array([0.6], np.float32), np.array([-0.25, 0.25], np.float32)
    rule = DecisionRule(1.0, AdvantageTable(edges, values, np.array([10, 10])), threshold=0.0)
    save_model(fold(body, logits="logits", rule=rule, document=document_of(rule)), folder / "local.onnx")
    return folder / "local.onnx"


def test_sentences_in_a_file_are_those_on_standard_input(sentences: Path, tmp_path: Path) -> None:
    """A line is a sentence, JSON with a sentence and its key, or nothing, which is a sentence too."""
    text = tmp_path / "sentences.txt"
    text.write_text('red\n{"x": "blue", "key": "k"}\n\n[1, 2]\n')
    with Cascade.load(sentences) as cascade:
        source = read_source(str(text))
        assert isinstance(source, Stored)
        items = list(source.items(cascade.inputs))
    assert [item.x for item in items if isinstance(item, Given)] == ["red", "blue", "", "[1, 2]"]
    assert [item.name for item in items] == [f"{text}:{n}" for n in (1, 2, 3, 4)]
    assert items[1].key == "k"


def test_every_line_of_a_jsonl_file_is_json(sentences: Path, tmp_path: Path) -> None:
    """A sentence alone or as `text` or `x`; what calibration calls `text` is no sentence with braces."""
    lines = [
        '"red"',
        '{"text": "blue", "key": "k"}',
        '{"x": "green"}',
        '{"sentence": "red"}',
        '["red"]',
        "red",
        '{"x": 1}',
    ]
    file = tmp_path / "sentences.jsonl"
    file.write_text("\n".join(lines) + "\n")
    with Cascade.load(sentences) as cascade:
        source = read_source(str(file))
        assert isinstance(source, Stored)
        items = list(source.items(cascade.inputs))
        piped = LineInput(cascade.inputs)
        assert [piped.read(one.encode(), "-") for one in lines[1:3]] == [Given("-", "blue", "k"), Given("-", "green")]
    assert [one.x if isinstance(one, Given) else None for one in items] == ["red", "blue", "green", *[None] * 4]
    assert items[1].key == "k"


def test_a_file_without_its_tokenizer_is_not_verified(
    sentences: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`inspect --verify` is what an update waits for, and `run` would refuse the file."""
    shutil.copy(sentences, tmp_path)
    assert main(["inspect", str(tmp_path / sentences.name), "--verify"]) == 2
    assert "tokenizer" in capsys.readouterr().err


def test_a_table_of_sentences_is_answered_as_they_are(sentences: Path, tmp_path: Path) -> None:
    """As columns and from a parquet file; the remote gets the sentences, and a missing one is refused."""
    colours = np.random.default_rng(1).choice(["red", "green", "blue", "grey"], (300, 5))
    texts = [" ".join(one[: 1 + i % 5]) for i, one in enumerate(colours.tolist())]

    def remote(asked: Any) -> Any:
        return np.array([[3.0 * one.count(name) for name in ("red", "green", "blue")] for one in asked])

    with Cascade.load(sentences, remote=remote, deadline=60.0) as cascade:
        expected = cascade.predict_batch(texts)
        for rows in (texts, pa.table({"text": texts}), pa.chunked_array([texts])):
            columns = cascade.predict_columns(rows)
            assert columns.label.tolist() == [one.label for one in expected]
            assert columns.reason.tolist() == [one.reason.value for one in expected]
        assert {"confident", "offloaded"} <= {*columns.reason.tolist()}
        with pytest.raises(InputError):
            cascade.decide(pa.table({"text": ["red", None]}))
        pq.write_table(pa.table({"text": texts}), tmp_path / "rows.parquet", row_group_size=100)
        output = tmp_path / "answers.parquet"
        assert main(["run", str(sentences), str(tmp_path / "rows.parquet"), "-o", str(output)]) == 0
        assert pq.read_table(output)["label"].to_pylist() == cascade.decide(texts).label.tolist()


@pytest.mark.parametrize("x", ["red \ud83d", None, b"red", 3, ["red", "green"], np.array([b"red"]), object()])
def test_what_is_no_sentence_is_refused(sentences: Path, x: Any) -> None:
    """`predict` raises `InputError`, and a batch with such an element does too."""
    with Cascade.load(sentences) as cascade:
        assert cascade.predict("red green red").name == "red"
        with pytest.raises(InputError):
            cascade.predict(x)
        batch = np.empty(2, object)
        batch[:] = ["red", x]
        with pytest.raises(InputError):
            cascade.predict_batch(batch)


def piped(text: str, *arguments: object) -> tuple[int, list[dict[str, Any]], str]:
    """Return exit code, lines and standard error of `run` with a text on standard input."""
    command = [sys.executable, "-m", "edgecascade.cli", "run", *map(str, arguments)]
    ran = subprocess.run(command, input=text.encode(), capture_output=True, check=False, timeout=PATIENCE)
    return ran.returncode, [json.loads(line) for line in ran.stdout.splitlines()], ran.stderr.decode()


BAD_LINES = [f'{{"x": "red {HALF_AN_EMOJI}"}}', f'{{"x": "red", "key": "{HALF_AN_EMOJI}"}}']


def test_a_bad_line_gets_an_error_and_the_rest_is_answered(sentences: Path) -> None:
    """The exit code tells that an input was refused."""
    code, lines, said = piped("\n".join(["red", *BAD_LINES, "blue"]), sentences, "-")
    assert code == 2
    assert [line.get("name") for line in lines] == ["red", None, None, "blue"]
    assert [("error" in line) for line in lines] == [False, True, True, False]
    assert "Traceback" not in said


def test_bytes_that_are_not_utf8_are_shown_as_such_and_answered(sentences: Path) -> None:
    """A sentence with damaged bytes is still a sentence."""
    with Cascade.load(sentences) as cascade:
        reader = LineInput(cascade.inputs)
        given = reader.read(b"red \xff\xfe red", "line")
        assert isinstance(given, Given)
        assert cascade.predict(given.x).name == "red"


@pytest.mark.parametrize("path", [f'{{"x": "{HALF_AN_EMOJI}.png"}}', "a" * 5000 + ".png", r'{"x": "a\u0000.png"}'])
def test_a_path_that_no_file_can_have_gets_an_error(pair: Path, tmp_path: Path, path: str) -> None:
    """The images before and after it are answered."""
    from PIL import Image

    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(tmp_path / "a.png")
    good = str(tmp_path / "a.png")
    code, lines, said = piped("\n".join([good, path, good]), pair / "local.onnx", "-")
    assert code == 2
    assert ["error" in line for line in lines] == [False, True, False]
    assert "Traceback" not in said


@contextmanager
def listening(*arguments: object) -> Iterator[tuple[str, int]]:
    """Run `run` on a TCP port; give the address."""
    command = [sys.executable, "-m", "edgecascade.cli", "run", *map(str, arguments), "tcp://127.0.0.1:0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        host, _, port = process.stderr.readline().strip().rpartition("//")[2].rpartition(":")
        yield host, int(port)
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


def test_one_client_cannot_end_the_service_of_others(sentences: Path) -> None:
    """Bad lines and a broken connection of one leave another's connection, and new ones, as they are."""
    with listening(sentences) as address, socket.create_connection(address, PATIENCE) as other:
        for bad in BAD_LINES:
            with socket.create_connection(address, PATIENCE) as client:
                client.sendall(bad.encode() + b"\n" + b"\xff\xfe\n" + b'{"x": {"x": 1}}\n')
                assert "error" in json.loads(client.makefile("rb").readline())
        other.sendall(b"green\n")
        assert json.loads(other.makefile("rb").readline())["name"] == "green"
        with socket.create_connection(address, PATIENCE) as last:
            last.sendall(b"blue\n")
            assert json.loads(last.makefile("rb").readline())["name"] == "blue"


def test_others_are_answered_while_a_long_line_is_decoded(file: Path) -> None:
    """A line of 12 MiB, which gets an error in the end, holds up nobody else."""
    with (
        listening(file) as address,
        socket.create_connection(address, PATIENCE) as client,
        socket.create_connection(address, PATIENCE) as other,
    ):
        client.sendall(b"[" + b"0," * (6 << 20) + b"0]")  # all but its end
        replies = other.makefile("rb")
        other.sendall(b"[5, 0, 0]\n")
        assert json.loads(replies.readline())["name"] == "red"
        client.sendall(b"\n")
        client.setblocking(False)
        answered = 0
        while True:
            other.sendall(b"[5, 0, 0]\n")
            assert json.loads(replies.readline())["name"] == "red"
            try:
                said = client.recv(1 << 16)
                break
            except BlockingIOError:
                answered += 1
    assert "error" in json.loads(said)
    assert answered > 3


_OPEN: list[Cascade] = []  # one of each kind of input

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(["\ud83d", "\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "key", "z", "b64"]), inner),
    max_leaves=6,
)
_lines = st.one_of(
    _json.map(lambda value: json.dumps(value).encode()),
    st.text(string.printable, max_size=30).map(str.encode),
    st.binary(max_size=30).filter(lambda line: b"\n" not in line),
)


@settings(max_examples=300)
@given(_lines)
def test_no_line_raises_another_error(line: bytes) -> None:
    """Of a model of text, of images or of numbers, each line is an input that `predict` takes, or is refused."""
    for cascade in _OPEN:
        found = LineInput(cascade.inputs).read(line, "line")
        if not isinstance(found, Given):
            assert found is None or isinstance(found, Refused)
            continue
        try:
            cascade.predict(found.x, key=found.key)
        except InputError:
            continue


@pytest.fixture(autouse=True, scope="module")
def _opened(sentences: Path, pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Open one cascade of each kind of input for the property above, in an empty folder."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("empty"))
    _OPEN.extend(Cascade.load(path) for path in (sentences, pair / "local.onnx"))
    yield
    os.chdir(before)
    for cascade in _OPEN:
        cascade.close()
    _OPEN.clear()


def test_tokens_that_no_tokenizer_gives_are_refused_at_once(sentences: Path, tmp_path: Path) -> None:
    """Not at the first sentence, by an exception that is none of edgecascade's."""
    model = onnx.load(sentences)
    (entry,) = (one for one in model.metadata_props if one.key == PREPROCESSING_KEY)
    entry.value = entry.value.replace("attention_mask", "position_ids")
    onnx.save(model, tmp_path / "local.onnx")
    shutil.copy(sentences.parent / "tokenizer.json", tmp_path)
    with pytest.raises(ModelFileError, match=r"expected its tokens as .*, got position_ids"):
        Cascade.load(tmp_path / "local.onnx")
