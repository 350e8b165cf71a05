"""The document in the cascade file of a classifier: format 1."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgecascade.types.document.asked import AskedChat, asked_dict, read_asked
from edgecascade.types.document.calibration import (
    Calibration,
    calibration_dict,
    read_calibration,
    remote_dict,
    without_default_floor,
)
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
from edgecascade.types.document.fields import strings, without_none
from edgecascade.types.document.metadata import FORMAT, parsed
from edgecascade.types.document.preprocessing import Preprocessing, parse_preprocessing, preprocessing_dict
from edgecascade.types.errors import ArgumentError
from edgecascade.types.estimate import GroupedAccuracy, OperatingPoint
from edgecascade.types.policy import Policy, RemoteCalibration
from edgecascade.types.softmax import SMALLEST

__all__ = ["CascadeDocument", "SourceRecord"]


@dataclass(frozen=True)
class SourceRecord:
    """Where the body, its logits and the calibration data came from.

    Attributes:
        model: name of the body's file.
        model_sha256: its SHA-256, in hexadecimal.
        logits: the tensor in the body that holds the logits, or what they are computed from.
        kind: contents of that tensor: `logits`, `probabilities`, `binary-logits` or `binary-probabilities`.
        data_sha256: SHA-256 of the calibration data, in hexadecimal.
        floor: the number that smaller probabilities in that tensor are raised to before the logarithm.
    """

    model: str
    model_sha256: str
    logits: str
    kind: str
    data_sha256: str
    floor: float = SMALLEST


@dataclass(frozen=True)
class CascadeDocument:
    """The document in a cascade file: its labels, calibration, policy and evidence.

    Attributes:
        written_by: program and version.
        labels: class names, in the order of the columns of `probabilities`.
        preprocessing: what happens to an input before the body, or None.
        calibration: calibration of the local model.
        remote: calibration of the remote.
        remote_scores: what the remote's scores are, `logits` or `probabilities`.
        policy: the policy and the evidence for it.
        operating_curve: every operating point that the threshold can reach, by rising offload rate.
        certificate: the guarantee, or None if none was requested.
        source: where the body and the data came from.
        groups: accuracies by class or group, or None if there are none.
        effective_n: number of equally weighted inputs that the weighted calibration inputs are worth; None where all
            counted alike.
        remote_floor: the number that smaller probabilities of the remote are raised to before the logarithm.
        remote_columns: the column of the remote's scores for each class; None if they are in the order of the labels.
        remote_chat: how the remote was asked, if it is a generative model; otherwise None.
    """

    written_by: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing | None
    calibration: Calibration
    remote: Calibration
    remote_scores: str
    policy: PolicyRecord
    operating_curve: tuple[OperatingPoint, ...]
    certificate: Certificate | None
    source: SourceRecord
    groups: GroupedAccuracy | None = None
    effective_n: float | None = None
    remote_floor: float = SMALLEST
    remote_columns: tuple[int, ...] | None = None
    remote_chat: AskedChat | None = None

    @property
    def calibrate_remote(self) -> RemoteCalibration:
        """How to read the remote's scores."""
        remote = self.remote
        return RemoteCalibration(
            remote.temperature,
            self.remote_scores == "probabilities",
            remote.confidence_map,
            self.remote_floor,
            self.remote_columns,
        )

    def device_policy(self) -> Policy:
        """Return the policy that the device decides by."""
        planned = self.policy
        return Policy(
            merge=planned.merge,
            calibrate_remote=self.calibrate_remote,
            threshold=planned.threshold,
            temperature=self.calibration.temperature,
            edges=planned.edges,
            values=planned.values,
            costs=planned.costs,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the document as it is in JSON, in the order of its fields."""
        remote = remote_dict(self.remote, self.remote_scores, self.remote_floor, self.remote_columns)
        chat = {} if self.remote_chat is None else {"chat": asked_dict(self.remote_chat)}
        return {
            "format": FORMAT,
            "written_by": self.written_by,
            "labels": list(self.labels),
            "preprocessing": None if self.preprocessing is None else preprocessing_dict(self.preprocessing),
            "calibration": calibration_dict(self.calibration),
            "remote": {**remote, **chat},
            "policy": policy_dict(self.policy),
            "operating_curve": [point_dict(point) for point in self.operating_curve],
            "certificate": None if self.certificate is None else certificate_dict(self.certificate),
            "source": without_default_floor(asdict(self.source)),
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
    def from_json(cls, text: str, where: str) -> CascadeDocument:
        """Read a document.

        Args:
            text: JSON.
            where: the file's name, for error messages.

        Raises:
            ModelFileError: the text is too long, damaged, of a general task, or of a format that this version does not
                know.
        """
        return parsed(text, where, {FORMAT: cls.from_dict})

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> CascadeDocument:
        """Read a document from its JSON object; anything unexpected raises what reading it raises."""
        document = _document(found)
        document.device_policy()
        return document

    def _repr_html_(self) -> str:
        from edgecascade.types.document.summary import document_rows
        from edgecascade.types.notebook import as_html, curve_picture

        drawn = curve_picture(self.operating_curve, self.policy.threshold)
        return as_html(document_rows(self), drawn)


def _document(found: Mapping[str, Any]) -> CascadeDocument:
    labels, policy, scores = strings(found["labels"]), read_policy(found["policy"]), found["remote"]["scores"]
    if scores not in ("logits", "probabilities"):
        raise ArgumentError(f"remote scores: expected logits or probabilities, got {scores!r}")
    columns = found["remote"].get("columns")
    if columns is not None:
        columns = tuple(int(column) for column in columns)
        if sorted(columns) != list(range(len(labels))):
            raise ArgumentError(f"remote columns: expected each of 0 to {len(labels) - 1} once, got {columns}")
    if policy.costs is not None and policy.costs.classes != len(labels):
        raise ArgumentError(f"costs: expected those of {len(labels)} classes, got {policy.costs.classes}")
    curve, groups = read_curve(found)
    return CascadeDocument(
        written_by=str(found["written_by"]),
        labels=labels,
        preprocessing=parse_preprocessing(found["preprocessing"]),
        calibration=read_calibration(found["calibration"]),
        remote=read_calibration(found["remote"]),
        remote_scores=scores,
        policy=policy,
        operating_curve=curve,
        certificate=None if found["certificate"] is None else read_certificate(found["certificate"]),
        source=_source(found["source"]),
        groups=groups,
        effective_n=None if found.get("effective_n") is None else float(found["effective_n"]),
        remote_floor=float(found["remote"].get("floor", SMALLEST)),
        remote_columns=columns,
        remote_chat=None if found["remote"].get("chat") is None else read_asked(found["remote"]["chat"]),
    )


def _source(found: Mapping[str, Any]) -> SourceRecord:
    return SourceRecord(
        model=str(found["model"]),
        model_sha256=str(found["model_sha256"]),
        logits=str(found["logits"]),
        kind=str(found["kind"]),
        data_sha256=str(found["data_sha256"]),
        floor=float(found.get("floor", SMALLEST)),
    )
