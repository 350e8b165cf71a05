"""Recorded pairs for the next calibration are bounded, complete, and readable by the commands."""

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecascade.cli import main
from edgecascade.export import cascade_scores, read_labelled
from edgecascade.runtime import ArgumentError, Cascade, Prediction
from edgecascade.runtime.watch.recorder import PairRecorder

NAMES = ["red", "green", "blue"]


def prediction(label: int, confidence: float = 0.8) -> Prediction:
    """Return a prediction of one of three classes."""
    probabilities = np.full(3, (1 - confidence) / 2, np.float32)
    probabilities[label] = confidence
    return Prediction(label, confidence, probabilities)


def record(pairs: PairRecorder, value: Any, label: int = 0) -> bool:
    """Record one pixel that the local model labels red."""
    return pairs.add(np.full((1, 2), value, np.float32), prediction(0, 0.6), prediction(label), audited=True)


def saved(pairs: PairRecorder) -> dict[str, Any]:
    """Return the arrays of the file."""
    path = pairs.save()
    assert path is not None
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays}


def test_the_file_holds_both_predictions(tmp_path: Path) -> None:
    """It has the inputs in order, a label, and both models' probabilities."""
    pairs = PairRecorder(tmp_path, NAMES)
    assert record(pairs, 1, label=2)
    assert pairs.add(np.full((1, 2), 2, np.float32), prediction(1), prediction(1), audited=False)
    arrays = saved(pairs)
    np.testing.assert_array_equal(arrays["x"], np.array([[1, 1], [2, 2]], np.float32))
    assert (arrays["y"].shape, arrays["y"].dtype) == ((2,), np.int64)
    assert arrays["names"].tolist() == NAMES
    assert (arrays["local"].argmax(1).tolist(), arrays["remote"].argmax(1).tolist()) == ([0, 1], [2, 1])
    assert arrays["local"].dtype == arrays["remote"].dtype == np.float32
    np.testing.assert_allclose(arrays["confidence"], [0.6, 0.8])
    assert arrays["audited"].tolist() == [True, False]


def recorded(pair: Path, folder: Path) -> dict[str, Any]:
    """Return the file of all test images of the pair, with the predictions of both models."""
    test = np.load(pair / "test.npz")["x"]
    pairs = PairRecorder(folder, NAMES, seed=1)
    with Cascade.load(pair / "local.onnx", remote=pair / "remote.onnx", threshold=2.0, deadline=60) as cascade:
        for x, answer in zip(test, cascade.predict_batch(test), strict=True):
            assert answer.remote is not None
            assert pairs.add(x[None], answer.local, answer.remote, audited=False)
    return saved(pairs)


def test_recalibrate_reads_the_folder_or_the_file(pair: Path, tmp_path: Path) -> None:
    """With the remote called again or with its saved probabilities, the figures equal the true ones."""
    arrays = recorded(pair, tmp_path)
    np.save(tmp_path / "remote.npy", arrays["remote"])
    for remote, data in ((pair / "remote.onnx", tmp_path), (tmp_path / "remote.npy", tmp_path / "pairs.npz")):
        arguments = [str(pair / "local.onnx"), "--data", str(data), "--remote", str(remote)]
        out = tmp_path / "new.onnx"
        assert main(["recalibrate", *arguments, "--offload-rate", "0.2", "-o", str(out)]) == 0
        new = Cascade.load(out).document.to_dict()
        old = Cascade.load(pair / "local.onnx").document.to_dict()
        assert (new["calibration"]["n"], new["labels"]) == (400, NAMES)
        assert new["remote"]["scores"] == old["remote"]["scores"]  # as the remote gives them, not as they were recorded
        for who in ("calibration", "remote"):
            apart = 0.25 if who == "calibration" else 0.5  # the remote errs on few of the inputs
            assert new[who]["temperature"] == pytest.approx(old[who]["temperature"], rel=apart)
            assert new[who]["accuracy"]["value"] == pytest.approx(old[who]["accuracy"]["value"], abs=0.06)


def test_no_certificate_rests_on_the_remote_labels(
    pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The remote would vouch for itself. With labels of their own the same inputs can be certified."""
    arrays = recorded(pair, tmp_path)
    np.save(tmp_path / "remote.npy", arrays["remote"])
    out = tmp_path / "new.onnx"
    rest = ["--remote", str(tmp_path / "remote.npy"), "--certify", "0.2", "-o", str(out)]
    for command in (["recalibrate", str(pair / "local.onnx")], ["calibrate", str(pair / "corner.onnx")]):
        assert main([*command, "--data", str(tmp_path / "pairs.npz"), *rest]) == 2
        assert capsys.readouterr().err.startswith("edgecascade: labels: expected true ones")  # before a model runs
    refused = ["calibrate", str(pair / "corner.onnx"), "--data", str(tmp_path / "pairs.npz"), *rest[:2]]
    assert main([*refused, "--offload-rate", "0.2", "-o", str(out)]) == 2
    assert "remote: expected its own scores" in capsys.readouterr().err
    assert not out.exists()
    kept = {name: arrays[name] for name in ("x", "names", "remote")}
    np.savez(tmp_path / "true.npz", y=np.load(pair / "test.npz")["y"], **kept)
    assert main(["recalibrate", str(pair / "local.onnx"), "--data", str(tmp_path / "true.npz"), *rest]) == 0
    assert Cascade.load(out).document.remote_scores == Cascade.load(pair / "local.onnx").document.remote_scores


def test_an_array_of_that_name_that_holds_logits_is_the_users_own(pair: Path, tmp_path: Path) -> None:
    """Only probabilities can be recorded ones."""
    test = np.load(pair / "test.npz")
    logits = np.random.default_rng(0).normal(size=(len(test["y"]), 3)).astype(np.float32)
    np.savez(tmp_path / "own.npz", x=test["x"], y=test["y"], remote=logits)
    assert read_labelled(tmp_path / "own.npz").recorded is None


def test_pairs_of_several_inputs_are_read_without_what_is_beside_them(tmp_path: Path) -> None:
    """Each input of the model is an array under its name."""
    pairs = PairRecorder(tmp_path, NAMES)
    x = {"left": np.zeros((1, 2), np.float32), "right": np.ones((1, 2), np.float32)}
    assert pairs.add(x, prediction(0), prediction(1), audited=True)
    saved(pairs)
    data = read_labelled(tmp_path / "pairs.npz")
    assert isinstance(data.inputs, dict)
    assert sorted(data.inputs) == ["left", "right"]
    assert data.recorded is not None
    assert data.estimated


def test_calibrate_reads_the_file(pair: Path, tmp_path: Path) -> None:
    """It does so for the body alone; the inputs are those of the local model, bit for bit."""
    arrays = recorded(pair, tmp_path)
    path = str(tmp_path / "pairs.npz")
    data = read_labelled(path)
    assert isinstance(data.inputs, np.ndarray)
    np.testing.assert_array_equal(data.inputs, np.load(pair / "test.npz")["x"])
    scores = cascade_scores(pair / "local.onnx", data.inputs)
    assert scores.argmax(1).tolist() == arrays["local"].argmax(1).tolist()
    arguments = ["calibrate", str(pair / "corner.onnx"), "--remote", str(pair / "remote.onnx"), "--data", path]
    assert main([*arguments, "--offload-rate", "0.2", "-o", str(tmp_path / "new.onnx")]) == 0


def test_labels_are_drawn_from_the_remote_probabilities(tmp_path: Path) -> None:
    """Each class is drawn with its probability, and never with a probability of 0."""
    pairs = PairRecorder(tmp_path, NAMES, seed=3)
    remote = Prediction(2, 0.7, np.array([0.0, 0.3, 0.7], np.float32))
    for _ in range(2000):
        pairs.add(np.zeros((1, 1)), prediction(0), remote, audited=True)
    often = np.bincount(saved(pairs)["y"], minlength=3) / 2000
    assert often[0] == 0
    assert often[1] == pytest.approx(0.3, abs=0.04)


def test_the_latest_pairs_are_recorded(tmp_path: Path) -> None:
    """They are in the order in which they came."""
    pairs = PairRecorder(tmp_path, NAMES, most=3)
    for i in range(10):
        record(pairs, i)
    assert saved(pairs)["x"][:, 0].tolist() == [7, 8, 9]


@given(sizes=st.lists(st.integers(1, 40), max_size=30), most=st.integers(1, 10), most_bytes=st.integers(1, 400))
def test_both_bounds_hold(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], most: int, most_bytes: int
) -> None:
    """A pair larger than the whole bound is refused without removing others."""
    pairs = PairRecorder(tmp_path_factory.mktemp("recorded"), NAMES, most=most, most_bytes=most_bytes)
    expected: list[int] = []
    for size in sizes:
        x = np.zeros((1, size), np.float64)
        if pairs.add(x, prediction(0), prediction(0), audited=True):
            expected.append(x.nbytes + 24)
        else:
            assert x.nbytes + 24 > most_bytes
        while len(expected) > most or sum(expected) > most_bytes:
            expected.pop(0)
        assert len(pairs) == len(expected)


def test_an_input_is_copied(tmp_path: Path) -> None:
    """The caller may reuse its buffer."""
    pairs = PairRecorder(tmp_path, NAMES)
    x = np.ones((1, 2), np.float32)
    local, remote = prediction(0), prediction(1)
    pairs.add(x, local, remote, audited=True)
    x[:], local.probabilities[:], remote.probabilities[:] = 9, 9, 9
    arrays = saved(pairs)
    assert arrays["x"].tolist() == [[1, 1]]
    assert arrays["local"].max() < 1


def test_several_inputs_are_recorded_by_name(tmp_path: Path) -> None:
    """Each has its own array, under its name in the model."""
    pairs = PairRecorder(tmp_path, NAMES)
    for i in range(2):
        x = {"values": np.full((1, 3), i, np.float32), "kind": np.array([[i]])}
        pairs.add(x, prediction(0), prediction(i), audited=True)
    arrays = saved(pairs)
    assert arrays["values"].shape == (2, 3)
    assert (arrays["kind"].dtype, arrays["kind"].tolist()) == (np.int64, [[0], [1]])
    again = PairRecorder(tmp_path, NAMES)
    assert len(again) == 2
    assert saved(again).keys() == arrays.keys()


@pytest.mark.parametrize("kind", ["U", "O"])
def test_sentences_of_any_length_are_recorded_together(tmp_path: Path, kind: str) -> None:
    """They come from arrays of text or of objects; the file holds plain text."""
    pairs = PairRecorder(tmp_path, NAMES)
    sentences = ["short", "a much longer one", ""]
    for sentence in sentences:
        x = np.array([sentence]) if kind == "U" else np.array([sentence], object)
        assert pairs.add(x, prediction(0), prediction(1), audited=True)
    assert saved(pairs)["x"].tolist() == sentences
    assert saved(PairRecorder(tmp_path, NAMES))["x"].tolist() == sentences


@pytest.mark.parametrize(
    "x",
    [
        np.array([b"\xff\xd8 a jpeg"], object),
        np.array([None], object),
        {"y": np.zeros((1, 2))},
        {"file": np.zeros((1, 2))},
        {"a": np.zeros((1, 2)), "remote": np.zeros((1, 2))},
    ],
)
def test_inputs_that_npz_cannot_hold_are_not_recorded(tmp_path: Path, x: Any) -> None:
    """Cases are encoded images, objects, and inputs with the name of another array of the file."""
    pairs = PairRecorder(tmp_path, NAMES)
    assert not pairs.add(x, prediction(0), prediction(1), audited=True)
    assert pairs.save() is None
    assert list(tmp_path.iterdir()) == []


def test_predictions_of_other_classes_are_not_recorded(tmp_path: Path) -> None:
    """They belong to another model."""
    other = Prediction(0, 1.0, np.ones(4, np.float32))
    assert not PairRecorder(tmp_path, NAMES).add(np.zeros((1, 2)), prediction(0), other, audited=True)


def test_the_most_common_shape_is_saved(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file has one shape; the log has the number of omitted inputs."""
    pairs = PairRecorder(tmp_path, NAMES)
    for side in (4, 3, 3, 5, 3):
        pairs.add(np.zeros((1, side, side), np.uint8), prediction(0), prediction(0), audited=True)
    with caplog.at_level(logging.WARNING):
        assert saved(pairs)["x"].shape == (3, 3, 3)
    assert "2 recorded inputs" in caplog.text


def test_a_restart_appends_to_the_file(tmp_path: Path) -> None:
    """The saved pairs are read in order, and the bounds hold for all."""
    first = PairRecorder(tmp_path, NAMES, most=4)
    for i in range(3):
        record(first, i, label=i)
    before = saved(first)
    second = PairRecorder(tmp_path, NAMES, most=4)
    assert {name: array.tolist() for name, array in saved(second).items()} == {
        name: array.tolist() for name, array in before.items()
    }
    for i in (3, 4):
        record(second, i)
    assert saved(second)["x"][:, 0].tolist() == [1, 2, 3, 4]
    assert len(PairRecorder(tmp_path, NAMES, most=2)) == 2


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _drop_an_array(path: Path) -> None:
    arrays = dict(np.load(path))
    del arrays["remote"]
    np.savez(path, **arrays)


def _shorten_an_array(path: Path) -> None:
    arrays = dict(np.load(path))
    np.savez(path, **{**arrays, "local": arrays["local"][:1]})


def _pickle(path: Path) -> None:
    arrays = dict(np.load(path))
    np.savez(path, **{**arrays, "x": np.array([{}, {}], object)})


def _garbage(path: Path) -> None:
    path.write_bytes(b"nothing that numpy wrote")


def _rename_a_class(path: Path) -> None:
    arrays = dict(np.load(path))
    np.savez(path, **{**arrays, "names": np.array(["red", "green", "violet"])})


@pytest.mark.parametrize("damage", [_truncate, _drop_an_array, _shorten_an_array, _pickle, _garbage, _rename_a_class])
def test_an_incompatible_file_is_renamed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    """The log names it, and a new file begins."""
    pairs = PairRecorder(tmp_path, NAMES)
    record(pairs, 1)
    record(pairs, 2)
    pairs.save()
    damage(tmp_path / "pairs.npz")
    content = (tmp_path / "pairs.npz").read_bytes()
    with caplog.at_level(logging.WARNING):
        again = PairRecorder(tmp_path, NAMES)
    assert len(again) == 0
    assert "pairs.npz" in caplog.text
    assert (tmp_path / "pairs.npz.old").read_bytes() == content
    record(again, 3)
    assert saved(again)["x"][:, 0].tolist() == [3]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a full disk it raises `OSError` and leaves no partial file."""
    pairs = PairRecorder(tmp_path, NAMES)
    record(pairs, 1)
    pairs.save()
    before = (tmp_path / "pairs.npz").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    record(pairs, 2)
    with pytest.raises(OSError, match="No space"):
        pairs.save()
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.npz"]
    assert (tmp_path / "pairs.npz").read_bytes() == before


def test_a_reader_never_sees_a_partial_file(tmp_path: Path) -> None:
    """Two threads save and one adds while a reader loads."""
    pairs = PairRecorder(tmp_path, NAMES, most=50)
    record(pairs, 0)
    pairs.save()
    stop, failures = threading.Event(), list[BaseException]()

    def work(step: Callable[[], object]) -> None:
        try:
            while not stop.is_set():
                step()
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=work, args=(step,)) for step in (pairs.save, pairs.save, lambda: record(pairs, 1))
    ]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 1
    while time.monotonic() < until:
        arrays = dict(np.load(tmp_path / "pairs.npz"))
        assert len({len(array) for name, array in arrays.items() if name != "names"}) == 1
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("options", [{"most": 0}, {"most_bytes": 0}])
def test_bounds_of_zero_are_refused(tmp_path: Path, options: dict[str, int]) -> None:
    """The error names the argument."""
    with pytest.raises(ArgumentError, match="expected 1 or more, got 0"):
        PairRecorder(tmp_path, NAMES, **options)


def test_an_invalid_folder_is_refused(tmp_path: Path) -> None:
    """It is refused at once, not at the first save."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="record: expected a folder"):
        PairRecorder(tmp_path / "file" / "below", NAMES)
