"""Merging of a local and a remote prediction."""

import numpy as np
import pytest

from edgecascade.runtime import Prediction, Source
from edgecascade.types.merge import merge


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
