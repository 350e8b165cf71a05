"""Label audits are drawn as their design says, and know what they were drawn from."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgecascade.calibration import CalibrationError
from edgecascade.calibration.cleaning import Suspects, draw_audit, find_suspects, fit_pool
from edgecascade.calibration.cleaning.audit import draw_chances, draw_in_order


@pytest.fixture(scope="module")
def suspects(population: Callable[..., Any]) -> Suspects:
    """Return every row of a set, some of them flagged."""
    drawn = population()
    return find_suspects(drawn.experts, drawn.labels, fit_pool(drawn.experts, drawn.labels), every_row=True)


def test_an_audit_of_the_flagged_rows_is_a_random_sample_of_them(suspects: Suspects) -> None:
    """Every flagged row is drawn equally often, at every place of the order."""
    flagged = suspects.row[suspects.flagged]
    first, drawn = [], np.zeros(suspects.n)
    for seed in range(400):
        audit = draw_audit(suspects, 30, seed=seed)
        assert len(set(audit.rows.tolist())) == len(audit) == 30
        drawn[audit.rows] += 1
        first.append(np.flatnonzero(flagged == audit.rows[0])[0])
    assert drawn.sum() == drawn[flagged].sum()
    assert drawn[flagged].std() < 1.2 * np.sqrt(400 * 30 / len(flagged))
    assert np.mean(first) == pytest.approx((len(flagged) - 1) / 2, rel=0.1)


def test_the_whole_set_is_drawn_by_the_posterior_and_never_without_chance(suspects: Suspects) -> None:
    """Chances are those of the design, and sum to 1; probably wrong rows are more frequent than in a uniform sample."""
    audit = draw_audit(suspects, 500, design="all")
    chances = draw_chances(suspects.expected_wrong)
    assert chances.sum() == pytest.approx(1)
    assert chances.min() >= 0.85 / suspects.n
    assert (audit.chances == chances[audit.rows]).all()
    expected = suspects.expected_wrong
    assert expected[audit.rows].mean() > 1.5 * expected.mean()
    assert draw_chances(np.zeros(4)) == pytest.approx(np.full(4, 0.25))


def test_rows_are_drawn_one_after_the_other_by_the_chances_that_are_left() -> None:
    """The frequency of every ordered pair is that of two draws without replacement."""
    chances, rng = np.array([0.5, 0.3, 0.15, 0.05]), np.random.default_rng(0)
    seen = np.zeros((4, 4))
    for _ in range(20_000):
        seen[tuple(draw_in_order(chances, 2, rng))] += 1
    expected = np.outer(chances, chances) / (1 - chances)[:, None]
    np.fill_diagonal(expected, 0)
    assert seen / 20_000 == pytest.approx(expected, abs=0.012)


@pytest.mark.parametrize("design", ["flagged", "all"])
def test_the_seed_decides_and_no_row_is_drawn_twice(suspects: Suspects, design: str) -> None:
    """An audit of more rows than there are has all of them."""
    one, again, other = (draw_audit(suspects, 40, design=design, seed=seed) for seed in (3, 3, 4))
    assert (one.rows == again.rows).all()
    assert one.hash == again.hash != other.hash
    assert (one.rows != other.rows).any()
    whole = draw_audit(suspects, 10**6, design=design)
    assert len(set(whole.rows.tolist())) == len(whole) == (suspects.n if design == "all" else suspects.flagged.sum())


def test_nested_sets_are_stated_with_the_audit(suspects: Suspects) -> None:
    """They ascend to all flagged rows."""
    nested = draw_audit(suspects, 10).nested
    assert list(nested) == sorted(set(nested))
    assert nested[-1] == suspects.flagged.sum()
    assert len(nested) == 20


def test_another_set_has_another_hash(suspects: Suspects) -> None:
    """A changed label, flag or posterior is noticed."""
    audit = draw_audit(suspects, 10)
    expected = suspects.expected_wrong.copy()
    expected[0] += np.float32(1e-3)
    changes: tuple[dict[str, Any], ...] = (
        {"given": suspects.given + 1},
        {"flagged": ~suspects.flagged},
        {"expected_wrong": expected},
    )
    for change in changes:
        assert draw_audit(replace(suspects, **change), 10).suspects != audit.suspects


def test_what_cannot_be_drawn_is_refused(suspects: Suspects) -> None:
    """The sentence names the argument and what came."""
    none = replace(suspects, flagged=np.zeros(len(suspects), bool))
    with pytest.raises(CalibrationError, match=r"suspects: expected flagged rows .* got none among 3000"):
        draw_audit(none)
    with pytest.raises(CalibrationError, match="design: expected one of flagged, all, got some"):
        draw_audit(suspects, design="some")
    with pytest.raises(CalibrationError, match="n: expected at least one row to judge, got 0"):
        draw_audit(suspects, 0)
    with pytest.raises(CalibrationError, match="seed: expected an integer of 0 or more, got -1"):
        draw_audit(suspects, seed=-1)
    few = replace(suspects, row=suspects.row[:50], flagged=suspects.flagged[:50])
    with pytest.raises(CalibrationError, match="expected all 3000 rows for an audit of the whole set, got 50"):
        draw_audit(few, design="all")
    bad = replace(suspects, expected_wrong=np.full(3000, np.nan, np.float32))
    with pytest.raises(CalibrationError, match=r"expected_wrong: expected chances in .0, 1., got 3000 NaN"):
        draw_audit(bad, design="all")
