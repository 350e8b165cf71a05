"""The cost of the head is a ratio with its interval; the figure itself is to be read, not tested."""

from pathlib import Path

import numpy as np

from edgecascade.benchmarks.head_cost import measure_head_cost


def test_both_files_run_in_turn(pair: Path) -> None:
    """As often as asked, and the sentence says whether the goal was met."""
    images = np.load(pair / "test.npz")["x"]
    found = measure_head_cost(pair / "local.onnx", images, runs=40)
    assert found.runs == 40
    assert 0 < found.low <= found.ratio <= found.high
    assert found.bare_ms > 0
    assert ("met" if found.ratio <= 1.02 else "missed") in str(found)
