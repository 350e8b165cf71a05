"""README.md and docs/ keep their word: examples run, links lead somewhere, and figures are those of committed results.

Prose is free; figures are marked in the source of a page, where a reader of the rendered page does not see the marks:

    costs <!-- = {100 * runtime.runtime.head.bound.value - 100:.1f} % -->1.5 %<!-- / --> of the model's time

The comment holds the inside of an f-string over `benchmarks/results/*/result.json`; the text between it and
`<!-- / -->` must be what the f-string gives. A folder `fashion-mnist` is the name `fashion_mnist`, and so with keys. No
mark begins a line, because Markdown takes such a line for HTML. A fenced text block under
`<!-- lines of latency/summary.txt -->` holds lines of that file. `make figures` writes the figures of all pages.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecascade.benchmarks.network import PROFILES
from studies import readme_table

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
FIGURE = re.compile(r"(<!-- = (.*?) -->)(.*?)(<!-- / -->)", re.DOTALL)
LINES = re.compile(r"^<!-- lines of (\S+) -->\n+```text\n(.*?)```", re.DOTALL | re.MULTILINE)


class Record(dict[str, Any]):
    """A JSON object whose values are attributes too: `-` and spaces of a key are `_` there."""

    def __getattr__(self, name: str) -> Any:
        """Return a value by its name."""
        found = [value for key, value in self.items() if re.sub(r"\W", "_", key) == name]
        if len(found) != 1:
            raise AttributeError(f"{name}: expected one of {', '.join(self)}")
        return found[0]


def results() -> dict[str, Any]:
    """Return every committed result by its folder's name."""
    paths = sorted(RESULTS.glob("*/result.json"))
    return {re.sub(r"\W", "_", path.parent.name): json.loads(path.read_text(), object_hook=Record) for path in paths}


def figure(template: str, names: dict[str, Any]) -> str:
    """Return an f-string's value; `median` is there beside Python's own functions."""
    return str(eval(f"f'''{template}'''", {"median": np.median, **names}))


def with_figures(page: str, names: dict[str, Any]) -> str:
    """Return a page with the figures that the results give; a figure that is right keeps its line breaks."""

    def written(found: re.Match[str]) -> str:
        opening, template, told, closing = found.groups()
        value = figure(" ".join(template.split()), names)
        return found[0] if " ".join(told.split()) == value else f"{opening}{value}{closing}"

    return FIGURE.sub(written, page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_marked_figures_are_those_of_the_committed_results(page: Path) -> None:
    """Written again, the page is the same; no mark is misspelt, and none begins a line or a list item."""
    text = page.read_text()
    assert re.findall(r"^[ >*+-]*<!-- [=/] .*", text, re.MULTILINE) == []
    assert text.count("<!-- / -->") == text.count("<!-- = ") == len(FIGURE.findall(text))
    if "<!-- = " in text:
        assert with_figures(text, results()) == text
    assert len(re.findall("^<!-- lines of ", text, re.MULTILINE)) == len(LINES.findall(text))
    for file, block in LINES.findall(text):
        assert set(block.splitlines()) <= {"", *(RESULTS / file).read_text().splitlines()}


def test_a_wrong_figure_is_noticed_and_mended() -> None:
    """And one that is right stays as it is written, over two lines if need be."""
    names = {"run_a": json.loads('{"the share": [0.25]}', object_hook=Record)}
    right = "<!-- = {100 * run_a.the_share[0]:.1f} % -->25.0\n%<!-- / -->"
    assert with_figures(right, names) == right
    assert with_figures(right.replace("25.0\n", "24.0 "), names) == right.replace("\n", " ")
    with pytest.raises(AttributeError, match="the_rate: expected one of the share"):
        with_figures("<!-- = {run_a.the_rate} -->1<!-- / -->", names)


def test_the_table_of_pairs_is_what_the_committed_results_give() -> None:
    """As `python -m studies.readme_table` writes it."""
    assert readme_table.main(["--results", str(RESULTS), "--check", str(ROOT / "README.md")]) == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_examples_run(page: Path, pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As printed, one after the other, next to a cascade model, with no server listening: answers are still given."""
    monkeypatch.chdir(pair)
    names: dict[str, Any] = {}
    for example in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        exec(compile(example, page.name, "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every picture and page of this repository that it names is there."""
    targets = re.findall(r"\]\((?!https?://|mailto:)([^)#]+)(?:#[^)]*)?\)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_documented_networks_are_those_of_the_proxy() -> None:
    """Each profile of docs/benchmarks.md with its round trip and its rates, and no other."""
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    rows = re.findall(r"^\| ([a-z-]+) \| ([\d.]+) \| ([\d.]+) / ([\d.]+) \| ", page, re.MULTILINE)
    told = {name: tuple(map(float, numbers)) for name, *numbers in rows}
    assert told == {one.name: (1e3 * one.round_trip, one.up / 1e6, one.down / 1e6) for one in PROFILES.values()}


if __name__ == "__main__":
    for each in PAGES:
        each.write_text(with_figures(each.read_text(), results()))
