"""The README keeps its word."""

import json
import re
from pathlib import Path

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


def test_its_links_lead_somewhere() -> None:
    """Every picture and page of this repository that the README names is there."""
    targets = re.findall(r"\]\((?!https?://)([^)#]+)\)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
