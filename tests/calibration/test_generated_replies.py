"""Judges of generated replies: what they read out of words around an answer."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecascade.calibration import CalibrationError
from edgecascade.calibration.verifiers import ChoiceMatch, Contains, ExactMatch, NumberMatch, verifier_named, verify

CITIES = ["Paris", "London", "New York", "York"]
WORDS = st.lists(st.sampled_from(["the", "Cat", "sat", "on", "a", "mat"]), min_size=1, max_size=6)


def judged(judge: Any, reply: str, reference: Any) -> bool:
    """Return whether a reply is right."""
    return bool(judge([reply], [reference])[0])


@given(WORDS, WORDS)
def test_a_reply_contains_whole_words(reply: list[str], reference: list[str]) -> None:
    """Brute force over the places at which the reference's words could be."""
    said, wanted = [word.casefold() for word in reply], [word.casefold() for word in reference]
    there = any(said[at : at + len(wanted)] == wanted for at in range(len(said)))
    assert judged(Contains(), " ".join(reply), " ".join(reference)) == there
    assert judged(Contains(), f"Well,\n({'  '.join(reply)})!", reference) == any(word in said for word in wanted)
    if judged(ExactMatch(ignore_case=True), " ".join(reply), " ".join(reference)):
        assert there


@pytest.mark.parametrize(
    ("reply", "reference", "right"),
    [
        ("The capital is Paris.", "paris", True),
        ("It is Parisian.", "Paris", False),
        ("I write C++ daily", "C++", True),
        ("it has 42 parts", 42, True),
        ("it has 420 parts", 42, False),
        ("it has 10000000 parts", 1e7, True),
        ("it is 0.25 of them", 0.25, True),
        ("caf\u00e9 noir", "cafe\u0301", True),
        ("no", ["yes", "no"], True),
    ],
)
def test_contained_references(reply: str, reference: Any, right: bool) -> None:
    """Parts of words do not count; forms of Unicode and several references do."""
    assert judged(Contains(), reply, reference) == right


def test_case_counts_on_request() -> None:
    """An option of the judge says so."""
    assert not judged(verifier_named("contains:ignore_case=no"), "PARIS", "Paris")


@given(st.integers(-(10**7), 10**7), st.sampled_from([0, 1, 2, 3]))
def test_a_number_is_found_in_any_form(whole: int, places: int) -> None:
    """Grouped or not, with a sign, money, percent or words around it; and an earlier number does not matter."""
    number = whole / 10**places
    for text in (
        f"{number:.{places}f}",
        f"{number:,.{places}f}",
        f"{number:.{places}f}".replace("-", "\u2212"),
        f"{number:e}",
    ):
        for reply in (text, f"The total of 17 parts is {text}.", f"**{text}**", f"= {text} %", f"{text}kg, I think"):
            value = float(f"{number:e}") if "e" in text else number
            assert judged(NumberMatch(), reply, value), reply
            assert judged(NumberMatch(), reply, f"first 3, then #### {text}"), reply
            assert not judged(NumberMatch(), reply, value + 1), reply


@pytest.mark.parametrize(
    ("reply", "reference", "tolerance", "relative", "right"),
    [
        ("It costs $5", 5, 0.0, False, True),
        ("3.14159", 3.14, 0.0, False, False),
        ("3.14159", 3.14, 0.01, False, True),
        ("105", 100, 0.05, True, True),
        ("106", 100, 0.05, True, False),
        ("1, 2 or 3", 3, 0.0, False, True),
        ("lists: 1,2,3", 3, 0.0, False, True),
        ("v2 has none", 2, 0.0, False, False),
        ("I do not know", 0, 10.0, False, False),
        ("7", [6, 7], 0.0, False, True),
    ],
)
def test_numbers_within_a_tolerance(reply: str, reference: Any, tolerance: float, relative: bool, right: bool) -> None:
    """It is absolute or relative to the reference."""
    assert judged(NumberMatch(tolerance, relative), reply, reference) == right


@pytest.mark.parametrize("before", ["", "The answer is ", "**Answer:** ", "I choose option ", "Not A, so the answer: "])
@pytest.mark.parametrize("form", ["{}", "({})", "**{}**", "{}.", "{})", "{}. London", "{}: London"])
def test_a_letter_is_chosen_in_many_forms(before: str, form: str) -> None:
    """Alone or with marks, at the beginning or after words that announce it, with or without the option's text."""
    reply = before + form.format("B")
    for reference in ("B", {"options": CITIES, "answer": "B"}, {"options": CITIES, "answer": 1}, ["C", "B"]):
        assert judged(ChoiceMatch(), reply, reference), reply
    assert not judged(ChoiceMatch(), reply, "C")
    assert not judged(ChoiceMatch(), reply, {"options": CITIES, "answer": "Paris"})


@pytest.mark.parametrize(
    ("reply", "chosen"),
    [
        ("Paris", "Paris"),
        ("It is Paris.", "Paris"),
        ("I'd say New York, of course", "New York"),
        ("York, which is in England", "York"),
        ("It is either Paris or London", None),
        ("I have been to both York and New York", None),
        ("I have been to New York and to New York again", "New York"),
        ("None of them", None),
        ("A dog is no city", None),
        ("I am not sure", None),
        ("The answer is E", None),
        ("A\n\nParis is the capital, not London.", "Paris"),
        ("b", "London"),
        ("", None),
    ],
)
def test_an_option_is_chosen_by_its_text(reply: str, chosen: str | None) -> None:
    """A reply that names several, or none, is wrong whatever the reference."""
    for at, city in enumerate(CITIES):
        for answer in (city, at, "ABCD"[at]):
            assert judged(ChoiceMatch(), reply, {"options": CITIES, "answer": answer}) == (city == chosen)


@pytest.mark.parametrize(
    "options",
    [["1", "-1", "1.5", "15"], ["< 5", "> 5", "5"], ["[0, 1]", "(0, 1)", "(0, 1]"], ["C", "C++", "C#"], ["5", "5!"]],
    ids=str,
)
@pytest.mark.parametrize("form", ["{}", "**{}**", '"{}"', "{}.", "It is {}", "{}, I think"])
def test_options_that_differ_by_signs_are_told_apart(options: list[str], form: str) -> None:
    """Each is chosen by its own text alone."""
    for chosen in options:
        for right in options:
            reference = {"options": options, "answer": options.index(right)}
            assert judged(ChoiceMatch(), form.format(chosen), reference) == (chosen == right), (chosen, right)


def test_options_that_are_letters_are_texts() -> None:
    """Blood types and notes are called by letters that are not their places."""
    assert judged(ChoiceMatch(), "B", {"options": ["O", "A", "B", "AB"], "answer": "B"})


@pytest.mark.parametrize(
    ("judge", "reference", "expected"),
    [
        (Contains(), None, "expected text or a finite number"),
        (Contains(), float("nan"), "expected text or a finite number"),
        (Contains(), " ", "expected text that a reply can contain"),
        (Contains(), [], "expected at least one reference"),
        (NumberMatch(), "none", "expected a finite number"),
        (NumberMatch(), True, "expected a finite number"),
        (ChoiceMatch(), 3, "expected a letter or the option's text"),
        (ChoiceMatch(), {"answer": "A"}, "expected `options` with 2 to 26 texts"),
        (ChoiceMatch(), {"answer": "Rome", "options": CITIES}, "expected the letter, the text or the number"),
        (ChoiceMatch(), {"answer": "E", "options": CITIES}, "expected the letter, the text or the number"),
    ],
)
def test_a_reference_that_a_judge_cannot_use_is_named(judge: Any, reference: Any, expected: str) -> None:
    """The error says which input has it, and what was expected."""
    with pytest.raises(CalibrationError, match=f"references: input 1: {re.escape(expected)}"):
        verify(judge, ["A 1", "A 1"], [{"answer": 0, "options": CITIES} if judge == ChoiceMatch() else 1, reference])


def test_judges_have_the_names_of_verifiers() -> None:
    """So that every command that takes a verifier takes them."""
    assert verifier_named("contains") == Contains()
    assert verifier_named("number:tolerance=0.5,relative=yes") == NumberMatch(0.5, True)
    assert verifier_named("choice") == ChoiceMatch()
    np.testing.assert_array_equal(verify(verifier_named("choice"), ["A", "B"], ["A", "A"]), [1, 0])
    with pytest.raises(CalibrationError, match="tolerance: expected"):
        NumberMatch(-1)
