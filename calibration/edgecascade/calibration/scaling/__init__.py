"""Calibrators: from raw scores to probabilities that are right as often as they say."""

from edgecascade.calibration.scaling.choice import (
    Calibrator,
    Candidate,
    Selection,
    TemperatureScaling,
    choose_calibrator,
)
from edgecascade.calibration.scaling.isotonic import Isotonic, TopLabelIsotonic, fit_isotonic, fit_top_label_isotonic
from edgecascade.calibration.scaling.platt import Platt, fit_platt
from edgecascade.calibration.scaling.temperature import (
    calibrate_temperature,
    fit_temperature,
    negative_log_likelihood,
)
from edgecascade.calibration.scaling.vector import VectorScaling, fit_vector_scaling

__all__ = [
    "Calibrator",
    "Candidate",
    "Isotonic",
    "Platt",
    "Selection",
    "TemperatureScaling",
    "TopLabelIsotonic",
    "VectorScaling",
    "calibrate_temperature",
    "choose_calibrator",
    "fit_isotonic",
    "fit_platt",
    "fit_temperature",
    "fit_top_label_isotonic",
    "fit_vector_scaling",
    "negative_log_likelihood",
]
