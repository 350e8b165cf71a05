"""`edgecascade plan` and `edgecascade evaluate` on saved outputs."""

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from documents import some_document
from edgecascade.calibration import (
    CalibrationError,
    MostAccuracy,
    choose_calibrator,
    evaluate,
    fit_platt,
    fit_temperature,
    plan_cascade,
    softmax,
)
from edgecascade.calibration.commands.evaluate import evaluate_held_out
from edgecascade.calibration.commands.outputs import SavedOutputs, SavedScores, read_model, read_pair
from edgecascade.cli import main
from edgecascade.types.softmax import SMALLEST, recognise

Sampled = Callable[..., tuple[NDArray[np.float64], NDArray[np.int64]]]


@pytest.fixture
def folder(sampled: Sampled, tmp_path: Path) -> Path:
    """Return a folder with outputs, in every format, of a local model that sees the remote's logits through noise."""
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


def run(*arguments: object, command: str = "plan") -> int:
    """Run a command and return its exit code, including those of argparse."""
    try:
        return main([command, *(str(argument) for argument in arguments)])
    except SystemExit as stop:
        return int(stop.code or 0)


def test_a_certificate_is_tested_at_planned_sizes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 1,500 inputs the first 1,000 are used; sizes need an objective that is tested."""
    outputs = folder / "outputs.npz"
    assert run(outputs, "--certify", "0.1", "--looks", "500,1000,2000") == 0
    assert "(n = 1000; test 2 of 3 planned)" in capsys.readouterr().out
    assert run(outputs, "--max-loss", "0.1", "--looks", "500,1000") == 2
    assert "--looks: expected --certify with it" in capsys.readouterr().err
    assert run(outputs, "--certify", "0.1", "--looks", "many") == 2
    assert "expected numbers of inputs such as 1500,3000, got 'many'" in capsys.readouterr().err


def test_every_format_of_the_outputs_gives_the_same_plan(folder: Path) -> None:
    """The formats are one archive, three arrays and a parquet table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    named = read_pair(folder / "outputs.npz")
    columns = {"local": named.local.tolist(), "remote": named.remote.tolist(), "labels": named.labels}
    pq.write_table(pa.table(columns), folder / "outputs.parquet")
    three = read_pair(*(folder / f"{name}.npy" for name in ("local", "remote", "labels")))
    for other in (three, read_pair(folder / "outputs.parquet")):
        np.testing.assert_array_equal(other.local, named.local)
        np.testing.assert_array_equal(other.remote, named.remote)
        np.testing.assert_array_equal(other.labels, named.labels)


def test_probabilities_are_recognised(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The output says that they were converted to logits, and the plan equals that of the logits."""
    given = read_pair(folder / "outputs.npz")
    np.save(folder / "remote.npy", softmax(given.remote))
    read = read_pair(*(folder / f"{name}.npy" for name in ("local", "remote", "labels")))
    assert {name: one.kind for name, one in read.read.items()} == {"local": "logits", "remote": "probabilities"}
    assert read.read["remote"].floor == SMALLEST
    np.testing.assert_allclose(softmax(read.remote), softmax(given.remote), atol=1e-6)
    files = [folder / f"{name}.npy" for name in ("local", "remote", "labels")]
    assert run(*files, "--while-it-helps") == 0
    assert capsys.readouterr().out.startswith("remote: ")


def test_rounded_probabilities_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The output says how they were rounded and how many zeros were bounded, and the JSON has the floor."""
    given = read_pair(folder / "outputs.npz")
    np.savez(
        folder / "rounded.npz",
        local=softmax(given.local).round(3),
        remote=(np.rint(softmax(given.remote) * 255) / 255),
        labels=given.labels,
    )
    assert run(folder / "rounded.npz", "--offload-rate", "0.3", "--json", folder / "plan.json") == 0
    shown = capsys.readouterr().out
    assert re.search(r"^local: the outputs are probabilities, rounded \(3 decimals\); .* zeros count as ", shown, re.M)
    assert re.search(r"^remote: the outputs are probabilities, rounded \(multiples of 1/255\); ", shown, re.M)
    remote = json.loads((folder / "plan.json").read_text())["remote"]
    assert remote["scores"] == "probabilities"
    assert remote["floor"] == read_pair(folder / "rounded.npz").read["remote"].floor


def test_outputs_are_matched_by_class_name(folder: Path) -> None:
    """Labels in text, and outputs in another order of the classes, mean the same as numbers in order."""
    given, names = read_pair(folder / "outputs.npz"), np.array(["d", "a", "c", "b"])
    order = [3, 1, 0, 2]
    arrays: dict[str, Any] = {
        "local": given.local,
        "remote": given.remote[:, order],
        "remote_names": names[order],
        "labels": names[given.labels],
        "names": names,
    }
    np.savez(folder / "named.npz", **arrays)
    found = read_pair(folder / "named.npz")
    np.testing.assert_array_equal(found.remote, given.remote)
    np.testing.assert_array_equal(found.labels, given.labels)
    one = read_model(folder / "named.npz", array="remote")
    assert isinstance(one, SavedOutputs)
    np.testing.assert_array_equal(one.logits, given.remote)
    assert (one.names, one.labels.tolist()) == (("d", "a", "c", "b"), given.labels.tolist())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": None}, r"labels: expected integers, or text \[n\] with an array of names beside it, got a, b, c, d"),
        ({"names": ["d", "a", "c", "x"]}, r"labels: expected integers, or text \[n\] with the names d, a, c, x, got"),
        (
            {"remote_names": ["a", "b", "c", "x"]},
            r"remote_names: .* same classes as in names \(d, a, c, b\), got a, b,",
        ),
        ({"remote_names": ["a", "b", "c"]}, r"remote_names: expected the name of each column of remote \[1500, 4\]"),
    ],
)
def test_class_names_that_cannot_be_matched_are_refused(folder: Path, change: dict[str, Any], message: str) -> None:
    """The error has both lists."""
    given, names = read_pair(folder / "outputs.npz"), np.array(["d", "a", "c", "b"])
    arrays = {"local": given.local, "remote": given.remote, "labels": names[given.labels], "names": names, **change}
    np.savez(folder / "named.npz", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(CalibrationError, match=message):
        read_pair(folder / "named.npz")


def test_evaluation_warns_of_another_order(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The warning names the order."""
    given = read_pair(folder / "outputs.npz")
    np.savez(folder / "other.npz", outputs=given.remote[:, [1, 0, 2, 3]], labels=given.labels, names=list("abcd"))
    assert run(folder / "other.npz", command="evaluate") == 0
    assert "if its outputs stand for b, a, c, d and not for a, b, c, d" in capsys.readouterr().out


def test_outputs_that_may_be_either_require_the_option(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Independent sigmoids are refused, and taken as the user says."""
    given = read_pair(folder / "outputs.npz")
    np.savez(folder / "s.npz", local=1 / (1 + np.exp(-given.local)), remote=given.remote, labels=given.labels)
    assert run(folder / "s.npz", "--offload-rate", "0.3") == 2
    assert "--kind probabilities or --kind logits" in capsys.readouterr().err
    assert run(folder / "s.npz", "--offload-rate", "0.3", "--kind", "probabilities") == 0
    assert capsys.readouterr().out.startswith("local: the outputs are probabilities")
    assert run(folder / "s.npz", "--array", "local", command="evaluate") == 2
    assert run(folder / "s.npz", "--array", "local", "--kind", "logits", command="evaluate") == 0


def test_the_plan_is_printed_as_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The text holds the calibrations, policy, advice, and the curve with the chosen point marked once."""
    assert run(folder / "outputs.npz", "--offload-rate", "0.3") == 0
    shown = capsys.readouterr().out
    for part in (
        "local       accuracy",
        "remote      accuracy",
        "policy      most accuracy at about 30%",
        "advice      ",
    ):
        assert part in shown
    assert shown.count("<- chosen") == 1


def test_the_plan_is_written_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON holds the numbers of `plan_cascade`; on standard output, nothing else is printed."""
    outputs = read_pair(folder / "outputs.npz")
    plan = plan_cascade(outputs.local, outputs.remote, outputs.labels, MostAccuracy(0.3))
    assert run(folder / "outputs.npz", "--offload-rate", "0.3", "--json", "-") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["remote"].pop("scores") == "logits"
    assert document == json.loads(json.dumps(plan.to_dict()))
    assert document["policy"]["threshold"] == plan.policy.threshold
    assert document["policy"]["values"] == plan.policy.table.values.tolist()
    document["remote"]["scores"] = "logits"
    assert run(folder / "outputs.npz", "--offload-rate", "0.3", "--json", folder / "plan.json") == 0
    assert json.loads((folder / "plan.json").read_text()) == document


def test_the_plan_is_drawn_as_svg(folder: Path) -> None:
    """The drawing is one well-formed SVG of three panels, labelled with the terms of the field."""
    assert run(folder / "outputs.npz", "--certify", "0.05", "--plot", folder / "plan.svg") == 0
    text = " ".join(ET.parse(folder / "plan.svg").getroot().itertext())
    for part in ("offload rate, %", "advantage of the local model", "confidence of the local model", "threshold"):
        assert part in text


def broken(folder: Path, **changes: Any) -> Path:
    """Write an archive with changes; None removes an array."""
    with np.load(folder / "outputs.npz") as archive:
        arrays = {**{name: archive[name] for name in archive}, **changes}
    np.savez(folder / "broken.npz", **{name: array for name, array in arrays.items() if array is not None})
    return folder / "broken.npz"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"remote": None}, "got no remote", id="an array missing"),
        pytest.param({"remote": np.full((1500, 3), -1.0)}, "^remote_logits: expected", id="other classes"),
        pytest.param({"labels": np.zeros(3, int)}, "^labels: expected integers \\[1500\\]", id="too few labels"),
        pytest.param({"labels": np.zeros(1500)}, "^labels: expected integers", id="labels that are none"),
        pytest.param({"labels": np.full(1500, 9)}, "^labels: expected 0 to 3", id="labels out of range"),
        pytest.param({"local": np.full((1500, 4), np.nan)}, "^local model: logits: expected finite", id="NaN"),
        pytest.param({"local": np.zeros((1500, 4), int)}, "^local: the outputs are numbers in", id="whole numbers"),
        pytest.param({"local": np.zeros(1500)}, "^remote_logits: expected \\[1500\\]", id="no table"),
        pytest.param({"labels": np.zeros(1500, int)}, "^labels: expected inputs of several classes", id="one class"),
    ],
)
def test_invalid_outputs_are_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    """The error names the array, the value found and the value expected."""
    with pytest.raises(CalibrationError, match=message):  # noqa: PT012
        outputs = read_pair(broken(folder, **changes))
        plan_cascade(outputs.local, outputs.remote, outputs.labels, MostAccuracy(0.3))


@pytest.mark.parametrize("files", [["nowhere.npz"], ["notes.txt"], ["a.npy", "b.npy"], ["x.npy", "y.npy", "z.npy"]])
def test_unreadable_files_end_in_one_sentence(
    folder: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 2, and there is no traceback."""
    (folder / "notes.txt").write_text("no outputs")
    assert run(*(folder / file for file in files), "--while-it-helps") == 2
    shown = capsys.readouterr().err
    assert shown.startswith("edgecascade: ")
    assert shown.count("\n") == 1


@pytest.mark.parametrize("option", ["--json", "--plot"])
@pytest.mark.parametrize("place", ["folder.svg", "nowhere/plan.svg"])
def test_where_the_plan_goes_is_checked_before_the_outputs_are_read(
    option: str, place: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the option and the path, although the outputs are missing too."""
    (folder / "folder.svg").mkdir()
    assert run("nowhere.npz", "--offload-rate", "0.2", option, folder / place) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"edgecascade: {option}: ")
    assert str(folder / place) in said
    assert run(folder, "--offload-rate", "0.2") == 2
    assert capsys.readouterr().err == f"edgecascade: {folder}: expected a file of arrays, got a folder\n"


def test_an_objective_is_required(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error lists the objectives."""
    assert run(folder / "outputs.npz") == 2
    assert "--offload-rate --accuracy --max-loss --certify --cost --while-it-helps" in capsys.readouterr().err


def test_a_plan_has_the_sections_of_a_cascade_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A program that reads a file's document reads a plan with the same code."""
    assert run(folder / "outputs.npz", "--certify", "0.05", "--json", "-") == 0
    found = json.loads(capsys.readouterr().out)
    file = json.loads(some_document().to_json())
    assert found.keys() <= file.keys()
    for section in ("calibration", "remote", "policy"):
        assert list(found[section]) == list(file[section])
    assert found["operating_curve"][0].keys() == file["operating_curve"][0].keys()


def test_no_input_is_used_for_both_fit_and_evaluation(sampled: Sampled) -> None:
    """The temperature comes from one part, the metrics from the other."""
    logits, labels = sampled(n=600, temperature=2.0)
    found = evaluate_held_out(SavedOutputs(logits, labels, recognise(logits)), fit_share=0.4, seed=3)
    rows = np.random.default_rng(3).permutation(600)
    fit, test = np.sort(rows[:240]), np.sort(rows[240:])
    assert (found.fitted_on, found.evaluated_on) == (240, 360)
    temperature = fit_temperature(logits[fit], labels[fit])
    for part, scale in ((found.before, 1.0), (found.after, temperature)):
        expected = evaluate(softmax(logits[test], scale), labels[test])
        assert {name: part[name] for name in expected} == expected
    assert found.after["ece"].value < found.before["ece"].value
    assert found.before["accuracy"] == found.after["accuracy"]


def test_the_evaluation_is_printed_and_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The text has a line per metric; the JSON holds the same figures, as numbers only."""
    assert run(folder / "outputs.npz", "--array", "local", "--json", folder / "e.json", command="evaluate") == 0
    shown = capsys.readouterr().out
    document = json.loads((folder / "e.json").read_text())
    read = read_model(folder / "outputs.npz", array="local")
    assert document == json.loads(json.dumps(evaluate_held_out(read).to_dict()))
    assert len(shown.splitlines()) == 2 + len(document["after"])
    assert f"temperature {document['parameters']['temperature']:.4g}" in shown
    assert document["fitted_on"] + document["evaluated_on"] == 1500
    for name in ("accuracy", "nll", "brier", "ece", "auroc", "aurc", "risk_at_0.8"):
        assert document["after"][name]["low"] <= document["after"][name]["value"] <= document["after"][name]["high"]


def test_calibrators_of_scores_can_be_compared() -> None:
    """They are compared on the part used for the fit only."""
    rng = np.random.default_rng(0)
    score = rng.uniform(0.5, 8.0, 3000)
    correct = rng.random(3000) < np.where(score < 2.0, 0.4, 0.95)
    found = evaluate_held_out(SavedScores(score, correct))
    fit = np.sort(np.random.default_rng(0).permutation(3000)[:1500])
    chosen = choose_calibrator(score[fit], correct[fit])
    assert (found.method, found.candidates) == (chosen.method, chosen.candidates) != ("platt", ())
    json.dumps(found.to_dict(), allow_nan=False)


def test_scores_of_any_task_are_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Raw scores have no calibration error before Platt scaling and have one after it."""
    rng = np.random.default_rng(0)
    score = -rng.exponential(size=1000)
    correct = rng.random(1000) < 1 / (1 + np.exp(-3 * score - 2))
    np.savez(tmp_path / "answers.npz", score=score, correct=correct)
    np.save(tmp_path / "score.npy", score)
    np.save(tmp_path / "correct.npy", correct.astype(int))
    found = evaluate_held_out(SavedScores(score, correct))
    assert ("ece" in found.before, "ece" in found.after) == (False, True)
    assert found.before["auroc"] == found.after["auroc"]
    fit = np.sort(np.random.default_rng(0).permutation(1000)[:500])
    assert found.parameters == asdict(fit_platt(score[fit], correct[fit]))
    assert run(tmp_path / "answers.npz", "--json", "-", command="evaluate") == 0
    named = capsys.readouterr().out
    assert json.loads(named)["method"] == "platt"
    assert run(tmp_path / "score.npy", tmp_path / "correct.npy", "--json", "-", command="evaluate") == 0
    assert capsys.readouterr().out == named
    assert run(tmp_path / "answers.npz", command="evaluate") == 0
    assert "<- chosen" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [["--array", "other"], ["--fit-share", "1"], ["--fit-share", "0"], ["--seed", "-1"]],
)
def test_an_invalid_evaluation_ends_in_one_sentence(
    folder: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 2, and there is no traceback."""
    assert run(folder / "outputs.npz", "--array", "local", *arguments, command="evaluate") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_half_precision_probabilities_have_finite_logarithms(tmp_path: Path) -> None:
    """The floor of zeros is below what float16 can hold, so the logarithm is taken in float32."""
    rng = np.random.default_rng(0)
    rare = rng.dirichlet([0.02] * 5, 400).astype(np.float16)
    np.savez(tmp_path / "half.npz", outputs=rare, labels=rng.integers(0, 5, 400))
    found = read_model(tmp_path / "half.npz")
    assert isinstance(found, SavedOutputs)
    assert (found.read.rounding, found.read.zeros > 0) == ("float16", True)
    assert found.logits.min() == pytest.approx(np.log(found.read.floor), rel=1e-4)


def test_half_precision_logits_of_two_models_are_told_apart(folder: Path, tmp_path: Path) -> None:
    """Sums of float16 overflow, which would make any two models look the same."""
    arrays = np.load(folder / "outputs.npz")
    half = {name: arrays[name].astype(np.float16) for name in ("local", "remote")}
    np.savez(tmp_path / "half.npz", **half, labels=arrays["labels"])
    pair = read_pair(tmp_path / "half.npz")
    assert plan_cascade(pair.local, pair.remote, pair.labels, MostAccuracy(0.2)).warnings == ()


def test_eight_bit_outputs_are_named_with_their_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A softmax in whole numbers from 0 to 255 is neither taken for logits nor refused for its type."""
    bits = np.round(255 * np.random.default_rng(0).dirichlet([0.5] * 4, 300)).astype(np.uint8)
    np.savez(tmp_path / "bits.npz", outputs=bits, labels=bits.argmax(axis=1))
    assert run(tmp_path / "bits.npz", command="evaluate") == 2
    assert "divide them by 255, or say --kind logits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--offload-rate", "0.2", "--bins", "0"), "bins: expected 1 or more, got 0"),
        (("--offload-rate", "0.2", "--risk", "0.1"), "--risk: expected --certify with it"),
        (("--offload-rate", "0.2", "--plot", "plan.foo"), "--plot: expected a file that ends in .svg, .png, .pdf"),
        (("--offload-rate", "0.2", "--kind", "probabilities"), "local: expected numbers in [0, 1] with --kind"),
    ],
)
def test_options_that_cannot_hold_are_refused_by_name(
    folder: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], sentence: str
) -> None:
    """Each is refused in one sentence, and none is ignored."""
    assert run(folder / "outputs.npz", *options) == 2
    assert sentence in capsys.readouterr().err


def test_a_refused_model_is_named(folder: Path) -> None:
    """NaN is refused with the model that gave it."""
    pair = read_pair(folder / "outputs.npz")
    remote = pair.remote.copy()
    remote[3, 1] = np.nan
    with pytest.raises(CalibrationError, match=r"^remote: logits: expected finite .* in row 3"):
        plan_cascade(pair.local, remote, pair.labels, MostAccuracy(0.2))


@pytest.mark.parametrize("n", [10, 12])
def test_too_few_inputs_to_cross_fit_are_refused_by_number(folder: Path, n: int) -> None:
    """Four fifths of 12 inputs fill no bin; 13 do."""
    pair = read_pair(folder / "outputs.npz")
    some = pair.local[:n], pair.remote[:n], pair.labels[:n]
    with pytest.raises(CalibrationError, match=f"labels: expected at least 13 labelled inputs to plan on, got {n}"):
        plan_cascade(*some, MostAccuracy(0.2))
    plan_cascade(pair.local[:13], pair.remote[:13], pair.labels[:13], MostAccuracy(0.2))


def test_weights_that_leave_few_inputs_are_named(folder: Path) -> None:
    """One input of an enormous weight outweighs all others."""
    pair = read_pair(folder / "outputs.npz")
    weight = np.ones(len(pair.labels))
    weight[0] = 1e6
    found = plan_cascade(pair.local, pair.remote, pair.labels, MostAccuracy(0.2), weight=weight).warnings
    assert any(one.startswith("the weighted inputs are worth only 1:") for one in found)


def test_an_objective_names_the_bound_on_groups(folder: Path) -> None:
    """A plan that forwards more for the sake of a group says why."""
    pair = read_pair(folder / "outputs.npz")
    found = plan_cascade(pair.local, pair.remote, pair.labels, MostAccuracy(0.9), max_group_loss=0.3)
    assert found.policy.objective.endswith(", losing at most 30.0% within each group")


def test_a_table_too_coarse_for_the_rate_says_so(folder: Path) -> None:
    """A table of one bin forwards everything or nothing, which says nothing about a gain at 20 %."""
    pair = read_pair(folder / "outputs.npz")
    found = plan_cascade(pair.local, pair.remote, pair.labels, MostAccuracy(0.2), bins=1)
    assert found.policy.advice[0] == (
        "nothing will be forwarded: the first step of the table forwards 100%, more than the objective allows"
    )


def test_default_bins_fit_the_folds(folder: Path) -> None:
    """Of 160 inputs, folds leave 128, which fill twelve bins."""
    pair = read_pair(folder / "outputs.npz")
    found = plan_cascade(pair.local[:160], pair.remote[:160], pair.labels[:160], MostAccuracy(0.2), estimate="labels")
    assert len(found.policy.table.values) == 15
