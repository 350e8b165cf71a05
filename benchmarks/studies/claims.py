"""What calibration and plans say about drawn inputs, compared with the population that the inputs are drawn from.

Each check draws, asks, and yields what was said with 1 where it is true and 0 where it is not, or how far off it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration import (
    CalibrationError,
    CascadePlan,
    CertifiedLoss,
    Estimate,
    LeastOffload,
    MostAccuracy,
    Objective,
    TaskPlan,
    calibrate_temperature,
    evaluate,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    plan_cascade,
    routing_score,
    softmax,
)
from edgecascade.calibration.metrics import auroc, brier_score, risk_coverage
from studies.outputs import PairOutputs
from studies.populations import Followed, Population

__all__ = ["CHECKS", "RATES", "Said", "check_bins", "check_curve", "ends", "mean_of", "within"]

RATES = (0.2, 0.35, 0.5)
_LOSS = 0.01
_CERTIFIED = CertifiedLoss(_LOSS, 0.05)
_DRAW_CERTIFIED = 1500  # inputs
_LOOKS = (500, 1500)  # inputs
_ROUNDING = 1e-9

Said = Iterator[tuple[str, float]]


def within(interval: tuple[float, float], truth: float) -> float:
    """Return 1 if an interval holds the truth, else 0."""
    return float(interval[0] - _ROUNDING <= truth <= interval[1] + _ROUNDING)


def ends(found: Estimate) -> tuple[float, float]:
    """Return the ends of the interval of an estimate."""
    return found.low, found.high


def _planned(seen: PairOutputs, objective: Objective, **candidates: Any) -> CascadePlan | None:
    try:
        return plan_cascade(seen.local, seen.remote, seen.labels, objective, **candidates)
    except CalibrationError:
        return None


def check_calibration(population: Population, rng: np.random.Generator) -> Said:
    """Fit both temperatures, and compare the intervals beside them with the truth."""
    drawn, every = population.draw(rng), population.outputs
    for model, seen, logits, right in (
        ("local", drawn.local, every.local, population.local_right),
        ("remote", drawn.remote, every.remote, population.remote_right),
    ):
        try:
            found = calibrate_temperature(seen, drawn.labels)
        except CalibrationError:
            yield "refused a model", 1.0
            continue
        yield "refused a model", 0.0
        yield f"accuracy: {model}", within(ends(found.accuracy), float(right.mean()))
        assert found.temperature_interval is not None
        yield f"temperature: {model}", within(found.temperature_interval, population.temperatures[model == "remote"])
        for when, nll, ece, temperature in (
            ("before", found.nll_before, found.ece_before, 1.0),
            ("after", found.nll_after, found.ece_after, found.temperature),
        ):
            truth = negative_log_likelihood(logits, every.labels, temperature)
            yield f"NLL: {model}, {when}", within(ends(nll), truth)
            confidence = softmax(logits, temperature).max(axis=1)
            if when == "after" and found.confidence_map is not None:
                confidence = found.confidence_map(confidence)
            yield f"ECE: {model}, {when}", within(ends(ece), expected_calibration_error(confidence, right))


def check_plan(population: Population, rng: np.random.Generator) -> Said:
    """Plan for three offload rates; compare every interval with the truth, and accuracy with every fixed score's."""
    seen = population.draw(rng)
    for rate in RATES:
        plan = _planned(seen, MostAccuracy(rate))
        yield "refused a pair", float(plan is None)
        if plan is None:
            continue
        followed = population.follow(plan)
        yield f"offload above {rate:.0%}", float(followed.offload > rate + _ROUNDING)
        yield f"policy at {rate:.0%}", 100 * followed.accuracy
        gain = followed.accuracy - max(population.local, population.remote)
        yield f"points gained over the better model: at {rate:.0%}", 100 * gain
        for score, accuracy in population.fixed(plan, followed).items():
            yield f"{score} at {rate:.0%}", 100 * accuracy
        if rate == RATES[0]:
            yield from check_curve(plan, followed, population.remote)
            yield from _check_candidates(plan, seen, population, rng)
            outputs = population.outputs.local
            by = routing_score(plan.score, outputs, plan.local.temperature, learned=plan.learned)
            yield from check_bins(plan, by, followed)


def check_curve(plan: CascadePlan | TaskPlan, followed: Followed, remote: float) -> Said:
    """Compare the intervals of every operating point with the truth, and what the advice says of offload rates."""
    curve = plan.policy.curve
    rates, accuracies = followed.at(np.array([point.threshold for point in curve]))
    chosen = [point.threshold for point in curve].index(plan.policy.threshold)
    inner = [one for one in zip(curve, rates, accuracies, strict=True) if 0 < one[0].offload_rate < 1]
    held = [within(point.accuracy_band, truth) for point, truth in zip(curve, accuracies, strict=True)]
    yield "accuracy at all thresholds at once", min(held)
    yield "accuracy at the chosen threshold", held[chosen]
    yield "points of optimism at the chosen threshold", 100 * (curve[chosen].accuracy - accuracies[chosen])
    if inner:
        yield "offload rate", mean_of(within(point.offload_interval, rate) for point, rate, _ in inner)
        yield "accuracy at a threshold", mean_of(within(point.accuracy_interval, truth) for point, _, truth in inner)
    losses = [(point.loss, truth) for point, truth in zip(curve, accuracies, strict=True) if point.loss is not None]
    if losses:
        yield "loss at a threshold", mean_of(within(ends(loss), remote - truth) for loss, truth in losses)
    everything = accuracies[-1]
    for sentence in plan.policy.advice:
        if shares := re.search(r"(\d+)% \((\d+)% to (\d+)%\).* come[s]? within a point", sentence):
            near = float(rates[np.argmax(accuracies >= everything - 0.01 - _ROUNDING)])
            low, high = (int(share) / 100 for share in shares.groups()[1:])
            yield "share in the advice", within((low - 0.005, high + 0.005), near)


def _check_candidates(plan: CascadePlan, seen: PairOutputs, population: Population, rng: np.random.Generator) -> Said:
    """Compare one of the candidates that were not chosen with the plan that is made if only this one is allowed.

    The candidate's order at the printed rate would be another policy. Cross-fitted policies stop where they expect no
    gain, at another rate in each fold; where errors are few, one order at the mean of these rates has fewer errors.
    """
    one = plan.routing[1 + int(rng.integers(len(plan.routing) - 1))]
    alone = _planned(seen, MostAccuracy(RATES[0]), scores=[one.score], merges=[one.merge], estimate=one.estimate)
    if alone is not None and one.accuracy_interval is not None:
        yield "accuracy of candidates", within(one.accuracy_interval, population.follow(alone).accuracy)


def check_bins(plan: CascadePlan | TaskPlan, score: NDArray[np.float32], followed: Followed) -> Said:
    """Compare the intervals of the advantage in each bin with the truth, given the score of the whole population."""
    table = plan.policy.table
    index = np.searchsorted(table.edges, score, side="right")
    count = np.bincount(index, minlength=len(table.values))
    gain = np.bincount(index, followed.local.astype(float) - followed.merged, len(table.values))
    there = np.flatnonzero(count)
    yield "advantage in bins", mean_of(within(plan.policy.intervals[one], gain[one] / count[one]) for one in there)


def check_rate(population: Population, rng: np.random.Generator) -> Said:
    """Plan for an offload rate that is to be kept with a probability of .95."""
    plan = _planned(population.draw(rng), MostAccuracy(RATES[0], confidence=0.95))
    if plan is not None:
        kept = population.follow(plan).offload <= RATES[0] + _ROUNDING
        yield "at most the rate, confidence .95", float(kept)


def check_aims(population: Population, rng: np.random.Generator) -> Said:
    """Plan for an accuracy half way to the best, and for a loss of a point, both by default and with confidence .9."""
    seen = population.draw(rng)
    aims: dict[str, tuple[float, dict[str, float]]] = {"loss": (population.remote - _LOSS, {"loss": _LOSS})}
    if population.best > population.local + _LOSS:
        half = (population.local + population.best) / 2
        aims["accuracy"] = half, {"accuracy": half}
    for name, (wanted, aim) in aims.items():
        for confidence, title in ((0.5, ""), (0.9, ", confidence .9")):
            plan = _planned(seen, LeastOffload(**aim, confidence=confidence))
            if plan is None:
                yield f"refused: {name}{title}", 1.0
                if not title:
                    yield "refused within reach", float(_reached(seen, population, wanted))
                continue
            followed = population.follow(plan)
            met = float(followed.accuracy >= wanted - _ROUNDING)
            yield f"refused: {name}{title}", 0.0
            yield f"aim met, {name}{title}", met
            if not title:
                yield "refused within reach", 0.0
                yield f"offload beyond the least, {name}", followed.offload - population.least_offload(wanted)
            if plan.policy.chance is not None:
                yield "chance printed less aims met", plan.policy.chance - met


def _reached(seen: PairOutputs, population: Population, wanted: float) -> bool:
    """Return whether some score and merge rule has this accuracy on the drawn inputs, at some rate."""
    return replace(population, outputs=seen).best >= wanted


def check_certificate(population: Population, rng: np.random.Generator) -> Said:
    """Certify a loss of a point on 1,500 inputs, or on as many as a usual draw has if these are more."""
    plan = _planned(population.draw(rng, max(population.n, _DRAW_CERTIFIED)), _CERTIFIED)
    yield "certificates refused", float(plan is None)
    if plan is None:
        yield "certificates broken", 0.0
        return
    followed, wanted = population.follow(plan), population.remote - _CERTIFIED.loss
    yield "certificates broken", float(followed.accuracy < wanted - _ROUNDING)
    yield "certified offload", followed.offload
    yield "certified offload beyond the least", followed.offload - population.least_offload(wanted)


def check_looks(population: Population, rng: np.random.Generator) -> Said:
    """Certify a loss of a point on 500 inputs, and where that is refused, on 1,500 with these among them."""
    seen = population.draw(rng, _LOOKS[-1])
    for look in _LOOKS:
        plan = _planned(seen[np.arange(look)], replace(_CERTIFIED, looks=_LOOKS))
        if plan is not None:
            broken = population.follow(plan).accuracy < population.remote - _CERTIFIED.loss - _ROUNDING
            yield "certificates broken: two looks", float(broken)
            return
    yield "certificates broken: two looks", 0.0


def check_evaluation(population: Population, rng: np.random.Generator) -> Said:
    """Evaluate the local model with its temperature, on other inputs than those of the fit."""
    fit, seen, truth = population.draw(rng), population.draw(rng), population.outputs
    temperature = fit_temperature(fit.local, fit.labels)
    found = evaluate(softmax(seen.local, temperature), seen.labels)
    probabilities, right = softmax(truth.local, temperature), population.local_right
    confidence = probabilities.max(axis=1)
    true = {
        "accuracy": float(right.mean()),
        "nll": negative_log_likelihood(truth.local, truth.labels, temperature),
        "brier": brier_score(probabilities, truth.labels),
        "ece": expected_calibration_error(confidence, right),
        "ece_corrected": expected_calibration_error(confidence, right),
        "ece_equal_mass": expected_calibration_error(confidence, right, spacing="mass"),
        "auroc": auroc(confidence, right),
        "aurc": risk_coverage(confidence, right).area,
    }
    for name, value in true.items():
        yield f"evaluate: {name}", within(ends(found[name]), value)


CHECKS: dict[str, tuple[Callable[[Population, np.random.Generator], Said], float]] = {
    "calibration": (check_calibration, 4.0),
    "plan": (check_plan, 1.0),
    "aims": (check_aims, 0.5),
    "rate": (check_rate, 0.5),
    "certificate": (check_certificate, 0.5),
    "looks": (check_looks, 0.5),
    "evaluation": (check_evaluation, 0.25),
}
"""Every check, with the share of the draws that it is made in."""


def mean_of(values: Iterable[float]) -> float:
    """Return the mean of any number of values."""
    return float(np.mean(list(values)))
