"""How far LoadGen's harness changes a latency, on the flagship's local model."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from edgecascade.benchmarks.latency.agreement import compare_with_loop
from edgecascade.benchmarks.latency.data import read_inputs_as_given
from edgecascade.benchmarks.latency.plan import DIRECT, Request, Scenario, Subject
from edgecascade.benchmarks.pairs.flagship import Protocol, prepare_flagship
from edgecascade.benchmarks.ratio import Ratio

__all__ = ["measure_agreement"]


def measure_agreement(cache: Path) -> Ratio:
    """Return the ratio of LoadGen's median latency to a bare loop's, and prepare the flagship in the cache first."""
    pair = prepare_flagship(Protocol(), cache)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "test.npz")
        np.savez(data, x=np.asarray(pair.test.inputs)[:1024], y=pair.test.labels[:1024])
        request = Request(file=str(pair.cascade), data=str(data), report=folder)
        plan = request.plan(Subject.ALONE, Scenario.SINGLE_STREAM, DIRECT)
        return compare_with_loop(plan, read_inputs_as_given(data)).latency
