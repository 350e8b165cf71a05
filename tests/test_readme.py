"""The README keeps its word."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_python_example_runs(
    pair: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As printed, next to a cascade model, with no server listening: it still gives an answer."""
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(pair)
    exec(compile(example, "README.md", "exec"), {})
    assert re.search(r"^(red|green|blue) ", capsys.readouterr().out)
