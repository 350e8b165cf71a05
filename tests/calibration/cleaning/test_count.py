"""Counts from samples: bounds are exact, and estimates from unequal draws are right on average."""

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import beta, hypergeom

from edgecascade.calibration.cleaning.count import (
    Prior,
    at_least,
    bounded_ends,
    count_ends,
    least_count,
    total_ends,
    total_estimates,
)


@pytest.mark.parametrize(("judged", "total"), [(1, 1), (1, 30), (10, 40), (39, 40), (40, 40)])
def test_the_bound_is_false_in_at_most_5_percent_and_no_lower_than_that_needs(judged: int, total: int) -> None:
    """For every true number, over every sample; and the number below the bound would be refuted."""
    bounds = np.array([least_count(seen, judged, total) for seen in range(judged + 1)])
    for truth in range(total + 1):
        chance = hypergeom.pmf(np.arange(judged + 1), total, truth, judged)
        assert chance[bounds > truth].sum() <= 0.05 + 1e-12
    for seen, bound in enumerate(bounds.tolist()):
        assert hypergeom.sf(seen - 1, total, bound, judged) > 0.05
        assert bound == 0 or seen == bound or hypergeom.sf(seen - 1, total, bound - 1, judged) <= 0.05


def test_a_sample_proves_a_number_if_its_bound_reaches_it() -> None:
    """The test and the bound agree, also where a share of the rows is no whole number in floating point."""
    for seen in range(31):
        bound = least_count(seen, 30, 70)
        for number in (0.7 * 70, 0.1 * 70, 48.5):
            assert at_least(number, seen, 30, 70) == (bound >= number - 1e-9)


def test_both_ends_of_a_count_hold_together() -> None:
    """The interval is false below in at most 1 % of samples and above in at most 4 %."""
    ends = np.array([count_ends(seen, 20, 60) for seen in range(21)])
    for truth in range(61):
        chance = hypergeom.pmf(np.arange(21), 60, truth, 20)
        assert chance[ends[:, 0] > truth].sum() <= 0.01 + 1e-12
        assert chance[ends[:, 1] < truth].sum() <= 0.04 + 1e-12
    assert count_ends(7, 10, 10) == (7, 7)


@pytest.mark.parametrize("seen", [0, 1, 5, 50, 99, 100])
def test_bounds_of_zeros_and_ones_are_those_of_clopper_and_pearson(seen: int) -> None:
    """Both ends, within what the random weights leave."""
    low, high = bounded_ends(np.repeat([0.0, 1.0], [100 - seen, seen]), 0.0, 1.0, (0.025, 0.025))
    assert float(low) == pytest.approx(beta.ppf(0.025, seen, 101 - seen) if seen else 0.0, abs=0.004)
    assert float(high) == pytest.approx(beta.ppf(0.975, seen + 1, 100 - seen) if seen < 100 else 1.0, abs=0.004)


def test_bounds_move_and_stretch_with_the_values() -> None:
    """Several samples at once have the ends that each has alone."""
    values = np.random.default_rng(0).normal(size=(3, 40))
    low, high = bounded_ends(values, -5.0, 5.0)
    again_low, again_high = bounded_ends(100 + 10 * values[1], 50.0, 150.0)
    assert (float(again_low), float(again_high)) == pytest.approx((100 + 10 * low[1], 100 + 10 * high[1]))
    assert ((low < values.mean(axis=1)) & (values.mean(axis=1) < high)).all()


def test_each_estimate_of_a_total_is_right_on_average() -> None:
    """Over every order in which rows can be drawn, at each place of the order, whatever was expected."""
    has, expected = np.array([1, 0, 1, 0, 0]), np.array([0.9, 0.8, 0.0, 0.1, 0.3])
    chances = np.array([0.4, 0.25, 0.05, 0.1, 0.2])
    mean = np.zeros(4)
    for order in permutations(range(5), 4):
        rows = list(order)
        before = np.concatenate([[0], np.cumsum(chances[rows])[:-1]])
        probability = np.prod(chances[rows] / (1 - before))
        mean += probability * total_estimates(has[rows], expected[rows], chances[rows], expected.sum())
    assert mean == pytest.approx(np.full(4, has.sum()))


def test_estimates_stay_within_the_limits_that_their_interval_is_made_with() -> None:
    """Also for the rows that are drawn most seldom, and late in an audit of nearly all rows."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        expected = rng.random(30) ** 4
        chances = 0.5 / 30 + 0.5 * expected / expected.sum()
        rows, has = rng.permutation(30)[:28], rng.random(30) < 0.3
        each = total_estimates(has[rows], expected[rows], chances[rows], expected.sum())
        prior = Prior.of(expected, chances)
        assert each.max() <= prior.total + prior.above + 1e-9
        low, high = total_ends(each, each, prior)
        assert float(low) <= each.mean() <= float(high)


def test_rows_that_cannot_have_the_property_do_not_widen_the_interval() -> None:
    """The most that one more row could add is that of the rows that are counted."""
    expected, chances = np.array([0.5, 0.5, 0.0, 0.0]), np.array([0.45, 0.45, 0.05, 0.05])
    assert Prior.of(expected, chances).above == pytest.approx(20)
    assert Prior.of(expected, chances, expected > 0).above == pytest.approx(0.5 / 0.45)
