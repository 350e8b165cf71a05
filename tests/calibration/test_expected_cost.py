"""Plans for errors that cost differently, on two normal populations whose best cascade is known."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.calibration import (
    CalibrationError,
    CascadePlan,
    LeastCost,
    MostAccuracy,
    Outcomes,
    decide,
    merged_labels,
    plan,
    plan_cascade,
    softmax,
)
from edgecascade.calibration.expected_cost import confusions, savings
from edgecascade.calibration.outcomes import Answers
from edgecascade.cli import main
from edgecascade.types.costs import ErrorCosts

DEFECTS, NEAR, FAR = 0.2, 1.5, 2.5  # share of defects; distance of the classes as each model sees them
COSTS = LeastCost(local=0.0, remote=0.1, transfer=0.05, error=[1.0, 20.0])
NAMES = ("good", "defect")


class Drawn(NamedTuple):
    """Logits [n, 2] of both models, true classes [n], and the true probability of a defect given what each sees."""

    local: NDArray[np.float64]
    remote: NDArray[np.float64]
    labels: NDArray[np.int64]
    local_chance: NDArray[np.float64]
    remote_chance: NDArray[np.float64]


def draw(n: int, seed: int) -> Drawn:
    """Draw inputs that each model sees as one normal number; the logits are posteriors at wrong temperatures."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < DEFECTS).astype(np.int64)
    odds = [
        distance * (rng.normal(0, 1, n) + distance * labels) - distance**2 / 2 + np.log(DEFECTS / (1 - DEFECTS))
        for distance in (NEAR, FAR)
    ]
    local, remote = (np.stack([np.zeros(n), scale * one], axis=1) for scale, one in zip((2.0, 0.7), odds, strict=True))
    chances = [1 / (1 + np.exp(-one)) for one in odds]
    return Drawn(local, remote, labels, *chances)


@pytest.fixture(scope="module")
def pool() -> Drawn:
    """Return 200,000 inputs, which stand for the truth."""
    return draw(200_000, 99)


@pytest.fixture(scope="module")
def planned() -> CascadePlan:
    """Return a plan from 3,000 inputs."""
    drawn = draw(3000, 0)
    return plan_cascade(drawn.local, drawn.remote, drawn.labels, COSTS, names=NAMES)


def cost(answers: NDArray[np.int64], forward: NDArray[np.bool_], labels: NDArray[np.int64]) -> float:
    """Return the mean cost of forwards and errors."""
    missed, alarms = ((labels == 1) & (answers == 0)).mean(), ((labels == 0) & (answers == 1)).mean()
    return float(0.15 * forward.mean() + 20 * missed + alarms)


def deployed(plan: CascadePlan, pool: Drawn) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the answers and forwards of the planned rule on other inputs."""
    assert plan.rule.costs is not None
    decision = decide(pool.local, plan.rule)
    remote = softmax(pool.remote, plan.remote.temperature)
    merged = merged_labels(plan.merge, decision.probabilities, remote, plan.rule.costs)
    return np.where(decision.forward, merged, decision.label), decision.forward


def best_cost(pool: Drawn) -> float:
    """Return the cost of forwarding wherever the local posterior expects a saving, with labels by the posteriors."""
    local, remote = (chance * 20 > 1 - chance for chance in (pool.local_chance, pool.remote_chance))
    wrong = [np.where(pool.labels == 1, 20.0 * ~one, one) for one in (local, remote)]
    place = np.searchsorted(np.quantile(pool.local_chance, np.linspace(0, 1, 401)[1:-1]), pool.local_chance)
    saved = np.bincount(place, wrong[0] - wrong[1]) / np.bincount(place)
    forward = saved[place] > 0.15
    return cost(np.where(forward, remote, local).astype(np.int64), forward, pool.labels)


def test_the_planned_cascade_costs_about_as_little_as_the_best(planned: CascadePlan, pool: Drawn) -> None:
    """It is within 5 % of the best rule on the true local posterior, and cheaper than either model alone."""
    found = cost(*deployed(planned, pool), pool.labels)
    assert found <= 1.05 * best_cost(pool)
    none, everything = np.zeros(len(pool.labels), bool), np.ones(len(pool.labels), bool)
    local, remote = ((one * 20 > 1 - one).astype(np.int64) for one in (pool.local_chance, pool.remote_chance))
    assert found < 0.95 * min(cost(local, none, pool.labels), cost(remote, everything, pool.labels))


def test_the_printed_figures_hold_on_other_inputs(planned: CascadePlan, pool: Drawn) -> None:
    """The intervals of cost, accuracy and of both kinds of error hold the truth, and so do those of the savings."""
    answers, forward = deployed(planned, pool)
    chosen, (missed, alarm) = planned.policy.chosen, planned.policy.errors
    assert chosen.cost_band is not None
    assert chosen.cost_band[0] <= cost(answers, forward, pool.labels) - 0.15 * forward.mean() <= chosen.cost_band[1]
    assert chosen.accuracy_band[0] <= (answers == pool.labels).mean() <= chosen.accuracy_band[1]
    assert (missed.true, missed.answered, missed.cost) == ("defect", "good", 20.0)
    assert (alarm.true, alarm.answered, alarm.cost) == ("good", "defect", 1.0)
    for one, label in ((missed, 1), (alarm, 0)):
        rate = (answers[pool.labels == label] != label).mean()
        assert one.cascade.low <= rate <= one.cascade.high
        assert (
            one.local.low
            <= (decide(pool.local, planned.rule).label != label)[pool.labels == label].mean()
            <= one.local.high
        )
    printed = str(planned)
    assert "missed      defect answered good (cost 20): local " in printed
    assert "false alarm good answered defect (cost 1): local " in printed
    assert "the cascade costs " in printed
    assert "against always asking the remote (95 %, n = 3000)" in printed


def test_costs_forward_other_inputs_than_the_confidence(planned: CascadePlan) -> None:
    """At 20:1, an input is in doubt where the probability of a defect is near 1 / 21 and the confidence is high."""
    drawn = draw(20_000, 5)
    forward = decide(drawn.local, planned.rule).forward
    assert planned.score == "cost"
    assert forward[np.abs(drawn.local_chance - 1 / 21) < 0.01].all()
    assert not forward[drawn.local_chance < 0.001].any()


def test_savings_equal_a_plain_sum() -> None:
    """Each way to answer pays for its inferences, its forwards and its errors."""
    n, rng = 500, np.random.default_rng(0)
    local, remote, right = (rng.choice([0.0, 0.5, 1.0], n) for _ in range(3))
    forward = rng.random(n) < 0.3
    score = np.zeros(n, np.float32)
    seen = Outcomes(score, score, score, local, remote, remote)
    found = savings(LeastCost(2.0, 3.0, 1.0, [4.0, 10.0]), forward, right, seen)
    cascade = (2 + 4 * forward + 10 * (1 - right)).mean()
    assert [one.value for one in found] == pytest.approx(
        [cascade, (2 + 10 * (1 - local)).mean() - cascade, (4 + 10 * (1 - remote)).mean() - cascade]
    )
    assert all(one.low < one.value < one.high for one in found)


def test_the_costliest_kinds_of_error_are_counted() -> None:
    """Of many classes, at most five kinds are shown, by what they cost all three ways to answer."""
    rng = np.random.default_rng(0)
    true, answers = rng.integers(0, 4, 400), [rng.integers(0, 4, 400) for _ in range(3)]
    costs = ErrorCosts((rng.uniform(1, 9, (4, 4)) * (1 - np.eye(4))).tolist())
    found = confusions(true, (answers[0], answers[1], answers[2]), costs, names=["a", "b", "c", "d"])
    each = np.array(costs.values)
    total = {
        (i, j): sum(((true == i) & (one == j)).sum() for one in answers) * each[i, j]
        for i in range(4)
        for j in range(4)
    }
    wanted = sorted(total, key=lambda pair: -total[pair])[:5]
    assert [("abcd".index(one.true), "abcd".index(one.answered)) for one in found] == wanted
    for one, (i, j) in zip(found, wanted, strict=True):
        rates = [(labels[true == i] == j).mean() for labels in answers]
        assert [one.local.value, one.cascade.value, one.remote.value] == pytest.approx(rates)
        assert one.local.n == (true == i).sum()


def test_equal_costs_by_class_give_the_plan_of_one_cost() -> None:
    """Labels, threshold and expected cost are those of the plain objective."""
    drawn = draw(1500, 3)
    plain, by_class = (
        plan_cascade(drawn.local, drawn.remote, drawn.labels, LeastCost(0.0, 0.1, 0.0, error), scores=("confidence",))
        for error in (5.0, [5.0, 5.0])
    )
    assert by_class.policy.threshold == plain.policy.threshold
    assert by_class.policy.chosen.accuracy == pytest.approx(plain.policy.chosen.accuracy)
    assert by_class.policy.chosen.cost is not None
    assert by_class.policy.chosen.cost.value == pytest.approx(5 * (1 - plain.policy.chosen.accuracy))


def test_weights_count_in_the_rates_of_errors() -> None:
    """An input of weight 3 counts as three."""
    true, local = np.array([1, 1, 0, 0]), np.array([0, 1, 0, 1])
    missed, alarm = confusions(true, (local, true, true), ErrorCosts((1.0, 2.0)), np.array([3.0, 1.0, 1.0, 1.0]))
    assert (missed.local.value, alarm.local.value) == (0.75, 0.5)


def test_outcomes_without_classes_are_planned_by_their_values() -> None:
    """A verifier's scores have no kinds of error."""
    rng = np.random.default_rng(0)
    score = rng.random(1000).astype(np.float32)
    local, remote = rng.random(1000) < score, rng.random(1000) < 0.9
    outcomes = Outcomes(score, score, score, local.astype(float), remote.astype(float), remote.astype(float))
    found = plan(outcomes, LeastCost(0.0, 0.1, 0.0, [1.0, 2.0]))
    assert found.errors == ()
    assert 0.2 < found.chosen.offload_rate < 0.9


def test_answers_are_selected_with_their_outcomes() -> None:
    """A subset has the classes of its inputs."""
    n = 10
    labels = np.arange(n) % 2
    score, right = np.zeros(n, np.float32), np.ones(n)
    answers = Answers(labels, labels, 1 - labels, labels)
    seen = Outcomes(score, score, score, right, right, right, answers=answers)
    part = seen[np.array([1, 2])].answers
    assert part is not None
    assert part.remote.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ([1.0, -1.0], "^error: costs: expected numbers of 0 or more"),
        ([[0.0, 1.0]], r"^error: costs: expected a cost per class"),
        ({"good": 1.0, "defect": float("nan")}, "^error: costs: expected numbers"),
        ([1.0, 2.0, 3.0], "^error: expected the costs of 2 classes, got those of 3"),
        ({"good": 1.0, "bad": 2.0}, "^error: expected one for each of good, defect, got costs of good, bad"),
    ],
)
def test_costs_that_do_not_fit_are_refused(error: object, message: str) -> None:
    """The error says what was expected."""
    drawn = draw(300, 0)
    with pytest.raises(CalibrationError, match=message):
        plan_cascade(drawn.local, drawn.remote, drawn.labels, LeastCost(0, 1, 0, error), names=NAMES)  # type: ignore[arg-type]


def test_the_score_by_cost_needs_costs() -> None:
    """Without costs of errors it is refused."""
    drawn = draw(300, 0)
    with pytest.raises(CalibrationError, match=r"^score: expected costs of errors"):
        plan_cascade(drawn.local, drawn.remote, drawn.labels, MostAccuracy(0.2), scores=("cost",))


@pytest.mark.parametrize(
    "costs", [{"defect": 20, "good": 1}, [1, 20], [[0, 1], [20, 0]]], ids=["by name", "list", "matrix"]
)
def test_the_command_reads_costs_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], costs: object) -> None:
    """The three forms give one plan, in print and as JSON."""
    drawn = draw(600, 0)
    arrays = {"local": drawn.local, "remote": drawn.remote, "labels": drawn.labels, "names": np.array(NAMES)}
    np.savez(tmp_path / "outputs.npz", allow_pickle=False, **arrays)
    (tmp_path / "costs.json").write_text(json.dumps(costs))
    out = tmp_path / "plan.json"
    arguments = ["plan", str(tmp_path / "outputs.npz"), "--cost", f"0,0.1,0.05,{tmp_path / 'costs.json'}"]
    assert main([*arguments, "--json", str(out), "--plot", str(tmp_path / "plan.svg")]) == 0
    assert "cost of errors per input (cross-fitted)" in (tmp_path / "plan.svg").read_text()
    printed, policy = capsys.readouterr().out, json.loads(out.read_text())["policy"]
    assert "missed      defect answered good (cost 20)" in printed
    assert "cost of errors (95 %, at all at once)" in printed
    assert [one["true"] for one in policy["errors"]] == ["defect", "good"]
    assert policy["costs"] == (costs if isinstance(costs, list) else [1.0, 20.0])
    assert policy["chosen"]["cost"]["n"] == 600


@pytest.mark.parametrize(
    ("content", "argument", "message"),
    [
        (None, "0,1,0.2", "expected four costs such as 0,1,0.2,20 or 0,1,0.2,FILE, got '0,1,0.2'"),
        (None, "0,1,x,2", "expected four costs"),
        (None, "0,1,0,gone.json", "expected a number or a JSON file as the cost of an error, got 'gone.json'"),
        ("{", "0,1,0,FILE", "FILE is not valid JSON"),
        ("3", "0,1,0,FILE", "expected an object by class name, a list or a matrix, got 3"),
        ("[1, 2, 3]", "0,1,0,FILE", "error: expected the costs of 2 classes, got those of 3"),
        ('{"good": 1, "defect": 2}', "0,1,0,FILE", "error: expected a list, without names, got costs of good, defect"),
        ('{"good": 1, "defect": "dear"}', "0,1,0,FILE", "error: costs: expected"),
    ],
)
def test_costs_that_cannot_be_read_end_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, argument: str, message: str
) -> None:
    """The error names the argument or the file."""
    drawn, file = draw(300, 0), tmp_path / "costs.json"
    np.savez(tmp_path / "outputs.npz", local=drawn.local, remote=drawn.remote, labels=drawn.labels)
    if content is not None:
        file.write_text(content)
    try:
        code = main(["plan", str(tmp_path / "outputs.npz"), "--cost", argument.replace("FILE", str(file))])
    except SystemExit as stop:  # of argparse
        code = int(stop.code or 0)
    assert code == 2
    assert message.replace("FILE is", f"{file} is") in " ".join(capsys.readouterr().err.split())


def test_no_cost_is_below_that_of_the_local_inferences() -> None:
    """Every input pays for one, so an interval of the cost starts there, also where hardly an answer is wrong."""
    right = np.arange(500) > 0
    sure = np.ones(500, np.float32)
    seen = Outcomes(sure, sure, sure, right, right, right)
    for local in (0.0, 2.0):
        cost, *_ = savings(LeastCost(local, 0.0, 0.0, 1.0), np.zeros(500, bool), right, seen)
        assert local == cost.low <= cost.value < cost.high
