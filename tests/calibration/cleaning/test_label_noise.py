"""The chance that a label is wrong is finite and ordered where a pool is certain."""

import numpy as np
import pytest

from edgecascade.calibration.cleaning import Experts, find_suspects, fit_pool


@pytest.mark.parametrize("scale", [5.0, 900.0, 1e6])
def test_a_pool_that_is_certain_doubts_the_wrong_labels(scale: float) -> None:
    """The chance of a given label may be too small for a float; every score stays a number."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 2000)
    labels = np.where(rng.random(2000) < 0.05, rng.integers(0, 5, 2000), truth)
    one, other = (scale * (np.eye(5)[truth] + rng.normal(0, 1 / 8, (2000, 5))) for _ in range(2))
    experts = Experts.of([one.astype(np.float32), other])
    suspects = find_suspects(experts, labels, fit_pool(experts, labels), every_row=True)
    wrong = int((labels != truth).sum())
    assert np.isfinite(suspects.score).all()
    assert set(suspects.row[:wrong].tolist()) == set(np.flatnonzero(labels != truth).tolist())
