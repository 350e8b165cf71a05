"""Accuracy against offload rate: what a cascade model saves and costs on labelled inputs.

Read `measure.py` first.
"""

from edgecascade.benchmarks.offload.curves import Area, OffloadCurve, Rule, areas, normalised_area, offload_curve
from edgecascade.benchmarks.offload.measure import Offload, check_test_data, measure_offload
from edgecascade.benchmarks.offload.plan_check import PlanCheck, Planned, check_plan
from edgecascade.benchmarks.offload.predictions import Predictions, labelled_as, predict_all
from edgecascade.benchmarks.offload.remote_scores import RemoteLike, ask, complete_scores, stored_scores
from edgecascade.benchmarks.offload.report import (
    offload_document,
    offload_findings,
    offload_sections,
    offload_summary,
    policy_text,
)
from edgecascade.benchmarks.offload.served import Latency, Served, run_served, stored_answers
from edgecascade.benchmarks.offload.strategies import Prices, Savings, Strategy, lowest, savings, strategies

__all__ = [
    "Area",
    "Latency",
    "Offload",
    "OffloadCurve",
    "PlanCheck",
    "Planned",
    "Predictions",
    "Prices",
    "RemoteLike",
    "Rule",
    "Savings",
    "Served",
    "Strategy",
    "areas",
    "ask",
    "check_plan",
    "check_test_data",
    "complete_scores",
    "labelled_as",
    "lowest",
    "measure_offload",
    "normalised_area",
    "offload_curve",
    "offload_document",
    "offload_findings",
    "offload_sections",
    "offload_summary",
    "policy_text",
    "predict_all",
    "run_served",
    "savings",
    "stored_answers",
    "stored_scores",
    "strategies",
]
