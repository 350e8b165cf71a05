"""Arrays of torch, pandas and polars, and lists, give the numbers of the same arrays in numpy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from edgecascade.calibration import (
    CalibrationError,
    MostAccuracy,
    calibrate_confidence,
    calibrate_score,
    evaluate,
    fit_temperature,
    plan_cascade,
    plan_task,
    reliability,
    softmax,
)
from edgecascade.calibration.cleaning import Experts, find_suspects, fit_pool

RNG = np.random.default_rng(0)
REMOTE = RNG.normal(0.0, 3.0, (400, 4))
LABELS = (REMOTE + RNG.gumbel(size=REMOTE.shape)).argmax(axis=1)
LOCAL = REMOTE + RNG.normal(0.0, 2.0, REMOTE.shape)
RIGHT = LOCAL.argmax(axis=1) == LABELS

FORMS: dict[str, Callable[[Any], Any]] = {
    "torch": torch.from_numpy,
    "torch with a gradient": lambda a: torch.from_numpy(a).requires_grad_() if a.dtype.kind == "f" else a,
    "pandas": lambda a: pd.DataFrame(a) if a.ndim == 2 else pd.Series(a),
    "polars": lambda a: pl.from_numpy(a) if a.ndim == 2 else pl.Series(a),
    "lists": lambda a: a.tolist(),
}
USES: dict[str, Callable[[Callable[[Any], Any]], Any]] = {
    "plan": lambda form: plan_cascade(form(LOCAL), form(REMOTE), form(LABELS), MostAccuracy(0.2)).to_dict(),
    "plan of a task": lambda form: plan_task(
        form(LOCAL.max(axis=1)), form(RIGHT), form(np.ones(400)), MostAccuracy(0.2)
    ).to_dict(),
    "temperature": lambda form: fit_temperature(form(LOCAL), form(LABELS)),
    "confidence": lambda form: str(calibrate_confidence(form(LOCAL), form(LABELS))),
    "score": lambda form: str(calibrate_score(form(LOCAL.max(axis=1)), form(RIGHT))),
    "metrics": lambda form: repr(evaluate(form(softmax(LOCAL)), form(LABELS))),
    "reliability": lambda form: reliability(form(softmax(LOCAL).max(axis=1)), form(RIGHT)).accuracy.tolist(),
    "cleaning": lambda form: suspects(form).row.tolist(),
}


def suspects(form: Callable[[Any], Any]) -> Any:
    """Return the suspects that two experts find."""
    experts = Experts.of([form(LOCAL), form(REMOTE)])
    return find_suspects(experts, form(LABELS), fit_pool(experts, form(LABELS)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("use", USES)
def test_they_give_the_numbers_of_numpy(use: str, form: str) -> None:
    """Bit for bit."""
    np.testing.assert_equal(USES[use](FORMS[form]), USES[use](lambda a: a))


def test_what_numpy_cannot_hold_is_refused() -> None:
    """The sentence names the argument."""
    with pytest.raises(CalibrationError, match=r"^remote_logits: .* torch\.bfloat16"):
        plan_cascade(LOCAL, torch.from_numpy(REMOTE).bfloat16(), LABELS, MostAccuracy(0.2))
    with pytest.raises(CalibrationError, match=r"^logits: .* list"):
        fit_temperature([[0.0, 1.0], [1.0]], LABELS)
