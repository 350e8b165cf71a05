"""Ratios are medians of pairs with an interval and a goal."""

from typing import Any

import numpy as np
import pytest

from edgecascade.benchmarks.ratio import interleaved, ratio


def test_functions_are_timed_in_turn() -> None:
    """Each is timed equally often in a rotating order, and warm-up rounds are not counted."""
    called: list[str] = []
    now = iter(range(10_000))
    seconds = interleaved(
        {name: lambda _, name=name: called.append(name) for name in "abc"},  # type: ignore[misc]
        6,
        warm_up=3,
        clock=lambda: float(next(now)),
    )
    assert [called.count(name) for name in "abc"] == [9, 9, 9]
    assert "".join(called[:9]) == "abcbcacab"
    assert all(len(values) == 6 and (values == 1).all() for values in seconds.values())


@pytest.mark.parametrize(
    ("goal", "better", "said"), [(1.6, "lower", "met"), (1.4, "lower", "missed"), (1.4, "higher", "met")]
)
def test_a_ratio_is_the_median_of_its_pairs(goal: float, better: Any, said: str) -> None:
    """It is not the ratio of medians, so a slowdown of both functions has no effect."""
    theirs = np.array([1.0, 10.0, 2.0, 4.0, 8.0] * 20)
    found = ratio("x", 1.5 * theirs, theirs, goal=goal, better=better)
    assert (found.value, found.low, found.high, found.n) == (1.5, 1.5, 1.5, 100)
    assert (said == "met") == found.met
    assert f": {said}; medians 6e+06 and 4e+06 us" in str(found)
