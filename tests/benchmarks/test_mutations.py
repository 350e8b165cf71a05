"""Mutants of everything that comes from outside, in reduced form, and the study that reads a hundred thousand."""

import importlib
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from random import Random
from subprocess import run

import pytest
from onnx import ModelProto, helper

from edgecascade.types.errors import BenchmarkError
from studies.mutants import LARGEST, mutate_bytes, mutate_json, mutate_message, mutate_packet
from studies.mutations import chance, main, measure_mutations, outcome, summarize
from studies.parsers import PARSERS, make_parser

CHECKOUT = Path(__file__).parents[2]
FAULTY = """
import os, time
from edgecascade.types.errors import ModelFileError
from studies.parsers import Parser

kept = []

def make(kind, folder):
    def read(content):
        if content == b"sample":
            return
        with (folder.parent / "log").open("ab") as log:
            log.write(b".")
            number = log.tell() - 1
        if number == 2:
            os.abort()
        if number == 4:
            time.sleep(600)
        if number == 6:
            raise KeyError("what")
        if number == 8:
            raise ModelFileError("it is damaged")
        if number == 9:
            kept.append(b"." * (700 << 20))

    if kind == "absent":
        raise ModuleNotFoundError("it is not installed")
    if kind == "broken":
        raise OSError("no sample")
    return Parser((b"sample",), lambda sample, rng: b"mutant", read)
"""


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", PARSERS)
def test_mutants_are_read_or_refused(kind: str, tmp_path: Path) -> None:
    """Each is read as valid or refused with an error of one line, and most samples are valid."""
    try:
        parser = make_parser(kind, tmp_path)
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    assert any(outcome(parser.read, sample) == (True, "") for sample in parser.samples)
    found = [outcome(parser.read, parser.mutant(chance(kind, i, 1)))[1] for i in range(60)]
    assert not any(found), [(i, what) for i, what in enumerate(found) if what]


def test_a_crash_a_hang_and_a_flood_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process goes on with the next mutant, and every mutant is counted once."""
    (tmp_path / "faulty_parser.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(tmp_path)
    make = importlib.import_module("faulty_parser").make
    found = measure_mutations({"faulty": 1, "absent": 1}, 20, hangs=4, make=make)
    (row,) = found.rows
    assert (row.n, row.read, row.refused, row.found) == (10, 5, 1, 4)
    assert found.skipped == ("absent",)
    said = {finding.number: finding.what for finding in row.findings}
    assert list(said) == [2, 4, 6, 9]
    assert "SIGABRT" in said[2]
    assert "hangs" in said[4]
    assert "KeyError" in said[6]
    assert "MiB" in said[9]
    assert row.memory > 600
    assert "4 findings" in summarize(found)
    with pytest.raises(BenchmarkError, match="no sample"):
        measure_mutations({"broken": 1}, 10, make=make)


def test_a_mutant_follows_from_seed_kind_and_number(tmp_path: Path) -> None:
    """Two runs read the same mutants, which differ from each other."""
    parser = make_parser("budget file", tmp_path)
    first, second = ([parser.mutant(chance("budget file", i, seed=3)) for i in range(50)] for _ in range(2))
    assert first == second
    assert len(set(first)) > 25
    assert first != [parser.mutant(chance("budget file", i, seed=4)) for i in range(50)]


def test_mutants_are_bounded_and_keep_their_form() -> None:
    """JSON stays JSON, a message stays one, and a response mostly states the length of its body."""
    text, rng = json.dumps({"a": [1, 2.5, {"b": None}], "c": "text"}).encode(), Random(0)
    changed = [mutate_json(text, rng) for _ in range(200)]
    assert sum(one != text for one in changed) > 150
    for one in changed:
        if len(one) < LARGEST:
            json.loads(one)
    model = helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", [], []))
    assert len({ModelProto.FromString(mutate_message(model, rng)).SerializeToString() for _ in range(50)}) > 10
    response = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)
    packets = [mutate_packet(response, rng).partition(b"\r\n\r\n") for _ in range(100)]
    assert sum(head.endswith(b": %d" % len(body)) for head, _, body in packets) > 50
    assert max(len(mutate_bytes(bytes(1 << 20), rng)) for _ in range(100)) <= LARGEST


def test_the_command_writes_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints counts, seed, time and memory, and reads a single mutant again."""
    assert main(["-n", "30", "--seed", "5", "--kind", "packed input", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "summary.txt").read_text()
    assert "30 mutants, seed 5" in printed
    (row,) = json.loads((tmp_path / "result.json").read_text())["mutations"]["rows"]
    assert (row["n"], row["read"] + row["refused"]) == (30, 30)
    assert main(["--kind", "packed input", "--only", "7", "--seed", "5"]) == 0
    assert capsys.readouterr().out.startswith(("read", "PackedError"))


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed")
def test_atheris_guides_mutants(tmp_path: Path) -> None:
    """It counts lines that the mutants reach, and finds nothing in a few hundred."""
    command = [sys.executable, "-m", "studies.coverage_guided", "JSON reply", "-n", "300", "--out", str(tmp_path)]
    done = run(command, cwd=CHECKOUT / "benchmarks", capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Done 300 runs" in done.stderr
    assert not list(tmp_path.iterdir())
