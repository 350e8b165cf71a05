"""`edgecascade clean find` and `plant` on saved outputs."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.calibration.commands.clean.suspects_file import SuspectsFile, read_suspects
from edgecascade.types.softmax import softmax

Run = Callable[..., int]
Arrays = dict[str, Any]


def loaded(path: Path) -> Arrays:
    """Return the arrays of an .npz file."""
    with np.load(path) as archive:
        return {name: archive[name] for name in archive}


def test_wrong_labels_come_first(suspects: SuspectsFile, truth: NDArray[np.int64]) -> None:
    """Every row is listed once, the flagged ones are mostly wrong, and the suggested label is mostly the true one."""
    found = suspects.suspects
    assert sorted(found.row.tolist()) == list(range(len(truth)))
    assert (np.diff(found.score) <= 0).all()
    flagged = found.row[found.flagged]
    wrong = suspects.labels != truth
    assert wrong[flagged].mean() > 0.8
    assert wrong[flagged].sum() > 0.8 * wrong.sum()
    assert (found.suggested[found.flagged] == truth[flagged])[wrong[flagged]].mean() > 0.8


def test_the_file_says_where_it_comes_from(folder: Path, suspects: SuspectsFile) -> None:
    """It has the hashes of the files, weights, rule and class names, and can be read as a plain table."""
    import pyarrow.parquet as pq

    from edgecascade.calibration.commands.clean.expert_files import sha256

    files = suspects.provenance["files"]
    assert files["outputs"][0]["sha256"] == sha256(folder / "outputs.npz")
    assert files["held_out"][0]["sha256"] == sha256(folder / "held-out.npz")
    assert [one["name"] for one in suspects.provenance["experts"]] == ["small", "large", "weak"]
    table = pq.read_table(folder / "suspects.parquet").to_pydict()
    first = int(suspects.suspects.row[0])
    assert (table["row"][0], table["id"][0]) == (first, suspects.ids[first])
    assert (table["given"][0], table["suggested"][0]) == suspects.pair(first)
    assert {"score", "posterior", "flagged", "expert:small", "expert:small:given"} <= set(table)


@pytest.mark.parametrize("shown", [True, False])
def test_the_next_command_runs_as_it_is_printed(
    folder: Path, run: Run, capsys: pytest.CaptureFixture[str], shown: bool
) -> None:
    """It asks for what a person is to see exactly where the ids do not say it."""
    arrays = loaded(folder / "outputs.npz")
    if shown:
        arrays["ids"] = np.array([f"a text, number {row}" for row in range(len(arrays["labels"]))])
    np.savez("again.npz", allow_pickle=False, **arrays)
    assert run("find", "again.npz", "--held-out", "held-out.npz", "-o", "again.parquet") == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("next"))
    assert ("--data" in line) == (not shown)
    words = ["images.npy" if word == "DATA" else word for word in line.split()[3:]]
    assert run(*words) == 0
    assert Path("review.html").exists()


@pytest.mark.usefixtures("folder")
def test_a_changed_file_is_refused(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of suspects whose columns were edited proves nothing, and another table is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table("suspects.parquet")
    flags = pa.array([not one for one in table["flagged"].to_pylist()])
    pq.write_table(table.set_column(table.column_names.index("flagged"), "flagged", flags), "changed.parquet")
    pq.write_table(table.replace_schema_metadata(None), "other.parquet")
    pq.write_table(table.slice(1), "shorter.parquet")
    for name in ("changed", "other", "shorter"):
        assert run("review", f"{name}.parquet", "--data", "images.npy", "-o", "review.html") == 2
        assert f"{name}.parquet: " in capsys.readouterr().err
        assert not Path("review.html").exists()


def test_every_form_of_the_outputs_finds_the_same(folder: Path, run: Run, suspects: SuspectsFile) -> None:
    """They are one archive, one table, or .npy files; logits or probabilities; and classes in another order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = {"outputs": loaded(folder / "outputs.npz"), "held-out": loaded(folder / "held-out.npz")}
    order = np.array([3, 1, 0, 2, 5, 4])
    for name, arrays in parts.items():
        pq.write_table(
            pa.table({one: pa.array(list(values)) for one, values in arrays.items() if one != "names"}),
            f"{name}.parquet",
        )
        for expert in ("small", "large", "weak"):
            np.save(f"{name}-{expert}.npy", arrays[expert].astype(np.float64))
        np.save(f"{name}-labels.npy", arrays["names"][arrays["labels"]])
        named = {
            **arrays,
            "small": softmax(arrays["small"]),
            "large": arrays["large"][:, order],
            "large_names": arrays["names"][order],
        }
        np.savez(f"named-{name}.npz", allow_pickle=False, **{**named, "labels": arrays["names"][arrays["labels"]]})
    np.save("names.npy", parts["outputs"]["names"])
    three = [[f"{name}-{one}.npy" for one in ("small", "large", "weak", "labels")] for name in parts]
    forms = {
        "table": (["outputs.parquet"], ["held-out.parquet"], []),
        "files": (three[0], three[1], ["--names", "names.npy"]),
        "named": (["named-outputs.npz"], ["named-held-out.npz"], []),
    }
    for form, (outputs, held_out, more) in forms.items():
        assert run("find", *outputs, "--held-out", *held_out, *more, "-o", f"{form}.parquet.found.parquet") == 0, form
        found = read_suspects(f"{form}.parquet.found.parquet")
        np.testing.assert_array_equal(found.suspects.given[:20], suspects.suspects.given[:20])
        np.testing.assert_array_equal(found.suspects.row[:20], suspects.suspects.row[:20])
        np.testing.assert_allclose(found.suspects.score, suspects.suspects.score, rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("folder")
def test_out_of_fold_outputs_need_no_other_rows(run: Run, suspects: SuspectsFile) -> None:
    """With folds the weights are fitted on the judged rows, and the same rows are found."""
    np.save("fold.npy", np.arange(suspects.suspects.n) % 5)
    assert run("find", "outputs.npz", "--folds", "fold.npy", "-o", "folds.parquet") == 0
    found = read_suspects("folds.parquet").suspects
    assert len(set(found.row[:30].tolist()) & set(suspects.suspects.row[:30].tolist())) > 24


@pytest.mark.usefixtures("folder")
def test_outputs_that_may_have_seen_their_labels_are_named(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """With folds there are no other rows to compare with, but one may not agree with nearly all labels."""
    arrays = loaded(Path("outputs.npz"))
    arrays |= {"fold": np.arange(900) % 5, "seen": arrays["small"] + 9 * np.eye(6)[arrays["labels"]]}
    np.savez("seen.npz", allow_pickle=False, **arrays)
    for experts, warned in (("small,large,weak", False), ("small,large,weak,seen", True)):
        assert run("find", "seen.npz", "--experts", experts, "--folds", "fold", "-o", f"{warned}.parquet") == 0
        assert ("warning    seen: " in capsys.readouterr().out) == warned


def test_agreement_is_said_of_the_judged_rows_too(folder: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside that with the held-out labels."""
    assert run("find", "outputs.npz", "--held-out", "held-out.npz", "--json", "-", "-o", "found.parquet") == 0
    experts = {one["name"]: one for one in json.loads(capsys.readouterr().out)["experts"]}
    for file, key in (("outputs", "agreement_judged"), ("held-out", "agreement")):
        arrays = loaded(folder / f"{file}.npz")
        agrees = (arrays["large"].argmax(axis=1) == arrays["labels"]).mean()
        assert experts["large"][key]["value"] == pytest.approx(agrees)


def test_planted_labels_measure_what_is_found(
    folder: Path, run: Run, suspects: SuspectsFile, capsys: pytest.CaptureFixture[str]
) -> None:
    """The share that is flagged is printed with its interval; the suspects are those of the labels without plants."""
    assert run("plant", "outputs.npz", "--share", "0.05", "-o", "planted.npz") == 0
    planted, labels = loaded(folder / "planted.npz"), loaded(folder / "outputs.npz")["labels"]
    assert np.flatnonzero(planted["labels"] != labels).tolist() == planted["rows"].tolist()
    assert labels[planted["rows"]].tolist() == planted["original"].tolist()
    assert len(planted["rows"]) == round(0.05 * len(labels))
    capsys.readouterr()
    arguments = ("--held-out", "held-out.npz", "--planted", "planted.npz", "--json", "-")
    assert run("find", "outputs.npz", *arguments, "-o", "found.parquet") == 0
    detected = json.loads(capsys.readouterr().out)["detection"]
    assert detected["n"] == len(planted["rows"])
    assert 0.8 < detected["low"] < detected["value"] <= detected["high"] <= 1
    assert read_suspects("found.parquet").hash == suspects.hash
    np.savez("trained.npz", allow_pickle=False, **{**loaded(folder / "outputs.npz"), "labels": planted["labels"]})
    assert run("find", "trained.npz", *arguments, "-o", "trained.parquet") == 0
    assert read_suspects("trained.parquet").hash == suspects.hash


def test_plants_are_options_that_the_rows_have(folder: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Outputs of -inf in the file say which ones; planted labels from elsewhere that are no options are named."""
    for name in ("outputs", "held-out"):
        arrays = loaded(folder / f"{name}.npz")
        absent = np.random.default_rng(1).random((len(arrays["labels"]), 6)) < 0.3
        absent[np.arange(len(absent)), arrays["labels"]] = False
        arrays |= {one: np.where(absent, -np.inf, arrays[one]) for one in ("small", "large", "weak")}
        np.savez(f"choice-{name}.npz", allow_pickle=False, **arrays)
    assert run("plant", "choice-outputs.npz", "--share", "0.2", "-o", "planted.npz") == 0
    find = ("find", "choice-outputs.npz", "--held-out", "choice-held-out.npz", "--planted")
    assert run(*find, "planted.npz", "-o", "choice.parquet") == 0
    assert run("plant", "outputs.npz", "--share", "0.2", "-o", "elsewhere.npz") == 0
    assert run(*find, "elsewhere.npz", "-o", "none.parquet") == 2
    assert "elsewhere.npz: labels: expected options" in capsys.readouterr().err


def test_plants_keep_the_form_of_the_labels(folder: Path, run: Run) -> None:
    """Labels in text stay text, numbers stay numbers, and nothing is overwritten."""
    np.save("text.npy", np.array(["a", "b", "c"] * 40))
    np.save("numbers.npy", np.array([0, 1, 2] * 40))
    for name in ("text", "numbers"):
        assert run("plant", f"{name}.npy", "--share", "0.1", "-o", f"{name}.npz") == 0
        planted = loaded(folder / f"{name}.npz")
        before = np.load(f"{name}.npy")
        assert (planted["labels"].dtype.kind, int((planted["labels"] != before).sum())) == (before.dtype.kind, 12)
        assert run("plant", f"{name}.npy", "-o", f"{name}.npz") == 2


@pytest.mark.usefixtures("folder")
def test_nothing_flagged_is_said_with_the_reason(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The file is written all the same, and its audit is one of all rows."""
    assert run("find", "outputs.npz", "--held-out", "held-out.npz", "--threshold", "1", "-o", "none.parquet") == 0
    shown = capsys.readouterr().out
    assert "flagged    0 labels" in shown
    assert "none surely enough" in shown
    assert "--design all" in shown
    assert run("review", "none.parquet", "--data", "images.npy", "-o", "review.html") == 2
    assert "flagged" in capsys.readouterr().err


def test_few_held_out_rows_are_said(folder: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The weights are drawn towards equal ones."""
    few = {name: values[:40] if name != "names" else values for name, values in loaded(folder / "held-out.npz").items()}
    np.savez("few.npz", allow_pickle=False, **few)
    assert run("find", "outputs.npz", "--held-out", "few.npz", "-o", "few.parquet") == 0
    assert "drawn towards equal ones" in capsys.readouterr().out


@pytest.mark.parametrize("text", [False, True], ids=["numbers", "names"])
def test_held_out_rows_may_have_their_classes_in_another_order(
    folder: Path, run: Run, suspects: SuspectsFile, text: bool
) -> None:
    """Columns and labels are matched by the names of the file that they are in."""
    arrays, order = loaded(folder / "held-out.npz"), np.array([5, 3, 0, 1, 4, 2])
    moved = {name: arrays[name][:, order] for name in ("small", "large", "weak")}
    labels = arrays["names"][arrays["labels"]] if text else np.argsort(order)[arrays["labels"]]
    np.savez("moved.npz", allow_pickle=False, **moved, names=arrays["names"][order], labels=labels)
    assert run("find", "outputs.npz", "--held-out", "moved.npz", "-o", "moved.parquet") == 0
    assert read_suspects("moved.parquet").hash == suspects.hash


def nan(arrays: Arrays) -> Arrays:
    """Put NaN into three rows."""
    return {**arrays, "small": np.where(np.arange(len(arrays["small"]))[:, None] < 3, np.nan, arrays["small"])}


BAD: dict[str, tuple[Callable[[Arrays], Arrays], str]] = {
    "NaN": (nan, "(3 such rows)"),
    "infinite": (lambda some: {**some, "small": np.where(some["small"] > 4, np.inf, some["small"])}, "+inf"),
    "half probabilities": (lambda some: {**some, "small": softmax(some["small"]) / 2}, "small: "),
    "all zero": (lambda some: {**some, "small": some["small"] * 0}, "small: "),
    "unequal rows": (lambda some: {**some, "small": some["small"][1:]}, "[900, 6]"),
    "unequal classes": (lambda some: {**some, "large": some["large"][:, 1:]}, "large: "),
    "label -1": (lambda some: {**some, "labels": some["labels"] - 1}, "-1"),
    "label too large": (lambda some: {**some, "labels": some["labels"] + 1}, "labels: expected 0 to 5"),
    "float labels": (lambda some: {**some, "labels": some["labels"] * 1.0}, "labels: expected integers"),
    "unknown name": (lambda some: {**some, "labels": np.array(["plane", "ship"] * 450)}, "ship"),
    "few labels": (lambda some: {**some, "labels": some["labels"][1:]}, "labels: expected 900"),
    "other columns": (
        lambda some: {**some, "large": some["large"][:, [1, 2, 3, 4, 5, 0]]},
        "dog, plane and not for plane, car, bird, cat, deer, dog; reorder its columns, or correct `names`",
    ),
    "twice": (lambda some: {**some, "again": some["large"] * 2}, "again: "),
    "no labels": (lambda some: {name: one for name, one in some.items() if name != "labels"}, "labels"),
    "no experts": (lambda some: {"labels": some["labels"]}, "expert"),
    "names of other classes": (lambda some: {**some, "names": some["names"][1:]}, "names: expected 6"),
    "a name twice": (lambda some: {**some, "names": np.array(["a", "b", "c", "d", "e", "e"])}, "names: "),
    "ids of other rows": (lambda some: {**some, "ids": some["ids"][1:]}, "ids: expected 900"),
    "broken ids": (lambda some: {**some, "ids": np.array(["\ud800"] * 900)}, "ids: expected valid Unicode"),
    "seen": (lambda some: {**some, "large": some["large"] + 4 * np.eye(6)[some["labels"]]}, "--folds"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_input_gets_one_sentence(folder: Path, run: Run, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is 2, the sentence names what is wrong, and nothing is written."""
    change, expected = BAD[fault]
    np.savez("bad.npz", allow_pickle=False, **change(loaded(folder / "outputs.npz")))
    held_out = loaded(folder / "held-out.npz")
    if fault in ("twice", "other columns"):  # the same file, made by the same mistake
        held_out = change(held_out)
    elif fault == "names of other classes":
        held_out = {name: one for name, one in held_out.items() if name != "names"}
    np.savez("rest.npz", allow_pickle=False, **held_out)
    before = set(folder.iterdir())
    assert run("find", "bad.npz", "--held-out", "rest.npz", "-o", "found.parquet", "--json", "found.json") == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
    assert set(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("outputs.npz", "-o", "found.parquet"), "--held-out: "),
        (("outputs.npz", "--held-out", "outputs.npz", "-o", "found.parquet"), "held-out rows: "),
        (("missing.npz", "--held-out", "held-out.npz", "-o", "found.parquet"), "missing.npz: no such file"),
        ((".", "--held-out", "held-out.npz", "-o", "found.parquet"), "got a folder"),
        (("outputs.npz", "--held-out", "held-out.npz", "-o", "found.csv"), "--output: "),
        (("outputs.npz", "--held-out", "held-out.npz", "-o", "outputs.npz.parquet/x.parquet"), "folder"),
        (("outputs.npz", "--held-out", "held-out.npz", "-o", "suspects.parquet"), "expected a new file"),
        (("outputs.npz", "--folds", "fold", "-o", "found.parquet"), "got only small, large, weak, labels, names, ids"),
        (("outputs.npz", "--experts", "small,none", "--held-out", "held-out.npz", "-o", "found.parquet"), "none"),
        (("outputs.npz", "--kind", "small=votes", "--held-out", "held-out.npz", "-o", "found.parquet"), "--kind: "),
        (("texts.txt", "--held-out", "held-out.npz", "-o", "found.parquet"), "texts.txt: "),
        (("outputs.npz", "images.npy", "--held-out", "held-out.npz", "-o", "found.parquet"), "outputs: "),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    folder: Path, run: Run, arguments: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 2, the sentence names the argument or the file, and nothing changes."""
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert run("find", *arguments) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize("package", ["pyarrow", "PIL"])
def test_a_missing_package_is_reported_with_the_extra_of_the_command(
    folder: Path, run: Run, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One extra has all that the steps need, and nothing is written without it."""
    for name in [name for name in sys.modules if name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert run("review", "suspects.parquet", "--data", "images.npy", "-o", "review.html") == 2
    assert f"clean needs {package}: pip install 'edgecascade[clean]'" in capsys.readouterr().err
    assert not (folder / "review.html").exists()
