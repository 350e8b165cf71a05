"""The result as parts of a page, and as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from edgecascade.benchmarks.offload import Offload
from edgecascade.benchmarks.offload_curve import OffloadCurve
from edgecascade.benchmarks.offload_tables import Row, area_rows, latency_rows, plan_rows, savings_rows, table_rows
from edgecascade.benchmarks.plots import offload_svg, reliability_svg
from edgecascade.benchmarks.section import Figure, Section, Table
from edgecascade.benchmarks.verdict import offload_verdict

__all__ = ["offload_document", "offload_sections", "offload_verdict", "policy_text"]

_CURVE_POINTS = 101


def offload_sections(result: Offload) -> tuple[Section, ...]:
    """Curve, savings, promise, latency and reliability, in this order."""
    return (_curve(result), _savings(result), _promise(result), _latency(result), _reliability(result))


def offload_document(result: Offload) -> dict[str, Any]:
    """Every figure, with plain types; None where there was nothing to measure."""
    found: dict[str, Any] = {
        "n": result.n,
        "strategies": [asdict(strategy) for strategy in result.strategies],
        "areas": {name: area and asdict(area) for name, area in result.areas.items()},
        "savings": asdict(result.savings),
        "promised": asdict(result.promised),
        "ece": result.ece,
        "corrected_ece": {name: asdict(estimate) for name, estimate in result.corrected_ece.items()},
        "served": asdict(result.served),
        "curves": {name: _thinned(curve) for name, curve in result.curves.items()},
        "cascade_model": result.document.to_dict(),
    }
    plain: dict[str, Any] = _plain(found)
    return plain


def _curve(result: Offload) -> Section:
    caption = (
        f"Accuracy against the share of inputs sent. Lines: both models' saved outputs on the {result.n} test inputs, "
        "merged as the file says. Round point: the cascade as it was served, deadline misses and failures included."
    )
    every = (
        f"n = {result.n} for every row. The lead is paired: the same inputs under both strategies, in points; an "
        "interval that holds 0 means that these inputs do not show a difference. Rows at the same rate send as many "
        "inputs as the cascade did; which rate that is, only the plan tells beforehand. `plan, merge ...` is the "
        "file's own decision on the saved outputs with each merge rule, nothing late or lost. Raw confidence is "
        "uncalibrated."
    )
    area = (
        "Area between the curve and random offloading's, as a share of the oracle's, over all offload rates; intervals "
        "by bootstrap, the lead on the same resamples. Each merge rule lies between its own random line and oracle, so "
        "their rows tell how well the order suits the rule, not which rule is right more often, and have no lead."
    )
    return Section(
        "Accuracy against offload rate",
        figures=(Figure("offload-curve", offload_svg(result), caption),),
        tables=(_table(table_rows(result), every), _table(area_rows(result), area)),
    )


def _savings(result: Offload) -> Section:
    note = (
        "Bytes of requests and replies in the served run, headers and retries included, before TLS. Asking always is "
        "the mean of a forwarded input times all inputs: those kept may be larger or smaller. "
        f"The intervals of shares and costs are the offload rate's, n = {result.n}."
    )
    return Section("What it saves", tables=(_table(savings_rows(result), note),))


def _promise(result: Offload) -> Section:
    promised = result.promised
    if promised.loss is None:
        text = "The file has no certificate: its figures are estimates from the calibration inputs, not a promise."
    else:
        text = (
            f"The file certifies, from {promised.certified_on} inputs, that its decisions lose at most "
            f"{promised.loss * 100:.1f} points of accuracy against asking the remote always, but for a risk of "
            f"{promised.risk:.4g}. It holds for inputs drawn like those of the calibration."
        )
    served = promised.served
    note = (
        f"Of the file's decisions on the saved outputs, n = {result.n}, as a certificate is about decisions. As "
        f"served, the loss is {served.value * 100:+.1f} points ({served.low * 100:+.1f} to {served.high * 100:+.1f}), "
        "late and lost replies included. Kept: the whole interval is within the bound; broken: all of it is beyond. "
        "The change allows for the noise of both sets of inputs, and of the accuracy for the choice of the threshold."
    )
    return Section("What was promised, and what happened", (text,), tables=(_table(plan_rows(result), note),))


def _latency(result: Offload) -> Section:
    served = result.served
    reasons = ", ".join(f"{count} {reason}" for reason, count in served.reasons.items() if count)
    text = [f"Answers by reason: {reasons}; they add up to {sum(served.reasons.values())}."]
    if served.disagreed:
        text.append(
            f"On {served.disagreed} of the forwarded inputs the remote gave another label than when it was asked about "
            "all of them: it is not the same model any more, or it does not always say the same."
        )
    if served.sittings > 1:
        text.append(
            f"The run was interrupted and went on where it stopped: its latencies are those of {served.sittings} "
            "processes, one after the other, each after a warm-up of its own."
        )
    note = (
        "Milliseconds from the call of `predict` to its answer, one input at a time, after a warm-up, with 95 % "
        f"intervals; the deadline was {served.deadline * 1e3:.0f} ms. The remote is asked where it is: what the "
        "network there is like, these figures do not tell."
    )
    return Section("Latency as served", tuple(text), tables=(_table(latency_rows(result), note),))


def _reliability(result: Offload) -> Section:
    document = result.document.to_dict()
    local, remote = document["calibration"], document["remote"]
    caption = (
        "Reliability on the test inputs, 15 equal-width bins (bars: share of inputs; dots: accuracy; dotted: "
        "calibrated), before (T = 1) and after temperature scaling: local "
        f"T = {local['temperature']:.3f}, remote T = {remote['temperature']:.3f}, fitted on {local['n']} other inputs; "
        f"n = {result.n}. ECE is never 0 on finite data, even for perfect confidences; the corrected value is less "
        "that bias, with a 95 % interval."
    )
    return Section(
        "Can the confidences be believed?", figures=(Figure("reliability", reliability_svg(result), caption),)
    )


def _table(rows: list[Row], note: str) -> Table:
    return Table(rows[0], tuple(rows[1:]), note)


def _thinned(curve: OffloadCurve) -> dict[str, list[float]]:
    """At most 101 of the curve's own points, so that the file stays small."""
    index = np.unique(np.linspace(0, len(curve.rate) - 1, _CURVE_POINTS).round().astype(int))
    return {"rate": curve.rate[index].round(6).tolist(), "accuracy": curve.accuracy[index].round(6).tolist()}


def _plain(value: Any) -> Any:
    """Lists, dicts and plain numbers; a whole estimate without a value is None."""
    if isinstance(value, dict):
        if "low" in value and isinstance(value.get("value"), float) and math.isnan(value["value"]):
            return None
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value.item() if isinstance(value, np.generic) else value


def policy_text(result: Offload) -> str:
    """The plan in the file, in a sentence."""
    policy = result.document.to_dict()["policy"]
    return (
        f"Policy: forward where the advantage is below {policy['threshold']:+.4f}; advantage from {policy['estimate']} "
        f"in {policy['bins']} equal-count bins of the {policy['score']} (Hao et al., arXiv 2601.07965); merge: "
        f"{policy['merge']}; planned for {policy['objective']}."
    )
