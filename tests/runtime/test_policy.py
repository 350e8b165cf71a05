"""Threshold, temperature, table and merge rule change while a cascade runs."""

import math
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.cli import main
from edgecascade.runtime import ArgumentError, Cascade, Policy, Reason, Source
from edgecascade.types.policy import RemoteCalibration

UNSURE = np.array([0, 0.5, 0], np.float32)
PLAIN = Policy("replace", RemoteCalibration(1.0, False))


def says_blue(inputs: NDArray[Any]) -> NDArray[Any]:
    """Return blue for every input."""
    return np.tile(np.array([0, 0, 4], np.float32), (len(inputs), 1))


def test_every_part_can_be_replaced_and_restored(file: Path) -> None:
    """A change applies to the next input, and the previous policy is returned."""
    with Cascade.load(file, remote=says_blue) as cascade:
        original = cascade.policy
        assert cascade.predict(UNSURE).reason is Reason.OFFLOADED
        for change in (
            {"threshold": -1.0},
            {"temperature": 0.01},  # a confidence of 1, in the upper bin
            {"edges": (0.1,), "values": (-0.5, 0.5)},
        ):
            assert cascade.swap(replace(original, **change)) == original
            assert cascade.predict(UNSURE).reason is Reason.CONFIDENT, change
            cascade.swap(original)
            assert cascade.predict(UNSURE).reason is Reason.OFFLOADED
        cascade.swap(replace(original, merge="average", calibrate_remote=RemoteCalibration(4.0, False)))
        answer = cascade.predict(UNSURE)
        assert answer.source is Source.MERGED
        assert answer.remote is not None
        assert answer.remote.confidence == pytest.approx(np.e / (np.e + 2), rel=1e-5)


def test_a_table_of_another_length_is_accepted(file: Path) -> None:
    """A new calibration may have other bins."""
    with Cascade.load(file) as cascade:
        cascade.swap(replace(cascade.policy, edges=(0.3, 0.4, 0.5), values=(-0.9, 0.1, -0.2, -0.3)))
        answer = cascade.predict(UNSURE)
        assert answer.confidence == pytest.approx(0.4518, abs=1e-4)
        assert answer.advantage == pytest.approx(-0.2)
        assert cascade.predict_batch(UNSURE[None])[0].advantage == answer.advantage


def test_no_answer_mixes_two_policies(file: Path) -> None:
    """A change is one assignment, so temperature and threshold always come from the same policy."""
    warm = replace(PLAIN, threshold=-1.0, temperature=1.0, edges=(0.6,), values=(-0.25, 0.25))
    cold = replace(warm, threshold=1.0, temperature=0.01)
    wrong = []
    with Cascade.load(file) as cascade:
        cascade.swap(warm)
        stop = threading.Event()

        def watch() -> None:
            while not stop.is_set():
                answer = cascade.predict(UNSURE)
                if (answer.confidence > 0.9) != answer.forwarded:
                    wrong.append(answer)

        threads = [threading.Thread(target=watch) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(300):
            cascade.swap(cold)
            cascade.swap(warm)
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"merge": "vote"}, r"^merge: expected one of replace, confident, average, got 'vote'"),
        ({"threshold": math.nan}, r"^threshold: expected a number, got NaN"),
        ({"temperature": 0.0}, r"^temperature: expected a number above 0, got 0.0"),
        ({"temperature": math.inf}, r"^temperature: expected a number above 0, got inf"),
        ({"edges": (0.5,)}, r"^edges, values: expected both or neither"),
        ({"edges": (0.5,), "values": (1.0,)}, r"^values: expected one finite advantage more .*, got 1 and 1"),
        ({"edges": (0.5,), "values": (1.0, math.nan)}, r"^values: expected one finite advantage"),
        ({"edges": (0.5, 0.4), "values": (1.0, 1.0, 1.0)}, r"^edges: expected ascending scores"),
    ],
)
def test_an_invalid_policy_is_refused(change: dict[str, Any], message: str) -> None:
    """The error is raised before anything changes."""
    with pytest.raises(ArgumentError, match=message):
        replace(PLAIN, **change)


def test_a_litert_file_accepts_only_another_threshold() -> None:
    """The rest is in its graph, and the error says so."""
    with Cascade.load(Path(__file__).parent / "data" / "colours.tflite") as cascade:
        cascade.swap(replace(cascade.policy, threshold=2.0))
        with pytest.raises(ArgumentError, match=r"^policy: this file cannot change its temperature"):
            cascade.swap(replace(cascade.policy, temperature=3.0))
        assert cascade.policy.threshold == 2.0


def test_the_policy_of_a_file_equals_that_of_its_graph(pair: Path) -> None:
    """It is also stored in the document."""
    with Cascade.load(pair / "local.onnx") as cascade:
        policy, images = cascade.policy, np.load(pair / "test.npz")["x"][:50]
        before = cascade.predict_batch(images)
        assert policy.edges is not None
        assert policy.values is not None
        assert {a.advantage for a in before} <= {float(np.float32(v)) for v in policy.values}
        assert [a.forwarded for a in before] == [not a.advantage >= np.float32(policy.threshold) for a in before]
        cascade.swap(replace(policy, edges=(*policy.edges, policy.edges[-1] + 1e6), values=(*policy.values, 9.0)))
        assert [a.advantage for a in cascade.predict_batch(images)] == [a.advantage for a in before]


def test_a_new_policy_can_be_applied_and_reverted(pair: Path, tmp_path: Path) -> None:
    """After a new plan around the same body, decisions equal those of the new file."""
    renewed = tmp_path / "renewed.onnx"
    assert main(["recalibrate", str(pair / "local.onnx"), "--offload-rate", "0.6", "-o", str(renewed)]) == 0
    images = np.load(pair / "test.npz")["x"][:100]
    with Cascade.load(pair / "local.onnx") as cascade, Cascade.load(renewed) as new:
        before = [answer.forwarded for answer in cascade.predict_batch(images)]
        original = cascade.swap(new.policy)
        after = [cascade.predict(image).forwarded for image in images]
        assert after == [answer.forwarded for answer in new.predict_batch(images)]
        assert sum(after) > sum(before)
        cascade.swap(original)
        assert [answer.forwarded for answer in cascade.predict_batch(images)] == before


@pytest.mark.parametrize("temperature", [1 / 3, 1.7, 1e-50])
def test_a_remotes_scores_are_calibrated_in_float64(temperature: float) -> None:
    """To the nearest float32, so that a file decides alike in every version."""
    scores = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32) * 9
    logits = scores.astype(np.float64) / temperature
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)
    assert np.array_equal(RemoteCalibration(temperature, False)(scores), expected)


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("columns", [None, (2, 0, 1)])
def test_recorded_probabilities_are_turned_back_into_scores(
    probabilities: bool, columns: tuple[int, ...] | None
) -> None:
    """Scores of the remote's kind and order, which are read as the same probabilities."""
    reading = RemoteCalibration(1.7, probabilities, columns=columns)
    raw = (
        np.random.default_rng(0).dirichlet(np.ones(3), 50)
        if probabilities
        else np.random.default_rng(0).normal(size=(50, 3))
    )
    calibrated = reading(raw)
    back = reading.inverse(calibrated)
    np.testing.assert_allclose(reading(back), calibrated, atol=1e-6)
    if probabilities:
        np.testing.assert_allclose(back, raw, atol=1e-5)
    else:
        np.testing.assert_allclose(back - back[:, :1], raw - raw[:, :1], atol=1e-4)
