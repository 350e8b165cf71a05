"""`edgecascade clean judge` and `apply`: what verdicts prove and change."""

import csv
import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecascade.calibration.cleaning import draw_audit, judge
from edgecascade.calibration.cleaning.count import percent_down
from edgecascade.calibration.commands.clean.suspects_file import SuspectsFile, read_suspects
from edgecascade.calibration.commands.clean.verdicts_file import COLUMNS, inert, read_verdicts
from edgecascade.types.errors import CalibrationError

Run = Callable[..., int]
Lines = list[dict[str, Any]]

WORDS = (
    "data",
    "row",
    "audit",
    "annotations",
    "result",
    "value",
    "choices",
    "from_name",
    "metadata",
    "responses",
    "fields",
)


@pytest.fixture
def judged(folder: Path, truth: NDArray[np.int64], suspects: SuspectsFile, run: Run) -> Callable[..., Lines]:
    """Return a function that draws an audit, has it judged by someone who knows the truth, and returns the lines."""

    def judged(*options: object, page: str = "review.html") -> Lines:
        assert run("review", "suspects.parquet", "--data", "images.npy", *options, "-o", page) == 0
        found = re.search(r'id="data">(.*?)</script>', (folder / page).read_text(encoding="utf-8"), re.DOTALL)
        assert found is not None
        data = json.loads(found[1])
        assert data["columns"] == list(COLUMNS)
        lines = []
        for item in data["items"]:
            given, suggested = item["labels"][item["given"]], item["labels"][1 - item["given"]]
            true = suspects.name(int(truth[item["row"]]))
            verdict = {given: "given", suggested: "suggested"}.get(true, "other")
            label = true if verdict == "other" else ""
            values = (item["row"], item["id"], verdict, label, given, suggested, data["audit"], "2026-01-02T03:04:05Z")
            lines.append(dict(zip(COLUMNS, values, strict=True)))
        return lines

    return judged


def saved(lines: Lines, path: str = "verdicts.csv", delimiter: str = ",", start: str = "") -> str:
    """Save verdicts as the page does, and return the path."""
    with open(path, "w", encoding="utf-8", newline="") as stream:
        stream.write(start)
        rows = csv.DictWriter(stream, COLUMNS, delimiter=delimiter)
        rows.writeheader()
        rows.writerows(lines)
    return path


def shown(run: Run, capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    """Return the JSON that `judge` prints."""
    capsys.readouterr()
    assert run("judge", "suspects.parquet", *arguments, "--json", "-") == 0
    return json.loads(capsys.readouterr().out)


def test_what_verdicts_prove_is_what_the_arrays_say(
    judged: Callable[..., Lines], suspects: SuspectsFile, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prints the bound, the mistakes and a sentence for a paper, all of them those of `judge`."""
    lines = judged("-n", 40)
    found = shown(run, capsys, saved(lines), "--precision", "0.7")
    expected = judge(
        suspects.suspects, draw_audit(suspects.suspects, 40), {one["row"]: one["verdict"] for one in lines}
    )
    assert expected.precision is not None
    assert found["precision"]["bound"] == expected.precision.bound
    assert found["verdicts"]["suggested"] == sum(one["verdict"] == "suggested" for one in lines)
    largest = expected.largest_flagged(0.7)
    assert found["largest_flagged"]["flagged"] == (largest and largest.flagged)
    assert {one["given"] for one in found["mistakes"]} <= set(suspects.names)
    assert run("judge", "suspects.parquet", "verdicts.csv") == 0
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) <= 12
    assert f"at least {percent_down(expected.precision.bound)} %" in printed
    assert f"{len(lines)} of the {suspects.suspects.flagged.sum()} labels" in " ".join(printed.split())
    assert "probability" not in printed


def test_an_audit_of_all_rows_counts_the_wrong_labels(
    judged: Callable[..., Lines],
    suspects: SuspectsFile,
    truth: NDArray[np.int64],
    run: Run,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The interval holds their true number, and the sentence has it as a share."""
    found = shown(run, capsys, saved(judged("--design", "all", "-n", 200)))
    wrong = int((suspects.labels != truth).sum())
    assert found["wrong"]["low"] <= wrong <= found["wrong"]["high"]
    assert "weighted by a calibrated pool of 3 models" in found["paper"]
    flagged = suspects.suspects.row[suspects.suspects.flagged]
    among = int((suspects.labels != truth)[flagged].sum())
    assert found["wrong_flagged"]["low"] <= among <= found["wrong_flagged"]["high"]
    assert run("judge", "suspects.parquet", "verdicts.csv", "--precision", "0.7") == 0
    printed = capsys.readouterr().out
    assert f"of the {len(flagged)} flagged labels alone, about " in printed
    assert "at least" not in printed  # one statement about the flagged labels, not two
    assert "set        none is named: --precision needs an audit of the flagged rows" in printed


@pytest.mark.parametrize("design", ["flagged", "all"])
def test_what_was_judged_whole_is_stated_without_intervals(
    judged: Callable[..., Lines],
    suspects: SuspectsFile,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    design: str,
) -> None:
    """If every row was judged, counts are exact, and nothing is said of a sample or of confidence."""
    lines = judged("--design", design, "-n", suspects.suspects.n)
    wrong = sum(one["verdict"] != "given" for one in lines)
    found = shown(run, capsys, saved(lines))
    for one in (found["suggested_right"], *(one["share"] for one in found["mistakes"])):
        assert one["low"] == one["value"] == one["high"]
    assert run("judge", "suspects.parquet", "verdicts.csv", "--precision", "0.001") == 0
    printed = " ".join(capsys.readouterr().out.split()).replace("have at least 0.1 % wrong", "")
    assert f"A person judged all {len(lines)} labels" in printed
    assert f"{wrong} of them are wrong." in printed
    assert not [word for word in ("sample", "95 %", "at least", "about") if word in printed]
    lines[0] |= {"verdict": "cannot_tell", "label": ""}
    del lines[1]
    assert run("judge", "suspects.parquet", saved(lines, "part.csv")) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"judged {len(lines)} of the {len(lines) + 1} labels" in printed
    assert "and 2 are undecided" in printed


@pytest.mark.parametrize("design", ["flagged", "all"])
def test_nothing_wrong_is_no_negative_number(
    judged: Callable[..., Lines], run: Run, capsys: pytest.CaptureFixture[str], design: str
) -> None:
    """Where no label is wrong, bounds are 0."""
    lines = [{**one, "verdict": "given", "label": ""} for one in judged("--design", design, "-n", 50)]
    assert "-0.0" not in json.dumps(shown(run, capsys, saved(lines)))
    assert run("judge", "suspects.parquet", "verdicts.csv") == 0
    assert re.search(r"-0\b", capsys.readouterr().out) is None


@pytest.mark.parametrize("options", [("-n", 10**12), ("-n", 5, "--seed", 10**20 - 1)], ids=["rows", "seed"])
def test_large_numbers_leave_verdicts_that_can_be_read(
    judged: Callable[..., Lines], run: Run, capsys: pytest.CaptureFixture[str], options: tuple[object, ...]
) -> None:
    """The page of an audit of more rows than there are, or with a long seed, is not judged in vain."""
    found = shown(run, capsys, saved(judged(*options)))
    assert found["judged"] == found["drawn"]


def test_all_flagged_rows_are_one_audit(
    folder: Path, judged: Callable[..., Lines], suspects: SuspectsFile, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """However many more are asked for, which `review` says; a person's `cannot tell` is one with a space too."""
    flagged = int(suspects.suspects.flagged.sum())
    lines, more = judged("-n", flagged), judged("-n", 800, page="more.html")
    assert {one["audit"] for one in lines} == {one["audit"] for one in more}
    assert (folder / "review.html").read_bytes() == (folder / "more.html").read_bytes()
    first, second = capsys.readouterr().out.splitlines()[::3]
    assert f"fewer than -n 800, as audit {lines[0]['audit']}" in second
    assert "fewer than" not in first
    old = read_verdicts(
        saved([{**one, "audit": one["audit"].replace(f"-{flagged}-", "-800-")} for one in lines]), suspects
    )
    assert len(old.judged) == flagged  # of pages that were written with the number asked for
    lines[0] |= {"verdict": "cannot tell", "label": ""}
    assert shown(run, capsys, saved(lines))["verdicts"]["cannot_tell"] == 1


@pytest.mark.usefixtures("folder")
def test_a_seed_that_verdicts_cannot_carry_is_refused(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A page that nobody could evaluate is not written."""
    page = ("review", "suspects.parquet", "--data", "images.npy", "-o", "review.html")
    assert run(*page, "--seed", 10**20) == 2
    assert "--seed: " in capsys.readouterr().err
    assert not Path("review.html").exists()


def test_the_form_of_a_spreadsheet_does_not_matter(
    judged: Callable[..., Lines], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Semicolons, a byte-order mark, another order of the lines and unjudged lines change nothing."""
    lines = judged("-n", 30)
    expected = shown(run, capsys, saved(lines))
    expected.pop("verdicts_sha256")
    other = saved(lines[::-1], "other.csv", ";", "\ufeff")
    found = shown(run, capsys, other)
    found.pop("verdicts_sha256")
    assert found == expected
    blank = shown(run, capsys, saved([{**one, "given": "", "suggested": "", "id": ""} for one in lines], "blank.csv"))
    blank.pop("verdicts_sha256")
    assert blank == expected
    part = shown(run, capsys, saved([*lines[:20], *({**one, "verdict": ""} for one in lines[20:])], "part.csv"))
    assert (part["judged"], part["skipped"], part["drawn"]) == (20, 0, 30)
    gap = shown(run, capsys, saved([*lines[:5], *lines[10:]], "gap.csv"))
    assert (gap["judged"], gap["skipped"]) == (30, 5)


FAULTS: dict[str, tuple[Callable[[Lines], Lines], str]] = {
    "another set": (lambda some: [{**one, "audit": one["audit"][:-3] + "fff"} for one in some], "another set"),
    "two audits": (lambda some: [*some[:-1], {**some[-1], "audit": "all-9-9-" + "0" * 16}], "one audit"),
    "no audit": (lambda some: [{**one, "audit": "x"} for one in some], "audit: "),
    "twice": (lambda some: [*some, some[0]], "expected one verdict on row"),
    "unknown word": (lambda some: [{**some[0], "verdict": "maybe"}, *some[1:]], "'maybe'"),
    "row beyond": (lambda some: [{**some[0], "row": 10**6}, *some[1:]], "1000000"),
    "row is no number": (lambda some: [{**some[0], "row": "first"}, *some[1:]], "'first'"),
    "other given label": (lambda some: [{**some[0], "given": some[0]["suggested"]}, *some[1:]], "given label"),
    "label without other": (
        lambda some: [{**some[0], "verdict": "both", "label": "plane"}, *some[1:]],
        "with the verdict",
    ),
    "unknown label": (lambda some: [{**some[0], "verdict": "other", "label": "ship"}, *some[1:]], "'ship'"),
    "label of the two": (
        lambda some: [{**some[0], "verdict": "other", "label": some[0]["given"]}, *some[1:]],
        "both labels are wrong",
    ),
    "nothing": (lambda _: [], "none"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("step", ["judge", "apply"])
def test_verdicts_that_do_not_fit_are_refused(
    folder: Path, judged: Callable[..., Lines], run: Run, fault: str, step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 2, one sentence names the file and the fault, and nothing is written."""
    change, expected = FAULTS[fault]
    saved(change(judged("-n", 10)))
    before = set(folder.iterdir())
    capsys.readouterr()
    assert run(step, "suspects.parquet", "verdicts.csv", *(("-o", "cleaned.npz") if step == "apply" else ())) == 2
    said = capsys.readouterr().err
    assert "verdicts.csv: " in said
    assert expected in said
    assert said.count("\n") == 1
    assert set(folder.iterdir()) == before


def test_files_that_are_no_verdicts_are_named(folder: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Binary files, other tables, other JSON and missing files."""
    contents = {
        "a.csv": b"\xff\x00",
        "b.csv": b"x,y\n1,2\n",
        "c.json": b"{}",
        "d.json": b"[{}]",
        "e.json": b"[",
        "f.csv": b"",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    for name in (*contents, "missing.csv"):
        assert run("judge", "suspects.parquet", name) == 2, name
        assert name in capsys.readouterr().err


def test_only_what_a_person_confirmed_is_changed(
    folder: Path, judged: Callable[..., Lines], suspects: SuspectsFile, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verdicts for the suggested or a named label change it; given, both, cannot tell and no verdict do not."""
    lines = judged("-n", 30)
    lines[0] |= {"verdict": "both", "label": ""}
    lines[1] |= {"verdict": "cannot_tell", "label": ""}
    lines[2] |= {"verdict": "other", "label": ""}
    third = next(name for name in suspects.names if name not in (lines[3]["given"], lines[3]["suggested"]))
    lines[3] |= {"verdict": "other", "label": third}
    expected = suspects.labels
    for one in lines:
        name = {"suggested": one["suggested"], "other": one["label"]}.get(one["verdict"])
        if name:
            expected[one["row"]] = suspects.names.index(name)
    hashes = {path: path.read_bytes() for path in (folder / "outputs.npz", folder / "suspects.parquet")}
    assert run("apply", "suspects.parquet", saved(lines), "-o", "cleaned.npz") == 0
    assert "--drop leaves these rows out" in capsys.readouterr().out
    with np.load("cleaned.npz") as cleaned:
        np.testing.assert_array_equal(cleaned["labels"], expected)
        assert cleaned["names"].tolist() == list(suspects.names)
        assert cleaned["ids"].tolist() == list(suspects.ids)
    with open("cleaned.changes.csv", encoding="utf-8", newline="") as stream:
        changes = list(csv.DictReader(stream))
    assert {int(one["row"]) for one in changes} == set(np.flatnonzero(expected != suspects.labels).tolist())
    assert {one["audit"] for one in changes} == {lines[0]["audit"]}
    assert next(one["new"] for one in changes if int(one["row"]) == lines[3]["row"]) == third
    assert all(one["old"] != one["new"] for one in changes)
    assert {path: path.read_bytes() for path in hashes} == hashes


@pytest.mark.parametrize("ending", ["npz", "npy", "csv", "parquet"])
def test_every_form_of_the_labels_says_the_same(
    judged: Callable[..., Lines], suspects: SuspectsFile, run: Run, ending: str
) -> None:
    """Labels are numbers in .npz and .npy, as they were, and names in .csv and .parquet."""
    lines = judged("-n", 20)
    assert run("apply", "suspects.parquet", saved(lines), "-o", f"cleaned.{ending}") == 0
    expected = suspects.labels
    for one in lines:
        if one["verdict"] in ("suggested", "other"):
            expected[one["row"]] = suspects.names.index(
                one["suggested"] if one["verdict"] == "suggested" else one["label"]
            )
    if ending == "npy":
        found = np.load("cleaned.npy")
    elif ending == "npz":
        with np.load("cleaned.npz") as archive:
            found = archive["labels"]
    elif ending == "csv":
        with open("cleaned.csv", encoding="utf-8", newline="") as stream:
            table = list(csv.DictReader(stream))
        assert [int(one["row"]) for one in table] == list(range(len(expected)))
        found = np.array([suspects.names.index(one["label"]) for one in table])
    else:
        import pyarrow.parquet as pq

        found = np.array([suspects.names.index(one) for one in pq.read_table("cleaned.parquet")["labels"].to_pylist()])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("judged_right", [0, 3])
def test_what_is_proved_of_unjudged_rows_is_about_them_alone(
    judged: Callable[..., Lines],
    suspects: SuspectsFile,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    judged_right: int,
) -> None:
    """Judged rows that are wrong prove nothing of the others, but what is left of the bound does."""
    flagged = int(suspects.suspects.flagged.sum())
    lines = judged("-n", flagged - 10)
    for place, one in enumerate(lines):
        one |= {"verdict": "given" if place < judged_right else "suggested", "label": ""}
    bound = shown(run, capsys, saved(lines))["precision"]["bound"]
    assert run("apply", "suspects.parquet", "verdicts.csv", "--also-flagged", "correct", "-o", "corrected.npz") == 0
    least = round(bound * flagged) - (len(lines) - judged_right)
    assert f"up to {10 - max(least, 0)} of the 10 that were not judged may be right" in capsys.readouterr().out


@pytest.mark.parametrize("verdict", ["given", "suggested", "other"])
def test_the_risk_of_wrong_suggestions_is_stated(
    judged: Callable[..., Lines],
    suspects: SuspectsFile,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    verdict: str,
) -> None:
    """Both kinds of harm are bounded: labels that were right, and suggested ones that are wrong."""
    flagged, lines = int(suspects.suspects.flagged.sum()), judged("-n", 30)
    left = flagged - 30
    saved([{**one, "verdict": verdict, "label": ""} for one in lines])
    assert run("apply", "suspects.parquet", "verdicts.csv", "--also-flagged", "correct", "-o", "corrected.npz") == 0
    printed = capsys.readouterr().out
    found = re.search(rf"up to (\d+) of the {left} that were not judged may be right as they are", printed)
    wrong = re.search(rf"up to (\d+) of the {left} may get a wrong label", printed)
    assert found is not None
    assert wrong is not None
    assert (int(found[1]) == left, int(wrong[1]) == left) == (verdict == "given", verdict != "suggested")
    assert run("apply", "suspects.parquet", "verdicts.csv", "--also-flagged", "drop", "-o", "dropped.npz") == 0
    assert "wrong label" not in capsys.readouterr().out


def test_unjudged_rows_change_only_when_told(
    judged: Callable[..., Lines], suspects: SuspectsFile, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """The flagged rows get the suggested label or are left out; the precision that the audit proves is printed."""
    lines = judged("-n", 20)
    bound = shown(run, capsys, saved(lines))["precision"]["bound"]
    found = suspects.suspects
    unjudged = set(found.row[found.flagged].tolist()) - {one["row"] for one in lines}
    assert run("apply", "suspects.parquet", "verdicts.csv", "--also-flagged", "correct", "-o", "corrected.npz") == 0
    assert f"at least {percent_down(bound)} %" in capsys.readouterr().out
    suggested = np.empty(found.n, np.int64)
    suggested[found.row] = found.suggested
    with np.load("corrected.npz") as corrected:
        for row in unjudged:
            assert corrected["labels"][row] == suggested[row]
    assert run("apply", "suspects.parquet", "verdicts.csv", "--also-flagged", "drop", "-o", "dropped.npz") == 0
    with np.load("dropped.npz") as dropped:
        assert set(range(found.n)) - set(dropped["rows"].tolist()) == unjudged
        assert len(dropped["labels"]) == len(dropped["rows"]) == len(dropped["ids"])


def test_several_audits_apply_together_if_they_agree(
    judged: Callable[..., Lines], suspects: SuspectsFile, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their changes are joined; two verdicts on a row that contradict each other are refused."""
    first, second = judged("-n", 30), judged("-n", 30, "--seed", 1, page="second.html")
    saved(first, "first.csv")
    saved(second, "second.csv")
    assert run("apply", "suspects.parquet", "first.csv", "second.csv", "-o", "both.npy") == 0
    changed = {one["row"] for one in (*first, *second) if one["verdict"] in ("suggested", "other")}
    assert set(np.flatnonzero(np.load("both.npy") != suspects.labels).tolist()) == changed
    shared = {one["row"] for one in first} & changed & {one["row"] for one in second}
    for one in second:
        if one["row"] in shared:
            one |= {"verdict": "given", "label": ""}
    saved(second, "second.csv")
    assert shared
    assert run("apply", "suspects.parquet", "first.csv", "second.csv", "-o", "torn.npy") == 2
    assert "agree" in capsys.readouterr().err


def test_nothing_is_overwritten(folder: Path, judged: Callable[..., Lines], run: Run) -> None:
    """A file that exists is refused, the list of changes too, and stays as it is."""
    saved(judged("-n", 5))
    (folder / "cleaned.changes.csv").write_text("mine")
    assert run("apply", "suspects.parquet", "verdicts.csv", "-o", "outputs.npz") == 2
    assert run("apply", "suspects.parquet", "verdicts.csv", "-o", "cleaned.npz") == 2
    assert not (folder / "cleaned.npz").exists()
    assert (folder / "cleaned.changes.csv").read_text() == "mine"
    for output, more in (("cleaned.doc", ()), ("cleaned.npy", ("--drop",))):
        assert run("apply", "suspects.parquet", "verdicts.csv", *more, "-o", output) == 2
        assert not (folder / output).exists()


def test_cells_are_no_formulas(folder: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Names that a spreadsheet takes for formulas are quoted where people read them, and read back as they were."""
    with np.load("outputs.npz") as archive:
        arrays = {name: archive[name] for name in archive}
    arrays["names"] = np.array(["=1+1", "'=1", "-one", "@x", "plain", "'tis"])
    for name in ("outputs", "held-out"):
        with np.load(f"{name}.npz") as archive:
            own = {one: archive[one] for one in archive}
        np.savez(f"named-{name}.npz", allow_pickle=False, **{**own, "names": arrays["names"]})
    assert run("find", "named-outputs.npz", "--held-out", "named-held-out.npz", "-o", "named.parquet") == 0
    assert run("review", "named.parquet", "--data", "images.npy", "-n", 60, "-o", "named.html") == 0
    found = re.search(r'id="data">(.*?)</script>', (folder / "named.html").read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    lines = []
    for item in data["items"]:
        given, suggested = (inert(item["labels"][place]) for place in (item["given"], 1 - item["given"]))
        values = (item["row"], item["id"], "suggested", "", given, suggested, data["audit"], "")
        lines.append(dict(zip(COLUMNS, values, strict=True)))
    assert {one["given"] for one in lines} > {"'=1+1", "''=1", "'-one", "'@x", "plain"}
    saved(lines)
    assert run("apply", "named.parquet", "verdicts.csv", "-o", "named.npz") == 0
    with open("named.changes.csv", encoding="utf-8", newline="") as stream:
        cells = {cell for line in csv.reader(stream) for cell in line}
    assert "'=1+1" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    assert run("apply", "named.parquet", "verdicts.csv", "-o", "cleaned.csv") == 2
    assert "write .npz or .parquet" in capsys.readouterr().err


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(WORDS) | st.text(), inner),
    max_leaves=20,
)


@settings(max_examples=300)
@given(found=st.lists(st.dictionaries(st.sampled_from(WORDS), values), max_size=3))
def test_any_json_is_verdicts_or_refused(made: Path, tmp_path_factory: pytest.TempPathFactory, found: Any) -> None:
    """Whatever another tool wrote, reading it ends in verdicts or in one sentence."""
    path = tmp_path_factory.mktemp("json") / "export.json"
    path.write_text(json.dumps(found))
    with suppress(CalibrationError):
        read_verdicts(path, read_suspects(made / "suspects.parquet"))


@settings(max_examples=300)
@given(content=st.binary() | st.text().map(lambda text: (",".join(COLUMNS) + "\n" + text).encode(errors="replace")))
def test_any_table_is_verdicts_or_refused(made: Path, tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever a file of verdicts holds, reading it ends in verdicts or in one sentence."""
    path = tmp_path_factory.mktemp("csv") / "verdicts.csv"
    path.write_bytes(content)
    with suppress(CalibrationError):
        read_verdicts(path, read_suspects(made / "suspects.parquet"))
