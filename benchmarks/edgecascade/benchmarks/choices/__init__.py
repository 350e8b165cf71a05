"""Multiple-choice questions in the form of MMLU: what an endpoint or a cascade file answers, by subject.

Read `measure.py` first.
"""

from edgecascade.benchmarks.choices.measure import Choices, SubjectResult, measure_choices
from edgecascade.benchmarks.choices.questions import Question, read_questions, write_questions
from edgecascade.benchmarks.choices.report import choices_report, choices_summary

__all__ = [
    "Choices",
    "Question",
    "SubjectResult",
    "choices_report",
    "choices_summary",
    "measure_choices",
    "read_questions",
    "write_questions",
]
