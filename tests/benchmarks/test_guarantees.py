"""The statistical study on an artificial pair with known properties."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgecascade.benchmarks.report import write_study
from edgecascade.calibration import SCORES, CertifiedLoss
from studies.guarantees import compare_fits, compare_policies, draw_certificates, measure_guarantees, summarize
from studies.outputs import PairOutputs


@pytest.fixture(scope="module")
def outputs() -> PairOutputs:
    """Return an accurate remote, and a local model that sees its logits through noise."""
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 3, (4000, 4))
    labels = (honest + rng.gumbel(size=honest.shape)).argmax(axis=1)
    local = honest + rng.normal(0, 3, honest.shape)
    return PairOutputs("small > large", local.astype(np.float32), honest.astype(np.float32), labels)


def test_policies_lie_between_random_and_the_oracle(outputs: PairOutputs) -> None:
    """They are compared at their actual rate, near the planned one, and no fixed score is far above them."""
    (row,) = compare_policies(outputs, [0.3], calibration=800, splits=5)
    assert row.offload == pytest.approx(0.3, abs=0.03)
    accuracy = row.accuracy
    assert row.local < accuracy["random"] < accuracy["policy"] < accuracy["oracle"]
    assert row.best == max(SCORES, key=lambda score: accuracy[score])
    assert row.shortfall == pytest.approx(accuracy["policy"] - accuracy[row.best])
    assert row.shortfall > -0.02


def test_violations_are_counted(outputs: PairOutputs) -> None:
    """Violated and refused certificates are counted, and a valid one forwards at least the least sufficient rate."""
    found = draw_certificates(outputs, CertifiedLoss(0.02, 0.1), n=1500, draws=20)
    assert found.violated <= 6
    assert found.violated_interval[0] <= found.violated / 20 <= found.violated_interval[1]
    assert found.offload is not None
    assert found.least is not None
    assert found.offload > found.least > 0
    refused = draw_certificates(outputs, CertifiedLoss(0.001, 0.001), n=300, draws=3)
    assert (refused.refused, refused.violated, refused.offload, refused.least) == (3, 0, None, None)


def test_the_fit_agrees_with_scikit_learn() -> None:
    """Both fit the same logits; time and memory are recorded but not tested."""
    pytest.importorskip("sklearn", minversion="1.8")
    found = compare_fits(n=2000, classes=10, repeats=1)
    assert found.difference < 1e-3
    assert found.ratio > 0


@pytest.mark.slow
def test_the_study_is_written_and_read(outputs: PairOutputs, tmp_path: Path) -> None:
    """Every table is in the summary and every number in the document."""
    pytest.importorskip("sklearn", minversion="1.8")
    found = measure_guarantees((outputs,), splits=2, draws=2, calibration=800)
    write_study(tmp_path, "guarantees", found, command="x", summary=summarize(found))
    document = json.loads((tmp_path / "result.json").read_text())["guarantees"]
    assert (tmp_path / "summary.txt").read_text() == summarize(found) + "\n"
    rates = {row["rate"] for row in document["policies"]["small > large"]}
    assert rates == {0.1, 0.2, 0.3, 0.35, 0.4, 0.5, document["rule"]["small > large"]}
    for part in ("certificate: loss at most 1%", "of scikit-learn's time"):
        assert part in summarize(found)
