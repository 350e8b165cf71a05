"""Arrays in, numbers out: temperature, reliability, advantage, plan.

Nothing here knows a model, a file or a network. Read `plan.py` first.
"""

from edgecascade.calibration.advantage import (
    AdvantageTable,
    advantage_intervals,
    advantage_table,
    shrunk_advantage_table,
)
from edgecascade.calibration.cascade_plan import CascadePlan, Promise, plan_cascade
from edgecascade.calibration.certificate import certify
from edgecascade.calibration.chain import ChainPoint, ChainPolicy, Stage, plan_chain
from edgecascade.calibration.confidence import ConfidenceFunction, Judged, Task, Verifier, relate
from edgecascade.calibration.decision import Decision, DecisionRule, decide
from edgecascade.calibration.evaluation import evaluate
from edgecascade.calibration.intervals import (
    Bootstrap,
    bootstrap,
    paired_difference_interval,
    proportion_interval,
    simultaneous_band,
)
from edgecascade.calibration.noninferiority import betting_p_value, exact_p_value, sample_size
from edgecascade.calibration.objective import LeastCost, LeastOffload, MostAccuracy, Objective, WhileItHelps
from edgecascade.calibration.operating_curve import operating_curve
from edgecascade.calibration.outcomes import Outcomes, Pair
from edgecascade.calibration.plan import ESTIMATES, Policy, plan, plan_certified
from edgecascade.calibration.platt import Platt, fit_platt
from edgecascade.calibration.record import calibrate_temperature
from edgecascade.calibration.reliability import Reliability, expected_calibration_error, reliability
from edgecascade.calibration.routing import choose_routing
from edgecascade.calibration.scores import SCORES, routing_score
from edgecascade.calibration.selection import choose_calibrator
from edgecascade.calibration.tasks import classification, generated_text, multiple_choice
from edgecascade.calibration.temperature import fit_temperature, negative_log_likelihood
from edgecascade.types.document import Calibration, Certificate, Routing
from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import Estimate, OperatingPoint, Point
from edgecascade.types.merge import MERGES, merged_labels
from edgecascade.types.softmax import are_probabilities, softmax

__all__ = [
    "ESTIMATES",
    "MERGES",
    "SCORES",
    "AdvantageTable",
    "Bootstrap",
    "Calibration",
    "CalibrationError",
    "CascadePlan",
    "Certificate",
    "ChainPoint",
    "ChainPolicy",
    "ConfidenceFunction",
    "Decision",
    "DecisionRule",
    "Estimate",
    "Judged",
    "LeastCost",
    "LeastOffload",
    "MostAccuracy",
    "Objective",
    "OperatingPoint",
    "Outcomes",
    "Pair",
    "Platt",
    "Point",
    "Policy",
    "Promise",
    "Reliability",
    "Routing",
    "Stage",
    "Task",
    "Verifier",
    "WhileItHelps",
    "advantage_intervals",
    "advantage_table",
    "are_probabilities",
    "betting_p_value",
    "bootstrap",
    "calibrate_temperature",
    "certify",
    "choose_calibrator",
    "choose_routing",
    "classification",
    "decide",
    "evaluate",
    "exact_p_value",
    "expected_calibration_error",
    "fit_platt",
    "fit_temperature",
    "generated_text",
    "merged_labels",
    "multiple_choice",
    "negative_log_likelihood",
    "operating_curve",
    "paired_difference_interval",
    "plan",
    "plan_cascade",
    "plan_certified",
    "plan_chain",
    "proportion_interval",
    "relate",
    "reliability",
    "routing_score",
    "sample_size",
    "shrunk_advantage_table",
    "simultaneous_band",
    "softmax",
]
