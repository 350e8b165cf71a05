"""The result as tables, sentences, and the sections of a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from edgecascade.benchmarks.cleaning.cells import LEARNED_FROM, Cell
from edgecascade.benchmarks.cleaning.goals import mean_of, one_ranking
from edgecascade.benchmarks.cleaning.run import Cleaning
from edgecascade.benchmarks.report.contents import Report, Section, Table, digits, fixed
from edgecascade.types.estimate import Estimate

__all__ = ["METHOD", "cleaning_report", "cleaning_summary"]

Row = tuple[str, ...]

METHOD = (
    "Wrong labels are planted, so it is known which they are. `symmetric`: any row, any other class; `pair`: any row, "
    "the next class; `instance`: rows that a model which is no expert finds hard, and the class that it confuses them "
    "with. The experts learn from the labels with the wrong ones among them, and judge rows that they did not learn "
    "from (four folds); lingua and the bag of tokens were trained on other rows. edgecascade and cleanlab get the same "
    "outputs and the same labels. The weights of the pool are fitted on the judged rows themselves.",
    "cleanlab's best ranking is the best of more than thirty, chosen cell by cell with knowledge of the truth: its "
    "three scores, of each expert, of the mean of their probabilities and of its ensembles, with probabilities as they "
    "are and after temperature scaling. Its best mask is chosen by F1 in the same way. Without planted labels, this "
    "choice is impossible, and it flatters most where few labels are wrong. The usual ranking is "
    "`get_label_quality_ensemble_scores` with its defaults.",
    "Labels of these data sets that were wrong before count as right. They are few in the images, and more in the "
    "languages (some lines are in another language), which lowers every precision.",
    "Intervals (95 %) of detection come from a bootstrap over rows within each run, those of accuracies from the test "
    "rows. All runs share the same images or snippets.",
    "Accuracy after cleaning is measured on test rows with clean labels that took no part in cleaning. On the cleaned "
    "rows themselves it would say nothing, as dropping what experts dispute always raises it.",
)


def cleaning_summary(result: Cleaning) -> str:
    """Return the goals and the tables as plain text."""
    cells = result.cells
    tables = (_goal_rows(result), _order_rows(cells), _mask_rows(cells), _learned_rows(cells), _cost_rows(result))
    return "\n\n".join((*(_text(rows) for rows in tables if len(rows) > 1), "\n".join(_findings(result))))


def cleaning_report(result: Cleaning, command: str) -> Report:
    """Return everything that is written about a result."""
    return Report(
        "Finding planted wrong labels, beside cleanlab",
        _findings(result),
        _sections(result),
        METHOD,
        command,
        {"cleaning": result},
    )


def _findings(result: Cleaning) -> tuple[str, ...]:
    cells = result.cells
    ours, best, lead = (mean_of([of(cell) for cell in cells]) for of in (_ours, _cleanlab, _lead))
    usual = mean_of([cell.found.usual for cell in cells])
    ranking, alone = one_ranking(cells)
    pool, paper = (mean_of([of(cell) for cell in cells]) for of in (_pool, _paper))
    return (
        f"Mean average precision over {len(cells)} cells: ours {ours.value:.3f}; cleanlab's best ranking of each cell, "
        f"chosen in hindsight, {best.value:.3f}; ours minus that {fixed(lead, 3, signed=True)}.",
        f"cleanlab's best single ranking ({ranking}): {alone:.3f}; its default for several models: {usual.value:.3f}. "
        f"The pool alone: {pool.value:.3f}; the paper's rule: {paper.value:.3f}.",
        *(
            f"In {cell.name}, CROWDLAB has {fixed(cell.found.crowd[0], 3)}, ours {fixed(cell.found.crowd[1], 3)}."
            for cell in cells
            if cell.found.crowd
        ),
        f"{sum(one.met for one in result.goals)} of {len(result.goals)} goals are met.",
    )


def _sections(result: Cleaning) -> tuple[Section, ...]:
    note = "The figure itself is to meet the goal, not an end of its interval."
    parts = [Section("Goals", tables=(_table(_goal_rows(result), note),))]
    for title, rows, note in (
        ("Ordering labels", _order_rows(result.cells), "Average precision (95 %). Best: in hindsight."),
        (
            "Calling labels wrong",
            _mask_rows(result.cells),
            "Mask: cleanlab's best by F1, in hindsight. Cut: ours by default.",
        ),
        (
            "Learning from cleaned labels",
            _learned_rows(result.cells),
            "Accuracy on clean test labels, %, mean over runs.",
        ),
        ("Costs", _cost_rows(result), "Medians of processes with one thread."),
    ):
        if len(rows) > 1:
            parts.append(Section(title, tables=(_table(rows, note),)))
    return tuple(parts)


def _goal_rows(result: Cleaning) -> list[Row]:
    rows: list[Row] = [("goal", "wanted", "measured (95 %)", "outcome", "of")]
    return [*rows, *((one.name, one.wanted, fixed(one.figure, 3), one.outcome, one.of) for one in result.goals)]


def _order_rows(cells: Sequence[Cell]) -> list[Row]:
    rows: list[Row] = [
        ("average precision", "ours", "pool", "paper", "cl. usual", "cl. best", "ours - best", "weak added")
    ]
    for cell in cells:
        found = cell.found
        shares = (found.ours, found.pool, found.paper, found.usual, found.cleanlab)
        lead, weak = fixed(found.lead, 3, signed=True), f"{found.weak.value:+.3f}"
        rows.append((cell.name, *(f"{one.value:.3f}" for one in shares), lead, weak))
    return rows


def _mask_rows(cells: Sequence[Cell]) -> list[Row]:
    rows: list[Row] = [("precision", "mask, recall", "mask", "ours, same recall", "times", "cut, recall", "cut")]
    for cell in cells:
        found = cell.found
        shares = (found.mask_recall, found.mask_precision, found.at_recall)
        cut = (f"{found.cut_recall.value:.2f}", f"{found.cut_precision.value:.2f}")
        rows.append((cell.name, *(f"{one.value:.2f}" for one in shares), fixed(found.times, 2), *cut))
    return rows


def _learned_rows(cells: Sequence[Cell]) -> list[Row]:
    rows: list[Row] = [("accuracy after", *LEARNED_FROM, "dropped, ours - cl.", "corrected, ours - cl.")]
    for cell in (one for one in cells if one.learned):
        gains = (fixed(cell.gained[what], 1, 100, signed=True) for what in ("dropped", "corrected"))
        rows.append((cell.name, *(f"{100 * cell.learned[name].value:.1f}" for name in LEARNED_FROM), *gains))
    return rows


def _cost_rows(result: Cleaning) -> list[Row]:
    rows: list[Row] = [("costs", "measured (95 %)")]
    if (costs := result.costs) is None:
        return rows
    shape = f"{costs.rows:,} x {costs.classes:,}"
    rows += [
        (f"CPU time, {one.name}, {shape}", f"{one.ours:.3g} s, {one.theirs:.3g} s: {_spread(one)}")
        for one in costs.ratios
    ]
    rows += [(f"MiB beyond the data, {name}", _interval(found)) for name, found in costs.memory.items()]
    rows += [
        ("fitting the weights, 10,000 rows, CPU s", _interval(costs.fit)),
        ("the same on the clock, s", _interval(costs.fit_wall)),
    ]
    rows += [
        (
            f"CPU s, {one.rows:,} rows",
            _interval(one.seconds) + (f"; MiB: {_interval(one.memory)}" if one.memory else ""),
        )
        for one in costs.growth
    ]
    rows.append((f"CPU s, {costs.largest:,} rows, by a line through the above", digits(costs.extrapolated)))
    return rows


def _spread(one: object) -> str:
    value, low, high = (getattr(one, name) for name in ("value", "low", "high"))
    return f"{value:.2f} ({low:.2f} to {high:.2f}) times"


def _interval(found: Estimate) -> str:
    return " ".join((digits(found.value), f"({digits(found.low)} to {digits(found.high)})"))


def _table(rows: list[Row], note: str) -> Table:
    return Table(rows[0], tuple(rows[1:]), note)


def _text(rows: Iterable[Row]) -> str:
    rows = list(rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _of(name: str) -> Callable[[Cell], Estimate]:
    def of(cell: Cell) -> Estimate:
        found: Estimate = getattr(cell.found, name)
        return found

    return of


_ours, _cleanlab, _lead, _pool, _paper = (_of(name) for name in ("ours", "cleanlab", "lead", "pool", "paper"))
