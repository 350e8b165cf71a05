"""Arrays in, numbers out: temperature, reliability, advantage, plan.

Nothing here knows a model, a file or a network. Read `plan.py` first.
"""

from edgecascade.calibration.advantage import AdvantageTable, advantage_table
from edgecascade.calibration.decision import Decision, DecisionRule, decide
from edgecascade.calibration.errors import CalibrationError
from edgecascade.calibration.intervals import Bootstrap, bootstrap, proportion_interval
from edgecascade.calibration.plan import OperatingPoint, Policy, operating_curve, plan
from edgecascade.calibration.record import Calibration, calibrate_temperature
from edgecascade.calibration.reliability import Reliability, expected_calibration_error, reliability
from edgecascade.calibration.softmax import are_probabilities, softmax
from edgecascade.calibration.temperature import fit_temperature, negative_log_likelihood

__all__ = [
    "AdvantageTable",
    "Bootstrap",
    "Calibration",
    "CalibrationError",
    "Decision",
    "DecisionRule",
    "OperatingPoint",
    "Policy",
    "Reliability",
    "advantage_table",
    "are_probabilities",
    "bootstrap",
    "calibrate_temperature",
    "decide",
    "expected_calibration_error",
    "fit_temperature",
    "negative_log_likelihood",
    "operating_curve",
    "plan",
    "proportion_interval",
    "reliability",
    "softmax",
]
