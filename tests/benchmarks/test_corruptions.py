"""The corruption study on an artificial pair with a known shift, and on one image."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgecascade.benchmarks.report import write_study
from studies.corruptions import (
    CORRUPTIONS,
    Corruptions,
    Shifted,
    corrupted,
    measure_corruptions,
    shift_svg,
    summarize,
)
from studies.outputs import PairOutputs


def _outputs(noise: float, n: int = 3000, seed: int = 0) -> PairOutputs:
    """Return outputs of both models, calibrated at noise 1; the local model becomes overconfident at higher noise."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 3, (n, 4))
    labels = (honest + rng.gumbel(size=honest.shape)).argmax(axis=1)
    local = honest + noise * rng.normal(0, 2, honest.shape)
    return PairOutputs("made up", local.astype(np.float32), honest.astype(np.float32), labels)


@pytest.fixture(scope="module")
def found() -> Corruptions:
    """Return a study planned at noise 1; noise grows with severity, and `nothing new` stays at 1."""
    return measure_corruptions(
        _outputs(1.0, 2000, seed=1),
        _outputs(1.0, seed=2),
        {
            "noise": [_outputs(1.0 + severity / 2, seed=2) for severity in range(1, 6)],
            "none": [_outputs(1.0, seed=2 + severity) for severity in range(1, 6)],
        },
        rate=0.3,
        labelled=500,
    )


def _holds(row: Shifted) -> bool:
    return row.offload.low <= 0.33 and row.offload.high >= 0.27 and row.ece.low <= 0.02


def test_a_plan_holds_without_a_shift(found: Corruptions) -> None:
    """The rate and calibration are the planned ones, and planning again gains nothing."""
    for row in (found.clean, *found.shifted["none"]):
        assert _holds(row)
        assert abs(row.replanned.value - row.at_planned_rate.value) < 0.03


def test_a_shift_is_detected(found: Corruptions) -> None:
    """The local model becomes less accurate and overconfident; a refitted temperature is higher and corrects it."""
    by_severity = found.shifted["noise"]
    accuracies = [row.local.value for row in by_severity]
    assert accuracies == sorted(accuracies, reverse=True)
    worst = by_severity[-1]
    assert worst.ece.low > 0.1
    assert worst.temperature > 1.5 * found.clean.temperature
    assert worst.refitted_ece.value < worst.ece.value / 3
    assert worst.random < worst.cascade.value < worst.remote.high


def test_every_figure_uses_the_test_inputs(found: Corruptions) -> None:
    """The inputs of the new plan are not counted, and each interval contains its value."""
    for row in (found.clean, *found.shifted["noise"]):
        for estimate in (row.local, row.ece, row.offload, row.cascade, row.at_planned_rate, row.replanned):
            assert estimate.n == found.test == 2500
            assert estimate.low <= estimate.value <= estimate.high


def test_the_study_is_written_and_read(found: Corruptions, tmp_path: Path) -> None:
    """The summary has a row for each kind, the document all figures, and there is a picture."""
    write_study(tmp_path, "corruptions", found, command="x", summary=summarize(found))
    document = json.loads((tmp_path / "result.json").read_text())["corruptions"]
    assert [row["severity"] for row in document["shifted"]["noise"]] == [1, 2, 3, 4, 5]
    summary = (tmp_path / "summary.txt").read_text()
    assert summary == summarize(found) + "\n"
    assert summary.count("\nnoise ") == 5
    assert shift_svg(found.clean, found.shifted).startswith("<svg")


def test_a_failing_remote_is_detected() -> None:
    """If blur affects only the remote, forwarding loses accuracy, and a new plan with labels stops it."""
    before, after = _outputs(1.0, 2000, seed=1), _outputs(1.0, seed=2)
    blind = replace(after, remote=np.random.default_rng(3).normal(0, 3, after.remote.shape).astype(np.float32))
    found = measure_corruptions(before, after, {"blind": [blind]}, rate=0.3)
    (row,) = found.shifted["blind"]
    assert row.cascade.high < row.local.low
    assert row.replanned.value == pytest.approx(row.local.value, abs=0.02)


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_corruptions_are_reproducible(corruption: str) -> None:
    """The same seed gives the same pixels, and severity 0 only enlarges."""
    pytest.importorskip("imagecorruptions")
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    once, again, plain = (np.stack(list(corrupted(images, corruption, severity))) for severity in (3, 3, 0))
    assert once.shape == (2, 224, 224, 3)
    assert once.dtype == np.uint8
    assert np.array_equal(once, again)
    assert not np.array_equal(once, plain)
