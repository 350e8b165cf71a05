"""Accuracy against offload rate: what a cascade model saves and costs on labelled inputs.

Read `measure.py` first; the names of the other modules say what they hold.
"""

from edgecascade.benchmarks.offload.measure import Offload, check_test_data, measure_offload
from edgecascade.benchmarks.offload.report import offload_report, offload_summary
from edgecascade.benchmarks.offload.strategies import Prices

__all__ = ["Offload", "Prices", "check_test_data", "measure_offload", "offload_report", "offload_summary"]
