"""The study of graded answers: its truths, and a small run of every check."""

from pathlib import Path

import numpy as np
import pytest

from edgecascade.calibration import MostAccuracy, plan_task
from studies import graded
from studies.coverage import measure_coverage, summarize
from studies.graded import GRADED, POPULATIONS, Graded, main

HERE = Path()


def population(name: str) -> Graded:
    """Return one of the populations."""
    return graded._population_of(name, HERE)


@pytest.mark.parametrize("name", POPULATIONS)
def test_populations_have_values_in_0_to_1_and_always_the_same(name: str) -> None:
    """The best value is between the local one and the oracle's, and is reached at the least offload."""
    found = population(name)
    for value in (found.local_value, found.remote_value):
        assert 0 <= value.min() < value.max() <= 1
    oracle = np.maximum(found.local_value, found.remote_value).mean()
    assert max(found.local, found.remote) <= found.best + 1e-9 <= oracle + 2e-9
    assert found.least_offload(found.local) == 0
    assert found.curve.at(found.least_offload(found.best)) == pytest.approx(found.best, abs=1e-8)
    graded._population_of.cache_clear()
    np.testing.assert_array_equal(population(name).score, found.score)


def test_a_plan_is_followed_on_the_whole_population() -> None:
    """The values at the thresholds of the curve are those counted one by one."""
    found = population("text")
    seen = found.draw(np.random.default_rng(0))
    plan = plan_task(seen.score, seen.local_value, seen.remote_value, MostAccuracy(0.3))
    followed = found.follow(plan)
    thresholds = np.array([point.threshold for point in plan.policy.curve])
    for threshold, rate, value in zip(thresholds, *followed.at(thresholds), strict=True):
        asked = plan.policy.table(found.score.astype(np.float32)) < np.float32(threshold)
        assert rate == pytest.approx(asked.mean())
        assert value == pytest.approx(np.where(asked, found.remote_value, found.local_value).mean())


@pytest.mark.parametrize("name", ["boxes", "text", "right or wrong"])
def test_certificates_are_broken_at_most_at_their_rate(name: str) -> None:
    """Of 200 certificates at a risk of 5 %, more than 20 false ones have a probability below 0.1 %."""
    found = population(name)
    said = [dict(graded.check_certificate(found, np.random.default_rng(draw))) for draw in range(200)]
    assert sum(one["certificates broken"] for one in said) <= 20
    assert sum(one["certificates refused"] for one in said) < 100


def test_a_small_run_meets_its_goals() -> None:
    """Every check speaks, and no figure is missed beyond chance over two populations."""
    names = ("text", "small differences")
    checks = {name: (check, 5.0 if name == "certificate" else 1.0) for name, (check, _) in GRADED.checks.items()}
    found = measure_coverage(names, HERE, draws=12, seed=0, subject=GRADED._replace(checks=checks))
    shown = {figure.name.partition(":")[0] for figure in found.overall if figure.least is not None}
    assert shown >= {"mean value", "ECE", "loss at a threshold", "advantage in bins", "certificates broken"}
    assert not [figure for figure in found.overall if figure.missed == "low"]
    assert "text" in summarize(found)


def test_the_study_writes_its_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command has the populations, and resumes from what is stored."""
    checks = {"certificate": GRADED.checks["certificate"]}
    monkeypatch.setattr(graded, "GRADED", GRADED._replace(checks={"certificate": (checks["certificate"][0], 1.0)}))
    monkeypatch.setattr(graded, "_WORKERS", 1)
    main(["--draws", "2", "--out", str(tmp_path)])
    assert "studies.graded --draws 2" in (tmp_path / "result.json").read_text("utf-8")
