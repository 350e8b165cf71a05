"""`edgecascade calibrate` makes cascade files of general tasks, which run, are served, and decide as planned."""

import json
import urllib.request
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgecascade import Cascade
from edgecascade.benchmarks.server import serving
from edgecascade.calibration.verifiers import BoxF1, CharacterAccuracy
from edgecascade.cli import main
from edgecascade.export import ExportError, read_references
from edgecascade.export.commands.task_arguments import add_task_arguments, task_parts
from edgecascade.export.data import each
from edgecascade.export.task.confidence import confidence_named, options_of
from edgecascade.runtime import Ctc, decoder_named
from edgecascade.runtime.engine import open_session, read_document
from edgecascade.types.document import TaskDocument
from general_tasks import CHARACTERS, detection_pair, regression_pair, text_pair


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a pair of text recognisers, and `local.onnx` of them."""
    folder = text_pair(tmp_path_factory.mktemp("lines"))
    assert main([*text_arguments(folder), "-o", str(folder / "local.onnx")]) == 0
    return folder


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a pair of regressions on real data."""
    return regression_pair(tmp_path_factory.mktemp("patients"))


def test_recalibrate_plans_anew_and_moves_the_threshold(
    lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With data and remote it plans for the same body with the file's own parts; without, it moves along the curve."""
    file, decode = str(lines / "local.onnx"), f"ctc:characters={lines / 'keys.txt'}"
    given = ["--remote", str(lines / "large.onnx"), "--data", str(lines / "calibration"), "--decode", decode]
    assert main(["recalibrate", file, *given, "--offload-rate", "0.1", "-o", str(tmp_path / "a.onnx")]) == 0
    assert main(["recalibrate", file, "--offload-rate", "0.1", "-o", str(tmp_path / "b.onnx")]) == 0
    documents = [read_document(open_session(path), path) for path in (file, tmp_path / "a.onnx", tmp_path / "b.onnx")]
    assert all(isinstance(one, TaskDocument) for one in documents)
    before, anew, moved = documents
    assert isinstance(before, TaskDocument)
    assert isinstance(anew, TaskDocument)
    assert (anew.task, anew.calibration, anew.source) == (before.task, before.calibration, before.source)
    assert max(anew.policy.chosen.offload_rate, moved.policy.chosen.offload_rate) <= 0.1
    assert anew.policy.objective == moved.policy.objective
    assert main(["inspect", str(tmp_path / "a.onnx"), "--verify"]) == 0
    capsys.readouterr()
    assert (
        main(
            ["recalibrate", file, *given, "--merge", "average", "--offload-rate", "0.1", "-o", str(tmp_path / "c.onnx")]
        )
        == 2
    )
    assert "--merge: expected outputs of classes" in capsys.readouterr().err


def test_lines_of_digits_may_stand_in_a_csv_file(lines: Path, tmp_path: Path) -> None:
    """They are text, with their zeros, for calibration and for the benchmark."""
    digits = str.maketrans(CHARACTERS, "0" + "".join(map(str, range(1, len(CHARACTERS)))))
    (tmp_path / "keys.txt").write_text("\n".join(CHARACTERS.translate(digits)) + "\n")
    rows = [
        f"{one},{one.with_suffix('.txt').read_text().translate(digits)}"
        for one in sorted(lines.glob("calibration/*.npy"))
    ]
    table, out = tmp_path / "lines.csv", tmp_path / "local.onnx"
    table.write_text("\n".join(["file,reference", *rows]) + "\n")
    given = {"data": str(table), "decode": f"ctc:characters={tmp_path / 'keys.txt'}"}
    assert main([*text_arguments(lines, **given), "-o", str(out)]) == 0
    found = read_document(open_session(out), out)
    assert isinstance(found, TaskDocument)
    with Cascade.load(lines / "local.onnx") as cascade:
        assert found.policy.chosen.accuracy == cascade.document.policy.chosen.accuracy


def text_arguments(folder: Path, **changes: str) -> list[str]:
    """Return the arguments that calibrate the text recognisers, with changes; an empty value leaves an option out."""
    usual = {
        "remote": str(folder / "large.onnx"),
        "data": str(folder / "calibration"),
        "task": "ocr",
        "decode": f"ctc:characters={folder / 'keys.txt'}",
        "offload_rate": "0.3",
    }
    given = {**usual, **changes}
    options = [part for name, value in given.items() if value for part in (f"--{name.replace('_', '-')}", value)]
    return ["calibrate", str(folder / "body.onnx"), *options]


def regression_arguments(folder: Path, **changes: str) -> list[str]:
    """Return the arguments that calibrate the regressions, with changes."""
    usual = {
        "remote": str(folder / "large.onnx"),
        "data": str(folder / "calibration.csv"),
        "reference": "progression",
        "task": "regression",
        "confidence_function": "output:output=error,negate=yes",
        "verifier": "scaled-error:scale=100",
        "decode": "value:output=prediction",
        "offload_rate": "0.3",
    }
    given = {**usual, **changes}
    options = [part for name, value in given.items() if value for part in (f"--{name.replace('_', '-')}", value)]
    return ["calibrate", str(folder / "body.onnx"), *options]


def document_of(path: Path) -> TaskDocument:
    """Return the document of a general task's file."""
    found = read_document(open_session(path), path)
    assert isinstance(found, TaskDocument)
    return found


def test_the_file_says_what_it_was_made_of(lines: Path) -> None:
    """It names the task with its parts, and has the digest of the data and the mean values of both models."""
    found = document_of(lines / "local.onnx")
    assert (found.task.name, found.task.verifier) == ("ocr", "character-accuracy")
    assert (found.task.confidence, dict(found.task.options)) == ("mean-log-probability", {"blank": 0})
    assert (found.task.outputs, found.remote_outputs) == (("logits",), ("logits",))
    assert found.source.data_sha256 == read_references(lines / "calibration").digest
    assert found.calibration.value.value < found.remote.value
    assert found.policy.chosen.offload_rate == pytest.approx(0.3, abs=0.02)


def test_the_cascade_answers_text_whoever_recognised_it(lines: Path) -> None:
    """Its answers to other lines are better than those of the local model, as the plan expects."""
    data, decode = read_references(lines / "test"), Ctc(CHARACTERS)
    with Cascade.load(
        lines / "local.onnx", remote=str(lines / "large.onnx"), decode=decode, remote_decode=decode, deadline=60
    ) as cascade:
        answers = [cascade.predict(x) for x in each(data.inputs)]
    value = CharacterAccuracy()([answer.result for answer in answers], data.references)
    alone = CharacterAccuracy()([decode(answer.local.outputs) for answer in answers], data.references)
    document, rate = document_of(lines / "local.onnx"), np.mean([answer.forwarded for answer in answers])
    assert value.mean() > alone.mean() + 0.05
    assert rate == pytest.approx(document.policy.chosen.offload_rate, abs=0.1)
    low, high = document.policy.chosen.accuracy_band
    assert low - 0.03 < value.mean() < high + 0.03
    assert np.mean([answer.confidence for answer in answers if not answer.forwarded]) > alone.mean()


def test_a_file_is_planned_again(lines: Path, tmp_path: Path) -> None:
    """Without data the threshold moves; with other data, confidence and policy are fitted to them."""
    moved, renewed = tmp_path / "moved.onnx", tmp_path / "renewed.onnx"
    command = ["recalibrate", str(lines / "local.onnx"), "--offload-rate", "0.1"]
    assert main([*command, "-o", str(moved)]) == 0
    assert document_of(moved).policy.chosen.offload_rate == pytest.approx(0.1, abs=0.02)
    further = ["--data", str(lines / "test"), "--remote", str(lines / "large.onnx")]
    assert main([*command, *further, "-o", str(renewed)]) == 2  # nothing tells the characters
    assert not renewed.exists()
    further += ["--decode", f"ctc:characters={lines / 'keys.txt'}"]
    assert main([*command, *further, "-o", str(renewed)]) == 0
    found = document_of(renewed)
    assert found.source.data_sha256 == read_references(lines / "test").digest
    assert found.task == document_of(lines / "local.onnx").task


def test_golden_inputs_are_replayed(lines: Path) -> None:
    """`inspect --verify` passes for the file as it was written."""
    assert main(["inspect", str(lines / "local.onnx"), "--verify"]) == 0


def test_a_regression_is_calibrated_from_a_table(patients: Path, tmp_path: Path) -> None:
    """The body's two outputs are unchanged, and the score is one of them."""
    out = tmp_path / "local.onnx"
    assert main([*regression_arguments(patients), "-o", str(out)]) == 0
    data = read_references(patients / "test.csv", "progression")
    names = ["prediction", "error", "score", "forward"]
    prediction, error, score, forward = open_session(out).run(names, {"x": np.asarray(data.inputs)})
    body = open_session(patients / "body.onnx").run(names[:2], {"x": np.asarray(data.inputs)})
    np.testing.assert_array_equal(prediction, body[0])
    np.testing.assert_array_equal(error, body[1])
    np.testing.assert_array_equal(score, -error[:, 0])
    assert 0 < forward.mean() < 1
    assert document_of(out).task.verifier == "scaled-error:scale=100"


def test_weights_and_groups_are_columns_of_the_data(patients: Path, tmp_path: Path) -> None:
    """They are no inputs of the model, and do what arrays of their own do; so it is after `recalibrate`."""
    lines = (patients / "calibration.csv").read_text().splitlines()
    n = len(lines) - 1
    weight, site = np.linspace(1, 3, n), np.arange(n) % 2
    beside = ["weight,site", *(f"{one:.17g},site {other}" for one, other in zip(weight, site, strict=True))]
    table, array, again = tmp_path / "data.csv", tmp_path / "weight.npy", tmp_path / "again.onnx"
    table.write_text("\n".join(f"{line},{more}" for line, more in zip(lines, beside, strict=True)))
    np.save(array, weight)
    ours, theirs = tmp_path / "ours.onnx", tmp_path / "theirs.onnx"
    of_table = regression_arguments(patients, data=str(table), weights="weight", groups="site")
    assert main([*of_table, "-o", str(ours)]) == 0
    assert main([*regression_arguments(patients, weights=str(array)), "-o", str(theirs)]) == 0
    found, wanted = document_of(ours), document_of(theirs)
    assert (found.policy, found.calibration) == (wanted.policy, wanted.calibration)
    assert found.effective_n is not None
    assert found.groups is not None
    assert [one.name for one in found.groups.groups] == ["site 0", "site 1"]
    command = ["recalibrate", str(ours), *of_table[2:]]
    command = [part for part in command if part not in ("--task", "regression")]
    at = command.index("--confidence-function")
    assert main([*command[:at], *command[at + 2 :], "-o", str(again)]) == 0
    assert document_of(again).groups == found.groups


def test_detectors_are_calibrated_from_coco(tmp_path: Path) -> None:
    """Each box of the answer comes from one model, and the cascade finds more of them than the local model."""
    folder = detection_pair(tmp_path)
    boxes = "boxes:boxes=boxes,scores=scores,least=0.5,overlap=none"
    command = ["calibrate", str(folder / "body.onnx"), "--remote", str(folder / "large.onnx"), "--task", "detection"]
    command += ["--data", str(folder / "calibration" / "boxes.json"), "--decode", boxes]
    command += ["--confidence-function", "min:output=scores,floor=0.5", "--offload-rate", "0.4"]
    assert main([*command, "-o", str(folder / "local.onnx")]) == 0
    data, decode = read_references(folder / "test" / "boxes.json"), decoder_named(boxes)
    with Cascade.load(
        folder / "local.onnx", remote=str(folder / "large.onnx"), decode=decode, remote_decode=decode, deadline=60
    ) as cascade:
        answers = [cascade.predict(x) for x in each(data.inputs)]
    value = BoxF1()([answer.result for answer in answers], data.references)
    alone = BoxF1()([decode(answer.local.outputs) for answer in answers], data.references)
    assert value.mean() > alone.mean() + 0.02
    assert document_of(folder / "local.onnx").task.verifier == "box-f1"


def test_labels_that_the_data_numbers_in_another_way_are_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names the labels of both sides; a verifier of places alone has none."""
    folder = detection_pair(tmp_path)
    boxes = "boxes:boxes=boxes,scores=scores,least=0.5,overlap=none,first_label=7"
    command = ["calibrate", str(folder / "body.onnx"), "--remote", str(folder / "large.onnx"), "--task", "detection"]
    command += ["--data", str(folder / "calibration" / "boxes.json"), "--offload-rate", "0.4"]
    for verifier, warned in (("box-f1", True), ("box-f1:labels=no", False)):
        out = ["--decode", boxes, "--verifier", verifier, "-o", str(folder / "out.onnx")]
        assert main([*command, *out]) == 0
        assert ("only the answers have 7, only the references 0;" in capsys.readouterr().out) is warned
        measured = ["bench", "offload", str(folder / "out.onnx"), "--remote", str(folder / "large.onnx")]
        measured += ["--data", str(folder / "test" / "boxes.json"), "--decode", boxes, "--out", str(folder / "report")]
        assert main(measured) == 0
        assert ("only the answers have 7, only the references 0;" in capsys.readouterr().out) is warned


@pytest.mark.parametrize(
    ("decode", "options"),
    [
        ("boxes:boxes=boxes,scores=scores,least=0.5", {"output": "scores", "floor": 0.5}),
        ("boxes:transposed=yes", {"floor": 0.25, "columns": "classes", "transposed": True}),
        ("boxes:columns=objectness,boxes=all", {"output": "all", "floor": 0.25, "columns": "objectness"}),
        (
            "boxes:scores=s,count=n,background=0",
            {"output": "s", "floor": 0.25, "count": "n", "background": 0},
        ),
    ],
)
def test_the_usual_score_of_detections_is_read_where_the_decoder_reads_it(
    decode: str, options: dict[str, object]
) -> None:
    """The mean of the scores that count, whatever else is in the same output; a decoder of one's own tells nothing."""
    parser = ArgumentParser()
    add_task_arguments(parser)
    parts = task_parts(parser.parse_args(["--task", "detection", "--decode", decode]))
    assert options_of(confidence_named(parts.confidence)) == options
    with pytest.raises(ExportError, match=r"^--confidence-function: expected one for detection, such as .*, got none"):
        task_parts(parser.parse_args(["--task", "detection", "--decode", "json:loads"]))


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ("max", {"columns": "classes", "transposed": True, "output": ""}),
        ("min:empty=1", {"columns": "classes", "transposed": True, "output": "", "empty": 1.0}),
        ("max:columns=objectness", {"columns": "objectness"}),
    ],
)
def test_a_named_score_of_detections_is_read_there_too(given: str, options: dict[str, object]) -> None:
    """Coordinates are no scores: `max` of all columns would be one. What the user says of the place stands."""
    parser = ArgumentParser()
    add_task_arguments(parser)
    arguments = ["--task", "detection", "--decode", "boxes:transposed=yes", "--confidence-function", given]
    named = confidence_named(task_parts(parser.parse_args(arguments)).confidence)
    assert options_of(named) == {name: value for name, value in options.items() if value != ""}


def test_answers_that_are_bare_outputs_name_the_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A verifier of numbers cannot read a model's outputs; --decode makes numbers of them."""
    folder = detection_pair(tmp_path)
    command = ["calibrate", str(folder / "body.onnx"), "--remote", str(folder / "large.onnx"), "--verifier", "number"]
    command += ["--data", str(folder / "calibration" / "boxes.json"), "--confidence-function", "max:output=scores"]
    assert main([*command, "--offload-rate", "0.4", "-o", str(folder / "out.onnx")]) == 2
    assert "--decode" in capsys.readouterr().err


def own_score(folder: Path) -> Path:
    """Write a confidence function: the largest logit of all steps."""
    node = helper.make_node("ReduceMax", ["logits"], ["score"], axes=[1, 2], keepdims=0)
    graph = helper.make_graph(
        [node],
        "own",
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 6, 7])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])],
    )
    path = folder / "own.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_confidence_function_and_verifier_may_be_ones_own(
    lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A small ONNX file becomes part of the graph, and a function of a Python file judges the answers."""
    (tmp_path / "mine.py").write_text(
        "def length(answers, references):\n"
        "    return [len(one) == len(other) for one, other in zip(answers, references)]\n\n\n"
        "def half(outputs):\n"
        "    return 'abcdef'[:int(outputs['logits'].argmax(axis=1).astype(bool).sum())]\n"
    )
    own, out = own_score(tmp_path), tmp_path / "local.onnx"
    changes = {"verifier": f"{tmp_path}/mine.py:length", "decode": f"{tmp_path}/mine.py:half", "task": ""}
    assert main([*text_arguments(lines, confidence_function=str(own), **changes), "-o", str(out)]) == 0
    x = np.stack(list(each(read_references(lines / "test").inputs)))
    logits, score = open_session(out).run(["logits", "score"], {"x": x})
    np.testing.assert_allclose(score, logits.max(axis=(1, 2)), rtol=1e-6)
    assert document_of(out).task.name == "general"
    (tmp_path / "mine.py").rename(tmp_path / "other.py")
    again = ["recalibrate", str(out), "--remote", str(lines / "large.onnx"), "--data", str(lines / "calibration")]
    again += ["--decode", f"{tmp_path}/other.py:half", "--offload-rate", "0.1", "-o", str(tmp_path / "again.onnx")]
    assert main(again) == 2
    assert f"--verifier: expected the place of {tmp_path}/mine.py:length, which the file" in capsys.readouterr().err
    assert main([*again, "--verifier", f"{tmp_path}/other.py:length"]) == 0


def write(folder: Path, code: str) -> str:
    """Write a Python file and return its path."""
    (folder / "bad.py").write_text(code)
    return str(folder / "bad.py")


BAD: dict[str, tuple[Callable[[Path, Path], dict[str, str]], str]] = {
    "no decoder": (lambda *_: {"decode": ""}, "--decode: expected one for ocr"),
    "no verifier": (lambda *_: {"task": "", "confidence_function": "margin"}, "--verifier: expected one"),
    "no confidence function": (lambda *_: {"task": "", "verifier": "exact"}, "--confidence-function: expected one"),
    "unknown verifier": (lambda *_: {"verifier": "magic"}, "--verifier: expected box-f1"),
    "unknown confidence function": (lambda *_: {"confidence_function": "magic"}, "confidence: expected"),
    "missing output": (lambda *_: {"confidence_function": "margin:output=scores"}, "scores"),
    "output of another kind": (lambda *_: {"confidence_function": "output:output=logits"}, "logits"),
    "constant confidence": (lambda *_: {"confidence_function": "max:floor=1e30"}, "tell inputs apart"),
    "classifier's option": (lambda *_: {"merge": "replace"}, "--merge: expected"),
    "weights that are not there": (lambda *_: {"weights": "w"}, "expected the array w"),
    "other characters": (lambda _, t: {"decode": f"ctc:characters={keys(t)}"}, "3 classes"),
    "decoder that fails": (
        lambda _, t: {"decode": write(t, "def decode(outputs):\n    return outputs['text']\n") + ":decode"},
        "KeyError for input 0",
    ),
    "verifier above 1": (
        lambda _, t: {"verifier": write(t, "def v(answers, references):\n    return [2.0] * len(answers)\n") + ":v"},
        "expected values in [0, 1], got 2",
    ),
    "verifier of another length": (
        lambda _, t: {"verifier": write(t, "def v(answers, references):\n    return [1.0]\n") + ":v"},
        "expected 400 values",
    ),
    "verifier of other references": (lambda *_: {"verifier": "within:tolerance=1"}, "expected numbers"),
    "remote without that output": (lambda *_: {"remote_output": "text"}, "text"),
    "remote with other outputs": (
        lambda f, _: {"remote_decode": f"ctc:characters={f / 'keys.txt'},output=letters"},
        "remote_decode",
    ),
    "remote of another task": (lambda *_: {"remote_decode": "value"}, "answers of the remote: expected text"),
    "saved scores": (lambda _, t: {"remote": str(saved(t))}, "--remote: expected an address or an ONNX file"),
    "no remote": (lambda *_: {"remote": "no.onnx"}, "no.onnx: no such file"),
    "data without references": (lambda _, t: {"data": str(images(t))}, "a text file beside every image"),
    "a column of a folder": (lambda *_: {"reference": "text"}, "--reference: expected with a table or an npz file"),
    "images of a folder": (lambda *_: {"images": "."}, "--images: expected with COCO"),
    "a classifier": (
        lambda *_: {"task": "", "decode": "", "reference": "text"},
        "--reference: expected for a general task",
    ),
    "no data": (lambda *_: {"data": "nowhere"}, "no such file or folder"),
}


def keys(folder: Path) -> Path:
    """Write a file of two characters."""
    (folder / "two.txt").write_text("a\nb\n")
    return folder / "two.txt"


def saved(folder: Path) -> Path:
    """Write an array of scores."""
    np.save(folder / "scores.npy", np.zeros((400, 7), np.float32))
    return folder / "scores.npy"


def images(folder: Path) -> Path:
    """Write a folder with an array and no text."""
    (folder / "alone").mkdir()
    np.save(folder / "alone" / "0.npy", np.zeros((8, 48), np.float32))
    return folder / "alone"


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_one_sentence(
    lines: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 2, and nothing is written."""
    make, message = BAD[name]
    out = tmp_path / "local.onnx"
    assert main([*text_arguments(lines, **make(lines, tmp_path)), "-o", str(out)]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in said
    assert not out.exists()


def test_a_score_that_is_not_a_number_is_refused(
    patients: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing measurement gives NaN, and the error names the input."""
    found = read_references(patients / "calibration.csv", "progression")
    inputs = np.array(found.inputs)
    inputs[3, 0] = np.nan
    data, out = tmp_path / "holes.npz", tmp_path / "local.onnx"
    np.savez(data, x=inputs, progression=np.asarray(found.references), allow_pickle=False)
    assert main([*regression_arguments(patients, data=str(data)), "-o", str(out)]) == 2
    assert "got nan for input 3" in capsys.readouterr().err
    assert not out.exists()


@pytest.fixture(scope="module")
def served(lines: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of the large recogniser, served by `edgecascade serve` in another process."""
    log = tmp_path_factory.mktemp("serve") / "log"
    with serving(lines / "large.onnx", name="large", threads=1, log=log) as address:
        yield address


def test_run_prints_text_of_both_models(lines: Path, served: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`run` asks the served model about some of the lines, and each JSON line has the text as its result."""
    data = read_references(lines / "test")
    inputs = lines / "some.npy"
    np.save(inputs, np.stack(list(each(data.inputs))[:40]))
    decode = f"ctc:characters={lines / 'keys.txt'}"
    command = ["run", str(lines / "local.onnx"), str(inputs), "--remote", served, "--deadline", "30"]
    capsys.readouterr()
    assert main([*command, "--decode", decode]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(found) == 40
    assert {one["source"] for one in found} == {"local", "remote"}
    value = CharacterAccuracy()([one["result"] for one in found], data.references[:40])
    assert value.mean() > 0.6


def test_serve_gives_text_and_arrays_to_any_client(lines: Path, served: str, tmp_path: Path) -> None:
    """A served cascade answers a request of the Open Inference Protocol, and asks its own remote about some lines."""
    data, decode = read_references(lines / "test"), f"ctc:characters={lines / 'keys.txt'}"
    further = ["--remote", served, "--deadline", "30", "--decode", decode]
    with serving(lines / "local.onnx", name="reader", threads=1, log=tmp_path / "log", further=further) as address:
        answers = [_ask(address, x) for x in list(each(data.inputs))[:40]]
    assert {one["source"][0] for one in answers} == {"local", "remote"}
    assert all(len(one["logits"]) == 6 * 7 for one in answers)
    texts = [json.loads(one["result"][0]) for one in answers]
    assert CharacterAccuracy()(texts, data.references[:40]).mean() > 0.6


def _ask(address: str, x: NDArray[np.float32]) -> dict[str, Any]:
    """Return the outputs of a served model for one input, by name."""
    tensor = {"name": "x", "shape": [1, *x.shape], "datatype": "FP32", "data": x.ravel().tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    request = urllib.request.Request(f"{address}/infer", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return {one["name"]: one["data"] for one in json.load(response)["outputs"]}
