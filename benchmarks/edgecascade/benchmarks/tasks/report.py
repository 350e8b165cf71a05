"""The result as tables, sentences, the sections of a page, and the values of `result.json`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from edgecascade.benchmarks.offload.tables import (
    area_rows,
    latency_rows,
    order_findings,
    plan_findings,
    plan_rows,
    savings_rows,
    strategy_rows,
    table,
    text_table,
)
from edgecascade.benchmarks.report.contents import Report, Section, fixed, percent
from edgecascade.benchmarks.tasks.measure import TaskOffload
from edgecascade.benchmarks.tasks.pictures import reliability_figure, value_figure
from edgecascade.types.document import ChatDocument, TaskDocument

__all__ = ["task_document", "task_findings", "task_report", "task_summary"]

_MEASURE = "mean value"


def task_report(result: TaskOffload, *, title: str, method: str, command: str) -> Report:
    """Return everything that is written about a result.

    Args:
        result: The measurement.
        title: The title of the page.
        method: What was measured; the policy of the file is added.
        command: The command that repeats the run.
    """
    policy, (verifier, score) = result.document.policy, _judged(result.document)
    planned = (
        f"Values by {verifier}, in [0, 1]; 1 is right. Policy: forward where the advantage is below "
        f"{policy.threshold:+.4f}; advantage from {policy.estimate} in {policy.bins} equal-count bins of the score "
        f"by {score} (Hao et al., arXiv 2601.07965); planned for {policy.objective}."
    )
    found = {"offload": task_document(result)}
    return Report(title, task_findings(result), tuple(_sections(result)), (method, planned), command, found)


def _judged(document: TaskDocument | ChatDocument) -> tuple[str, str]:
    """Return what judges answers, and what scores them."""
    if isinstance(document, TaskDocument):
        return document.task.verifier, document.task.confidence
    return document.judge, f"the {document.score.kind} log-probability of the reply's tokens"


def task_document(result: TaskOffload) -> dict[str, Any]:
    """Return every figure, in which an accuracy is a mean value; the curves are left out, as the page draws them."""
    given = result.document
    whole = given.to_dict() if isinstance(given, TaskDocument) else json.loads(given.to_json())
    document = {name: value for name, value in whole.items() if name != "operating_curve"}
    served = {} if result.served is None else {"savings": result.savings, "served": result.served}
    return {
        "n": result.n,
        "strategies": result.strategies,
        "points": result.points,
        "areas": result.areas,
        "plan_check": result.plan_check,
        "ece": {"local": result.ece},
        "corrected_ece": {"local": result.corrected_ece},
        **served,
        "cascade_model": document,
    }


def task_summary(result: TaskOffload) -> str:
    """Return the tables and the findings as plain text."""
    tables = [strategy_rows(result.strategies, _MEASURE), strategy_rows(result.points, _MEASURE)]
    tables += [area_rows(result.areas), plan_rows(result.plan_check)]
    if result.served is not None and result.savings is not None:
        tables += [savings_rows(result.savings, result.served, result.n), latency_rows(result.served)]
    return "\n\n".join((*map(text_table, tables), "\n".join(task_findings(result))))


def task_findings(result: TaskOffload) -> tuple[str, ...]:
    """Return the mean values, the calibration error, what became of the plan, and the value of the order."""
    local, remote, cascade = result.local, result.remote, result.cascade
    return (
        *([f"Warning: {result.warning}."] if result.warning else []),
        f"Alone, the local model's answers have a mean value of {local.accuracy.percent()} on {result.n} inputs, the "
        f"remote's {remote.accuracy.percent()}.",
        f"Forwarding {percent(cascade.offload.value)} of them gives {cascade.accuracy.percent()}{_gap_closed(result)}.",
        f"The expected calibration error of the confidence is {result.ece:.3f}; less the bias of finite data, "
        f"{fixed(result.corrected_ece, 3)}.",
        *plan_findings(result.plan_check),
        *order_findings(result.areas),
    )


def _gap_closed(result: TaskOffload) -> str:
    gap = result.remote.accuracy.value - result.local.accuracy.value
    won = result.cascade.accuracy.value - result.local.accuracy.value
    if gap <= 0:
        return ", although the remote is no better than the local model on these inputs"
    if won > gap:
        lead = result.remote.gap
        more = lead is not None and lead.low > 0
        return ", more than either model alone" if more else ", as good as the remote alone within the noise"
    return f": {percent(won / gap, 0)} of the gap, for {percent(result.cascade.offload.value, 0)} of the requests"


def _sections(result: TaskOffload) -> Iterator[Section]:
    note = (
        f"n = {result.n} for every row, in brackets 95 % intervals. The lead is paired, on the same inputs, in points. "
        "Rows at the same rate forward as many inputs as the cascade did."
    )
    curve = "Forwarding the share of inputs with the lowest advantage; the 95 % intervals are for each rate alone."
    area = (
        "Area between the curve and that of random offloading as a share of the oracle's, over all offload rates; 95 % "
        "intervals by bootstrap, the lead on the same resamples."
    )
    yield Section(
        "Mean value against offload rate",
        figures=(value_figure(result),),
        tables=(
            table(strategy_rows(result.strategies, _MEASURE), note),
            table(strategy_rows(result.points, _MEASURE), curve, "Mean values at every rate"),
            table(area_rows(result.areas), area, "Areas under the curves"),
        ),
    )
    served, check = result.served, "The change allows for the noise of both sets of inputs."
    if served is not None and result.savings is not None:
        note = "Bytes of requests and replies in the served run, headers and retries included, before TLS."
        yield Section("What it saves", tables=(table(savings_rows(result.savings, served, result.n), note),))
    yield Section("The plan, and what happened", tables=(table(plan_rows(result.plan_check), check),))
    if served is not None:
        reasons = ", ".join(f"{count} {reason}" for reason, count in served.reasons.items() if count)
        reasons += f". The last failure: {served.failure}" if served.failure else ""
        note = (
            "Milliseconds from the call of `predict` to its answer, decoding included, one input at a time, after a "
            f"warm-up; the deadline was {served.deadline * 1e3:.0f} ms."
        )
        yield Section(
            "Latency as served", (f"Answers by reason: {reasons}.",), tables=(table(latency_rows(served), note),)
        )
    yield Section("Is the confidence reliable?", figures=(reliability_figure(result),))
