"""`edgecascade evaluate`: how accurate and how well calibrated one model is, from its saved outputs."""

from __future__ import annotations

import json
import math
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.commands.arguments import share
from edgecascade.calibration.commands.outputs import SavedOutputs, SavedScores, read_model
from edgecascade.calibration.intervals import proportion_interval
from edgecascade.calibration.metrics import evaluate, evaluate_scores, risk_coverage
from edgecascade.calibration.scaling import (
    Calibrator,
    Candidate,
    Platt,
    TemperatureScaling,
    choose_calibrator,
    fit_platt,
    fit_temperature,
)
from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import Estimate
from edgecascade.types.softmax import softmax

__all__ = ["Evaluation", "configure", "evaluate_held_out", "execute"]

_COVERAGES = (0.5, 0.7, 0.8, 0.9)
_NAMES = {
    "accuracy": "accuracy",
    "nll": "negative log-likelihood",
    "brier": "Brier score",
    "ece": "ECE, equal width",
    "ece_debiased": "ECE, debiased",
    "ece_equal_mass": "ECE, equal mass",
    "auroc": "AUROC of correctness",
    "aurc": "AURC",
}


@dataclass(frozen=True)
class Evaluation:
    """Metrics before and after calibration, on inputs that the calibrator was not fitted on.

    Attributes:
        method: `temperature`, `vector scaling`, `isotonic`, or `platt` for scored answers.
        calibrator: fitted on the other inputs.
        candidates: the calibrators compared, if a choice was asked for.
        fitted_on: number of inputs of the fit.
        evaluated_on: number of inputs of the metrics.
        before: estimates by the keys of `evaluate` or `evaluate_scores`, and `risk_at_COVERAGE`: the share of wrong
            answers among the surest, with Wilson's interval.
        after: the same of the calibrated outputs.
    """

    method: str
    calibrator: Calibrator | Platt
    candidates: tuple[Candidate, ...]
    fitted_on: int
    evaluated_on: int
    before: Mapping[str, Estimate]
    after: Mapping[str, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-like values; numbers that are not finite become None."""
        parameters = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in _flat(asdict(cast(Any, self.calibrator))).items()
        }
        return {
            "fitted_on": self.fitted_on,
            "evaluated_on": self.evaluated_on,
            "calibrator": {"method": self.method, **parameters},
            "candidates": [asdict(candidate) for candidate in self.candidates],
            "before": {name: _finite(asdict(estimate)) for name, estimate in self.before.items()},
            "after": {name: _finite(asdict(estimate)) for name, estimate in self.after.items()},
        }


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "examples:\n"
        "  edgecascade evaluate outputs.npz\n"
        "  edgecascade evaluate pair.npz --array local --calibrators --json evaluation.json\n\n"
        "A random part of the inputs fits the calibrator, the others are evaluated; no input does both."
    )
    parser.add_argument(
        "outputs",
        nargs="+",
        help="logits or probabilities [n, classes] and labels [n], or scores [n] on any scale and correctness [n]: "
        "one .npz or .parquet file with outputs and labels, or score and correct; or two .npy files in this order",
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON to FILE, or - for standard output")
    parser.add_argument(
        "--calibrators",
        action="store_true",
        help="choose among temperature scaling, vector scaling and isotonic regression by cross-fitted likelihood",
    )
    parser.add_argument("--array", default="outputs", metavar="NAME", help="array of the outputs (default outputs)")
    parser.add_argument(
        "--fit-share", type=share, default=0.5, metavar="S", help="share of the inputs for the fit (default 0.5)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the split and the resampling (default 0)")


def execute(arguments: Namespace) -> int:
    """Evaluate, then print and write."""
    outputs = read_model(*arguments.outputs, array=arguments.array)
    found = evaluate_held_out(outputs, fit_share=arguments.fit_share, choose=arguments.calibrators, seed=arguments.seed)
    if arguments.json:
        text = json.dumps(found.to_dict(), allow_nan=False, indent=1)
        if arguments.json == "-":
            print(text)
            return 0
        Path(arguments.json).write_text(text + "\n", encoding="utf-8")
    if isinstance(outputs, SavedOutputs) and outputs.were_probabilities:
        print("the outputs are probabilities; their logarithms serve as logits")
    print("\n".join(_lines(found)))
    return 0


def evaluate_held_out(
    outputs: SavedOutputs | SavedScores, *, fit_share: float = 0.5, choose: bool = False, seed: int = 0
) -> Evaluation:
    """Fit a calibrator on a random part of the inputs and evaluate before and after it on the others.

    Args:
        outputs: logits and labels, for a temperature; or scores and correctness, for Platt scaling.
        fit_share: share of the inputs for the fit, in (0, 1).
        choose: whether to choose among calibrators of logits by `choose_calibrator`.
        seed: of the split and the resampling.

    Raises:
        CalibrationError: the arrays do not fit together, or a part is too small for its use.
    """
    n = len(outputs.labels if isinstance(outputs, SavedOutputs) else outputs.correct)
    fitting = round(n * fit_share)
    if not 0 < fitting < n - 1:
        raise CalibrationError(f"fit-share: expected a share that leaves inputs on both sides, got {fit_share} of {n}")
    rows = np.random.default_rng(seed).permutation(n)
    fit, test = np.sort(rows[:fitting]), np.sort(rows[fitting:])
    candidates: tuple[Candidate, ...] = ()
    calibrator: Calibrator | Platt
    if isinstance(outputs, SavedScores):
        if choose:
            raise CalibrationError("calibrators: expected outputs [n, classes] to choose for, got scores")
        score, correct = _same_length(outputs.score, outputs.correct)
        method, calibrator = "platt", fit_platt(score[fit], correct[fit])
        before = _with_risks(evaluate_scores(score[test], correct[test], seed=seed), score[test], correct[test])
        confidence = calibrator(score[test])
        after = _with_risks(evaluate_scores(confidence, correct[test], seed=seed), confidence, correct[test])
        return Evaluation(method, calibrator, candidates, len(fit), len(test), before, after)
    logits, labels = _same_length(outputs.logits, outputs.labels)
    if choose:
        selection = choose_calibrator(logits[fit], labels[fit], seed=seed)
        method, calibrator, candidates = selection.method, selection.calibrator, selection.candidates
    else:
        method, calibrator = "temperature", TemperatureScaling(fit_temperature(logits[fit], labels[fit]))
    before, after = (
        _with_risks(
            evaluate(probabilities, labels[test], seed=seed),
            probabilities.max(axis=1),
            probabilities.argmax(axis=1) == labels[test],
        )
        for probabilities in (softmax(logits[test]), softmax(calibrator(logits[test])))
    )
    return Evaluation(method, calibrator, candidates, len(fit), len(test), before, after)


def _same_length(first: NDArray[Any], second: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    if len(first) != len(second):
        raise CalibrationError(f"outputs: expected as many rows as labels, got {len(first)} and {len(second)}")
    return first, second


def _with_risks(
    found: dict[str, Estimate], score: NDArray[np.floating], correct: NDArray[np.bool_]
) -> dict[str, Estimate]:
    curve = risk_coverage(score, correct)
    for coverage in _COVERAGES:
        k = max(1, round(coverage * len(score)))
        risk = float(curve.risk[k - 1])
        found[f"risk_at_{coverage}"] = Estimate(risk, *proportion_interval(round(risk * k), k), k)
    return found


def _lines(found: Evaluation) -> Iterator[str]:
    yield f"{_described(found)} fitted on {found.fitted_on} inputs; figures with 95 % intervals on {found.evaluated_on}"
    for candidate in found.candidates:
        likelihood = f"cross-fitted NLL {candidate.nll:.4f} +- {candidate.nll_error:.4f}"
        gain = f"gain {candidate.gain:+.4f} +- {candidate.gain_error:.4f}"
        yield f"  {candidate.method:<16}{likelihood}, {gain}{'  <- chosen' if candidate.method == found.method else ''}"
    yield f"{'':<26}{'before':<30}after"
    for name in found.after:
        before = _shown(name, found.before[name]) if name in found.before else "not a probability"
        yield f"{_title(name):<26}{before:<30}{_shown(name, found.after[name])}"


def _described(found: Evaluation) -> str:
    if isinstance(found.calibrator, TemperatureScaling):
        return f"temperature T = {found.calibrator.temperature:.4f}"
    if isinstance(found.calibrator, Platt):
        return f"Platt scaling, slope {found.calibrator.slope:.4g} and intercept {found.calibrator.intercept:.4g},"
    return found.method


def _title(name: str) -> str:
    return _NAMES.get(name) or f"risk at {float(name.removeprefix('risk_at_')):.0%} coverage"


def _shown(name: str, estimate: Estimate) -> str:
    if name == "accuracy" or name.startswith("risk_at"):
        return estimate.percent()
    return f"{estimate.value:.4f} ({estimate.low:.4f} to {estimate.high:.4f})"


def _flat(parameters: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in parameters.items():
        flat |= _flat(value) if isinstance(value, Mapping) else {name: value}
    return flat


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
