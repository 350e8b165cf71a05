"""`edgecascade bench clean`: noise, folds, figures of detection, costs, and the whole on scikit-learn's digits."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.benchmarks.cleaning.costs import measure_costs
from edgecascade.benchmarks.cleaning.data import Expert, Task
from edgecascade.benchmarks.cleaning.detection import (
    average_precision,
    precision,
    precision_at_recall,
    recall,
    summed_up,
)
from edgecascade.benchmarks.cleaning.goals import Goal, mean_of
from edgecascade.benchmarks.cleaning.noise import KINDS, planted
from edgecascade.benchmarks.cleaning.outputs import Outputs, out_of_fold, outputs_for
from edgecascade.benchmarks.cleaning.peers import cleanlab_crowd, cleanlab_masks, cleanlab_rankings, ours
from edgecascade.benchmarks.commands import clean
from edgecascade.cli import main
from edgecascade.types.estimate import Estimate

SCHEMA = Path(__file__).parents[2] / "benchmarks" / "edgecascade" / "benchmarks" / "report" / "result.schema.json"


def counted(*counts: int) -> NDArray[np.float64]:
    """Return how often rows count, [1, n]."""
    return np.array([counts], np.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_planted_labels_are_wrong_and_as_many_as_asked_for(kind: str) -> None:
    """5 % of 1,000 labels change, each to another class; `pair` changes to the next class."""
    rng = np.random.default_rng(0)
    labels, rival = rng.integers(0, 7, 1000), rng.normal(size=(1000, 7)) * 4
    changed = planted(kind, labels, rival, 0.05, rng)
    wrong = changed != labels
    assert wrong.sum() == 50
    assert changed.min() >= 0
    assert changed.max() <= 6
    if kind == "pair":
        assert (changed[wrong] == (labels[wrong] + 1) % 7).all()


def test_labels_wrong_by_instance_are_those_that_the_rival_confuses() -> None:
    """Rows about which the rival is sure stay right; the others get the class that it confuses them with."""
    labels = np.zeros(1000, np.int64)
    rival = np.where(np.arange(1000)[:, None] < 500, [[60.0, 0.0, 0.0]], [[4.0, 0.0, 4.0]])
    changed = planted("instance", labels, rival, 0.1, np.random.default_rng(0))
    assert (changed[:500] == 0).all()
    assert (changed == 2).sum() > 80


class Memory:
    """A model that remembers the labels of its inputs, and says class 0 of others."""

    classes_ = np.arange(3)

    def fit(self, inputs: NDArray[Any], labels: NDArray[Any]) -> "Memory":
        """Remember."""
        self.known = dict(zip(inputs[:, 0].tolist(), labels.tolist(), strict=True))
        return self

    def predict_proba(self, inputs: NDArray[Any]) -> NDArray[np.float64]:
        """Return one-hot probabilities."""
        return np.eye(3)[[self.known.get(one, 0) for one in inputs[:, 0].tolist()]]


def test_outputs_are_out_of_fold_and_saved(tmp_path: Path) -> None:
    """A model that remembers everything knows nothing about the rows it judges; the file is used again."""
    inputs = np.arange(60.0)[:, None]
    labels, folds = np.arange(60) % 3, np.arange(60) % 4
    expert = Expert("memory", Memory, inputs, scores="probabilities")
    assert (out_of_fold(expert, labels, folds, 3).argmax(axis=1) == 0).all()
    fixed = Expert("fixed", None, np.eye(3)[labels], scores="probabilities")
    task = Task(labels, folds, labels, (expert, fixed), expert, expert, 0, 3)
    first = outputs_for(task, task.experts, labels, tmp_path / "outputs.npz")
    again = outputs_for(task, task.experts, 2 - labels, tmp_path / "outputs.npz")
    assert first.names == ("memory", "fixed")
    assert np.array_equal(first.arrays[0], again.arrays[0])
    assert np.array_equal(first.arrays[1], np.eye(3)[labels])
    assert first.without_last().names == ("memory",)


def test_average_precision_equals_that_of_scikit_learn() -> None:
    """With ties, and with rows that count several times or not at all."""
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    wrong, score, counts = rng.random(300) < 0.2, rng.integers(0, 20, 300) / 7, rng.integers(0, 4, 300)
    expected = metrics.average_precision_score(wrong, score, sample_weight=counts)
    assert average_precision(wrong, score)(counted(*counts))[0] == pytest.approx(expected)


def test_precision_at_the_recall_of_a_mask() -> None:
    """The mask has two of three wrong labels and a precision of 2/3; the score needs four rows for as many."""
    wrong = np.array([True, False, False, True, True])
    mask = np.array([True, True, False, True, False])
    score = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    once = counted(1, 1, 1, 1, 1)
    assert precision_at_recall(wrong, score, mask)(once) == pytest.approx([0.5])
    assert precision(wrong, mask)(once) == pytest.approx([2 / 3])
    assert recall(wrong, mask)(once) == pytest.approx([2 / 3])
    assert precision_at_recall(wrong, score, mask)(counted(1, 0, 0, 1, 1)) == pytest.approx([1.0])


def test_differences_are_paired_and_their_intervals_cover() -> None:
    """A figure minus itself is 0 exactly; the interval of a share is about that of a normal approximation."""
    wrong = np.arange(2000) % 4 == 0
    figures = [precision(wrong, np.ones(2000, np.bool_))] * 2
    none = summed_up(figures, 2000, figures)
    assert (none.low, none.value, none.high, none.n) == (0, 0, 0, 4000)
    share = summed_up(figures, 2000)
    assert share.value == 0.25
    assert share.high - share.low == pytest.approx(2 * 1.96 * np.sqrt(0.25 * 0.75 / 4000), rel=0.25)


def test_the_mean_of_independent_estimates_is_surer_than_each() -> None:
    """Arms of .2 of four estimates give .1."""
    found = mean_of([Estimate(0.5, 0.3, 0.7, 10)] * 4)
    assert [found.low, found.high] == pytest.approx([0.4, 0.6])
    assert (found.value, found.n) == (0.5, 40)


@pytest.fixture(scope="module")
def outputs() -> tuple[Outputs, NDArray[np.int64], NDArray[np.bool_]]:
    """Return two experts of different kind on 400 rows, given labels, and which of these are wrong."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 400)
    logits = [(3 * np.eye(4)[truth] + rng.normal(size=(400, 4))).astype(np.float16) for _ in range(2)]
    chances = np.exp(logits[1].astype(np.float64))
    chances /= chances.sum(axis=1, keepdims=True)
    labels = np.where(np.arange(400) < 40, (truth + 1) % 4, truth)
    arrays = (logits[0], chances.astype(np.float16))
    return Outputs(arrays, ("one", "two"), ("logits", "probabilities")), labels, labels != truth


def test_every_peer_orders_wrong_labels_first(outputs: tuple[Outputs, NDArray[np.int64], NDArray[np.bool_]]) -> None:
    """Ours by each rule, all rankings and masks of cleanlab, and CROWDLAB are far better than chance."""
    pytest.importorskip("cleanlab")
    some, labels, wrong = outputs
    once = np.ones((1, 400))
    for rule in ("posterior", "pool", "all-disagree"):
        verdict = ours(some, labels, rule)
        assert average_precision(wrong, verdict.score)(once)[0] > 0.5
        assert len(verdict.weights) == 2
    rankings = {**cleanlab_rankings(some, labels), "crowd": cleanlab_crowd(some, labels)}
    assert len(rankings) > 25
    assert min(average_precision(wrong, score)(once)[0] for score in rankings.values()) > 0.5
    for mask in cleanlab_masks(some, labels).values():
        assert precision(wrong, mask.flagged)(once)[0] > 0.3
        assert (mask.suggested != labels)[mask.flagged].mean() > 0.5


def test_costs_are_measured_in_processes_of_their_own(tmp_path: Path) -> None:
    """Each kind once, and the arrays are gone afterwards."""
    pytest.importorskip("cleanlab")
    found = measure_costs(tmp_path / "arrays", rows=200, classes=10, rounds=1, largest=400, measured=True)
    assert [one.goal for one in found.ratios] == [0.2, 1.0, 0.2, 1.0]
    assert [one.rows for one in found.growth] == [100, 200, 400]
    assert found.fit.value > 0
    assert list((tmp_path / "arrays").iterdir()) == []


def test_the_quick_run_writes_a_report_with_goals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Digits, one run: the result is valid, the summary names every goal, met or missed."""
    pytest.importorskip("cleanlab")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGECASCADE_CACHE", str(tmp_path / "cache"))
        assert main(["bench", "clean", "--quick", "--no-costs", "--out", str(tmp_path)]) == 0
    document = json.loads((tmp_path / "result.json").read_text())
    jsonschema.validate(document, json.loads(SCHEMA.read_text()))
    found = document["cleaning"]
    assert {(cell["kind"], cell["share"]) for cell in found["cells"]} == {(k, s) for k in KINDS for s in (0.02, 0.1)}
    assert found["costs"] is None
    cell = found["cells"][1]["found"]
    assert cell["ours"]["value"] > 0.8
    assert cell["lead"]["value"] == pytest.approx(cell["ours"]["value"] - cell["cleanlab"]["value"])
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for goal in found["goals"]:
        (line,) = (one for one in lines if one.startswith(f"{goal['name']} {goal['wanted']}"))
        assert (" met" in line) is goal["met"]
        assert (" missed" in line) is not goal["met"]
    assert document["command"] == "edgecascade bench clean --quick --no-costs"


def test_a_goal_says_in_how_many_cells_it_is_missed() -> None:
    """A goal of one figure has no cells."""
    figure = Estimate(-0.02, -0.03, -0.01, 9)
    assert Goal("order", ">= -0.01", figure, "worst: a, pair, 5 %", False, 1, 4).outcome == "missed, 1 of 4 below"
    assert Goal("time", "<= 1", figure, "median", True).outcome == "met"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["--runs", "0"], "--runs: expected 1 or more, got 0"), (["--data", "digits"], "bench clean needs cleanlab")],
)
def test_errors_are_one_sentence(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without runs, and without cleanlab."""
    monkeypatch.setattr(clean, "find_spec", lambda name: None if name == "cleanlab" else find_spec(name))
    assert main(["bench", "clean", *arguments]) == 2
    assert told in capsys.readouterr().err
