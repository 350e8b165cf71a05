"""The study of costs in Node runs, and gives a ratio for each bare session."""

from pathlib import Path

import pytest

from studies.javascript import measure


@pytest.mark.slow
def test_both_ratios_are_measured(packages: Path) -> None:
    """Two builds and few rounds say nothing about the costs themselves."""
    found = measure(packages / "node_modules" / "edgecascade", (16,), builds=2, rounds=3)
    assert [(one.n, one.value > 0, one.ours > 0) for one in found.ratios] == [(2, True, True)] * 2
    assert found.versions.keys() == {"node", "onnxruntime-node"}
    assert all(version[0].isdigit() for version in found.versions.values())
    assert len(str(found).splitlines()) == 3
