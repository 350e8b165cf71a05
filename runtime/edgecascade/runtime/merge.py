"""What the answer is once the remote has replied."""

from __future__ import annotations

import numpy as np

from edgecascade.runtime.answer import Source, Verdict

__all__ = ["merge"]


def merge(rule: str, local: Verdict, remote: Verdict) -> tuple[Verdict, Source]:
    """The joint verdict of two calibrated ones, by `replace`, `confident` or `average`.

    A local verdict that is not a number is always replaced.
    """
    if rule == "replace" or np.isnan(local.confidence):
        return remote, Source.REMOTE
    if rule == "confident":
        return (local, Source.LOCAL) if local.confidence > remote.confidence else (remote, Source.REMOTE)
    mean = (local.probabilities + remote.probabilities) * np.float32(0.5)
    label = int(mean.argmax())
    return Verdict(label, float(mean[label]), mean), Source.MERGED
