"""Whether a generated reply, which may have words around it, gives the answer that it should.

References may be given as in `text.py`: one, or several of which any is right.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.verifiers.pairs import paired
from edgecascade.types.errors import CalibrationError

__all__ = ["ChoiceMatch", "Contains", "NumberMatch"]

_NUMBER = re.compile(r"(?<![\w.,])[-+]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?(?![\d])")
_GROUPED = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?([eE][-+]?\d+)?")
_SIGNS = str.maketrans({"\u2212": "-", "\u00a0": " ", "\u202f": " "})  # a minus, and spaces that do not break
_ROUNDING = 1e-9  # of a number, relative to the reference
_MARKS = "*_`\"'“”‘’«»()[]{}<>.,:;!?-–— \t\r\n"  # that may surround a letter
_QUOTES, _STOPS = "*_`\"'“”‘’«» ", ".,:; "  # that may surround an option's text, and end it
_FIRST = re.compile(r"[\s*_`\"'(\[{“‘«]*([A-Z])(?=$|[)\]}.,:;*_`\"'”’»]|\s*[\r\n]|\s+[-–—:])")
_SAID = re.compile(
    r"(?i:\b(?:answer|option|choice)\b(?:\s+(?:is|would\s+be))?)[\s:=*_`\"'(\[{“‘«]*([A-Z])(?=$|[^\w'’])"
)
_MARKED = re.compile(r"(?<!\w)(?:\(([A-Z])\)|\[([A-Z])\]|\*\*([A-Z])\*\*|([A-Z])\))(?!\w)")


@dataclass(frozen=True)
class Contains:
    """1 where the reply contains the reference, as whole words, 0 elsewhere.

    Text is compared in Unicode's composed form (NFC), with one space for each run of white space.

    Attributes:
        ignore_case: whether upper and lower case are the same.
    """

    ignore_case: bool = True

    def __call__(self, answers: Sequence[str], references: Sequence[Any]) -> NDArray[np.float64]:
        """Return the value float64 [n], 0 or 1, of n replies.

        Raises:
            CalibrationError: they are not as many, a reply is no text, or a reference is neither text nor a number.
        """

        def right(reply: str, reference: Any, where: str) -> bool:
            wanted = self._normal(_text(reference, where))
            if not wanted:
                raise CalibrationError(f"{where}: expected text that a reply can contain, got an empty one")
            return re.search(_words(wanted), self._normal(reply)) is not None

        return _any_right(answers, references, right)

    def _normal(self, text: str) -> str:
        normal = " ".join(normalize("NFC", text).split())
        return normal.casefold() if self.ignore_case else normal


@dataclass(frozen=True)
class NumberMatch:
    """1 where the last number in the reply is the reference, 0 elsewhere and without a number.

    Numbers may have commas between groups of three digits, a sign, an exponent, and signs of money or percent around
    them. A reference that is a text also counts by its last number, as in `... #### 42`.

    Attributes:
        tolerance: the largest error that counts as right, 0 or more.
        relative: whether it is a share of the reference's absolute value.
    """

    tolerance: float = 0.0
    relative: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < math.inf:
            raise CalibrationError(f"tolerance: expected a number of 0 or more, got {self.tolerance}")

    def __call__(self, answers: Sequence[str], references: Sequence[Any]) -> NDArray[np.float64]:
        """Return the value float64 [n], 0 or 1, of n replies.

        Raises:
            CalibrationError: they are not as many, a reply is no text, or a reference has no finite number.
        """

        def right(reply: str, reference: Any, where: str) -> bool:
            number = isinstance(reference, Real) and not isinstance(reference, bool)
            wanted = float(reference) if number else _last_number(reference) if isinstance(reference, str) else None
            if wanted is None or not math.isfinite(wanted):
                raise CalibrationError(f"{where}: expected a finite number, got {_shown(reference)}")
            found = _last_number(reply)
            allowed = self.tolerance * (abs(wanted) if self.relative else 1.0) + _ROUNDING * abs(wanted)
            return found is not None and abs(found - wanted) <= allowed

        return _any_right(answers, references, right)


@dataclass(frozen=True)
class ChoiceMatch:
    """1 where the reply chooses the right option, by its letter or by its text, 0 elsewhere.

    The letter is the one that the reply begins with, or that it calls its answer (the last time that it does), or the
    only one that it puts in brackets. Without a letter, the text of an option counts that the reply consists of or
    begins with, or the only one that it contains. A reply that names several, or none, is wrong.

    A reference is the letter of the right option (A to Z), its text, or an object with `answer` (either of them, or its
    number from 0) and `options`, the texts of all options in order. Only with the options is it known that a text is
    that of another option.
    """

    def __call__(self, answers: Sequence[str], references: Sequence[Any]) -> NDArray[np.float64]:
        """Return the value float64 [n], 0 or 1, of n replies.

        Raises:
            CalibrationError: they are not as many, a reply is no text, or a reference names no option.
        """
        return _any_right(answers, references, _chooses)


def _any_right(
    answers: Sequence[str], references: Sequence[Any], right: Callable[[str, Any, str], bool]
) -> NDArray[np.float64]:
    """Return 1 for each reply that is right by any of its references, else 0."""
    found = []
    for i, (answer, reference) in enumerate(paired(answers, references)):
        if not isinstance(answer, str):
            raise CalibrationError(f"answers: expected text in input {i}, got {_shown(answer)}")
        several = list(reference) if isinstance(reference, list | tuple | np.ndarray) else [reference]
        where = f"references: input {i}"
        if not several:
            raise CalibrationError(f"{where}: expected at least one reference, got none")
        every = [right(answer, one, where) for one in several]  # an error in any of them is found
        found.append(float(any(every)))
    return np.array(found, dtype=np.float64)


def _text(reference: Any, where: str) -> str:
    if isinstance(reference, str):
        return reference
    if isinstance(reference, Real) and not isinstance(reference, bool):
        number = float(reference)
        if math.isfinite(number):
            return str(int(number) if number.is_integer() else number)
    raise CalibrationError(f"{where}: expected text or a finite number, got {_shown(reference)}")


def _words(words: str) -> str:
    """Return a pattern of words that are no parts of longer ones."""
    before = r"(?<!\w)" if words[0].isalnum() else ""
    after = r"(?!\w)" if words[-1].isalnum() else ""
    return before + re.escape(words) + after


def _last_number(text: str) -> float | None:
    found = None
    for match in _NUMBER.finditer(text.translate(_SIGNS)):
        for part in _parts(match[0]):
            found = float(part)
    return found


def _parts(number: str) -> Iterator[str]:
    """Yield a number without the commas between groups of three digits; of a list such as 1,2 its members."""
    if "," not in number or _GROUPED.fullmatch(number):
        yield number.replace(",", "")
    else:
        yield from (part for part in number.split(",") if part)


def _chooses(reply: str, reference: Any, where: str) -> bool:
    options: list[str] = []
    answer = reference
    if isinstance(reference, Mapping):
        answer, given = reference.get("answer"), reference.get("options")
        if not isinstance(given, list | tuple) or not 2 <= len(given) <= 26:
            raise CalibrationError(f"{where}: expected `options` with 2 to 26 texts, got {_shown(given)}")
        options = [_plain(_text(one, where)) for one in given]
        if isinstance(answer, list | tuple):
            every = [_chooses(reply, {**reference, "answer": one}, where) for one in answer]
            return any(every)
    letter, text = _right_option(answer, options, where)
    lettered = not any(len(one) == 1 and one.isalpha() for one in options)  # else a letter is the text of an option
    chosen = _letter(reply, len(options) or 26) if lettered else None
    if chosen is not None and letter is not None:
        return chosen == letter
    if not text:
        return False
    said = _plain(reply)
    if not options:
        return said == text or re.match(re.escape(text) + r"(?!\w)", said) is not None
    return _named(said, options) == text


def _right_option(answer: Any, options: Sequence[str], where: str) -> tuple[str | None, str]:
    """Return the letter and the plain text of the right option, as far as they are known."""
    if isinstance(answer, int) and not isinstance(answer, bool) and options and 0 <= answer < len(options):
        return chr(ord("A") + answer), options[answer]
    if isinstance(answer, str) and answer.strip():
        plain = _plain(answer)
        if options and plain in options:
            return chr(ord("A") + options.index(plain)), plain
        if re.fullmatch(r"\W*[A-Z]\W*", answer):
            letter = answer.strip(_MARKS)
            at = ord(letter) - ord("A")
            if not options:
                return letter, ""
            if at < len(options):
                return letter, options[at]
        elif not options:
            return None, plain
    wanted = "the letter, the text or the number of one of its options" if options else "a letter or the option's text"
    raise CalibrationError(f"{where}: expected {wanted}, got {_shown(answer)}")


def _letter(reply: str, count: int) -> str | None:
    """Return the letter that a reply chooses among the first of the alphabet; None if it chooses none."""
    alone = reply.strip(_MARKS)
    if len(alone) == 1 and alone.isascii() and alone.isalpha():
        return _among(alone.upper(), count)
    if first := _FIRST.match(reply):
        return _among(first[1], count)
    if said := _SAID.findall(reply):
        return _among(said[-1], count)
    marked = {next(filter(None, groups)) for groups in _MARKED.findall(reply)}
    return _among(marked.pop(), count) if len(marked) == 1 else None


def _among(letter: str, count: int) -> str | None:
    return letter if ord(letter) - ord("A") < count else None


def _named(said: str, options: Sequence[str]) -> str | None:
    """Return the option that a reply is or begins with, the longest if several do, or the only one that it contains."""
    begun = [one for one in options if one and re.match(re.escape(one) + r"(?!\w)", said)]
    if begun:
        return max(begun, key=len)
    inside = []
    for one in sorted({*options} - {""}, key=len, reverse=True):  # so that `acid rain` does not name `acid`, too
        said, count = re.subn(_words(one), "\n", said)
        inside += [one] if count else []
    return inside[0] if len(inside) == 1 else None


def _plain(text: str) -> str:
    """Return a text without case, and without quotes and emphasis around it or stops at its end."""
    normal = " ".join(normalize("NFC", text).split())
    return normal.strip(_QUOTES).rstrip(_STOPS).strip(_QUOTES).casefold()


def _shown(value: Any) -> str:
    return f"a {type(value).__name__}: {' '.join(repr(value).split())[:40]}"
