"""The document in the cascade file of a general task, that is any task but classification: format 2."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edgecascade.types.document.calibration import ScoreCalibration, read_score_calibration, score_calibration_dict
from edgecascade.types.document.classifier import CascadeDocument
from edgecascade.types.document.evidence import (
    Certificate,
    PolicyRecord,
    certificate_dict,
    point_dict,
    policy_dict,
    read_certificate,
    read_curve,
    read_policy,
)
from edgecascade.types.document.fields import read_estimate, strings, without_none
from edgecascade.types.document.metadata import FORMAT, TASK_FORMAT, parsed
from edgecascade.types.document.preprocessing import Preprocessing, parse_preprocessing, preprocessing_dict
from edgecascade.types.errors import ArgumentError
from edgecascade.types.estimate import Estimate, GroupedAccuracy, OperatingPoint
from edgecascade.types.policy import Policy

__all__ = ["TaskDocument", "TaskRecord", "TaskSource", "read_any_document"]

Option = str | int | float | bool


@dataclass(frozen=True)
class TaskRecord:
    """What the models of a general task give, and how their answers are judged.

    Attributes:
        name: of the task, such as `ocr`.
        outputs: names of the body's outputs in this file, in order.
        confidence: name of the confidence function in the graph.
        verifier: name of the verifier.
        options: of the confidence function, by name.
        unbatched: those of `outputs` that have no batch axis, such as the boxes in an image.
    """

    name: str
    outputs: tuple[str, ...]
    confidence: str
    verifier: str
    options: Mapping[str, Option] = field(default_factory=dict)
    unbatched: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskSource:
    """Where the body and the calibration data came from.

    Attributes:
        model: name of the body's file.
        model_sha256: its SHA-256, in hexadecimal.
        data_sha256: SHA-256 of the calibration data, in hexadecimal.
    """

    model: str
    model_sha256: str
    data_sha256: str


@dataclass(frozen=True)
class TaskDocument:
    """The document in the cascade file of a general task. Its accuracies are mean values of answers, in [0, 1].

    Attributes:
        written_by: program and version.
        task: the body's outputs, confidence function and verifier.
        preprocessing: what happens to an input before the body, or None.
        calibration: from the score to the confidence, and what was measured of the local model.
        remote: mean value of the remote's answers.
        remote_outputs: names of the arrays that the remote answers with, in order.
        policy: the policy and the evidence for it; its merge rule is `replace`.
        operating_curve: every operating point that the threshold can reach, by rising offload rate.
        certificate: the guarantee, or None if none was requested.
        source: where the body and the data came from.
        groups: mean values by group, or None if there are none.
        effective_n: number of equally weighted inputs that the weighted calibration inputs are worth; None where all
            counted alike.
    """

    written_by: str
    task: TaskRecord
    preprocessing: Preprocessing | None
    calibration: ScoreCalibration
    remote: Estimate
    remote_outputs: tuple[str, ...]
    policy: PolicyRecord
    operating_curve: tuple[OperatingPoint, ...]
    certificate: Certificate | None
    source: TaskSource
    groups: GroupedAccuracy | None = None
    effective_n: float | None = None

    def device_policy(self) -> Policy:
        """Return the policy that the device decides by."""
        planned = self.policy
        return Policy(
            merge=planned.merge,
            calibrate_remote=None,
            threshold=planned.threshold,
            edges=planned.edges,
            values=planned.values,
            confidence=self.calibration.confidence,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the document as it is in JSON, in the order of its fields."""
        return {
            "format": TASK_FORMAT,
            "written_by": self.written_by,
            "task": _task_dict(self.task),
            "preprocessing": None if self.preprocessing is None else preprocessing_dict(self.preprocessing),
            "calibration": score_calibration_dict(self.calibration),
            "remote": {"value": asdict(self.remote), "outputs": list(self.remote_outputs)},
            "policy": policy_dict(self.policy),
            "operating_curve": [point_dict(point) for point in self.operating_curve],
            "certificate": None if self.certificate is None else certificate_dict(self.certificate),
            "source": asdict(self.source),
            **without_none(
                {
                    "groups": None if self.groups is None else asdict(self.groups),
                    "effective_n": self.effective_n,
                }
            ),
        }

    def to_json(self, indent: int | None = None) -> str:
        """Return the document as JSON text.

        Raises:
            ValueError: a number is not finite.
        """
        return json.dumps(self.to_dict(), allow_nan=False, indent=indent)

    @classmethod
    def from_json(cls, text: str, where: str) -> TaskDocument:
        """Read a document.

        Args:
            text: JSON.
            where: the file's name, for error messages.

        Raises:
            ModelFileError: the text is too long, damaged, of a classifier, or of a format that this version does not
                know.
        """
        return parsed(text, where, {TASK_FORMAT: _document})

    def _repr_html_(self) -> str:
        from edgecascade.types.document.summary import document_rows
        from edgecascade.types.notebook import as_html, curve_picture

        drawn = curve_picture(self.operating_curve, self.policy.threshold, "mean value")
        return as_html(document_rows(self), drawn)


def read_any_document(text: str, where: str) -> CascadeDocument | TaskDocument:
    """Read the document of any cascade file.

    Args:
        text: JSON.
        where: the file's name, for error messages.

    Raises:
        ModelFileError: the text is too long, damaged, or of a format that this version does not know.
    """
    readers: dict[int, Callable[[Mapping[str, Any]], CascadeDocument | TaskDocument]]
    readers = {FORMAT: CascadeDocument.from_dict, TASK_FORMAT: _document}
    return parsed(text, where, readers)


def _document(found: Mapping[str, Any]) -> TaskDocument:
    policy = read_policy(found["policy"])
    if policy.merge != "replace":
        raise ArgumentError(f"merge: expected replace, the only rule for a general task, got {policy.merge!r}")
    curve, groups = read_curve(found)
    document = TaskDocument(
        written_by=str(found["written_by"]),
        task=_task(found["task"]),
        preprocessing=parse_preprocessing(found["preprocessing"]),
        calibration=read_score_calibration(found["calibration"]),
        remote=read_estimate(found["remote"]["value"]),
        remote_outputs=strings(found["remote"]["outputs"]),
        policy=policy,
        operating_curve=curve,
        certificate=None if found["certificate"] is None else read_certificate(found["certificate"]),
        source=TaskSource(*(str(found["source"][name]) for name in ("model", "model_sha256", "data_sha256"))),
        groups=groups,
        effective_n=None if found.get("effective_n") is None else float(found["effective_n"]),
    )
    document.device_policy()
    return document


def _task_dict(task: TaskRecord) -> dict[str, Any]:
    found = {**asdict(task), "outputs": list(task.outputs), "options": dict(task.options)}
    unbatched = found.pop("unbatched")
    return {**found, "unbatched": list(unbatched)} if unbatched else found


def _task(found: Mapping[str, Any]) -> TaskRecord:
    options = found["options"]
    if not isinstance(options, Mapping) or not all(isinstance(one, (str, int, float)) for one in options.values()):
        raise ArgumentError(f"options: expected texts, numbers and booleans by name, got {options!r}")
    return TaskRecord(
        name=str(found["name"]),
        outputs=strings(found["outputs"]),
        confidence=str(found["confidence"]),
        verifier=str(found["verifier"]),
        options=dict(options),
        unbatched=strings(found.get("unbatched", ())),
    )
