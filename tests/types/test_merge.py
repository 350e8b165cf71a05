"""Merging of two predictions, and of whole arrays as the device merges single ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecascade.calibration import CalibrationError
from edgecascade.runtime import Prediction, Source
from edgecascade.types.merge import MERGES, merge, merged_labels

ROWS = st.lists(st.sampled_from([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5], [0.9, 0.1, 0.0], [0.0, 1.0, 0.0]]), min_size=1)


def prediction(*probabilities: float) -> Prediction:
    """Return a prediction with these probabilities."""
    row = np.array(probabilities, np.float32)
    return Prediction(int(row.argmax()), float(row.max()), row)


@pytest.mark.parametrize(
    ("rule", "local", "remote", "label", "confidence", "source"),
    [
        ("replace", (0.9, 0.1), (0.4, 0.6), 1, 0.6, Source.REMOTE),
        ("confident", (0.9, 0.1), (0.4, 0.6), 0, 0.9, Source.LOCAL),
        ("confident", (0.6, 0.4), (0.4, 0.6), 1, 0.6, Source.REMOTE),
        ("average", (0.9, 0.1), (0.4, 0.6), 0, 0.65, Source.MERGED),
        ("average", (0.5, 0.5), (0.2, 0.8), 1, 0.65, Source.MERGED),
        ("average", (0.5, 0.5), (0.5, 0.5), 0, 0.5, Source.MERGED),
        *((rule, (np.nan, np.nan), (0.4, 0.6), 1, 0.6, Source.REMOTE) for rule in ("replace", "confident", "average")),
    ],
)
def test_two_predictions_are_merged(
    rule: str, local: tuple[float, ...], remote: tuple[float, ...], label: int, confidence: float, source: Source
) -> None:
    """Label, confidence and source equal values computed by hand."""
    final, whose = merge(rule, prediction(*local), prediction(*remote))
    assert (final.label, whose) == (label, source)
    assert final.confidence == pytest.approx(confidence)


@pytest.mark.parametrize("rule", MERGES)
@given(data=st.data())
def test_the_plan_and_the_device_merge_alike(rule: str, data: st.DataObject) -> None:
    """The same probabilities give the same labels, ties included."""
    local = np.array(data.draw(ROWS), np.float32)
    remote = np.array(data.draw(st.lists(st.sampled_from(local.tolist()), min_size=len(local), max_size=len(local))))
    remote = np.asarray(remote, np.float32)[:, ::-1].copy()

    on_device = [merge(rule, prediction(*a), prediction(*b))[0].label for a, b in zip(local, remote, strict=True)]
    assert merged_labels(rule, local, remote).tolist() == on_device


@pytest.mark.parametrize("rule", MERGES)
def test_nan_probabilities_are_replaced(rule: str) -> None:
    """A local prediction of NaN does not take part in the merge."""
    assert merged_labels(rule, np.array([[np.nan, np.nan]]), np.array([[0.1, 0.9]])).tolist() == [1]


def test_other_rules_and_shapes_are_refused() -> None:
    """The error names the argument."""
    with pytest.raises(CalibrationError, match=r"^merge: expected one of replace, confident, average, got 'vote'"):
        merged_labels("vote", np.zeros((1, 2)), np.zeros((1, 2)))
    with pytest.raises(CalibrationError, match=r"^local, remote: .*\[1, 2\] and \[1, 3\]"):
        merged_labels("replace", np.zeros((1, 2)), np.zeros((1, 3)))
