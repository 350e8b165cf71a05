"""A cascade takes a new file only if that decides as it was calibrated to, and answers every input meanwhile."""

import gc
import pickle
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade_files import write_file
from edgecascade.runtime import ArgumentError, Cascade, ModelFileError, Outbox, Reason, Watch, prometheus_text
from edgecascade.runtime.local_model import LocalModel

SURE, UNSURE = np.array([5, 0, 0], np.float32), np.array([0.2, 0, 0], np.float32)
OLD, NEW = 1.0, 2.0  # temperatures


def confidence(temperature: float) -> float:
    """Return the confidence in the label of the sure input."""
    return float(1 / (1 + 2 * np.exp(-5 / temperature)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the file that is in use."""
    return write_file(tmp_path / "local.onnx", OLD)


def test_a_new_file_takes_the_place_of_the_old_one(path: Path) -> None:
    """Its temperature and document are in force, with the threshold that `load` was given; it is counted."""
    with Cascade.load(path, threshold=-0.3) as cascade:
        assert cascade.predict(SURE).confidence == pytest.approx(confidence(OLD), abs=1e-5)
        assert cascade.predict(UNSURE).reason is Reason.CONFIDENT
        write_file(path, NEW)
        cascade.reload()
        assert cascade.predict(SURE).confidence == pytest.approx(confidence(NEW), abs=1e-5)
        assert cascade.predict(UNSURE).reason is Reason.CONFIDENT
        assert cascade.document.calibration.temperature == NEW
        assert cascade.metrics()["reloads"] == {"taken": 1, "refused": 0}
        assert 'edgecascade_reloads_total{outcome="taken"} 1\n' in prometheus_text(cascade.metrics())


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def _of_another_task(path: Path) -> None:
    path.write_bytes(b"\x08\x0a")  # an ONNX model without anything


REFUSED: dict[str, Callable[[Path], object]] = {
    "no file": Path.unlink,
    "half a file": _truncated,
    "no cascade": _of_another_task,
    "text": lambda path: path.write_text("<html>Please log in</html>"),
    "golden inputs that disagree": lambda path: write_file(path, NEW, expects=OLD),
    "no golden inputs": lambda path: write_file(path, NEW, golden=False),
    "other classes": lambda path: write_file(path, NEW, labels=("red", "green", "violet")),
    "classes in another order": lambda path: write_file(path, NEW, labels=("green", "red", "blue")),
    "another input": lambda path: write_file(path, NEW, name="pixels"),
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_a_file_that_is_not_as_calibrated_is_refused(path: Path, change: Callable[[Path], object]) -> None:
    """The old one goes on to decide; the refusal is counted; and a right file is taken afterwards."""
    with Cascade.load(path) as cascade:
        before = cascade.predict(SURE)
        change(path)
        with pytest.raises(ModelFileError, match=str(path)):
            cascade.reload()
        assert cascade.predict(SURE).confidence == before.confidence
        assert cascade.labels == ("red", "green", "blue")
        assert cascade.metrics()["reloads"] == {"taken": 0, "refused": 1}
        write_file(path, NEW)
        cascade.reload()
        assert cascade.predict(SURE).confidence == pytest.approx(confidence(NEW), abs=1e-5)


def test_another_path_can_be_taken(path: Path, tmp_path: Path) -> None:
    """Later reloads look there."""
    with Cascade.load(path) as cascade:
        other = write_file(tmp_path / "other.onnx", NEW)
        cascade.reload(other)
        assert "other.onnx" in repr(cascade)
        write_file(other, 3.0)
        cascade.reload()
        assert cascade.predict(SURE).confidence == pytest.approx(confidence(3.0), abs=1e-5)


def test_a_reply_under_way_is_the_answer(path: Path) -> None:
    """Inputs that were forwarded under the old file are answered by the remote after the new one was taken."""
    asked, released = threading.Event(), threading.Event()

    def remote(x: Any) -> Any:
        asked.set()
        released.wait(30)
        return np.array([[0, 0, 9]] * len(x), np.float32)

    with Cascade.load(path, remote=remote, deadline=30) as cascade, ThreadPoolExecutor() as threads:
        answer = threads.submit(cascade.predict, UNSURE)
        assert asked.wait(30)
        write_file(path, NEW)
        cascade.reload()
        released.set()
        assert (answer.result().reason, answer.result().name) == (Reason.OFFLOADED, "blue")


def test_every_input_is_answered_while_files_are_exchanged(path: Path) -> None:
    """Threads that predict see one file or the other, and nothing else; every answer is counted once."""
    ended, expected = threading.Event(), {round(confidence(one), 4) for one in (OLD, NEW)}

    def predict(cascade: Cascade) -> list[float]:
        seen = []
        while not ended.is_set():
            seen.append(cascade.predict(SURE).confidence)
            seen += [one.confidence for one in cascade.predict_batch(np.stack([SURE] * 3))]
        return seen

    with Cascade.load(path) as cascade, ThreadPoolExecutor() as threads:
        predicting = [threads.submit(predict, cascade) for _ in range(3)]
        try:
            for temperature in (NEW, OLD) * 5:
                write_file(path, temperature)
                cascade.reload()
                time.sleep(0.02)
        finally:
            ended.set()
        seen = [one for future in predicting for one in future.result()]
        assert {round(one, 4) for one in seen} == expected
        assert cascade.counts().inputs == len(seen)


def test_reloads_at_the_same_time_follow_one_another(path: Path) -> None:
    """Each is taken, and the last file is in force."""
    with Cascade.load(path) as cascade, ThreadPoolExecutor() as threads:
        write_file(path, NEW)
        list(threads.map(lambda _: cascade.reload(), range(4)))
        assert cascade.metrics()["reloads"]["taken"] == 4
        assert cascade.predict(SURE).confidence == pytest.approx(confidence(NEW), abs=1e-5)


def test_health_is_about_the_file_in_use(path: Path) -> None:
    """Misses and a policy of one's own under the old file do not count against the new one; the counts go on."""
    with Cascade.load(path) as cascade:
        cascade.swap(replace(cascade.policy, threshold=0.1))
        cascade.predict(UNSURE)
        assert cascade.health().overridden
        cascade.reload()
        health = cascade.health()
        assert (health.overridden, health.inputs, dict(health.missed)) == (False, 0, {})
        cascade.predict(UNSURE)
        assert dict(cascade.health().missed) == {Reason.OFFLINE: 1}
        assert cascade.counts().inputs == 2


def test_the_watch_starts_anew(path: Path) -> None:
    """Its estimates are about the file in use, and its counts go on."""
    with Cascade.load(path, remote=lambda x: x, watch=Watch(share=1.0), deadline=30) as cascade:
        for _ in range(3):
            cascade.predict(SURE)
        write_file(path, NEW)
        cascade.reload()
        cascade.predict(SURE)
        assert cascade.metrics()["watch"]["inputs"] == 4


def test_late_answers_come_after_a_new_file(path: Path, tmp_path: Path) -> None:
    """What the outbox stored under the old file is sent and delivered under the new one."""
    write_file(path, OLD)
    with Cascade.load(path, outbox=Outbox(tmp_path / "outbox.db")) as cascade:
        key = cascade.predict(UNSURE, key="frame 1").queued
    late: list[Any] = []
    with Cascade.load(
        path,
        remote=lambda x: x + np.array([0, 0, 9], np.float32),
        outbox=Outbox(tmp_path / "outbox.db"),
        on_late=late.append,
    ) as cascade:
        write_file(path, NEW)
        cascade.reload()
        until = time.monotonic() + 30
        while not late and time.monotonic() < until:
            time.sleep(0.01)
    assert [(one.key, one.answer.name) for one in late] == [(key, "blue")]


def test_the_old_model_leaves_memory(path: Path) -> None:
    """Also while a server or a reader of lines keeps the description of its inputs."""
    with Cascade.load(path) as cascade:
        inputs: Any = cascade.inputs
        before: Any = cascade._local._session
        session = weakref.ref(before._sess)
        del before
        cascade.predict(SURE)
        cascade.reload()
        gc.collect()
        assert session() is None
        assert [one.name for one in inputs.declared] == ["z"]


def test_a_file_that_was_written_meanwhile_is_not_pickled(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes would open one that was never checked."""
    with Cascade.load(path) as cascade:
        other = ("red", "green", "violet and more")
        monkeypatch.setattr(LocalModel, "_replay", lambda _: write_file(path, NEW, labels=other))
        cascade.reload()
        with pytest.raises(ModelFileError, match="written since"):
            pickle.dumps(cascade)


def test_only_what_load_made_can_be_loaded_anew(path: Path) -> None:
    """Another cascade does not know the arguments."""
    with Cascade.load(path) as cascade:
        cascade.recipe = None
        with pytest.raises(ArgumentError, match=r"^cascade: "):
            cascade.reload()
