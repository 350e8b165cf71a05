"""Multiple-choice questions: files in MMLU's form, examples, an endpoint with known probabilities, and the page."""

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from edgecascade.benchmarks.choices import Question, measure_choices, read_questions, write_questions
from edgecascade.benchmarks.choices.chooser import EndpointChooser, messages_for
from edgecascade.benchmarks.choices.questions import with_shots
from edgecascade.calibration import proportion_interval
from edgecascade.cli import main
from edgecascade.types.errors import BenchmarkError

SUMS = [Question(f"{n} + {n}?", ("2", "4", "6", "8"), n - 1, "sums") for n in (1, 2, 3, 4)]
COLOURS = [Question(f"Colour of {what}?", ("red", "green"), at, "colours") for what, at in (("grass", 1), ("blood", 0))]


class Endpoint:
    """A chat endpoint that says what it is told to, with given probabilities, and remembers what it was asked.

    Attributes:
        said: by the last message's first line: tokens with probabilities, the first of which is generated.
        asked: the requests.
    """

    def __init__(self) -> None:
        self.said: dict[str, list[tuple[str, float]]] = {}
        self.asked: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append(asked)
                tokens = outer.said[asked["messages"][-1]["content"].split("\n")[0]]
                listed = [{"token": token, "logprob": math.log(share)} for token, share in tokens]
                content = [{**listed[0], "top_logprobs": listed}]
                choice = {"message": {"content": tokens[0][0]}, "logprobs": {"content": content}}
                body = json.dumps({"choices": [choice]}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A running endpoint."""
    made = Endpoint()
    yield made
    made.close()


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_mmlu_files_are_read_in_both_forms(suffix: str, tmp_path: Path) -> None:
    """Index, letter and text name the same answer, and `options` the same as `choices`."""
    path = tmp_path / f"questions{suffix}"
    if suffix == ".jsonl":
        rows = [{"question": "1 + 1?", "choices": ["3", "2"], "answer": answer} for answer in (1, "B", "b", "2")]
        rows.append({"question": "1 + 1?", "options": ["3", "2"], "answer": 1})
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        rows = [{"question": "1 + 1?", "subject": "", "choices": ["3", "2"], "answer": 1}]
        parquet.write_table(pa.Table.from_pylist(rows), path)
    assert set(read_questions(path)) == {Question("1 + 1?", ("3", "2"), 1)}


def test_written_questions_are_read_back(tmp_path: Path) -> None:
    """Nothing is lost, and an answer whose text is another choice's letter keeps its meaning."""
    questions = [*SUMS, Question("Which vowel?", ("B", "A"), 1, "letters"), Question("ß?\n", ("s", "ä"), 0)]
    write_questions(questions, tmp_path / "questions.jsonl")
    assert read_questions(tmp_path / "questions.jsonl") == questions


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("{", "questions.jsonl:2"),
        ("[1]", "questions.jsonl:2"),
        ('{"choices": ["a", "b"], "answer": 0}', "question"),
        ('{"question": "?", "choices": "ab", "answer": 0}', "choices"),
        ('{"question": "?", "choices": ["a"], "answer": 0}', "choices"),
        ('{"question": "?", "choices": ["a", "a"], "answer": 0}', "choices"),
        ('{"question": "?", "choices": ["a", "b"], "answer": 2}', "answer"),
        ('{"question": "?", "choices": ["a", "b"], "answer": -1}', "answer"),
        ('{"question": "?", "choices": ["a", "b"], "answer": "c"}', "answer"),
        ('{"question": "?", "choices": ["a", "b"]}', "answer"),
    ],
)
def test_a_damaged_line_is_one_error(line: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends with 2 and one line that names what is wrong, before anything is asked."""
    path = tmp_path / "questions.jsonl"
    path.write_text(f'{{"question": "?", "choices": ["a", "b"], "answer": 0}}\n{line}\n')
    assert main(["bench", "choices", str(path), "--endpoint", "http://127.0.0.1:9/v1"]) == 2
    said = capsys.readouterr().err.strip()
    assert named in said
    assert "\n" not in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["absent.jsonl", "--endpoint", "http://127.0.0.1:9/v1"],
        ["{}"],
        ["{}", "--endpoint", "127.0.0.1:9"],
        ["{}", "--endpoint", "http://127.0.0.1:9/v1", "--shots", "4"],
        ["{}", "--endpoint", "http://127.0.0.1:9/v1", "--shots", "1", "--examples", "{}.none"],
        ["{}", "--file", "absent.onnx"],
        ["{}", "--file", "absent.onnx", "--endpoint-model", "x"],
    ],
)
def test_bad_input_ends_with_two(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence, no traceback."""
    path = tmp_path / "questions.jsonl"
    write_questions(SUMS, path)
    assert main(["bench", "choices", *(word.format(path) for word in arguments)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_examples_are_of_the_same_subject_and_are_not_asked() -> None:
    """Whether they come from the questions or from another file."""
    own = with_shots([*SUMS, *COLOURS], 1)
    assert [question for question, _ in own] == [*SUMS[1:], COLOURS[1]]
    assert all(shots == (SUMS if q.subject == "sums" else COLOURS)[0:1] for q, (*shots,) in own)
    given = with_shots(SUMS[:2], 2, [*COLOURS, *SUMS[2:]])
    assert given == [(question, tuple(SUMS[2:])) for question in SUMS[:2]]
    with pytest.raises(BenchmarkError, match="colours"):
        with_shots([*SUMS, *COLOURS], 3)


def test_examples_precede_the_question_as_turns(endpoint: Endpoint) -> None:
    """The request holds question, right answer, question, in the form that is asked for."""
    endpoint.said["2 + 2?"] = [("B", 0.7), ("A", 0.3)]
    chooser = EndpointChooser(endpoint.url, "letter", model="small")
    chooser.probabilities(SUMS[1], SUMS[2:3])
    chooser.close()
    (asked,) = endpoint.asked
    assert asked["model"] == "small"
    assert [turn["role"] for turn in asked["messages"]] == ["user", "assistant", "user"]
    assert asked["messages"][1]["content"] == "C"
    assert messages_for(SUMS[1], SUMS[2:3], "words")[1]["content"] == "6"


def test_probabilities_are_those_of_the_listed_tokens(endpoint: Endpoint) -> None:
    """For letters and for words, renormalised over the choices; a reply that names none gives none."""
    endpoint.said |= {
        "Colour of grass?": [("Green", 0.6), ("red", 0.2), ("blue", 0.2)],
        "2 + 2?": [("C", 0.5), (" b", 0.3), ("A", 0.1), ("D", 0.05)],
        "Colour of blood?": [("I", 0.9), ("you", 0.1)],
    }
    words = EndpointChooser(endpoint.url, "words")
    assert words.probabilities(COLOURS[0], ()) == pytest.approx(np.array([0.25, 0.75]))
    assert words.probabilities(COLOURS[1], ()) is None
    letters = EndpointChooser(endpoint.url, "letter")
    assert letters.probabilities(SUMS[1], ()) == pytest.approx(np.array([0.1, 0.3, 0.5, 0.05]) / 0.95)
    letters.close()


def test_accuracy_by_subject_has_exact_intervals() -> None:
    """They are those of a proportion; a reply that names no choice counts as wrong."""
    rows = [np.array([0.7, 0.1, 0.1, 0.1]), np.array([0.1, 0.7, 0.1, 0.1]), None, np.array([0.4, 0.2, 0.2, 0.2])]
    found = measure_choices([*SUMS, *COLOURS], [*rows, np.array([0.2, 0.8]), np.array([0.9, 0.1])])
    sums, colours = found.subjects
    assert (sums.accuracy.value, sums.unread, sums.chance) == (0.5, 1, 0.25)
    assert (sums.accuracy.low, sums.accuracy.high) == pytest.approx(proportion_interval(2, 4))
    assert (colours.accuracy.value, colours.chance) == (1.0, 0.5)
    assert found.overall.accuracy.value == pytest.approx(4 / 6)
    assert found.mean_of_subjects == pytest.approx(0.75)
    assert found.auroc is not None
    assert found.auroc.value == 1.0  # the only wrong answer that could be read is the least sure one


def test_the_command_writes_page_and_json(endpoint: Endpoint, tmp_path: Path) -> None:
    """They hold the same accuracy."""
    write_questions([*SUMS, *COLOURS], tmp_path / "questions.jsonl")
    for question in (*SUMS, *COLOURS):
        endpoint.said[question.question] = [("A", 0.8), ("B", 0.1), ("C", 0.1)]
    out = tmp_path / "report"
    arguments = ["bench", "choices", str(tmp_path / "questions.jsonl"), "--endpoint", endpoint.url]
    assert main([*arguments, "-o", str(out), "--limit", "2"]) == 0
    found = json.loads((out / "result.json").read_text())["choices"]
    assert [one["accuracy"]["value"] for one in found["subjects"]] == [0.5, 0.5]
    assert len(endpoint.asked) == 4
    with (out / "answers.jsonl").open("a") as stored:
        stored.write('{"key": "a line that an interruption cut')
    assert main([*arguments, "-o", str(out), "--limit", "3"]) == 0
    assert len(endpoint.asked) == 5  # only the question that is new
    assert main([*arguments, "-o", str(out), "--limit", "2", "--fresh"]) == 0
    assert len(endpoint.asked) == 9
    found = json.loads((out / "result.json").read_text())["choices"]
    page = (out / "report.html").read_text()
    assert "sums" in page
    assert "50.0 %" in page
