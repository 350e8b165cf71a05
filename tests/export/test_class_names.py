"""The classes of body, data and remote are matched by name, wherever the names are."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper
from PIL import Image

from edgecascade.benchmarks.server import serving
from edgecascade.calibration import MostAccuracy
from edgecascade.cli import main
from edgecascade.export import ExportError, LabelledData, calibrate, read_labelled, save_model
from edgecascade.export.class_names import columns_by_name, labelled_as, model_names, name_classes
from edgecascade.export.scores import local_scores
from edgecascade.runtime import Cascade, Remote
from edgecascade.runtime.remotes.remote import InProcess
from edgecascade.types.document import LABELS_KEY

Body = Callable[..., ModelProto]
NAMES = ["ant", "bee", "zebra", "mole"]  # of the model, whose order is not that of the alphabet
WEIGHT = 2 * np.eye(4, dtype=np.float32)


def labelled(labels: Sequence[int], names: Sequence[str]) -> LabelledData:
    """Return data with these labels and names."""
    return LabelledData(np.zeros((len(labels), 1)), np.array(labels, np.int64), tuple(names), "")


@pytest.fixture
def folder(linear: Body, tmp_path: Path) -> Path:
    """Return a folder with a local model of the classes `NAMES`, a remote without names, and data."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (800, 4)).astype(np.float32)
    y = (2 * x + rng.gumbel(size=x.shape)).argmax(axis=1)
    body = linear(WEIGHT + rng.normal(0, 0.8, WEIGHT.shape), np.zeros(4))
    name_classes(body, NAMES)
    save_model(body, tmp_path / "body.onnx")
    save_model(linear(WEIGHT, np.zeros(4)), tmp_path / "remote.onnx")
    np.savez(tmp_path / "numbers.npz", x=x, y=y)
    np.savez(tmp_path / "words.npz", x=x, y=np.array(NAMES)[y])
    np.savez(tmp_path / "sorted.npz", x=x, y=np.argsort(np.argsort(NAMES))[y], names=sorted(NAMES))
    return tmp_path


def calibrated(folder: Path, data: str, remote: str = "remote.onnx", out: str = "cascade.onnx") -> Cascade:
    """Calibrate and load."""
    arguments = ["--remote", str(folder / remote), "--data", str(folder / data), "--offload-rate", "0.3"]
    assert main(["calibrate", str(folder / "body.onnx"), *arguments, "-o", str(folder / out)]) == 0
    return Cascade.load(folder / out, threshold=-1.0)


@pytest.mark.parametrize("data", ["numbers.npz", "words.npz", "sorted.npz"])
def test_labels_mean_the_same_as_numbers_as_text_and_in_another_order(folder: Path, data: str) -> None:
    """All three give the same temperature, and the file has the names in the order of the model's outputs."""
    with calibrated(folder, "numbers.npz") as expected, calibrated(folder, data, out="other.onnx") as found:
        assert found.document.labels == tuple(NAMES)
        assert found.document.calibration == expected.document.calibration
        assert found.document.policy == expected.document.policy


def test_class_folders_are_matched_with_the_model(build: Body, tmp_path: Path) -> None:
    """Pictures of zebras are called zebra, although their folder is the last one."""
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=1),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "weight"], ["logits"]),
    ]
    colours = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [160, 160, 20]], np.float32)
    weight = ((colours - colours.mean(axis=0)) / 3000).T
    body = build(nodes, [8, 8, 3], [4], {"weight": weight}, source="image", kind=onnx.TensorProto.UINT8, opset=17)
    body.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    save_model(body, tmp_path / "remote.onnx")
    name_classes(body, NAMES)
    save_model(body, tmp_path / "body.onnx")
    rng = np.random.default_rng(0)
    for name, colour in zip(NAMES, colours, strict=True):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(40):
            pixels = np.clip(rng.normal(colour + rng.normal(0, 60, 3), 5, (8, 8, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{i}.png")
    with calibrated(tmp_path, "data") as cascade:
        assert cascade.document.calibration.accuracy.value > 0.7
        assert cascade.predict(tmp_path / "data" / "zebra" / "0.png").name == "zebra"


def test_calibrate_prints_the_classes_with_an_example_each(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So that a wrong order is seen."""
    calibrated(folder, "sorted.npz").close()
    lines = capsys.readouterr().out.splitlines()
    labels = np.load(folder / "numbers.npz")["y"]
    assert [line.split() for line in lines[:4]] == [
        [*(["classes"] if k == 0 else []), str(k), name, "such", "as", "row", str(np.flatnonzero(labels == k)[0])]
        for k, name in enumerate(NAMES)
    ]


def test_data_without_some_of_the_classes_is_matched(folder: Path) -> None:
    """The names tell which classes are there."""
    arrays = dict(np.load(folder / "words.npz"))
    some = arrays["y"] != "bee"
    np.savez(folder / "some.npz", **{name: array[some] for name, array in arrays.items()})
    with calibrated(folder, "some.npz") as cascade:
        assert cascade.document.labels == tuple(NAMES)
        assert cascade.document.calibration.accuracy.value > 0.5


@pytest.mark.parametrize(
    ("names", "labels", "model", "expected"),
    [
        (["a", "b", "c"], [0, 1, 2], ["c", "a", "b"], [1, 2, 0]),
        (["a", "b", "c"], [0, 1, 2], [], [0, 1, 2]),
        (["a", "b", "c"], [0, 1, 2], ["0", "1", "2"], [0, 1, 2]),
        ([], [0, 2], ["a", "b", "c"], [0, 2]),
        (["0", "1", "10", "2"], [0, 2, 3], [f"class {k}" for k in range(11)], [0, 10, 2]),
        ([], [1, 2, 3], ["1", "2", "3"], [0, 1, 2]),
        ([], [0, 1, 2], ["1", "2", "3"], [0, 1, 2]),
        ([], [-1, 1], ["-1", "1"], [0, 1]),
        (["3", "1"], [0, 1], ["1", "2", "3"], [2, 0]),
        (["a", "b", "x"], [0, 1], ["b", "a"], [1, 0]),
    ],
)
def test_labels_become_those_of_the_model(
    names: list[str], labels: list[int], model: list[str], expected: list[int]
) -> None:
    """By name, by number, or as they are where nothing is known; unused names do not matter."""
    found = labelled_as(labelled(labels, names), model)
    assert found.labels.tolist() == expected
    assert labelled_as(found, model).labels.tolist() == expected


@pytest.mark.parametrize(
    ("names", "labels", "model", "message"),
    [
        (["a", "x"], [0, 1], ["a", "b"], r"expected the classes of the model \(a, b\), got a, x: x cannot be matched"),
        (["x", "y"], [0, 1], ["0", "1", "2"], r"expected 3 classes, as many as the unnamed ones .*, got 2: x, y"),
        (["a", "b"], [0, 2], ["a", "b"], r"expected labels from 0 to 1, one per name, got 0 to 2"),
        (
            [],
            [1, 2],
            ["1", "2", "3"],
            r"the labels 1, 2 may be names .* or their numbers from 0; give the data .* `names`",
        ),
        (["a", "b"], [0, 1], ["a", "b", "b"], r"\(a, b, b\), got a, b: b cannot"),
    ],
)
def test_what_cannot_be_matched_is_refused(names: list[str], labels: list[int], model: list[str], message: str) -> None:
    """The error has both lists."""
    with pytest.raises(ExportError, match=rf"^data: .*{message}"):
        labelled_as(labelled(labels, names), model)


@pytest.mark.parametrize("where", ["metadata", "ultralytics", "config", "folder onnx", "class labels", "constants"])
def test_the_names_of_a_model_are_found(linear: Body, tmp_path: Path, where: str) -> None:
    """Wherever export tools put them."""
    model, path = linear(WEIGHT, np.zeros(4)), tmp_path / "model.onnx"
    if where == "metadata":
        name_classes(model, NAMES)
    elif where == "ultralytics":
        model.metadata_props.add(key="names", value=str(dict(enumerate(NAMES))))
    elif where == "config":
        (tmp_path / "config.json").write_text(json.dumps({"id2label": dict(enumerate(NAMES))}))
    elif where == "folder onnx":
        path = tmp_path / "onnx" / "model.onnx"
        (tmp_path / "config.json").write_text(json.dumps({"id2label": dict(enumerate(NAMES))}))
    elif where == "class labels":
        node = helper.make_node(
            "LinearClassifier", ["z"], ["l", "s"], domain="ai.onnx.ml", classlabels_strings=NAMES, coefficients=[0.0]
        )
        model.graph.node.append(node)
    else:
        model.graph.initializer.append(helper.make_tensor("names", onnx.TensorProto.STRING, [4], np.array(NAMES)))
        model.graph.node.append(helper.make_node("ArrayFeatureExtractor", ["names", "z"], ["l"], domain="ai.onnx.ml"))
    assert model_names(model, path, 4) == tuple(NAMES)
    assert model_names(model, path, 5) == () if where != "metadata" else True


def test_placeholders_and_damaged_configurations_are_no_names(linear: Body, tmp_path: Path) -> None:
    """LABEL_0 and 0 name nothing."""
    model = linear(WEIGHT, np.zeros(4))
    for text in ("{", "[1]", '{"id2label": 3}', json.dumps({"id2label": {k: f"LABEL_{k}" for k in range(4)}})):
        (tmp_path / "config.json").write_text(text)
        assert model_names(model, tmp_path / "model.onnx", 4) == ()
    name_classes(model, ["0", "1", "2", "3"])
    assert model_names(model, tmp_path / "model.onnx", 4) == ()
    name_classes(model, ["a", "b"])
    with pytest.raises(ExportError, match=r"expected 4 class names, one per score, got 2: a, b"):
        model_names(model, tmp_path / "model.onnx", 4)


def test_columns_of_another_model_are_matched_by_name() -> None:
    """Unknown names leave the order as it is, and other names are refused with both lists."""
    assert columns_by_name(NAMES, ["mole", "zebra", "bee", "ant"]) == (3, 2, 1, 0)
    for theirs in (NAMES, [], ["0", "1", "2", "3"]):
        assert columns_by_name(NAMES, theirs) is None
    with pytest.raises(ExportError, match=r"^remote: expected the classes ant, .*, got ant, bee, mole, wolf: wolf"):
        columns_by_name(NAMES, ["ant", "bee", "mole", "wolf"])


@pytest.mark.parametrize("device", ["same file", "without names", "in the order of the cascade"])
def test_a_remote_in_another_order_is_read_in_that_of_the_cascade(
    folder: Path, linear: Body, device: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The temperature is that of the same remote in order, and the device takes its scores by name, or as recorded."""
    order = [2, 0, 3, 1]
    model = linear(WEIGHT[:, order], np.zeros(4))
    name_classes(model, [NAMES[k] for k in order])
    save_model(model, folder / "other.onnx")
    with (
        calibrated(folder, "numbers.npz") as expected,
        calibrated(folder, "numbers.npz", "other.onnx", "o.onnx") as one,
    ):
        assert one.document.remote == expected.document.remote
        assert one.document.remote_columns == (1, 3, 0, 2)
        assert expected.document.remote_columns is None
    assert (
        "its classes are in another order, which the file describes: zebra, ant, mole, bee" in capsys.readouterr().out
    )
    x = np.load(folder / "numbers.npz")["x"]
    remote: Any = {
        "same file": folder / "other.onnx",
        "without names": lambda batch: batch @ WEIGHT[:, order],
        "in the order of the cascade": InProcess(lambda batch: batch @ WEIGHT, NAMES),
    }[device]
    with Cascade.load(folder / "o.onnx", remote=remote, threshold=2.0, deadline=30.0) as cascade:
        answers = cascade.predict_batch(x)
    found = [answer.remote.label for answer in answers if answer.remote is not None]
    assert found == (x @ WEIGHT).argmax(axis=1).tolist()


@pytest.mark.slow
def test_a_served_remote_is_read_in_the_order_of_the_cascade(folder: Path, linear: Body) -> None:
    """`serve` sends the class names of a file, which calibration and device read; another file needs no new plan."""
    order, x = [2, 0, 3, 1], np.load(folder / "numbers.npz")["x"]
    model = linear(WEIGHT[:, order], np.zeros(4))
    name_classes(model, [NAMES[k] for k in order])
    save_model(model, folder / "other.onnx")
    model = linear(WEIGHT, np.zeros(4))
    name_classes(model, NAMES)
    save_model(model, folder / "same.onnx")
    with serving(folder / "other.onnx", name="m", threads=1, log=folder / "log") as address:
        arguments = ["--remote", address, "--data", str(folder / "words.npz"), "--offload-rate", "0.3"]
        assert main(["calibrate", str(folder / "body.onnx"), *arguments, "-o", str(folder / "c.onnx")]) == 0
    for name in ("other.onnx", "same.onnx"):
        with (
            serving(folder / name, name="m", threads=1, log=folder / "log") as address,
            Cascade.load(folder / "c.onnx", remote=address, threshold=2.0, deadline=30.0) as cascade,
        ):
            assert cascade.document.remote_columns == (1, 3, 0, 2)
            answers = cascade.predict_batch(x)
        found = [answer.remote.label for answer in answers if answer.remote is not None]
        assert found == (x @ WEIGHT).argmax(axis=1).tolist()


def test_a_remote_of_more_classes_is_refused_with_both_lists(
    folder: Path, linear: Body, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error shows what each model has."""
    model = linear(np.concatenate([WEIGHT, WEIGHT[:, :1]], axis=1), np.zeros(5))
    name_classes(model, [*NAMES, "wolf"])
    save_model(model, folder / "more.onnx")
    arguments = ["--remote", str(folder / "more.onnx"), "--data", str(folder / "words.npz"), "--offload-rate", "0.3"]
    assert main(["calibrate", str(folder / "body.onnx"), *arguments, "-o", str(folder / "c.onnx")]) == 2
    said = capsys.readouterr().err
    assert "got 5: ant, bee, zebra, mole; and ant, bee, zebra, mole, wolf" in said
    assert "running the remote" not in said


def test_a_remote_of_other_classes_gives_no_answer(folder: Path) -> None:
    """The local answer stands, and the reason has both lists."""
    calibrated(folder, "numbers.npz").close()
    remote: Remote = InProcess(lambda batch: batch @ WEIGHT, ["ant", "bee", "zebra", "wolf"])
    with Cascade.load(folder / "cascade.onnx", remote=remote, threshold=2.0, deadline=30.0) as cascade:
        answer = cascade.predict(np.zeros(4, np.float32))
    assert answer.remote is None
    assert answer.detail == "remote: expected the classes ant, bee, zebra, mole, got ant, bee, zebra, wolf"


def test_the_report_says_that_a_remote_does_not_name_its_classes(
    folder: Path, linear: Body, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its scores are taken in the order of the listed classes, or in that of the file; otherwise nothing is said."""
    calibrated(folder, "words.npz").close()
    said = "remote      its classes are not matched by name, but taken in the order above\n"
    assert said in capsys.readouterr().out
    order = [2, 0, 3, 1]
    model = linear(WEIGHT[:, order], np.zeros(4))
    save_model(model, folder / "nameless.onnx")
    name_classes(model, [NAMES[k] for k in order])
    save_model(model, folder / "other.onnx")
    calibrated(folder, "words.npz", "other.onnx").close()
    assert "not matched by name" not in capsys.readouterr().out
    arguments = ["--remote", str(folder / "nameless.onnx"), "--data", str(folder / "words.npz")]
    file = str(folder / "cascade.onnx")
    assert main(["recalibrate", file, *arguments, "--offload-rate", "0.3", "-o", file]) == 0
    said = "not matched by name, but taken in the order that the file describes: zebra, ant, mole, bee\n"
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
@pytest.mark.parametrize("shape", [[-1], [-1, 1]])
def test_one_score_for_two_classes_is_read_as_two(linear: Body, tmp_path: Path, kind: str, shape: list[int]) -> None:
    """Calibration and device give what they give for both columns, and the report names the class of the score."""
    rng, names = np.random.default_rng(0), ["cat", "dog"]
    x = rng.normal(0, 1, (800, 2)).astype(np.float32)
    y = (3 * (x[:, 1] - x[:, 0]) + rng.logistic(size=800) > 0).astype(int)
    model = linear(np.eye(2) + rng.normal(0, 0.3, (2, 2)), np.zeros(2))
    name_classes(model, names)
    save_model(model, tmp_path / "body.onnx")
    data = LabelledData(x, y, tuple(names), "")
    local = local_scores(tmp_path / "body.onnx", x)

    def score(batch: Any) -> Any:
        one = (batch[:, 1] - batch[:, 0]).astype(np.float64)
        return (1 / (1 + np.exp(-one)) if kind == "probabilities" else one).reshape(shape)

    def both(batch: Any) -> Any:
        one = score(batch).ravel()
        return np.stack([1 - one if kind == "probabilities" else 0 * one, one], axis=1)

    found = []
    for remote in (both, score):
        out = tmp_path / f"{remote.__name__}.onnx"
        done = calibrate(
            tmp_path / "body.onnx", out, data, local, remote(x), objective=MostAccuracy(0.3), remote_kind=kind
        )
        with Cascade.load(out, remote=remote, threshold=2.0, deadline=30.0) as cascade:
            answers = cascade.predict_batch(x)
            rows = [answer.remote.probabilities for answer in answers if answer.remote is not None]
            found.append((cascade.document.remote, rows))
    (of_both, expected), (of_score, rows) = found
    assert of_score == of_both
    np.testing.assert_allclose(rows, expected, rtol=1e-6)
    said = {"logits": "its one score is taken as the logit of dog"}
    assert done.remote_notes[0] == said.get(kind, "its one score is taken as the probability of dog")
    if kind == "probabilities":
        with pytest.raises(ExportError, match=r"lie in \[0, 1\].*say which with --remote-kind probabilities or"):
            calibrate(tmp_path / "body.onnx", out, data, local, score(x), objective=MostAccuracy(0.3))


def test_one_score_of_a_file_is_that_of_its_second_class(
    linear: Body, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its names tell which class that is, also where it is the first of the body's."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (800, 2)).astype(np.float32)
    y = (3 * (x[:, 1] - x[:, 0]) + rng.logistic(size=800) > 0).astype(int)
    for name, weight, names in (
        ("body", np.eye(2) + rng.normal(0, 0.3, (2, 2)), ["cat", "dog"]),
        ("remote", np.array([[2], [-2]]), ["dog", "cat"]),
    ):
        model = linear(weight, np.zeros(weight.shape[1]))
        name_classes(model, names)
        save_model(model, tmp_path / f"{name}.onnx")
    np.savez(tmp_path / "data.npz", x=x, y=y)
    with calibrated(tmp_path, "data.npz") as cascade:
        assert cascade.document.remote_columns == (1, 0)
    said = capsys.readouterr().out
    assert "remote      its one score is taken as the logit of cat\n" in said
    with Cascade.load(tmp_path / "cascade.onnx", remote=tmp_path / "remote.onnx", threshold=2.0, deadline=30.0) as one:
        answers = one.predict_batch(x)
    found = [answer.remote.label for answer in answers if answer.remote is not None]
    assert found == (x[:, 1] > x[:, 0]).astype(int).tolist()


def test_recalibration_matches_by_the_names_in_the_file(folder: Path, linear: Body) -> None:
    """Data in words is fitted alike, and a remote without names keeps the order that the file has for it."""
    order = [2, 0, 3, 1]
    model = linear(WEIGHT[:, order], np.zeros(4))
    save_model(model, folder / "nameless.onnx")
    name_classes(model, [NAMES[k] for k in order])
    save_model(model, folder / "other.onnx")
    calibrated(folder, "numbers.npz", "other.onnx").close()
    for remote in ("other.onnx", "nameless.onnx"):
        arguments = ["--remote", str(folder / remote), "--data", str(folder / "words.npz"), "--offload-rate", "0.3"]
        assert main(["recalibrate", str(folder / "cascade.onnx"), *arguments, "-o", str(folder / "again.onnx")]) == 0
        with Cascade.load(folder / "cascade.onnx") as first, Cascade.load(folder / "again.onnx") as again:
            assert again.document.remote_columns == first.document.remote_columns
            assert again.document.policy == first.document.policy


def test_another_order_of_unknown_names_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A body without names on data in the alphabet's order is not fitted on wrong labels."""
    model = onnx.load(folder / "body.onnx")
    del model.metadata_props[:]
    save_model(model, folder / "body.onnx")
    arguments = ["--remote", str(folder / "remote.onnx"), "--offload-rate", "0.3", "-o", str(folder / "c.onnx")]
    assert main(["calibrate", str(folder / "body.onnx"), "--data", str(folder / "sorted.npz"), *arguments]) == 2
    said = capsys.readouterr().err
    assert "local model: another order of its classes fits far better" in said
    assert "if its outputs stand for ant, bee, zebra, mole and not for ant, bee, mole, zebra" in said
    assert not (folder / "c.onnx").exists()


@pytest.mark.parametrize("command", ["calibrate", "compare"])
def test_numbers_in_another_order_than_the_names_of_the_model_are_the_datas_error(
    folder: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The names in the order of the numbers are the cure, which the message has."""
    with np.load(folder / "sorted.npz") as arrays:
        np.savez(folder / "bare.npz", x=arrays["x"], y=arrays["y"])
    further = ["--remote", str(folder / "remote.onnx"), "--offload-rate", "0.3", "-o", str(folder / "c.onnx")]
    arguments = [str(folder / "body.onnx"), "--data", str(folder / "bare.npz")]
    other = [str(folder / "body.onnx")] if command == "compare" else further
    assert main([command, *arguments, *other]) == 2
    said = capsys.readouterr().err
    assert "data: expected labels `y` that number the classes as the model names them (ant, bee, zebra, mole)" in said
    assert "stand for ant, bee, mole, zebra" in said
    assert not (folder / "c.onnx").exists()


@pytest.mark.parametrize("form", ["list", "names.txt", "names.json", "numbers.json"])
def test_export_writes_the_names(folder: Path, form: str) -> None:
    """From a list or a file; they replace those of the source."""
    (folder / "names.txt").write_text("\n".join(NAMES) + "\n")
    (folder / "names.json").write_text(json.dumps(NAMES))
    (folder / "numbers.json").write_text(json.dumps(dict(enumerate(NAMES))))
    given = ",".join(NAMES) if form == "list" else str(folder / form)
    arguments = [str(folder / "remote.onnx"), "--names", given, "-o", str(folder / "named.onnx")]
    assert main(["export", *arguments]) == 0
    properties = {one.key: one.value for one in onnx.load(folder / "named.onnx").metadata_props}
    assert json.loads(properties[LABELS_KEY]) == NAMES


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("a,b", "expected 4 class names, got 2: a, b"),
        ("a,,b,c", "expected a name for each class, got none for class 1"),
        ("missing.txt", "cannot read class names from missing.txt"),
        ("wrong.json", "expected a list, or an object by number from 0, in wrong.json"),
    ],
)
def test_other_names_are_refused(
    folder: Path,
    given: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The error says what was expected."""
    monkeypatch.chdir(folder)
    (folder / "wrong.json").write_text("3")
    assert main(["export", "remote.onnx", "--names", given, "-o", "named.onnx"]) == 2
    assert f"--names: {message}" in capsys.readouterr().err


def test_export_keeps_the_names_that_a_model_has(folder: Path) -> None:
    """Those in another place are written where every reader finds them."""
    (folder / "config.json").write_text(json.dumps({"id2label": dict(enumerate(NAMES))}))
    assert main(["export", str(folder / "remote.onnx"), "-o", str(folder / "out" / "named.onnx")]) == 0
    properties = {one.key: one.value for one in onnx.load(folder / "out" / "named.onnx").metadata_props}
    assert json.loads(properties[LABELS_KEY]) == NAMES


def test_compared_bodies_are_matched_by_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same model with its classes in another order agrees with itself on every input."""
    model = onnx.load(folder / "body.onnx")
    order = [2, 0, 3, 1]
    weight = onnx.numpy_helper.to_array(next(one for one in model.graph.initializer if one.name == "weight"))
    for one in model.graph.initializer:
        if one.name == "weight":
            one.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(weight[:, order]), "weight"))
    name_classes(model, [NAMES[k] for k in order])
    save_model(model, folder / "other.onnx")
    data = str(folder / "sorted.npz")
    assert main(["compare", str(folder / "body.onnx"), str(folder / "other.onnx"), "--data", data]) == 0
    assert "The same label on 100.0 %" in capsys.readouterr().out


def test_compared_bodies_in_another_order_than_the_labels_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two models without names are not measured by wrong labels."""
    model = onnx.load(folder / "body.onnx")
    del model.metadata_props[:]
    save_model(model, folder / "body.onnx")
    arguments = [str(folder / "body.onnx"), str(folder / "body.onnx"), "--data", str(folder / "sorted.npz")]
    assert main(["compare", *arguments]) == 2
    said = capsys.readouterr().err
    assert "body.onnx: another order of its classes fits far better" in said
    assert "if its outputs stand for ant, bee, zebra, mole and not for ant, bee, mole, zebra" in said


def test_labels_in_text_may_be_among_names(tmp_path: Path) -> None:
    """Names give the order; a label that is not among them is refused."""
    x = np.zeros((3, 2), np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=["b", "a", "b"], names=["b", "c", "a"])
    data = read_labelled(tmp_path / "d.npz")
    assert (data.labels.tolist(), data.names) == ([0, 2, 0], ("b", "c", "a"))
    np.savez(tmp_path / "e.npz", x=x, y=["b", "a", "b"])
    data = read_labelled(tmp_path / "e.npz")
    assert (data.labels.tolist(), data.names) == ([1, 0, 1], ("a", "b"))
    np.savez(tmp_path / "f.npz", x=x, y=["b", "x", "b"], names=["b", "c", "a"])
    with pytest.raises(ExportError, match=r"expected labels among the class names b, c, a, got x"):
        read_labelled(tmp_path / "f.npz")


def test_a_name_of_two_classes_is_no_label(tmp_path: Path) -> None:
    """The error names it, and says what to do; class numbers are accepted."""
    x = np.zeros((3, 2), np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=["b", "crane", "b"], names=["b", "crane", "crane"])
    with pytest.raises(
        ExportError, match=r"each name one class, got crane, which several classes are called; give .* num"
    ):
        read_labelled(tmp_path / "d.npz")
    np.savez(tmp_path / "e.npz", x=x, y=[0, 2, 0], names=["b", "crane", "crane"])
    assert read_labelled(tmp_path / "e.npz").labels.tolist() == [0, 2, 0]


def test_inputs_are_described_in_few_words() -> None:
    """By their file, their text or their row."""
    data = labelled([0, 1], [])
    assert data.describe(1) == "row 1"
    assert replace(data, files=("a.png", "b.png")).describe(1) == "b.png"
    assert replace(data, inputs=np.array(["one\n", "two"], object)).describe(0) == '"one\\n"'


def test_a_name_may_stand_for_several_classes() -> None:
    """ImageNet has two cranes. Class numbers are theirs, however often data and model are matched."""
    names = ("crane", "dog", "crane")
    data = LabelledData(np.zeros((4, 2), np.float32), np.array([0, 0, 2, 2]), (), "0" * 64)
    for _ in range(2):
        data = labelled_as(data, names)
        assert (data.names, data.labels.tolist()) == (names, [0, 0, 2, 2])


def test_a_remote_without_names_keeps_the_order_that_was_recorded() -> None:
    """`LABEL_0` and the like are no names, in calibration as on the device."""
    for theirs in ((), ("LABEL_0", "LABEL_1", "LABEL_2"), ("0", "1", "2")):
        assert columns_by_name(("a", "b", "c"), theirs, known=(2, 0, 1)) == (2, 0, 1)
    assert columns_by_name(("a", "b", "c"), ("c", "a", "b"), known=(0, 2, 1)) == (1, 2, 0)
