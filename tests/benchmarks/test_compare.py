"""`bench compare` reports which differences between two results exceed noise."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from edgecascade.benchmarks.ratio import ratio
from edgecascade.benchmarks.report import compare_results, comparison_text, plain, read_result
from edgecascade.benchmarks.report.estimates import difference, find_estimates, freedom, holm, surprise
from edgecascade.calibration import proportion, quantile
from edgecascade.types.errors import BenchmarkError
from edgecascade.types.estimate import Estimate

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
COMMITTED = sorted(RESULTS.glob("*/result.json"))
_ENVIRONMENT = {"processor": "one", "cores": 4, "memory_gib": 7.6, "versions": {"numpy": "2.0"}, "date": "2026-01-01"}


def _document(**kinds: Any) -> dict[str, Any]:
    about = {"schema": 3, "kind": "edgecascade benchmark", "title": "x", "command": "run", "method": []}
    return {**about, "environment": dict(_ENVIRONMENT), **{name: plain(found) for name, found in kinds.items()}}


def _right(share: float, n: int = 4000, name: str = "cascade") -> dict[str, Any]:
    return {"strategies": [{"name": name, "accuracy": {**vars(proportion(share, n)), "better": "higher"}}]}


@st.composite
def _estimates(draw: st.DrawFn) -> Estimate:
    value = draw(st.floats(-1e6, 1e6))
    arms = st.floats(0, 1e6)
    return Estimate(value, value - draw(arms), value + draw(arms), draw(st.integers(2, 10_000)))


_DOCUMENTS = st.dictionaries(
    st.sampled_from(("accuracy", "p50", "p99", "ece", "gap", "energy")), _estimates(), max_size=6
).map(lambda found: _document(offload=found))


@given(_DOCUMENTS)
def test_a_result_equals_itself(document: dict[str, Any]) -> None:
    """Every figure of a result is found and none has changed."""
    found = compare_results(document, copy.deepcopy(document))
    assert len(found.changes) == len(document["offload"])
    assert found.of("same") == found.changes
    assert (found.only_before, found.only_after) == ((), ())
    assert all(change.p == 1 and change.difference.value == 0 for change in found.changes)


@given(_DOCUMENTS, _DOCUMENTS)
def test_swapping_the_results_inverts_the_comparison(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Differences change sign, intervals are mirrored, better becomes worse, and p stays."""
    opposite = {"better": "worse", "worse": "better", "changed": "changed", "same": "same"}
    there, back = compare_results(first, second), compare_results(second, first)
    assert (there.only_before, there.only_after) == (back.only_after, back.only_before)
    returned = {change.place: change for change in back.changes}
    assert returned.keys() == {change.place for change in there.changes}
    for change in there.changes:
        other = returned[change.place]
        ends = other.difference.value, other.difference.low, other.difference.high
        assert (change.difference.value, change.difference.high, change.difference.low) == tuple(-end for end in ends)
        assert other.p == pytest.approx(change.p, abs=1e-12)
        assert opposite[change.outcome] == other.outcome


@given(_estimates(), _estimates())
def test_the_interval_combines_the_arms_in_quadrature(before: Estimate, after: Estimate) -> None:
    """Each end is at least as long as the longer of its two arms, and at most their sum."""
    found = difference(before, after)
    assert found.value == after.value - before.value
    arms = (after.value - after.low, before.high - before.value)
    assert found.value - found.low == pytest.approx(math.hypot(*arms), rel=1e-6, abs=1e-6)
    assert max(arms) - 1e-6 <= found.value - found.low <= sum(arms) + 1e-6
    assert found.low <= found.value <= found.high


def test_the_interval_equals_newcombes_example() -> None:
    """56 of 70 against 48 of 80 by method 10: 0.0524 to 0.3339 (Statistics in Medicine 17:873, table II)."""

    def wilson(right: int, n: int) -> Estimate:
        ends = binomtest(right, n).proportion_ci(method="wilson")
        return Estimate(right / n, float(ends.low), float(ends.high), n)

    found = difference(wilson(48, 80), wilson(56, 70))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


@given(_estimates(), st.floats(0.01, 100), st.integers(2, 10_000))
def test_an_interval_that_ends_at_0_has_a_p_value_of_5_percent(before: Estimate, arm: float, n: int) -> None:
    """For any degrees of freedom, p and the interval agree at 5 %."""
    before = Estimate(0.0, -arm, arm, before.n)
    after = Estimate(math.sqrt(2) * arm, (math.sqrt(2) - 1) * arm, (math.sqrt(2) + 1) * arm, n)
    p = surprise(before, after, (freedom(before.n, None), freedom(n, 0.99)))
    assert p == pytest.approx(0.05, rel=1e-6)


def test_constants_are_compared_exactly() -> None:
    """Without variance in either run, any difference is a change."""
    one, two = Estimate(1.0, 1.0, 1.0, 50), Estimate(2.0, 2.0, 2.0, 50)
    assert surprise(one, two, (49.0, 49.0)) == 0.0
    assert surprise(one, one, (49.0, 49.0)) == 1.0


@given(st.lists(st.floats(0, 1), max_size=30))
def test_holm_follows_its_definition(surprises: list[float]) -> None:
    """Hypotheses are rejected in order while the k-th smallest p of m is at most 0.05 / (m - k + 1)."""
    order = sorted(range(len(surprises)), key=surprises.__getitem__)
    adjusted, holds = holm(surprises), True
    for k, index in enumerate(order):
        m = len(surprises)
        if abs(surprises[index] * (m - k) - 0.05) < 1e-9:
            return
        holds = holds and surprises[index] * (m - k) <= 0.05
        assert (adjusted[index] <= 0.05) == holds
        assert adjusted[index] >= surprises[index]


def _run(rng: np.random.Generator) -> dict[str, Any]:
    """Return shares, percentiles and ratios of a system that does not change."""
    shares = np.linspace(0.03, 0.97, 20)
    rows = [{"name": f"{p:.2f}", "accuracy": proportion(rng.binomial(500, p) / 500, 500)} for p in shares]
    times = [rng.lognormal(size=400) for _ in range(4)]
    latency = {str(i): {f"p{q}": quantile(x, q / 100) for q in (50, 90, 99)} for i, x in enumerate(times)}
    ratios = [ratio(str(i), rng.lognormal(0, 0.05, 15), rng.lognormal(0, 0.05, 15)) for i in range(4)]
    return _document(offload={"strategies": rows}, latency=latency, runtime={"ratios": ratios})


def test_noise_is_reported_as_a_change_less_than_5_times_in_100() -> None:
    """Of 200 pairs of runs with 36 figures each, those with any outcome but "same" are counted."""
    rng = np.random.default_rng(2601)
    found = [compare_results(_run(rng), _run(rng)) for _ in range(200)]
    assert all(len(one.changes) == 36 for one in found)
    assert sum(len(one.of("same")) < 36 for one in found) < 0.05 * 200
    alone = np.mean([change.alone for one in found for change in one.changes])
    assert 0.02 < alone < 0.07  # uncorrected intervals exclude 0 as often as expected


@pytest.mark.parametrize(("share", "outcome"), [(0.76, "worse"), (0.88, "better"), (0.83, "same"), (0.835, "same")])
def test_a_real_change_is_detected(share: float, outcome: str) -> None:
    """Five points from 83 % of 4,000 are significant; half a point is not."""
    found = compare_results(_document(offload=_right(0.83)), _document(offload=_right(share)))
    assert [change.outcome for change in found.changes] == [outcome]


def test_rows_are_matched_by_their_name() -> None:
    """In another order, with one row added and one removed, each row is compared with itself."""
    names = ("local only", "remote only", "cascade")
    first = [{"name": name, "accuracy": proportion(0.1 * i, 900)} for i, name in enumerate(names, 1)]
    second = [first[2], {"name": "oracle", "accuracy": proportion(0.9, 900)}, first[0]]
    found = compare_results(_document(offload={"rows": first}), _document(offload={"rows": second}))
    assert {change.place[2] for change in found.of("same")} == {"local only", "cascade"}
    assert found.only_before == (("offload", "rows", "remote only", "accuracy"),)
    assert found.only_after == (("offload", "rows", "oracle", "accuracy"),)


def test_a_figure_that_was_not_measured_is_not_compared() -> None:
    """NaN, an n of 0 or 1, and text are not estimates."""
    nothing = Estimate(math.nan, math.nan, math.nan, 0)
    whole = _document(latency={"p50": proportion(0.5, 100), "p90": proportion(0.5, 100), "p99": proportion(0.5, 100)})
    holes = _document(
        latency={
            "p50": nothing,
            "p90": Estimate(0.5, 0.5, 0.5, 1),
            "p99": dict.fromkeys(("value", "low", "high", "n"), "x"),
        }
    )
    found = compare_results(whole, holes)
    assert found.changes == ()
    assert len(found.only_before) == 3


def test_the_result_defines_what_is_better() -> None:
    """More accuracy and less time are better; where neither result defines it, a change is only reported as one."""
    slow, fast = ({"p50": {**vars(proportion(share, 4000)), "better": "lower"}} for share in (0.5, 0.4))
    (change,) = compare_results(_document(latency=slow), _document(latency=fast)).changes
    assert change.outcome == "better"
    del slow["p50"]["better"]
    (change,) = compare_results(_document(latency=slow), _document(latency=fast)).changes
    assert change.outcome == "better"  # one of the two fields suffices
    del fast["p50"]["better"]
    (change,) = compare_results(_document(latency=slow), _document(latency=fast)).changes
    assert change.outcome == "changed"


def test_a_ratio_defines_what_is_better() -> None:
    """Its own field precedes that of its name, and it is a median of pairs."""
    times = np.full(15, 2.0) + np.arange(15) * 1e-3
    found = find_estimates(_document(runtime={"a": ratio("x", times, times / 2, better="higher")}))
    ((place, one),) = found.items()
    assert (place, one.better, one.quantile) == (("runtime", "a"), "higher", 0.5)
    faster = _document(runtime={"latency": ratio("x", times * 2, times, better="higher")})
    slower = _document(runtime={"latency": ratio("x", times, times, better="higher")})
    assert [change.outcome for change in compare_results(slower, faster).changes] == ["better"]


def test_a_quantile_is_identified_by_its_name_or_its_q() -> None:
    """`p99`, `p99.9` and a row with a field `q` are quantiles."""
    one = proportion(0.5, 100)
    found = find_estimates(
        _document(latency={"p99": one, "p99.9": one, "mean": one, "percentiles": [{"q": 0.999, "seconds": one}]})
    )
    assert {place[1:]: each.quantile for place, each in found.items()} == {
        ("p99",): 0.99,
        ("p99.9",): 0.999,
        ("mean",): None,
        ("percentiles", "0.999", "seconds"): 0.999,
    }


@given(st.integers(2, 10**6), st.sampled_from((None, 0.5, 0.9, 0.99, 0.999)))
def test_few_values_give_few_degrees_of_freedom(n: int, q: float | None) -> None:
    """They are between 1 and n - 1, and lower for rarer quantiles."""
    assert 1 <= freedom(n, q) <= max(1, n - 1)
    assert freedom(n, 0.99) <= freedom(n, 0.5) <= freedom(n, None)


def test_the_degrees_of_freedom_of_a_percentile_match_a_simulation() -> None:
    """A chi-square with the spread of an interval's arm has about as many degrees of freedom."""
    rng = np.random.default_rng(3)
    found = [quantile(rng.exponential(size=400), 0.9) for _ in range(1000)]
    for arms in ([one.high - one.value for one in found], [one.value - one.low for one in found]):
        seen = float(np.mean(arms) ** 2 / np.var(arms)) / 2
        assert freedom(400, 0.9) == pytest.approx(seen, rel=0.2)
    assert freedom(400, 0.9) < 20 < freedom(400, None)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_every_committed_result_can_be_read(path: Path) -> None:
    """Each result equals itself."""
    document = read_result(path)
    found = compare_results(document, document)
    assert found.of("same") == found.changes
    if path.parent.name in ("flagship", "corruptions", "runtime"):
        assert len(found.changes) > 10


def _said(before: dict[str, Any], after: dict[str, Any], **options: bool) -> str:
    return comparison_text(compare_results(before, after), **options)


def test_another_machine_is_reported_first() -> None:
    """The report names the differences and their effect on times."""
    here, there = _document(offload=_right(0.8)), _document(offload=_right(0.8))
    assert "DIFFERENT MACHINES" not in _said(here, there)
    there["environment"] |= {"processor": "another", "versions": {"numpy": "2.1"}}
    said = _said(here, there)
    assert said.startswith("DIFFERENT MACHINES: processor: one > another.\n")
    assert "versions numpy: 2.0 > 2.1." in said


def test_a_paired_comparison_is_suggested_for_the_same_inputs() -> None:
    """The report suggests a paired comparison if the commands, or n in old results, are equal."""
    same, other = _document(offload=_right(0.8)), _document(offload=_right(0.8, 900))
    assert "paired by input would be narrower" in _said(same, same)
    assert "paired by input" not in _said(same, other)
    other = same | {"command": "run --data other.npz"}
    assert "paired by input" not in _said(same, other)
    assert "The runs were made by different commands." in _said(same, other)


def test_the_report_is_printed() -> None:
    """Each row has outcome, path, both values, difference with interval and n; all rows appear on request."""
    before, after = _document(offload=_right(0.83)), _document(offload=_right(0.76))
    said = _said(before, after)
    assert "1 figures in both: 1 worse, 0 better, 0 changed, 0 within noise." in said
    assert "worse  offload / strategies / cascade / accuracy  0.83 > 0.76  -0.07 (-0.0877 to -0.0523)  n = 4000" in said
    assert "Holm's correction for all 1 figures" in said
    assert "same   offload" not in _said(before, before)
    assert "same  offload / strategies / cascade / accuracy" in _said(before, before, everything=True)
    assert "no figure in common" in _said(before, _document())
    assert "Only in the first: offload / strategies / cascade / accuracy." in _said(before, _document())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "expected a result.json: No such file"),
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("[]", "got other JSON"),
        ('{"schema": 2}', "got other JSON"),
        ('{"schema": 4, "environment": {}}', "schema 3, got schema 4"),
        ('{"schema": true, "environment": {}}', "got schema True"),
        ('{"schema": 3, "kind": "other", "environment": {}}', "expected a benchmark's result"),
    ],
)
def test_an_invalid_result_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    """The error begins with the file's name."""
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BenchmarkError) as refused:
        read_result(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert said in str(refused.value)


@settings(max_examples=200)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda node: (
            st.lists(node, max_size=3)
            | st.dictionaries(st.sampled_from(("value", "low", "high", "n", "name", "q", "plan", "rate")), node)
        ),
    )
)
def test_any_json_of_the_schema_can_be_compared(found: Any) -> None:
    """The comparison does not raise, and a document equals itself."""
    document = json.loads(json.dumps(_document() | {"offload": {"x": found}}))
    text = _said(document, document)
    assert " 0 worse" in text or "no figure in common" in text


def test_a_deeply_nested_result_is_refused() -> None:
    """The error is one sentence, not a RecursionError."""
    node: Any = {}
    for _ in range(500):
        node = {"a": node}
    with pytest.raises(BenchmarkError, match="expected at most 60 levels"):
        compare_results(_document() | {"offload": node}, _document())
