"""The runtime's costs are measured on real processes and sockets; the tests do not check the figures themselves."""

from pathlib import Path

import numpy as np
import pytest

from studies.overshoot import SCENARIOS, Scenario, measure_overshoots
from studies.runtime_costs import installed_size, measure_import, measure_lateness, measure_memory
from studies.speed import measure_head_cost, measure_hot_path, measure_stream, tiny_cascade


def test_the_hot_path_is_measured_against_the_bare_run(tmp_path: Path) -> None:
    """Both run on the same local inputs, as does the equivalent numpy code."""
    path, inputs = tiny_cascade(tmp_path)
    ours, by_hand = measure_hot_path("tiny", path, inputs, goal=1.1, rounds=20, builds=8)
    assert (ours.goal, by_hand.goal, ours.n) == (1.1, None, 8)
    assert "for comparison" in str(by_hand)


def test_a_stream_has_the_requested_offload_rate(pair: Path) -> None:
    """Ties among the advantages limit the precision."""
    images = list(np.load(pair / "test.npz")["x"])
    found = measure_stream(pair / "local.onnx", images, share=0.3, seconds=0.01, rounds=2, length=400)
    share = int(found.name.split("%")[0].split()[-1])
    assert 15 <= share <= 30
    assert found.better == "higher"
    assert found.n == 2


def test_answers_never_precede_the_deadline(pair: Path) -> None:
    """Lateness is measured but not tested, since the machine may be busy."""
    for found in measure_lateness(pair / "local.onnx", list(np.load(pair / "test.npz")["x"]), n=20):
        assert found.value >= 0


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_overshoots_are_measured_beside_a_bare_timer(pair: Path, scenario: Scenario) -> None:
    """Every scenario has answers at the deadline; their lateness is not tested, since the machine may be busy."""
    images = list(np.load(pair / "test.npz")["x"])
    (found,) = measure_overshoots(pair / "local.onnx", images, [scenario], n=8)
    assert found.late.n == 8
    assert 0 <= found.median <= found.late.value <= found.largest
    assert 0 <= found.bare_median <= found.bare_late.value <= found.bare_largest
    assert found.bare_late.n > 0
    assert str(scenario) in str(found)


def test_import_memory_and_size_are_measured(pair: Path) -> None:
    """Import time and memory are those of real processes, and the size is that of the runtime part."""
    assert measure_import(rounds=2).value > 0
    ours, bare = measure_memory(pair / "local.onnx", np.load(pair / "test.npz")["x"][0], rounds=1)
    assert 10 < bare.value < 1000
    assert 10 < ours.value < 1000
    assert 0.05 < installed_size(("runtime", "types")) < installed_size() < 5


def test_both_files_run_in_turn(pair: Path) -> None:
    """They run as often as requested, with and without bound buffers, and each sentence reports its goal."""
    images = np.load(pair / "test.npz")["x"]
    found = measure_head_cost(pair / "local.onnx", images, rounds=20, builds=8)
    for one in (found.bound, found.run):
        assert one.n == 8
        assert 0 < one.low <= one.value <= one.high
        assert one.theirs > 0
    assert ("met" if found.bound.value <= 1.02 else "missed") in str(found.bound)
