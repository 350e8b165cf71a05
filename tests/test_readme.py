"""The README keeps its word."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
FLAGSHIP = ROOT / "benchmarks" / "results" / "flagship"


def test_the_python_example_runs(
    pair: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As printed, next to a cascade model, with no server listening: it still gives an answer."""
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(pair)
    exec(compile(example, "README.md", "exec"), {})
    assert re.search(r"^(red|green|blue) ", capsys.readouterr().out)


def test_the_figures_are_those_of_the_kept_run() -> None:
    """What the README shows and says of the demo is what `make demo` printed and saved."""
    result = json.loads((FLAGSHIP / "result.json").read_text())
    assert f"```text\n{(FLAGSHIP / 'summary.txt').read_text()}```" in README
    before, after = (f"{result['ece'][f'local {when}']:.3f}".lstrip("0") for when in ("before", "after"))
    assert f"(expected calibration error {before} > {after})" in README
    assert f"`make demo` on {result['environment']['date']}, " in README
    assert f"onnxruntime {result['environment']['versions']['onnxruntime']}" in README


def test_the_promises_are_those_of_the_kept_run() -> None:
    """Every figure of that paragraph is in the committed result."""
    result = json.loads((ROOT / "benchmarks" / "results" / "promises" / "result.json").read_text())
    rows = [row for table in result["policies"].values() for row in table]
    assert f"at most {-100 * min(row['shortfall'] for row in rows):.2f} points below" in README
    averaging = next(row for row in result["policies"]["comparable"] if row["rate"] == 0.35)
    assert f"({100 * averaging['local']:.2f} and {100 * averaging['remote']:.2f} % alone)" in README
    assert f"at {averaging['offload']:.1%}".replace("%", " %") in README
    assert f"right on {100 * averaging['accuracy']['policy']:.2f} %" in README
    kept = next(row for row in result["certificates"]["small > large"] if row["n"] == 4000)
    low, high = (f"{100 * end:.1f}" for end in kept["broken_interval"])
    assert f"broken in {100 * kept['broken'] / kept['draws']:.1f} % of 1,000 draws" in README
    assert f"({low} to {high} %)" in README
    assert f"{kept['offload'] / kept['least']:.2f} times the least" in README
    ratio = np.median(np.array(result["fit"]["seconds"]) / np.array(result["fit"]["theirs"]))
    assert f"takes {ratio:.3f} of scikit-learn's time" in README


def test_its_links_lead_somewhere() -> None:
    """Every picture and page of this repository that the README names is there."""
    targets = re.findall(r"\]\((?!https?://)([^)#]+)\)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
