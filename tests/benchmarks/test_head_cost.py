"""The cost of the head is a ratio with its interval; the figure itself is to be read, not tested."""

from pathlib import Path

import numpy as np

from edgecascade.benchmarks.head_cost import measure_head_cost


def test_both_files_run_in_turn(pair: Path) -> None:
    """As often as asked, with buffers bound and without, and each sentence says whether its goal was met."""
    images = np.load(pair / "test.npz")["x"]
    found = measure_head_cost(pair / "local.onnx", images, rounds=20, builds=8)
    for one in (found.bound, found.run):
        assert one.n == 8
        assert 0 < one.low <= one.value <= one.high
        assert one.theirs > 0
    assert ("met" if found.bound.value <= 1.02 else "missed") in str(found.bound)
