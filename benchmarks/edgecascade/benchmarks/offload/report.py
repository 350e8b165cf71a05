"""The result as tables, sentences, the sections of a page, and the values of `result.json`."""

from __future__ import annotations

from typing import Any

from edgecascade.benchmarks.offload.measure import Offload
from edgecascade.benchmarks.offload.pictures import offload_figure, reliability_figure
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

__all__ = ["offload_document", "offload_findings", "offload_report", "offload_sections", "offload_summary"]


def offload_report(result: Offload, *, title: str, method: str, command: str) -> Report:
    """Return everything that is written about a result.

    Args:
        result: The measurement.
        title: The title of the page.
        method: What was measured; the policy of the file is added.
        command: The command that repeats the run.
    """
    found = {"offload": offload_document(result)}
    method_and_policy = (method, _policy(result))
    return Report(title, offload_findings(result), offload_sections(result), method_and_policy, command, found)


def offload_document(result: Offload) -> dict[str, Any]:
    """Return every figure; the curves and the file's operating curve are left out, as the page draws them."""
    document = {name: value for name, value in result.document.to_dict().items() if name != "operating_curve"}
    return {
        "n": result.n,
        "reused_scores": result.reused,
        "strategies": result.strategies,
        "areas": result.areas,
        "savings": result.savings,
        "plan_check": result.plan_check,
        "ece": result.ece,
        "corrected_ece": result.corrected_ece,
        "served": result.served,
        "cascade_model": document,
    }


def offload_summary(result: Offload) -> str:
    """Return the tables and the findings as plain text; tables have at most 100 columns."""
    every = (
        strategy_rows(result.strategies),
        area_rows(result.areas),
        savings_rows(result.savings, result.served, result.n),
        plan_rows(result.plan_check),
        latency_rows(result.served),
    )
    tables = (text_table(rows) for rows in every if len(rows) > 1)
    return "\n\n".join(
        (
            *tables,
            "\n".join((*order_findings(result.areas), *plan_findings(result.plan_check), *_main_findings(result))),
        )
    )


def offload_findings(result: Offload) -> tuple[str, ...]:
    """Return the main findings, what became of plan and certificate, and the value of the order."""
    return (*_main_findings(result), *plan_findings(result.plan_check), *order_findings(result.areas))


def _main_findings(result: Offload) -> tuple[str, ...]:
    """Return accuracy of both models and the cascade, traffic, and latency: one sentence each."""
    local, remote, cascade = result.local, result.remote, result.cascade
    return (
        f"Alone, the local model is right on {local.accuracy.percent()} of {result.n} inputs, "
        f"the remote on {remote.accuracy.percent()}.",
        f"Forwarding {percent(cascade.offload.value)} of them gives {cascade.accuracy.percent()}{_gap_closed(result)}.",
        _traffic(result),
        _time(result),
        *_reused(result),
    )


def _gap_closed(result: Offload) -> str:
    gap = result.remote.accuracy.value - result.local.accuracy.value
    won = result.cascade.accuracy.value - result.local.accuracy.value
    if gap <= 0:
        return ", although the remote is no better than the local model on these inputs"
    if won > gap:
        lead = result.remote.gap
        if lead is not None and lead.low > 0:
            return ", more than either model alone"
        return ", as good as the remote alone within the noise"
    return f": {percent(won / gap, 0)} of the gap, for {percent(result.cascade.offload.value, 0)} of the requests"


def _traffic(result: Offload) -> str:
    saved = result.savings
    stayed = f"{percent(1 - saved.offload.value)} of the inputs never left the device"
    if result.served.sent is None or saved.always_out is None:
        return f"{stayed}."
    return (
        f"{stayed}: {result.served.sent / 1e6:.2f} MB were sent, where always asking would send "
        f"about {saved.always_out.value / 1e6:.2f} MB."
    )


def _time(result: Offload) -> str:
    latency, allowed = result.served.latency["all"], f"{result.served.deadline * 1e3:.0f} ms"
    failed = [
        f"{count} ({reason})"
        for reason, count in result.served.reasons.items()
        if count and reason not in ("confident", "offloaded")
    ]
    why = f" (the last failure: {result.served.failure})" if result.served.failure else ""
    ending = f"{', '.join(failed)} got the local answer{why}" if failed else f"none missed the deadline of {allowed}"
    return (
        f"Half of the answers took at most {latency.p50.value * 1e3:.3g} ms, 99 % at most "
        f"{latency.p99.value * 1e3:.3g} ms; {ending}."
    )


def _reused(result: Offload) -> tuple[str, ...]:
    if not result.reused:
        return ()
    known = f"The remote's scores for {result.reused} of {result.n} inputs are from an earlier run"
    return (f"{known}; --fresh asks again.", *_disagreed(result))


def _disagreed(result: Offload) -> tuple[str, ...]:
    if not result.served.disagreed:
        return ()
    return (
        f"On {result.served.disagreed} of the forwarded inputs the remote gave another label than when it was asked "
        "about all of them: the model has changed, or its answers vary.",
    )


def offload_sections(result: Offload) -> tuple[Section, ...]:
    """Return curve, examples (if there are any), savings, plan, latency and reliability, in this order."""
    shown = (_examples(result),) if result.examples else ()
    return (_curve(result), *shown, _savings(result), _checked(result), _latency(result), _reliability(result))


def _curve(result: Offload) -> Section:
    strategies = (
        f"n = {result.n} for every row, in brackets 95 % intervals. The lead is paired, on the same inputs, in points. "
        "Rows at the same rate forward as many inputs as the cascade did; only the plan knows that rate beforehand. "
        "`plan, merge ...` is the file's own decision on the saved outputs with each merge rule, nothing late or lost. "
        "Raw confidence is uncalibrated."
    )
    area = (
        "Area between the curve and that of random offloading as a share of the oracle's, over all offload rates; 95 % "
        "intervals by bootstrap, the lead on the same resamples. Each merge rule has its own random line and oracle: "
        "its row shows how well the order suits the rule, not how often the rule is right, and has no lead."
    )
    return Section(
        "Accuracy against offload rate",
        figures=(offload_figure(result),),
        tables=(
            table(strategy_rows(result.strategies), strategies),
            table(area_rows(result.areas), area, "Areas under the curves"),
        ),
    )


def _examples(result: Offload) -> Section:
    text = "By the file's decision on the saved outputs of both models; labels, with calibrated confidences."
    return Section("Which inputs were forwarded", (text,), examples=result.examples)


def _savings(result: Offload) -> Section:
    note = (
        "Bytes of requests and replies in the served run, headers and retries included, before TLS. Always asking is "
        "the mean of a forwarded input times all inputs: local ones may be larger or smaller. The intervals of shares "
        f"and costs are those of the offload rate, n = {result.n}."
    )
    return Section("What it saves", tables=(table(savings_rows(result.savings, result.served, result.n), note),))


def _checked(result: Offload) -> Section:
    check = result.plan_check
    if check.loss is None:
        text = "The file has no certificate: its figures are estimates from the calibration inputs."
    else:
        text = (
            f"The file certifies, from {check.certified_on} inputs, that its decisions lose at most "
            f"{check.loss * 100:.1f} points of accuracy against always asking the remote, with a risk of "
            f"{check.risk:.4g}, for inputs drawn like those of the calibration."
        )
    note = (
        f"The loss is that of the file's decisions on the saved outputs, n = {result.n}. As served, with late and lost "
        f"replies, it is {fixed(check.served, 1, 100, signed=True)} points. Held: the whole interval is within the "
        "certified loss; violated: all of it is beyond. The change allows for the noise of both sets of inputs, and "
        "that of the accuracy also for the choice of the threshold."
    )
    return Section("The plan, and what happened", (text,), tables=(table(plan_rows(result.plan_check), note),))


def _latency(result: Offload) -> Section:
    served = result.served
    reasons = ", ".join(f"{count} {reason}" for reason, count in served.reasons.items() if count)
    text = [f"Answers by reason: {reasons}; in total {sum(served.reasons.values())}."]
    text += _disagreed(result)
    if served.processes > 1:
        text.append(
            f"The run was interrupted and continued: its latencies come from {served.processes} processes, one after "
            "another, each with its own warm-up."
        )
    note = (
        "Milliseconds from the call of `predict` to its answer, one input at a time, after a warm-up, with 95 % "
        f"intervals; the deadline was {served.deadline * 1e3:.0f} ms. The latencies include the network to the remote "
        "as it was, and no other."
    )
    return Section("Latency as served", tuple(text), tables=(table(latency_rows(result.served), note),))


def _reliability(result: Offload) -> Section:
    return Section("Are the confidences reliable?", figures=(reliability_figure(result),))


def _policy(result: Offload) -> str:
    """Return the plan in the file as a sentence."""
    policy = result.document.policy
    return (
        f"Policy: forward where the advantage is below {policy.threshold:+.4f}; advantage from {policy.estimate} "
        f"in {policy.bins} equal-count bins of the {policy.score} (Hao et al., arXiv 2601.07965); merge: "
        f"{policy.merge}; planned for {policy.objective}."
    )
