"""`edgecascade evaluate`: how accurate and how well calibrated one model is, from its saved outputs."""

from __future__ import annotations

import json
import math
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration._checks import check_seed
from edgecascade.calibration.commands.arguments import share
from edgecascade.calibration.commands.outputs import SavedOutputs, SavedScores, add_kind_argument, read_model
from edgecascade.calibration.intervals import proportion_interval
from edgecascade.calibration.metrics import evaluate, evaluate_scores, risk_coverage
from edgecascade.calibration.scaling import Candidate, choose_calibrator, fit_platt, fit_temperature
from edgecascade.cli import rare
from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import Estimate
from edgecascade.types.softmax import softmax

__all__ = ["Evaluation", "configure", "evaluate_held_out", "execute"]

_COVERAGES = (0.5, 0.7, 0.8, 0.9)
_NAMES = {
    "accuracy": "accuracy",
    "nll": "negative log-likelihood",
    "brier": "Brier score",
    "ece": "ECE",
    "ece_corrected": "ECE, bias-corrected",
    "ece_equal_mass": "ECE, equal-mass bins",
    "auroc": "AUROC of correctness",
    "aurc": "AURC",
}


@dataclass(frozen=True)
class Evaluation:
    """Metrics before and after calibration, on inputs that the calibrator was not fitted on.

    Attributes:
        method: `temperature`; or `platt` or `isotonic`, for scored answers.
        parameters: of the fitted calibrator.
        candidates: the calibrators compared, if a choice was asked for.
        fitted_on: number of inputs of the fit.
        evaluated_on: number of inputs of the metrics.
        before: estimates by the keys of `evaluate` or `evaluate_scores`, and `risk_at_COVERAGE`: the share of wrong
            answers among the surest, with Wilson's interval.
        after: the same of the calibrated outputs.
    """

    method: str
    parameters: Mapping[str, Any]
    candidates: tuple[Candidate, ...]
    fitted_on: int
    evaluated_on: int
    before: Mapping[str, Estimate]
    after: Mapping[str, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-like values; numbers that are not finite become None."""
        found = asdict(self)
        for part in ("before", "after"):
            found[part] = {name: _finite(estimate) for name, estimate in found[part].items()}
        return found


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "examples:\n"
        "  edgecascade evaluate outputs.npz\n"
        "  edgecascade evaluate pair.npz --array local --json evaluation.json\n\n"
        "A random part of the inputs fits the calibrator, the others are evaluated; no input does both."
    )
    parser.add_argument(
        "outputs",
        nargs="+",
        help="Logits or probabilities [n, classes] and labels [n], or scores [n] on any scale and correctness [n]: "
        "one .npz or .parquet file with outputs and labels, or score and correct; or two .npy files in this order.",
    )
    parser.add_argument("--json", metavar="FILE", help="Write the figures as JSON to FILE, or - for standard output.")
    parser.add_argument(
        "--calibrators",
        action="store_true",
        help="For scores: choose between Platt scaling and isotonic regression by cross-fitted likelihood.",
    )
    parser.add_argument("--array", default="outputs", metavar="NAME", help="Array of the outputs (default outputs).")
    add_kind_argument(parser, "--kind", "the outputs of classes")
    text = "Share of the inputs for the fit (default 0.5)."
    rare(parser.add_argument("--fit-share", type=share, default=0.5, metavar="S", help=text))
    text = "Seed of the split and the resampling (default 0)."
    rare(parser.add_argument("--seed", type=int, default=0, help=text))


def execute(arguments: Namespace) -> int:
    """Evaluate, then print and write."""
    outputs = read_model(*arguments.outputs, array=arguments.array, kind=arguments.kind)
    found = evaluate_held_out(outputs, fit_share=arguments.fit_share, choose=arguments.calibrators, seed=arguments.seed)
    if arguments.json:
        text = json.dumps(found.to_dict(), allow_nan=False, indent=1)
        if arguments.json == "-":
            print(text)
            return 0
        Path(arguments.json).write_text(text + "\n", encoding="utf-8")
    if isinstance(outputs, SavedOutputs) and outputs.read.kind == "probabilities":
        print(outputs.read)
    print("\n".join(_lines(found)))
    return 0


def evaluate_held_out(
    outputs: SavedOutputs | SavedScores, *, fit_share: float = 0.5, choose: bool = False, seed: int = 0
) -> Evaluation:
    """Fit a calibrator on a random part of the inputs and evaluate before and after it on the others.

    Args:
        outputs: logits and labels, for a temperature; or scores and correctness, for Platt scaling.
        fit_share: share of the inputs for the fit, in (0, 1).
        choose: whether to choose between calibrators of scores by `choose_calibrator`.
        seed: of the splits and the resampling.

    Raises:
        CalibrationError: the arrays do not fit together, a part is too small for its use, or the seed is below 0.
    """
    check_seed(seed)
    if isinstance(outputs, SavedOutputs):
        if choose:
            raise CalibrationError("calibrators: expected score and correct to choose for, got outputs of classes")
        return _evaluate_classes(outputs, fit_share, seed)
    fit, test = _split(outputs.score, outputs.correct, fit_share, seed)
    score, correct = outputs.score, outputs.correct
    selection = choose_calibrator(score[fit], correct[fit], seed=seed) if choose else None
    calibrator = selection.calibrator if selection else fit_platt(score[fit], correct[fit])
    before, after = (
        _with_risks(evaluate_scores(some, correct[test], seed=seed), some, correct[test])
        for some in (score[test], calibrator(score[test]))
    )
    return Evaluation(
        method=selection.method if selection else "platt",
        parameters={name: np.asarray(value).tolist() for name, value in asdict(calibrator).items()},
        candidates=selection.candidates if selection else (),
        fitted_on=len(fit),
        evaluated_on=len(test),
        before=before,
        after=after,
    )


def _evaluate_classes(outputs: SavedOutputs, fit_share: float, seed: int) -> Evaluation:
    logits, labels = outputs.logits, outputs.labels
    fit, test = _split(logits, labels, fit_share, seed)
    temperature = fit_temperature(logits[fit], labels[fit])
    before, after = (
        _with_risks(
            evaluate(probabilities, labels[test], seed=seed),
            probabilities.max(axis=1),
            probabilities.argmax(axis=1) == labels[test],
        )
        for probabilities in (softmax(logits[test]), softmax(logits[test], temperature))
    )
    return Evaluation("temperature", {"temperature": temperature}, (), len(fit), len(test), before, after)


def _split(
    outputs: NDArray[Any], truth: NDArray[Any], fit_share: float, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows of the fit and the rows of the evaluation."""
    n = len(truth)
    if len(outputs) != n:
        raise CalibrationError(f"outputs: expected one row per label, got {len(outputs)} rows and {n} labels")
    fitting = round(n * fit_share)
    if not 0 < fitting < n - 1:
        raise CalibrationError(f"fit-share: expected a share that leaves inputs on both sides, got {fit_share} of {n}")
    rows = np.random.default_rng(seed).permutation(n)
    return np.sort(rows[:fitting]), np.sort(rows[fitting:])


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
    fitted = ", ".join(f"{name} {value:.4g}" for name, value in found.parameters.items() if isinstance(value, float))
    yield f"{found.method}{': ' if fitted else ''}{fitted}; fitted on {found.fitted_on} inputs"
    for candidate in found.candidates:
        yield (
            f"  {candidate.method:<10}cross-fitted NLL {candidate.nll:.4f} +- {candidate.nll_error:.4f}, "
            f"gain {candidate.gain:+.4f} +- {candidate.gain_error:.4f}"
            f"{'  <- chosen' if candidate.method == found.method else ''}"
        )
    yield f"{f'95 % intervals, n = {found.evaluated_on}':<26}{'before':<30}after"
    for name, after in found.after.items():
        before = _shown(name, found.before[name]) if name in found.before else "not a probability"
        title = _NAMES.get(name) or f"risk at {float(name.removeprefix('risk_at_')):.0%} coverage"
        yield f"{title:<26}{before:<30}{_shown(name, after)}"


def _shown(name: str, estimate: Estimate) -> str:
    if name == "accuracy" or name.startswith("risk_at"):
        return estimate.percent()
    return f"{estimate.value:.4f} ({estimate.low:.4f} to {estimate.high:.4f})"


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
