"""Accuracies by class or group are right, a rare class that loses is named, and a bound on its loss is kept."""

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.calibration import (
    CalibrationError,
    CertifiedLoss,
    Groups,
    LeastCost,
    LeastOffload,
    MostAccuracy,
    Objective,
    Outcomes,
    plan,
    plan_cascade,
    plan_certified,
)
from edgecascade.calibration.groups import group_advice, grouped_accuracy

RARE = 0.03


def outcomes(n: int, seed: int, rare: float = RARE) -> Outcomes:
    """Draw inputs whose score shows the errors in the common class, and nothing in the rare one.

    In the common class the local model is right with the probability of its score and the remote with 0.95. In the
    rare one, the local model is right with 0.38 and the remote with 0.66, and the local scores are high.
    """
    rng = np.random.default_rng(seed)
    odd, chance = rng.random(n) < rare, rng.random(n)
    score = np.where(odd, rng.uniform(0.8, 1.0, n), 1 - rng.beta(0.5, 4.0, n)).astype(np.float32)
    local = chance < np.where(odd, 0.38, np.minimum(score, 0.95))
    remote = chance < np.where(odd, 0.66, 0.95)
    groups = Groups.of(np.where(odd, "rare", "common"), "class")
    return Outcomes(score, score, np.full(n, 0.95, np.float32), local, remote, remote, groups=groups)


POPULATION = outcomes(100_000, 1_000_000)


def loss_in_rare_class(threshold: float, advantage: NDArray[np.float32]) -> float:
    """Return the loss against the remote in the rare class of the population."""
    assert POPULATION.groups is not None
    right = np.where(advantage < np.float32(threshold), POPULATION.remote_correct, POPULATION.local_correct)
    rows = POPULATION.groups.index == 1
    return float(POPULATION.remote_correct[rows].mean() - right[rows].mean())


def test_groups_keep_their_names_in_any_selection() -> None:
    """Rows take their groups along; a group without inputs is not a member."""
    groups = Groups.of(np.array(["b", "a", "b", "c"]))
    assert (groups.by, groups.names) == ("group", ("a", "b", "c"))
    assert {name: rows.tolist() for name, rows in groups[np.array([0, 2, 3])].members()} == {"b": [0, 1], "c": [2]}


def test_classes_have_numbers_or_names() -> None:
    """Without names, a class is called by its number."""
    labels = np.array([2, 0, 2])
    assert [name for name, _ in Groups.of_classes(labels).members()] == ["0", "2"]
    assert [name for name, _ in Groups.of_classes(labels, ("cat", "dog", "owl")).members()] == ["cat", "owl"]


def test_whole_numbers_of_a_floating_type_are_groups() -> None:
    """Tables often hold numbers as float64."""
    assert Groups.of(np.array([2.0, 0.0, 2.0])).names == ("0", "2")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((3, 2)), r"^groups: expected one number or string per input, got float64 \[3, 2\]"),
        (np.zeros(3, np.complex128), r"^groups: expected one number or string per input, got complex128 \[3\]"),
        (np.array([0.0, 1.5]), r"^groups: expected names or whole numbers, got 1.5"),
        (np.array([0.0, np.nan]), r"^groups: expected names or whole numbers, got nan"),
        (np.arange(2000), r"^groups: expected at most 1000 different ones, got 2000"),
    ],
)
def test_other_groups_are_refused(values: NDArray[np.generic], message: str) -> None:
    """The error says what came."""
    with pytest.raises(CalibrationError, match=message):
        Groups.of(values)


def test_accuracies_by_group_add_up_to_the_whole() -> None:
    """Weighted by their shares, the groups give the curve and both models' accuracies."""
    seen = outcomes(3000, 0)
    policy = plan(seen, MostAccuracy(0.2))
    assert policy.groups is not None
    groups = policy.groups.groups
    assert [one.name for one in groups] == ["common", "rare"]
    assert sum(one.n for one in groups) == 3000
    share = np.array([one.n for one in groups]) / 3000
    assert share @ [one.local.value for one in groups] == pytest.approx(seen.local_correct.mean())
    assert share @ [one.remote.value for one in groups] == pytest.approx(seen.remote_correct.mean())
    for at, point in enumerate(policy.curve):
        assert share @ [one.curve[at][0] for one in groups] == pytest.approx(point.accuracy, abs=1e-5)
    assert share @ [one.cascade.value for one in groups] == pytest.approx(policy.chosen.accuracy)
    assert policy.groups.moved(policy.curve.index(policy.chosen)).groups[0].cascade.value == pytest.approx(
        groups[0].cascade.value, abs=1e-5
    )


def test_intervals_of_a_group_cover_its_true_accuracy() -> None:
    """In 200 draws, the interval of the rare class at a fixed decision holds its accuracy about 95 % of the time."""
    covered = []
    for seed in range(200):
        seen = outcomes(2000, seed)
        found = grouped_accuracy(seen, seen.local_correct[:, None], 0)
        assert found is not None
        rare = found.groups[1]
        covered.append(rare.cascade.low <= 0.38 <= rare.cascade.high)
    assert np.mean(covered) >= 0.93


def test_a_rare_class_that_loses_is_named() -> None:
    """The whole loses nothing that the loss of the rare class does not explain, and the advice says so."""
    policy = plan(outcomes(5000, 0), LeastOffload(loss=0.02))
    (said,) = [sentence for sentence in policy.advice if "class rare" in sentence]
    assert "against asking the remote always" in said
    assert "all inputs together lose" in said


def test_equal_groups_are_rarely_named() -> None:
    """Where all groups are alike, at most about 5 % of 100 draws name one."""
    named = 0
    for seed in range(100):
        seen = outcomes(1000, seed, rare=0.0)
        groups = Groups.of(np.random.default_rng(seed).integers(0, 10, 1000))
        seen = Outcomes(**{**vars(seen), "groups": groups})
        named += bool(group_advice(seen, np.where(seen.score < 0.8, seen.merged_correct, seen.local_correct)))
    assert named <= 10


def test_a_class_that_the_remote_gets_wrong_is_named() -> None:
    """Forwarding can also hurt: a class that the local model does better is named with its loss against it."""
    rng = np.random.default_rng(0)
    special = rng.random(4000) < 0.1
    local, remote = rng.random(4000) < 0.8, rng.random(4000) < np.where(special, 0.4, 0.95)
    score = rng.random(4000).astype(np.float32)
    groups = Groups.of(np.where(special, "special", "other"))
    seen = Outcomes(score, score, score, local, remote, remote, groups=groups)
    said = group_advice(seen, np.where(score < 0.5, remote, local))
    assert any(one.startswith("group special loses") and "against the local model alone" in one for one in said)


@pytest.mark.parametrize("objective", [LeastOffload(loss=0.02), LeastCost(0, 0.04, 0, 1)])
def test_a_bound_on_the_loss_of_groups_holds_on_the_estimates(objective: Objective) -> None:
    """No group loses more on the inputs outside the fit, and more is forwarded for that."""
    seen = outcomes(5000, 0)
    free, held = plan(seen, objective), plan(seen, objective, max_group_loss=0.1)
    assert free.groups is not None
    assert held.groups is not None
    losses = [
        max(one.remote.value - one.cascade.value for one in policy.groups.groups)
        for policy in (free, held)
        if policy.groups is not None
    ]
    assert losses[0] > 0.12
    assert losses[1] <= 0.11  # the point of the table is near the tested rate
    assert held.chosen.offload_rate > free.chosen.offload_rate


def test_a_bound_that_excludes_the_offload_rate_is_refused() -> None:
    """The error has the least offload rate that would do."""
    with pytest.raises(
        CalibrationError, match=r"^max_group_loss: .* 5% offload .* got 0.05; the least offload .* \d\d"
    ):
        plan(outcomes(5000, 0), MostAccuracy(0.05), max_group_loss=0.05)


def test_a_bound_without_groups_is_refused() -> None:
    """More than 50 classes are no groups by themselves."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(600, 60))
    labels = (2 * logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    for objective in (LeastOffload(loss=0.1), CertifiedLoss(0.1)):
        with pytest.raises(CalibrationError, match=r"^groups: expected the group of each input"):
            plan_cascade(logits, logits, labels, objective, max_group_loss=0.1)


def test_a_certified_bound_on_groups_is_kept() -> None:
    """At a risk of 20 %, the true loss of the rare class exceeds 12 % in about 20 % of 30 plans at most.

    The certificate of the whole alone lets it lose more than that in most of them.
    """
    broken: dict[float | None, list[bool]] = {None: [], 0.12: []}
    for seed in range(30):
        planning, testing = outcomes(1500, 2 * seed), outcomes(4000, 2 * seed + 1)
        for most, found in broken.items():
            try:
                policy, certificate = plan_certified(
                    planning, testing, CertifiedLoss(0.02, risk=0.2), estimate="monotone", bins=10, max_group_loss=most
                )
            except CalibrationError:  # a refused certificate cannot fail
                continue
            assert certificate.group_loss == most
            found.append(loss_in_rare_class(policy.threshold, policy.table(POPULATION.score)) > 0.12)
    assert np.mean(broken[None]) > 0.5
    assert len(broken[0.12]) > 20
    assert np.mean(broken[0.12]) <= 0.2 + 2 * np.sqrt(0.16 / len(broken[0.12]))


def test_plans_of_logits_measure_classes_by_themselves() -> None:
    """With at most 50 classes, each has its accuracy; groups that are given replace them."""
    rng = np.random.default_rng(0)
    remote = rng.normal(0.0, 3.0, (600, 3))
    labels = (remote + rng.gumbel(size=remote.shape)).argmax(axis=1)
    local = remote + rng.normal(0.0, 2.0, remote.shape)
    by_class = plan_cascade(local, remote, labels, MostAccuracy(0.2)).policy.groups
    assert by_class is not None
    assert (by_class.by, [one.name for one in by_class.groups]) == ("class", ["0", "1", "2"])
    site = np.arange(600) % 2
    by_site = plan_cascade(local, remote, labels, MostAccuracy(0.2), groups=site).policy.groups
    assert by_site is not None
    assert (by_site.by, [one.n for one in by_site.groups]) == ("group", [300, 300])
