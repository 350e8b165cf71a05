"""Drift: inputs that no longer follow the distribution of the calibration data are detected."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from documents import some_document
from edgecascade.runtime import Policy
from edgecascade.runtime.watch.drift import Departure, Reference, ScoreDrift, differs, rate_differs, total_variation
from edgecascade.types.document import CascadeDocument
from edgecascade.types.policy import RemoteCalibration


def document(**changes: Any) -> CascadeDocument:
    """Return the document that contains the reference."""
    table = {"threshold": 0.1, "edges": (0.5, 0.8), "values": (-0.1, 0.1, 0.3), "counts": (10, 20, 30), **changes}
    made = some_document(**table)
    return replace(made, calibration=replace(made.calibration, temperature=2.0))


def policy(**changes: Any) -> Policy:
    """Return the policy of that document, with changes."""
    own: dict[str, Any] = {"threshold": 0.1, "edges": (0.5, 0.8), "values": (-0.1, 0.1, 0.3), "temperature": 2.0}
    return Policy("replace", RemoteCalibration(1.0, False), **{**own, **changes})


def urn(rng: np.random.Generator, runs: int, reference: Sequence[int], m: int) -> NDArray[np.int64]:
    """Return counts of m inputs in bins at quantiles of a calibration set from the same distribution."""
    return rng.multinomial(m, rng.dirichlet(np.array(reference, float), runs))


def drifted(detector: ScoreDrift, tenths: NDArray[np.int64]) -> bool:
    """Return whether any test of a window, given as ten rows of counts, detects drift."""
    return any(found.drifted for row in tenths.tolist() for found in detector.add([*row, 0]))


@pytest.mark.parametrize(("n", "bins"), [(200, 10), (200, 15), (600, 15), (1000, 12), (1000, 50)])
@pytest.mark.parametrize("quantiles", [True, False])
def test_false_alarms_are_within_their_bound(n: int, bins: int, quantiles: bool) -> None:
    """The bound holds for windows and tenths together without a floor, for quantile bins and fixed bins."""
    rng = np.random.default_rng(5)
    runs, risk = 2000, 0.02
    even = np.bincount(np.arange(n) % bins).tolist()
    alarms = 0
    for _ in range(runs):
        if quantiles:
            reference, p = even, rng.dirichlet(np.array(even, float))
        else:
            p = np.full(bins, 1 / bins)
            reference = rng.multinomial(n, p).tolist()
        alarms += drifted(ScoreDrift(reference, 1000, risk, 0.0), rng.multinomial(100, p, 10))
    assert alarms / runs < risk + 3 * math.sqrt(risk / runs)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "bins"), [(200, 10), (200, 15), (600, 15), (1000, 15)])
def test_false_alarms_are_within_the_default_risk(n: int, bins: int) -> None:
    """In a single window, far in the tail, they are at most 1.5 times half of 1e-3, the bound."""
    rng = np.random.default_rng(6)
    reference = np.bincount(np.arange(n) % bins).tolist()
    runs = 60_000
    detector = ScoreDrift(reference, 1000, 1e-3, 0.0)
    false = 0
    for row in urn(rng, runs, reference, 1000).tolist():
        tenths = [[*row, 0]] + [[0] * (bins + 1)] * 9
        false += [found for tenth in tenths for found in detector.add(tenth)][-1].drifted
    assert false <= 1.5 * runs * 5e-4


def test_a_sudden_change_is_detected_within_a_tenth_of_a_window() -> None:
    """If all inputs are in the lowest third of the bins, 100 inputs suffice instead of 1000."""
    detector = ScoreDrift([40] * 15, 1000, 1e-3, 0.1)
    found = detector.add([20] * 5 + [0] * 10 + [0])
    assert [one.drifted for one in found] == [True]
    assert "the last 100 inputs" in found[0].seen()[1]


def test_slow_drift_is_detected() -> None:
    """A step of 1 % of the inputs per window is small but accumulates."""
    rng = np.random.default_rng(8)
    detector = ScoreDrift([60] * 10, 1000, 1e-3, 0.1)
    p = np.full(10, 0.1)
    windows = 0
    while not drifted(detector, rng.multinomial(100, p, 10)):
        windows += 1
        p[0] += 0.01
        p[1:] -= 0.01 / 9
    assert 8 <= windows <= 30


def test_a_negligible_change_is_not_drift() -> None:
    """A small difference is ignored even if it is significant."""
    moved = [1100] * 5 + [900] * 5
    assert differs(moved, [10_000] * 10) < 1e-6
    detector = ScoreDrift([10_000] * 10, 10_000, 1e-3, 0.1)
    found = [one for _ in range(10) for one in detector.add([*(count // 10 for count in moved), 0])]
    assert not any(one.drifted for one in found)
    assert found[-1].calm


def test_nan_has_its_own_bin_without_calibration_inputs() -> None:
    """A sensor that fails for a third of the inputs is detected at once."""
    detector = ScoreDrift([60] * 10, 1000, 1e-3, 0.1)
    assert detector.add([7] * 10 + [30])[0].drifted
    assert not detector.add([10] * 10 + [1])[0].drifted


def test_drift_ends_after_a_window_like_the_reference() -> None:
    """A tenth of a window is not enough."""
    detector = ScoreDrift([60] * 10, 1000, 1e-3, 0.1)
    found = [one for _ in range(10) for one in detector.add([10] * 10 + [0])]
    assert [one.whole for one in found] == [False] * 10 + [True]
    assert [one.calm for one in found] == [False] * 10 + [True]


@pytest.mark.parametrize("reference", [[], [25], [10, 10]])
def test_a_small_reference_gives_no_result(reference: list[int]) -> None:
    """It reports neither drift nor its absence."""
    detector = ScoreDrift(reference, 1000, 1e-3, 0.1)
    assert [one for _ in range(10) for one in detector.add([100] * len(reference) + [0])] == []


@given(
    reference=st.lists(st.integers(0, 100), min_size=1, max_size=60),
    seen=st.lists(st.integers(0, 50), min_size=61, max_size=61),
)
def test_every_input_is_counted_in_one_group(reference: list[int], seen: list[int]) -> None:
    """Bins are merged so that every group has calibration inputs."""
    detector = ScoreDrift(reference, 1000, 1e-3, 0.1)
    counts = [*seen[: len(reference)], seen[-1]]
    found: list[Departure] = [one for _ in range(10) for one in detector.add(counts)]
    for one in found:
        assert sum(one.old) == sum(reference)
        assert sum(one.new) == sum(counts) * (10 if one.whole else 1)
        assert min(one.old[:-1]) > 0
        assert len(one.new) <= 16


@given(a=st.lists(st.integers(0, 40), min_size=2, max_size=20), data=st.data())
def test_equal_histograms_have_no_distance(a: list[int], data: st.DataObject) -> None:
    """For multiples of a histogram, p is near 1 and the distance 0, in any order of the bins."""
    if not any(a):
        return
    assert differs(a, [3 * one for one in a]) > 0.9
    assert total_variation(a, [3 * one for one in a]).value == pytest.approx(0)
    b = data.draw(st.lists(st.integers(1, 40), min_size=len(a), max_size=len(a)))
    assert differs(a, b) == pytest.approx(differs(b, a))
    assert 0 <= differs(a, b) <= 1


def test_the_p_value_is_that_of_chi_square() -> None:
    """The G test of a two-by-ten table has the exact tail of chi-square with nine degrees of freedom."""
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(1)
    for _ in range(50):
        new, old = rng.multinomial(1000, rng.dirichlet([50] * 10)), rng.multinomial(600, [0.1] * 10)
        exact = stats.chi2_contingency([new, old], correction=False, lambda_="log-likelihood").pvalue
        assert differs(new.tolist(), old.tolist()) == pytest.approx(exact, rel=0.1, abs=2e-3)


@given(m=st.integers(1, 60), n=st.integers(1, 60), data=st.data())
def test_rates_are_compared_by_fishers_exact_test(m: int, n: int, data: st.DataObject) -> None:
    """The p-value is twice the smaller tail, summed over all tables."""
    new, old = data.draw(st.integers(0, m)), data.draw(st.integers(0, n))
    tables = {x: math.comb(m, x) * math.comb(n, new + old - x) for x in range(m + 1) if 0 <= new + old - x <= n}
    upper = sum(count for x, count in tables.items() if x >= new)
    lower = sum(count for x, count in tables.items() if x <= new)
    expected = min(1.0, 2 * min(upper, lower) / sum(tables.values()))
    assert rate_differs(new, m, old, n) == pytest.approx(expected, rel=1e-6)


def test_large_counts_do_not_overflow() -> None:
    """This holds on both sides."""
    assert rate_differs(90_000, 100_000, 10, 1000) < 1e-100
    assert rate_differs(10, 100_000, 990, 1000) < 1e-100
    assert rate_differs(30_000, 100_000, 300, 1000) > 0.5
    assert rate_differs(5, 10, 0, 0) == 1.0


def test_the_interval_covers_the_distance() -> None:
    """For equal and unequal distributions, at least 95 % of the intervals contain the distance."""
    rng = np.random.default_rng(2)
    for p in (np.full(10, 0.1), np.array([0.3] + [0.7 / 9] * 9)):
        distance = abs(p - 0.1).sum() / 2
        found = [
            total_variation(rng.multinomial(1000, p).tolist(), rng.multinomial(600, [0.1] * 10).tolist())
            for _ in range(500)
        ]
        assert np.mean([one.low <= distance <= one.high for one in found]) > 0.95
        assert max(one.high - one.low for one in found) < 0.25


def test_the_reference_is_read_from_the_file() -> None:
    """Bins use the advantage in float32, and inputs below the threshold are forwarded, as in the graph."""
    reference = Reference.of(document())
    assert reference.values == tuple(np.array([-0.1, 0.1, 0.3], np.float32).tolist())
    assert (reference.counts, reference.forwarded, reference.n) == ((10, 20, 30), 10, 60)
    assert Reference.of(document(), policy()) == reference


def test_bins_of_equal_advantage_are_merged() -> None:
    """The advantage does not distinguish them."""
    reference = Reference.of(document(values=(0.3, 0.1, 0.3)))
    assert (len(reference.values), reference.counts) == (2, (40, 20))


def test_another_threshold_changes_only_the_reference_rate() -> None:
    """The bins and, for other advantages, the counts are the same."""
    assert Reference.of(document(), policy(threshold=0.2)).forwarded == 30
    other = Reference.of(document(), policy(values=(0.0, 0.2, 0.4)))
    assert (other.counts, other.forwarded) == ((10, 20, 30), 10)


@pytest.mark.parametrize("changes", [{"temperature": 3.0}, {"edges": (0.5, 0.7)}])
def test_a_policy_with_other_bins_has_no_reference(changes: dict[str, Any]) -> None:
    """The calibration data were counted under another policy."""
    assert Reference.of(document(), policy(**changes)).n == 0


def test_a_file_without_a_table_has_no_reference() -> None:
    """An older file has its table in the graph only; it runs without the drift check."""
    assert Reference.of(document(edges=None, values=None)).n == 0
