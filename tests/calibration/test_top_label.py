"""Top-label isotonic calibration: distributions whose likeliest class has been asked how often it is right."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.calibration import CalibrationError, are_probabilities, fit_temperature, softmax
from edgecascade.calibration.isotonic import Isotonic, fit_isotonic
from edgecascade.calibration.top_label import TopLabelIsotonic, fit_top_label_isotonic

Sampled = Callable[..., tuple[NDArray[np.float64], NDArray[np.int64]]]
HALF = TopLabelIsotonic(1.0, Isotonic(np.array([0.0]), np.array([0.5])))


def test_the_likeliest_class_gets_its_probability_and_the_others_their_shares(sampled: Sampled) -> None:
    """The confidence is isotonic regression's, and the proportions of the rest are temperature scaling's."""
    logits, labels = sampled(temperature=2.0)
    scaled = softmax(logits, fit_temperature(logits, labels)).astype(np.float64)
    top = np.arange(4) == logits.argmax(axis=1)[:, None]
    expected = fit_isotonic(scaled[top], labels == logits.argmax(axis=1))(scaled[top])
    found = np.exp(fit_top_label_isotonic(logits, labels)(logits))
    assert are_probabilities(found)
    np.testing.assert_allclose(found[top], expected, atol=1e-3)  # a confidence in float32 may fall beside its point
    shares = (found / (1 - found[top])[:, None])[~top]
    np.testing.assert_allclose(shares, (scaled / (1 - scaled[top])[:, None])[~top], rtol=1e-3)


def test_logits_that_leave_nothing_to_the_others_still_have_proportions() -> None:
    """At a confidence that rounds to 1 the others are told apart by their logits."""
    found = np.exp(HALF(np.array([[1000.0, 1.0, 0.0]])))
    np.testing.assert_allclose(found, [[0.5, 0.5 * np.e / (1 + np.e), 0.5 / (1 + np.e)]])


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        pytest.param([2.0, 0.0, -np.inf], [0.5, 0.5, 0.0], id="a masked class"),
        pytest.param([2.0, -np.inf, -np.inf], [1.0, 0.0, 0.0], id="nothing beside the likeliest"),
        pytest.param([2.0, np.nan, 0.0], [np.nan] * 3, id="NaN"),
        pytest.param([2.0, np.inf, 0.0], [np.nan] * 3, id="+inf"),
        pytest.param([-np.inf] * 3, [np.nan] * 3, id="every class masked"),
    ],
)
def test_unusual_rows_have_defined_results(row: list[float], expected: list[float]) -> None:
    """As softmax has them, and without a warning."""
    np.testing.assert_allclose(softmax(HALF(np.array([row]))), [expected], atol=1e-7)


def test_without_a_temperature_there_is_none() -> None:
    """Refused with the temperature's reason."""
    with pytest.raises(CalibrationError, match=r"^labels: the model is right on all 2 rows"):
        fit_top_label_isotonic(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([0, 1]))
