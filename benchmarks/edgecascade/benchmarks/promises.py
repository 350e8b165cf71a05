"""Do calibration and plan keep their word? Policy, certificate, sensitivity and speed, on the built-in pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgecascade.benchmarks.certificate_draws import CertificateDraws, draw_certificates
from edgecascade.benchmarks.fit_speed import FitSpeed, compare_fits
from edgecascade.benchmarks.pairs import PairOutputs
from edgecascade.benchmarks.policy_splits import PolicyAtRate, compare_policies
from edgecascade.benchmarks.steps import Steps, at_once
from edgecascade.calibration import CertifiedLoss, routing_score

__all__ = ["Promises", "measure_promises", "promises_steps", "summarize"]

_RATES = (0.1, 0.2, 0.3, 0.35, 0.4, 0.5)
_PROMISE = CertifiedLoss(0.01, 0.05)
_DRAWN = (1000, 2000, 4000)  # inputs behind a certificate
_SENSITIVITY = 0.2
_BINS = (5, 10, 15, 25, 50)
_INPUTS = (100, 200, 500, 1000, 2500, 5000)
_RULE = 0.8  # raw confidence below which people forward who have nothing better
_COLUMNS = ("policy", "confidence", "margin", "entropy", "raw confidence", "random", "oracle")


@dataclass(frozen=True)
class Promises:
    """The whole measurement.

    Attributes:
        splits: random splits behind each row of policies and sensitivity.
        calibration: inputs that plan in each split of `policies`; all others test.
        policies: by pair, one row per offload rate.
        rule: by pair, what `raw confidence < 0.8` forwards, and so the one rate in `policies` that nobody chose.
        certificates: by pair, one row per size of the draws.
        by_bins: by pair, at 20 % offload, by bins of the advantage table.
        by_inputs: the same, by calibration inputs.
        fit: the temperature fit beside scikit-learn's.
    """

    splits: int
    calibration: int
    policies: dict[str, list[PolicyAtRate]]
    rule: dict[str, float]
    certificates: dict[str, list[CertificateDraws]]
    by_bins: dict[str, dict[int, PolicyAtRate]]
    by_inputs: dict[str, dict[int, PolicyAtRate]]
    fit: FitSpeed


def measure_promises(
    pairs: tuple[PairOutputs, ...], steps: Steps = at_once, *, splits: int, draws: int, calibration: int = 1000
) -> Promises:
    """Measure all of it, on pairs that nothing else was fitted on, in `promises_steps` steps.

    Args:
        pairs: saved outputs.
        steps: keep what is measured.
        splits: random splits behind each row of policies and sensitivity.
        draws: certificates in each row.
        calibration: inputs that plan in each split.
    """

    def at(pair: PairOutputs, rate: float) -> PolicyAtRate:
        return steps(
            PolicyAtRate,
            f"{pair.name}, {rate:.0%} offload" if rate in _RATES else f"{pair.name}, as the rule",
            lambda: next(compare_policies(pair, [rate], calibration=calibration, splits=splits)),
        )

    def certificates(pair: PairOutputs, n: int) -> CertificateDraws:
        return steps(
            CertificateDraws,
            f"{pair.name}, promise {n}",
            lambda: draw_certificates(pair, _PROMISE, n=n, draws=draws),
        )

    def sensitivity(pair: PairOutputs, what: str, bins: int | None, inputs: int) -> PolicyAtRate:
        return steps(
            PolicyAtRate,
            f"{pair.name}, {what}",
            lambda: next(compare_policies(pair, [_SENSITIVITY], calibration=inputs, splits=splits, bins=bins)),
        )

    return Promises(
        splits=splits,
        calibration=calibration,
        policies={pair.name: [at(pair, rate) for rate in _rates(pair)] for pair in pairs},
        rule={pair.name: _by_rule(pair) for pair in pairs},
        certificates={pair.name: [certificates(pair, n) for n in _DRAWN] for pair in pairs},
        by_bins={
            pair.name: {bins: sensitivity(pair, f"{bins} bins", bins, calibration) for bins in _BINS} for pair in pairs
        },
        by_inputs={pair.name: {n: sensitivity(pair, f"{n} inputs", None, n) for n in _inputs(pair)} for pair in pairs},
        fit=steps(FitSpeed, "temperature fit", compare_fits),
    )


def promises_steps(pairs: tuple[PairOutputs, ...]) -> int:
    """How many steps `measure_promises` takes."""
    return 1 + sum(len(_rates(pair)) + len(_DRAWN) + len(_BINS) + len(_inputs(pair)) for pair in pairs)


def _rates(pair: PairOutputs) -> list[float]:
    return sorted({*_RATES, _by_rule(pair)})


def _by_rule(pair: PairOutputs) -> float:
    return float(np.mean(routing_score("confidence", pair.local) < _RULE))


def _inputs(pair: PairOutputs) -> list[int]:
    return [n for n in _INPUTS if 2 * n <= len(pair)]


def summarize(found: Promises) -> str:
    """Tables and sentences, as plain text."""
    return "\n".join(line.rstrip() for line in _lines(found))


def _lines(found: Promises) -> Iterator[str]:
    for name, rows in found.policies.items():
        yield (
            f"{name}: accuracy in % at the policy's own rate and merge rule; planned on {found.calibration} inputs, "
            f"tested on the others, mean of {found.splits} random splits"
        )
        yield f"planned  offload  {'  '.join(f'{c:>14}' for c in _COLUMNS)}  policy less best fixed score (sd)"
        for row in rows:
            cells = "  ".join(f"{100 * row.accuracy[column]:14.2f}" for column in _COLUMNS)
            yield f"{row.rate:7.1%}  {row.offload:7.1%}  {cells}  {_shortfall(row)}"
        yield f"the rule `raw confidence < {_RULE}` forwards {found.rule[name]:.1%}: it is `raw confidence` in that row"
        yield f"alone: local {100 * rows[0].local:.2f}, remote {100 * rows[0].remote:.2f}"
        yield ""
    yield (
        f"promise: loss at most {_PROMISE.loss:.0%} but for a risk of {_PROMISE.risk:.0%}; draws with replacement from "
        "the pool, whose loss is the true one"
    )
    yield (
        "pair           inputs  draws  refused  broken (95 % interval)    certified offload  least that would do  ratio"
    )
    for name, draws in found.certificates.items():
        yield from (_certificate(name, one) for one in draws)
    yield ""
    for name, by_bins in found.by_bins.items():
        yield f"sensitivity: {name}, planned for {_SENSITIVITY:.0%} offload"
        yield from (_sensitivity(f"{value:5} bins", row) for value, row in by_bins.items())
        yield from (_sensitivity(f"{value:5} inputs", row) for value, row in found.by_inputs[name].items())
        yield ""
    yield _speed(found.fit)


def _certificate(name: str, found: CertificateDraws) -> str:
    low, high = found.broken_interval
    broken = f"{found.broken / found.draws:6.1%} ({low:.1%} to {high:.1%})"
    row = f"{name:<13}  {found.n:6}  {found.draws:5}  {found.refused:7}  {broken:<24}"
    if found.offload is None or found.least is None:
        return f"{row}  all refused"
    return f"{row}  {found.offload:17.1%}  {found.least:19.1%}  {found.offload / found.least:5.2f}"


def _sensitivity(what: str, row: PolicyAtRate) -> str:
    return (
        f"{what:<13} offload {row.offload:6.1%}, accuracy {100 * row.accuracy['policy']:.2f} "
        f"(sd {100 * row.deviation['policy']:.2f}), less best fixed score {_shortfall(row)}"
    )


def _speed(fit: FitSpeed) -> str:
    return (
        f"temperature on {fit.n} x {fit.classes} float32: {fit.ratio:.3f} of scikit-learn's time (goal .1; "
        f"{min(fit.seconds):.2f} to {max(fit.seconds):.2f} s against {min(fit.theirs):.2f} to {max(fit.theirs):.2f} s, "
        f"{len(fit.seconds)} runs in turn), {fit.memory:.1%} of the logits' memory on top (goal 5 %), "
        f"T differs by {fit.difference:.0e}"
    )


def _shortfall(row: PolicyAtRate) -> str:
    return f"{100 * row.shortfall:+.2f} ({100 * row.shortfall_deviation:.2f}) {row.best}"
