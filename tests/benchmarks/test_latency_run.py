"""`edgecascade bench latency` end to end: cells in their own processes, resumed runs, networks, wrong arguments."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecascade.benchmarks.device.environment import read_environment
from edgecascade.benchmarks.latency.cell import Cell
from edgecascade.benchmarks.latency.connection import round_trips
from edgecascade.benchmarks.latency.plan import Request, Scenario, Subject
from edgecascade.benchmarks.latency.report import latency_findings, latency_sections, latency_summary
from edgecascade.benchmarks.latency.run import LatencyRun, run_latency
from edgecascade.benchmarks.network import Profile
from edgecascade.benchmarks.network.proxy import shaped
from edgecascade.benchmarks.report.contents import Report
from edgecascade.benchmarks.report.result import result_document, result_schema
from edgecascade.benchmarks.server import serving
from edgecascade.benchmarks.stored import decode
from edgecascade.cli import main
from edgecascade.types.estimate import Estimate


@pytest.fixture(scope="module")
def request_(pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Request:
    """Return a request for two cells, as short as possible."""
    return Request(
        file=str(pair / "local.onnx"),
        data=str(pair / "test.npz"),
        report=str(tmp_path_factory.mktemp("report")),
        subjects=(Subject.LOCAL,),
        scenarios=(Scenario.SINGLE_STREAM, Scenario.SERVER),
        seconds=0.2,
        queries=10,
        warm_up=4,
    )


@pytest.fixture(scope="module")
def run(request_: Request) -> LatencyRun:
    """Return one run, shared by the tests."""
    return run_latency(request_)


def test_a_run_measures_every_requested_cell(run: LatencyRun) -> None:
    """Each is measured once, and the server's inputs arrive at half the rate of single stream."""
    assert [cell.name for cell in run.cells] == ["local only, single stream", "local only, server"]
    single, served = run.cells
    assert served.plan.qps == pytest.approx(single.throughput / 2, abs=0.001)
    assert run.reused == 0
    assert run.agreement is None
    assert not list(Path().glob("mlperf_log*"))


def test_a_finished_run_is_reused(run: LatencyRun, request_: Request) -> None:
    """The cells are identical, and the findings mention the reuse."""
    again = run_latency(request_)
    assert again.cells == run.cells
    assert again.reused == 2
    assert any("reused from an earlier run" in line for line in latency_findings(again))


def test_an_interrupted_run_resumes(run: LatencyRun, request_: Request) -> None:
    """Only a missing or damaged cell is measured; the others stay unchanged."""
    stored = sorted(Path(request_.report, "cells").glob("*.json"))
    assert len(stored) == 2
    served = next(path for path in stored if json.loads(path.read_text())["found"]["plan"]["scenario"] == "server")
    whole = served.read_bytes()
    served.write_bytes(whole[: len(whole) // 2])
    again = run_latency(request_)
    served.write_bytes(whole)
    assert again.reused == 1
    assert again.cells[0] == run.cells[0]
    assert again.cells[1] != run.cells[1]


def test_a_cell_is_not_reused_for_another_model_or_argument(
    run: LatencyRun, request_: Request, pair: Path, tmp_path: Path
) -> None:
    """Another threshold, other data and another duration are all measured anew in the same folder."""
    moved = ["recalibrate", str(pair / "local.onnx"), "--offload-rate", "0.1", "-o", str(tmp_path / "moved.onnx")]
    assert main(moved) == 0
    images = {name: array[::-1] for name, array in np.load(pair / "test.npz").items() if name != "names"}
    np.savez(tmp_path / "reversed.npz", **images)
    single = replace(request_, scenarios=(Scenario.SINGLE_STREAM,))
    changes: list[dict[str, Any]] = [
        {"file": str(tmp_path / "moved.onnx")},
        {"data": str(tmp_path / "reversed.npz")},
        {"seconds": 0.25},
    ]
    for change in changes:
        other = run_latency(replace(single, **change))
        assert other.reused == 0, change
        assert other.cells[0] != run.cells[0]


def test_a_cell_survives_a_round_trip(run: LatencyRun) -> None:
    """JSON preserves every value."""
    for cell in run.cells:
        assert decode(Cell, json.loads(json.dumps(asdict(cell)))) == cell


def test_a_run_is_written_as_page_text_and_document(run: LatencyRun) -> None:
    """Tables are rectangular, there is one picture, and the document follows its schema."""
    from jsonschema import validate

    sections = latency_sections(run)
    for table in (table for section in sections for table in section.tables):
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.columns)} != {0}
        assert len(table.columns) <= 6
    (figure,) = (figure for section in sections for figure in section.figures)
    assert figure.svg.startswith("<svg")
    assert "not an MLPerf submission" in latency_summary(run)
    report = Report("t", latency_findings(run), sections, ("m",), "edgecascade bench latency", {"latency": run})
    document = json.loads(json.dumps(result_document(report, read_environment())))
    validate(document, result_schema())
    cell = document["latency"]["cells"][0]
    assert (cell["latency"]["p50"]["better"], cell["right"]["better"]) == ("lower", "higher")


def test_a_part_slower_than_the_whole_is_reported(run: LatencyRun) -> None:
    """The machine was slower during that cell; a difference within the intervals is not reported."""
    whole, whole_latency = run.cells[0], run.cells[0].latency
    assert whole_latency is not None
    half = whole_latency.at("p50")
    assert half is not None

    def beside(low: float) -> str:
        slow = replace(whole_latency, p50=Estimate(2 * half.value, low, 3 * half.high, half.n))
        alone = replace(whole, plan=replace(whole.plan, subject=Subject.ALONE), latency=slow)
        return " ".join(latency_findings(replace(run, cells=(*run.cells, alone))))

    assert "The model alone took 2.00 times" in beside(1.5 * half.high)
    assert "this machine's speed changed" not in beside(half.high)
    assert "this machine's speed changed" not in " ".join(latency_findings(run))


def test_a_network_is_placed_between_device_and_remote(pair: Path, tmp_path: Path) -> None:
    """A small request to the remote takes at least the time that the profile adds."""
    profile = Profile("test", "for this test", latency=0.02, jitter=0.0, up=1e8, down=1e8)
    with serving(pair / "remote.onnx", name="all", threads=1, log=tmp_path / "log") as direct:
        with shaped(direct, profile) as address:
            found = round_trips(direct, address, n=10)
        assert round_trips(direct, "http://127.0.0.1:9/v2/models/all", n=10) is None
    assert found is not None
    assert found.shaped.low >= 0.038
    assert found.added > 0.02
    assert found.bare.n == found.shaped.n == 10
    assert found.failed == 0
    assert round_trips("grpc://127.0.0.1:9/v2/models/m", "grpc://127.0.0.1:9/v2/models/m") is None


@pytest.mark.slow
def test_a_profile_is_applied_and_reported(pair: Path, tmp_path: Path) -> None:
    """Forwarded answers take at least its round trip."""
    request = Request(
        file=str(pair / "local.onnx"),
        data=str(pair / "test.npz"),
        report=str(tmp_path),
        remote=str(pair / "remote.onnx"),
        subjects=(Subject.REMOTE, Subject.CASCADE),
        scenarios=(Scenario.SINGLE_STREAM,),
        networks=("direct", "wifi"),
        seconds=0.5,
        queries=40,
        deadline=10.0,
    )
    run = run_latency(request)
    names = ["remote only", "cascade"]
    assert [cell.name for cell in run.cells] == [
        f"{name}, single stream, {network}" for name in names for network in ("direct", "wifi")
    ]
    (network,) = run.networks
    assert network.name == "wifi"
    assert network.probed is not None
    assert network.remote is not None
    assert network.remote.added > 0.002
    far, cascade = run.cells[1], run.cells[3]
    assert far.latency is not None
    assert far.latency.p50 is not None
    assert far.latency.p50.value > 0.004
    assert cascade.forwards is not None
    assert cascade.forwards.forwarded is not None
    assert cascade.forwards.forwarded.mean is not None
    assert cascade.forwards.forwarded.mean > 0.004
    assert "wifi: round trip, ms" in latency_summary(run)
    assert run_latency(request).reused == 5


_WRONG = (
    (["--deadline", "0"], ["--deadline", "0.0"]),
    (["--seconds", "nan"], ["--seconds", "nan"]),
    (["--queries", "0"], ["--queries", "got 0"]),
    (["--qps", "-1"], ["--qps", "-1.0"]),
    (["--warm-up", "-1"], ["--warm-up", "got -1"]),
    (["--threads", "0"], ["--threads", "got 0"]),
    (["--subject", "cascade"], ["--subject", "--remote", "cascade"]),
    (["--network", "lan"], ["--network", "--remote", "lan"]),
    (["--network", "moon"], ["--network", "direct", "wifi", "moon"]),
    (["--remote", "nowhere.onnx"], ["--remote", "nowhere.onnx"]),
    (["--remote", "http://192.0.2.1:80/v2/models/m", "--network", "lan"], ["--network", "this machine", "192.0.2.1"]),
    (["--providers", "gpu"], ["providers", "auto", "gpu"]),
    (["--scenario", "offline", "--scenario", "offline"], ["--scenario", "offline"]),
)


@pytest.mark.parametrize(("arguments", "named"), _WRONG)
def test_wrong_arguments_are_refused_in_one_line(
    pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], named: list[str]
) -> None:
    """The line names the argument, the value found and the values expected; nothing is measured or written."""
    command = ["bench", "latency", str(pair / "local.onnx"), "--data", str(pair / "test.npz")]
    assert main([*command, "--out", str(tmp_path / "report"), *arguments]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert [part for part in named if part not in said[0]] == []
    assert not (tmp_path / "report").exists()


def test_a_failed_cell_ends_the_run_with_its_reason(pair: Path, tmp_path: Path) -> None:
    """Its process reports one sentence."""
    np.savez(tmp_path / "other.npz", x=np.zeros((20, 4), np.float32), y=np.zeros(20, np.int64))
    with pytest.raises(Exception, match=r"local only, offline: x: expected uint8"):
        run_latency(
            Request(
                file=str(pair / "local.onnx"),
                data=str(tmp_path / "other.npz"),
                report=str(tmp_path / "report"),
                subjects=(Subject.LOCAL,),
                scenarios=(Scenario.OFFLINE,),
                seconds=0.2,
            )
        )
