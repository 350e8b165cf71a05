"""What a curve shows, in sentences that say no more than the data do."""

import re

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration import MostAccuracy, operating_curve
from edgecascade.calibration.viability import viability

Right = NDArray[np.bool_]


def sentences(advantage: NDArray[np.floating], kept: Right, forwarded: Right, rate: float = 0.5) -> str:
    """All of the verdict, for a plan at the rate."""
    advantage = advantage.astype(np.float32)
    curve = operating_curve(advantage, kept, forwarded)
    chosen = MostAccuracy(rate).choose(curve, float(forwarded.mean()))
    return "; ".join(viability(advantage, kept, forwarded, curve, chosen))


RNG = np.random.default_rng(0)
ADVANTAGE = np.round(RNG.uniform(-0.5, 0, 2000), 2)
ALWAYS = np.ones(2000, bool)


def test_a_useful_pair_is_told_how_much_is_enough() -> None:
    """The local model is wrong on the half of lowest advantage, and nowhere else."""
    said = sentences(ADVANTAGE, ADVANTAGE > -0.25, ALWAYS)
    assert re.fullmatch(r"forwarding (49|50|51)% comes within a point of asking the remote always", said)


def test_a_local_model_that_is_too_weak_is_called_so() -> None:
    """Wrong nearly everywhere: almost all would have to go."""
    said = sentences(ADVANTAGE, RNG.random(2000) < 0.1, ALWAYS)
    assert "the local model is too weak: 9" in said
    assert "% would have to be forwarded" in said


def test_a_local_model_as_good_as_the_remote_is_called_so() -> None:
    """Only one input in 200 differs."""
    kept = np.arange(2000) % 200 > 0
    assert "the local model alone is within a point" in sentences(ADVANTAGE, kept, ALWAYS)


def test_a_remote_that_is_worse_is_called_so() -> None:
    """With the interval that shows it."""
    said = sentences(ADVANTAGE, ALWAYS, RNG.random(2000) < 0.9)
    assert said.startswith("the remote is worse than the local model on these inputs: asking always changes accuracy")


def test_a_remote_that_is_not_shown_to_be_better_is_not_called_worse() -> None:
    """The interval holds 0."""
    said = sentences(ADVANTAGE, RNG.random(2000) < 0.9, RNG.random(2000) < 0.9)
    assert said.startswith("the remote is not shown to be better than the local model")


def test_forwarding_too_much_is_said_to_do_harm() -> None:
    """The remote is right on the half of lowest advantage, the local model on the other."""
    low = ADVANTAGE < -0.3
    said = sentences(ADVANTAGE, ~low, low | (RNG.random(2000) < 0.7))
    assert "forwarding beyond 4" in said
    assert "makes the answer worse" in said


def test_a_blind_score_is_called_blind() -> None:
    """Errors that have nothing to do with the advantage: random inputs would do as well."""
    assert "forwarding inputs at random would do as well" in sentences(ADVANTAGE, RNG.random(2000) < 0.7, ALWAYS)
