"""Percentiles, inputs, stored cells and recorded answers of `bench latency`, without LoadGen."""

import json
import threading
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgecascade.benchmarks.latency.cell import QUANTILES, distribution, least
from edgecascade.benchmarks.latency.data import read_inputs_as_given
from edgecascade.benchmarks.latency.loadgen import Outcome, Recorder, read_detail, read_samples, validity_of
from edgecascade.benchmarks.latency.plan import DIRECT, Plan, Scenario, Subject, key_of
from edgecascade.benchmarks.latency.report import milliseconds
from edgecascade.export.data import read_labelled
from edgecascade.types.errors import BenchmarkError, ExportError


@given(st.floats(0.5, 0.9999))
def test_the_number_of_latencies_for_an_interval_is_minimal(q: float) -> None:
    """All n lie below the quantile with a probability of at most 2.5 %; for n - 1 it is larger."""
    n = least(q)
    assert q**n <= 0.025 * (1 + 1e-9)
    assert q ** (n - 1) > 0.025 * (1 - 1e-9)


@given(st.integers(0, 4000))
def test_a_percentile_with_too_few_latencies_is_none(n: int) -> None:
    """With enough latencies it has an interval."""
    found = distribution(np.linspace(0.001, 0.002, n))
    assert found.n == n
    for name, q in QUANTILES.items():
        at = found.at(name)
        assert (at is None) == (n < least(q))
        assert at is None or (at.n == n and at.low <= at.value <= at.high)


def test_too_few_latencies_report_the_number_needed() -> None:
    """The number replaces the percentile."""
    found = distribution(np.full(500, 0.004))
    assert milliseconds(found, "p99") == "4.00 (4.00 to 4.00)"
    assert milliseconds(found, "p99_9") == "n = 500; needs 3688"
    assert milliseconds(None, "p50") == "not meaningful"


def _plan() -> Plan:
    return Plan(
        subject=Subject.CASCADE,
        scenario=Scenario.SERVER,
        network=DIRECT,
        file="a.onnx",
        data="a.npz",
        remote="http://127.0.0.1:8000/v2/models/m",
        deadline=0.2,
        seconds=1.0,
        queries=64,
        qps=50.0,
        warm_up=20,
        threads=1,
        providers=("cpu",),
        engines="engines",
    )


_OTHER: dict[str, Any] = {
    "subject": Subject.LOCAL,
    "scenario": Scenario.OFFLINE,
    "network": "lan",
    "deadline": 0.3,
    "seconds": 2.0,
    "queries": 65,
    "qps": 51.0,
    "warm_up": 21,
    "threads": 2,
    "providers": ("cuda", "cpu"),
}


def test_the_key_depends_on_everything_that_affects_the_cell() -> None:
    """It depends on every argument and the content of file, data and remote, not on their paths."""
    content = {"file": "1", "data": "2", "remote": "3"}
    key = key_of(_plan(), content)
    for name, value in _OTHER.items():
        assert key_of(replace(_plan(), **{name: value}), content) != key, name
    for name in content:
        assert key_of(_plan(), {**content, name: "other"}) != key, name
    places: dict[str, Any] = {
        "file": "b.onnx",
        "data": "b.npz",
        "remote": "http://127.0.0.1:9/v2/models/m",
        "engines": None,
    }
    assert key_of(replace(_plan(), **places), content) == key
    assert _OTHER.keys() | places.keys() == {field.name for field in fields(Plan)}


def test_images_in_folders_stay_files(pair: Path, tmp_path: Path) -> None:
    """Each has the label of `read_labelled`, and its latency includes reading and decoding the file."""
    images, labels = (np.load(pair / "test.npz")[name][:30] for name in ("x", "y"))
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / "rgb"[label]
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    found, whole = read_inputs_as_given(tmp_path), read_labelled(tmp_path)
    assert found.kind == "image files"
    assert found.of == len(found.given) == 30
    pixels = {image.tobytes(): label for image, label in zip(whole.inputs, whole.labels, strict=True)}
    for path, label in zip(found.given, found.labels, strict=True):
        assert isinstance(path, str)
        assert pixels[np.asarray(Image.open(path)).tobytes()] == label
    by_name = read_inputs_as_given(tmp_path, classes=["r", "g", "b"])
    assert [path.split("/")[-2] for path in by_name.given] == [["r", "g", "b"][k] for k in by_name.labels]
    (tmp_path / "r/0.png").unlink(missing_ok=True)
    (tmp_path / "r/new.png").write_bytes(next(tmp_path.glob("*/*.png")).read_bytes())
    assert read_inputs_as_given(tmp_path).digest != found.digest


def test_inputs_are_a_reproducible_random_sample(pair: Path) -> None:
    """Data are often sorted by class, so the first inputs would not be representative."""
    few = read_inputs_as_given(pair / "test.npz", limit=50)
    assert (len(few.given), few.of, few.kind) == (50, 400, "arrays")
    assert set(few.labels.tolist()) == {0, 1, 2}
    again = read_inputs_as_given(pair / "test.npz", limit=50)
    assert all(np.array_equal(a, b) for a, b in zip(few.given, again.given, strict=True))


def test_sentences_and_named_arrays_have_the_form_of_an_application(tmp_path: Path) -> None:
    """A text is a `str`, and several inputs are arrays by name."""
    np.savez(tmp_path / "text.npz", x=np.array(["one", "two"]), y=np.array([0, 1]))
    found = read_inputs_as_given(tmp_path / "text.npz")
    assert found.kind == "sentences"
    assert dict(zip(found.given, found.labels.tolist(), strict=True)) == {"one": 0, "two": 1}
    np.savez(tmp_path / "two.npz", a=np.arange(2), b=np.arange(4).reshape(2, 2), y=np.array([0, 1]))
    (first, _) = sorted(read_inputs_as_given(tmp_path / "two.npz").given, key=lambda one: int(one["a"]))
    assert first["b"].tolist() == [0, 1]


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    """The error describes the expected layout."""
    with pytest.raises(ExportError, match="expected"):
        read_inputs_as_given(tmp_path)


def test_an_incomplete_trace_is_refused(tmp_path: Path) -> None:
    """Percentiles of an incomplete trace would differ from LoadGen's."""
    line = '"args":{{"sample_seq":{0},"query_seq":{0},"sample_idx":3,"issue_start_ns":1,"complete_ns":9}}'
    (tmp_path / "trace").write_text("\n".join(line.format(n) for n in (1, 0)))
    assert read_samples(tmp_path / "trace").latency.tolist() == [9, 9]
    (tmp_path / "trace").write_text("\n".join(line.format(n) for n in (0, 2)))
    with pytest.raises(BenchmarkError, match="expected samples 0 to 1 once each"):
        read_samples(tmp_path / "trace")


def test_the_validity_is_that_of_loadgen(tmp_path: Path) -> None:
    """It includes the unmet conditions; a log without a result is a run that did not end."""
    entries = {"result_validity": "INVALID", "early_stopping_met": False, "early_stopping_result": " * Only 3 queries."}
    text = "\n".join(f":::MLLOG {json.dumps({'key': key, 'value': value})}" for key, value in entries.items())
    (tmp_path / "detail").write_text(f"{text}\n:::MLLOG {{not json\nnoise\n")
    validity = validity_of(read_detail(tmp_path / "detail"))
    assert not validity.valid
    assert validity.unmet == ("early_stopping_met",)
    assert validity.reason == "Only 3 queries."
    with pytest.raises(BenchmarkError, match="expected result_validity"):
        validity_of({})


def test_a_second_answer_is_refused() -> None:
    """LoadGen would assign a second answer to another sample."""
    recorder = Recorder(lambda _: None)
    position = recorder.issue(7)
    recorder.answer(position, Outcome(1))
    with pytest.raises(BenchmarkError, match="expected one answer"):
        recorder.answer(position, Outcome(1))


def test_a_missing_answer_is_an_error() -> None:
    """A run with missing answers has no percentiles."""
    recorder = Recorder(lambda _: None)
    recorder.issue(1)
    with pytest.raises(BenchmarkError, match="expected 1, one for each sample, got 0"):
        recorder.outcomes()


def test_answers_may_come_from_any_thread() -> None:
    """Each answer is assigned to its sample, and LoadGen receives all of them."""
    heard: list[int] = []
    recorder = Recorder(heard.append)
    positions = [recorder.issue(identifier) for identifier in range(100, 164)]
    threads = [threading.Thread(target=recorder.answer, args=(at, Outcome(at))) for at in reversed(positions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.label for one in recorder.outcomes()] == positions
    assert sorted(heard) == list(range(100, 164))
