"""The whole way from outputs and labels to a policy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.calibration import (
    CalibrationError,
    CascadePlan,
    MostAccuracy,
    Promise,
    decide,
    fit_temperature,
    plan_cascade,
)

Sampled = Callable[..., tuple[NDArray[np.float64], NDArray[np.int64]]]


@pytest.fixture(scope="module")
def outputs(sampled: Sampled) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """A remote three times too sure, and a local model that sees it through noise, twice too sure."""
    logits, labels = sampled(n=4000, classes=4, seed=5)
    logits = 2 * logits
    noise = np.random.default_rng(6).normal(0, 3, logits.shape)
    return 2 * (logits + noise) / 3, 3 * logits, labels


def planned(outputs: tuple[NDArray[Any], ...], *rows: slice, **options: Any) -> CascadePlan:
    """A plan for 30 % offload on some rows, all by default."""
    local, remote, labels = (array[rows] for array in outputs)
    return plan_cascade(local, remote, labels, options.pop("objective", MostAccuracy(0.3)), **options)


def test_the_rule_is_what_was_fitted_and_chosen(outputs: tuple[NDArray[Any], ...]) -> None:
    """Both temperatures are the fitted ones; the device's decision forwards what the plan says."""
    plan = planned(outputs)
    local, remote, labels = outputs
    assert plan.local.temperature == fit_temperature(local, labels)
    assert plan.remote.temperature == fit_temperature(remote, labels)
    assert (plan.rule.score, plan.rule.threshold) == (plan.score, plan.policy.threshold)
    assert decide(local, plan.rule).forward.mean() == plan.policy.chosen.offload_rate
    assert plan.certificate is None
    assert len(plan.routing) == 9


def test_it_holds_on_inputs_that_it_has_not_seen(outputs: tuple[NDArray[Any], ...]) -> None:
    """Planned on 1,500, its offload rate and accuracy on the other 2,500 are in the bands it gave."""
    plan = planned(outputs, slice(0, 1500), merges=["replace"])
    local, remote, labels = (array[1500:] for array in outputs)
    decision = decide(local, plan.rule)
    right = np.where(decision.forward, remote.argmax(axis=1), decision.label) == labels
    low, high = plan.policy.chosen.accuracy_band
    assert low - 0.01 < right.mean() < high + 0.01
    assert abs(decision.forward.mean() - 0.3) < 4 * np.sqrt(0.21 * (1 / 1500 + 1 / 2500))


def test_one_score_and_one_rule_leave_no_choice(outputs: tuple[NDArray[Any], ...]) -> None:
    """What the user names is what is used."""
    plan = planned(outputs, scores=["entropy"], merges=["confident"])
    assert (plan.score, plan.merge, len(plan.routing)) == ("entropy", "confident", 1)


def test_a_promise_is_tested_on_inputs_that_chose_nothing(outputs: tuple[NDArray[Any], ...]) -> None:
    """Fitted on a third, tested on two."""
    plan = planned(outputs, objective=Promise(0.03))
    assert plan.certificate is not None
    assert plan.local.n + plan.certificate.n == 4000
    assert plan.certificate.n == round(4000 * 2 / 3)
    assert plan.certificate.threshold == plan.policy.threshold


@pytest.mark.parametrize("options", [{}, {"objective": Promise(0.03)}])
def test_the_same_seed_gives_the_same_plan(outputs: tuple[NDArray[Any], ...], options: dict[str, Any]) -> None:
    """A plan can be made again."""
    first, again = (planned(outputs, **options) for _ in range(2))
    assert first.policy.threshold == again.policy.threshold
    assert first.routing == again.routing


def test_models_with_other_classes_are_refused(outputs: tuple[NDArray[Any], ...]) -> None:
    """One sentence with both shapes."""
    local, remote, labels = outputs
    with pytest.raises(CalibrationError, match=r"^remote_logits: expected \[4000, 4\] .* got \[4000, 3\]"):
        plan_cascade(local, remote[:, :3], labels, MostAccuracy(0.3))
