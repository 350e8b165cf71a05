"""An interrupted served run resumes and measures what an uninterrupted one does."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.benchmarks.offload import measure_offload
from edgecascade.benchmarks.offload.report import offload_sections
from edgecascade.benchmarks.offload.served import UNKNOWN, Served, run_served, stored_answers
from edgecascade.benchmarks.pairs.built_in import BUILT_IN
from edgecascade.benchmarks.pairs.prepared import Prepared
from edgecascade.benchmarks.server import serving
from edgecascade.benchmarks.stored import CHUNK, StoredRows
from edgecascade.cli import main
from edgecascade.export import read_labelled
from edgecascade.export.data import LabelledData
from edgecascade.export.scores import remote_scores
from edgecascade.runtime import Cascade, Deadline
from edgecascade.runtime.remotes.remote import Traffic, connect
from edgecascade.types.errors import BenchmarkError

N = 2 * CHUNK + 40
WARM_UP = 20
DEADLINE = 30.0


class Counting:
    """The pair's remote with a counter: 100 bytes sent and 10 received for each request."""

    def __init__(self, path: Path) -> None:
        inside = connect(path)
        assert inside is not None
        self._inside, self.traffic = inside, Traffic()

    def infer(self, inputs: Any, deadline: Deadline) -> Any:
        """Call the wrapped remote."""
        self.more(sent=100, received=10)
        return self._inside.infer(inputs, deadline)

    def more(self, sent: int, received: int, requests: int = 1) -> None:
        """Add traffic."""
        was = self.traffic
        self.traffic = Traffic(was.requests + requests, was.sent + sent, was.received + received)

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture(scope="module")
def data(pair: Path) -> LabelledData:
    """Return the test inputs, with some repeated: two complete chunks and a partial one."""
    return _repeated(pair, N)


def _repeated(pair: Path, n: int) -> LabelledData:
    read = read_labelled(pair / "test.npz")
    rows = np.arange(n) % len(read.labels)
    return LabelledData(np.asarray(read.inputs)[rows], read.labels[rows], read.names, f"repeated {n}")


@pytest.fixture(scope="module")
def scores(pair: Path, data: LabelledData) -> NDArray[Any]:
    """Return the remote's scores of the inputs."""
    return remote_scores(str(pair / "remote.onnx"), data.inputs)


@pytest.fixture
def stored(pair: Path, data: LabelledData, tmp_path: Path) -> StoredRows:
    """Return an empty folder for stored answers."""
    return stored_answers(tmp_path / "served", pair / "local.onnx", data, "counting", DEADLINE)


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], list[int]]:
    """Return a function that interrupts `predict` after a number of answers and returns their count."""
    predict = Cascade.predict

    def after(most: int | None) -> list[int]:
        answers = [0]

        def counted(self: Cascade, x: Any) -> Any:
            if answers[0] == most:
                raise KeyboardInterrupt
            answers[0] += 1
            return predict(self, x)

        monkeypatch.setattr(Cascade, "predict", counted)
        return answers

    return after


def _run(
    pair: Path, data: LabelledData, remote: Any, stored: StoredRows | None, expected: NDArray[Any] | None = None
) -> tuple[Served, NDArray[np.bool_]]:
    return run_served(pair / "local.onnx", data, remote=remote, deadline=DEADLINE, stored=stored, expected=expected)


def _untimed(served: Served) -> Any:
    """Return everything that must not depend on the time of the measurement."""
    return replace(served, processes=1, latency={}), {name: latency.n for name, latency in served.latency.items()}


@pytest.mark.parametrize("after", [0, CHUNK - 1, CHUNK + 50, 2 * CHUNK + 10])
def test_an_interrupted_run_resumes(
    pair: Path, data: LabelledData, stored: StoredRows, interrupt: Callable[[int | None], list[int]], after: int
) -> None:
    """Complete chunks are not answered again, and every figure except times equals that of one run."""
    expected = np.zeros(N, np.int64)
    whole, right = _run(pair, data, Counting(pair / "remote.onnx"), None, expected)
    interrupt(WARM_UP + after)
    with pytest.raises(KeyboardInterrupt):
        _run(pair, data, Counting(pair / "remote.onnx"), stored, expected)
    done = after // CHUNK * CHUNK
    assert stored.done == done
    answers, remote = interrupt(None), Counting(pair / "remote.onnx")
    served, now_right = _run(pair, data, remote, stored, expected)
    assert answers == [WARM_UP + N - done]
    assert remote.traffic.requests == WARM_UP + np.count_nonzero(stored.rows()["forwarded"][done:])
    assert served.processes == (2 if done else 1)
    assert whole.disagreed > 0
    assert served.requests == N - served.reasons["confident"]
    assert _untimed(served) == _untimed(whole)
    np.testing.assert_array_equal(now_right, right)


def test_a_fully_stored_run_does_not_call_the_remote(
    pair: Path, data: LabelledData, stored: StoredRows, interrupt: Callable[[int | None], list[int]]
) -> None:
    """There is no warm-up and no connection, and the figures are identical."""
    first, right = _run(pair, data, Counting(pair / "remote.onnx"), stored)
    interrupt(0)
    second, right_again = _run(pair, data, "http://127.0.0.1:9/v2/models/none", stored)
    assert second == first
    assert second.latency["all"].n == N
    np.testing.assert_array_equal(right_again, right)


def test_a_remote_without_counts_has_no_byte_count(pair: Path, data: LabelledData, stored: StoredRows) -> None:
    """Byte counts are None rather than negative, and a local input has no remote label."""
    served, _ = _run(pair, data, pair / "remote.onnx", stored)
    assert (served.requests, served.sent, served.received) == (None, None, None)
    assert (served.sent_each, served.received_each) == (None, None)
    rows = stored.rows()
    np.testing.assert_array_equal(rows["remote"] == UNKNOWN, ~rows["forwarded"])


def test_traffic_between_two_chunks_is_counted(
    pair: Path, data: LabelledData, stored: StoredRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply to a late request may arrive while answers are written; its bytes belong to the next answer."""
    remote, put = Counting(pair / "remote.onnx"), StoredRows.put

    def slow(self: StoredRows, start: int, found: NDArray[Any]) -> None:
        put(self, start, found)
        remote.more(requests=0, sent=0, received=7)

    monkeypatch.setattr(StoredRows, "put", slow)
    served, _ = _run(pair, data, remote, stored)
    assert served.received == 10 * (N - served.reasons["confident"]) + 2 * 7  # no request follows the last chunk


def test_answers_belong_to_one_cascade_remote_and_deadline(pair: Path, data: LabelledData, tmp_path: Path) -> None:
    """A change of anything that affects answers or times reuses nothing."""
    cascade, file = tmp_path / "local.onnx", tmp_path / "remote.onnx"
    for model in (cascade, file):
        model.write_bytes((pair / model.name).read_bytes())

    def where(given: LabelledData = data, remote: str = str(file), deadline: float = 1.0) -> Path:
        return stored_answers(tmp_path, cascade, given, remote, deadline).folder

    first = where()
    assert where() == first
    others = [where(deadline=0.5), where(replace(data, digest="other")), where(remote="http://a/v2/models/b")]
    others.append(where(replace(data, labels=data.labels[:-1])))
    for model in (cascade, file):
        was = model.read_bytes()
        model.write_bytes(b"other")
        others.append(where())
        model.write_bytes(was)
    assert where() == first
    assert len({first, *others}) == 7


@pytest.mark.parametrize("damage", ["cut", "text", "shape", "columns"])
def test_a_damaged_file_ends_in_one_sentence(pair: Path, data: LabelledData, stored: StoredRows, damage: str) -> None:
    """The error names the file and the remedy before the remote is called."""
    _run(pair, data, pair / "remote.onnx", stored)
    file = min(stored.folder.iterdir())
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-5])
    elif damage == "text":
        file.write_text("no array")
    else:
        np.save(file, stored.rows()[:3] if damage == "shape" else np.zeros(CHUNK))
    max(stored.folder.iterdir()).unlink()
    remote = Counting(pair / "remote.onnx")
    with pytest.raises(BenchmarkError, match=rf"^\S+{file.name}: damaged; remove it or use --fresh: .+"):
        _run(pair, data, remote, stored)
    assert remote.traffic.requests == 0


def test_the_report_states_the_interruption(
    pair: Path,
    data: LabelledData,
    scores: NDArray[Any],
    stored: StoredRows,
    interrupt: Callable[[int | None], list[int]],
) -> None:
    """It states how many processes the latencies come from, if there were several."""
    interrupt(WARM_UP + CHUNK)
    with pytest.raises(KeyboardInterrupt):
        _run(pair, data, pair / "remote.onnx", stored)
    interrupt(None)
    resumed = measure_offload(
        pair / "local.onnx", data, scores, remote=pair / "remote.onnx", deadline=DEADLINE, stored=stored
    )
    for processes, sentences in ((2, 1), (1, 0)):
        result = replace(resumed, served=replace(resumed.served, processes=processes))
        told = [line for section in offload_sections(result) for line in section.text if "interrupted" in line]
        assert len(told) == sentences
        assert all("its latencies come from 2 processes" in line for line in told)
    assert resumed.served.processes == 2


def _offload(pair: Path, report: Path, data: Path, remote: str, *more: str) -> list[str]:
    words = ["bench", "offload", str(pair / "local.onnx"), "--remote", remote, "--data", str(data)]
    return [*words, "--deadline", f"{DEADLINE:g}", "--out", str(report), *more]


def _written(report: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((report / "result.json").read_text())["offload"]
    return found


def test_the_command_stores_answers_until_the_report_is_written(
    pair: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    interrupt: Callable[[int | None], list[int]],
) -> None:
    """It states the number of stored answers, `--fresh` starts again, and a complete run is measured again."""
    arguments = _offload(pair, tmp_path, pair / "test.npz", str(pair / "remote.onnx"))

    def interrupted() -> None:
        interrupt(WARM_UP + CHUNK + 3)
        assert main(arguments) == 130
        interrupt(None)

    interrupted()
    (folder,) = (tmp_path / "served").iterdir()
    capsys.readouterr()
    assert main(arguments) == 0
    told = f"continuing an interrupted run with {CHUNK} of 400 answers in {folder}; --fresh starts again\n"
    assert told in capsys.readouterr().err
    assert _written(tmp_path)["served"]["processes"] == 2
    assert not (tmp_path / "served").exists()
    interrupted()
    capsys.readouterr()
    answers = interrupt(None)
    assert main([*arguments, "--fresh"]) == 0
    assert answers == [WARM_UP + 400]
    assert "interrupted" not in capsys.readouterr().err
    assert _written(tmp_path)["served"]["processes"] == 1


def test_a_built_in_pair_resumes_with_another_address(
    pair: Path,
    data: LabelledData,
    scores: NDArray[Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    interrupt: Callable[[int | None], list[int]],
) -> None:
    """A served file is identified by its content; the demo reports stored answers and removes them."""
    cascade = tmp_path / "local.onnx"
    cascade.write_bytes((pair / "local.onnx").read_bytes())
    prepared = Prepared(cascade, pair / "remote.onnx", data, scores)
    monkeypatch.setitem(BUILT_IN, "flagship", replace(BUILT_IN["flagship"], prepare=lambda *_: prepared))
    arguments = ["bench", "demo", "--pair", "flagship", "--out", str(tmp_path / "report")]
    interrupt(WARM_UP + CHUNK)
    assert main(arguments) == 130
    answers = interrupt(None)
    capsys.readouterr()
    assert main(arguments) == 0
    told = f"continuing an interrupted run with {CHUNK} of {N} answers in {tmp_path}"
    (line,) = (line.strip() for line in capsys.readouterr().err.splitlines() if told in line)
    assert line.endswith("; remove it to start again")
    assert answers == [WARM_UP + N - CHUNK]
    served = _written(tmp_path / "report")["served"]
    assert served["processes"] == 2
    assert served["requests"] == N - served["reasons"]["confident"]
    assert not (tmp_path / "report" / "served").exists()


def test_a_remote_in_this_process_is_identified_by_its_name(
    pair: Path, data: LabelledData, scores: NDArray[Any]
) -> None:
    """Another name, and the same file served by a second process, are different remotes."""
    here = Prepared(pair / "local.onnx", Counting(pair / "remote.onnx"), data, scores)
    served = replace(here, remote=pair / "remote.onnx")
    folders = [one.answers(pair, 1.0, name).folder for one in (here, served) for name in ("one", "two")]
    assert len(set(folders)) == 4


@pytest.mark.slow
def test_a_killed_process_loses_at_most_one_chunk(pair: Path, tmp_path: Path) -> None:
    """After SIGKILL, the next process requests only the rest, and the figures equal those of one run."""
    many = _repeated(pair, 8 * CHUNK)
    np.savez(tmp_path / "many.npz", x=np.asarray(many.inputs), y=many.labels, names=np.array(many.names))
    report = tmp_path / "report"

    def command(*more: str, folder: Path = report) -> list[str]:
        return [sys.executable, "-m", "edgecascade.cli", *_offload(pair, folder, tmp_path / "many.npz", address, *more)]

    with serving(pair / "remote.onnx", name="all", threads=1, log=tmp_path / "log") as address:
        process = subprocess.Popen(command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        while process.poll() is None and not list(report.glob("served/*/[0-9]*.npy")):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        said, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL, said.decode()
        assert not (report / "result.json").exists()
        done = sum(CHUNK for _ in report.glob("served/*/[0-9]*.npy"))
        assert 0 < done < len(many.labels)
        again = subprocess.run(command(), capture_output=True, text=True, check=True)
        whole = subprocess.run(command(folder=tmp_path / "whole"), capture_output=True, check=True)
    assert f"interrupted run with {done} of {len(many.labels)} answers" in again.stderr
    assert b"interrupted" not in whole.stderr
    resumed, uninterrupted = _written(report), _written(tmp_path / "whole")
    assert (resumed["served"]["processes"], uninterrupted["served"]["processes"]) == (2, 1)
    for name in ("reasons", "requests", "sent", "sent_each", "disagreed"):
        assert resumed["served"][name] == uninterrupted["served"][name], name
    assert resumed["strategies"] == uninterrupted["strategies"]
    assert "its latencies come from 2 processes" in (report / "report.html").read_text()
    assert not (report / "served").exists()
