"""Verdicts prove what they say about the rows that nobody looked at."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgecascade.calibration import CalibrationError
from edgecascade.calibration.cleaning import (
    Audit,
    Judged,
    Suspects,
    Verdict,
    draw_audit,
    find_suspects,
    fit_pool,
    judge,
)
from edgecascade.calibration.cleaning.count import least_count, percent_down


@pytest.fixture(scope="module")
def drawn(population: Callable[..., Any]) -> Any:
    """Return a set with 5 % wrong labels."""
    return population(n=6000, noise="pair")


@pytest.fixture(scope="module")
def suspects(drawn: Any) -> Suspects:
    """Return every row of it."""
    return find_suspects(drawn.experts, drawn.labels, fit_pool(drawn.experts, drawn.labels), every_row=True)


def said_of(drawn: Any, suspects: Suspects, audit: Audit) -> dict[int, Verdict | str]:
    """Return true verdicts, in the order of the audit."""
    suggested = np.empty(suspects.n, np.int64)
    suggested[suspects.row] = suspects.suggested
    return {
        row: "given"
        if drawn.labels[row] == drawn.truth[row]
        else "suggested"
        if suggested[row] == drawn.truth[row]
        else "other"
        for row in audit.rows.tolist()
    }


def changed(said: Mapping[int, Verdict | str], old: str, new: str, most: int) -> dict[int, Verdict | str]:
    """Return verdicts of which some are replaced."""
    found = dict(said)
    for row in [row for row, word in said.items() if word == old][:most]:
        found[row] = new
    return found


def test_precision_has_the_exact_bound_of_a_sample_without_replacement(drawn: Any, suspects: Suspects) -> None:
    """The counts are those of the verdicts, and the bound holds here."""
    audit, flagged = draw_audit(suspects, 100), suspects.row[suspects.flagged]
    said = said_of(drawn, suspects, audit)
    found = judge(suspects, audit, said)
    wrong = sum(word != "given" for word in said.values())
    assert found.precision is not None
    assert (found.precision.judged, found.precision.wrong) == (100, wrong)
    assert found.precision.bound == least_count(wrong, 100, len(flagged)) / len(flagged)
    assert found.precision.bound <= drawn.wrong[flagged].mean()
    assert (found.judged, found.drawn, found.skipped, found.wrong) == (100, 100, 0, None)
    assert sum(found.verdicts.values()) == 100
    assert f"at least {percent_down(found.precision.bound)} % of the {len(flagged)} flagged labels are wrong" in str(
        found
    )


def test_an_audit_of_everything_leaves_nothing_open(population: Callable[..., Any]) -> None:
    """The interval has only the truth, and precision is the true one."""
    drawn = population(n=500)
    suspects = find_suspects(drawn.experts, drawn.labels, fit_pool(drawn.experts, drawn.labels), every_row=True)
    for design in ("flagged", "all"):
        audit = draw_audit(suspects, 500, design=design)
        found = judge(suspects, audit, said_of(drawn, suspects, audit))
        assert found.precision is not None
        assert found.precision.bound == drawn.wrong[suspects.row[suspects.flagged]].mean()
        assert "confidence" not in str(found)
    truth = drawn.wrong.sum()
    assert found.wrong is not None
    assert (found.wrong.value, found.wrong.low, found.wrong.high) == (truth, truth, truth)


def test_the_number_of_wrong_labels_is_in_its_interval(drawn: Any, suspects: Suspects) -> None:
    """Over 40 audits it is missed at most 4 times, and the estimates are right on average."""
    found = []
    for seed in range(40):
        audit = draw_audit(suspects, 100, design="all", seed=seed)
        one = judge(suspects, audit, said_of(drawn, suspects, audit)).wrong
        assert one is not None
        found.append((one.value, one.low, one.high))
    value, low, high = np.array(found).T
    truth = drawn.wrong.sum()
    assert np.sum((truth < low) | (truth > high)) <= 4
    assert value.mean() == pytest.approx(truth, abs=4 * value.std() / np.sqrt(40))
    assert (high - low).mean() < 0.08 * suspects.n


@pytest.mark.parametrize("design", ["flagged", "all"])
def test_the_number_among_the_flagged_rows_is_in_its_interval(drawn: Any, suspects: Suspects, design: str) -> None:
    """Over 30 audits it is missed at most 4 times, and its interval is far shorter than that of the whole set."""
    missed, widths = 0, []
    truth = drawn.wrong[suspects.row[suspects.flagged]].sum()
    for seed in range(30):
        audit = draw_audit(suspects, 100, design=design, seed=seed)
        judgement = judge(suspects, audit, said_of(drawn, suspects, audit))
        found = judgement.wrong_flagged
        assert found is not None
        assert found.low <= found.value <= found.high
        missed += not found.low <= truth <= found.high
        widths.append((found.high - found.low) / (1 if judgement.wrong is None else judgement.wrong.high))
    assert missed <= 4
    assert np.mean(widths) < (0.3 if design == "all" else 0.1 * suspects.n)


def test_the_whole_set_has_at_least_the_wrong_labels_of_its_flagged_rows(drawn: Any, suspects: Suspects) -> None:
    """However few rows are judged."""
    for seed in range(30):
        audit = draw_audit(suspects, 15, design="all", seed=seed)
        found = judge(suspects, audit, said_of(drawn, suspects, audit))
        assert found.wrong is not None
        if found.wrong_flagged is not None:
            assert found.wrong_flagged.value <= found.wrong.value
            assert found.wrong_flagged.high <= found.wrong.high


def test_cannot_tell_counts_against_every_claim_and_both_is_no_error(drawn: Any, suspects: Suspects) -> None:
    """Lower bounds fall as if the label were right, and upper ones rise as if it were wrong."""
    audit = draw_audit(suspects, 100)
    said = said_of(drawn, suspects, audit)
    bounds = []
    for word in ("given", "both", "cannot_tell"):
        one = judge(suspects, audit, changed(said, "suggested", word, 10)).precision
        assert one is not None
        bounds.append(one)
    assert bounds[0] == bounds[1] == bounds[2]
    suggested = [
        judge(suspects, audit, changed(said, "suggested", word, 10)).suggested_right
        for word in ("given", "cannot_tell", "suggested")
    ]
    (worst, between, best) = ((one.low, one.high) for one in suggested if one is not None)
    assert between == (worst[0], best[1])
    whole = draw_audit(suspects, 100, design="all")
    said = said_of(drawn, suspects, whole)
    right, doubtful, wrong = (
        judge(suspects, whole, changed(said, "given", word, 10)).wrong for word in ("both", "cannot_tell", "other")
    )
    assert right is not None
    assert doubtful is not None
    assert wrong is not None
    assert (doubtful.value, doubtful.low) == (right.value, right.low)
    assert doubtful.high == wrong.high > right.high + 200


@pytest.mark.parametrize("design", ["flagged", "all"])
def test_a_person_may_stop_early(drawn: Any, suspects: Suspects, design: str) -> None:
    """The first rows are judged as an audit of so many; rows left out between them count as `cannot_tell`."""
    audit = draw_audit(suspects, 100, design=design)
    said = said_of(drawn, suspects, audit)
    part = judge(suspects, audit, dict(list(said.items())[:40]))
    fewer = draw_audit(suspects, 40, design=design)
    assert (fewer.rows == audit.rows[:40]).all()
    whole = judge(suspects, fewer, said_of(drawn, suspects, fewer))
    assert (part.judged, part.drawn, part.skipped) == (40, 100, 0)
    assert (part.precision, part.wrong, part.mistakes) == (whole.precision, whole.wrong, whole.mistakes)
    skipped = dict(list(said.items())[:40])
    for row in audit.rows[[3, 17]].tolist():
        del skipped[row]
    holes = judge(suspects, audit, skipped)
    filled = judge(suspects, audit, {**skipped, **dict.fromkeys(audit.rows[[3, 17]].tolist(), Verdict.CANNOT_TELL)})
    assert (holes.skipped, holes.judged) == (2, 40)
    assert (holes.precision, holes.wrong) == (filled.precision, filled.wrong)
    assert "40 of 100 rows judged, 2 of them skipped" in str(holes)


def test_the_order_of_the_verdicts_and_their_form_do_not_matter(drawn: Any, suspects: Suspects) -> None:
    """A mapping of words and a list of objects say the same."""
    audit = draw_audit(suspects, 50, design="all")
    said = said_of(drawn, suspects, audit)
    objects = [Judged(row, Verdict(word)) for row, word in sorted(said.items())]
    one, other = judge(suspects, audit, said), judge(suspects, audit, objects, audit_hash=audit.hash)
    assert one == other


def test_the_largest_set_is_the_last_of_those_that_pass_without_a_gap(suspects: Suspects) -> None:
    """Sets with too few judged rows are left out, and nothing after a failure is tested."""
    audit = draw_audit(suspects, 120)
    ranked = suspects.row[suspects.flagged].tolist()
    rank = {row: place for place, row in enumerate(ranked)}
    said: dict[int, Verdict | str] = {
        row: "suggested" if rank[row] < 0.6 * len(ranked) else "given" for row in audit.rows.tolist()
    }
    found = judge(suspects, audit, said)
    expected = None
    for size in audit.nested:
        judged = [row for row in said if rank[row] < size]
        if len(judged) >= 30:
            wrong = sum(said[row] == "suggested" for row in judged)
            if least_count(wrong, len(judged), size) < 0.8 * size:
                break
            expected = (size, len(judged), wrong, 0.8)
    proved = found.largest_flagged(0.8)
    assert proved is not None
    assert (proved.flagged, proved.judged, proved.wrong, proved.bound) == expected
    assert 0.55 * len(ranked) < proved.flagged < 0.75 * len(ranked)
    assert found.largest_flagged(0.999) is None
    few = judge(suspects, draw_audit(suspects, 20), dict.fromkeys(draw_audit(suspects, 20).rows.tolist(), "other"))
    everything = few.largest_flagged(0.7)
    assert everything is not None
    assert everything.flagged == len(ranked)


@pytest.mark.parametrize("design", ["flagged", "all"])
def test_mistakes_come_from_the_rows_whose_right_class_was_said(drawn: Any, suspects: Suspects, design: str) -> None:
    """All wrong labels are one class further here; shares sum to 1, and a named class of `other` counts."""
    audit = draw_audit(suspects, 200, design=design)
    said = said_of(drawn, suspects, audit)
    found = judge(suspects, audit, said)
    suggested = sum(word == "suggested" for word in said.values())
    assert sum(one.judged for one in found.mistakes) == suggested > 0
    assert sum(one.share.value for one in found.mistakes) == pytest.approx(1)
    assert all((one.given - one.right) % 5 == 1 for one in found.mistakes)
    assert all(one.share.low <= one.share.value <= one.share.high for one in found.mistakes)
    shares = [one.share.value for one in found.mistakes]
    assert shares == sorted(shares, reverse=True)
    row = audit.rows.tolist()[0]
    given = int(drawn.labels[row])
    named = [Judged(row, "other", (given + 3) % 5), *(Judged(*one) for one in said.items() if one[0] != row)]
    pairs = {(one.given, one.right) for one in judge(suspects, audit, named).mistakes}
    assert (given, (given + 3) % 5) in pairs


def test_the_rate_of_right_suggestions_is_that_of_the_flagged_rows(drawn: Any, suspects: Suspects) -> None:
    """`both` counts as right, and `cannot_tell` does not."""
    audit = draw_audit(suspects, 100)
    words = np.repeat(["suggested", "both", "other", "cannot_tell", "given"], [60, 10, 10, 10, 10]).tolist()
    found = judge(suspects, audit, dict(zip(audit.rows.tolist(), words, strict=True))).suggested_right
    assert found is not None
    assert (found.value, found.n) == (0.7, 100)
    whole = draw_audit(suspects, 300, design="all")
    rate = judge(suspects, whole, said_of(drawn, suspects, whole)).suggested_right
    flagged = suspects.row[suspects.flagged]
    truth = np.mean(drawn.truth[flagged] == suspects.suggested[suspects.flagged])
    assert rate is not None
    assert rate.low <= truth <= rate.high


def test_nothing_wrong_is_said_as_such(suspects: Suspects) -> None:
    """No mistakes, and lower bounds of 0."""
    audit = draw_audit(suspects, 30, design="all")
    found = judge(suspects, audit, dict.fromkeys(audit.rows.tolist(), "given"))
    assert found.mistakes == ()
    assert found.wrong is not None
    assert found.wrong.low == 0
    assert found.verdicts == {Verdict.GIVEN: 30}
    with pytest.raises(CalibrationError, match="audit: expected one of the flagged rows, got the design all"):
        found.largest_flagged(0.7)
    flagged = replace(suspects, expected_wrong=np.where(suspects.expected_wrong < 0.2, 0.2, 0.9).astype(np.float32))
    for seed in range(20):
        certain = draw_audit(flagged, 60, design="all", seed=seed)
        none = judge(flagged, certain, dict.fromkeys(certain.rows.tolist(), "given"))
        assert none.wrong is not None
        assert none.precision is None or none.precision.bound == none.wrong.low == 0
    outside = audit.rows[~np.isin(audit.rows, suspects.row[suspects.flagged])][:1]
    lone = judge(suspects, Audit(outside, audit.chances[:1], "all", (), 0, audit.suspects), {int(outside[0]): "given"})
    assert (lone.precision, lone.suggested_right) == (None, None)


def test_ends_are_numbers_of_rows_that_there_are(suspects: Suspects) -> None:
    """Where nearly everything is wrong and little was expected, or nothing is wrong and everything was expected."""
    low = replace(suspects, expected_wrong=np.full(suspects.n, 0.3, np.float32))
    for word, share in (("other", 1.0), ("given", 0.0)):
        audit = draw_audit(low, 300, design="all")
        found = judge(low, audit, dict.fromkeys(audit.rows.tolist(), word))
        assert found.precision is not None
        assert 0 <= found.precision.bound <= 1
        for one, rows in ((found.wrong, suspects.n), (found.wrong_flagged, suspects.flagged.sum())):
            assert one is not None
            assert 0 <= one.low <= one.value <= one.high <= rows
            assert (one.low if share == 0 else rows - one.high) == 0


def test_verdicts_of_something_else_are_refused(suspects: Suspects, population: Callable[..., Any]) -> None:
    """Another set, another audit, rows outside it, doubled rows, unknown words, labels that make no sense."""
    audit = draw_audit(suspects, 10)
    row = int(audit.rows[0])
    outside = next(one for one in range(suspects.n) if one not in audit.rows)
    drawn = population(n=6000, seed=1)
    others = find_suspects(drawn.experts, drawn.labels, fit_pool(drawn.experts, drawn.labels), every_row=True)
    with pytest.raises(CalibrationError, match="audit: expected one that was drawn from these suspects"):
        judge(others, audit, {row: "given"})
    with pytest.raises(CalibrationError, match=r"verdicts: expected those of the audit .*, got those of another one"):
        judge(suspects, audit, {row: "given"}, audit_hash=draw_audit(suspects, 10, seed=1).hash)
    with pytest.raises(CalibrationError, match=f"verdicts: expected rows of the audit, got row {outside}"):
        judge(suspects, audit, {outside: "given"})
    with pytest.raises(CalibrationError, match=f"one for each row, got another one for row {row}"):
        judge(suspects, audit, [Judged(row, "given"), Judged(row, "other")])
    with pytest.raises(CalibrationError, match=r"expected one of given, .*cannot_tell, got 'Given'"):
        judge(suspects, audit, {row: "Given"})
    with pytest.raises(CalibrationError, match="expected a label with the verdict other only"):
        judge(suspects, audit, [Judged(row, "given", 1)])
    with pytest.raises(CalibrationError, match="expected a label from 0 to 4, got 5"):
        judge(suspects, audit, [Judged(row, "other", 5)])
    with pytest.raises(CalibrationError, match="verdicts: expected at least one, got none"):
        judge(suspects, audit, {})
    for precision in (0.0, 1.0, np.nan):
        with pytest.raises(CalibrationError, match="precision: expected a share in"):
            judge(suspects, audit, {row: "given"}).largest_flagged(precision)
