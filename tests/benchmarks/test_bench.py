"""`edgecascade bench offload` on a small pair of models with a known result."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecascade.benchmarks.server import serving
from edgecascade.cli import main


def _bench(pair: Path, report: Path, remote: str, *more: str) -> dict[str, Any]:
    arguments = ["bench", "offload", str(pair / "local.onnx"), "--remote", remote, "--data", str(pair / "test.npz")]
    assert main([*arguments, "--out", str(report), *more]) == 0
    document: dict[str, Any] = json.loads((report / "result.json").read_text())["offload"]
    return document


@pytest.fixture(scope="module")
def result(pair: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the result of one run with the remote in this process and a long deadline."""
    return _bench(pair, tmp_path_factory.mktemp("report"), str(pair / "remote.onnx"), "--deadline", "30")


def _strategy(result: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (s for s in result["strategies"] if s["name"] == name)
    return dict(found)


def test_every_input_is_counted_once(result: dict[str, Any]) -> None:
    """The answers by reason add up to the test inputs, and every answer that is not local was forwarded."""
    reasons = result["served"]["reasons"]
    assert sum(reasons.values()) == result["n"] == 400
    rate = _strategy(result, "cascade")["offload"]["value"]
    assert rate == pytest.approx(1 - reasons["confident"] / 400)


def test_the_served_accuracy_equals_the_planned_one(result: dict[str, Any]) -> None:
    """Without late or lost answers, the served accuracy is that of the saved outputs."""
    planned = _strategy(result, f"plan, merge {result['cascade_model']['policy']['merge']} (the file)")
    cascade = _strategy(result, "cascade")
    assert (cascade["offload"], cascade["accuracy"]) == (planned["offload"], planned["accuracy"])


def test_the_cascade_lies_between_random_and_the_oracle(result: dict[str, Any]) -> None:
    """The cascade is more accurate than random offloading and less accurate than the oracle."""
    accuracy = {s["name"]: s["accuracy"]["value"] for s in result["strategies"]}
    assert accuracy["local only"] < accuracy["random, same rate"] < accuracy["cascade"]
    assert accuracy["cascade"] < accuracy["oracle, same rate"]


def test_the_offload_rate_is_near_the_planned_one(result: dict[str, Any]) -> None:
    """A rate of 30 % planned on 600 images holds on 400 test images within sampling error."""
    offload = _strategy(result, "cascade")["offload"]
    assert abs(offload["value"] - 0.3) < 4 * np.sqrt(0.3 * 0.7 * (1 / 400 + 1 / 600))


def test_every_estimate_has_its_interval_and_n(result: dict[str, Any]) -> None:
    """Every figure of the result has an interval and n."""

    def estimates(node: Any) -> list[dict[str, Any]]:
        if isinstance(node, dict) and "low" in node:
            return [node]
        children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
        return [e for child in children for e in estimates(child)]

    found = estimates({k: result[k] for k in ("strategies", "corrected_ece", "served")})
    assert len(found) > 20
    for estimate in found:
        assert estimate["low"] <= estimate["value"] + 1e-9 <= estimate["high"] + 2e-9
        assert estimate["n"] > 0


def test_the_page_is_self_contained(pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is one file without scripts or links, and begins with the four lines that the command prints last."""
    _bench(pair, tmp_path, str(pair / "remote.onnx"))
    page = (tmp_path / "report.html").read_text()
    printed = capsys.readouterr().out.strip().splitlines()[-4:]
    assert all(line in page for line in printed)
    assert page.count("data:image/svg+xml") == 4
    assert not re.search(r"<script|<link|src=\"(?!data:)|srcset=\"(?!data:)|@import|url\(", page)


@pytest.mark.slow
def test_a_served_remote_gives_the_same_decisions(pair: Path, result: dict[str, Any], tmp_path: Path) -> None:
    """A remote in a second process gives the same accuracy over the network, and its bytes are counted."""
    with serving(pair / "remote.onnx", name="all", threads=1, log=tmp_path / "log") as address:
        served = _bench(pair, tmp_path / "report", address, "--deadline", "30")
    assert _strategy(served, "cascade") == _strategy(result, "cascade")
    forwarded = 400 - served["served"]["reasons"]["confident"]
    assert served["served"]["requests"] == forwarded
    assert served["served"]["sent"] > forwarded * 8 * 8 * 3


def test_an_unreachable_remote_ends_in_one_sentence(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The comparison needs the remote's outputs."""
    address = "http://127.0.0.1:9/v2/models/none"
    assert (
        main(["bench", "offload", str(pair / "local.onnx"), "--remote", address, "--data", str(pair / "test.npz")]) == 2
    )
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith(f"edgecascade: {address}: it failed after 0")


@pytest.mark.slow
def test_the_demo_runs_from_pretrained_weights_to_a_report(tmp_path: Path) -> None:
    """On fewer images, it downloads the data, prepares two networks, serves the remote and writes the page."""
    assert main(["bench", "demo", "--pair", "flagship", "--images", "1200,300,300", "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "result.json").read_text())["offload"]
    assert sum(result["served"]["reasons"].values()) == 300
    accuracy = {s["name"]: s["accuracy"]["value"] for s in result["strategies"]}
    assert 0.6 < accuracy["local only"] < accuracy["remote only"]
    assert result["cascade_model"]["preprocessing"]["height"] == 96
