"""Calibration and planning: arrays in, numbers out.

The plan of a cascade with its advantage table, operating curve and certificate; here too the names most used of the
rooms `metrics` (calibration error, AUROC, risk-coverage) and `scaling` (temperature, Platt, isotonic). Nothing here
knows a model file or a network. Read `plan.py` first.
"""

from edgecascade.types.extras import naming_extras

with naming_extras():
    from edgecascade.calibration.advantage import (
        AdvantageTable,
        advantage_intervals,
        advantage_table,
        monotone_advantage_table,
        shrunk_advantage_table,
    )
    from edgecascade.calibration.certificate import certify, certify_order, sample_size
    from edgecascade.calibration.confidence import ConfidenceFunction, Verifier, mean_log_probability, relate
    from edgecascade.calibration.cross_fit import ESTIMATES, estimate_advantage
    from edgecascade.calibration.decision import LEARNED, SCORES, Decision, DecisionRule, decide, routing_score
    from edgecascade.calibration.intervals import (
        accuracy_interval,
        mean,
        paired_difference_interval,
        proportion,
        proportion_interval,
        quantile,
        simultaneous_band,
    )
    from edgecascade.calibration.learned_score import LearnedScore, fit_learned_score
    from edgecascade.calibration.metrics import (
        Reliability,
        calibration_error,
        evaluate,
        evaluate_scores,
        expected_calibration_error,
        reliability,
    )
    from edgecascade.calibration.objective import (
        CertifiedLoss,
        LeastCost,
        LeastOffload,
        MostAccuracy,
        Objective,
        WhileItHelps,
    )
    from edgecascade.calibration.operating_curve import operating_curve, operating_points
    from edgecascade.calibration.outcomes import Answers, Groups, Outcomes, Pair
    from edgecascade.calibration.plan import (
        CascadePlan,
        Plan,
        choose_routing,
        plan,
        plan_cascade,
        plan_certified,
    )
    from edgecascade.calibration.scaling import (
        CALIBRATORS,
        SCORE_CALIBRATORS,
        ScoreCalibrator,
        TemperatureScaling,
        calibrate_confidence,
        calibrate_score,
        calibrate_temperature,
        choose_calibrator,
        fit_isotonic,
        fit_platt,
        fit_temperature,
        fit_temperature_and_noise,
        negative_log_likelihood,
    )
    from edgecascade.calibration.task import TaskDecision, TaskPlan, TaskRule, decide_task, plan_task
    from edgecascade.calibration.weights import class_weights, effective_size
    from edgecascade.types.confidence_map import ConfidenceMap
    from edgecascade.types.costs import ErrorCosts
    from edgecascade.types.document import (
        Calibration,
        Certificate,
        Confusion,
        LabelNoise,
        PolicyRecord,
        Routing,
        ScoreCalibration,
    )
    from edgecascade.types.errors import CalibrationError
    from edgecascade.types.estimate import Estimate, OperatingPoint, Point
    from edgecascade.types.merge import MERGES, merged_labels
    from edgecascade.types.platt import Platt
    from edgecascade.types.softmax import are_probabilities, softmax

__all__ = [
    "CALIBRATORS",
    "ESTIMATES",
    "LEARNED",
    "MERGES",
    "SCORES",
    "SCORE_CALIBRATORS",
    "AdvantageTable",
    "Answers",
    "Calibration",
    "CalibrationError",
    "CascadePlan",
    "Certificate",
    "CertifiedLoss",
    "ConfidenceFunction",
    "ConfidenceMap",
    "Confusion",
    "Decision",
    "DecisionRule",
    "ErrorCosts",
    "Estimate",
    "Groups",
    "LabelNoise",
    "LearnedScore",
    "LeastCost",
    "LeastOffload",
    "MostAccuracy",
    "Objective",
    "OperatingPoint",
    "Outcomes",
    "Pair",
    "Plan",
    "Platt",
    "Point",
    "PolicyRecord",
    "Reliability",
    "Routing",
    "ScoreCalibration",
    "ScoreCalibrator",
    "TaskDecision",
    "TaskPlan",
    "TaskRule",
    "TemperatureScaling",
    "Verifier",
    "WhileItHelps",
    "accuracy_interval",
    "advantage_intervals",
    "advantage_table",
    "are_probabilities",
    "calibrate_confidence",
    "calibrate_score",
    "calibrate_temperature",
    "calibration_error",
    "certify",
    "certify_order",
    "choose_calibrator",
    "choose_routing",
    "class_weights",
    "decide",
    "decide_task",
    "effective_size",
    "estimate_advantage",
    "evaluate",
    "evaluate_scores",
    "expected_calibration_error",
    "fit_isotonic",
    "fit_learned_score",
    "fit_platt",
    "fit_temperature",
    "fit_temperature_and_noise",
    "mean",
    "mean_log_probability",
    "merged_labels",
    "monotone_advantage_table",
    "negative_log_likelihood",
    "operating_curve",
    "operating_points",
    "paired_difference_interval",
    "plan",
    "plan_cascade",
    "plan_certified",
    "plan_task",
    "proportion",
    "proportion_interval",
    "quantile",
    "relate",
    "reliability",
    "routing_score",
    "sample_size",
    "shrunk_advantage_table",
    "simultaneous_band",
    "softmax",
]
