"""Mean value against offload rate: what the cascade of a general task saves and costs on inputs with references.

Read `measure.py` first.
"""

from edgecascade.benchmarks.tasks.measure import TaskOffload, TaskValues, measure_values
from edgecascade.benchmarks.tasks.report import task_report, task_summary

__all__ = ["TaskOffload", "TaskValues", "measure_values", "task_report", "task_summary"]
