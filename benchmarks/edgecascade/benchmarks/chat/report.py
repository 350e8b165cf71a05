"""The comparison as tables, sentences, and sections that the report of the cascade gets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from edgecascade.benchmarks.chat.measure import PLAN, RATES, ChatComparison, Goal, RuleResult
from edgecascade.benchmarks.chat.rivals import RAW, ROUTER
from edgecascade.benchmarks.offload.curves import Area
from edgecascade.benchmarks.offload.tables import Row, table, text_table
from edgecascade.benchmarks.report.contents import Report, Section, fixed, percent
from edgecascade.benchmarks.tasks import task_report, task_summary

__all__ = ["chat_document", "chat_report", "chat_summary"]

_LABELS = {PLAN: "edgecascade (the plan)"}
_RULE_NOTE = (
    "All rows choose among the same replies. At each rate, the share of prompts with the lowest score is forwarded; "
    "mean values in %, in brackets 95 % intervals. Area: between random (0) and the oracle (1) over all rates. A "
    "monotone map of a score changes no order, so a cascade that is scored by log-probabilities cannot beat the order "
    "of that score: what it adds is a threshold, a confidence that can be believed, and evidence. No rival's own "
    "threshold is used."
)


def chat_report(result: ChatComparison, *, title: str, method: str, command: str) -> Report:
    """Return everything that is written about a comparison; arguments as of `task_report`."""
    report = task_report(result.offload, title=title, method=method, command=command)
    return replace(
        report,
        findings=(*report.findings, *_findings(result)),
        sections=(*_sections(result), *report.sections),
        found={**report.found, "chat": chat_document(result)},
    )


def chat_document(result: ChatComparison) -> dict[str, Any]:
    """Return every figure of the comparison; those of the cascade alone are in `offload`."""
    return {
        "n": len(result.rows),
        "left_out": result.rows.left_out,
        "honest_gap": result.honest_gap,
        "rules": {one.name: one for one in result.rules},
        "subjects": {one.name: one for one in result.subjects},
        "draws": result.draws,
        "goals": result.goals,
    }


def chat_summary(result: ChatComparison) -> str:
    """Return the tables and the findings as plain text."""
    tables = [_rule_rows(result), _ece_rows(result)]
    tables += [_subject_rows(result)] if result.subjects else []
    tables += [_goal_rows(result)]
    found = [*map(text_table, tables), task_summary(result.offload), "\n".join(_findings(result))]
    return "\n\n".join(filter(None, found))


def _sections(result: ChatComparison) -> Iterator[Section]:
    yield Section("The same replies, other ways to choose", tables=(table(_rule_rows(result), _RULE_NOTE),))
    note = (
        "How far each number is from the share of right local replies, less the bias of finite data; 95 % intervals. "
        "Those of the router are about the remote and are left out."
    )
    yield Section("Whose confidence can be believed?", tables=(table(_ece_rows(result), note),))
    if result.subjects:
        note = "Mean values in %; the gap is paired, in points. Areas as above, within the subject."
        yield Section("By subject", tables=(table(_subject_rows(result), note),))
    note = "Not applicable: the raw confidence is better than the aim supposes."
    text = () if result.draws is None else (_drawn(result),)
    yield Section("Aims", text, tables=(table(_goal_rows(result), note),))


def _rule_rows(result: ChatComparison) -> list[Row]:
    rows: list[Row] = [("order of forwarding", *(f"at {percent(rate, 0)} (95 %)" for rate in RATES), "area (95 %)")]
    local, remote = result.offload.local, result.offload.remote
    rows.append(("local only", *([local.accuracy.percent()] * len(RATES)), ""))
    rows.append(("remote only", *([remote.accuracy.percent()] * len(RATES)), ""))
    return rows + [
        (_label(one.name), *(at.accuracy.percent() for at in one.points), _area(one)) for one in result.rules
    ]


def _area(one: RuleResult) -> str:
    if one.name in ("random", "oracle"):
        return "0" if one.name == "random" else "1"
    return _area_text(one.area)


def _area_text(area: Area | None) -> str:
    return "none: forwarding changes nothing, or all alike" if area is None else fixed(area.area, 2)


def _ece_rows(result: ChatComparison) -> list[Row]:
    rows: list[Row] = [("confidence that the local reply is right", "ECE (95 %)")]
    for one in result.rules:
        if one.ece is not None:
            name = (
                "calibrated, from the file"
                if one.name == PLAN
                else f"{_label(one.name)}" + ", as a probability" * (one.name == RAW)
            )
            rows.append((name, fixed(one.ece, 3)))
    return rows


def _subject_rows(result: ChatComparison) -> list[Row]:
    shown = {name: title for name, title in ((PLAN, "plan"), (ROUTER, ROUTER)) if name in result.subjects[0].areas}
    head = ("subject", "n", "local (95 %)", "remote (95 %)", "gap, points")
    rows: list[Row] = [(*head, *(f"area: {title}" for title in shown.values()))]
    for one in result.subjects:
        areas = [_area_text(one.areas.get(name)) for name in shown]
        gap = fixed(one.gap, 1, 100, signed=True)
        rows.append((one.name, str(one.local.n), one.local.percent(), one.remote.percent(), gap, *areas))
    return rows


def _goal_rows(result: ChatComparison) -> list[Row]:
    rows: list[Row] = [("aim", "found", "bound", "")]
    return [*rows, *map(_goal_row, result.goals)]


def _goal_row(one: Goal) -> Row:
    value = "not measured" if one.value is None else f"{one.value:.3f}"
    return (one.name, value, f"{one.bound:.2f}", {True: "met", False: "missed", None: "not applicable"}[one.met])


def _findings(result: ChatComparison) -> tuple[str, ...]:
    found = []
    if not result.honest_gap:
        found.append(
            "No honest gap: on these prompts the remote is no better than the local endpoint beyond noise, so no way "
            "to choose between them is worth its cost."
        )
    ours = next(one for one in result.rules if one.name == PLAN)
    if ours.area is not None and ours.area.area.low <= 0:
        found.append("The order of the local log-probabilities is no better than random here, within the noise.")
    better = [one.name for one in result.rules if one.area and one.area.lead and one.area.lead.high < 0]
    if better:
        found.append(f"Better than the plan beyond noise: {', '.join(map(_label, better))}.")
    missed = [one.name for one in result.goals if one.met is False]
    if missed:
        found.append(f"Missed: {'; '.join(missed)}.")
    return tuple(found)


def _drawn(result: ChatComparison) -> str:
    assert result.draws is not None
    one = result.draws
    offload = "" if one.offload is None else f", forwarding {percent(one.offload)} on average"
    return (
        f"In {one.certified.n} draws of {one.n} replies with replacement, {percent(one.certified.value)} had a "
        f"certificate for a loss of at most {one.loss * 100:g} points{offload}; {one.violated.percent()} of the draws "
        f"had one that is false on all replies, where at most {percent(one.risk, 0)} may."
    )


def _label(name: str) -> str:
    return _LABELS.get(name, name)
