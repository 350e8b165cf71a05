"""The plan: lowest advantage first, within the budget, and never where the local model is expected to be better."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgecascade.calibration import AdvantageTable, CalibrationError, advantage_table, operating_curve, plan

Right = NDArray[np.bool_]
Situation = tuple[AdvantageTable, NDArray[np.float32], Right, Right]
# Eighths are exact in float32, so equal advantages are equal and every sum below is exact.
EIGHTHS = st.integers(-8, 8).map(lambda i: i / 8)


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """A table with any values, scores that fall into its bins, and who was right."""
    values = draw(st.lists(EIGHTHS, min_size=1, max_size=6))
    n = draw(st.integers(1, 40))
    table = AdvantageTable(
        np.arange(1, len(values), dtype=np.float32), np.array(values, np.float32), np.ones(len(values), np.int64)
    )
    score = draw(arrays(np.int64, n, elements=st.integers(0, len(values) - 1))).astype(np.float32) + np.float32(0.5)
    right = arrays(np.bool_, n, elements=st.booleans())
    return table, score, draw(right), draw(right)


def outcomes(advantage: NDArray[np.float32], local: Right, remote: Right) -> list[tuple[float, float]]:
    """By hand: for each advantage there is, forward all below it, then everything. Share forwarded and accuracy."""
    found = []
    for bound in [*sorted(set(advantage.tolist())), np.inf]:
        asked = [a < bound for a in advantage]
        right = [r if ask else own for ask, own, r in zip(asked, local, remote, strict=True)]
        found.append((sum(asked) / len(asked), sum(right) / len(right)))
    return found


@given(situations())
def test_the_curve_counts_what_each_threshold_forwards(situation: Situation) -> None:
    """Every point that the advantages can reach, from nothing to everything, and no other."""
    table, score, local, remote = situation
    curve = operating_curve(table(score), local, remote)
    assert [(p.offload_rate, p.accuracy) for p in curve] == outcomes(table(score), local, remote)
    assert all(a.threshold < b.threshold for a, b in pairwise(curve))
    for point in curve:
        assert np.mean(table(score) < np.float32(point.threshold)) == point.offload_rate
        assert point.offload_interval[0] <= point.offload_rate <= point.offload_interval[1]
        assert point.accuracy_interval[0] <= point.accuracy <= point.accuracy_interval[1]
        assert point.n == len(score)


@given(situations())
def test_the_curve_ends_with_either_model_alone(situation: Situation) -> None:
    """Nothing forwarded is the local model's accuracy, everything forwarded the remote's."""
    table, score, local, remote = situation
    first, *_, last = operating_curve(table(score), local, remote)
    assert (first.offload_rate, first.accuracy) == (0.0, local.mean())
    assert (last.offload_rate, last.accuracy) == (1.0, remote.mean())


@given(situations(), st.integers(0, 99).map(lambda percent: percent / 100))
def test_the_plan_is_the_most_that_the_budget_and_the_advantage_allow(situation: Situation, budget: float) -> None:
    """As many as fit, lowest advantage first; none at an advantage of 0 or more; never above the budget."""
    table, score, local, remote = situation
    advantage = table(score)
    policy = plan(score, local, remote, table, budget=budget, estimate="labels")
    shares = [0.0, *(np.mean(advantage <= worst) for worst in advantage[advantage < 0])]
    assert policy.chosen.offload_rate == max(share for share in shares if share <= budget)
    assert policy.chosen.offload_rate == np.mean(advantage < np.float32(policy.threshold))
    assert policy.chosen.threshold == policy.threshold
    assert policy.curve == operating_curve(advantage, local, remote)
    assert (policy.estimate, policy.budget, policy.table) == ("labels", budget, table)


@given(situations())
def test_no_budget_forwards_nothing(situation: Situation) -> None:
    """Not even the worst conceivable advantage."""
    table, score, local, remote = situation
    policy = plan(score, local, remote, table, budget=0.0, estimate="labels")
    assert policy.chosen.offload_rate == 0.0
    assert not (np.float32(-1.0) < np.float32(policy.threshold))


@pytest.mark.parametrize("bins", [1, 5])
def test_a_remote_that_is_better_everywhere_is_always_asked(bins: int) -> None:
    """With no limit on the budget, and a disadvantage in every bin, every input is forwarded."""
    score = np.linspace(0.3, 0.9, 100, dtype=np.float32)
    table = advantage_table(score, score, np.ones_like(score), bins)
    right = np.ones(100, bool)
    assert plan(score, ~right, right, table, budget=1.0, estimate="confidences").chosen.offload_rate == 1.0


@pytest.mark.parametrize("budget", [-0.1, 1.1, np.nan, np.inf])
def test_a_budget_that_is_no_rate_is_refused(budget: float) -> None:
    """One sentence that names it."""
    score = np.linspace(0, 1, 20, dtype=np.float32)
    table = advantage_table(score, score, score, bins=2)
    with pytest.raises(CalibrationError, match=r"^budget: .*0 to 1"):
        plan(score, score > 0.5, score > 0.5, table, budget=budget, estimate="labels")
