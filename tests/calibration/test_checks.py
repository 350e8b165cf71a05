"""Calibration data that nothing can be learned from is refused; data that looks wrong is named in the plan's advice."""

import re
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.calibration import CalibrationError, MostAccuracy, _checks, plan_cascade
from edgecascade.calibration._checks import warnings_about

Logits = NDArray[np.float64]
Labels = NDArray[np.int64]
Change = Callable[[Logits, Logits, Labels], tuple[Logits, Logits, Labels]]
N = 600


@pytest.fixture(scope="module")
def sound() -> tuple[Logits, Logits, Labels]:
    """Return logits of a local model and of a better remote, with labels of five classes."""
    rng = np.random.default_rng(0)
    remote = rng.normal(0.0, 3.0, (N, 5))
    labels = (remote + rng.gumbel(size=remote.shape)).argmax(axis=1)
    return remote + rng.normal(0.0, 2.0, remote.shape), remote, labels


def without(column: int) -> Change:
    """Return a change after which the local model never answers a class."""

    def change(local: Logits, remote: Logits, labels: Labels) -> tuple[Logits, Logits, Labels]:
        local = local.copy()
        local[:, column] -= 100.0
        return local, remote, labels

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        pytest.param(lambda a, b, y: (a[:60], b[:60], y[:60]), "there are only 60 labelled inputs", id="few rows"),
        pytest.param(
            lambda a, b, y: tuple(np.concatenate([t, t[:100]]) for t in (a, b, y)),
            "100 of 700 inputs have exactly the outputs of another",
            id="repeated rows",
        ),
        pytest.param(lambda a, b, _: (a, b, b.argmax(axis=1)), "the remote is right on all 600", id="remote labels"),
        pytest.param(
            lambda a, b, _: (a, b, a.argmax(axis=1)), "the local model is right on all 600 inputs", id="local labels"
        ),
        pytest.param(lambda a, _, y: (a, 2 * a + 1, y), "both models give the same outputs", id="one model twice"),
        pytest.param(
            lambda a, _, y: (a, a + 1e-2 * a**3, y), "both models give the same answer to all 600", id="same answers"
        ),
        pytest.param(
            lambda a, b, y: (np.roll(a, 1, axis=1), b, y),
            "the local model is right on .* check that its classes are in the order of the labels",
            id="class order",
        ),
        pytest.param(without(2), r"the local model never answers class 2, the label of \d+ inputs$", id="never"),
    ],
)
def test_data_that_looks_wrong_is_named(sound: tuple[Logits, Logits, Labels], change: Change, sentence: str) -> None:
    """There is one sentence for each thing that is wrong, and none about sound data."""
    assert warnings_about({"local model": sound[0], "remote": sound[1]}, sound[2]) == ()
    local, remote, labels = change(*sound)
    found = warnings_about({"local model": local, "remote": remote}, labels)
    assert len([one for one in found if re.match(sentence, one)]) == 1, found


def test_more_classes_than_inputs_are_named() -> None:
    """Most classes have no input then."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0.0, 3.0, (150, 200))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    assert warnings_about({"model": logits}, labels) == (
        "there are 150 labelled inputs for 200 classes: most classes are not judged by any input",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda a, b, y: (a[:9], b[:9], y[:9]), "^labels: expected at least 10 .* got 9$", id="too few"),
        pytest.param(lambda a, b, _: (a, b, np.full(N, 3)), "^labels: .*got 600 of class 3 only", id="one class"),
        pytest.param(
            lambda a, b, y: (a[:1] + 0 * a, b, y), "^logits: the local model gives the same output", id="constant local"
        ),
        pytest.param(
            lambda a, b, y: (a, b[:1] + 0 * b, y), "^logits: the remote gives the same output", id="constant remote"
        ),
    ],
)
def test_data_that_nothing_can_be_learned_from_is_refused(
    sound: tuple[Logits, Logits, Labels], change: Change, message: str
) -> None:
    """The error says what is wrong."""
    with pytest.raises(CalibrationError, match=message):
        plan_cascade(*change(*sound), MostAccuracy(0.3))


def test_warnings_are_printed_and_kept(sound: tuple[Logits, Logits, Labels]) -> None:
    """They stand before the policy in the summary, and begin the advice in the document."""
    local, remote, _ = sound
    plan = plan_cascade(local, remote, remote.argmax(axis=1), MostAccuracy(0.3))
    assert plan.warnings[0].startswith("the remote is right on all 600 inputs")
    assert plan.record.advice == (*plan.warnings, *plan.policy.advice)
    assert f"warning     {plan.warnings[0]}" in str(plan)


@pytest.mark.parametrize("decimals", [1, 2])
def test_coarse_outputs_are_not_taken_for_repeated_inputs(decimals: int) -> None:
    """Different inputs often have the same rounded outputs."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0.0, 2.0, (1000, 3)).round(decimals)
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    assert warnings_about({"model": logits}, labels) == ()


def test_good_models_are_planned_whatever_they_get_right() -> None:
    """No plan is refused because a model is right on all inputs, or on nearly all."""
    rng = np.random.default_rng(0)
    for n, margin in ((200, 9.0), (500, 10.0), (1000, 12.0)):
        truth = rng.normal(0.0, 1.0, (n, 10))
        truth[np.arange(n), rng.integers(0, 10, n)] += margin
        labels = (truth + rng.gumbel(size=truth.shape)).argmax(axis=1)
        perfect: Any = np.eye(10)[labels] * 5 + rng.normal(0.0, 0.5, truth.shape)
        found = plan_cascade(1.5 * truth, perfect, labels, MostAccuracy(0.2))
        assert found.remote.accuracy.value == 1.0
        assert found.remote.bound is not None


def test_models_are_compared_on_all_rows_in_blocks(
    sound: tuple[Logits, Logits, Labels], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row that differs, in any block, makes them different; copies of all rows are never in memory."""
    local, _, labels = sound
    monkeypatch.setattr(_checks, "_BLOCK", 35)
    for row in (None, 0, N - 1):
        other = 2 * local + 1
        if row is not None:
            other[row, 0] -= 5.0
        found = any("the same outputs" in one for one in warnings_about({"a": local, "b": other}, labels))
        assert found == (row is None)
    wide = np.random.default_rng(0).normal(size=(40_000, 50)).astype(np.float32)
    monkeypatch.undo()
    tracemalloc.start()
    assert list(_checks._the_same(wide, 2 * wide))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * wide.nbytes
