"""The result of multiple-choice questions as tables, sentences and a page."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from edgecascade.benchmarks.choices.measure import Choices, SubjectResult
from edgecascade.benchmarks.offload.pictures import TEXT, draw_reliability
from edgecascade.benchmarks.offload.tables import Row, table, text_table
from edgecascade.benchmarks.report.contents import Figure, Report, Section, fixed, percent, svg_of

__all__ = ["choices_document", "choices_report", "choices_summary"]

_ROWS = ("confidence", "correct")  # arrays, which the page draws
_SUBJECT_NOTE = (
    "In brackets 95 % intervals. Chance: the expected share of right answers if choices were drawn at random. Unread: "
    "replies that name no choice, which count as wrong."
)


def choices_report(result: Choices, *, title: str, method: str, command: str) -> Report:
    """Return everything that is written about a result.

    Args:
        result: The measurement.
        title: The title of the page.
        method: What was measured.
        command: The command that repeats the run.
    """
    accuracy = Section("Accuracy by subject", tables=(table(_subject_rows(result), _SUBJECT_NOTE),))
    sections = (accuracy, *([_reliability(result)] if len(result.confidence) else []))
    return Report(title, _findings(result), sections, (method,), command, {"choices": choices_document(result)})


def choices_document(result: Choices) -> dict[str, Any]:
    """Return every figure; the rows behind them are left out."""
    return {one.name: getattr(result, one.name) for one in fields(result) if one.name not in _ROWS}


def choices_summary(result: Choices) -> str:
    """Return the table and the findings as plain text."""
    return "\n\n".join([text_table(_subject_rows(result)), "\n".join(_findings(result))])


def _subject_rows(result: Choices) -> list[Row]:
    rows: list[Row] = [("subject", "n", "accuracy (95 %)", "chance", "unread")]
    every = (*result.subjects, result.overall) if len(result.subjects) > 1 else (result.overall,)
    return [*rows, *map(_row, every)]


def _row(one: SubjectResult) -> Row:
    return (one.subject, str(one.accuracy.n), one.accuracy.percent(), percent(one.chance), str(one.unread))


def _findings(result: Choices) -> tuple[str, ...]:
    overall, several = result.overall, len(result.subjects) > 1
    found = [
        f"{overall.accuracy.percent()} of {overall.accuracy.n} questions are answered right, where chance gives "
        f"{percent(overall.chance)}."
    ]
    if several:
        found.append(f"The mean of the {len(result.subjects)} subjects is {percent(result.mean_of_subjects)}.")
    if blind := [one.subject for one in result.subjects if not one.above_chance]:
        which = ", ".join(blind) if several else "the questions"
        found.append(f"No better than chance, within the noise: {which}.")
    if overall.unread:
        found.append(f"{overall.unread} replies name no choice.")
    if result.ece is not None and result.corrected_ece is not None:
        found.append(
            f"The expected calibration error of the chosen answer's probability is {result.ece:.3f}; less the bias of "
            f"finite data, {fixed(result.corrected_ece, 3)}."
        )
    if result.auroc is not None:
        found.append(
            f"That probability is higher for a right answer than for a wrong one in {fixed(result.auroc, 0, 100)} % of "
            "pairs."
        )
    return tuple(found)


def _reliability(result: Choices) -> Section:
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    with mpl.rc_context(TEXT):
        figure = Canvas(figsize=(4.2, 3.4))
        axes = figure.add_subplot()
        draw_reliability(axes, result.confidence.astype("float32"), result.correct)
        axes.set_title(f"ECE {result.ece:.3f}", fontsize=9.5)
        svg = svg_of(figure)
    caption = (
        "Reliability of the chosen answer's probability, 15 equal-width bins (bars: share of questions; dots: "
        f"accuracy; dotted: perfect calibration); n = {len(result.confidence)}. Nothing was fitted."
    )
    return Section("Is the probability reliable?", figures=(Figure("reliability", svg, caption),))
