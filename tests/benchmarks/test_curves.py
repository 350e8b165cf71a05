"""Accuracy against offload rate, and the area between random offloading and the oracle."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecascade.benchmarks.offload.curves import Rule, areas, normalised_area, offload_curve
from edgecascade.benchmarks.offload.strategies import lowest

Rows = list[tuple[int, bool, bool]]
cases = st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), min_size=1, max_size=30)


def _columns(rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    key, local, remote = zip(*rows, strict=True)
    return np.array(key), np.array(local), np.array(remote)


def _by_trapezoids(key: NDArray[np.int64], local: NDArray[np.bool_], remote: NDArray[np.bool_]) -> float:
    curve = offload_curve(key, local, remote)
    return float(np.sum(np.diff(curve.rate) * (curve.accuracy[1:] + curve.accuracy[:-1])) / 2)


@given(cases)
def test_the_area_is_that_between_the_curves(rows: Rows) -> None:
    """It equals the areas measured separately, and is None only where oracle and random coincide."""
    key, local, remote = _columns(rows)
    gain = remote.astype(int) - local
    random = (local.mean() + remote.mean()) / 2
    found = normalised_area(key, local, remote)
    assert (found is None) == (len(set(gain.tolist())) == 1)
    if found is not None:
        of_the_oracle = _by_trapezoids(-gain, local, remote) - random
        assert found == pytest.approx((_by_trapezoids(key, local, remote) - random) / of_the_oracle)


@given(cases.filter(lambda rows: len(rows) <= 5))
def test_ties_count_as_the_mean_of_their_orders(rows: Rows) -> None:
    """The mean is taken over every order of inputs that the key allows."""
    key, local, remote = _columns(rows)
    found = normalised_area(key, local, remote)
    if found is not None:
        allowed = [order for order in permutations(range(len(key))) if (np.diff(key[list(order)]) >= 0).all()]
        tried = [normalised_area(np.argsort(order), local, remote) for order in allowed]
        assert found == pytest.approx(np.mean([area for area in tried if area is not None]))


@given(cases)
def test_the_area_is_1_for_the_oracle_and_0_for_random(rows: Rows) -> None:
    """Reversing the order changes the sign."""
    key, local, remote = _columns(rows)
    found = normalised_area(key, local, remote)
    if found is not None:
        assert normalised_area(local.astype(int) - remote, local, remote) == pytest.approx(1.0)
        assert normalised_area(np.zeros(len(key)), local, remote) == pytest.approx(0.0)
        assert normalised_area(-key, local, remote) == pytest.approx(-found)
        assert -1 - 1e-9 <= found <= 1 + 1e-9


def _drawn(n: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Draw a key that predicts local correctness, and a remote that is right nine times in ten."""
    key = rng.random(n)
    return key, rng.random(n) < key, rng.random(n) < 0.9


def test_the_interval_covers_the_area_of_the_population() -> None:
    """At least 88 of 100 draws of 300 inputs are covered; 95 are expected."""
    rng = np.random.default_rng(5)
    truth = normalised_area(*_drawn(400_000, rng))
    assert truth is not None
    held = 0
    for _ in range(100):
        key, local, remote = _drawn(300, rng)
        found = areas({"advantage": Rule(key, remote)}, local)["advantage"]
        assert found is not None
        held += found.area.low <= truth <= found.area.high
    assert held >= 88


def test_the_difference_of_two_areas_is_paired() -> None:
    """Two orders that differ only in noise have a much narrower interval of their difference than of either area."""
    rng = np.random.default_rng(1)
    key, local, remote = _drawn(1000, rng)
    rules = {"plan": Rule(key, remote), "almost": Rule(key + rng.normal(0, 1e-3, 1000), remote)}
    found = areas(rules, local)["almost"]
    assert found is not None
    assert found.lead is not None
    assert found.lead.high - found.lead.low < (found.area.high - found.area.low) / 5
    assert found.lead.low <= 0 <= found.lead.high


def test_undefined_differences_and_areas_are_none() -> None:
    """Different merge rules have no difference of areas, and models that always agree have no area."""
    rng = np.random.default_rng(1)
    key, local, remote = _drawn(200, rng)
    found = areas({"plan": Rule(key, remote), "other": Rule(key, rng.permutation(remote))}, local)
    assert found["other"] is not None
    assert found["other"].lead is None
    assert areas({"plan": Rule(key, local)}, local) == {"plan": None}


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.data())
def test_the_lowest_keys_are_forwarded_first(keys: list[int], data: st.DataObject) -> None:
    """Shares add up to the count, lower keys are forwarded completely first, and ties get equal shares."""
    count = data.draw(st.integers(0, len(keys)))
    key = np.array(keys)
    share = lowest(key, count)
    assert share.sum() == pytest.approx(count)
    for one in set(keys):
        assert len(set(share[key == one].tolist())) == 1
        if share[key == one][0] > 0:
            assert (share[key < one] == 1).all()


@given(cases)
def test_every_point_is_a_count_of_right_answers(rows: list[tuple[int, bool, bool]]) -> None:
    """Forwarding all inputs up to a key gives the accuracy counted directly."""
    key, local, remote = (np.array(column) for column in zip(*rows, strict=True))
    curve = offload_curve(key, local, remote)
    for threshold in range(6):
        forward = key < threshold
        expected = np.where(forward, remote, local).mean()
        assert curve.at(forward.mean()) == pytest.approx(expected)


@given(cases)
def test_the_oracle_is_the_upper_bound_and_random_is_a_line(rows: list[tuple[int, bool, bool]]) -> None:
    """No curve exceeds the oracle; random offloading is a straight line between its ends."""
    key, local, remote = (np.array(column) for column in zip(*rows, strict=True))
    curve = offload_curve(key, local, remote)
    oracle = offload_curve(local.astype(int) - remote, local, remote)
    random = offload_curve(np.zeros(len(key)), local, remote)
    for rate in np.linspace(0, 1, 11):
        assert curve.at(rate) <= oracle.at(rate) + 1e-12
        assert random.at(rate) == pytest.approx((1 - rate) * local.mean() + rate * remote.mean())
