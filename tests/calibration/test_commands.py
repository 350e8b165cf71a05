"""`edgecascade plan`, on saved outputs."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.calibration import CalibrationError, MostAccuracy, plan_cascade, softmax
from edgecascade.calibration.outputs import read_outputs
from edgecascade.cli import main

Sampled = Callable[..., tuple[NDArray[np.float64], NDArray[np.int64]]]


@pytest.fixture
def folder(sampled: Sampled, tmp_path: Path) -> Path:
    """Outputs of a local model that sees what its remote sees through noise, in every form."""
    logits, labels = sampled(n=1500, seed=3)
    logits = 2 * logits
    arrays: dict[str, Any] = {
        "local": logits + np.random.default_rng(4).normal(0, 3, logits.shape),
        "remote": logits,
        "labels": labels,
    }
    np.savez(tmp_path / "outputs.npz", **arrays)
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    return tmp_path


def run(*arguments: object) -> int:
    """The exit code, argparse's included."""
    try:
        return main(["plan", *(str(argument) for argument in arguments)])
    except SystemExit as stop:
        return int(stop.code or 0)


def test_every_form_of_the_outputs_is_read_alike(folder: Path) -> None:
    """One archive, three arrays, or a parquet table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    named = read_outputs(folder / "outputs.npz")
    columns = {"local": named.local.tolist(), "remote": named.remote.tolist(), "labels": named.labels}
    pq.write_table(pa.table(columns), folder / "outputs.parquet")
    three = read_outputs(*(folder / f"{name}.npy" for name in ("local", "remote", "labels")))
    for other in (three, read_outputs(folder / "outputs.parquet")):
        np.testing.assert_array_equal(other.local, named.local)
        np.testing.assert_array_equal(other.remote, named.remote)
        np.testing.assert_array_equal(other.labels, named.labels)


def test_probabilities_are_recognised(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And said to have been turned into logits; the plan is that of the logits."""
    given = read_outputs(folder / "outputs.npz")
    np.save(folder / "remote.npy", softmax(given.remote))
    read = read_outputs(*(folder / f"{name}.npy" for name in ("local", "remote", "labels")))
    assert read.were_probabilities == ("remote",)
    np.testing.assert_allclose(softmax(read.remote), softmax(given.remote), atol=1e-6)
    files = [folder / f"{name}.npy" for name in ("local", "remote", "labels")]
    assert run(*files, "--while-it-helps") == 0
    assert capsys.readouterr().out.startswith("remote gave probabilities; their logarithms serve as logits\n")


def test_the_plan_is_printed_for_a_person(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Calibrations, policy, verdict, and the curve with the chosen point marked once."""
    assert run(folder / "outputs.npz", "--offload-rate", "0.3") == 0
    shown = capsys.readouterr().out
    for part in ("local    accuracy", "remote   accuracy", "policy   most accuracy at 30%", "verdict  forwarding"):
        assert part in shown
    assert shown.count("<- chosen") == 1


def test_the_plan_is_written_for_a_program(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The numbers of `plan_cascade`; to a file or to standard output, which then holds nothing else."""
    outputs = read_outputs(folder / "outputs.npz")
    plan = plan_cascade(outputs.local, outputs.remote, outputs.labels, MostAccuracy(0.3))
    assert run(folder / "outputs.npz", "--offload-rate", "0.3", "--json", "-") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["threshold"] == plan.policy.threshold
    assert document["local"]["temperature"] == plan.local.temperature
    assert document["advantage_values"] == plan.policy.table.values.tolist()
    assert (document["score"], document["merge"]) == (plan.score, plan.merge)
    assert run(folder / "outputs.npz", "--offload-rate", "0.3", "--json", folder / "plan.json") == 0
    assert json.loads((folder / "plan.json").read_text()) == document


def test_the_plan_is_drawn(folder: Path) -> None:
    """Three panels in one SVG, which is well-formed, with the words of the field in it."""
    assert run(folder / "outputs.npz", "--certify", "0.05", "--plot", folder / "plan.svg") == 0
    text = " ".join(ET.parse(folder / "plan.svg").getroot().itertext())
    for part in ("offload rate, %", "advantage of the local model", "confidence of the local model", "threshold"):
        assert part in text


def broken(folder: Path, **changes: Any) -> Path:
    """An archive with changes; None leaves an array out."""
    with np.load(folder / "outputs.npz") as archive:
        arrays = {**{name: archive[name] for name in archive}, **changes}
    np.savez(folder / "broken.npz", **{name: array for name, array in arrays.items() if array is not None})
    return folder / "broken.npz"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"remote": None}, "got no remote", id="an array missing"),
        pytest.param({"remote": np.zeros((1500, 3))}, "^remote_logits: expected", id="other classes"),
        pytest.param({"labels": np.zeros(3, int)}, "^labels: expected integers \\[1500\\]", id="too few labels"),
        pytest.param({"labels": np.zeros(1500)}, "^labels: expected integers", id="labels that are none"),
        pytest.param({"labels": np.full(1500, 9)}, "^labels: expected 0 to 3", id="labels out of range"),
        pytest.param({"local": np.full((1500, 4), np.nan)}, "^logits: expected finite", id="NaN"),
        pytest.param({"local": np.zeros((1500, 4), int)}, "^logits: expected floating", id="whole numbers"),
        pytest.param({"local": np.zeros(1500)}, "^remote_logits: expected \\[1500\\]", id="no table"),
        pytest.param({"labels": np.zeros(1500, int)}, "no finite T", id="one class"),
    ],
)
def test_outputs_that_support_no_plan_are_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    """One sentence that names the array, what came and what was expected."""
    with pytest.raises(CalibrationError, match=message):  # noqa: PT012
        outputs = read_outputs(broken(folder, **changes))
        plan_cascade(outputs.local, outputs.remote, outputs.labels, MostAccuracy(0.3))


@pytest.mark.parametrize("files", [["nowhere.npz"], ["notes.txt"], ["a.npy", "b.npy"], ["x.npy", "y.npy", "z.npy"]])
def test_files_that_are_none_are_one_sentence(
    folder: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, no traceback."""
    (folder / "notes.txt").write_text("no outputs")
    assert run(*(folder / file for file in files), "--while-it-helps") == 2
    shown = capsys.readouterr().err
    assert shown.startswith("edgecascade: ")
    assert shown.count("\n") == 1


def test_an_objective_is_needed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Argparse says which there are."""
    assert run(folder / "outputs.npz") == 2
    assert "--offload-rate --accuracy --max-loss --certify --cost --while-it-helps" in capsys.readouterr().err
