"""The offload benchmark of general tasks, on values whose truth is known."""

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from documents import some_task_document
from edgecascade.benchmarks.report import write_page
from edgecascade.benchmarks.report.result import result_schema
from edgecascade.benchmarks.tasks import TaskOffload, TaskValues, measure_values, task_report, task_summary
from edgecascade.cli import main
from edgecascade.types.document import Certificate
from edgecascade.types.errors import BenchmarkError
from general_tasks import text_pair


def simulated(n: int, seed: int = 0) -> TaskValues:
    """Return values whose expectation is the confidence; the remote is worth 0.8 throughout."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.2, 1.0, n).astype(np.float32)
    local = rng.beta(4 * confidence, 4 * (1 - confidence) + 1e-9)
    advantage = (confidence - 0.8).astype(np.float32)
    return TaskValues(10 * confidence, confidence, advantage, advantage < -0.2, local, rng.beta(4, 1, n))


@pytest.fixture(scope="module")
def result() -> TaskOffload:
    """Return the measurement of 2,000 inputs."""
    return measure_values(some_task_document(), simulated(2_000))


def test_rows_are_means_of_the_values(result: TaskOffload) -> None:
    """Every mean lies in its interval, and a lead is the difference of the means."""
    v = result.values
    assert result.local.accuracy.value == pytest.approx(v.local.mean())
    assert result.remote.accuracy.value == pytest.approx(v.remote.mean())
    assert result.cascade.accuracy.value == pytest.approx(np.where(v.forward, v.remote, v.local).mean())
    for one in (*result.strategies, *result.points):
        assert 0 <= one.accuracy.low <= one.accuracy.value <= one.accuracy.high <= 1
        if one.gap is not None:
            assert one.gap.value == pytest.approx(result.cascade.accuracy.value - one.accuracy.value)


def test_points_agree_with_the_curve_and_with_both_ends(result: TaskOffload) -> None:
    """No order is above the oracle's, and the plan's is above a random one here."""
    for one in result.points:
        rate = one.offload.value
        at = {name: curve.at(rate) for name, curve in result.curves.items()}
        assert one.accuracy.value == pytest.approx(at["advantage"])
        assert at["advantage"] <= at["oracle"] + 1e-9
    assert result.points[0].accuracy.value == pytest.approx(result.local.accuracy.value)
    assert result.points[-1].accuracy.value == pytest.approx(result.remote.accuracy.value)
    area = result.areas["advantage"]
    assert area is not None
    assert 0 < area.area.low < area.area.value <= 1
    by_name = {one.name: one.accuracy.value for one in result.strategies}
    assert by_name["random, same rate"] < by_name["cascade"] < by_name["oracle, same rate"]


def test_the_calibration_error_of_a_true_confidence_vanishes(result: TaskOffload) -> None:
    """Less its bias it is about 0, and that of a wrong confidence is not."""
    assert result.corrected_ece.low <= 0.005
    wrong = replace(result.values, confidence=result.values.confidence**3)
    assert measure_values(result.document, wrong).corrected_ece.low > 0.05


@pytest.mark.parametrize(("loss", "outcome"), [(0.5, "held"), (0.0001, "inconclusive")])
def test_a_certificate_is_compared_with_the_loss(loss: float, outcome: str) -> None:
    """The loss is the remote's mean value less that of the file's decisions."""
    document = some_task_document(certificate=Certificate(loss, 0.05, 0.0, 0.3, 1000, 0.01))
    found = measure_values(document, simulated(300)).plan_check
    v = simulated(300)
    assert found.measured.value == pytest.approx((v.remote - v.decided).mean())
    assert found.outcome == outcome or found.measured.low > loss


def test_the_page_is_written_with_every_figure(result: TaskOffload, tmp_path: Path) -> None:
    """The document fits the schema of all benchmarks, and the summary names both models."""
    summary = task_summary(result)
    report = task_report(result, title="Title", method="Method.", command="edgecascade bench offload f")
    page = write_page(report, tmp_path, summary=summary)
    assert page.is_file()
    document = json.loads((tmp_path / "result.json").read_text())
    jsonschema.validate(document, result_schema())
    assert document["offload"]["strategies"][0]["accuracy"]["better"] == "higher"
    for name in ("local only", "remote only", "random, same rate", "oracle, same rate"):
        assert name in summary
    assert (tmp_path / "value-curve.svg").is_file()


def test_columns_that_do_not_fit_are_refused() -> None:
    """So are too few inputs, and a confidence that is not a number."""
    v = simulated(20)
    with pytest.raises(BenchmarkError, match=r"^values: .*remote \[19\]"):
        measure_values(some_task_document(), replace(v, remote=v.remote[:-1]))
    with pytest.raises(BenchmarkError, match=r"^values: expected at least 10 rows.*local \[9\]"):
        measure_values(some_task_document(), simulated(9))
    broken = v.confidence.copy()
    broken[3] = np.nan
    with pytest.raises(BenchmarkError, match=r"^confidence: expected numbers, got nan for input 3$"):
        measure_values(some_task_document(), replace(v, confidence=broken))


def test_models_of_equal_value_leave_nothing_to_order() -> None:
    """There is no area, and the report says so."""
    v = simulated(50)
    found = measure_values(some_task_document(), replace(v, remote=v.local))
    assert found.areas["advantage"] is None
    assert "no order is better" in task_summary(found)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a calibrated pair of text recognisers, whose file is `local.onnx`."""
    folder = text_pair(tmp_path_factory.mktemp("lines"))
    command = ["calibrate", str(folder / "body.onnx"), "--remote", str(folder / "large.onnx"), "--task", "ocr"]
    command += ["--data", str(folder / "calibration"), "--decode", f"ctc:characters={folder / 'keys.txt'}"]
    assert main([*command, "--offload-rate", "0.3", "-o", str(folder / "local.onnx")]) == 0
    return folder


def bench(folder: Path, *further: str, data: str = "test") -> list[str]:
    """Return the arguments that measure the pair of text recognisers."""
    command = ["bench", "offload", str(folder / "local.onnx"), "--remote", str(folder / "large.onnx")]
    return [*command, "--data", str(folder / data), "--deadline", "60", "-o", str(folder / "report"), *further]


def test_the_command_measures_a_file(lines: Path) -> None:
    """The served answers agree with the decisions on saved outputs, and the cascade is better than random."""
    assert main(bench(lines, "--decode", f"ctc:characters={lines / 'keys.txt'}")) == 0
    found = json.loads((lines / "report" / "result.json").read_text())["offload"]
    by_name = {one["name"]: one["accuracy"] for one in found["strategies"]}
    assert found["n"] == 300
    assert by_name["cascade"]["value"] == by_name["the file's decision, nothing late or lost"]["value"]
    assert by_name["cascade"]["low"] > by_name["random, same rate"]["value"]
    assert by_name["local only"]["value"] < by_name["cascade"]["value"] < by_name["oracle, same rate"]["value"]
    assert found["served"]["reasons"]["offloaded"] + found["served"]["reasons"]["confident"] == 300
    assert [one["name"] for one in found["plan_check"]["plan"]] == ["offload rate", "mean value"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--verifier", "within:tolerance=1"), "expected numbers"),
        (("--verifier", "magic"), "--verifier: expected"),
        ((), "--decode: expected"),
    ],
)
def test_measuring_with_other_parts_is_refused(
    lines: Path, change: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 2, with one sentence."""
    decode = ("--decode", f"ctc:characters={lines / 'keys.txt'}") if change else ()
    assert main([*bench(lines, *decode, *change)]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_the_calibration_data_are_refused(lines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is measured on the inputs that the file was planned on."""
    assert main(bench(lines, "--decode", f"ctc:characters={lines / 'keys.txt'}", data="calibration")) == 2
    assert "expected inputs that nothing was fitted on" in capsys.readouterr().err
