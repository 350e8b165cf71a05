"""The coverage study: its truths, its intervals over draws, and its reduced form."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgecascade.calibration import MostAccuracy, plan_cascade
from studies import claims, coverage
from studies.coverage import Figure, Row, measure_coverage, summarize
from studies.populations import RAW, Population, population_of
from studies.processes import Process
from studies.speed import compare_fits

HERE = Path()


@pytest.fixture(scope="module")
def population() -> Population:
    """Return a small population."""
    process = Process("few", 400, 0.75, 0.9, classes=3, pool=2_000)
    return Population(process.name, process.n, process.population)


def test_a_plan_is_followed_on_the_whole_population(population: Population) -> None:
    """Rates and accuracies at every threshold equal those counted one by one, and the plan's are among them."""
    seen = population.draw(np.random.default_rng(0))
    plan = plan_cascade(seen.local, seen.remote, seen.labels, MostAccuracy(0.3))
    followed = population.follow(plan)
    thresholds = np.array([point.threshold for point in plan.policy.curve])
    rates, accuracies = followed.at(thresholds)
    for threshold, rate, accuracy in zip(thresholds, rates, accuracies, strict=True):
        asked = followed.advantage < np.float32(threshold)
        assert rate == pytest.approx(asked.mean())
        assert accuracy == pytest.approx(np.where(asked, followed.merged, followed.local).mean())
    chosen = thresholds.tolist().index(plan.policy.threshold)
    assert (followed.offload, followed.accuracy) == pytest.approx((rates[chosen], accuracies[chosen]))


def test_truths_of_a_population(population: Population) -> None:
    """Its best accuracy is reached at its least offload, and no fixed score at one rate is above an oracle."""
    assert population.local < population.remote <= population.best
    assert population.least_offload(population.local) == 0
    assert 0 < population.least_offload(population.best) <= 1
    assert population.least_offload(1.0) == np.inf
    seen = population.draw(np.random.default_rng(0))
    plan = plan_cascade(seen.local, seen.remote, seen.labels, MostAccuracy(0.3))
    followed = population.follow(plan)
    oracle = float(np.mean(population.local_right | population.remote_right))
    fixed = population.fixed(plan, followed)
    assert RAW in fixed
    assert all(population.local - 0.02 < accuracy <= oracle for accuracy in fixed.values())


def test_the_truth_about_a_candidate_is_that_of_its_own_plan() -> None:
    """Where errors are few, the folds stop at several rates; one order at their mean rate is a better policy."""
    process = Process("nearly perfect", 500, 0.999, 0.9995, pool=10_000)
    population, held = Population(process.name, process.n, process.population), []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        seen = population.draw(rng)
        plan = plan_cascade(seen.local, seen.remote, seen.labels, MostAccuracy(0.2))
        held += [value for _, value in claims._check_candidates(plan, seen, population, rng)]
    assert len(held) == 10
    assert np.mean(held) >= 0.9


def test_populations_are_known_by_name() -> None:
    """An artificial pair is drawn from its own population."""
    found = population_of("few inputs", HERE)
    assert (found.n, len(found.draw(np.random.default_rng(0)))) == (200, 200)
    with pytest.raises(KeyError):
        population_of("none", HERE)


@pytest.mark.parametrize(
    ("value", "draws", "missed"), [(0.7, 40, "low"), (0.9, 40, ""), (1.0, 40, ""), (1.0, 900, "high")]
)
def test_a_figure_is_missed_only_beyond_chance(value: float, draws: int, missed: str) -> None:
    """The verdict allows for the number of draws."""
    hits = np.arange(draws) < round(value * draws)
    figure = coverage._figure("accuracy: local", hits.astype(float))
    assert figure.value == pytest.approx(value)
    assert figure.low <= value <= figure.high
    assert figure.missed == missed


def test_the_interval_over_draws_is_exact() -> None:
    """For 0 and 1 it is Clopper and Pearson's; shares that agree more than single hits do have a shorter one."""
    from scipy.stats import binomtest

    exact = binomtest(36, 40).proportion_ci(0.99, "exact")
    found = coverage._figure("accuracy: local", (np.arange(40) < 36).astype(float))
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))
    shares = coverage._figure("advantage in bins", np.full(40, 0.9) + np.tile([-0.1, 0.1], 20))
    assert shares.high - shares.low < found.high - found.low
    rows = [Row(name, 100, 0.8, 0.9, 1.0, [coverage._figure("accuracy: local", np.ones(40))]) for name in ("a", "b")]
    (overall,) = coverage._overall(rows)
    assert (overall.low, overall.high) == pytest.approx((binomtest(80, 80).proportion_ci(0.99, "exact").low, 1.0))


def test_shortfalls_are_of_the_score_that_is_best_on_average() -> None:
    """The best score in hindsight is one for all draws, and its accuracies leave the columns."""
    columns = {f"{name} at 20%": [80.0, 80.0] for name in ("policy", "confidence", "margin", "entropy")}
    columns |= {f"{RAW} at 20%": [82.0, 79.0]}
    assert coverage._shortfalls(columns) == {"points below the best fixed score: at 20%": [2.0, -1.0]}
    assert columns == {}


def test_the_fit_agrees_with_scikit_learn() -> None:
    """Both fit the same logits; time and memory are recorded but not tested."""
    pytest.importorskip("sklearn", minversion="1.8")
    found = compare_fits(n=2000, classes=10, repeats=1)
    assert found.difference < 1e-3
    assert found.ratio > 0
    assert "of scikit-learn's time" in str(found)


@pytest.mark.slow
def test_the_reduced_form_misses_nothing(tmp_path: Path) -> None:
    """No interval, objective or certificate is off beyond chance, on the mean over the populations."""
    code = coverage.main(["--reduced", "--out", str(tmp_path)])
    document = json.loads((tmp_path / "result.json").read_text())["coverage"]
    missed = {figure["name"]: figure for figure in document["overall"] if Figure(**figure).missed}
    assert (code, missed) == (0, {})
    assert "coverage: what was said is true" in (tmp_path / "summary.txt").read_text()


def test_draws_are_repeatable() -> None:
    """The same seed gives the same figures, in one process or two."""
    first, again = (measure_coverage(["few inputs"], HERE, draws=2, seed=3) for _ in range(2))
    assert first.rows[0].figures == again.rows[0].figures
    assert "few inputs" in summarize(first)
