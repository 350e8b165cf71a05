"""Multiple-choice questions in files: JSON lines or parquet, in the form of MMLU."""

from __future__ import annotations

import hashlib
import json
import os
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecascade.export.data.tables import read_rows
from edgecascade.export.writing import write_whole
from edgecascade.types.errors import BenchmarkError, no_file

__all__ = ["Question", "read_questions", "with_shots", "write_questions"]

_CHOICES = ("choices", "options")
_MOST = len(string.ascii_uppercase)


@dataclass(frozen=True)
class Question:
    """A question with its choices.

    Attributes:
        question: The text of the question.
        choices: The texts of the choices, at least two.
        answer: The index of the right choice.
        subject: What results are grouped by; empty if there are no subjects.

    Raises:
        BenchmarkError: There are too few or too many choices, two are the same, or the answer is none of them.
    """

    question: str
    choices: tuple[str, ...]
    answer: int
    subject: str = ""

    def __post_init__(self) -> None:
        if not 2 <= len(self.choices) <= _MOST:
            raise BenchmarkError(f"choices: expected 2 to {_MOST}, got {len(self.choices)}")
        if len(set(self.choices)) < len(self.choices):
            raise BenchmarkError(f"choices: expected different texts, got {list(self.choices)!r:.100}")
        if not 0 <= self.answer < len(self.choices):
            raise BenchmarkError(f"answer: expected an index below {len(self.choices)}, got {self.answer}")

    @property
    def digest(self) -> str:
        """The SHA-256 of subject, question and choices, in hexadecimal."""
        whole = json.dumps([self.subject, self.question, self.choices], ensure_ascii=False)
        return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def letters(self) -> str:
        """The letters of the choices: A, B, C, ..."""
        return string.ascii_uppercase[: len(self.choices)]


def read_questions(path: str | os.PathLike[str]) -> list[Question]:
    """Read the questions of a file.

    Each line, or each row of a table, has these fields, as the parquet files of MMLU do:

    - `question`: the text.
    - `choices`, or `options`: a list of texts.
    - `answer`: the index of the right choice from 0, its letter, or its text.
    - `subject`: what results are grouped by, optional.

    Args:
        path: `.parquet`, `.arrow` or `.csv`, or any other ending for JSON lines.

    Raises:
        ExportError: The file is damaged, or a line is no object.
        BenchmarkError: There is no such file, it has no questions, or a line is not as above: the message says which.
        ModuleNotFoundError: The file is a table, and pyarrow is not installed.
    """
    where = Path(path)
    if not where.is_file():
        raise BenchmarkError(f"questions: {no_file(path)}")
    found = [_question(row, place) for place, row in read_rows(where)]
    if not found:
        raise BenchmarkError(f"{path}: expected at least one question, got none")
    return found


def write_questions(questions: Iterable[Question], path: str | os.PathLike[str]) -> None:
    """Write questions as JSON lines; the file appears whole or not at all."""
    lines = [
        json.dumps(
            {"question": one.question, "choices": list(one.choices), "answer": one.answer, "subject": one.subject},
            ensure_ascii=False,
        )
        for one in questions
    ]
    write_whole("".join(f"{line}\n" for line in lines).encode("utf-8", "replace"), Path(path))


def with_shots(
    questions: Sequence[Question], shots: int, examples: Sequence[Question] | None = None
) -> list[tuple[Question, tuple[Question, ...]]]:
    """Return each question to ask with the examples that precede it, which are of its subject.

    Args:
        questions: All questions.
        shots: The number of examples before each question.
        examples: Where they come from; by default the first questions of each subject, which are then not asked.

    Raises:
        BenchmarkError: A subject has too few questions or examples.

    >>> three = [Question(f"{n} + {n}?", ("2", "4", "6"), n - 1, "sums") for n in (1, 2, 3)]
    >>> [(one.question, [shot.question for shot in before]) for one, before in with_shots(three, 1)]
    [('2 + 2?', ['1 + 1?']), ('3 + 3?', ['1 + 1?'])]
    """
    first: dict[str, list[Question]] = {}
    for one in questions if examples is None else examples:
        first.setdefault(one.subject, []).append(one)
    found: list[tuple[Question, tuple[Question, ...]]] = []
    for subject in dict.fromkeys(one.subject for one in questions):
        before = first.get(subject, [])[:shots]
        if len(before) < shots:
            raise BenchmarkError(f"shots: expected at least {shots} examples of {_named(subject)}, got {len(before)}")
        asked = [one for one in questions if one.subject == subject]
        found += [(one, tuple(before)) for one in (asked[shots:] if examples is None else asked)]
    if not found:
        raise BenchmarkError(f"shots: expected more questions than the {shots} examples, got {len(questions)} in all")
    return found


def _named(subject: str) -> str:
    return f"the subject {subject!r}" if subject else "the questions"


def _question(found: Mapping[str, Any], place: str) -> Question:
    question, subject = found.get("question"), found.get("subject")
    choices = next((found[name] for name in _CHOICES if found.get(name) is not None), None)
    if not isinstance(question, str) or not question.strip():
        raise BenchmarkError(f"{place}: expected a `question`, got {', '.join(map(str, found))[:80] or 'no fields'}")
    if not isinstance(choices, list) or not all(isinstance(one, str | int | float) for one in choices):
        raise BenchmarkError(f"{place}: expected a list of texts as `choices`, got {choices!r:.60}")
    texts = tuple(str(one) for one in choices)
    try:
        return Question(question, texts, _answer(found.get("answer"), texts), "" if subject is None else str(subject))
    except BenchmarkError as error:
        raise BenchmarkError(f"{place}: {error}") from error


def _answer(given: Any, choices: tuple[str, ...]) -> int:
    """Return the index that an index, a text or a letter names; a text counts before a letter."""
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    if isinstance(given, str):
        if given in choices:
            return choices.index(given)
        letter = string.ascii_uppercase.find(given.strip().upper()) if len(given.strip()) == 1 else -1
        if 0 <= letter < len(choices):
            return letter
    raise BenchmarkError(f"answer: expected the index, the letter or the text of a choice, got {given!r:.60}")
