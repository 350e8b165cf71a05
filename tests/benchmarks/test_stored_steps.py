"""A long measurement is taken in steps, and an interrupted one goes on with the step that it did not finish."""

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
    """What was found, and what had to be measured for it."""
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
def test_an_interrupted_measurement_goes_on_where_it_stopped(at: str, tmp_path: Path) -> None:
    """It measures what is missing and nothing else, and finds what an uninterrupted one finds."""
    _interrupt(tmp_path / "steps", at)
    found, measured = _measure(tmp_path / "steps")
    assert measured == list(NAMES[NAMES.index(at) :])
    assert found == _measure(tmp_path / "other")[0]


def test_a_measurement_that_came_to_its_end_leaves_nothing(tmp_path: Path) -> None:
    """So that the next measures everything again."""
    _interrupt(tmp_path / "steps")
    _measure(tmp_path / "steps")
    assert not list(tmp_path.iterdir())
    assert _measure(tmp_path / "steps")[1] == list(NAMES)


def test_steps_are_kept_until_the_result_is_written(tmp_path: Path) -> None:
    """An error between the last step and the end of the block loses none of them."""

    def fails_to_write() -> None:
        with stored_steps(tmp_path, ABOUT, 1) as steps:
            steps(float, "first", lambda: 0.5)
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fails_to_write()
    with stored_steps(tmp_path, ABOUT, 1) as steps:
        assert steps(float, "first", lambda: 2.5) == 0.5


@pytest.mark.parametrize("other", [{**ABOUT, "rounds": 21}, {**ABOUT, "cascade": "abd"}, {}])
def test_other_arguments_share_nothing(other: dict[str, Any], tmp_path: Path) -> None:
    """And neither removes the other's steps."""
    _interrupt(tmp_path / "steps")
    assert _measure(tmp_path / "steps", about=other)[1] == list(NAMES)
    assert _measure(tmp_path / "steps")[1] == ["third"]


def test_another_version_shares_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured may have changed with it."""
    _interrupt(tmp_path / "steps")
    monkeypatch.setattr(module, "version", lambda name: f"{name} 99")
    assert _measure(tmp_path / "steps")[1] == list(NAMES)


@pytest.mark.parametrize("damage", ["", '{"key": "', "[]", '{"found": {"value": 1.0}}'])
def test_a_damaged_step_is_measured_again(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not counted among the stored ones; the others stay."""
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
    """As after a change of what it finds."""
    _interrupt(tmp_path / "steps")
    with stored_steps(tmp_path / "steps", ABOUT, 1) as steps:
        assert steps(list[Estimate], "first", list) == []


def test_it_says_what_is_kept_and_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one sentence before the bar, if there is anything; and one bar counts all the steps."""
    _interrupt(tmp_path / "steps")
    assert "interrupted" not in capsys.readouterr().err
    (own,) = (tmp_path / "steps").iterdir()
    _measure(tmp_path / "steps")
    said, _, bar = capsys.readouterr().err.partition("\n")
    assert said == f"2 of 3 steps of an interrupted run are in {own}: remove it to start again"
    assert "third" in bar
    assert "3/3" in bar


def test_the_time_left_is_by_what_this_run_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored steps are counted as done, and not as fast."""
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


def test_a_step_that_is_not_stored_is_measured() -> None:
    """The default of every measurement."""
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
def test_a_killed_measurement_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Killed outright, wherever it happens to be; what it had finished is whole."""
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
