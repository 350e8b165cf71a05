"""Documents of cascade files, for tests that need a valid one."""

from dataclasses import replace
from typing import Any

from edgecascade.calibration import DecisionRule
from edgecascade.types.document import (
    Calibration,
    CascadeDocument,
    LabelNoise,
    PolicyRecord,
    ScoreCalibration,
    SourceRecord,
    TaskDocument,
    TaskRecord,
    TaskSource,
)
from edgecascade.types.estimate import Estimate, GroupAccuracy, GroupedAccuracy, OperatingPoint
from edgecascade.types.platt import Platt

__all__ = ["changed", "document_of", "some_document", "some_task_document"]


def some_document(**policy: Any) -> CascadeDocument:
    """Return a complete document of three classes, with changes to its policy."""
    one = Estimate(0.9, 0.85, 0.95, 600)
    small = Estimate(0.01, 0.0, 0.02, 600)
    figures = (one, one, one, small, small)
    noise = LabelNoise(small, small, 0.9, (0.8, 1.0), without=1.0)
    calibration = Calibration("temperature", 1.0, 600, *figures, temperature_interval=(0.9, 1.1), label_noise=noise)
    point = OperatingPoint(0.0, 0.3, 0.9, (0.25, 0.35), (0.85, 0.95), (0.8, 1.0), 600, small)
    record = PolicyRecord(
        score="confidence",
        merge="replace",
        estimate="labels",
        objective="most accuracy",
        threshold=0.0,
        chosen=point,
        advice=(),
        bins=2,
        edges=(0.6,),
        values=(-0.25, 0.25),
        counts=(10, 10),
        intervals=((-0.5, 0.0), (0.0, 0.5)),
        considered=(),
    )
    return CascadeDocument(
        written_by="edgecascade tests",
        labels=("red", "green", "blue"),
        preprocessing=None,
        calibration=calibration,
        remote=calibration,
        remote_scores="logits",
        policy=replace(record, **policy),
        operating_curve=(point,),
        certificate=None,
        source=SourceRecord("body.onnx", "0" * 64, "logits", "logits", "0" * 64),
        groups=GroupedAccuracy("class", (GroupAccuracy("red", 600, one, one, one, ((0.9, 0.85, 0.95),)),)),
    )


def some_task_document(**changes: Any) -> TaskDocument:
    """Return a complete document of a detection task, with changes."""
    planned, value = some_document(score="mean score"), Estimate(0.8, 0.75, 0.85, 600)
    document = TaskDocument(
        written_by="edgecascade tests",
        task=TaskRecord("detection", ("boxes", "scores"), "mean", "f1", {"scores": "scores", "floor": 0.5}),
        preprocessing=None,
        calibration=ScoreCalibration(Platt(2.0, -1.0), 600, value, Estimate(0.01, 0.0, 0.02, 600)),
        remote=Estimate(0.9, 0.85, 0.95, 600),
        remote_outputs=("boxes", "scores"),
        policy=planned.policy,
        operating_curve=planned.operating_curve,
        certificate=None,
        source=TaskSource("body.onnx", "0" * 64, "0" * 64),
    )
    return replace(document, **changes)


def document_of(rule: DecisionRule) -> CascadeDocument:
    """Return a complete document whose policy is a rule."""
    made = some_document(
        score=rule.score,
        threshold=rule.threshold,
        bins=len(rule.table.values),
        edges=tuple(rule.table.edges.tolist()),
        values=tuple(rule.table.values.tolist()),
        counts=tuple(rule.table.counts.tolist()),
        costs=rule.costs,
        learned=None if rule.learned is None else (rule.learned.confidence, *rule.learned.classes),
    )
    return replace(made, calibration=replace(made.calibration, temperature=rule.temperature))


def changed(document: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a document in JSON with changes, which are merged into inner objects."""
    return {
        **document,
        **{
            name: changed(document[name], value)
            if isinstance(value, dict) and isinstance(document.get(name), dict)
            else value
            for name, value in changes.items()
        },
    }
