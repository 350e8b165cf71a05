"""Accuracy against offload rate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecascade.benchmarks.offload_curve import offload_curve

cases = st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.booleans()), min_size=1, max_size=30)


@given(cases)
def test_every_point_is_a_count_of_right_answers(rows: list[tuple[int, bool, bool]]) -> None:
    """Forwarding all inputs up to a key gives the accuracy that counting by hand gives."""
    key, local, remote = (np.array(column) for column in zip(*rows, strict=True))
    curve = offload_curve(key, local, remote)
    for threshold in range(6):
        forward = key < threshold
        expected = np.where(forward, remote, local).mean()
        assert curve.at(forward.mean()) == pytest.approx(expected)


@given(cases)
def test_no_order_beats_the_oracle_and_random_is_a_straight_line(rows: list[tuple[int, bool, bool]]) -> None:
    """The oracle bounds every curve from above; random offloading joins the two ends."""
    key, local, remote = (np.array(column) for column in zip(*rows, strict=True))
    curve = offload_curve(key, local, remote)
    oracle = offload_curve(local.astype(int) - remote, local, remote)
    random = offload_curve(np.zeros(len(key)), local, remote)
    for rate in np.linspace(0, 1, 11):
        assert curve.at(rate) <= oracle.at(rate) + 1e-12
        assert random.at(rate) == pytest.approx((1 - rate) * local.mean() + rate * remote.mean())
