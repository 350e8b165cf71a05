"""Graded values in [0, 1] in calibrators, errors, intervals and certificates; 0 and 1 count as right and wrong."""

import re

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.calibration import (
    CalibrationError,
    ConfidenceMap,
    Platt,
    calibrate_score,
    calibration_error,
    certify_order,
    choose_calibrator,
    expected_calibration_error,
    fit_isotonic,
    fit_platt,
    paired_difference_interval,
)
from edgecascade.calibration.certificate import betting_p_value

Floats = NDArray[np.float64]


def draw(n: int = 1500, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Return scores, and the values of a local model and of a better remote."""
    rng = np.random.default_rng(seed)
    ease = rng.random(n)
    local, remote = rng.binomial(8, 0.3 + 0.6 * ease) / 8, rng.binomial(8, 0.85 + 0.1 * ease) / 8
    return 4 * ease + rng.normal(0.0, 0.5, n), local, remote


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic, choose_calibrator, calibrate_score])
def test_0_and_1_are_wrong_and_right(fit: object) -> None:
    """Floats of two values give what bool gives."""
    score, local, _ = draw()
    assert callable(fit)
    graded, plain = fit(score, 1.0 * (local > 0.7)), fit(score, local > 0.7)
    if isinstance(plain, Platt):
        assert (graded.slope, graded.intercept) == pytest.approx((plain.slope, plain.intercept))
    elif isinstance(plain, ConfidenceMap):
        np.testing.assert_allclose(graded(score), plain(score))
    else:
        assert graded.method == plain.method


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
def test_a_graded_value_counts_as_shares_of_a_right_and_a_wrong_answer(fit: object) -> None:
    """A value of 0.7 weighs as a right answer of weight 0.7 and a wrong one of weight 0.3."""
    score, local, _ = draw(20_000)
    local = local.clip(0.1, 0.9)
    assert callable(fit)
    twice, right = np.concatenate([score, score]), np.repeat([True, False], len(score))
    shares = fit(twice, right, np.concatenate([local, 1 - local]))
    np.testing.assert_allclose(fit(score, local)(score), shares(score), atol=1e-3)  # the prior weighs half as much


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("calibrator", ["auto", "platt", "map"])
def test_confidences_are_expected_values_in_float32(calibrator: str, offset: float) -> None:
    """The confidence is right within its interval, and float32 resolves it; a distant score takes a map instead."""
    score, local, _ = draw(2000)
    shifted = np.asarray(score + offset, np.float32)
    if calibrator == "platt" and offset:
        with pytest.raises(CalibrationError, match=r"^score: expected a spread"):
            calibrate_score(shifted, local, calibrator=calibrator)
        return
    found = calibrate_score(shifted, local, calibrator=calibrator)
    assert found.method == ("map" if offset else found.method if calibrator == "auto" else calibrator)
    assert found.value.low < local.mean() < found.value.high
    fresh_score, fresh, _ = draw(100_000, seed=1)
    confidence = found.confidence(np.asarray(fresh_score + offset, np.float32))
    assert expected_calibration_error(confidence, fresh) <= found.ece_after.high
    if isinstance(found.confidence, ConfidenceMap):
        nudged = found.confidence(np.nextafter(shifted, np.float32(np.inf)))
        assert np.abs(nudged - found.confidence(shifted)).max() < 1e-5


def test_an_unknown_calibrator_of_scores_is_refused() -> None:
    """A temperature divides logits, and there are none."""
    with pytest.raises(CalibrationError, match="calibrator"):
        calibrate_score(*draw()[:2], calibrator="temperature")


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_values_outside_0_and_1_are_refused(value: float) -> None:
    """The row is named."""
    score, local, _ = draw(100)
    local[7] = value
    with pytest.raises(CalibrationError, match="row 7"):
        fit_platt(score, local)


def test_the_calibration_error_of_graded_values_is_covered() -> None:
    """Of calibrated confidences whose values vary less than right and wrong ones, the interval holds 0."""
    held = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        confidence = rng.uniform(0.3, 0.95, 600)
        held.append(calibration_error(confidence, rng.binomial(10, confidence) / 10).low == 0)
    assert np.mean(held) > 0.93


def test_a_bin_of_small_differences_has_a_narrow_interval() -> None:
    """An unseen difference of the usual size adds little; one of a whole answer widens the interval of 20 inputs."""
    rng = np.random.default_rng(0)
    first, second = 0.9 + rng.uniform(-0.05, 0.05, (2, 20))
    low, high = paired_difference_interval(first, second, unseen=0.05)
    widest = paired_difference_interval(first, second)
    assert widest[0] < low < (first - second).mean() < high < widest[1]
    assert high - low < 0.06


def test_the_certificate_of_an_order_is_the_last_before_the_first_failed_bet() -> None:
    """Every threshold is tested by betting, from forwarding everything down."""
    score, local, remote = draw()
    found = certify_order(score.astype(np.float32), local, remote, remote, loss=0.03, risk=0.05)
    order, shuffled = np.argsort(np.float32(score), kind="stable"), np.random.default_rng(0).permutation(len(score))
    passed = len(score)
    for forwarded in range(len(score) - 1, -1, -1):
        losses = np.zeros(len(score))
        losses[forwarded:] = (remote - local)[order][forwarded:]
        if betting_p_value(losses[shuffled], 0.03) > 0.05:
            break
        passed = forwarded
    assert 0 < passed < len(score)
    assert found.offload_rate == passed / len(score)
    assert (np.float32(score) < found.threshold).sum() == passed
    assert found.p_value <= 0.05


def test_a_certificate_of_0_and_1_is_exact() -> None:
    """Floats of two values get the certificate of bool."""
    score, local, remote = draw()
    narrow, right, answered = score.astype(np.float32), local > 0.6, remote > 0.6
    exact = certify_order(narrow, right, answered, answered, loss=0.05, risk=0.05)
    one, other = (np.where(column, 1.0, 0.0) for column in (right, answered))
    assert certify_order(narrow, one, other, other, loss=0.05, risk=0.05) == exact


def test_a_refused_certificate_says_how_many_graded_answers_would_do() -> None:
    """So many are enough in most draws."""
    score, local, remote = draw(300)
    local = remote - 0.25 * (remote - local)
    with pytest.raises(CalibrationError, match="about") as refused:
        certify_order(score.astype(np.float32), local, local, remote, loss=0.085, risk=0.05)
    enough = int(re.findall(r"about (\d+) new ones", str(refused.value))[0])
    shown = []
    for seed in range(30):
        _, local, remote = draw(enough, seed)
        shown.append(betting_p_value(0.25 * (remote - local), 0.085) <= 0.05)
    assert enough > 300
    assert 0.5 < np.mean(shown) <= 1
