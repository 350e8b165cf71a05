"""Calibrators in scikit-learn's shape: its clones, pipelines, searches and checks take them."""

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

from edgecascade.calibration import (
    CalibrationError,
    ScoreCalibrator,
    TemperatureScaling,
    calibrate_score,
    fit_temperature,
    fit_temperature_and_noise,
    softmax,
)

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 600)
LOGITS = 6 * np.eye(3)[LABELS] + RNG.normal(0, 4, (600, 3))
SCORE = RNG.normal(size=500)
RIGHT = RNG.random(500) < 1 / (1 + np.exp(-2 * SCORE))

# Checks that give data which are no logits end with one of these sentences.
NO_LOGITS = ("the logits say no more than chance", "one per column of the logits")
OTHERWISE = {
    "check_sample_weights_pandas_series": "data that are no logits; the error is wrapped",
    "check_all_zero_sample_weights_error": "weights of 0 are refused in other words",
    "check_sample_weight_equivalence_on_dense_data": "weights of 0 are refused",
    "check_classifiers_one_label_sample_weights": "weights of 0 are refused",
    "check_estimators_empty_data_messages": "refused in other words",
    "check_fit2d_1feature": "one column of logits is refused in other words",
    "check_supervised_y_2d": "labels [n, 1] are refused",
    "check_classifiers_regression_target": "data that are no logits; the error is wrapped",
}


def test_temperature_scaling_is_that_of_the_function() -> None:
    """Labels may be the numbers of the columns, some of which may be missing, or names in their order."""
    model = TemperatureScaling().fit(LOGITS, LABELS)
    assert model.temperature_ == fit_temperature(LOGITS, LABELS)
    np.testing.assert_array_equal(model.predict_proba(LOGITS), softmax(LOGITS, model.temperature_))
    names = np.array(["bird", "cat", "dog"])
    named = TemperatureScaling().fit(pd.DataFrame(LOGITS), names[LABELS])
    assert named.temperature_ == model.temperature_
    assert named.predict(LOGITS).tolist() == names[LOGITS.argmax(axis=1)].tolist()
    assert named.score(LOGITS, names[LABELS]) == np.mean(LOGITS.argmax(axis=1) == LABELS)
    some = LABELS < 2
    assert TemperatureScaling().fit(LOGITS[some], LABELS[some]).classes_.tolist() == [0, 1, 2]


def test_temperature_scaling_may_allow_for_wrong_labels() -> None:
    """As the function does; weights count."""
    given = np.where(RNG.random(600) < 0.2, RNG.integers(0, 3, 600), LABELS)
    model = TemperatureScaling(label_noise=True).fit(LOGITS, given)
    assert model.temperature_ == fit_temperature_and_noise(LOGITS, given).temperature
    weight = RNG.uniform(0.5, 2.0, 600)
    assert TemperatureScaling().fit(LOGITS, LABELS, weight).temperature_ == fit_temperature(LOGITS, LABELS, weight)


@pytest.mark.parametrize("calibrator", ["auto", "platt", "map"])
def test_a_score_calibrator_is_that_of_the_function(calibrator: str) -> None:
    """It takes scores as a column or not, and graded values."""
    expected = calibrate_score(SCORE, RIGHT, calibrator=calibrator)
    model = ScoreCalibrator(calibrator).fit(SCORE[:, None], RIGHT)
    assert model.calibration_ == expected
    np.testing.assert_array_equal(model.predict(SCORE), expected.confidence(SCORE))
    np.testing.assert_allclose(model.predict_proba(SCORE).sum(axis=1), 1.0)
    graded = RNG.random(500)
    assert ScoreCalibrator(calibrator).fit(SCORE, graded).calibration_.value.value == pytest.approx(graded.mean())


def test_clones_searches_and_pipelines_take_them() -> None:
    """A pipeline calibrates a classifier by its logits."""
    model = TemperatureScaling(label_noise=True)
    assert repr(clone(model)) == repr(model) == "TemperatureScaling(label_noise=True)"
    assert model.set_params(label_noise=False).get_params() == {"label_noise": False}
    with pytest.raises(CalibrationError, match="noise"):
        model.set_params(noise=True)
    x, y = make_classification(900, 8, n_informative=5, n_classes=3, random_state=0)
    fitted = LogisticRegression(C=100).fit(x[:300], y[:300])
    whole = make_pipeline(FunctionTransformer(fitted.decision_function), TemperatureScaling()).fit(x[300:], y[300:])
    assert whole.score(x[300:], y[300:]) == fitted.score(x[300:], y[300:])
    found = cross_val_predict(TemperatureScaling(), fitted.decision_function(x), y, method="predict_proba", cv=3)
    assert found.shape == (900, 3)
    search = GridSearchCV(ScoreCalibrator(), {"calibrator": ["platt", "map"]}, scoring="neg_brier_score", cv=3)
    assert search.fit(SCORE[:, None], RIGHT.astype(float)).best_params_["calibrator"] in ("platt", "map")


def test_a_pickle_predicts_the_same() -> None:
    """So models can be saved with joblib."""
    model = TemperatureScaling().fit(LOGITS, LABELS)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict_proba(LOGITS), model.predict_proba(LOGITS))


def test_it_passes_the_checks_of_scikit_learn_that_are_about_logits() -> None:
    """The others give features that are no logits, or expect other words or weights of 0."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = [*check_estimator(TemperatureScaling(), on_fail=None), *check_estimator(ScoreCalibrator())]
    failed = {one["check_name"]: str(one["exception"]) for one in results if one["status"] == "failed"}
    wrong = {
        name: said
        for name, said in failed.items()
        if name not in OTHERWISE and not any(sentence in said for sentence in NO_LOGITS)
    }
    assert wrong == {}
    assert sum(one["status"] == "passed" for one in results) > 25


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_does_not_fit_is_refused(bad: float) -> None:
    """Before and after the fit; a masked class is no error."""
    logits = LOGITS.copy()
    logits[3, (LABELS[3] + 1) % 3] = -np.inf
    model = TemperatureScaling().fit(logits, LABELS)
    logits[3, 0] = bad
    for wrong in (logits, LOGITS[:, :2], LOGITS[0]):
        with pytest.raises(CalibrationError, match=r"^X: "):
            model.predict(wrong)
    for labels in (LABELS[:5], LABELS + 0.5, LABELS % 2 + 5, None):
        with pytest.raises(CalibrationError, match=r"^(y|labels): "):
            TemperatureScaling().fit(LOGITS, labels)  # type: ignore[arg-type]
    for unfitted in (TemperatureScaling(), ScoreCalibrator()):
        with pytest.raises(NotFittedError):
            unfitted.predict(LOGITS)


USE = """
import sys
sys.modules["sklearn"] = None
import numpy as np
from edgecascade.calibration import ScoreCalibrator, TemperatureScaling

model = TemperatureScaling().fit(np.array([[4.0, 0.0]] * 10), np.array([0] * 9 + [1]))
print(model, model.predict_proba([[4.0, 0.0]]).round(2).tolist())
try:
    ScoreCalibrator().predict([0.5])
except ValueError:
    print("not fitted")
"""


def test_scikit_learn_is_not_needed() -> None:
    """Neither to import nor to use them."""
    ran = subprocess.run([sys.executable, "-c", USE], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[1] == "not fitted"
