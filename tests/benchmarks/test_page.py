"""A benchmark writes one self-contained page, and the same result in machine-readable form."""

import base64
import csv
import io
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from edgecascade.benchmarks.device.environment import read_environment
from edgecascade.benchmarks.report import (
    HIGHER,
    LOWER,
    Example,
    Examples,
    Figure,
    Report,
    Section,
    Table,
    plain,
    read_result,
    result_document,
    write_page,
    write_study,
)
from edgecascade.benchmarks.report.estimates import find_estimates, result_csv
from edgecascade.benchmarks.report.result import json_text, result_schema
from edgecascade.calibration import proportion
from edgecascade.types.errors import BenchmarkError, printable
from edgecascade.types.estimate import Estimate

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
SVG = (RESULTS / "flagship" / "offload-curve.svg").read_text()
SMALL = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"><path id="a" d="M0 0"/></svg>'
PNG = b"\x89PNG only a name"
VOID = {"meta", "br", "hr", "img", "input", "link", "source"}


class Page(HTMLParser):
    """Elements in order, each with its attributes and all its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self._open: list[int] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open the element; a repeated attribute is an error."""
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Add an element without content."""
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))

    def handle_endtag(self, tag: str) -> None:
        """Close the element that was opened last."""
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        """Add the text to every open element."""
        for index in self._open:
            self.elements[index][2].append(data)

    def all(self, *tags: str) -> list[tuple[dict[str, str], str]]:
        """Return attributes and text of every element of these kinds."""
        return [(found, "".join(text)) for tag, found, text in self.elements if tag in tags]


def _real() -> Report:
    """Return a result with the figures of the committed flagship run and a wide table."""
    offload = read_result(RESULTS / "flagship" / "result.json")["offload"]
    rows = tuple(
        (row["name"], f"{row['offload']['value']:.1%}", f"{100 * row['accuracy']['value']:.1f} % (1.0 to 2.0)", "")
        for row in offload["strategies"]
    )
    ms = {name: f"{q['value'] * 1e3:.2f} ({q['low'] * 1e3:.2f} to {q['high'] * 1e3:.2f})"
          for name, q in offload["served"]["latency"]["all"].items() if name != "n"}  # fmt: skip
    wide = Table(("answers", "n", "p50 ms", "p90 ms", "p99 ms", "CPU ms", "energy"),
                 (("all", "4000", *list(ms.values())[:3], "1.2", "not measured"),))  # fmt: skip
    return Report(
        title="Small > large",
        findings=("Alone, the small model is right on 76.8 %.", "Asking the large one helps."),
        sections=(
            Section("Accuracy", ("One.", "Two."), (Figure("offload-curve", SVG, "Lines & points.", SMALL),),
                    (Table(("", "offload rate", "accuracy (95 % interval)", "lead"), rows, "n = 4000."),),
                    (Examples("Two", (Example("a text", "said"), Example(PNG, "seen"))),)),
            Section("Latency", (), (Figure("again", SVG, "The same once more."),), (wide, replace(wide, title="More"))),
        ),
        method=("It was measured.",),
        command="edgecascade bench offload local.onnx --data 'a b.npz'",
        found={"offload": offload},
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a real result and return its folder."""
    return write_page(_real(), tmp_path_factory.mktemp("made") / "report", summary="All is well.").parent


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    """Return the page's source."""
    return (folder / "report.html").read_text()


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    """Return the parsed page."""
    return Page(html)


def test_exactly_the_expected_files_are_written(folder: Path) -> None:
    """They are the page, document, table, summary and each picture, without partial files."""
    names = {"report.html", "result.json", "result.csv", "summary.txt", "offload-curve.svg", "again.svg"}
    assert {path.name for path in folder.iterdir()} == names
    assert (folder / "summary.txt").read_text() == "All is well.\n"
    assert (folder / "again.svg").read_text().strip() == SVG.strip()


def test_a_notebook_shows_the_page_in_a_frame(html: str) -> None:
    """Nothing of it leaves the frame."""
    ((name, attributes, _),) = Page(_real()._repr_html_()).elements
    assert name == "iframe"
    assert Page(attributes["srcdoc"]).elements[0] == Page(html).elements[0]


def test_the_findings_come_first(page: Page) -> None:
    """Then come the sections in order, method, environment and command; every heading is one level below the title."""
    headings = [(tag, "".join(text)) for tag, _, text in page.elements if re.fullmatch("h[1-6]", tag)]
    order = ["Findings", "Accuracy", "Latency", "Method", "How to repeat it"]
    h2 = [(tag, text) for tag, text in headings if tag != "h3"]
    assert h2 == [("h1", "Small > large"), *(("h2", text) for text in order)]
    ((_, command),) = page.all("pre")
    assert command == "edgecascade bench offload local.onnx --data 'a b.npz'"


def test_the_page_is_self_contained(html: str, page: Page) -> None:
    """It has no script, event handler, external style sheet, font or picture, and no link but to itself."""
    assert not {tag for tag, _, _ in page.elements} & {"script", "link", "iframe", "object", "embed", "form", "svg"}
    for _, found, _ in page.elements:
        assert not [name for name in found if name.startswith("on") or name == "action"]
        assert all(value.startswith("#") for name, value in found.items() if name == "href")
        assert all(value.startswith("data:image/") for name, value in found.items() if name in ("src", "srcset"))
    assert not re.search(r"@import|url\(|https?:", html)


def test_links_lead_to_an_element(page: Page) -> None:
    """Each id is unique."""
    ids = [found["id"] for _, found, _ in page.elements if "id" in found]
    linked = [found["href"][1:] for _, found, _ in page.elements if "href" in found]
    assert len(ids) == len(set(ids))
    assert linked
    assert set(linked) <= set(ids)


def test_tables_have_headings_and_scroll_in_their_own_box(page: Page) -> None:
    """Each has a name and scopes; titled tables and the notes are in a closed box with a title."""
    assert len(page.all("table")) == len(page.all("tbody")) == 3
    assert all(found["aria-label"] for found, _ in page.all("table"))
    assert {found["scope"] for found, _ in page.all("th")} == {"col", "row"}
    assert all(text.strip() for _, text in page.all("th"))
    assert [found["class"] for found, _ in page.all("div") if found["class"] == "scroll"] == ["scroll"] * 3
    assert [text for _, text in page.all("summary")] == [
        "About this table",
        "More",
        "Models, data and policy",
        "Machine and software",
    ]


def test_pictures_have_alternative_text_and_adapt_to_the_page(page: Page) -> None:
    """The text is the caption, and some have a second drawing for wide screens."""
    plots = [found for found, _ in page.all("img") if found["alt"]]
    assert [found["alt"] for found in plots] == ["Lines & points.", "The same once more."]
    assert all(base64.b64decode(found["src"].partition(",")[2]).decode() == SVG for found in plots)
    ((wide, _),) = page.all("source")
    assert base64.b64decode(wide["srcset"].partition(",")[2]).decode() == SMALL


def test_examples_are_shown_unchanged(page: Page) -> None:
    """A text is a quotation and an image a picture, each with its predictions."""
    assert [text for _, text in page.all("blockquote")] == ["a text"]
    (image,) = (found for found, _ in page.all("img") if not found["alt"])
    assert base64.b64decode(image["src"].partition(",")[2]) == PNG
    assert [text for _, text in page.all("figcaption")][1:3] == ["said", "seen"]


def test_colours_have_enough_contrast(html: str) -> None:
    """The contrast of text is at least 4.5 to 1 on every background, in light and dark mode (WCAG 2.2, AA)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    schemes = [dict(re.findall(r"--(\w+): (#\w{6})", line)) for line in html.splitlines() if "--page:" in line]
    assert len(schemes) == 2
    for scheme in schemes:
        for text in ("text", "muted", "accent"):
            for ground in ("page", "box", "ours"):
                light, dark = sorted((luminance(scheme[text]), luminance(scheme[ground])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)


_TEXT = st.text(st.sampled_from("<>&\"'{}%#/!-= abc\u00e9\u202e"), min_size=1, max_size=30)


def _page_of(text: str, other: str) -> Report:
    examples = (Examples(text, (Example(other, text),)),)
    section = Section(other, (text,), (Figure("a", SMALL, text),), (Table((text, other), ((other, text),)),), examples)
    return Report(text, (text,), (section,), (other,), text, {"offload": {other: text}})


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_TEXT, _TEXT)
def test_all_content_is_escaped(tmp_path: Path, text: str, other: str) -> None:
    """Any text appears, marks of direction as escapes, and the page has the same elements as always."""
    report, plainly = _page_of(text, other), _page_of("a", "b")
    seen = Page(write_page(report, tmp_path / "one", summary=text).read_text())
    usual = Page(write_page(plainly, tmp_path / "two", summary="a").read_text())
    skip = {"span"}  # an interval in a cell has its own element
    assert [tag for tag, _, _ in seen.elements if tag not in skip] == [
        tag for tag, _, _ in usual.elements if tag not in skip
    ]
    shown = printable(text)
    assert seen.all("h1")[0][1] == shown
    assert seen.all("pre")[0][1].strip() == shown.strip()
    assert seen.all("td")[0][1] == shown
    assert seen.all("blockquote")[0][1] == printable(other)
    assert seen.all("img")[0][0]["alt"] == shown
    assert json.loads((tmp_path / "one" / "result.json").read_text())["offload"] == {other: text}


def test_names_in_backticks_are_code(tmp_path: Path) -> None:
    """They are code in paragraphs, notes and captions; any other markup stays text."""
    made = write_page(_page_of("`a<b>` and `c", "x"), tmp_path, summary="").read_text()
    assert made.count("<p><code>a&lt;b&gt;</code> and `c</p>") == 2
    assert "<figcaption><code>a&lt;b&gt;</code> and `c</figcaption>" in made


def test_an_interrupt_leaves_no_partial_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is completely old or completely new, and no other file is left."""
    write_page(_real(), tmp_path, summary="old")
    names = sorted(path.name for path in tmp_path.iterdir())
    for stop in range(len(names)):
        replace, left = os.replace, [stop]

        def interrupted(*paths: Any, replace: Any = replace, left: list[int] = left) -> None:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            replace(*paths)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", interrupted)
            with pytest.raises(KeyboardInterrupt):
                write_page(_real(), tmp_path, summary="new")
        assert sorted(path.name for path in tmp_path.iterdir()) == names
        assert (tmp_path / "report.html").read_text().endswith("</html>\n")
        json.loads((tmp_path / "result.json").read_text())


@pytest.mark.parametrize(
    ("figures", "table", "said"),
    [
        (("a", "a"), None, "expected a unique name, got 'a' twice"),
        (("../a",), None, "expected a name of a-z, 0-9 and single hyphens, got '../a'"),
        (("a--b",), None, "single hyphens"),
        ((), Table(("a", "b"), (("1", "2"), ("3",))), "expected 2 cells in each row, got 1 in the row ('3',)"),
        ((), Table((), ()), "got no columns"),
    ],
)
def test_invalid_content_is_refused(tmp_path: Path, figures: tuple[str, ...], table: Table | None, said: str) -> None:
    """The error is raised before a file is written."""
    pictures = tuple(Figure(name, SMALL, "") for name in figures)
    report = Report("x", (), (Section("s", (), pictures, (table,) if table else ()),), (), "x")
    with pytest.raises(BenchmarkError, match=re.escape(said)):
        write_page(report, tmp_path / "report", summary="")
    assert not (tmp_path / "report").exists()


def test_a_picture_is_an_svg_element(tmp_path: Path) -> None:
    """Anything else is refused, with the figure's name."""
    report = Report("x", (), (Section("s", (), (Figure("curve", "<html/>", ""),)),), (), "x")
    with pytest.raises(BenchmarkError, match="figure curve: expected an <svg> element"):
        write_page(report, tmp_path, summary="")


class _Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class _Inner:
    share: Estimate
    spread: tuple[float, ...]


@dataclass(frozen=True)
class _Outer:
    inner: dict[_Colour, _Inner]
    counts: Any


@dataclass(frozen=True)
class _Marked:
    right: Estimate = field(metadata=HIGHER)
    late: dict[str, list[Estimate]] = field(metadata=LOWER)
    rate: Estimate


def test_a_field_defines_which_direction_is_better() -> None:
    """It applies to every estimate in the field and to no other."""
    one = proportion(0.5, 10)
    made = plain(_Marked(one, {"p99": [one]}, one))
    assert (made["right"]["better"], made["late"]["p99"][0]["better"]) == ("higher", "lower")
    assert made["rate"].keys() == {"value", "low", "high", "n"}
    assert [found.better for found in find_estimates({"x": made}).values()] == ["higher", "lower", None]


def test_dataclasses_become_plain_values() -> None:
    """Nested dataclasses, mappings, enums and numpy values are converted; NaN and infinity become null."""
    value = _Outer(
        {_Colour.RED: _Inner(proportion(0.5, 4), (1.0, float("nan"), float("-inf")))}, np.array([[1, 2], [3, 4]])
    )
    made = plain(value)
    assert made["inner"]["red"]["spread"] == [1.0, None, None]
    assert made["counts"] == [[1, 2], [3, 4]]
    assert made["inner"]["red"]["share"].keys() == {"value", "low", "high", "n"}
    assert plain([np.float32(0.5), np.int64(3), np.bool_(True), np.float64("nan"), None]) == [0.5, 3, True, None, None]
    assert plain(np.array([0.5, np.nan])) == [0.5, None]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda node: st.lists(node) | st.dictionaries(st.text(), node),
    )
)
def test_json_values_stay_unchanged(value: Any) -> None:
    """Values that JSON can hold keep their value and text."""
    assert plain(value) == value
    assert json.loads(json_text(plain(value))) == value


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"offload": {"a": [{"b": object()}]}}, "offload['a'][0]['b']: expected a JSON value"),
        ({"offload": {(1,): 2}}, "offload: expected keys that are text or numbers, got (1,)"),
        ({"offload": 3}, "found['offload']: expected a mapping or a dataclass, got int"),
        ({"title": {}}, "got 'title'"),
        ({"Off load": {}}, "got 'Off load'"),
    ],
)
def test_values_that_json_cannot_hold_are_refused(found: Mapping[str, Any], said: str) -> None:
    """The error has the path of the value."""
    with pytest.raises(BenchmarkError, match=re.escape(said)):
        result_document(Report("x", (), (), (), "x", found), read_environment())


def test_cyclic_values_are_refused() -> None:
    """A list that contains itself gives one sentence, not a RecursionError."""
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(BenchmarkError, match="expected at most 50 levels"):
        plain(endless)


def _errors(document: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(result_schema()).iter_errors(document)]


def test_the_result_schema_is_valid() -> None:
    """It is valid under JSON Schema draft 2020-12."""
    Draft202012Validator.check_schema(result_schema())
    assert files("edgecascade.benchmarks.report").joinpath("result.schema.json").is_file()


def test_written_results_follow_the_schema(folder: Path) -> None:
    """A new document and every committed result are checked."""
    written = json.loads((folder / "result.json").read_text())
    assert _errors(written) == []
    assert (written["schema"], written["kind"]) == (3, "edgecascade benchmark")
    for path in RESULTS.glob("*/result.json"):
        assert _errors(json.loads(path.read_text())) == [], path


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 1},
        {"kind": "other"},
        {"title": ""},
        {"latency": [1]},
        {"Latency": {}},
        {"latency": {"rows": [{"p50": {"value": 1.0, "low": 0.5, "high": 2.0}}]}},
        {"latency": {"p50": {"value": 1.0, "low": 0.5, "high": 2.0, "n": 1.5}}},
        {"latency": {"p50": {"value": "1", "low": 0.5, "high": 2.0, "n": 1}}},
        {"latency": {"p50": {"value": 1.0, "low": 0.5, "high": 2.0, "n": 1, "better": "more"}}},
        {"offload": {"n": 3}},
        {"offload": {"n": 3, "strategies": [{"name": "local only"}]}},
        {"environment": {"date": "today"}},
    ],
    ids=str,
)
def test_documents_that_violate_the_schema_are_refused(folder: Path, change: dict[str, Any]) -> None:
    """Cases are a wrong head, a kind that is not an object, and a missing n or table."""
    document = json.loads((folder / "result.json").read_text())
    assert _errors(document | change) != []


def test_the_csv_has_every_estimate(folder: Path) -> None:
    """Each has a row with the numbers of the document to the last digit."""
    document = json.loads((folder / "result.json").read_text())
    rows = list(csv.DictReader(io.StringIO((folder / "result.csv").read_text())))
    found = find_estimates(document)
    assert len(rows) == len(found) > 20
    for row, one in zip(rows, found.values(), strict=True):
        value, low, high = (float(row[name]) for name in ("value", "low", "high"))
        assert Estimate(value, low, high, int(row["n"])) == one.estimate
    first = rows[0]
    assert (first["kind"], first["row"], first["figure"]) == ("offload", "strategies / local only", "offload")


def test_a_name_in_the_csv_is_not_a_formula() -> None:
    """A spreadsheet would run a cell that begins like a formula."""
    estimate = plain(proportion(0.5, 10))
    text = result_csv({"offload": {"=1+1": {"@x": estimate}}})
    assert text.splitlines()[1].startswith("offload,'=1+1,'@x,0.5,")


def test_a_study_writes_its_result_without_a_page(tmp_path: Path) -> None:
    """The document follows the schema under the study's kind, with the first line of the summary as title."""
    found = {"share": proportion(0.5, 10)}
    write_study(tmp_path, "shift", found, command="python -m x", summary="A title\nmore", pictures={"one": SMALL})
    assert {path.name for path in tmp_path.iterdir()} == {"result.json", "summary.txt", "one.svg"}
    document = read_result(tmp_path / "result.json")
    assert _errors(document) == []
    assert (document["title"], document["command"]) == ("A title", "python -m x")
    assert document["shift"] == plain(found)
