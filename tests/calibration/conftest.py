"""Fixtures: logits whose temperature is known, because the labels were drawn with it."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray


@pytest.fixture(scope="session")
def sampled() -> Callable[..., tuple[NDArray[np.float64], NDArray[np.int64]]]:
    """Draw logits [n, classes] that are too sharp by the factor `temperature`, and labels [n]."""

    def draw(
        n: int = 2000, classes: int = 4, temperature: float = 1.0, seed: int = 0
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        rng = np.random.default_rng(seed)
        honest = rng.normal(0.0, 2.0, (n, classes))
        # The index of the largest logit + Gumbel noise is a draw from the softmax.
        labels = (honest + rng.gumbel(size=honest.shape)).argmax(axis=1)
        return temperature * honest, labels

    return draw
