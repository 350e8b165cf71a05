"""The document of a general task survives a round trip, and what is no such document is refused in one sentence."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from documents import some_document, some_task_document
from edgecascade.types.confidence_map import ConfidenceMap
from edgecascade.types.document import CascadeDocument, TaskDocument, read_any_document
from edgecascade.types.errors import ArgumentError, ModelFileError
from edgecascade.types.platt import Platt
from edgecascade.types.policy import Policy

MAPPED = ConfidenceMap((-3.0, 0.5, 20.0), (0.1, 0.5, 0.9))


@pytest.mark.parametrize("confidence", [Platt(0.5, -2.0), MAPPED])
def test_a_document_survives_a_round_trip(confidence: Platt | ConfidenceMap) -> None:
    """Everything that is written is read, with either map of the score."""
    made = some_task_document()
    made = some_task_document(calibration=type(made.calibration)(confidence, 9, made.remote, made.remote))
    assert TaskDocument.from_json(made.to_json(), "f") == made
    assert read_any_document(made.to_json(), "f") == made


def test_each_format_has_its_own_reader() -> None:
    """A reader of one kind of file refuses the other; `read_any_document` reads both."""
    classifier, task = some_document(), some_task_document()
    assert read_any_document(classifier.to_json(), "f") == classifier
    with pytest.raises(ModelFileError, match=r"^f: expected the cascade file of a classifier"):
        CascadeDocument.from_json(task.to_json(), "f")
    with pytest.raises(ModelFileError, match=r"^f: expected the cascade file of a general task"):
        TaskDocument.from_json(classifier.to_json(), "f")


CHANGES: list[Callable[[dict[str, Any]], Any]] = [
    lambda d: d.pop("task"),
    lambda d: d["task"].update(options=[1]),
    lambda d: d["task"].update(outputs="scores"),
    lambda d: d["policy"].update(merge="average"),
    lambda d: d["calibration"].update(method="temperature"),
    lambda d: d["calibration"].update(slope=float("inf")),
    lambda d: d["calibration"].pop("slope"),
    lambda d: d["remote"].pop("value"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_damaged_document_is_refused(change: Callable[[dict[str, Any]], Any]) -> None:
    """The error names the file."""
    hostile = some_task_document().to_dict()
    change(hostile)
    with pytest.raises(ModelFileError, match=r"^f: its `edgecascade` metadata is damaged"):
        TaskDocument.from_json(json.dumps(hostile), "f")


def test_a_policy_overrides_what_differs() -> None:
    """A device is fed the numbers of another map, and nothing where the map is the file's own."""
    own = some_task_document().device_policy()
    assert own.overrides(own) == {}
    fed = Policy("replace", None, confidence=Platt(4.0, -1.0)).overrides(own)
    assert {name: float(array) for name, array in fed.items()} == {
        "confidence_slope": 4.0,
        "confidence_intercept": -1.0,
    }


def test_the_numbers_of_a_map_give_its_values() -> None:
    """A sum of clipped shares is linear interpolation, on scores of any size."""
    fed = Policy("replace", None, confidence=MAPPED).overrides(some_task_document().device_policy())
    score = np.array([-1e30, -3, -1, 0.5, 7, 20, 1e30], np.float32)
    shares = np.clip((score[:, None] - fed["confidence_starts"]) * fed["confidence_rates"], 0, 1)
    np.testing.assert_allclose((shares * fed["confidence_rises"]).sum(axis=1), MAPPED(score), rtol=1e-6)


def test_a_slope_that_is_not_finite_is_refused() -> None:
    """The error names the argument."""
    with pytest.raises(ArgumentError, match=r"^confidence: expected a finite slope"):
        Policy("replace", None, confidence=Platt(float("nan"), 0.0))
