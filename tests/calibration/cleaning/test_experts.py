"""Experts are read in chunks, whatever they hold, and bad arrays are refused in one sentence."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration import CalibrationError
from edgecascade.calibration.cleaning import Experts
from edgecascade.calibration.cleaning.experts import check_labels

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(200, 4)) * 3
OTHER = LOGITS + RNG.normal(size=(200, 4))
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)


def scores(experts: Experts) -> NDArray[np.float32]:
    """Return all chunks at once, [K, n, classes]."""
    return np.concatenate([block.copy() for _, block in experts.chunks()], axis=1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_logits_and_probabilities_of_one_model_give_the_same_scores(dtype: type) -> None:
    """They are logits less the largest of the row, to the precision of what was given."""
    expected = LOGITS - LOGITS.max(axis=1, keepdims=True)
    from_logits = scores(Experts.of([LOGITS.astype(dtype)]))[0]
    from_probabilities = scores(Experts.of([PROBABILITIES.astype(dtype)]))[0]
    assert np.allclose(from_logits, expected, atol=0.02 if dtype == np.float16 else 1e-4)
    seen = expected > -6  # smaller probabilities are subnormal in float16
    assert np.allclose(from_probabilities[seen], expected[seen], atol=0.02 if dtype == np.float16 else 1e-4)


@pytest.mark.parametrize("kind", ["logits", "finite logits", "probabilities"])
@pytest.mark.parametrize("weight", [1.0, 0.3, 1e6])
def test_every_float16_number_is_read_as_what_it_is(kind: str, weight: float) -> None:
    """The smallest ones and -inf too: scores are those of a copy in float32."""
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    some = every[(every <= 1) & (every >= 0) if kind == "probabilities" else every < np.inf]
    some = some[np.isfinite(some)] if kind == "finite logits" else some
    others = 1 - some.astype(np.float64) if kind == "probabilities" else np.ones(len(some))
    halves = Experts.of([np.stack([others.astype(np.float16), some], axis=1)], kinds=[kind.split()[-1]])
    found, expected = np.empty((2, len(some), 2), np.float32)
    halves.read_into(found, 0, slice(0, len(some)), weight)
    replace(halves, arrays=(halves.arrays[0].astype(np.float32),)).read_into(expected, 0, slice(0, len(some)), weight)
    assert (np.isneginf(found) == np.isneginf(expected)).all()
    found, expected = found[:, 1] - found[:, 0], expected[:, 1] - expected[:, 0]
    assert np.allclose(found, expected, rtol=1e-6, atol=2e-5 * weight)


def test_a_memory_mapped_file_is_read_as_the_array(tmp_path: Path) -> None:
    """An expert may lie on disk."""
    np.save(tmp_path / "a.npy", LOGITS.astype(np.float16))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert (scores(Experts.of([mapped])) == scores(Experts.of([LOGITS.astype(np.float16)]))).all()


def test_selected_rows_are_those_rows() -> None:
    """Selections may follow one another, as bool or integers."""
    experts = Experts.of([LOGITS, OTHER])
    some = experts.select(np.arange(200) % 2 == 0).select(np.array([5, 3]))
    assert some.n == 2
    assert (scores(some) == scores(experts)[:, [10, 6]]).all()


def test_absent_options_have_a_score_below_all_others() -> None:
    """-inf stays absent, and every number is finite."""
    masked = LOGITS.copy()
    masked[3, 2] = -np.inf
    found = scores(Experts.of([masked]))[0]
    assert np.isfinite(found).all()
    assert found[3, 2] < -1e29


def changed(array: NDArray[Any], rows: slice | list[int], value: ArrayLike) -> NDArray[Any]:
    """Return a copy with some rows set to a value."""
    copy = array.copy()
    copy[rows] = value
    return copy


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ([changed(LOGITS, [7, 9], np.nan)], r"expert 1: .*NaN or \+inf in row 7 \(2 such rows\)"),
        ([changed(LOGITS, [150], np.inf)], r"NaN or \+inf in row 150$"),
        ([changed(PROBABILITIES, [8], np.nan)], r"NaN or \+inf in row 8$"),
        ([changed(PROBABILITIES, slice(None), 0.125)], r"expected logits or probabilities, got .*sums to 0.5"),
        ([changed(PROBABILITIES, [4], 0.0)], r"expected probabilities, got only zeros in row 4$"),
        ([changed(LOGITS, slice(None), 0.0)], r"only zeros in row 0 \(200 such rows\)"),
        ([changed(LOGITS, [4], -np.inf)], r"no option at all .* in row 4$"),
        ([PROBABILITIES * 100], r"rows that sum to 100"),
        (
            [LOGITS, OTHER[:, :3]],
            r"expert 2: expected the same rows and classes as expert 1, \[200, 4\], got \[200, 3\]",
        ),
        ([LOGITS, OTHER[:100]], r"expert 2: expected the same rows and classes"),
        ([LOGITS.astype(np.int64)], r"expected floating \[n, classes\].*int64"),
        ([LOGITS[:, 0]], r"expected floating \[n, classes\]"),
        ([LOGITS, LOGITS], r"expert 2: expected outputs of another model than expert 1"),
        ([LOGITS, PROBABILITIES], r"expert 2: expected outputs of another model than expert 1"),
        ([LOGITS, LOGITS.astype(np.float16) / 2], r"expert 2: expected outputs of another model than expert 1"),
        ([], r"expected one array or more"),
    ],
)
def test_bad_arrays_are_refused_in_one_sentence(arrays: list[NDArray[Any]], sentence: str) -> None:
    """The sentence names the expert, what was expected, what came, in which row, and how many rows have it."""
    with pytest.raises(CalibrationError, match=sentence):
        Experts.of(arrays).check()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("array", "bad"),
    [
        (LOGITS, [1, np.nan, 0, 0]),
        (LOGITS, [1, -np.nan, 0, 0]),
        (LOGITS, [1, np.inf, 0, 0]),
        (LOGITS, [0, 0, 0, 0]),
        (LOGITS, [-np.inf] * 4),
        (PROBABILITIES, [0.5, 0.5, np.nan, 0]),
        (PROBABILITIES, [np.inf, 0, 0, 0]),
        (PROBABILITIES, [1.3, -0.3, 0, 0]),
        (PROBABILITIES, [0, 0, 0, 0]),
        (PROBABILITIES, [0.5, 0.25, 0.125, 0]),
    ],
)
def test_a_bad_row_is_found_when_it_is_read(array: NDArray[Any], bad: list[float], dtype: type) -> None:
    """Of whatever type the numbers are; the rows are refused that a check of all rows refuses."""
    kind = "logits" if array is LOGITS else "probabilities"
    experts = replace(Experts.of([array], kinds=[kind]), arrays=(changed(array, [7], bad).astype(dtype),))
    with pytest.raises(CalibrationError, match=r"in row 7$") as checked:
        experts.check()
    with pytest.raises(CalibrationError, match=re.escape(str(checked.value))):
        list(experts.chunks())


def test_a_bad_row_is_found_among_many() -> None:
    """Rows beyond those that show what an array holds are checked too."""
    many = np.tile(PROBABILITIES.astype(np.float32), (2000, 1))
    many[123_457] = 0.125
    with pytest.raises(CalibrationError, match=r"expected probabilities, got .*do not sum to 1 in row 123457$"):
        list(Experts.of([many]).chunks())


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (np.array([0, 1, 4]), r"labels: expected 0 to 3, one per column, got 4 in row 2"),
        (np.array([0, -1, -1]), r"got -1 in row 1 \(2 such rows\)"),
        (np.array([0.0, 1.0, 2.0]), r"expected integers \[3\], got float64"),
        (np.array([0, 1]), r"expected 3, one per row of the experts, got 2"),
        (np.array([[0], [1], [2]]), r"expected integers \[3\]"),
    ],
)
def test_bad_labels_are_refused_in_one_sentence(labels: NDArray[Any], sentence: str) -> None:
    """Labels are integers in the range of the columns, one per row."""
    with pytest.raises(CalibrationError, match=sentence):
        check_labels(labels, Experts.of([LOGITS[:3]]))


def test_equal_rows_have_equal_hashes(population: Callable[..., Any]) -> None:
    """And other rows have others."""
    experts = population(n=100).experts
    found = experts.hashes()
    assert len(set(found.tolist())) == 100
    assert (experts.select(np.arange(50, 60)).hashes() == found[50:60]).all()


def test_coarsely_rounded_probabilities_will_do() -> None:
    """Their rows do not sum to 1, as far as rounding explains."""
    rng = np.random.default_rng(0)
    rounded = rng.dirichlet([0.3] * 60, 5000).round(2)
    assert np.abs(rounded.sum(axis=1) - 1).max() > 0.03
    experts = Experts.of([rounded])
    experts.check()
    assert experts.read[0].rounding == "2 decimals"
