"""A plan as the file tells of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
from onnx import ModelProto

from edgecascade.calibration import CascadePlan, Policy
from edgecascade.runtime.metadata import FORMAT, KEY
from edgecascade.runtime.properties import PREPROCESSING_KEY

__all__ = ["plan_document"]


def plan_document(
    model: ModelProto,
    source: Mapping[str, str],
    names: Sequence[str],
    plan: CascadePlan,
    probabilities: bool,
) -> dict[str, Any]:
    """The metadata of format 1, as docs/file-format.md describes it.

    Args:
        model: the body.
        source: where the body, its logits and the calibration data came from.
        names: of the classes.
        plan: what was fitted and chosen.
        probabilities: whether the remote gives these, and not logits.
    """
    properties = {entry.key: entry.value for entry in model.metadata_props}
    preprocessing = properties.get(PREPROCESSING_KEY)
    return {
        "format": FORMAT,
        "written_by": f"{KEY} {version(KEY)}",
        "labels": list(names),
        "preprocessing": json.loads(preprocessing) if preprocessing else None,
        "calibration": asdict(plan.local),
        "remote": {**asdict(plan.remote), "scores": "probabilities" if probabilities else "logits"},
        "policy": _policy(plan),
        "operating_curve": [asdict(point) for point in plan.policy.curve],
        "certificate": asdict(plan.certificate) if plan.certificate else None,
        "source": dict(source),
    }


def _policy(plan: CascadePlan) -> dict[str, Any]:
    policy: Policy = plan.policy
    return {
        "score": plan.score,
        "merge": plan.merge,
        "estimate": policy.estimate,
        "objective": policy.objective,
        "threshold": policy.threshold,
        "chosen": asdict(policy.chosen),
        "verdict": list(policy.verdict),
        "bins": len(policy.table.values),
        "edges": np.asarray(policy.table.edges, np.float32).tolist(),
        "values": np.asarray(policy.table.values, np.float32).tolist(),
        "counts": policy.table.counts.tolist(),
        "intervals": [list(interval) for interval in policy.intervals],
        "considered": [asdict(candidate) for candidate in plan.routing],
    }
