"""Audits in Label Studio and Argilla: what is written for them, and what is read back."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecascade.calibration.cleaning import Verdict
from edgecascade.calibration.commands.clean.suspects_file import SuspectsFile
from edgecascade.calibration.commands.clean.verdicts_file import read_verdicts
from edgecascade.types.errors import CalibrationError

Run = Callable[..., int]

ANSWERS = ("Both labels are right", "Neither label is right", "Cannot tell")


def written(run: Run, tool: str, *options: object) -> list[dict[str, Any]]:
    """Export an audit of six rows, and return what was written."""
    assert run("export", "suspects.parquet", "--to", tool, "-n", 6, *options, "-o", f"{tool}.json") == 0
    found: list[dict[str, Any]] = json.loads(Path(f"{tool}.json").read_text(encoding="utf-8"))
    return found


def annotated(task: dict[str, Any], choice: str, typed: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a task as Label Studio exports it, with an annotation."""
    result = [
        {"id": "a1", "from_name": "verdict", "to_name": "input", "type": "choices", "value": {"choices": [choice]}}
    ]
    if typed is not None:
        result.append(
            {"id": "a2", "from_name": "label", "to_name": "input", "type": "textarea", "value": {"text": [typed]}}
        )
    annotation = {"id": 1, "result": result, "was_cancelled": False, "updated_at": "2026-01-02T03:04:05.6Z", **more}
    return {"id": 9, "data": task["data"], "annotations": [annotation], "predictions": []}


def answered(
    record: dict[str, Any], verdict: str, label: str | None = None, status: str = "completed"
) -> dict[str, Any]:
    """Return a record as Argilla exports it, with responses."""
    said = {"verdict": verdict, "label": label}
    responses = {name: [{"value": value, "user_id": "u"}] for name, value in said.items() if value is not None}
    return {**record, "responses": responses, "status": status, "_server_id": "s"}


def third(suspects: SuspectsFile, row: int) -> str:
    """Return the name of a class that is neither of the two labels of a row."""
    return next(name for name in suspects.names if name not in suspects.pair(row))


@pytest.mark.usefixtures("folder")
def test_label_studio_verdicts_come_back(suspects: SuspectsFile, run: Run) -> None:
    """Names of labels and answers become verdicts; skipped and empty tasks are not judged."""
    tasks = written(run, "label-studio", "--data", "texts.txt")
    rows = [task["data"]["row"] for task in tasks]
    pairs = [suspects.pair(row) for row in rows]
    for task, pair in zip(tasks, pairs, strict=True):
        assert {one["value"] for one in task["data"]["options"]} == {*pair, *ANSWERS}
        assert {"given", "suggested", "score"}.isdisjoint(task["data"])
    named = third(suspects, rows[3])
    exported = [
        annotated(tasks[0], pairs[0][0]),
        annotated(tasks[1], pairs[1][1]),
        annotated(tasks[2], ANSWERS[0]),
        annotated(tasks[3], ANSWERS[1], f" {named} "),
        annotated(tasks[4], ANSWERS[2], was_cancelled=True),
        annotated(tasks[5], ANSWERS[2]),
    ]
    exported[0]["annotations"] *= 2  # two people agree
    Path("export.json").write_text(json.dumps(exported))
    judged = read_verdicts("export.json", suspects).judged
    assert {row: one.verdict for row, one in judged.items()} == {
        rows[0]: Verdict.GIVEN,
        rows[1]: Verdict.SUGGESTED,
        rows[2]: Verdict.BOTH,
        rows[3]: Verdict.OTHER,
        rows[5]: Verdict.CANNOT_TELL,
    }
    assert judged[rows[3]].label == suspects.names.index(named)
    assert judged[rows[0]].time.startswith("2026-01-02")
    assert run("judge", "suspects.parquet", "export.json") == 0


@pytest.mark.usefixtures("folder")
def test_argilla_verdicts_come_back(suspects: SuspectsFile, run: Run) -> None:
    """First and second become given and suggested; drafts and records without a response are not judged."""
    records = written(run, "argilla", "--data", "images.npy")
    rows = [record["metadata"]["row"] for record in records]
    assert all(
        {one["fields"]["first"], one["fields"]["second"]} == set(suspects.pair(row))
        for one, row in zip(records, rows, strict=True)
    )
    named = third(suspects, rows[2])
    exported = [
        answered(records[0], "first"),
        answered(records[1], "second"),
        answered(records[2], "other", named),
        answered(records[3], "both", ""),
        answered(records[4], "cannot_tell", status="pending"),
        {**records[5], "status": "pending", "_server_id": "s"},
    ]
    Path("export.json").write_text(json.dumps(exported))
    judged = read_verdicts("export.json", suspects).judged
    first, second = (
        records[k]["fields"][name] == suspects.pair(rows[k])[0] for k, name in ((0, "first"), (1, "second"))
    )
    assert [one.verdict for one in judged.values()] == [
        Verdict.GIVEN if first else Verdict.SUGGESTED,
        Verdict.GIVEN if second else Verdict.SUGGESTED,
        Verdict.OTHER,
        Verdict.BOTH,
    ]
    assert judged[rows[2]].label == suspects.names.index(named)


@pytest.mark.usefixtures("folder")
def test_answers_that_differ_are_refused(suspects: SuspectsFile, run: Run) -> None:
    """Two people who disagree on a row give no verdict, nor does an answer that is none of those offered."""
    tasks = written(run, "label-studio", "--data", "texts.txt")
    both, one = annotated(tasks[0], ANSWERS[0]), annotated(tasks[0], ANSWERS[2])
    both["annotations"] += one["annotations"]
    for exported, said in (([both], "task 9: expected one annotation"), ([annotated(tasks[0], "ship")], "'ship'")):
        Path("export.json").write_text(json.dumps(exported))
        with pytest.raises(CalibrationError, match=said):
            read_verdicts("export.json", suspects)


@pytest.mark.usefixtures("folder")
def test_the_short_export_of_label_studio_is_named(suspects: SuspectsFile, run: Run) -> None:
    """JSON-MIN has the answers without the task's parts."""
    task = written(run, "label-studio", "--data", "texts.txt")[0]
    Path("export.json").write_text(json.dumps([{**task["data"], "id": 1, "verdict": ANSWERS[0], "annotator": 1}]))
    with pytest.raises(CalibrationError, match="expected Label Studio's export as JSON, got JSON-MIN"):
        read_verdicts("export.json", suspects)


def test_images_can_be_linked(
    folder: Path, suspects: SuspectsFile, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """With an address, tasks name the files instead of holding them; ids that tell the given label are counted."""
    tasks = written(run, "label-studio", "--address", "/data/local-files/?d=photos/", "--show", "images")
    first = tasks[0]["data"]
    assert first["image"] == f"/data/local-files/?d=photos/{suspects.ids[first['row']]}"
    assert "<Image " in (folder / "label-studio.config.xml").read_text()
    assert "warning: 6 of 6 linked ids contain the name of the given label" in capsys.readouterr().out
    with np.load("outputs.npz") as archive:
        arrays = {**archive, "ids": np.array([f"{row}-airplanes.png" for row in range(suspects.suspects.n)])}
    np.savez("plain.npz", allow_pickle=False, **arrays)
    assert run("find", "plain.npz", "--held-out", "held-out.npz", "-o", "plain.parquet") == 0
    assert (
        run("export", "plain.parquet", "--to", "label-studio", "--address", "/", "--show", "images", "-o", "p.json")
        == 0
    )
    written(run, "argilla", "--data", "images.npy")  # embedded, so that no id is seen
    assert "warning" not in capsys.readouterr().out


def test_a_plain_table_has_the_suspects_alone(folder: Path, suspects: SuspectsFile, run: Run) -> None:
    """It has no metadata, whole paths and names of classes, for FiftyOne, Spotlight or pandas."""
    import pyarrow.parquet as pq

    (folder / "photos").mkdir()
    assert run("export", "suspects.parquet", "--to", "parquet", "--data", "photos", "-o", "table.parquet") == 0
    table = pq.read_table("table.parquet")
    found = table.to_pydict()
    count = int((suspects.suspects.flagged | (suspects.suspects.score > 0)).sum())
    assert found["row"] == suspects.suspects.row[:count].tolist()
    assert found["filepath"][0] == str(folder.resolve() / "photos" / found["id"][0])
    assert (found["given"][0], found["suggested"][0]) == suspects.pair(found["row"][0])
    assert b"edgecascade.clean" not in (table.schema.metadata or {})


CHECKS = {
    "label-studio-sdk==2.1.2": """
import json, sys
from label_studio_sdk.label_interface import LabelInterface
interface = LabelInterface(open("label-studio.config.xml").read())
interface.validate()
for task in json.load(open("label-studio.json")):
    assert interface.validate_task(task)
result = [{"from_name": "verdict", "to_name": "input", "type": "choices", "value": {"choices": ["x"]}},
          {"from_name": "label", "to_name": "input", "type": "textarea", "value": {"text": ["x"]}}]
assert interface.validate_annotation({"result": result})
""",
    "argilla==2.8.0": """
import json, os
os.environ |= {"ARGILLA_API_KEY": "none", "ARGILLA_API_URL": "http://127.0.0.1:9"}
import argilla._api._client as client
client.APIClient._validate_connection = lambda self: None  # nothing is sent
import argilla as rg
from argilla.records._io._json import JsonIO
settings = rg.Settings.from_json("argilla.settings.json")
settings.validate()
assert [one.name for one in settings.questions] == ["verdict", "label"]
records = JsonIO._records_from_json("argilla.json")
for record in records:
    assert set(record.fields) == {one.name for one in settings.fields}
response = rg.Response("verdict", "first", user_id="00000000-0000-0000-0000-000000000000")
records[0].responses._RecordResponses__responses.append(response)
JsonIO.to_json(records, "exported.json")
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("package", CHECKS)
def test_the_tools_themselves_accept_what_is_written(
    folder: Path, suspects: SuspectsFile, run: Run, environment: Callable[..., Path], package: str
) -> None:
    """Label Studio's and Argilla's own Python packages read the files, and what Argilla writes is read back."""
    for tool in ("label-studio", "argilla"):
        written(run, tool, "--data", "images.npy")
    python = environment(package, *(["requests"] if "argilla" in package else []))  # which argilla forgets to require
    ran = subprocess.run([python, "-c", CHECKS[package]], cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    if "argilla" in package:
        exported = json.loads((folder / "exported.json").read_text())
        exported[0]["status"] = "completed"
        (folder / "exported.json").write_text(json.dumps(exported))
        assert len(read_verdicts("exported.json", suspects).judged) == 1
