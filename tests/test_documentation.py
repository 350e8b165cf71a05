"""README.md and docs/ are correct: examples run, links resolve, and figures equal those of the committed results.

Python blocks and blocks marked `bash` are run in order, in a folder with models and data under the names that the pages
use. Commands in blocks marked `sh` are only parsed.

Figures in the text are marked in the source of a page; the marks do not appear in the rendered page:

    costs <!-- = {100 * runtime.runtime.head.bound.value - 100:.1f} % -->1.5 %<!-- / --> of the model's time

The comment holds the inside of an f-string over `benchmarks/results/*/result.json`; the text between it and `<!-- /
-->` must equal the f-string's value. A folder `fashion-mnist` has the name `fashion_mnist`; keys are renamed the same
way. No mark begins a line, because Markdown would take the line for HTML. A fenced text block under `<!-- lines of
latency/summary.txt -->` holds lines of that file. `make figures` writes figures and lines of all pages.
"""

import json
import re
import shlex
import shutil
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecascade import Cascade, cli
from edgecascade.benchmarks.network import PROFILES
from edgecascade.export import local_scores, read_labelled
from general_tasks import regression_pair, text_pair
from studies import pictures, readme_table

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("**/*.md"))]
FIGURE = re.compile(r"(<!-- = (.*?) -->)(.*?)(<!-- / -->)", re.DOTALL)
LINES = re.compile(r"^<!-- lines of (\S+) -->\n+```text\n(.*?)```", re.DOTALL | re.MULTILINE)


class Record(dict[str, Any]):
    """A JSON object whose values are also attributes, with `_` for `-` and spaces in a key."""

    def __getattr__(self, name: str) -> Any:
        """Return the value of a key."""
        found = [value for key, value in self.items() if re.sub(r"\W", "_", key) == name]
        if len(found) != 1:
            raise AttributeError(f"{name}: expected one of {', '.join(self)}")
        return found[0]


def results() -> dict[str, Any]:
    """Return every committed result by its folder's name."""
    paths = sorted(RESULTS.glob("*/result.json"))
    return {re.sub(r"\W", "_", path.parent.name): json.loads(path.read_text(), object_hook=Record) for path in paths}


def figure(template: str, names: dict[str, Any]) -> str:
    """Return the value of an f-string, which may use `median` and Python's built-in functions."""
    return str(eval(f"f'''{template}'''", {"median": np.median, **names}))


def with_figures(page: str, names: dict[str, Any]) -> str:
    """Return a page with the figures of the results; a correct figure keeps its line breaks."""

    def written(found: re.Match[str]) -> str:
        opening, template, told, closing = found.groups()
        value = figure(" ".join(template.split()), names)
        return found[0] if " ".join(told.split()) == value else f"{opening}{value}{closing}"

    return FIGURE.sub(written, page)


def with_lines(page: str) -> str:
    """Return a page with the current lines of the summaries; a line without a match in a summary is left unchanged."""

    def written(found: re.Match[str]) -> str:
        lines = (RESULTS / found[1]).read_text().splitlines()
        return found[0].replace(found[2], "".join(_renewed(part, lines) for part in re.split(r"(?<=\n\n)", found[2])))

    return LINES.sub(written, page)


def _renewed(part: str, lines: list[str]) -> str:
    """Return a block's adjacent lines with the figures in `lines`, where rows of the same names are adjacent."""
    old = part.rstrip("\n").splitlines()
    for start in range(len(lines) - len(old) + 1):
        new = lines[start : start + len(old)]
        if [_name(one) for one in new] == [_name(one) for one in old]:
            return "\n".join(new) + part[len(part.rstrip("\n")) :]
    return part


def _name(line: str) -> str:
    """Return the name of a row: its first words without figures."""
    return re.sub(r"[\d.%]", "", " ".join(line.split()[:3])).strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_marked_figures_equal_those_of_the_committed_results(page: Path) -> None:
    """Rewriting the page does not change it, no mark is misspelt, and none begins a line or a list item."""
    text = page.read_text()
    assert re.findall(r"^[ >*+-]*<!-- [=/] .*", text, re.MULTILINE) == []
    assert text.count("<!-- / -->") == text.count("<!-- = ") == len(FIGURE.findall(text))
    if "<!-- = " in text:
        assert with_figures(text, results()) == text
    assert len(re.findall("^<!-- lines of ", text, re.MULTILINE)) == len(LINES.findall(text))
    for file, block in LINES.findall(text):
        assert set(block.splitlines()) <= {"", *(RESULTS / file).read_text().splitlines()}


def test_a_wrong_figure_is_detected_and_corrected() -> None:
    """A correct figure stays as it is written, even across two lines."""
    names = {"run_a": json.loads('{"the share": [0.25]}', object_hook=Record)}
    right = "<!-- = {100 * run_a.the_share[0]:.1f} % -->25.0\n%<!-- / -->"
    assert with_figures(right, names) == right
    assert with_figures(right.replace("25.0\n", "24.0 "), names) == right.replace("\n", " ")
    with pytest.raises(AttributeError, match="the_rate: expected one of the share"):
        with_figures("<!-- = {run_a.the_rate} -->1<!-- / -->", names)


def test_lines_of_a_summary_are_renewed() -> None:
    """A block with outdated figures gets the figures of the rows with the same names."""
    (block,) = (one[0] for one in LINES.finditer((ROOT / "docs" / "benchmarks.md").read_text()) if "flagship" in one[1])
    assert with_lines(block) == block
    assert with_lines(block.replace("100.0 % ", "99.0 %  ")) == block
    assert with_lines(block.replace("remote only", "another row")) != block


def test_the_pictures_show_the_committed_results() -> None:
    """They have the texts of those that `python -m studies.pictures` draws; how texts are placed may differ."""
    for name in pictures.PICTURES:
        committed = (ROOT / "docs" / "pictures" / f"{name}.svg").read_text()
        texts, drawn = (re.findall(r"<text.*?>(.*?)</text>", svg) for svg in (committed, pictures.draw(name, RESULTS)))
        assert texts == drawn != []


def test_the_table_of_pairs_equals_the_committed_results() -> None:
    """It equals the output of `python -m studies.readme_table`."""
    assert readme_table.main(["--results", str(RESULTS), "--check", str(ROOT / "docs" / "benchmarks.md")]) == 0


@pytest.fixture
def example_folder(pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """Enter a folder with models and data under the names that the pages use; no server is listening."""
    from PIL import Image

    folder = tmp_path / "examples"
    shutil.copytree(pair, folder)
    shutil.copy(folder / "corner.onnx", folder / "body.onnx")
    shutil.copy(folder / "remote.onnx", folder / "large.onnx")
    data = read_labelled(folder / "test.npz")
    scores = {name: local_scores(folder / f"{name}.onnx", data.inputs) for name in ("body", "large")}
    outputs = {"local": scores["body"], "remote": scores["large"], "labels": data.labels, "names": np.array(data.names)}
    np.savez(folder / "outputs.npz", allow_pickle=False, **outputs)
    (folder / "costs.json").write_text('{"red": 20, "green": 1, "blue": 1}')
    (folder / "photos").mkdir()
    Image.new("RGB", (64, 48), "red").save(folder / "photos" / "red.png")
    if request.node.callspec.params["page"].name == "cleaning.md":
        cleaned = [
            f"{path.relative_to(folder / 'photos')},{label}" for path, label in mislaid_images(folder / "photos")
        ]
        lines = ["row,id,label", *(f"{row},{line}" for row, line in enumerate(cleaned))]
        (folder / "cleaned.csv").write_text("\n".join(lines))
    if request.node.callspec.params["page"].name == "tasks.md":
        for name, make in (("lines", text_pair), ("patients", regression_pair)):
            (folder / name).mkdir()
            make(folder / name)
    monkeypatch.chdir(folder)
    return folder


def mislaid_images(folder: Path) -> Iterator[tuple[Path, str]]:
    """Save images of three classes, of which some lie in the folder of another, and yield them with the right class.

    Files of different classes have the same names.
    """
    from PIL import Image

    rng, colours, count = np.random.default_rng(0), ("red", "green", "blue"), Counter[str]()
    for number in range(150):
        right = number % 3
        given = colours[(right + 1) % 3 if number % 20 == 0 else right]
        found = folder / given / f"{count[given]}.png"
        count[given] += 1
        found.parent.mkdir(exist_ok=True)
        pixels = rng.integers(0, 150, (8, 8, 3)) + np.eye(3, dtype=int)[right] * 60
        Image.fromarray(pixels.astype(np.uint8)).save(found)
        yield found, colours[right]


@pytest.mark.parametrize("page", [one for one in PAGES if one.name != "tutorial.md"], ids=lambda page: page.name)
def test_the_examples_run(page: Path, example_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The examples run in order without a server, and a text block just below an example is its output.

    The tutorial makes its own models and data, and has a test of its own.
    """
    names: dict[str, Any] = {}
    blocks = r"^```(python|bash)\n(.*?)^```\n(?:\n```text\n(.*?)^```)?"
    for language, example, printed in re.findall(blocks, page.read_text(), re.DOTALL | re.MULTILINE):
        capsys.readouterr()
        if language == "python":
            exec(compile(example, page.name, "exec"), names)
        for arguments in commands(example) if language == "bash" else ():
            assert cli.main(arguments) == 0, (arguments, capsys.readouterr().err)
        out = capsys.readouterr().out
        assert printed in ("", out)
    with Cascade.load(example_folder / "local.onnx") as cascade:
        assert cascade.document.labels == ("red", "green", "blue")


def commands(example: str) -> Iterator[list[str]]:
    """Yield the arguments of each `edgecascade` command in a block of shell commands."""
    for line in example.replace("\\\n", " ").splitlines():
        if line.strip().startswith("edgecascade "):
            yield shlex.split(line.replace("$pair", "languages"), comments=True)[1:]


def parsers(parser: ArgumentParser) -> Iterator[ArgumentParser]:
    """Yield a parser and those of all its nested commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for below in action.choices.values():
                yield from parsers(below)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_options_and_extras_exist(page: Path) -> None:
    """Commands that are only parsed and options named in the text are checked."""
    text = page.read_text()
    for example in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for arguments in commands(example):
            cli._parser(arguments[0]).parse_args(arguments)
        assert [name for name in re.findall(r"-m (studies\.\w+)", example) if find_spec(name) is None] == []
    known = {
        option
        for name in cli._COMMANDS
        for parser in parsers(cli._parser(name))
        for action in parser._actions
        for option in action.option_strings
    }
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    assert set(re.findall(r"`(?:edgecascade )?(?:[a-z]+ )?(--[a-z0-9-]+)", prose)) <= known
    extras = {
        f"{name}[{extra}]"
        for name, folder in (("edgecascade", ROOT), ("edgecascade-benchmarks", ROOT / "benchmarks"))
        for extra in re.findall(r"^([a-z]+) = \[", (folder / "pyproject.toml").read_text(), re.MULTILINE)
    }
    used = re.findall(r"(edgecascade(?:-benchmarks)?)\[([a-z,]+)\]", text)
    assert {f"{name}[{extra}]" for name, named in used for extra in named.split(",")} <= extras


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    """Every picture, page and heading of this repository that it names is there."""
    for target, heading in re.findall(r"\]\((?!https?://|mailto:)([^)#]*)(?:#([^)]*))?\)", page.read_text()):
        path = page.parent / target if target else page
        assert path.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)", path.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in headings}


def test_the_documented_networks_equal_those_of_the_proxy() -> None:
    """docs/benchmarks.md lists each profile with its round trip and rates, and no other."""
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    rows = re.findall(r"^\| ([a-z-]+) \| ([\d.]+) \| ([\d.]+) / ([\d.]+) \| ", page, re.MULTILINE)
    told = {name: tuple(map(float, numbers)) for name, *numbers in rows}
    assert told == {one.name: (1e3 * one.round_trip, one.up / 1e6, one.down / 1e6) for one in PROFILES.values()}


if __name__ == "__main__":
    for each in PAGES:
        each.write_text(with_lines(with_figures(each.read_text(), results())))
