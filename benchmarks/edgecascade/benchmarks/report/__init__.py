"""Reports: a self-contained page, the same result for machines, and the comparison of two results.

write_page(Report(title, findings, sections, method, command, {"offload": result}), "report", summary=text)
"""

from edgecascade.benchmarks.report.compare import Change, Comparison, compare_results, comparison_text
from edgecascade.benchmarks.report.contents import (
    STYLE,
    Example,
    Examples,
    Figure,
    Report,
    Section,
    Table,
    digits,
    fixed,
    interval,
    percent,
    svg_of,
)
from edgecascade.benchmarks.report.estimates import difference
from edgecascade.benchmarks.report.page import write_page, write_study
from edgecascade.benchmarks.report.result import HIGHER, LOWER, SCHEMA, plain, read_result, result_document

__all__ = [
    "HIGHER",
    "LOWER",
    "SCHEMA",
    "STYLE",
    "Change",
    "Comparison",
    "Example",
    "Examples",
    "Figure",
    "Report",
    "Section",
    "Table",
    "compare_results",
    "comparison_text",
    "difference",
    "digits",
    "fixed",
    "interval",
    "percent",
    "plain",
    "read_result",
    "result_document",
    "svg_of",
    "write_page",
    "write_study",
]
