"""The README keeps its word."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecascade.benchmarks.digits import digits, interval
from edgecascade.benchmarks.network import PROFILES
from edgecascade.cli import main
from edgecascade.types.estimate import Estimate

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
FLAGSHIP = ROOT / "benchmarks" / "results" / "flagship"


def test_the_python_examples_run(
    pair: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As printed, one after the other, next to a cascade model, with no server listening: answers are still given."""
    monkeypatch.chdir(pair)
    names: dict[str, Any] = {}
    for example in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(example, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert re.search(r"^(red|green|blue) ", printed)
    assert re.search(r"^edgecascade_answers_total\{.*\} 1$", printed, re.MULTILINE)


def test_the_figures_are_those_of_the_kept_run() -> None:
    """What the README shows and says of the demo is what `make demo` printed and saved."""
    result = json.loads((FLAGSHIP / "result.json").read_text())
    summary = (FLAGSHIP / "summary.txt").read_text()
    table, *_, verdict = summary.rstrip().split("\n\n")
    assert f"```text\n{table}\n\n{verdict}\n```" in README
    before, after = (f"{result['offload']['ece'][f'local {when}']:.3f}".lstrip("0") for when in ("before", "after"))
    assert f"(expected calibration error {before} > {after})" in README
    assert f"`make demo` on {result['environment']['date']}, " in README
    assert f"onnxruntime {result['environment']['versions']['onnxruntime']}" in README


def test_the_table_of_pairs_is_what_the_kept_runs_give() -> None:
    """As `edgecascade bench table` writes it."""
    results = str(ROOT / "benchmarks" / "results")
    assert main(["bench", "table", "--results", results, "--check", str(ROOT / "README.md")]) == 0


def test_the_promises_are_those_of_the_kept_run() -> None:
    """Every figure of that paragraph is in the committed result."""
    result = json.loads((ROOT / "benchmarks" / "results" / "promises" / "result.json").read_text())
    rows = [row for table in result["policies"].values() for row in table]
    assert f"at most {-100 * min(row['shortfall'] for row in rows):.2f} points below" in README
    averaging = next(row for row in result["policies"]["comparable"] if row["rate"] == 0.35)
    assert f"({100 * averaging['local']:.2f} and {100 * averaging['remote']:.2f} % alone)" in README
    assert f"at {averaging['offload']:.1%}".replace("%", " %") in README
    assert f"right on {100 * averaging['accuracy']['policy']:.2f} %" in README
    raw = max(row["accuracy"]["raw confidence"] - row["accuracy"]["policy"] for row in rows)
    assert f"*uncalibrated* confidence is up to {100 * raw:.2f}\n" in README
    for pair, broken in (
        ("small > large", "broken in {} % of 1,000 draws"),
        ("Fashion-MNIST", "on Fashion-MNIST in {} %"),
    ):
        kept = next(row for row in result["certificates"][pair] if row["n"] == 4000)
        low, high = (f"{100 * end:.1f}" for end in kept["broken_interval"])
        assert broken.format(f"{100 * kept['broken'] / kept['draws']:.1f}") in README
        assert f"({low} to {high} %)" in README
        assert f"{kept['offload'] / kept['least']:.2f} times" in README
    ratio = np.median(np.array(result["fit"]["seconds"]) / np.array(result["fit"]["theirs"]))
    assert f"takes {ratio:.3f} of scikit-learn's time" in README


def test_the_shifts_are_those_of_the_kept_run() -> None:
    """Every figure of that paragraph is in the committed result."""
    result = json.loads((ROOT / "benchmarks" / "results" / "corruptions" / "result.json").read_text())
    rows = [row for by_severity in result["shifted"].values() for row in by_severity]

    def points(*names: str, of: list[dict[str, Any]] = rows) -> list[float]:
        """The first figure less the others, in points, sorted."""
        first, *others = names
        return sorted(100 * (row[first]["value"] - sum(row[name]["value"] for name in others)) for row in of)

    assert result["rate"] == 0.2
    assert result["test"] == 1500
    assert result["labelled"] == 500
    rates = points("offload")
    assert f"planned for 20 % forwards {rates[0]:.0f} to {rates[-1]:.0f} %" in README
    assert f"at 20 % costs up to {points('cascade', 'budgeted')[-1]:.1f} points" in README
    noise = result["shifted"]["gaussian_noise"]
    costs = points("local", "cascade", of=noise)
    assert f"asking it costs {costs[0]:.1f} to {costs[-1]:.1f} points" in README
    assert all(row["remote"]["high"] < row["local"]["low"] for row in noise)
    gains = points("replanned", "local", of=noise)
    assert f"(within {max(-gains[0], gains[-1]):.1f} points of never asking)" in README
    assert (
        f"of {100 * result['clean']['ece']['value']:.1f} points grows to as much as {points('ece')[-1]:.1f};" in README
    )
    assert f"brings it to at most {points('refitted_ece')[-1]:.1f}." in README


def test_the_latencies_are_those_of_the_kept_run() -> None:
    """A row for each subject and network of single stream, but for the model alone."""
    result = json.loads((ROOT / "benchmarks" / "results" / "latency" / "result.json").read_text())
    assert f"`{result['command'].removesuffix('`').replace('--pair flagship ', '')}`" in " ".join(README.split())
    rows = []
    for cell in result["latency"]["cells"]:
        subject, network = cell["plan"]["subject"], cell["plan"]["network"]
        if cell["plan"]["scenario"] == "single-stream" and subject != "model alone":
            quantiles = [cell["latency"][name] for name in ("p50", "p99")]
            told = ["too few" if one is None else interval(Estimate(**one), 1e3) for one in quantiles]
            who = subject if network == "direct" else f"{subject}, {network}"
            rows.append(" | ".join([who, *told, digits(cell["throughput"]), str(cell["answers"])]))
    assert len(rows) == 7
    assert all(f"\n| {row} |\n" in README for row in rows)
    harness = result["latency"]["agreement"]["latency"]
    assert f"takes {harness['value']:.3f} ({harness['low']:.3f} to {harness['high']:.3f}) of a bare loop's" in README


def test_the_costs_are_those_of_the_kept_run() -> None:
    """Every figure of that list."""
    result = json.loads((ROOT / "benchmarks" / "results" / "runtime" / "result.json").read_text())
    head = result["head"]["bound"]
    cost, low, high = (f"{100 * (head[name] - 1):.1f}" for name in ("value", "low", "high"))
    assert f"takes {cost} % ({low} to {high}) of the flagship's local model's time" in README
    ours, by_hand, large, large_by_hand, stream, imported, small, image = result["ratios"]
    told = " ".join(README.split())
    assert f"{large['value']:.2f} on that model, {ours['value']:.2f} on a network of {ours['theirs']:.0f} us" in told
    assert f"by hand: {large_by_hand['value']:.2f} and {by_hand['value']:.2f}" in told
    share, value = stream["name"].split("%")[0].split()[-1], f"{stream['value']:.2f}".lstrip("0")
    assert f"forwards {share} % to a remote 50 ms away gives {value} of" in told
    cpu = [f"{one['value']:.2f}".lstrip("0") for one in (small, image)]
    assert f"takes {cpu[0]} of the CPU time of tritonclient's over REST, {cpu[1]} where" in told
    late, bare = (f"{1e3 * result[name]['value']:.1f}" for name in ("lateness", "overslept"))
    assert (
        f"99.9 % come within {late} ms of their deadline; a bare wait here oversleeps by {bare.lstrip('0')} ms" in told
    )
    memory = result["memory"]["value"] - result["bare_memory"]["value"]
    assert f"{memory:.1f} MiB of memory beyond a bare session and {result['installed']:.1f} MiB on disk" in told
    assert f"takes {imported['value']:.2f} of onnxruntime's own time" in told


def test_its_links_lead_somewhere() -> None:
    """Every picture and page of this repository that the README names is there."""
    targets = re.findall(r"\]\((?!https?://)([^)#]+)\)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_documented_networks_are_those_of_the_proxy() -> None:
    """Each profile of docs/benchmarks.md with its round trip and its rates, and no other."""
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    rows = re.findall(r"^\| ([a-z-]+) \| ([\d.]+) \| ([\d.]+) / ([\d.]+) \| ", page, re.MULTILINE)
    told = {name: tuple(map(float, numbers)) for name, *numbers in rows}
    assert told == {one.name: (1e3 * one.round_trip, one.up / 1e6, one.down / 1e6) for one in PROFILES.values()}
