"""What notebooks show: well-formed tables with every figure, and pictures of them."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat_files import chat_document
from edgecascade.calibration import MostAccuracy, TaskPlan, plan_task, reliability
from edgecascade.calibration.cleaning import Experts, Suspects, draw_audit, find_suspects, fit_pool, judge
from edgecascade.runtime import Cascade
from edgecascade.runtime.columns import Columns
from edgecascade.types.estimate import Estimate, OperatingPoint, curve_table
from edgecascade.types.notebook import as_html, curve_picture, picture

POINTS = [
    OperatingPoint(t, rate, value, (rate, rate), (0, 1), (value - 0.1, value + 0.1), 100)
    for t, rate, value in ((-1.0, 0.0, 0.7), (0.0, 0.4, 0.9), (1.0, 1.0, 0.8))
]


def shown(result: Any) -> tuple[str, list[ET.Element]]:
    """Return the text of what a notebook shows, and the pictures in it."""
    table = ET.fromstring(result._repr_html_())
    return " ".join(table.itertext()), table.findall(".//svg")


@pytest.fixture(scope="module")
def suspects() -> Suspects:
    """Return suspects among 2000 labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 2000)
    given = np.where(rng.random(2000) < 0.1, (labels + 1) % 3, labels)
    experts = Experts.of([5 * np.eye(3)[labels] + rng.normal(size=(2000, 3))])
    return find_suspects(experts, given, fit_pool(experts, given))


@pytest.fixture(scope="module")
def task_plan() -> TaskPlan:
    """Return a plan of graded answers."""
    score = np.random.default_rng(0).random(300)
    return plan_task(score, score > 0.5, np.ones(300), MostAccuracy(0.3))


def test_a_file_shows_its_document(pair: Path) -> None:
    """With what `inspect` says about it, and its operating curve."""
    with Cascade.load(pair / "local.onnx") as cascade:
        text, pictures = shown(cascade.document)
    assert "red, green, blue" in text
    assert f"T = {cascade.document.calibration.temperature:.4f}" in text
    (circle,) = pictures[0].findall("circle")
    assert float(circle.attrib["cx"]) > 0


def test_columns_show_their_counts_and_confidences(pair: Path) -> None:
    """Empty ones show that there are none."""
    images = np.load(pair / "test.npz")["x"]
    with Cascade.load(pair / "local.onnx") as cascade:
        columns, none = cascade.decide(images), cascade.decide(images[:0])
    text, pictures = shown(columns)
    assert f"{int(columns.forward.sum())} ({columns.forward.mean():.1%})" in text
    assert len(pictures) == 1
    assert shown(none)[1] == []
    nothing, numbers = np.zeros((2, 0), np.float32), np.full(2, np.nan, np.float32)
    task = Columns.decided(np.full(2, -1), numbers, numbers, np.zeros(2, bool), nothing)
    assert "2 (100.0%)" in shown(task)[0]


def test_suspects_show_the_most_suspect(suspects: Suspects) -> None:
    """Ten of them, printed or in a notebook; a judgement shows what it proves."""
    text, pictures = shown(suspects)
    for row in suspects.row[:10]:
        assert f"row {row}" in text
        assert f"row {row} " in str(suspects)
    assert f"row {suspects.row[10]} " not in text
    assert len(pictures) == 1
    audit = draw_audit(suspects, 50)
    judged = judge(suspects, audit, dict.fromkeys(audit.rows.tolist(), "suggested"))
    assert all(line in shown(judged)[0] for line in judged.lines())


def test_plans_and_reliability_show_a_picture(task_plan: TaskPlan) -> None:
    """So do the document of two chat endpoints and a plan without temperatures."""
    for result in (task_plan, task_plan.policy, reliability(np.linspace(0.1, 0.9, 50), np.arange(50) > 20)):
        assert len(shown(result)[1]) == 1
    document = replace(chat_document(), operating_curve=tuple(POINTS))
    assert document.policy.objective in shown(document)[0]
    assert len(shown(document)[1]) == 1


def test_a_picture_has_its_points_in_their_places() -> None:
    """The largest value is on top, x = 1 on the right, and the marked point is on the line."""
    drawn = ET.fromstring(picture([0.0, 0.5, 1.0], [2.0, 4.0, 3.0], ("x", "y"), mark=1))
    line = drawn.findall("polyline")[-1].attrib["points"].split()
    across, down = zip(*(map(float, one.split(",")) for one in line), strict=True)
    assert across[0] < across[1] < across[2]
    assert down[1] < down[2] < down[0]
    circle = drawn.find("circle")
    assert circle is not None
    assert f"{circle.attrib['cx']},{circle.attrib['cy']}" == line[1]


def test_a_curve_is_drawn_by_its_cost_where_errors_cost_differently() -> None:
    """With one point there is no line to draw."""
    assert "accuracy" in curve_picture(POINTS, 0.0)
    priced = [replace(one, cost=Estimate(3.0, 2.0, 4.0, 100), cost_band=(1.0, 5.0)) for one in POINTS]
    assert "cost of errors" in curve_picture(priced, 0.0)
    assert ET.fromstring(curve_picture(POINTS, 9.0)).find("circle") is None
    assert curve_picture(POINTS[:1], 0.0) == ""


def test_names_are_escaped() -> None:
    """They may come from a file of someone else."""
    text = as_html([("<b>", "<script>alert(1)</script>\x1b")])
    assert "<script>" not in text
    assert ET.fromstring(text).findall(".//script") == []


@pytest.mark.parametrize(
    ("thresholds", "shown"),
    [
        ((-1.0, 0.25, 1.0), ["-1.0000", "+0.2500", "+1.0000"]),
        ((-1.0, -0.0038121, -0.0038124), ["-1.0000000", "-0.0038121", "-0.0038124"]),
    ],
)
def test_the_thresholds_of_a_table_differ(thresholds: tuple[float, ...], shown: list[str]) -> None:
    """They have four decimals, or as many as it takes."""
    curve = [replace(point, threshold=threshold) for point, threshold in zip(POINTS, thresholds, strict=True)]
    _, *rows = curve_table(curve, 1.0)
    assert [row.split()[0] for row in rows] == shown
