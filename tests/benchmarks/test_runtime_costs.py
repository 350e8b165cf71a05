"""What the runtime costs is measured on real processes and sockets; the figures are to be read, not tested."""

from pathlib import Path

import numpy as np

from studies.runtime_costs import installed_size, measure_import, measure_lateness, measure_memory
from studies.speed import measure_head_cost, measure_hot_path, measure_stream, tiny_cascade


def test_the_hot_path_is_measured_beside_the_bare_run(tmp_path: Path) -> None:
    """On the same inputs, all of them local; and so are the usual lines of numpy."""
    path, inputs = tiny_cascade(tmp_path)
    ours, by_hand = measure_hot_path("tiny", path, inputs, goal=1.1, rounds=20, builds=8)
    assert (ours.goal, by_hand.goal, ours.n) == (1.1, None, 8)
    assert "for comparison" in str(by_hand)


def test_a_stream_is_measured_with_the_share_that_was_asked_for(pair: Path) -> None:
    """As far as ties among the advantages allow."""
    images = list(np.load(pair / "test.npz")["x"])
    found = measure_stream(pair / "local.onnx", images, share=0.3, seconds=0.01, rounds=2, length=400)
    share = int(found.name.split("%")[0].split()[-1])
    assert 15 <= share <= 30
    assert found.better == "higher"
    assert found.n == 2


def test_answers_are_late_by_milliseconds_at_most_if_the_machine_is_idle(pair: Path) -> None:
    """Which is not asserted here; they never come before the deadline."""
    for found in measure_lateness(pair / "local.onnx", list(np.load(pair / "test.npz")["x"]), n=20):
        assert found.value >= 0


def test_processes_tell_what_they_take(pair: Path) -> None:
    """Import and memory of real processes, and the size of the device's part."""
    assert measure_import(rounds=2).value > 0
    ours, bare = measure_memory(pair / "local.onnx", np.load(pair / "test.npz")["x"][0], rounds=1)
    assert 10 < bare.value < 1000
    assert 10 < ours.value < 1000
    assert 0.05 < installed_size() < 5


def test_both_files_run_in_turn(pair: Path) -> None:
    """As often as asked, with buffers bound and without, and each sentence says whether its goal was met."""
    images = np.load(pair / "test.npz")["x"]
    found = measure_head_cost(pair / "local.onnx", images, rounds=20, builds=8)
    for one in (found.bound, found.run):
        assert one.n == 8
        assert 0 < one.low <= one.value <= one.high
        assert one.theirs > 0
    assert ("met" if found.bound.value <= 1.02 else "missed") in str(found.bound)
