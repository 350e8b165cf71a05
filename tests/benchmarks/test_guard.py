"""The guard says of every promise what was asked, what was measured, and whether that meets it."""

import json
from pathlib import Path
from typing import Any

import pytest

from edgecascade.benchmarks.certificate_draws import CertificateDraws
from edgecascade.benchmarks.fit_speed import FitSpeed
from edgecascade.benchmarks.guard import Check, Guard, calibration_checks, runtime_checks
from edgecascade.benchmarks.head_cost import HeadCost
from edgecascade.benchmarks.policy_splits import PolicyAtRate
from edgecascade.benchmarks.promises import Promises
from edgecascade.benchmarks.ratio import Ratio
from edgecascade.benchmarks.runtime_cost import RuntimeCost
from edgecascade.types.estimate import Estimate

KEPT = Path(__file__).parents[2] / "benchmarks" / "results"


def _kept(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((KEPT / name / "result.json").read_text())
    return document


@pytest.fixture
def promises() -> Promises:
    """The kept run."""
    kept = _kept("promises")
    return Promises(
        splits=kept["splits"],
        calibration=kept["calibration"],
        policies={pair: [PolicyAtRate(**row) for row in rows] for pair, rows in kept["policies"].items()},
        rule=kept["rule"],
        certificates={pair: [CertificateDraws(**row) for row in rows] for pair, rows in kept["certificates"].items()},
        by_bins={},
        by_inputs={},
        fit=FitSpeed(**kept["fit"]),
    )


@pytest.fixture
def cost() -> RuntimeCost:
    """The kept run."""
    kept = _kept("runtime")
    return RuntimeCost(
        head=HeadCost(*(Ratio(**kept["head"][name]) for name in ("bound", "run"))),
        ratios=tuple(Ratio(**one) for one in kept["ratios"]),
        memory=Estimate(**kept["memory"]),
        bare_memory=Estimate(**kept["bare_memory"]),
        installed=kept["installed"],
        lateness=Estimate(**kept["lateness"]),
        overslept=Estimate(**kept["overslept"]),
    )


def test_calibration_is_held_to_what_it_promises(promises: Promises) -> None:
    """The fit's time and memory, the policy on every pair, averaging, and the certificate on two pairs."""
    checks = list(calibration_checks(promises))
    assert [check.goal for check in checks] == [0.1, 0.05, 0.2, 0.2, 2.0, 0.2, 0.05, 1.25, 0.05, 1.25]
    worst = {pair: min(row.shortfall for row in rows) for pair, rows in promises.policies.items()}
    shortfalls = [check.value for check in checks if "below the best" in check.name]
    assert shortfalls == pytest.approx([-100 * worst[pair] for pair in promises.policies])
    (gain,) = (check for check in checks if check.at_least)
    assert gain.value == pytest.approx(
        max(
            100 * (row.accuracy["policy"] - max(row.local, row.remote))
            for row in promises.policies["comparable"]
            if row.offload <= 0.35
        )
    )


def test_the_runtime_is_held_to_what_it_promises(cost: RuntimeCost) -> None:
    """Each ratio that has a goal, once, and memory, lateness and size in the units of their goals."""
    checks = list(runtime_checks(cost))
    goals = [one.goal for one in (cost.head.bound, *cost.ratios) if one.goal is not None]
    assert [check.goal for check in checks] == [*goals, 5.0, 2.0, 1.0]
    memory, late, installed = checks[-3:]
    assert memory.value == pytest.approx(cost.memory.value - cost.bare_memory.value)
    assert (late.value, late.low, late.high) == pytest.approx(
        tuple(1e3 * seconds for seconds in (cost.lateness.value, cost.lateness.low, cost.lateness.high))
    )
    assert installed.value == cost.installed


@pytest.mark.parametrize(
    ("value", "at_least", "met"), [(1.1, False, True), (1.2, False, False), (1.2, True, True), (1.0, True, False)]
)
def test_a_goal_is_missed_aloud(value: float, at_least: bool, met: bool) -> None:
    """By the figure itself, not by the kinder end of its interval; and counted."""
    check = Check("runtime", "speed", value, 1.0, 1.3, 15, 1.1, at_least=at_least)
    assert check.met == met
    assert str(check).startswith("met " if met else "MISSED")
    assert f"measured {value:g} (1 to 1.3, n = 15)" in str(check)
    assert str(Guard((check,))).endswith(f"1 goals, {0 if met else 1} missed")
