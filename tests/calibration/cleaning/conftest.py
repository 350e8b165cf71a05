"""Experts whose calibrated probabilities are known, because truth and labels were drawn with them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.calibration.cleaning import Experts


class Population(NamedTuple):
    """Rows with their truth, their given labels, and the outputs of experts."""

    truth: NDArray[np.int64]
    labels: NDArray[np.int64]
    arrays: list[NDArray[np.float64]]

    @property
    def experts(self) -> Experts:
        """The outputs as experts."""
        return Experts.of(self.arrays)

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """Which labels are wrong."""
        return np.asarray(self.labels != self.truth)


@pytest.fixture(scope="session")
def population() -> Callable[..., Population]:
    """Draw rows of `classes` classes; expert k sees each class with a signal of `signals[k]` standard deviations."""

    def draw(
        n: int = 3000,
        classes: int = 5,
        signals: tuple[float, ...] = (3.0, 2.5),
        noise: str = "symmetric",
        rate: float = 0.05,
        seed: int = 0,
    ) -> Population:
        rng = np.random.default_rng(seed)
        truth = rng.integers(0, classes, n)
        # x ~ N(signal * onehot, 1): the exact logits of the truth given x are signal * x.
        arrays = [signal * (signal * np.eye(classes)[truth] + rng.normal(size=(n, classes))) for signal in signals]
        wrong = rng.random(n) < rate
        away = rng.integers(1, classes, n) if noise == "symmetric" else np.ones(n, np.int64)
        return Population(truth, np.where(wrong, (truth + away) % classes, truth), arrays)

    return draw
