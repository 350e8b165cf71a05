"""The artificial pairs of the coverage study are what they say: accuracy, calibration, ties, noise."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.calibration import expected_calibration_error, fit_temperature, softmax
from studies.processes import PROCESSES, Process, exact_accuracy

BY_NAME = {process.name: process for process in PROCESSES}
SMALL = [replace(process, pool=3_000 if process.classes == 1000 else 20_000) for process in PROCESSES]

CLEAN = [process for process in SMALL if process.noise == 0]


def _right(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    return float(np.mean(logits.argmax(axis=1) == labels))


def test_the_study_has_every_kind_of_pair() -> None:
    """There are at least ten processes, with other names, accuracies from .25 to .999 and 2 to 1,000 classes."""
    assert len(BY_NAME) == len(PROCESSES) >= 10
    assert {2, 1000} <= {process.classes for process in PROCESSES}
    assert {200, 10_000} <= {process.n for process in PROCESSES}
    assert min(process.local for process in PROCESSES) <= 0.6
    assert max(process.local for process in PROCESSES) >= 0.999
    assert all(process.pool >= 4 * process.n for process in PROCESSES)


def test_accuracy_by_quadrature_equals_the_closed_form() -> None:
    """Two equally likely classes at a fixed strength s: the likelier one is right with probability Phi(s / sqrt 2)."""
    from scipy.stats import norm

    found = exact_accuracy(np.array([1.3, 1.3]), 0.0, np.log([0.5, 0.5]))
    assert found == pytest.approx(norm.cdf(1.3 / np.sqrt(2)), abs=1e-9)
    assert exact_accuracy(np.full(3, 1e-3), 0.4, np.log([0.2, 0.7, 0.1])) == pytest.approx(0.7, abs=1e-6)


@pytest.mark.parametrize("process", CLEAN, ids=lambda process: process.name)
def test_accuracies_are_the_stated_ones(process: Process) -> None:
    """Both accuracies differ from those stated by at most four standard errors; rounding costs some by ties."""
    seen = process.population
    for logits, stated in ((seen.local, process.local), (seen.remote, process.remote)):
        error = np.sqrt(stated * (1 - stated) / process.pool)
        rounding = 0.02 if process.step and stated == process.local else 0.0
        assert _right(logits, seen.labels) == pytest.approx(stated, abs=4 * error + rounding)


@pytest.mark.parametrize("process", SMALL, ids=lambda process: process.name)
def test_logits_divided_by_their_sharpness_are_calibrated(process: Process) -> None:
    """The temperature of the population is the sharpness, and leaves no calibration error beyond that of chance."""
    seen = process.population
    exact = (process.distortion == 1 and process.step == 0, True)
    for logits, sharpness, is_exact in zip((seen.local, seen.remote), process.sharpness, exact, strict=True):
        if not is_exact:
            continue
        wrong = np.count_nonzero(logits.argmax(axis=1) != seen.labels)
        assert fit_temperature(logits, seen.labels) == pytest.approx(sharpness, rel=5 / np.sqrt(wrong))
        confidence = softmax(logits, sharpness).max(axis=1)
        assert expected_calibration_error(confidence, logits.argmax(axis=1) == seen.labels) < 3 / np.sqrt(process.pool)


def test_a_distortion_is_beyond_any_temperature() -> None:
    """The fitted temperature leaves a calibration error of more than two points; accuracy is as it was."""
    seen = replace(BY_NAME["distorted"], pool=20_000).population
    confidence = softmax(seen.local, fit_temperature(seen.local, seen.labels)).max(axis=1)
    assert expected_calibration_error(confidence, seen.local.argmax(axis=1) == seen.labels) > 0.02


def test_every_deviation_is_there() -> None:
    """Identical models are, rounded logits tie, the rare class is rare, and noise moves labels of some classes only."""
    small = {process.name: process for process in SMALL}
    same = small["identical"].population
    assert np.array_equal(same.local, same.remote)
    tied = small["tied scores"].population
    assert len(np.unique(softmax(tied.local).max(axis=1))) < 1_000
    rare = small["rare class"].population
    assert np.mean(rare.labels == 2) == pytest.approx(0.03, abs=0.005)
    noisy, clean = small["label noise"].population, replace(small["label noise"], noise=0.0).population
    changed = noisy.labels != clean.labels
    assert set(clean.labels[changed].tolist()) == {0, 1, 2}
    assert changed.mean() == pytest.approx(0.3 * 0.5 * 0.9, abs=0.01)
    special = small["specialist"].population
    right = special.remote.argmax(axis=1) == special.labels
    assert right[special.labels < 5].mean() > right[special.labels >= 5].mean() + 0.2


def test_a_draw_is_of_the_population_and_repeatable() -> None:
    """Draws contain inputs of the population only; the same generator gives the same, and `sample` fresh ones."""
    process = SMALL[0]
    first, again = (process.draw(np.random.default_rng(5)) for _ in range(2))
    assert first.digest == again.digest
    assert len(first) == process.n
    rows = {row.tobytes() for row in process.population.local}
    assert all(row.tobytes() in rows for row in first.local)
    assert not any(row.tobytes() in rows for row in process.sample(50, np.random.default_rng(5)).local)


def test_mistaken_processes_are_refused() -> None:
    """The prior has one number per class, and identical models have one accuracy."""
    with pytest.raises(ValueError, match="prior: expected 10"):
        Process("x", 100, 0.8, 0.9, prior=(0.5, 0.5))
    with pytest.raises(ValueError, match="identical: expected equal"):
        Process("x", 100, 0.8, 0.9, identical=True)
