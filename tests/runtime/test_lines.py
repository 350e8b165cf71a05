"""Lines of inputs are parsed from bytes to arrays."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecascade.runtime.budget import Rate
from edgecascade.runtime.commands.budget_arguments import read_rate
from edgecascade.runtime.commands.console import Progress, counting
from edgecascade.runtime.commands.lines import Given, LineInput, LineSplitter, Refused, as_numbers
from edgecascade.runtime.model_inputs import ModelInputs
from edgecascade.types.errors import InputError


@given(text=st.lists(st.binary(max_size=12).filter(lambda b: b"\n" not in b and not b.endswith(b"\r"))), data=st.data())
def test_lines_do_not_depend_on_their_pieces(text: list[bytes], data: Any) -> None:
    """Pieces of any size and either line ending give the same lines; the last line needs no ending."""
    joined = data.draw(st.sampled_from([b"\n", b"\r\n"])).join(text)
    splitter, lines, rest = LineSplitter(), list[bytes | None](), joined
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        lines += splitter.feed(rest[:size])
        rest = rest[size:]
    lines += splitter.end()
    assert lines == (text[:-1] if text and not text[-1] else text)


@given(lines=st.lists(st.integers(0, 20)), size=st.integers(1, 7))
def test_only_lines_above_the_limit_are_dropped(lines: list[int], size: int) -> None:
    """Ten bytes fit, eleven do not, and a splitter never stores more than ten."""
    text = b"".join(b"a" * n + b"\n" for n in lines)
    splitter, found = LineSplitter(longest=10), list[bytes | None]()
    for i in range(0, len(text), size):
        found += splitter.feed(text[i : i + size])
        assert len(splitter._line) <= 10
    assert found == [b"a" * n if n <= 10 else None for n in lines]


def reader(*declared: tuple[str, str, list[Any]], text: bool = False, paths: bool = True) -> LineInput:
    """Return a reader for a model with these inputs."""
    inputs = tuple(SimpleNamespace(name=name, type=kind, shape=shape) for name, kind, shape in declared)
    return LineInput(ModelInputs(inputs, SimpleNamespace() if text else None), paths=paths)  # type: ignore[arg-type]


def read(lines: LineInput, line: str) -> Any:
    """Return the input in a line."""
    found = lines.read(line.encode(), "here")
    assert isinstance(found, Given), found
    return found.x


@given(values=st.lists(st.integers(-300, 300), min_size=1))
def test_integers_stay_exact_or_are_refused(values: list[int]) -> None:
    """For a model of uint8, a number outside 0 to 255 is refused."""
    found = reader(("x", "tensor(uint8)", ["n", "m"])).read(json.dumps(values).encode(), "here")
    if all(0 <= value < 256 for value in values):
        assert isinstance(found, Given)
        assert found.x.dtype == np.uint8
        assert found.x.tolist() == values
    else:
        assert isinstance(found, Refused)
        assert found.error.startswith("x: ")
        assert "uint8" in found.error


def test_values_have_the_types_of_the_model() -> None:
    """Integers are accepted for floating types, and booleans only for booleans."""
    assert read(reader(("x", "tensor(float)", ["n", 2])), "[1, 2]").dtype == np.float32
    assert read(reader(("x", "tensor(bool)", ["n", 2])), "[true, false]").dtype == np.bool_
    assert read(reader(("x", "tensor(int64)", ["n", 2])), "[1.0, 2]").tolist() == [1, 2]
    for line in ("[1.5, 2]", "[true, false]", '["1", "2"]'):
        assert isinstance(reader(("x", "tensor(int64)", ["n", 2])).read(line.encode(), "here"), Refused)


@pytest.mark.parametrize("kind", ["float", "double", "float16"])
def test_numbers_beyond_every_float_are_out_of_range(kind: str) -> None:
    """They get the same sentence as those beyond the model's own type, however they are written."""
    one = reader(("x", f"tensor({kind})", ["n", 2]))
    refused = [one.read(f"[0, {number}]".encode(), "here") for number in ("1e400", "-1e400", "9" * 400)]
    assert {type(each) for each in refused} == {Refused}
    assert len(set(refused)) == 1
    assert read(one, "[0, NaN]").dtype.kind == "f"


def test_several_inputs_are_given_by_name() -> None:
    """Objects work with and without a key, also for a model with inputs called `x` and `key`."""
    two = reader(("a", "tensor(float)", ["n", 1]), ("b", "tensor(int64)", ["n", 1]))
    for line in ('{"a": [1], "b": [2]}', '{"x": {"a": [1], "b": [2]}, "key": "k"}'):
        found = read(two, line)
        assert {name: (array.dtype.name, array.tolist()) for name, array in found.items()} == {
            "a": ("float32", [1.0]),
            "b": ("int64", [2]),
        }
    assert set(read(reader(("x", "tensor(float)", ["n"]), ("key", "tensor(float)", ["n"])), '{"x": 1, "key": 2}')) == {
        "x",
        "key",
    }
    refused = two.read(b"[1]", "here")
    assert isinstance(refused, Refused)
    assert "a, b" in refused.error


@pytest.mark.parametrize("line", ["", "  ", "[1, 2]", '{"x": 1}', '{"y": "a"}', "{never closed", "plain"])
def test_a_sentence_may_have_any_form(line: str) -> None:
    """For a text model, only an object with a string `x` is read as JSON."""
    assert read(reader(("ids", "tensor(int64)", ["n", "m"]), text=True), line) == line


@pytest.mark.parametrize(
    "line", ['{"x": null}', '{"x": null, "key": "k"}', '{"x": 3, "key": "k"}', '{"key": "k", "x": ["a"]}']
)
def test_a_sentence_that_is_missing_is_refused(line: str) -> None:
    """The JSON around it is not answered in its place."""
    found = reader(("ids", "tensor(int64)", ["n", "m"]), text=True).read(line.encode(), "here")
    assert isinstance(found, Refused)
    assert found.error.startswith("x: expected a sentence, got ")


def test_a_sentence_can_have_a_key() -> None:
    """JSON gives a sentence a key; bytes that are not UTF-8 are replaced."""
    text = reader(("ids", "tensor(int64)", ["n", "m"]), text=True)
    assert text.read(b'{"x": "so", "key": "k"}', "here") == Given("here", "so", "k")
    assert text.read(b"caf\xe9", "here") == Given("here", "caf\ufffd")


@pytest.mark.parametrize(
    ("text", "kind", "amount", "seconds"),
    [
        ("100/min", "forwards", 100, 60),
        ("1 forward/s", "forwards", 1, 1),
        ("5MB/day", "bytes", 5e6, 86400),
        ("5 MiB / d", "bytes", 5 * 1024**2, 86400),
        ("0.5kb/hour", "bytes", 500, 3600),
        ("2.50 money/day", "money", 2.5, 86400),
    ],
)
def test_rates_are_parsed(text: str, kind: str, amount: float, seconds: float) -> None:
    """A rate is a number of forwards, bytes in decimal or binary units, or money."""
    assert read_rate(text) == (kind, Rate(amount, seconds))


def test_progress_is_one_line() -> None:
    """Without answers and time, the rate is 0."""
    now = 0.0
    progress = Progress(lambda: 1_234_567, lambda: now)
    assert str(progress) == "0 answered, 0.0/s | 1.2 MB sent"
    progress.saw(None)
    now = 2.0
    assert str(progress) == "0 answered, 0.0/s | 1.2 MB sent | 1 refused"


def test_work_is_counted_with_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    """Where no line can be drawn, there is one at the start and then one every ten seconds, none at the end."""
    now = 0.0
    with counting("running the body", 100, lambda: now) as progress:
        for second in range(1, 26):
            now = float(second)
            progress(4)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "running the body on 100 inputs ...",
        "running the body: 40 of 100, 15 s left",
        "running the body: 80 of 100, 5 s left",
    ]


def test_the_time_left_is_that_of_the_slower_part(capsys: pytest.CaptureFixture[str]) -> None:
    """Parts with nothing to do are not shown; until each has begun, nothing is known."""
    now = 0.0
    with counting("asking", {"local": 50, "remote": 20, "other": 0}, lambda: now) as progress:
        for second in range(1, 31):
            now = float(second)
            progress(1, "local")
            if second > 10:
                progress(1, "remote")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "asking on 70 inputs ...",
        "asking: local 10 of 50, remote 0 of 20",
        "asking: local 20 of 50, remote 9 of 20, 30 s left",
        "asking: local 30 of 50, remote 19 of 20, 20 s left",
    ]


@pytest.mark.parametrize("dtype", ["uint64", "int64", "uint8"])
def test_whole_numbers_keep_all_digits(dtype: str) -> None:
    """Also those beyond what a float holds, side by side with small ones."""
    least, most = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    assert as_numbers([[least, most], [most - 1, 1]], np.dtype(dtype), "x").tolist() == [[least, most], [most - 1, 1]]
    for wrong in (least - 1, most + 1):
        with pytest.raises(InputError, match=dtype):
            as_numbers([wrong, 1], np.dtype(dtype), "x")


MIXED = ["a" * 50_000, *["b"] * 50_000]


@pytest.mark.parametrize("wrong", [[1, "a"], [[1], [2, 3]], [None], [{}], [[1], 2], MIXED])
def test_values_that_are_not_numbers_are_refused_before_numpy_sees_them(wrong: list[Any]) -> None:
    """An array of strings would take the size of the longest one for each, 10 GB here."""
    with pytest.raises(InputError, match=r"^x: expected numbers"):
        as_numbers(wrong, np.dtype(np.float32), "x")
