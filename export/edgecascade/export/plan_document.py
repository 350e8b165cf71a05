"""Describe a plan as the document of a cascade file."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from onnx import ModelProto

from edgecascade.calibration import CascadePlan
from edgecascade.types.document import (
    KEY,
    PREPROCESSING_KEY,
    CascadeDocument,
    SourceRecord,
    read_preprocessing,
)

__all__ = ["plan_document"]


def plan_document(
    model: ModelProto, source: SourceRecord, names: Sequence[str], plan: CascadePlan, probabilities: bool
) -> CascadeDocument:
    """Return the document of a plan.

    Args:
        model: the body.
        source: where the body, its logits and the calibration data came from.
        names: of the classes.
        plan: what was fitted and chosen.
        probabilities: whether the remote's scores are probabilities, and not logits.
    """
    properties = {entry.key: entry.value for entry in model.metadata_props}
    return CascadeDocument(
        written_by=f"{KEY} {version(KEY)}",
        labels=tuple(names),
        preprocessing=read_preprocessing(properties.get(PREPROCESSING_KEY), source.model),
        calibration=plan.local,
        remote=plan.remote,
        remote_scores="probabilities" if probabilities else "logits",
        policy=plan.record,
        operating_curve=plan.policy.curve,
        certificate=plan.certificate,
        source=source,
    )
