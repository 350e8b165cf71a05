"""The advantage table has equal-count bins that every device reproduces."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgecascade.calibration import (
    AdvantageTable,
    CalibrationError,
    advantage_intervals,
    advantage_table,
    shrunk_advantage_table,
)

Columns = tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]
CONFIDENCES = st.floats(0.0, 1.0, width=32)


@st.composite
def columns(draw: st.DrawFn) -> Columns:
    """Draw distinct scores and the confidences of both models."""
    n = draw(st.integers(60, 120))
    score = draw(arrays(np.float32, n, elements=CONFIDENCES, unique=True))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    return score, rng.random(n), rng.random(n)


def table_of(score: list[float], bins: int) -> AdvantageTable:
    """Return a table whose local confidence is the rank of the score and whose remote confidence is 0."""
    ranked = np.argsort(np.argsort(score)) / len(score)
    return advantage_table(np.array(score, np.float32), ranked, np.zeros(len(score)), bins)


@given(columns(), st.integers(1, 6))
def test_distinct_scores_fill_the_bins_equally(columns: Columns, bins: int) -> None:
    """No bin has more than one input above its equal share."""
    counts = advantage_table(*columns, bins).counts
    assert len(counts) == bins
    assert counts.max() - counts.min() <= 1
    assert counts.sum() == len(columns[0])


@given(columns(), st.integers(1, 6))
def test_each_value_is_the_mean_of_its_bin(columns: Columns, bins: int) -> None:
    """The mean is of local minus remote confidence, over the scores in [edge, next edge)."""
    score, local, remote = columns
    table = advantage_table(score, local, remote, bins)
    bounds = [-np.inf, *table.edges, np.inf]
    for i, value in enumerate(table.values):
        inside = (bounds[i] <= score) & (score < bounds[i + 1])
        assert table.counts[i] == inside.sum()
        assert value == pytest.approx((local - remote)[inside].mean(), rel=1e-6, abs=1e-6)


@given(columns(), st.integers(2, 6))
def test_edges_rise_and_lie_between_scores(columns: Columns, bins: int) -> None:
    """An edge is halfway between two neighbouring scores, so rounding on another device moves no score across it."""
    score, edges = columns[0], advantage_table(*columns, bins).edges
    assert (np.diff(edges) > 0).all()
    for edge in edges:
        below, above = score[score < edge].max(), score[score >= edge].min()
        assert edge == pytest.approx((float(below) + float(above)) / 2, rel=1e-6, abs=1e-45)


@pytest.mark.parametrize(
    ("scores", "bins", "counts"),
    [
        pytest.param([0.1] * 5 + [0.5] * 15, 2, [5, 15], id="a tie across the cut goes up"),
        pytest.param([0.5] * 20, 2, [20], id="one score, one bin"),
        pytest.param([0.1] * 15 + [0.2] * 15, 3, [15, 15], id="two ties, three bins wanted"),
        pytest.param([0.0] * 5 + [1.0] * 35, 4, [5, 35], id="saturated confidences"),
        pytest.param([0.1] * 10 + [0.5] * 20, 3, [10, 20], id="a tie that begins at a cut and reaches over the next"),
    ],
)
def test_tied_scores_are_never_split(scores: list[float], bins: int, counts: list[int]) -> None:
    """Equal scores stay in one bin, even if that leaves fewer bins."""
    assert table_of(scores, bins).counts.tolist() == counts


def test_an_edge_is_not_placed_at_tied_scores() -> None:
    """The edge stays away from a confidence that many inputs share, where rounding would move all of them."""
    assert table_of([0.25] * 5 + [0.5] * 15, 2).edges.tolist() == [0.375]


@given(st.sets(CONFIDENCES, max_size=6), arrays(np.float32, 20, elements=CONFIDENCES | st.just(np.nan)))
def test_a_lookup_counts_the_edges_at_or_below_the_score(edges: set[float], score: NDArray[np.float32]) -> None:
    """A score equal to an edge belongs to the bin above it, and NaN stays NaN."""
    values = np.linspace(-1.0, 1.0, len(edges) + 1).astype(np.float32)
    table = AdvantageTable(np.array(sorted(edges), np.float32), values, np.ones(len(values), np.int64))
    expected = [np.nan if np.isnan(s) else values[sum(s >= edge for edge in edges)] for s in score]
    np.testing.assert_array_equal(table(score), np.array(expected, np.float32))
    np.testing.assert_array_equal(table(table.edges), values[1:])


def test_a_table_can_be_made_from_correctness() -> None:
    """With correctness in place of confidences, a value is the difference of the accuracies."""
    score = np.linspace(0, 1, 40, dtype=np.float32)
    local, remote = score > 0.7, score > 0.2
    table = advantage_table(score, local, remote, bins=2)
    halves = [slice(0, 20), slice(20, 40)]
    np.testing.assert_allclose(table.values, [local[h].mean() - remote[h].mean() for h in halves], rtol=1e-6)


SCORE = np.linspace(0, 1, 150, dtype=np.float32)
WITH_NAN = np.where(SCORE > 0.9, np.nan, SCORE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param((SCORE, SCORE, SCORE, 16), "^bins: 16 bins need at least 160 .* got 150", id="too few inputs"),
        pytest.param((SCORE, SCORE, SCORE, 0), "^bins: ", id="no bins"),
        pytest.param((SCORE, SCORE[1:], SCORE), r"^score, local, remote: .*\[149\]", id="unequal lengths"),
        pytest.param((SCORE[:, None],) * 3, r"^score, local, remote: .*\[150, 1\]", id="not rows"),
        pytest.param((WITH_NAN, SCORE, SCORE), "^score, local, remote: .*NaN", id="NaN among the scores"),
        pytest.param((SCORE, SCORE, WITH_NAN), "^score, local, remote: .*NaN", id="NaN among the confidences"),
    ],
)
def test_invalid_arguments_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    """The error names the argument."""
    with pytest.raises(CalibrationError, match=message):
        advantage_table(*arguments)


def drawn(n: int, seed: int, bump: float = 0.0) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Draw scores whose true advantage is score - 1, rising, and lower by `bump` for scores from 0.7 to 0.8."""
    rng = np.random.default_rng(seed)
    score = rng.random(n).astype(np.float32)
    advantage = score - 1 - bump * ((score > 0.7) & (score < 0.8))
    return score, rng.random(n) < 0.9 + 0.9 * advantage, rng.random(n) < 0.9 - 0.1 * advantage


def error_of(table: AdvantageTable, bump: float = 0.0) -> float:
    """Return the mean squared error against the true advantage, over scores in [0, 1]."""
    score = np.linspace(0, 1, 2001).astype(np.float32)
    return float(np.mean((table(score) - (score - 1 - bump * ((score > 0.7) & (score < 0.8)))) ** 2))


def test_shrinking_reduces_the_error_of_sparse_bins() -> None:
    """Where the advantage rises with the score, shrinking 50 bins of 20 inputs greatly reduces their error."""
    plain, shrunk = [], []
    for seed in range(20):
        data = drawn(1000, seed)
        plain.append(error_of(advantage_table(*data, 50)))
        shrunk.append(error_of(shrunk_advantage_table(*data, 50)))
    assert np.mean(shrunk) < 0.4 * np.mean(plain)


def test_shrinking_preserves_what_the_data_show() -> None:
    """A dip supported by many inputs remains, although it makes the advantage fall."""
    data = drawn(20_000, 0, bump=0.5)
    assert error_of(shrunk_advantage_table(*data, 20), bump=0.5) < 0.01


def test_shrunk_bins_are_distinct() -> None:
    """Distinct values allow any offload rate, lowest score first, even where the fit is flat."""
    score, _, remote = drawn(1000, 0)
    values = shrunk_advantage_table(score, remote, remote, 50).values
    assert (np.diff(values) > 0).all()
    assert np.abs(values).max() < 1e-3


def test_the_interval_of_a_bin_covers_its_advantage_at_95_percent() -> None:
    """Coverage holds over repeated draws, in each of five bins."""
    inside = []
    for seed in range(150):
        score, local, remote = drawn(500, seed)
        table = advantage_table(score, local, remote, 5)
        bounds = [0.0, *table.edges.tolist(), 1.0]
        truth = [(a + b) / 2 - 1 for a, b in pairwise(bounds)]
        intervals = advantage_intervals(table, score, local, remote)
        inside += [low <= t <= high for t, (low, high) in zip(truth, intervals, strict=True)]
    assert 0.92 < np.mean(inside) < 0.98
