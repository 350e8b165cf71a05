"""Metrics of probabilities and confidences, with their 95 % intervals."""

from edgecascade.calibration.metrics.evaluation import brier_score, evaluate, evaluate_scores
from edgecascade.calibration.metrics.ranking import (
    RiskCoverage,
    auroc,
    auroc_interval,
    risk_coverage,
    risk_coverage_area,
)
from edgecascade.calibration.metrics.reliability import (
    Reliability,
    calibration_error,
    calibration_error_interval,
    expected_calibration_error,
    reliability,
)

__all__ = [
    "Reliability",
    "RiskCoverage",
    "auroc",
    "auroc_interval",
    "brier_score",
    "calibration_error",
    "calibration_error_interval",
    "evaluate",
    "evaluate_scores",
    "expected_calibration_error",
    "reliability",
    "risk_coverage",
    "risk_coverage_area",
]
