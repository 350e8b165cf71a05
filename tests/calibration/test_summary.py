"""Advice about a pair, and a plan as text and as HTML."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.calibration import CascadePlan, MostAccuracy, Outcomes, operating_curve, plan, plan_cascade
from edgecascade.calibration.summary import advise

Right = NDArray[np.bool_]


def sentences(advantage: NDArray[np.floating], local: Right, merged: Right, rate: float = 0.5) -> str:
    """Return all advice for a plan at the rate."""
    advantage = advantage.astype(np.float32)
    curve = operating_curve(advantage, local, merged)
    chosen = MostAccuracy(rate).choose(curve, float(merged.mean()))
    return "; ".join(advise(advantage, local, merged, curve, chosen))


RNG = np.random.default_rng(0)


ADVANTAGE = np.round(RNG.uniform(-0.5, 0, 2000), 2)


ALWAYS = np.ones(2000, bool)


def test_a_useful_pair_is_told_how_much_is_enough() -> None:
    """The local model is wrong on the half of lowest advantage, and nowhere else."""
    said = sentences(ADVANTAGE, ADVANTAGE > -0.25, ALWAYS)
    assert re.fullmatch(r"forwarding (49|50|51)% comes within a point of forwarding everything", said)


def test_a_local_model_that_is_too_weak_is_called_so() -> None:
    """Wrong nearly everywhere: almost all would have to go."""
    said = sentences(ADVANTAGE, RNG.random(2000) < 0.1, ALWAYS)
    assert "the local model is too weak: 9" in said


def test_a_local_model_as_good_as_the_remote_is_called_so() -> None:
    """Only one input in 200 differs."""
    local = np.arange(2000) % 200 > 0
    assert "the local model alone is within a point" in sentences(ADVANTAGE, local, ALWAYS)


def test_a_remote_that_is_worse_is_called_so() -> None:
    """With the interval that shows it."""
    said = sentences(ADVANTAGE, ALWAYS, RNG.random(2000) < 0.9)
    assert said.startswith("the remote is worse than the local model")


def test_a_remote_that_is_not_shown_to_be_better_is_not_called_worse() -> None:
    """The interval holds 0."""
    said = sentences(ADVANTAGE, RNG.random(2000) < 0.9, RNG.random(2000) < 0.9)
    assert said.startswith("the remote is not shown to be better than the local model")


def test_forwarding_too_much_is_said_to_do_harm() -> None:
    """The remote is right on the half of lowest advantage, the local model on the other."""
    low = ADVANTAGE < -0.3
    said = sentences(ADVANTAGE, ~low, low | (RNG.random(2000) < 0.7))
    assert "forwarding more than 4" in said


def test_a_blind_score_is_called_blind() -> None:
    """Errors that have nothing to do with the advantage: random inputs would do as well."""
    assert "forwarding inputs at random would do as well" in sentences(ADVANTAGE, RNG.random(2000) < 0.7, ALWAYS)


@pytest.fixture(scope="module")
def planned(sampled: Callable[..., tuple[NDArray[np.float64], NDArray[np.int64]]]) -> CascadePlan:
    """A plan for 30 % offload of a local model that sees the remote's logits through noise."""
    logits, labels = sampled(n=1000, seed=5)
    return plan_cascade(
        logits + np.random.default_rng(6).normal(0, 2, logits.shape), 2 * logits, labels, MostAccuracy(0.3)
    )


def test_a_printed_plan_holds_its_figures(planned: CascadePlan) -> None:
    """Temperatures, objective, score, merge rule, threshold, rate and accuracy."""
    shown = str(planned)
    chosen = planned.policy.chosen
    for part in (
        f"T = {planned.local.temperature:.4f}",
        f"T = {planned.remote.temperature:.4f}",
        planned.policy.objective,
        planned.score,
        planned.merge,
        f"{chosen.threshold:+.4f}",
        f"{chosen.offload_rate:.1%}",
        f"{chosen.accuracy:.1%}",
        *planned.policy.advice,
    ):
        assert part in shown
    assert repr(planned).startswith("CascadePlan(local=Calibration(")


def test_a_notebook_shows_the_same_as_a_table(planned: CascadePlan) -> None:
    """Well-formed, escaped, one row per line of the text."""
    table = ET.fromstring(planned._repr_html_())
    assert len(table.findall("tr")) == len(str(planned).splitlines())
    assert planned.policy.objective in "".join(table.itertext())


def test_a_plan_from_outcomes_prints_its_policy() -> None:
    """Without temperatures, which it does not know."""
    score = np.linspace(0.3, 0.9, 200, dtype=np.float32)
    right = np.ones(200, bool)
    found = plan(Outcomes(score, score, np.ones_like(score), score > 0.5, right, right), MostAccuracy(0.0))
    assert found.objective in str(found)
    assert "nothing will be forwarded" in str(found)
    assert len(ET.fromstring(found._repr_html_()).findall("tr")) == len(str(found).splitlines())
