"""Certificates hold at their stated risk, and are refused where the data do not support one."""

import contextlib
import re
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import multinomial

from edgecascade.calibration import CalibrationError, Certificate, Groups, certify, sample_size
from edgecascade.calibration.certificate import betting_p_value, certify_order, exact_p_value
from edgecascade.types.document import certificate_dict

THRESHOLDS = np.linspace(-0.5, 0.5, 21)


def drawn(n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Draw inputs on which local is right with probability 0.9 + min(advantage, 0) and the remote with 0.9."""
    rng = np.random.default_rng(seed)
    advantage = rng.uniform(-0.5, 0.5, n).astype(np.float32)
    chance = rng.random(n)
    remote = chance < 0.9
    local = np.where(rng.random(n) < 0.7, chance, rng.random(n)) < 0.9 + np.minimum(advantage, 0)
    return advantage, local, remote


def true_loss(threshold: float) -> float:
    """Return the integral of the disadvantage over inputs that stay local, for advantages uniform on [-.5, .5]."""
    highest = min(threshold, 0.0)
    return highest**2 / 2


def certified(n: int, seed: int, loss: float = 0.01, risk: float = 0.05) -> Certificate:
    """Certify a threshold on n new inputs, where the remote's answer replaces the local one."""
    advantage, local, remote = drawn(n, seed)
    return certify(advantage, local, remote, remote, THRESHOLDS, loss=loss, risk=risk)


def test_a_certificate_fails_at_most_at_its_risk() -> None:
    """Over 200 draws at a risk of 20 %, the true loss exceeds the certified one in about 20 % of them at most."""
    broken = []
    for seed in range(200):
        with contextlib.suppress(CalibrationError):  # a refused certificate cannot fail
            broken.append(true_loss(certified(800, seed, risk=0.2).threshold) > 0.01)
    assert len(broken) > 100
    assert np.mean(broken) <= 0.2 + 2 * np.sqrt(0.16 / len(broken))


def test_the_certified_threshold_is_close_to_the_best_one() -> None:
    """With 20,000 inputs, the threshold is close to the one whose true loss equals the bound."""
    least = -np.sqrt(2 * 0.01)
    found = [certified(20_000, seed).threshold for seed in range(5)]
    assert np.mean(found) == pytest.approx(least, abs=0.05)


def test_more_inputs_certify_a_lower_offload_rate() -> None:
    """A larger sample needs a lower offload rate for the same certificate."""
    few, many = (np.mean([certified(n, seed).offload_rate for seed in range(10)]) for n in (2000, 10_000))
    assert many < few


def test_a_certificate_records_its_evidence() -> None:
    """It holds the loss, risk, n, rate and a p-value below the risk; its sentence states all but the p-value."""
    found = certified(2000, 0)
    advantage, _, _ = drawn(2000, 0)
    assert (found.loss, found.risk, found.n) == (0.01, 0.05, 2000)
    assert found.offload_rate == np.mean(advantage < np.float32(found.threshold))
    assert found.p_value <= 0.05
    assert str(found).startswith("loss against asking the remote always at most 1.0% with probability 0.95 (n = 2000)")


def test_testing_stops_at_the_first_threshold_that_fails() -> None:
    """A lower threshold that would pass by luck is not tested, because further tests would exceed the risk."""
    advantage = np.repeat(np.array([-0.3, -0.1, 0.1], np.float32), 500)
    remote = np.ones(1500, bool)
    local = np.repeat([True, False, True], 500)
    found = certify(advantage, local, remote, remote, np.array([-0.2, 0.0, 0.2, -0.4]), loss=0.02, risk=0.05)
    assert found.threshold == 0.0


def test_scores_of_a_verifier_can_be_certified() -> None:
    """Scores in [0, 1] in place of correctness are tested by betting."""
    advantage, local, remote = drawn(4000, 0)
    local_score, remote_score = local * 0.9 + 0.05, remote * 0.9 + 0.05
    found = certify(advantage, local_score, remote_score, remote_score, THRESHOLDS, loss=0.02, risk=0.05)
    assert true_loss(found.threshold) <= 0.02
    assert found.offload_rate < 0.6


@pytest.mark.parametrize("risk", [0.05, 0.001])
def test_too_few_inputs_are_refused_with_the_number_needed(risk: float) -> None:
    """With twice the number stated in the error, the same data are certified."""
    half = np.array([0.0])
    advantage, local, remote = drawn(1000, 2)
    with pytest.raises(
        CalibrationError, match=r"^certificate: 1000 inputs do not show .* about \d+ new ones would"
    ) as refusal:
        certify(advantage, local, remote, remote, half, loss=0.005, risk=risk)
    (enough,) = re.findall(r"about (\d+) new ones would", str(refusal.value))
    advantage, local, remote = drawn(2 * int(enough), 1)
    assert certify(advantage, local, remote, remote, half, loss=0.005, risk=risk).threshold == 0.0


def test_a_merge_worse_than_the_bound_is_refused() -> None:
    """If forwarding every input loses more than the bound, the error says that more inputs do not help."""
    advantage, local, remote = drawn(3000, 0)
    with pytest.raises(CalibrationError, match=r"^certificate: 3000 inputs"):
        certify(advantage, local, remote & (advantage > -0.3), remote, THRESHOLDS, loss=0.01, risk=0.05)


def in_order(n: int, seed: int, risk: float = 0.05) -> Certificate:
    """Certify a loss of 1 % in the plain order of the advantage, on n inputs."""
    advantage, local, remote = drawn(n, seed)
    return certify_order(advantage, local, remote, remote, loss=0.01, risk=risk)


def test_a_certificate_of_every_threshold_fails_at_most_at_its_risk() -> None:
    """Thresholds between any two scores of the sample are tested, so its scores choose none that was left out."""
    broken = [true_loss(in_order(600, seed, risk=0.2).threshold) > 0.01 for seed in range(150)]
    assert np.mean(broken) <= 0.2 + 2 * np.sqrt(0.16 / len(broken))


def test_a_plain_order_forwards_less_than_a_part_of_the_data_shows() -> None:
    """All inputs in the test, at every threshold, certify a lower rate than two thirds of them at 21 thresholds."""
    whole = np.mean([in_order(1500, seed).offload_rate for seed in range(20)])
    part = np.mean([certified(1000, seed).offload_rate for seed in range(20)])
    assert whole < part - 0.03


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([2, 5, 100]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_plain_order_is_tested_threshold_by_threshold(seed: int, n: int, distinct: int, replaced: bool) -> None:
    """Ties are never split, NaN is always forwarded, and the result is that of one exact test after the other."""
    rng = np.random.default_rng(seed)
    score = np.where(rng.random(n) < 0.05, np.nan, rng.integers(0, distinct, n)).astype(np.float32)
    local, merged, remote = rng.random((3, n)) < np.array([[0.7], [0.95], [0.95]])
    merged = remote if replaced else merged
    expected = None
    for threshold in [np.inf, *np.unique(score[~np.isnan(score)])[::-1]]:
        forward = ~(score >= threshold)
        if forward.all() and np.array_equal(merged, remote):
            continue
        losses = remote.astype(int) - np.where(forward, merged, local)
        if exact_p_value(int((losses > 0).sum()), int((losses < 0).sum()), n, 0.3) > 0.2:
            break
        expected = float(forward.mean())
    try:
        found = certify_order(score, local, merged, remote, loss=0.3, risk=0.2)
    except CalibrationError:
        assert expected is None
    else:
        assert found.offload_rate == expected == np.mean(~(score >= np.float32(found.threshold)))
        assert found.p_value <= 0.2


def test_planned_tests_of_growing_data_keep_the_risk_that_repeated_tests_break() -> None:
    """Collect, test, refuse, collect more, test again: at a true loss of the bound, each certificate is broken."""
    rng, sizes, tests = np.random.default_rng(0), (400, 800, 1600), {"again": 1, "planned": 3}
    broken = dict.fromkeys(tests, 0)
    for _ in range(200):
        worse = rng.random(sizes[-1]) < 0.04
        local, remote = ~worse, np.where(worse, True, rng.random(sizes[-1]) < 1 - 0.0101 / 0.96)
        for name, looks in tests.items():
            for attempt, n in enumerate(sizes, 1):
                advantage = np.zeros(n, np.float32)
                with contextlib.suppress(CalibrationError):
                    certify(
                        *(advantage, local[:n], remote[:n], remote[:n], np.array([0.0])),
                        loss=0.0299,
                        risk=0.2,
                        looks=looks,
                        attempt=min(attempt, looks),
                    )
                    broken[name] += 1
                    break
    assert broken["again"] > 200 * 0.25
    assert broken["planned"] <= 200 * 0.2


def test_a_planned_test_says_which_it_is() -> None:
    """The certificate has both numbers; a refusal names the next test, or says that no further one is valid."""
    advantage, local, remote = drawn(3000, 0)
    found = certify_order(advantage, local, remote, remote, loss=0.01, risk=0.05, looks=3, attempt=2)
    assert (found.looks, found.attempt) == (3, 2)
    assert found.p_value <= 0.05 / 3
    assert "(n = 3000; test 2 of 3 planned)" in str(found)
    assert certificate_dict(found)["looks"] == 3
    assert "looks" not in certificate_dict(in_order(3000, 0))
    few = drawn(100, 0)
    with pytest.raises(CalibrationError, match=r"; the next is test 2 of 3 planned$"):
        certify_order(*few, few[2], loss=0.01, risk=0.05, looks=3, attempt=1)
    with pytest.raises(CalibrationError, match="a test of data that includes these would break the risk, unless"):
        certify_order(*few, few[2], loss=0.01, risk=0.05)


@pytest.mark.parametrize(("loss", "risk", "name"), [(0.0, 0.05, "loss"), (1.0, 0.05, "loss"), (0.01, 0.0, "risk")])
def test_an_invalid_certificate_is_refused(loss: float, risk: float, name: str) -> None:
    """The error names the argument."""
    with pytest.raises(CalibrationError, match=rf"^{name}: expected a number between 0 and 1"):
        certified(500, 0, loss, risk)


@pytest.mark.parametrize("n", [8, 15])
@pytest.mark.parametrize("bound", [0.05, 0.3])
def test_the_exact_test_is_exact(n: int, bound: float) -> None:
    """Over all outcomes of n inputs and every rate of disagreement at the bound, P(p <= a) <= a."""
    outcomes = [(w, b) for w, b in product(range(n + 1), repeat=2) if w + b <= n]
    p_values = np.array([exact_p_value(w, b, n, bound) for w, b in outcomes])
    counts = [(w, b, n - w - b) for w, b in outcomes]
    for better in np.linspace(0, (1 - bound) / 2, 15):
        probability = multinomial.pmf(counts, n, [better + bound, better, 1 - 2 * better - bound])
        for level in (0.01, 0.05, 0.1, 0.3):
            assert probability[p_values <= level].sum() <= level


@pytest.mark.parametrize(("rate", "n"), [(0.02, 400), (0.1, 1000)])
def test_the_exact_test_is_nearly_tight(rate: float, n: int) -> None:
    """At the bound and a level of 5 %, it rejects 3 % to 5.5 % of the time."""
    worse, better = (rate + 0.01) / 2, (rate - 0.01) / 2
    drawn = np.random.default_rng(0).multinomial(n, [worse, better, 1 - rate], size=1000)
    seen, index = np.unique(drawn[:, :2], axis=0, return_inverse=True)
    p_values = np.array([exact_p_value(int(w), int(b), n, 0.01) for w, b in seen])[index.ravel()]
    assert 0.03 < np.mean(p_values <= 0.05) < 0.071


@given(st.integers(1, 60), st.data())
@settings(max_examples=50)
def test_more_losses_do_not_lower_the_p_value(n: int, data: st.DataObject) -> None:
    """One more wrong answer in place of a right one never lowers a p-value that could certify anything.

    Of all counts up to n = 60, it lowers 23 of 37,820, the least of them to 0.46: the interval of the rate of
    disagreement moves, too.
    """
    worse = data.draw(st.integers(0, n - 1))
    better = data.draw(st.integers(0, n - 1 - worse))
    more = exact_p_value(worse + 1, better, n, 0.1)
    assert more > 0.4 or exact_p_value(worse, better, n, 0.1) <= more + 1e-9


@pytest.mark.parametrize(("mean", "spread"), [(0.01, 0.0), (0.01, 0.2), (0.1, 0.5)])
def test_the_betting_test_holds_its_level_at_the_bound(mean: float, spread: float) -> None:
    """Over repeated draws with a loss at the bound, at most 5 % have p <= 5 %, for several distributions of losses."""
    rng = np.random.default_rng(0)
    draws = mean + spread * rng.choice([-1.0, 1.0], (1000, 500))
    rejected = np.mean([betting_p_value(row, mean) <= 0.05 for row in draws])
    assert rejected <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 1000)


def test_both_tests_certify_a_cascade_without_loss() -> None:
    """With 2,000 inputs, 4 % disagreement and no loss, both tests certify 2 %."""
    losses = np.random.default_rng(0).permutation(np.repeat([1.0, -1.0, 0.0], [40, 40, 1920]))
    assert exact_p_value(40, 40, 2000, 0.02) < 0.001 + 1e-4
    assert betting_p_value(losses, 0.02) < 0.01


@pytest.mark.parametrize(("bound", "risk"), [(0.01, 0.05), (0.05, 0.1)])
def test_the_least_sample_is_minimal(bound: float, risk: float) -> None:
    """Without disagreement, that number of inputs passes the test and one fewer does not."""
    n = sample_size(bound, risk)
    assert exact_p_value(0, 0, n, bound) <= risk < exact_p_value(0, 0, n - 1, bound)


def test_the_usual_sample_passes_with_80_percent_power() -> None:
    """The samples are drawn with the loss and the disagreement that the number was computed for."""
    n = sample_size(0.02, 0.05, disagreement=0.06, loss=0.0)
    drawn = np.random.default_rng(0).multinomial(n, [0.03, 0.03, 0.94], size=300)
    shown = np.mean([exact_p_value(int(w), int(b), n, 0.02) <= 0.05 for w, b, _ in drawn])
    assert 0.7 < shown < 0.9


@pytest.mark.parametrize(
    ("worse", "better", "n", "bound"), [(1, 1, 1, 0.1), (-1, 0, 5, 0.1), (0, 0, 0, 0.1), (0, 0, 9, 0.0)]
)
def test_impossible_counts_are_refused(worse: int, better: int, n: int, bound: float) -> None:
    """The error names the counts."""
    with pytest.raises(CalibrationError, match=r"^worse, better, n, bound: "):
        exact_p_value(worse, better, n, bound)


@pytest.mark.parametrize("losses", [[], [2.0], [np.nan], [[0.0]]])
def test_losses_outside_the_range_are_refused(losses: list[float]) -> None:
    """The betting test is valid only for losses in [-1, 1]."""
    with pytest.raises(CalibrationError, match=r"^losses: "):
        betting_p_value(np.array(losses), 0.1)


RARE = 0.03
STEPS = np.linspace(-0.5, 0.5, 11)


def with_rare_class(
    n: int, seed: int, share: float = RARE
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Draw inputs of which some are of a class that the local model gets right with 0.45 and the remote with 0.9.

    On the others both are right together. The advantage does not show the class, so the loss in it is 0.45 times the
    share of its inputs that stay local.
    """
    rng = np.random.default_rng(seed)
    rare, chance = rng.random(n) < share, rng.random(n)
    local, remote = chance < np.where(rare, 0.45, 0.95), chance < np.where(rare, 0.9, 0.95)
    return rng.uniform(-0.5, 0.5, n).astype(np.float32), local, remote, rare


def certified_by_group(n: int, seed: int, group_loss: float | None) -> Certificate:
    """Certify a threshold at a loss of 5 % and a risk of 20 %, and of the rare class if a loss is given for it."""
    advantage, local, remote, rare = with_rare_class(n, seed)
    groups = Groups.of(np.where(rare, "rare", "common"), "class")
    return certify(advantage, local, remote, remote, STEPS, loss=0.05, risk=0.2, groups=groups, group_loss=group_loss)


def test_a_certificate_of_the_whole_says_nothing_about_a_rare_class() -> None:
    """A loss of 5 % is certified for the local model alone, which loses 45 points in the rare class."""
    assert certified_by_group(3000, 0, None).threshold == -0.5


def test_the_certified_loss_of_every_group_fails_at_most_at_the_risk() -> None:
    """Over 200 draws at a risk of 20 %, a loss above 12 % in the rare class is certified in about 20 % at most."""
    broken = []
    for seed in range(200):
        with contextlib.suppress(CalibrationError):  # a refused certificate cannot fail
            broken.append(0.45 * (0.5 - certified_by_group(5000, seed, 0.12).threshold) > 0.12)
    assert len(broken) > 150
    assert 0.0 < np.mean(broken) <= 0.2 + 2 * np.sqrt(0.16 / len(broken))


def test_a_group_that_is_too_small_is_named() -> None:
    """The error has the group's size, and the size that would do."""
    with pytest.raises(
        CalibrationError, match=r"^groups: expected at least \d+ inputs in each .* 1.0%, got \d+ in class rare"
    ):
        certified_by_group(400, 0, 0.01)


def test_a_weighted_certificate_is_about_the_weighted_population() -> None:
    """Where half of the sample is of a class of 3 %, weights certify what holds for the population, and only that.

    The local model alone loses 0.0135 of the population and 0.225 of the sample.
    """
    advantage, local, remote, rare = with_rare_class(8000, 0, 0.5)
    prior = np.where(rare, RARE, 1 - RARE)

    def found(loss: float, weight: NDArray[np.float64] | None) -> Certificate:
        return certify(advantage, local, remote, remote, STEPS, loss=loss, risk=0.05, weight=weight)

    assert found(0.02, prior).threshold == -0.5
    assert found(0.02, prior).offload_rate == 0.0
    assert 0.3 < found(0.01, prior).offload_rate < 0.7
    with pytest.raises(CalibrationError, match="chance"):
        found(0.02, None)


def test_a_refusal_says_what_weighted_inputs_are_worth() -> None:
    """The effective number of inputs is beside the real one, and the number that would do allows for it."""
    advantage, local, remote, _ = with_rare_class(300, 0)
    weight = np.random.default_rng(0).gamma(1.0, 1.0, 300) + 0.01
    with pytest.raises(CalibrationError, match=r"300 inputs \(worth \d+ of equal weight\) do not show .* about \d{4}"):
        certify(advantage, local, remote, remote, STEPS, loss=0.002, risk=0.05, weight=weight)
