"""Calibrators: from logits or raw scores to probabilities that are right as often as they say."""

from edgecascade.calibration.scaling.choice import (
    CALIBRATORS,
    SCORE_CALIBRATORS,
    Candidate,
    Selection,
    calibrate_confidence,
    calibrate_score,
    choose_calibrator,
)
from edgecascade.calibration.scaling.estimators import ScoreCalibrator, TemperatureScaling
from edgecascade.calibration.scaling.isotonic import fit_isotonic
from edgecascade.calibration.scaling.noisy_labels import fit_temperature_and_noise
from edgecascade.calibration.scaling.platt import fit_platt
from edgecascade.calibration.scaling.temperature import calibrate_temperature, fit_temperature, negative_log_likelihood

__all__ = [
    "CALIBRATORS",
    "SCORE_CALIBRATORS",
    "Candidate",
    "ScoreCalibrator",
    "Selection",
    "TemperatureScaling",
    "calibrate_confidence",
    "calibrate_score",
    "calibrate_temperature",
    "choose_calibrator",
    "fit_isotonic",
    "fit_platt",
    "fit_temperature",
    "fit_temperature_and_noise",
    "negative_log_likelihood",
]
