"""Whether more of a figure is better, told by its name; where the name does not tell, nobody guesses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

__all__ = ["depends_on_machine", "more_is_better"]

_MORE = re.compile("accuracy|agreement|areas?|auc|coverage|saved|throughput")
_LESS = re.compile(
    "brier|bytes|cost|cpu|dropped|ece|elapsed|energy|errors?|failures|joules|late|lateness|latency|loss|memory|"
    "(micro|milli)?seconds|missed|misses|money|ms|nll|overhead|overslept|received|sent|spent|time|us"
)
_NEITHER = re.compile("gap|lead|offload|rate")  # what moved: the cascade, or what it is compared with?
_MACHINE = re.compile(
    "cpu|elapsed|energy|joules|lateness|latency|memory|(micro|milli)?seconds|ms|overhead|overslept|throughput|time|us|watts"
)


def more_is_better(place: Sequence[str]) -> bool | None:
    """By the innermost name that tells, and its last word that does: "accuracy_loss" is a loss; None: nothing tells."""
    for name in reversed(place):
        words = _words(name)
        if _is_speed(words):
            return True
        for word in reversed(words):
            if _MORE.fullmatch(word) or _LESS.fullmatch(word):
                return _MORE.fullmatch(word) is not None
        if any(map(_NEITHER.fullmatch, words)):
            return None
    return None


def depends_on_machine(place: Sequence[str]) -> bool:
    """Whether it is time, speed, memory or energy."""
    return any(_is_speed(words) or any(map(_MACHINE.fullmatch, words)) for words in map(_words, place))


def _words(name: str) -> list[str]:
    return re.findall("[a-z]+", name.lower())


def _is_speed(words: Sequence[str]) -> bool:
    return any(pair in (("per", "second"), ("per", "s")) for pair in pairwise(words))
