"""The statistical benchmark, on a made-up pair of which the truth is known."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgecascade.benchmarks.certificate_draws import draw_certificates
from edgecascade.benchmarks.fit_speed import compare_fits
from edgecascade.benchmarks.pairs import PairOutputs
from edgecascade.benchmarks.policy_splits import compare_policies
from edgecascade.benchmarks.promises import measure_promises, summarize
from edgecascade.benchmarks.results import write_result
from edgecascade.calibration import SCORES, CertifiedLoss


@pytest.fixture(scope="module")
def outputs() -> PairOutputs:
    """A remote that is nearly right, and a local model that sees it through noise."""
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 3, (4000, 4))
    labels = (honest + rng.gumbel(size=honest.shape)).argmax(axis=1)
    local = honest + rng.normal(0, 3, honest.shape)
    return PairOutputs("small > large", local.astype(np.float32), honest.astype(np.float32), labels)


def test_a_policy_lies_between_random_and_the_oracle(outputs: PairOutputs) -> None:
    """At the rate that it really has, near the planned one; no fixed score is far above it."""
    (row,) = compare_policies(outputs, [0.3], calibration=800, splits=5)
    assert row.offload == pytest.approx(0.3, abs=0.03)
    accuracy = row.accuracy
    assert row.local < accuracy["random"] < accuracy["policy"] < accuracy["oracle"]
    assert row.best == max(SCORES, key=lambda score: accuracy[score])
    assert row.shortfall == pytest.approx(accuracy["policy"] - accuracy[row.best])
    assert row.shortfall > -0.02


def test_promises_are_counted(outputs: PairOutputs) -> None:
    """Broken ones and refused ones; what is certified is never less than the least that would do, unless broken."""
    found = draw_certificates(outputs, CertifiedLoss(0.02, 0.1), n=1500, draws=20)
    assert found.broken <= 6
    assert found.broken_interval[0] <= found.broken / 20 <= found.broken_interval[1]
    assert found.offload is not None
    assert found.least is not None
    assert found.offload > found.least > 0
    refused = draw_certificates(outputs, CertifiedLoss(0.001, 0.001), n=300, draws=3)
    assert (refused.refused, refused.broken, refused.offload, refused.least) == (3, 0, None, None)


def test_the_fits_agree() -> None:
    """Ours and scikit-learn's, on the same logits; time and memory are numbers to be read, not tested."""
    pytest.importorskip("sklearn", minversion="1.8")
    found = compare_fits(n=2000, classes=10, repeats=1)
    assert found.difference < 1e-3
    assert found.ratio > 0


@pytest.mark.slow
def test_the_whole_measurement_is_written_and_read(outputs: PairOutputs, tmp_path: Path) -> None:
    """Every table in the summary, every number in the document."""
    pytest.importorskip("sklearn", minversion="1.8")
    found = measure_promises((outputs,), splits=2, draws=2, calibration=800)
    write_result(tmp_path, found, summarize(found))
    document = json.loads((tmp_path / "result.json").read_text())
    assert (tmp_path / "summary.txt").read_text() == summarize(found) + "\n"
    rates = {row["rate"] for row in document["policies"]["small > large"]}
    assert rates == {0.1, 0.2, 0.3, 0.35, 0.4, 0.5, document["rule"]["small > large"]}
    assert list(document["by_inputs"]["small > large"]) == ["100", "200", "500", "1000"]
    for part in ("promise: loss at most 1%", "sensitivity: ", "of scikit-learn's time"):
        assert part in summarize(found)
