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
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration._checks import check_labelled_logits, check_seed, warnings_about
from edgecascade.calibration.class_order import order_sentence
from edgecascade.calibration.commands.arguments import add_calibrator_argument, share
from edgecascade.calibration.commands.outputs import (
    SavedOutputs,
    SavedScores,
    add_kind_argument,
    check_writable,
    named_array,
    read_model,
)
from edgecascade.calibration.intervals import accuracy_interval, proportion_interval
from edgecascade.calibration.metrics import evaluate, evaluate_scores, risk_coverage
from edgecascade.calibration.scaling import SCORE_CALIBRATORS, Candidate, calibrate_confidence, choose_calibrator
from edgecascade.calibration.weights import normalised
from edgecascade.cli import rare
from edgecascade.types.document import LabelNoise
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
        method: `temperature` or `temperature + map`; or `platt` or `isotonic`, for scored answers.
        parameters: of the fitted calibrator.
        candidates: the calibrators of scored answers that were compared.
        fitted_on: number of inputs of the fit.
        evaluated_on: number of inputs of the metrics.
        before: estimates by the keys of `evaluate` or `evaluate_scores`, and `risk_at_COVERAGE`: the share of wrong
            answers among the surest, with its exact interval.
        after: the same of the calibrated outputs.
        label_noise: the wrong labels that the inputs of the fit seem to have; None for scored answers.
    """

    method: str
    parameters: Mapping[str, Any]
    candidates: tuple[Candidate, ...]
    fitted_on: int
    evaluated_on: int
    before: Mapping[str, Estimate]
    after: Mapping[str, Estimate]
    label_noise: LabelNoise | None = None

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
        "A random part of the inputs fits the calibrator, the others are evaluated; no input does both. Scores are\n"
        "calibrated by Platt scaling, or by isotonic regression where that is better, cross-fitted."
    )
    parser.add_argument(
        "outputs",
        nargs="+",
        help="Logits or probabilities [n, classes] and labels [n], or scores [n] on any scale and correctness [n]: "
        "one .npz or .parquet file with outputs and labels, or score and correct; or two .npy files in this order.",
    )
    parser.add_argument("--json", metavar="FILE", help="Write the figures as JSON to FILE, or - for standard output.")
    parser.add_argument("--array", default="outputs", metavar="NAME", help="Array of the outputs (default outputs).")
    add_calibrator_argument(parser)
    text = "Array of sample weights [n] in the file of outputs, or an .npy file."
    parser.add_argument("--weights", metavar="NAME", help=text)
    add_kind_argument(parser, "--kind", "the outputs of classes")
    text = "Share of the inputs for the fit (default 0.5)."
    rare(parser.add_argument("--fit-share", type=share, default=0.5, metavar="S", help=text))
    text = "Seed of the split (default 0)."
    rare(parser.add_argument("--seed", type=int, default=0, help=text))


def execute(arguments: Namespace) -> int:
    """Evaluate, then print and write."""
    check_writable("--json", arguments.json)
    outputs = read_model(*arguments.outputs, array=arguments.array, kind=arguments.kind)
    warnings: tuple[str, ...] = ()
    if isinstance(outputs, SavedOutputs):
        check_labelled_logits(outputs.logits, outputs.labels)
        warnings = warnings_about({"model": outputs.logits}, outputs.labels)
        order = order_sentence(outputs.logits.argmax(axis=1), outputs.labels, outputs.logits.shape[1], outputs.names)
        warnings += () if order is None else (f"the model: {order}",)
    found = evaluate_held_out(
        outputs,
        weight=named_array(arguments.weights, *arguments.outputs),
        fit_share=arguments.fit_share,
        calibrator=arguments.calibrator,
        label_noise=arguments.label_noise,
        seed=arguments.seed,
    )
    if arguments.json:
        text = json.dumps(found.to_dict(), allow_nan=False, indent=1)
        if arguments.json == "-":
            print(text)
            return 0
        Path(arguments.json).write_text(text + "\n", encoding="utf-8")
    if isinstance(outputs, SavedOutputs) and outputs.read.kind == "probabilities":
        print(outputs.read)
    for sentence in warnings:
        print(f"warning: {sentence}")
    print("\n".join(_lines(found)))
    return 0


def evaluate_held_out(
    outputs: SavedOutputs | SavedScores,
    *,
    weight: ArrayLike | None = None,
    fit_share: float = 0.5,
    calibrator: str = "auto",
    label_noise: bool = False,
    seed: int = 0,
) -> Evaluation:
    """Fit a calibrator on a random part of the inputs and evaluate before and after it on the others.

    Args:
        outputs: logits and labels, or scores and correctness.
        weight: [n], numbers above 0 on any scale, by which each input counts; None for equal weights.
        fit_share: share of the inputs for the fit, in (0, 1).
        calibrator: of classes, as in `calibrate_confidence`; of scores `map`, for isotonic regression, `platt`, or
            `auto`, for the choice of `choose_calibrator`.
        label_noise: whether the temperature allows for wrong labels, as in `calibrate_confidence`; not for scores.
        seed: of the splits.

    Raises:
        CalibrationError: the arrays do not fit together, a part is too small for its use, or the seed is below 0.
    """
    check_seed(seed)
    if isinstance(outputs, SavedOutputs):
        return _evaluate_classes(outputs, weight, fit_share, seed, calibrator=calibrator, label_noise=label_noise)
    if label_noise:
        raise CalibrationError("label_noise: expected outputs of classes with it, got scores")
    if calibrator not in SCORE_CALIBRATORS:
        raise CalibrationError(f"calibrator: expected auto, platt or map for scores, got {calibrator!r}")
    fit, test = _split(outputs.score, outputs.correct, fit_share, seed)
    score, correct = outputs.score, outputs.correct
    methods = {"map": ("isotonic",), "platt": ("platt",)}.get(calibrator)
    fitting, testing = _weights(weight, fit, test)
    chosen = choose_calibrator(score[fit], correct[fit], fitting, methods=methods, seed=seed)
    assert chosen.calibrator is not None
    before, after = (
        _with_risks(evaluate_scores(some, correct[test], testing), some, correct[test], testing)
        for some in (score[test], chosen.calibrator(score[test]))
    )
    return Evaluation(
        method=chosen.method,
        parameters=_listed(asdict(chosen.calibrator)),
        candidates=chosen.candidates,
        fitted_on=len(fit),
        evaluated_on=len(test),
        before=before,
        after=after,
    )


def _evaluate_classes(
    outputs: SavedOutputs, weight: ArrayLike | None, fit_share: float, seed: int, **options: Any
) -> Evaluation:
    logits, labels = outputs.logits, outputs.labels
    fit, test = _split(logits, labels, fit_share, seed)
    fitting, testing = _weights(weight, fit, test)
    found = calibrate_confidence(logits[fit], labels[fit], fitting, seed=seed, **options)
    correct = logits[test].argmax(axis=1) == labels[test]
    raw, probabilities = softmax(logits[test]), softmax(logits[test], found.temperature)
    confidence: NDArray[np.floating] = probabilities.max(axis=1)
    parameters: dict[str, Any] = {"temperature": found.temperature}
    before = evaluate(raw, labels[test], testing)
    if found.confidence_map is None:
        after = evaluate(probabilities, labels[test], testing)
    else:
        parameters |= _listed(asdict(found.confidence_map))
        confidence = found.confidence_map(confidence)
        after = evaluate(_spread(probabilities, confidence), labels[test], testing)
        after |= evaluate_scores(confidence, correct, testing)  # the label may have the smaller part of the mass
    return Evaluation(
        method=found.method,
        parameters=parameters,
        candidates=(),
        fitted_on=len(fit),
        evaluated_on=len(test),
        before=_with_risks(before, raw.max(axis=1), correct, testing),
        after=_with_risks(after, confidence, correct, testing),
        label_noise=found.label_noise,
    )


def _spread(probabilities: NDArray[np.floating], confidence: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return probabilities whose largest becomes the confidence, and whose others share the rest in proportion."""
    others, top = probabilities.astype(np.float64), probabilities.argmax(axis=1)[:, None]
    np.put_along_axis(others, top, 0.0, axis=1)
    total = others.sum(axis=1, keepdims=True)
    shares = np.where(total > 0, others / np.maximum(total, 1e-300), 1 / (others.shape[1] - 1))
    spread: NDArray[np.float64] = shares * (1 - confidence[:, None])
    np.put_along_axis(spread, top, confidence[:, None], axis=1)
    return spread


def _listed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(value).tolist() for name, value in parameters.items()}


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


def _weights(weight: ArrayLike | None, *parts: NDArray[np.intp]) -> tuple[NDArray[np.float64] | None, ...]:
    """Return the weights of each part of the inputs."""
    every = normalised(weight, sum(len(rows) for rows in parts))
    return tuple(None if every is None else normalised(every[rows], len(rows)) for rows in parts)


def _with_risks(
    found: dict[str, Estimate],
    score: NDArray[np.floating],
    correct: NDArray[np.bool_],
    weight: NDArray[np.float64] | None,
) -> dict[str, Estimate]:
    curve = risk_coverage(score, correct, weight)
    surest = np.argsort(-score, kind="stable")
    for coverage in _COVERAGES:
        k = max(1, round(coverage * len(score)))
        if weight is not None:
            k = int(np.searchsorted(curve.coverage, coverage)) + 1
        risk, some = float(curve.risk[k - 1]), surest[:k]
        if weight is None:
            low, high = proportion_interval(round(risk * k), k)
        else:
            low, high = accuracy_interval(~correct[some], weight[some])
        found[f"risk_at_{coverage}"] = Estimate(risk, min(low, risk), max(high, risk), k)
    return found


def _lines(found: Evaluation) -> Iterator[str]:
    fitted = ", ".join(f"{name} {value:.4g}" for name, value in found.parameters.items() if isinstance(value, float))
    yield f"{found.method}{': ' if fitted else ''}{fitted}; fitted on {found.fitted_on} inputs"
    if found.label_noise is not None and found.label_noise.shown:
        yield str(found.label_noise)
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
