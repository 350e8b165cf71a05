"""The learned score finds where the remote does better, and a plan uses it only there."""

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.calibration import (
    LearnedScore,
    MostAccuracy,
    decide,
    fit_learned_score,
    plan_cascade,
    routing_score,
    softmax,
)


def pair(n: int, seed: int, *, specialist: bool) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Draw exact posteriors of two models; a specialist knows the second half of four classes only."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    logits = []
    for strength in (np.full(4, 1.6), np.array([0.3, 0.3, 4.0, 4.0]) if specialist else np.full(4, 2.6)):
        seen = rng.normal(size=(n, 4))
        seen[np.arange(n), labels] += strength[labels]
        logits.append((seen * strength - strength**2 / 2).astype(np.float32))
    return logits[0], logits[1], labels


def accuracy(
    found: object, local: NDArray[np.float32], remote: NDArray[np.float32], labels: NDArray[np.int64]
) -> tuple[float, float]:
    """Return the accuracy and the offload rate of a plan with the merge rule `replace` on other inputs."""
    forward = decide(local, found.rule).forward  # type: ignore[attr-defined]
    answers = np.where(forward, remote.argmax(axis=1), local.argmax(axis=1))
    return float(np.mean(answers == labels)), float(np.mean(forward))


def test_a_specialist_is_asked_about_what_it_knows() -> None:
    """The plan chooses the learned score, and gains a point at least over the best fixed one on 50,000 other inputs."""
    local, remote, labels = pair(2000, 1, specialist=True)
    fresh = pair(50_000, 2, specialist=True)
    learned = plan_cascade(local, remote, labels, MostAccuracy(0.3), merges=("replace",))
    fixed = plan_cascade(
        local, remote, labels, MostAccuracy(0.3), merges=("replace",), scores=("confidence", "margin", "entropy")
    )
    assert learned.score == "learned"
    assert learned.learned is not None
    assert fixed.learned is None
    (ours, our_rate), (theirs, their_rate) = accuracy(learned, *fresh), accuracy(fixed, *fresh)
    assert our_rate == pytest.approx(their_rate, abs=0.03)
    assert ours > theirs + 0.01


def test_a_remote_that_is_better_everywhere_needs_no_learned_score() -> None:
    """On such pairs the plan seldom takes it, since it must gain more than chance explains."""
    chosen = [
        plan_cascade(*pair(600, seed, specialist=False), MostAccuracy(0.3), merges=("replace",)).score
        for seed in range(10)
    ]
    assert chosen.count("learned") <= 3


def test_weights_equal_repeated_rows_up_to_the_penalty() -> None:
    """An input of weight 3 counts as three."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 4000).astype(np.float32)
    local, merged = rng.random(4000) < 0.7, rng.random(4000) < 0.5 + 0.4 * probabilities[:, 2]
    often = rng.integers(1, 4, 4000)
    weighted = fit_learned_score(probabilities, local, merged, often / often.mean())
    repeated = fit_learned_score(
        np.repeat(probabilities, often, axis=0), np.repeat(local, often), np.repeat(merged, often)
    )
    assert np.corrcoef(weighted(probabilities), repeated(probabilities))[0, 1] > 0.999


def test_rows_of_nan_take_no_part_and_score_nan() -> None:
    """An input whose confidence is NaN is forwarded whatever its score."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 200).astype(np.float32)
    local, merged = rng.random(200) < 0.7, rng.random(200) < 0.9
    with_nan = np.concatenate([probabilities, np.full((1, 3), np.nan, np.float32)])
    found = fit_learned_score(with_nan, np.append(local, False), np.append(merged, True))
    assert found == fit_learned_score(probabilities, local, merged)
    assert np.isnan(found(with_nan)[-1])
    nothing = fit_learned_score(with_nan[-1:], np.array([False]), np.array([True]))
    assert (nothing.confidence, set(nothing.classes)) == (0.0, {0.0})


def test_the_reference_scores_probabilities_at_the_temperature() -> None:
    """The routing score `learned` is the weighted sum of softmax(z / T)."""
    logits = np.array([[2.0, 0.0, -1.0], [0.0, 3.0, 0.0]], np.float32)
    score = LearnedScore(0.5, (0.1, -0.2, 0.3))
    p = softmax(logits, 2.0)
    expected = p @ np.array([0.1, -0.2, 0.3], np.float32) + 0.5 * p.max(axis=1)
    np.testing.assert_allclose(routing_score("learned", logits, 2.0, learned=score), expected, atol=1e-6)
