"""Class names are found in metadata, and two lists of them are matched by name."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecascade.types.class_names import columns_for, names_in, numbers_in, positions
from edgecascade.types.errors import InvalidReply

NAMES = ("ant", "bee", "zebra", "mole")


@pytest.mark.parametrize(
    "properties",
    [
        {"edgecascade.labels": json.dumps(NAMES)},
        {"edgecascade": json.dumps({"labels": NAMES})},
        {"names": "{0: 'ant', 1: 'bee', 2: 'zebra', 3: 'mole'}"},
        {"names": "['ant', \"bee\", 'zebra', 'mole']"},
        {"id2label": json.dumps(dict(enumerate(NAMES)))},
        {"class_names": list(NAMES)},
        {"classes": "other text", "labels": json.dumps(NAMES)},
    ],
)
def test_names_are_found_in_metadata(properties: dict[str, object]) -> None:
    """They may be a list or an object by number, in JSON, as Python writes it, or parsed already."""
    assert names_in(properties) == NAMES


def test_quotes_in_names_are_read_as_python_writes_them() -> None:
    """A name may hold either quote, and a backslash."""
    names = ("it's", 'a "b"', "c\\d", "e, 1: 'f'")
    assert names_in({"names": str(dict(enumerate(names)))}) == names
    assert names_in({"names": str(list(names))}) == names


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ant, bee",
        "[1.5, 2]",
        '{"0": "ant", "2": "bee"}',
        "[" * 100_000,
        "__import__('os')",
        "{0: [}",
        "[null]",
        "[" + "-" * 100_000 + "1]",
    ],
)
def test_other_metadata_has_no_names(text: str) -> None:
    """Text that is no list of names is ignored, and nothing in it is run."""
    assert names_in({"names": text}) == ()


def test_names_stand_for_numbers_only_if_all_do() -> None:
    """Folders called 0, 1, 10, 2 are classes 0, 1, 10 and 2."""
    assert numbers_in(["0", "1", "10", "2"], 11) == [0, 1, 10, 2]
    assert numbers_in(["LABEL_1", "LABEL_0"], 2) == [1, 0]
    assert numbers_in(["0", "1", "10", "2"], 10) is None
    assert numbers_in(["1", "two"], 3) is None


@given(st.permutations(range(len(NAMES))))
def test_an_order_is_found_by_name(order: list[int]) -> None:
    """The positions lead back to the names."""
    found = positions([NAMES[k] for k in order], NAMES)
    assert found == order


@pytest.mark.parametrize(
    ("names", "among", "expected"),
    [
        (["T-shirt_top", "ankle boot"], ["Ankle boot", "T-shirt/top"], [1, 0]),
        (["caf\u00e9"], ["tea", "cafe\u0301"], [1]),
        (["a", "A"], ["A", "a"], [1, 0]),
        (["-1", "1"], ["1", "-1"], [1, 0]),
        (["a+"], ["a-", "A+"], None),
        (["crane"], ["crane", "ox", "crane"], None),
        (["crane", "ox", "crane"], ["crane", "ox", "crane"], [0, 1, 2]),
        (["ox", "ox"], ["ox", "ant"], None),
        (["wolf"], ["ox", "ant"], None),
    ],
)
def test_names_match_where_nothing_else_could(names: list[str], among: list[str], expected: list[int] | None) -> None:
    """Case, punctuation and Unicode form are ignored as long as the names stay distinct."""
    assert positions(names, among) == expected


def test_a_remote_that_names_its_classes_is_matched_by_name() -> None:
    """Names win over the order found in calibration, numbers say nothing, and other classes are an error."""
    recorded = (1, 0, 3, 2)
    assert columns_for(NAMES, ("mole", "zebra", "bee", "ant"), recorded) == (3, 2, 1, 0)
    assert columns_for(NAMES, NAMES, recorded) is None
    assert columns_for(NAMES, ("0", "1", "2", "3"), recorded) == recorded
    assert columns_for(("0", "1", "2", "3"), NAMES, None) is None
    with pytest.raises(InvalidReply, match="expected the classes ant, bee, zebra, mole, got ant, bee, zebra, wolf"):
        columns_for(NAMES, ("ant", "bee", "zebra", "wolf"), None)
