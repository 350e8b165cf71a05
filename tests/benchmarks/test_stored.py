"""Stored results are read back unchanged or not at all."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecascade.benchmarks import stored as module
from edgecascade.benchmarks.device.environment import read_environment
from edgecascade.benchmarks.latency.plan import Scenario
from edgecascade.benchmarks.ratio import Ratio
from edgecascade.benchmarks.stored import Store, decode, hash_of
from edgecascade.types.estimate import Estimate
from studies.coverage import Figure, Row
from studies.speed import FitSpeed, HeadCost


@dataclass(frozen=True)
class _Leaf:
    kind: Literal["a", "b"]
    share: float | None


@dataclass(frozen=True)
class _Tree:
    leaves: tuple[_Leaf, ...]
    counts: dict[str, int]
    scenario: Scenario


def test_a_store_returns_a_value_only_for_its_key(tmp_path: Path) -> None:
    """A damaged file, one of another kind, and one renamed to another key are ignored."""
    store = Store(tmp_path / "cells")
    leaf = _Leaf("a", 0.5)
    store.put("a", leaf)
    assert store.get(_Leaf, "a") == leaf
    assert store.get(_Leaf, "b") is None
    (tmp_path / "cells/b.json").write_bytes((tmp_path / "cells/a.json").read_bytes())
    assert store.get(_Leaf, "b") is None
    for damaged in ("", "{", '{"key": "a", "found": {}}', '{"key": "a", "found": []}', "[]", '{"key": "a"}'):
        (tmp_path / "cells/a.json").write_text(damaged)
        assert store.get(_Leaf, "a") is None
    assert store.reused == 1
    assert not list(tmp_path.glob("cells/*.part"))


@given(
    st.lists(st.builds(_Leaf, st.sampled_from(["a", "b"]), st.none() | st.floats(allow_nan=False))),
    st.dictionaries(st.text(), st.integers()),
    st.sampled_from(Scenario),
)
def test_decoding_inverts_the_encoding_of_a_dataclass(
    leaves: list[_Leaf], counts: dict[str, int], scenario: Scenario
) -> None:
    """Nested dataclasses, tuples, dictionaries, enums and optional fields are restored."""
    tree = _Tree(tuple(leaves), counts, scenario)
    assert decode(_Tree, json.loads(json.dumps(asdict(tree)))) == tree


def test_decoding_refuses_another_type() -> None:
    """A string is not a number of inputs, and a scenario must be a known one."""
    document = {"leaves": [], "counts": {"a": "b"}, "scenario": "server"}
    with pytest.raises(ValueError, match="invalid literal"):
        decode(_Tree, document)
    with pytest.raises(ValueError, match="nowhere"):
        decode(_Tree, {**document, "counts": {}, "scenario": "nowhere"})
    with pytest.raises(KeyError):
        decode(_Tree, {"leaves": []})


_THIRD, _LEAST = 1 / 3, 5e-324
_ESTIMATE = Estimate(_THIRD, 0.1 + 0.2, 1e300, 7)
_RATIO = Ratio("a to b", _THIRD, _LEAST, float("inf"), 15, None, 1.0, 3.0, "us", "higher")
_FIGURE = Figure("accuracy: local", _THIRD, -0.0, 1e-17, 7, None, _LEAST)
_ROW = Row("small > large", 1000, _THIRD, 0.1 + 0.2, 2.0, [_FIGURE])


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (Ratio, _RATIO),
        (list[Ratio], [_RATIO, _RATIO]),
        (HeadCost, HeadCost(_RATIO, _RATIO)),
        (tuple[Estimate, Estimate], (_ESTIMATE, _ESTIMATE)),
        (tuple[Estimate, ...], (_ESTIMATE,) * 3),
        (tuple[Ratio, Estimate], (_RATIO, _ESTIMATE)),
        (Row, _ROW),
        (dict[int, Row], {5: _ROW, 1000: _ROW}),
        (dict[float, list[Estimate]], {_THIRD: [_ESTIMATE], 2.0: []}),
        (dict[str, list[Row]], {"small > large": [_ROW]}),
        (FitSpeed, FitSpeed(50, 10, (_THIRD, 2.0), (3.0,), 1e-9, 0.0)),
    ],
)
def test_a_measurement_survives_a_round_trip(kind: type[Any], found: Any, tmp_path: Path) -> None:
    """Every float keeps its bits, and every key and tuple its type."""
    Store(tmp_path).put("a", found)
    back = Store(tmp_path).get(kind, "a")
    assert back == found
    assert repr(back) == repr(found)  # 1 differs from 1.0, and -0.0 from 0.0


@given(st.dictionaries(st.integers(), st.tuples(st.floats(allow_nan=False), st.integers())))
def test_numbers_keep_every_bit(numbers: dict[int, tuple[float, int]]) -> None:
    """Numbers are tested as keys and as values."""
    back = decode(dict[int, tuple[float, int]], json.loads(json.dumps(numbers)))
    assert repr(back) == repr(numbers)


def test_the_hash_depends_on_content_machine_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """It depends on nothing else."""
    seen = {hash_of({"rounds": 1})}
    assert hash_of({"rounds": 1}) in seen
    seen.add(hash_of({"rounds": 2}))
    environment = read_environment()
    for name, other in (("processor", "other"), ("cores", environment.cores + 1), ("system", "other")):
        with monkeypatch.context() as patch:
            patch.setattr(
                module, "read_environment", lambda name=name, other=other: replace(environment, **{name: other})
            )
            seen.add(hash_of({"rounds": 1}))
    with monkeypatch.context() as patch:
        patch.setattr(module, "version", lambda name: f"{name} 99")
        seen.add(hash_of({"rounds": 1}))
    assert len(seen) == 6
    moving = replace(environment, date="2001-01-01", megahertz=1.0)
    monkeypatch.setattr(module, "read_environment", lambda: moving)
    assert hash_of({"rounds": 1}) in seen
