"""A long measurement is stored in steps, and an interrupted one resumes at its unfinished step."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edgecascade.benchmarks import stored as module
from edgecascade.benchmarks.progress import stepping
from edgecascade.benchmarks.stored import at_once, stored_steps
from edgecascade.types.estimate import Estimate

NAMES = ("first", "second", "third")
ABOUT = {"rounds": 20, "cascade": "abc"}


def _measure(folder: Path, *, fails: str = "", about: Mapping[str, Any] = ABOUT) -> tuple[list[Estimate], list[str]]:
    """Return the result and the list of steps that were measured."""
    measured: list[str] = []

    def found(name: str) -> Estimate:
        if name == fails:
            raise InterruptedError(name)
        measured.append(name)
        return Estimate(1 / (3 + NAMES.index(name)), 0.0, 1.0, len(name))

    with stored_steps(folder, about, len(NAMES)) as steps:
        return [steps(Estimate, name, partial(found, name)) for name in NAMES], measured


def _interrupt(folder: Path, at: str = "third") -> None:
    with pytest.raises(InterruptedError, match=at):
        _measure(folder, fails=at)


@pytest.mark.parametrize("at", NAMES)
def test_an_interrupted_measurement_resumes(at: str, tmp_path: Path) -> None:
    """It measures only the missing steps, and its result equals that of an uninterrupted one."""
    _interrupt(tmp_path / "steps", at)
    found, measured = _measure(tmp_path / "steps")
    assert measured == list(NAMES[NAMES.index(at) :])
    assert found == _measure(tmp_path / "other")[0]


def test_a_finished_measurement_removes_its_steps(tmp_path: Path) -> None:
    """The next run measures every step again."""
    _interrupt(tmp_path / "steps")
    _measure(tmp_path / "steps")
    assert not list(tmp_path.iterdir())
    assert _measure(tmp_path / "steps")[1] == list(NAMES)


def test_steps_are_stored_until_the_result_is_written(tmp_path: Path) -> None:
    """An error between the last step and the end of the block loses no step."""

    def fails_to_write() -> None:
        with stored_steps(tmp_path, ABOUT, 1) as steps:
            steps(float, "first", lambda: 0.5)
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fails_to_write()
    with stored_steps(tmp_path, ABOUT, 1) as steps:
        assert steps(float, "first", lambda: 2.5) == 0.5


@pytest.mark.parametrize("other", [{**ABOUT, "rounds": 21}, {**ABOUT, "cascade": "abd"}, {}])
def test_other_arguments_reuse_nothing(other: dict[str, Any], tmp_path: Path) -> None:
    """Neither run removes the other's steps."""
    _interrupt(tmp_path / "steps")
    assert _measure(tmp_path / "steps", about=other)[1] == list(NAMES)
    assert _measure(tmp_path / "steps")[1] == ["third"]


def test_another_version_reuses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The measured code may have changed."""
    _interrupt(tmp_path / "steps")
    monkeypatch.setattr(module, "version", lambda name: f"{name} 99")
    assert _measure(tmp_path / "steps")[1] == list(NAMES)


@pytest.mark.parametrize("damage", ["", '{"key": "', "[]", '{"found": {"value": 1.0}}'])
def test_a_damaged_step_is_measured_again(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not counted as stored, and the others stay."""
    _interrupt(tmp_path / "steps")
    first, second = sorted((tmp_path / "steps").glob("*/*.json"))
    name = "second" if json.loads(first.read_text())["found"]["n"] == len("first") else "first"
    second.write_text(damage)
    capsys.readouterr()
    found, measured = _measure(tmp_path / "steps")
    assert measured == [name, "third"]
    assert found == _measure(tmp_path / "other")[0]
    assert capsys.readouterr().err.startswith("1 of 3 steps ")


def test_a_step_of_another_kind_is_measured_again(tmp_path: Path) -> None:
    """The type of a step's result may change between versions."""
    _interrupt(tmp_path / "steps")
    with stored_steps(tmp_path / "steps", ABOUT, 1) as steps:
        assert steps(list[Estimate], "first", list) == []


def test_the_number_of_stored_steps_and_their_folder_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence precedes the progress bar if any are stored, and the bar counts all steps."""
    _interrupt(tmp_path / "steps")
    assert "interrupted" not in capsys.readouterr().err
    (own,) = (tmp_path / "steps").iterdir()
    _measure(tmp_path / "steps")
    said, _, bar = capsys.readouterr().err.partition("\n")
    assert said == f"2 of 3 steps of an interrupted run are in {own}: remove it to start again"
    assert "third" in bar
    assert "3/3" in bar


def test_the_remaining_time_depends_on_this_run_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored steps count as done but do not affect the estimated speed."""
    _interrupt(tmp_path / "steps")
    bars: list[Any] = []

    @contextmanager
    def recorded(total: int) -> Iterator[Any]:
        with stepping(total) as bar:
            bars.append(bar)
            yield bar

    monkeypatch.setattr(module, "stepping", recorded)
    _measure(tmp_path / "steps")
    assert [(bar.initial, bar.n, bar.total) for bar in bars] == [(2, 3, 3)]


def test_without_a_store_every_step_is_measured() -> None:
    """This is the default of every measurement."""
    assert at_once(float, "first", lambda: 0.5) == 0.5


_LONG = """
import sys, time
from pathlib import Path
from edgecascade.benchmarks.stored import stored_steps

def measure(n):
    time.sleep(0.05)
    return [n / 3]

with stored_steps(Path(sys.argv[1]), {"seconds": 0.05}, int(sys.argv[2])) as steps:
    found = [steps(list[float], f"step {n}", lambda: measure(n)) for n in range(int(sys.argv[2]))]
    Path(sys.argv[1], "result.txt").write_text(repr(found))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
def test_a_killed_measurement_resumes(tmp_path: Path) -> None:
    """A process killed at any time leaves only complete steps."""
    command, many = [sys.executable, "-c", _LONG, str(tmp_path)], 60
    first = subprocess.Popen([*command, str(many)], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while len(list(tmp_path.glob("*/*.json"))) < 5 and time.monotonic() < end:
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    left = {path: path.read_bytes() for path in tmp_path.glob("*/*.json")}
    assert 5 <= len(left) < many
    assert all(json.loads(content)["found"] for content in left.values())
    again = subprocess.run([*command, str(many)], capture_output=True, text=True, check=True)
    assert again.stderr.startswith(f"{len(left)} of {many} steps ")
    assert (tmp_path / "result.txt").read_text() == repr([[n / 3] for n in range(many)])
    assert [path.name for path in tmp_path.iterdir()] == ["result.txt"]
