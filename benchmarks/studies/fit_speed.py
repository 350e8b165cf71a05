"""The temperature fit against scikit-learn's, on the same logits in the same process: time, memory, and optimum."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgecascade.calibration import fit_temperature

__all__ = ["FitSpeed", "compare_fits"]


@dataclass(frozen=True)
class FitSpeed:
    """Both fits on logits [n, classes] in float32.

    Attributes:
        n: Rows.
        classes: Columns.
        seconds: The seconds of each of our runs.
        theirs: The seconds of each of scikit-learn's runs, in turn with ours.
        memory: Our peak memory beyond the logits, as a share of theirs.
        difference: The relative difference of the two temperatures.
    """

    n: int
    classes: int
    seconds: tuple[float, ...]
    theirs: tuple[float, ...]
    memory: float
    difference: float

    @property
    def ratio(self) -> float:
        """The median of our time over scikit-learn's, pair by pair."""
        return float(np.median(np.array(self.seconds) / np.array(self.theirs)))


def compare_fits(n: int = 50_000, classes: int = 1_000, repeats: int = 5, seed: int = 0) -> FitSpeed:
    """Fit logits that are 1.7 times too sharp for labels drawn from them."""
    from sklearn.calibration import _TemperatureScaling

    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, classes)).astype(np.float32)
    labels = (logits + rng.gumbel(size=logits.shape).astype(np.float32)).argmax(axis=1)
    logits *= np.float32(1.7)
    ours, theirs, scaling = [], [], _TemperatureScaling()
    for _ in range(repeats):
        ours.append(_seconds(lambda: fit_temperature(logits, labels)))
        theirs.append(_seconds(lambda: scaling.fit(logits, labels)))
    tracemalloc.start()
    temperature = fit_temperature(logits, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return FitSpeed(
        n, classes, tuple(ours), tuple(theirs), peak / logits.nbytes, abs(temperature * float(scaling.beta_) - 1)
    )


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
