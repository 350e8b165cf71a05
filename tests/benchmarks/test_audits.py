"""The study of label audits: its worlds, its intervals, and its reduced form."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgecascade.calibration.cleaning import draw_audit, judge
from edgecascade.calibration.cleaning.audit import draw_chances
from edgecascade.calibration.cleaning.count import Prior
from studies import audits
from studies.audits import WORLDS, Count, Form, made_up, made_up_suspects, measure_audits, summarize


@pytest.mark.parametrize("world", WORLDS)
def test_worlds_have_the_wrong_labels_that_they_say(world: str) -> None:
    """Hidden ones are in the lower half of the posterior; good posteriors add up to the number."""
    posterior, wrong = made_up(world, 20_000, 0.05, np.random.default_rng(0))
    assert wrong.sum() == 1000
    low = posterior <= np.median(posterior)
    hidden = {"a tenth hidden": 100, "half hidden": 500, "all hidden": 1000}.get(world)
    if hidden is not None:
        assert wrong[low].sum() == pytest.approx(hidden, abs=5)
    if world == "good":
        assert posterior.sum() == pytest.approx(1000, rel=0.1)
    if world == "useless":
        assert wrong[posterior > 0.5].mean() < 0.1


def test_the_study_measures_the_intervals_that_judge_returns() -> None:
    """On the same draws, with rows of which a person cannot tell."""
    rng = np.random.default_rng(0)
    posterior, wrong = made_up("good", 3000, 0.05, rng)
    doubtful = rng.random(3000) < 0.1
    audit = draw_audit(made_up_suspects(posterior, 100), 80, design="all")
    said = {
        row: "cannot_tell" if doubtful[row] else "suggested" if wrong[row] else "given" for row in audit.rows.tolist()
    }
    found = judge(made_up_suspects(posterior, 100), audit, said).wrong
    chances, rows = draw_chances(posterior), audit.rows[None]
    drawn = audits._Drawn(
        (wrong & ~doubtful)[rows],
        (wrong | doubtful)[rows],
        posterior[rows],
        chances[rows],
        Prior.of(posterior, chances),
        3000,
    )
    low, high = audits._ours(drawn)
    assert found is not None
    assert (found.low, found.high) == (low[0], high[0])


def test_many_audits_are_drawn_as_one_is() -> None:
    """The frequency of every ordered pair is that of two draws without replacement."""
    chances = np.array([0.5, 0.3, 0.15, 0.05])
    seen = np.zeros((4, 4))
    np.add.at(seen, tuple(audits.many_draws(chances, 2, 20_000, np.random.default_rng(0)).T), 1)
    expected = np.outer(chances, chances) / (1 - chances)[:, None]
    np.fill_diagonal(expected, 0)
    assert seen / 20_000 == pytest.approx(expected, abs=0.012)
    whole = audits.many_draws(chances, 4, 3, np.random.default_rng(0))
    assert (np.sort(whole, axis=1) == np.arange(4)).all()


def test_every_method_covers_the_mean_of_many_draws() -> None:
    """With a good posterior; the proven bounds are wider than ours."""
    (found,) = audits._count("good", 50_000, 0.1, (100,), 60, 0)
    assert set(found.covered) == set(audits.METHODS)
    assert min(found.covered.values()) > 0.7
    assert found.width["t"] < found.width["ours"] < found.width["betting"] < found.width["empirical Bernstein"]


def test_a_cell_is_missed_only_beyond_chance() -> None:
    """The verdict allows for the number of audits."""

    def missed(covered: float, n: int) -> bool:
        return Count("", 1, 0.1, 1, 1, 0, 0, 0, 0, {"ours": covered}, {"ours": 1}, None, None, n).missed

    assert [missed(0.95, 1000), missed(0.94, 1000), missed(0.92, 1000), missed(0.92, 100)] == [
        False,
        False,
        True,
        False,
    ]


def test_audits_are_repeatable() -> None:
    """The same seed gives the same figures."""
    form = Form(("good",), ((500, (0.05,)),), (20, 40), ((200, 40),))
    first, again = (measure_audits(form, audits=5, seed=2) for _ in range(2))
    assert (first.bounds, first.counts) == (again.bounds, again.counts)
    assert len(first.counts) == 2
    assert "good" in summarize(first)


@pytest.mark.slow
def test_the_reduced_form_misses_nothing(tmp_path: Path) -> None:
    """No bound and no interval is false more often than in 5 % of the audits, beyond chance."""
    code = audits.main(["--reduced", "--out", str(tmp_path)])
    document = json.loads((tmp_path / "result.json").read_text())["audits"]
    assert code == 0
    assert {one["world"] for one in document["counts"]} == set(audits.REDUCED.worlds)
    assert "0 false beyond chance" in (tmp_path / "summary.txt").read_text()
