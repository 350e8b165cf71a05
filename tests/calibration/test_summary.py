"""The advice about a pair, and a plan as text and HTML."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.calibration import (
    CascadePlan,
    LeastOffload,
    MostAccuracy,
    Outcomes,
    operating_curve,
    plan,
    plan_cascade,
    plan_task,
)
from edgecascade.calibration.summary import advise

Right = NDArray[np.bool_]


def sentences(
    advantage: NDArray[np.floating], local: Right, merged: Right, rate: float = 0.5, merge: str = "", **changes: Right
) -> str:
    """Return all advice for a plan at the rate."""
    advantage = advantage.astype(np.float32)
    seen = Outcomes(advantage, advantage, advantage, local, changes.get("remote", merged), merged)
    curve = operating_curve(advantage, local, merged)
    position = curve.index(MostAccuracy(rate).choose(curve, 1.0, len(local)))
    forward = advantage[:, None] < np.array([point.threshold for point in curve], np.float32)
    return "; ".join(advise(seen, forward, curve, position, merge))


RNG = np.random.default_rng(0)


ADVANTAGE = np.round(RNG.uniform(-0.5, 0, 2000), 2)


ALWAYS = np.ones(2000, bool)


def test_advice_states_the_sufficient_offload_rate() -> None:
    """The local model is wrong only on the half with the lowest advantage."""
    said = sentences(ADVANTAGE, ADVANTAGE > -0.25, ALWAYS)
    assert re.fullmatch(
        r"forwarding (49|50|51)% \((49|50|51)% to (49|50|51)%\) comes within a point of forwarding everything", said
    )


def test_advice_reports_a_weak_local_model() -> None:
    """It is wrong nearly everywhere, so almost all inputs would be forwarded."""
    said = sentences(ADVANTAGE, RNG.random(2000) < 0.1, ALWAYS)
    assert "the local model is too weak: 9" in said


def test_a_local_model_that_meets_the_aim_is_not_called_too_weak() -> None:
    """However many inputs the remote would answer better."""
    rng, score = np.random.default_rng(1), np.linspace(-1, 1, 1000)
    local, remote = rng.random(1000) < 0.3, rng.random(1000) < 0.9
    for aim, weak in ((0.1, False), (0.8, True)):
        advice = "; ".join(plan_task(score, local, remote, LeastOffload(aim)).policy.advice)
        assert ("nothing will be forwarded: the local model alone meets the aim" in advice) is not weak
        assert ("the local model is too weak" in advice) is weak
        assert "must be forwarded to come within a point" in advice


def test_advice_reports_a_local_model_as_good_as_the_remote() -> None:
    """Only one input in 200 differs."""
    local = np.arange(2000) % 200 > 0
    assert "the local model alone is within a point" in sentences(ADVANTAGE, local, ALWAYS)


def test_advice_reports_a_worse_remote() -> None:
    """The advice includes the interval."""
    said = sentences(ADVANTAGE, ALWAYS, RNG.random(2000) < 0.9)
    assert said.startswith("the remote is worse than the local model")


def test_advice_does_not_report_an_insignificant_difference() -> None:
    """The interval contains 0."""
    said = sentences(ADVANTAGE, RNG.random(2000) < 0.9, RNG.random(2000) < 0.9)
    assert said.startswith("the remote is not shown to be better than the local model")


def test_advice_names_what_averaging_gains() -> None:
    """The remote's own answers and the average are told apart, and no sentence denies what averaging gains."""
    local, remote = RNG.random(2000) < 0.85, RNG.random(2000) < 0.85
    either = (local | remote) & (RNG.random(2000) < 0.95)
    said = sentences(ADVANTAGE, local, either, 1.0, "average", remote=remote)
    assert said.startswith(
        "the remote is not shown to be better than the local model on these inputs: asking it always"
    )
    assert "; averaging both on every input is better than the local model: " in said
    assert "within a point of averaging both on every input" in said
    assert "nothing will be forwarded" not in said


def test_advice_warns_that_more_offload_is_harmful() -> None:
    """The remote is right on the half with the lowest advantage, the local model on the other half."""
    low = ADVANTAGE < -0.3
    said = sentences(ADVANTAGE, ~low, low | (RNG.random(2000) < 0.7))
    assert re.search(r"forwarding more than 4\d% \(\d+% to \d+%\) lowers accuracy: forwarding everything loses", said)


def test_advice_reports_an_uninformative_score() -> None:
    """Errors are independent of the advantage, so random offloading would do as well."""
    assert "forwarding inputs at random would do as well" in sentences(ADVANTAGE, RNG.random(2000) < 0.7, ALWAYS)


@pytest.fixture(scope="module")
def planned(sampled: Callable[..., tuple[NDArray[np.float64], NDArray[np.int64]]]) -> CascadePlan:
    """Plan for 30 % offload with a local model that sees the remote's logits through noise."""
    logits, labels = sampled(n=1000, seed=5)
    return plan_cascade(
        logits + np.random.default_rng(6).normal(0, 2, logits.shape), 2 * logits, labels, MostAccuracy(0.3)
    )


def test_a_printed_plan_has_its_figures(planned: CascadePlan) -> None:
    """The text has temperatures, objective, score, merge rule, threshold, rate and accuracy."""
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


def test_a_notebook_shows_a_plan_as_a_table(planned: CascadePlan) -> None:
    """The HTML is well-formed and escaped, with one row per line of the text."""
    table = ET.fromstring(planned._repr_html_())
    assert len(table.findall("tr")) == len(str(planned).splitlines())
    assert planned.policy.objective in "".join(table.itertext())


def test_a_plan_from_outcomes_prints_its_policy() -> None:
    """It has no temperatures, because outcomes contain none."""
    score = np.linspace(0.3, 0.9, 200, dtype=np.float32)
    right = np.ones(200, bool)
    found = plan(Outcomes(score, score, np.ones_like(score), score > 0.5, right, right), MostAccuracy(0.0))
    assert found.objective in str(found)
    assert "nothing will be forwarded" in str(found)
    assert len(ET.fromstring(found._repr_html_()).findall("tr")) == len(str(found).splitlines())
