"""Calibrators in the shape of scikit-learn's estimators: `fit`, `predict_proba`, `get_params`.

They work in its pipelines, searches and clones. scikit-learn itself is not needed, and is imported only where it asks
an estimator for its tags.
"""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.calibration.scaling.choice import calibrate_confidence, calibrate_score
from edgecascade.types.arrays import as_array
from edgecascade.types.document import Calibration, ScoreCalibration
from edgecascade.types.errors import CalibrationError
from edgecascade.types.softmax import softmax

__all__ = ["ScoreCalibrator", "TemperatureScaling"]


class _Parameters:
    """What scikit-learn asks of every estimator: its parameters, by name, as the constructor got them."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002  # for estimators inside others
        """Return the parameters by name."""
        return {name: getattr(self, name) for name in signature(type(self)).parameters}

    def set_params(self, **parameters: Any) -> Any:
        """Set parameters by name, and return the estimator.

        Raises:
            CalibrationError: there is no such parameter.
        """
        known = self.get_params()
        for name, value in parameters.items():
            if name not in known:
                raise CalibrationError(f"{name}: expected one of the parameters {', '.join(known)}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({given})"

    def _fitted(self, name: str) -> Any:
        if not hasattr(self, name):
            raise _not_fitted(f"{type(self).__name__}: call `fit` before it is used")
        return getattr(self, name)


class TemperatureScaling(_Parameters):
    """A classifier on logits: temperature scaling, as `calibrate_confidence` fits it.

    Its inputs are the logits [n, classes] of a model, of numpy, torch, pandas or polars, whose columns are the classes.

    Args:
        label_noise: whether T allows for wrong labels, as in `calibrate_confidence`.

    Attributes:
        classes_: [classes], the labels in the order of the columns.
        temperature_: T.
        calibration_: what was fitted and measured, with intervals.
        n_features_in_: number of columns.

    >>> logits = np.array([[4.0, 0.0]] * 10)
    >>> model = TemperatureScaling().fit(logits, ["cat"] * 9 + ["dog"])
    >>> round(model.temperature_, 3), model.predict(logits[:1]), model.predict_proba(logits[:1]).round(2)
    (1.82, array(['cat'], dtype='<U3'), array([[0.9, 0.1]], dtype=float32))
    """

    _estimator_type = "classifier"
    classes_: NDArray[Any]
    temperature_: float
    calibration_: Calibration
    n_features_in_: int

    def __init__(self, *, label_noise: bool = False) -> None:
        self.label_noise = label_noise

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> TemperatureScaling:  # noqa: N803
        """Fit T, and return the calibrator.

        Args:
            X: logits [n, classes], floating.
            y: labels [n]: the numbers of the columns; or any others, as many as there are columns, whose sorted order
                is that of the columns. Numbers 1 to n of which the last is absent are taken for columns.
            sample_weight: [n], numbers above 0, by which each row counts; None for equal weights.

        Raises:
            CalibrationError: as `calibrate_confidence`, or the labels are not those of the columns.
        """
        logits = _table(X, None)
        if y is None:
            raise CalibrationError("y: fit requires y to be passed, but the target y is None")
        labels, given = as_array(y, "y"), logits.shape[1]
        if labels.ndim != 1 or len(labels) != len(logits):
            raise CalibrationError(f"y: expected labels [{len(logits)}], one per row, got {list(labels.shape)}")
        if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
            raise CalibrationError("y: expected labels of classes, got numbers with a fraction. Unknown label type")
        named, numbers = np.unique(labels, return_inverse=True)
        if named.dtype.kind in "iu" and named.size and named[0] >= 0 and named[-1] < given:
            named, numbers = np.arange(given), labels.astype(np.int64)
        if len(named) != given:
            raise CalibrationError(
                f"y: expected labels of {given} classes, one per column of the logits, got {len(named)}"
            )
        found = calibrate_confidence(
            logits, numbers, sample_weight, calibrator="temperature", label_noise=self.label_noise
        )
        self.classes_, self.n_features_in_ = named, given
        self.calibration_, self.temperature_ = found, found.temperature
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float32]:  # noqa: N803
        """Return the calibrated probabilities float32 [n, classes] of logits [n, classes]."""
        temperature = self._fitted("temperature_")
        return softmax(_table(X, self.n_features_in_), temperature)

    def predict(self, X: ArrayLike) -> NDArray[Any]:  # noqa: N803
        """Return the labels [n] of the largest logits [n, classes]; calibration does not change them."""
        classes = self._fitted("classes_")
        return np.asarray(classes[_table(X, self.n_features_in_).argmax(axis=1)])

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:  # noqa: N803
        """Return the accuracy, as scikit-learn's classifiers do."""
        right = self.predict(X) == np.ravel(as_array(y, "y"))
        return float(np.average(right, weights=None if sample_weight is None else np.asarray(sample_weight)))

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn's checks and searches may assume."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        target, inputs = TargetTags(required=True), InputTags(two_d_array=True)
        return Tags("classifier", target, None, ClassifierTags(poor_score=True), None, input_tags=inputs)


class ScoreCalibrator(_Parameters):
    """From a raw score to the probability that an answer is right, or to its expected value: `calibrate_score`.

    Args:
        calibrator: `auto`, `platt` or `map`.
        seed: of the split by which `auto` chooses.

    Attributes:
        calibration_: what was fitted and measured, with intervals.

    >>> rng = np.random.default_rng(0)
    >>> score = rng.normal(size=1000)
    >>> model = ScoreCalibrator("platt").fit(score, rng.random(1000) < 1 / (1 + np.exp(-2 * score)))
    >>> model.predict([-1.0, 0.0, 1.0]).round(2)
    array([0.16, 0.51, 0.86])
    """

    _estimator_type = "regressor"
    calibration_: ScoreCalibration

    def __init__(self, calibrator: str = "auto", *, seed: int = 0) -> None:
        self.calibrator = calibrator
        self.seed = seed

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> ScoreCalibrator:  # noqa: N803
        """Fit the map, and return the calibrator.

        Args:
            X: scores [n] or [n, 1], floating and finite; higher is surer.
            y: bool [n], whether the answer was right; or floating [n] in [0, 1], how good it was.
            sample_weight: [n], numbers above 0, by which each row counts; None for equal weights.

        Raises:
            CalibrationError: as `calibrate_score`.
        """
        value = as_array(y, "y")
        value = value.astype(np.float64) if value.dtype.kind in "iu" else value
        self.calibration_ = calibrate_score(
            _column(X), value, sample_weight, calibrator=self.calibrator, seed=self.seed
        )
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """Return the probabilities, or expected values, float64 [n] of answers with scores [n] or [n, 1]."""
        confidence = self._fitted("calibration_").confidence
        return np.asarray(confidence(_column(X)))

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """Return the probabilities float64 [n, 2] that answers with scores [n] or [n, 1] are wrong, and right."""
        right = self.predict(X)
        return np.column_stack([1 - right, right])

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn's checks and searches may assume."""
        from sklearn.utils import InputTags, RegressorTags, Tags, TargetTags

        inputs = InputTags(one_d_array=True, two_d_array=False)
        return Tags("regressor", TargetTags(required=True), None, None, RegressorTags(), input_tags=inputs)


def _table(given: ArrayLike, columns: int | None) -> NDArray[Any]:
    """Return logits [n, classes] as floating numbers, with as many columns as were fitted."""
    if hasattr(given, "tocsr"):
        raise CalibrationError("X: expected a dense array of logits [n, classes], got a sparse one")
    logits = as_array(given, "X")
    if logits.dtype.kind in "iuO":
        logits = logits.astype(np.float64)
    if logits.dtype.kind == "c":
        raise CalibrationError("X: Complex data not supported; expected floating logits [n, classes]")
    if logits.ndim != 2 or logits.dtype.kind != "f":
        raise CalibrationError(f"X: expected floating logits [n, classes], got {logits.dtype} {list(logits.shape)}")
    if columns is not None and logits.shape[1] != columns:
        raise CalibrationError(f"X: expected {columns} columns, as in fit, got {logits.shape[1]}")
    if np.isnan(logits).any() or np.isposinf(logits).any():
        raise CalibrationError("X: expected finite logits, or -inf for a masked class, got NaN or +inf")
    return logits


def _column(given: ArrayLike) -> NDArray[Any]:
    """Return scores [n] or [n, 1] as floating numbers [n]."""
    score = as_array(given, "X")
    score = score[:, 0] if score.ndim == 2 and score.shape[1] == 1 else score
    return score.astype(np.float64) if score.dtype.kind in "iu" else score


def _not_fitted(message: str) -> Exception:
    """Return scikit-learn's error of an estimator that is not fitted where it is installed, and else ours."""
    try:
        from sklearn.exceptions import NotFittedError
    except ModuleNotFoundError:
        return CalibrationError(message)
    found: Exception = NotFittedError(message)
    return found
