"""Verifiers: from n answers and their references to values [n] in [0, 1], where 1 is right.

>>> CharacterAccuracy()(["kitten", "mug"], ["sitting", "mug"]).round(2)
array([0.57, 1.  ])

Each is a `Verifier`, and so is any function of answers and references. `verify` checks what one gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgecascade.calibration.confidence import Verifier
from edgecascade.calibration.verifiers.detection import BoxF1, BoxOverlap, box_iou
from edgecascade.calibration.verifiers.generated import ChoiceMatch, Contains, NumberMatch
from edgecascade.calibration.verifiers.pairs import verify
from edgecascade.calibration.verifiers.regression import ScaledError, Within
from edgecascade.calibration.verifiers.retrieval import RecallAt
from edgecascade.calibration.verifiers.segmentation import MeanIou
from edgecascade.calibration.verifiers.text import CharacterAccuracy, ExactMatch, TokenF1, WordAccuracy
from edgecascade.types.named import named

__all__ = [
    "VERIFIERS",
    "BoxF1",
    "BoxOverlap",
    "CharacterAccuracy",
    "ChoiceMatch",
    "Contains",
    "ExactMatch",
    "MeanIou",
    "NumberMatch",
    "RecallAt",
    "ScaledError",
    "TokenF1",
    "Within",
    "WordAccuracy",
    "box_iou",
    "verifier_name",
    "verifier_named",
    "verify",
]

VERIFIERS: Mapping[str, Callable[..., Verifier[Any]]] = {
    "box-f1": BoxF1,
    "box-overlap": BoxOverlap,
    "character-accuracy": CharacterAccuracy,
    "choice": ChoiceMatch,
    "contains": Contains,
    "exact": ExactMatch,
    "mean-iou": MeanIou,
    "number": NumberMatch,
    "recall": RecallAt,
    "scaled-error": ScaledError,
    "token-f1": TokenF1,
    "within": Within,
    "word-accuracy": WordAccuracy,
}  # by the name that commands take


def verifier_named(text: str, argument: str = "verifier") -> Verifier[Any]:
    """Return the verifier that a text names: one of `VERIFIERS` with its options, or `MODULE:FUNCTION`.

    Args:
        text: such as `exact`, `box-f1:iou=0.75` or `mymodule.py:agreement`.
        argument: the name of the argument for error messages.

    Raises:
        ArgumentError: there is no such verifier or option.

    >>> verifier_named("within:tolerance=2")
    Within(tolerance=2.0, relative=False)
    """
    found: Verifier[Any] = named(text, VERIFIERS, argument)
    return found


def verifier_name(verifier: Verifier[Any]) -> str:
    """Return what a verifier is called: its name among `VERIFIERS`, or that of the function.

    >>> verifier_name(ExactMatch())
    'exact'
    """
    known = next((name for name, kind in VERIFIERS.items() if type(verifier) is kind), None)
    return known or str(getattr(verifier, "__name__", type(verifier).__name__))
