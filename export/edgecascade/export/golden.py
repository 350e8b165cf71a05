"""Which inputs travel in the file, to be replayed wherever it goes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration import DecisionRule
from edgecascade.export.parity import expected_decisions
from edgecascade.runtime.batch import Batch, rows, size
from edgecascade.runtime.golden import Expected, Golden

__all__ = ["choose_golden"]

_MOST = 8
_CHARACTERS = 1 << 20


def choose_golden(inputs: Batch, name: str, logits: NDArray[np.floating], rule: DecisionRule) -> Golden | None:
    """Up to eight of the inputs, spread from the least sure to the surest; fewer if they are large.

    Args:
        inputs: [n, ...], all of one shape; by name if the model takes several.
        name: of the model's input, if it takes one.
        logits: the body's for them, [n, classes].
        rule: what was folded.

    Returns:
        None where a single input is over a megabyte.
    """
    by_name = inputs if isinstance(inputs, Mapping) else {name: inputs}
    expected = expected_decisions(logits, rule)
    order = np.argsort(expected.confidence, kind="stable")
    for many in (_MOST, 4, 2, 1):
        chosen = order[np.unique(np.linspace(0, size(by_name) - 1, many).astype(int))]
        golden = Golden(rows(by_name, chosen), Expected(*(column[chosen] for column in vars(expected).values())))
        if len(golden.text()) <= _CHARACTERS:
            return golden
    return None
