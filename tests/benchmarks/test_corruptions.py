"""A policy whose inputs change: on a made-up pair, where the change is known, and on one image."""

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
    """Both models calibrated as long as the noise is 1; with more of it the local one believes noise."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 3, (n, 4))
    labels = (honest + rng.gumbel(size=honest.shape)).argmax(axis=1)
    local = honest + noise * rng.normal(0, 2, honest.shape)
    return PairOutputs("made up", local.astype(np.float32), honest.astype(np.float32), labels)


@pytest.fixture(scope="module")
def found() -> Corruptions:
    """Planned on noise 1; noise grows with severity, and `nothing new` does not change at all."""
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


def test_a_plan_holds_on_inputs_like_its_own(found: Corruptions) -> None:
    """Rate and calibration are the planned ones, and planning again gains nothing."""
    for row in (found.clean, *found.shifted["none"]):
        assert _holds(row)
        assert abs(row.replanned.value - row.at_planned_rate.value) < 0.03


def test_a_shift_is_seen(found: Corruptions) -> None:
    """The local model gets worse and overconfident, and a refitted temperature is higher and corrects it."""
    by_severity = found.shifted["noise"]
    accuracies = [row.local.value for row in by_severity]
    assert accuracies == sorted(accuracies, reverse=True)
    worst = by_severity[-1]
    assert worst.ece.low > 0.1
    assert worst.temperature > 1.5 * found.clean.temperature
    assert worst.refitted_ece.value < worst.ece.value / 3
    assert worst.random < worst.cascade.value < worst.remote.high


def test_every_figure_rests_on_the_test_inputs(found: Corruptions) -> None:
    """None of those that planned again is counted, and the interval is around the value."""
    for row in (found.clean, *found.shifted["noise"]):
        for estimate in (row.local, row.ece, row.offload, row.cascade, row.at_planned_rate, row.replanned):
            assert estimate.n == found.test == 2500
            assert estimate.low <= estimate.value <= estimate.high


def test_it_is_written_and_read(found: Corruptions, tmp_path: Path) -> None:
    """A row for each kind in the summary, everything in the document, and a picture."""
    write_study(tmp_path, "corruptions", found, command="x", summary=summarize(found))
    document = json.loads((tmp_path / "result.json").read_text())["corruptions"]
    assert [row["severity"] for row in document["shifted"]["noise"]] == [1, 2, 3, 4, 5]
    summary = (tmp_path / "summary.txt").read_text()
    assert summary == summarize(found) + "\n"
    assert summary.count("\nnoise ") == 5
    assert shift_svg(found.clean, found.shifted).startswith("<svg")


def test_a_remote_that_fails_is_seen() -> None:
    """Blurred beyond use for the remote only: asking it costs, and a new plan with labels stops asking."""
    before, after = _outputs(1.0, 2000, seed=1), _outputs(1.0, seed=2)
    blind = replace(after, remote=np.random.default_rng(3).normal(0, 3, after.remote.shape).astype(np.float32))
    found = measure_corruptions(before, after, {"blind": [blind]}, rate=0.3)
    (row,) = found.shifted["blind"]
    assert row.cascade.high < row.local.low
    assert row.replanned.value == pytest.approx(row.local.value, abs=0.02)


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_corruptions_repeat_and_differ(corruption: str) -> None:
    """The same seed gives the same pixels; severity 0 only enlarges."""
    pytest.importorskip("imagecorruptions")
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    once, again, plain = (np.stack(list(corrupted(images, corruption, severity))) for severity in (3, 3, 0))
    assert once.shape == (2, 224, 224, 3)
    assert once.dtype == np.uint8
    assert np.array_equal(once, again)
    assert not np.array_equal(once, plain)
