"""The Brier score, against scikit-learn's and its definition; and what no score of distributions takes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecascade.calibration import CalibrationError
from edgecascade.calibration.brier import brier_score, squared_distances

Labelled = tuple[NDArray[np.floating], NDArray[np.int64]]


@st.composite
def labelled(draw: st.DrawFn) -> Labelled:
    """Distributions over some classes, certainties among them, with any labels."""
    n, classes = draw(st.integers(1, 20)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    probabilities = rng.dirichlet(np.full(classes, draw(st.sampled_from([0.01, 1.0]))), n)
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    return probabilities.astype(dtype), rng.integers(classes, size=n)


@given(labelled())
def test_it_is_the_squared_distance_from_what_happened(labelled: Labelled) -> None:
    """Summed over classes, row by row, and averaged over rows."""
    probabilities, labels = labelled
    happened = np.eye(probabilities.shape[1])[labels]
    wanted = [sum((p - h) ** 2 for p, h in zip(*row, strict=True)) for row in zip(probabilities, happened, strict=True)]
    np.testing.assert_allclose(squared_distances(*labelled), wanted, rtol=1e-6, atol=1e-12)
    assert brier_score(*labelled) == pytest.approx(np.mean(wanted), rel=1e-6, abs=1e-12)


@given(labelled())
def test_it_is_scikit_learns(labelled: Labelled) -> None:
    """Which takes half of it unless asked not to."""
    pytest.importorskip("sklearn", minversion="1.7")
    from sklearn.metrics import brier_score_loss

    probabilities, labels = labelled[0].astype(np.float64), labelled[1]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    classes = np.arange(probabilities.shape[1])
    theirs = brier_score_loss(labels, probabilities, labels=classes, scale_by_half=False)
    assert brier_score(probabilities, labels) == pytest.approx(theirs, abs=1e-12)


@given(labelled())
def test_it_is_between_certainly_right_and_certainly_wrong(labelled: Labelled) -> None:
    """From 0 to 2, and both ends are reached."""
    probabilities, labels = labelled
    assert 0.0 <= brier_score(probabilities, labels) <= 2.0 + 1e-6
    assert brier_score(np.eye(3), np.arange(3)) == 0.0
    assert brier_score(np.eye(3), np.array([1, 2, 0])) == 2.0


def test_honest_probabilities_are_best() -> None:
    """It is proper: of labels drawn with p, no other distribution expects a smaller score than p."""
    honest = np.array([0.6, 0.3, 0.1])
    others = np.random.default_rng(0).dirichlet([1.0, 1.0, 1.0], 200)

    def expected(claimed: NDArray[np.float64]) -> float:
        return float(honest @ [brier_score(claimed[None], np.array([label])) for label in range(3)])

    assert all(expected(honest) <= expected(other) for other in others)


ROWS = np.array([[0.5, 0.5], [0.2, 0.8]])
LABELS = np.array([0, 1])


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        pytest.param(ROWS[0], LABELS, r"^probabilities: .*float64 \[2\]", id="not rows"),
        pytest.param(ROWS[:, :1], LABELS, r"^probabilities: .*\[2, 1\]", id="one class"),
        pytest.param(ROWS[:0], LABELS[:0], r"^probabilities: .*\[0, 2\]", id="nothing"),
        pytest.param(np.eye(2, dtype=int), LABELS, "^probabilities: .*int64", id="integers"),
        pytest.param(ROWS * 3 - 1, LABELS, "^probabilities: .*logits", id="logits"),
        pytest.param(ROWS / 2, LABELS, "^probabilities: .*sum to 1", id="halves"),
        pytest.param(ROWS * np.nan, LABELS, "^probabilities: .*NaN", id="NaN"),
        pytest.param(ROWS, LABELS[:1], r"^labels: .*\[2\].*\[1\]", id="too few labels"),
        pytest.param(ROWS, LABELS.astype(float), "^labels: .*float64", id="labels that are not integers"),
        pytest.param(ROWS, LABELS + 1, "^labels: expected 0 to 1.*1 to 2", id="a label too large"),
        pytest.param(ROWS, LABELS - 1, "^labels: expected 0 to 1.*-1 to 0", id="a negative label"),
    ],
)
def test_what_is_no_labelled_distribution_is_refused(
    probabilities: NDArray[Any], labels: NDArray[Any], message: str
) -> None:
    """One sentence that names the argument."""
    with pytest.raises(CalibrationError, match=message):
        brier_score(probabilities, labels)
