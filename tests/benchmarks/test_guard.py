"""The guard reports goal, figure and outcome of every check."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgecascade.benchmarks.stored import decode
from edgecascade.types.estimate import Estimate
from studies.coverage import Coverage
from studies.guard import Check, Guard, calibration_checks, runtime_checks
from studies.overshoot import Overshoot
from studies.populations import REAL
from studies.runtime_costs import RuntimeCosts

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def _committed(name: str) -> Any:
    return json.loads((RESULTS / name / "result.json").read_text())[name]


@pytest.fixture
def coverage() -> Coverage:
    """Return the committed run."""
    return decode(Coverage, _committed("coverage"))


@pytest.fixture
def cost() -> RuntimeCosts:
    """Return the committed run."""
    return decode(RuntimeCosts, _committed("runtime"))


def test_calibration_is_compared_with_its_goals(coverage: Coverage) -> None:
    """The checks cover time and memory of the fit, the policies, averaging, and each figure with a goal."""
    checks = list(calibration_checks(coverage))
    assert [check.goal for check in checks[:2]] == [0.1, 0.05]
    built_in = [row for row in coverage.rows if row.population in REAL]
    below = [figure.value for row in built_in for figure in row.figures if "below" in figure.name]
    assert [check.value for check in checks if "below" in check.name and "mean" not in check.name] == below
    (gain,) = (check for check in checks if check.unit == "points" and check.better == "higher")
    assert (gain.goal, "comparable" in gain.name) == (2.0, True)
    names = {check.name.partition(", mean over populations")[0] for check in checks}
    assert names >= {figure.name for figure in coverage.overall if figure.least is not None}


def test_the_runtime_is_compared_with_its_goals(cost: RuntimeCosts) -> None:
    """Each ratio with a goal appears once, and memory, lateness and size have the units of their goals."""
    checks = list(runtime_checks(replace(cost, overshoots=())))
    goals = [one.goal for one in (cost.head.bound, *cost.ratios) if one.goal is not None]
    assert [check.goal for check in checks] == [*goals, 5.0, 2.0, 1.0]
    memory, late, on_device = checks[-3:]
    assert memory.value == pytest.approx(cost.memory.value - cost.bare_memory.value)
    assert late.value == pytest.approx(1e3 * (cost.lateness.value - cost.overslept.value))
    assert on_device.value == cost.on_device
    one = Overshoot("hostile", 0.0, Estimate(0.004, 0.0, 0.1, 9), 0.1, 0.0, Estimate(0.003, 0.0, 0.1, 99), 0.1)
    (further,) = (check for check in runtime_checks(replace(cost, overshoots=(one,))) if "hostile" in check.name)
    assert further.value == pytest.approx(1.0)
    assert (further.goal, further.n) == (2.0, 9)


@pytest.mark.parametrize(
    ("value", "better", "met"),
    [(1.1, "lower", True), (1.2, "lower", False), (1.2, "higher", True), (1.0, "higher", False)],
)
def test_a_missed_goal_is_reported_and_counted(value: float, better: Any, met: bool) -> None:
    """The figure itself decides, not the more favourable end of its interval."""
    check = Check("runtime", "speed", value, 1.0, 1.3, 15, 1.1, better=better)
    assert check.met == met
    assert str(check).startswith("met " if met else "MISSED")
    assert f"measured {value:g} (1 to 1.3, n = 15)" in str(check)
    assert str(Guard((check,))).endswith(f"1 goals, {0 if met else 1} missed")
