"""`edgecascade plan` on scores and values of a general task."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecascade.calibration import Groups, LeastOffload, plan_task
from edgecascade.cli import main


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with scores and values of a general task as values.npz, .csv and .parquet."""
    import pyarrow
    import pyarrow.parquet

    folder, rng = tmp_path_factory.mktemp("values"), np.random.default_rng(0)
    ease = rng.random(600)
    columns: dict[str, Any] = {
        "score": 5 * ease + rng.normal(0.0, 0.7, 600),
        "local": rng.binomial(8, 0.4 + 0.5 * ease) / 8,
        "remote": rng.binomial(8, 0.9 + 0.05 * ease) / 8,
        "site": np.array(["north", "south"])[rng.integers(0, 2, 600)],
    }
    np.savez(folder / "values.npz", **columns)
    pyarrow.parquet.write_table(
        pyarrow.table({name: column.tolist() for name, column in columns.items()}), folder / "values.parquet"
    )
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    (folder / "values.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.mark.parametrize("form", ["npz", "csv", "parquet"])
def test_values_of_a_general_task_are_planned_from_every_format(
    values: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan is that of `plan_task`, whatever the file."""
    assert main(["plan", str(values / f"values.{form}"), "--max-loss", "0.02", "--groups", "site", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    with np.load(values / "values.npz") as file:
        expected = plan_task(
            file["score"],
            file["local"],
            file["remote"],
            LeastOffload(loss=0.02),
            groups=Groups.of(file["site"], "site"),
        )
    assert found == json.loads(json.dumps(expected.to_dict()))
    assert [one["name"] for one in found["groups"]["groups"]] == ["north", "south"]


def test_right_and_wrong_may_be_words_in_a_csv_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As pandas writes booleans; the plan is that of ones and zeros."""
    rng = np.random.default_rng(1)
    score, right = rng.normal(size=200), rng.random((2, 200)) < [[0.6], [0.9]]
    printed = []
    for name, columns in (("words", right), ("numbers", right.astype(int))):
        rows = (f"{a},{b},{c}" for a, b, c in zip(score, *columns, strict=True))
        (tmp_path / f"{name}.csv").write_text("\n".join(["score,local,remote", *rows]))
        assert main(["plan", str(tmp_path / f"{name}.csv"), "--offload-rate", "0.3", "--json", "-"]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def test_the_plan_of_a_general_task_is_printed_and_drawn(values: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The text speaks of mean values and not of accuracy, and the figure is an image."""
    arguments = ["plan", str(values / "values.csv"), "--offload-rate", "0.3", "--plot", str(values / "plan.svg")]
    assert main([*arguments, "--groups", "site"]) == 0
    said = capsys.readouterr().out
    assert "mean value" in said
    assert "accuracy" not in said
    assert "<svg" in (values / "plan.svg").read_text("utf-8")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--merge", "average"], "--merge"),
        (["--score", "margin"], "--score"),
        (["--label-noise"], "--label-noise"),
        (["--kind", "logits"], "--kind"),
        (["--prior", "0.5,0.5"], "--prior"),
        (["--groups", "class"], "--groups class"),
        (["--calibrator", "temperature"], "calibrator"),
        (["--estimate", "confidences"], "estimate"),
        (["--weights", "weight"], "weight"),
    ],
)
def test_options_about_classes_are_refused_for_a_general_task(
    values: Path, options: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence names the option, and nothing is planned."""
    assert main(["plan", str(values / "values.csv"), "--offload-rate", "0.3", *options]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert named in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (["score,local"], "remote"),
        (["score,local,remote", "1,0.5"], "line 2"),
        (["score,local,remote", *["1,0.5,high"] * 20], "score"),
        (["score,local,remote", *[f"{i},0.5,high" for i in range(20)]], "remote_value"),
        (["score,local,remote", *[f"{i},0.5,1.5" for i in range(20)]], "1.5 in row 0"),
        (["score,local,remote", *[f"{i},0.5,nan" for i in range(20)]], "nan in row 0"),
        (["score,local,remote", *["nan,0.5,1"] * 20], "score"),
        (["score,local,remote", *[f"{i},0.5,1" for i in range(9)]], "13"),
    ],
)
def test_values_that_cannot_be_planned_end_in_one_sentence(
    tmp_path: Path, lines: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names what is wrong."""
    (tmp_path / "values.csv").write_text("\n".join(lines), encoding="utf-8")
    assert main(["plan", str(tmp_path / "values.csv"), "--offload-rate", "0.3"]) == 2
    said = capsys.readouterr().err
    assert named in said
    assert said.count("\n") == 1
