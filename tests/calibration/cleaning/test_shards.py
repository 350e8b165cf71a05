"""Suspects of parts of a data set, joined, are those of the whole."""

import numpy as np
import pytest

from edgecascade.calibration.cleaning import RULES, Experts, find_suspects, fit_pool, join_suspects
from edgecascade.types.errors import CalibrationError


@pytest.mark.parametrize("rule", RULES)
def test_parts_scored_apart_give_the_whole(rule: str) -> None:
    """The rows and scores are the same; with confusions, which each part estimates, nearly the same."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 12_000)
    labels = np.where(rng.random(len(truth)) < 0.08, (truth + 1) % 4, truth)
    experts = Experts.of([size * np.eye(4)[truth] + rng.normal(size=(len(truth), 4)) for size in (2.0, 3.0)])
    pool = fit_pool(experts.select(np.arange(1000)), labels[:1000])
    whole = find_suspects(experts, labels, pool, rule=rule, every_row=True)
    parts = [
        find_suspects(experts.select(rows), labels[rows], pool, rule=rule, every_row=True)
        for rows in np.split(np.arange(len(truth)), [5000, 9000])
    ]
    joined = join_suspects(parts)
    if rule == "posterior":
        assert len(set(joined.row[:500].tolist()) & set(whole.row[:500].tolist())) > 480
        assert abs(int(joined.flagged.sum()) - int(whole.flagged.sum())) < 0.05 * whole.flagged.sum()
        return
    for column in ("row", "given", "suggested", "score", "flagged", "confidences", "given_confidences"):
        np.testing.assert_array_equal(getattr(joined, column), getattr(whole, column), err_msg=column)
    assert joined.n == whole.n


def test_parts_that_do_not_belong_together_are_refused() -> None:
    """Another rule, or no part at all."""
    logits = np.eye(3)[[0, 1, 2] * 20] * 3.0
    experts, labels = (
        Experts.of([logits + np.random.default_rng(0).normal(size=logits.shape)]),
        np.array([0, 1, 2] * 20),
    )
    pool = fit_pool(experts, labels)
    parts = [find_suspects(experts, labels, pool, rule=rule) for rule in ("pool", "posterior")]
    for some in ([], parts):
        with pytest.raises(CalibrationError, match="parts: expected"):
            join_suspects(some)
