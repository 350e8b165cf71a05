"""MLPerf LoadGen runs on real sessions and cascades of small models with known answers."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.benchmarks.latency.agreement import compare_with_loop
from edgecascade.benchmarks.latency.cell import Cell, distribution
from edgecascade.benchmarks.latency.data import Inputs, read_inputs_as_given
from edgecascade.benchmarks.latency.loadgen import Load, Outcome, Recorder, run_loadgen
from edgecascade.benchmarks.latency.measure import measure_cell
from edgecascade.benchmarks.latency.plan import DIRECT, STREAMS, Plan, Scenario, Subject
from edgecascade.benchmarks.latency.systems import drive, open_system
from edgecascade.runtime import Cascade
from edgecascade.runtime.engine import open_session
from studies.runtime_costs import black_hole

Planner = Callable[..., Plan]


@pytest.fixture(scope="module")
def inputs(pair: Path) -> Inputs:
    """Return the 400 test images of the pair."""
    return read_inputs_as_given(pair / "test.npz")


@pytest.fixture
def plan(pair: Path) -> Planner:
    """Return the plan of a short cell on the pair, with the remote in this process."""

    def make(subject: Subject, scenario: Scenario, **changes: Any) -> Plan:
        given: dict[str, Any] = {
            "network": DIRECT,
            "file": str(pair / "local.onnx"),
            "data": str(pair / "test.npz"),
            "remote": str(pair / "remote.onnx"),
            "deadline": 30.0,
            "seconds": 0.2,
            "queries": 10,
            "qps": 200.0 if scenario is Scenario.SERVER else 0.0,
            "warm_up": 8,
            "threads": 1,
            "providers": (),
            "engines": None,
        }
        return Plan(subject, scenario, **{**given, **changes})

    return make


def _load(scenario: Scenario, **changes: Any) -> Load:
    given: dict[str, Any] = {"seconds": 0.2, "queries": 10, "expected": 1e-4, "qps": 200.0}
    return Load(scenario, **{**given, **changes})


def _labels(path: Path, given: Sequence[NDArray[np.uint8]], output: str) -> NDArray[Any]:
    """Return a file's labels of images, without the tested code."""
    session = open_session(path)
    found = session.run([output], {session.get_inputs()[0].name: np.stack(given)})[0]
    return np.asarray(found if found.ndim == 1 else found.argmax(axis=1))


@pytest.mark.parametrize("scenario", Scenario)
@pytest.mark.parametrize("subject", [Subject.ALONE, Subject.LOCAL, Subject.REMOTE])
def test_every_sample_gets_one_correct_answer(
    pair: Path, inputs: Inputs, plan: Planner, subject: Subject, scenario: Scenario
) -> None:
    """The label is that of the right file for the image, in the order of issue."""
    with closing(open_system(plan(subject, scenario), inputs)) as one:
        run = run_loadgen(drive(one, scenario), _load(scenario), inputs=len(inputs.given))
    asked = [inputs.given[index] for index in run.samples.index.tolist()]
    file, output = ("remote.onnx", "logits") if subject is Subject.REMOTE else ("local.onnx", "label")
    assert [outcome.label for outcome in run.outcomes] == _labels(pair / file, asked, output).tolist()
    assert len(run.outcomes) == len(run.samples.latency) >= 10
    per_query = STREAMS if scenario is Scenario.MULTI_STREAM else 1
    if scenario is not Scenario.OFFLINE:
        assert (
            len(run.samples.per_query()) * per_query
            == len(run.outcomes)
            == run.detail["result_query_count"] * per_query
        )


def test_the_counts_of_a_cascade_add_up(inputs: Inputs, plan: Planner) -> None:
    """Local and forwarded answers add up to all answers, by reason and by latency."""
    for scenario in Scenario:
        cell = measure_cell(plan(Subject.CASCADE, scenario), inputs)
        forwards = cell.forwards
        assert forwards is not None
        assert sum(forwards.reasons.values()) == cell.answers == forwards.share.n
        local = forwards.reasons.get("confident", 0)
        assert forwards.share.value == pytest.approx(1 - local / cell.answers)
        assert set(forwards.reasons) <= {"confident", "offloaded"}
        if scenario in (Scenario.SINGLE_STREAM, Scenario.SERVER):
            assert forwards.kept is not None
            assert forwards.forwarded is not None
            assert (forwards.kept.n, forwards.forwarded.n) == (local, cell.answers - local)
        else:
            assert forwards.kept is None  # queries of eight or of all: answers have no times of their own
        assert (cell.latency is None) == (scenario is Scenario.OFFLINE)


def test_the_cascade_gives_the_same_answers_under_load(pair: Path, inputs: Inputs, plan: Planner) -> None:
    """Each image gets the answer of `predict`."""
    with Cascade.load(pair / "local.onnx", remote=pair / "remote.onnx", deadline=30.0) as cascade:
        alone = [(answer.label, answer.reason) for answer in map(cascade.predict, inputs.given)]
    with closing(open_system(plan(Subject.CASCADE, Scenario.SERVER), inputs)) as one:
        run = run_loadgen(drive(one, Scenario.SERVER), _load(Scenario.SERVER), inputs=len(inputs.given))
    expected = [alone[index] for index in run.samples.index.tolist()]
    assert [(one.label, one.reason) for one in run.outcomes] == expected


def test_percentiles_equal_those_of_numpy_and_loadgen(inputs: Inputs, plan: Planner) -> None:
    """The ends of the interval are among the recorded latencies."""
    with closing(open_system(plan(Subject.LOCAL, Scenario.SINGLE_STREAM), inputs)) as one:
        load = _load(Scenario.SINGLE_STREAM, queries=400, seconds=0.1)
        run = run_loadgen(drive(one, Scenario.SINGLE_STREAM), load, inputs=len(inputs.given))
    latency = run.samples.latency
    found = distribution(latency / 1e9)
    for name, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        at = found.at(name)
        assert at is not None
        assert at.value == pytest.approx(np.quantile(latency, q) / 1e9)
        assert at.low <= at.value <= at.high
        assert {round(at.low * 1e9), round(at.high * 1e9)} <= set(latency.tolist())
    own = run.detail
    assert own["result_min_latency_ns"] == latency.min()
    assert own["result_max_latency_ns"] == latency.max()
    assert own["result_mean_latency_ns"] == int(latency.mean())
    assert own["result_query_count"] == found.n == len(latency)


def test_multi_stream_measures_queries_of_eight(inputs: Inputs, plan: Planner) -> None:
    """Latencies are those of whole queries, and LoadGen's figures are the same."""
    with closing(open_system(plan(Subject.ALONE, Scenario.MULTI_STREAM), inputs)) as one:
        run = run_loadgen(drive(one, Scenario.MULTI_STREAM), _load(Scenario.MULTI_STREAM), inputs=len(inputs.given))
    per_query = run.samples.per_query()
    assert run.detail["result_max_query_latency_ns"] == per_query.max()
    assert run.detail["result_mean_query_latency_ns"] == int(per_query.mean())
    brute = [run.samples.latency[run.samples.query == query].max() for query in range(len(per_query))]
    assert per_query.tolist() == brute


def test_the_server_scenario_measures_from_the_scheduled_arrival() -> None:
    """The latency of an input includes its wait for earlier inputs."""

    def slow(recorder: Recorder, positions: Sequence[int], indices: Sequence[int]) -> None:
        for position, index in zip(positions, indices, strict=True):
            time.sleep(0.02)
            recorder.answer(position, Outcome(index))

    run = run_loadgen(slow, _load(Scenario.SERVER, qps=200.0, seconds=0.2), inputs=10)
    assert run.samples.latency.max() > 0.1e9  # about 40 arrivals of 20 ms each, in 0.2 s
    assert (run.samples.latency >= run.samples.delay + 0.02e9).all()
    assert run.samples.delay.max() > 0.05e9


class _Timed(Recorder):
    """A recorder that notes the time of each answer."""

    def __init__(self, inner: Recorder, done: dict[int, int]) -> None:
        self._inner, self._answered = inner, done

    def answer(self, position: int, outcome: Outcome) -> None:
        self._answered[position] = time.perf_counter_ns()
        self._inner.answer(position, outcome)

    def fail(self, error: BaseException, *positions: int) -> None:
        self._inner.fail(error, *positions)


def test_latencies_of_loadgen_agree_with_our_clock(inputs: Inputs, plan: Planner) -> None:
    """LoadGen's time includes ours, plus little more than the call into Python."""
    issued: dict[int, int] = {}
    done: dict[int, int] = {}
    with closing(open_system(plan(Subject.LOCAL, Scenario.SERVER), inputs)) as one:
        asks = drive(one, Scenario.SERVER)

        def timed(recorder: Recorder, positions: Sequence[int], indices: Sequence[int]) -> None:
            issued.update(dict.fromkeys(positions, time.perf_counter_ns()))
            asks(_Timed(recorder, done), positions, indices)

        run = run_loadgen(timed, _load(Scenario.SERVER), inputs=len(inputs.given))
    theirs = run.samples.latency - run.samples.delay
    beyond = theirs - np.array([done[position] - issued[position] for position in range(len(theirs))])
    assert beyond.min() > -1e3  # nanoseconds
    assert np.median(beyond) < 2e6


def test_a_silent_remote_costs_at_most_the_deadline(inputs: Inputs, plan: Planner) -> None:
    """The remote never answers a request; every input is answered, and late answers are counted."""
    with black_hole() as address:
        for scenario in (Scenario.SINGLE_STREAM, Scenario.SERVER):
            asked = plan(Subject.CASCADE, scenario, remote=address, deadline=0.05, seconds=1.0, qps=50.0)
            cell = measure_cell(asked, inputs)
            assert cell.forwards is not None
            reasons = cell.forwards.reasons
            assert sum(reasons.values()) == cell.answers
            assert "offloaded" not in reasons
            assert reasons.keys() & {"deadline", "circuit open"}
            assert cell.forwards.overshoot < 2.0  # these requests would otherwise never end
            assert (cell.forwards.late == 0) == (cell.forwards.overshoot == 0)


def test_an_invalid_input_raises(inputs: Inputs, plan: Planner) -> None:
    """In every scenario and thread, LoadGen neither crashes nor hangs."""
    wrong = Inputs([np.zeros((8, 8, 3), np.uint8), "no image"], inputs.labels[:2], "arrays", 2, "")
    for scenario in Scenario:
        with (
            closing(open_system(plan(Subject.LOCAL, scenario), wrong)) as one,
            pytest.raises(Exception, match="image"),
        ):
            run_loadgen(drive(one, scenario), _load(scenario, expected=0.01), inputs=2)


def test_the_harness_is_compared_with_a_bare_loop(inputs: Inputs, plan: Planner) -> None:
    """Both run the same session in turn, with consistent figures."""
    found = compare_with_loop(plan(Subject.ALONE, Scenario.SINGLE_STREAM), inputs, rounds=7, seconds=0.05)
    assert found.latency.n == found.overhead.n == found.between.n == 7
    assert found.latency.ours > 0 < found.latency.theirs
    assert found.between.value > 0
    assert found.met == (1 / 1.05 <= found.latency.value <= 1.05 or abs(found.overhead.value) <= 10e-6)
    assert "per query" in str(found)


def test_a_cell_records_start_cost_and_accuracy(inputs: Inputs, plan: Planner) -> None:
    """A sensor that the machine lacks is None or empty, not 0."""
    cell = measure_cell(plan(Subject.LOCAL, Scenario.SINGLE_STREAM), inputs)
    assert isinstance(cell, Cell)
    assert cell.warm_up.session > 0 < cell.warm_up.first
    assert cell.warm_up.runs == 8
    assert 0 < cell.cpu < 1
    assert cell.provider == "CPUExecutionProvider"
    assert cell.throughput == pytest.approx(cell.answers / cell.seconds)
    assert cell.right.n <= min(cell.answers, 400)
    assert (
        cell.right.low
        < np.mean(_labels(Path(cell.plan.file), inputs.given, "label") == inputs.labels)
        < cell.right.high
    )
    for energy in cell.machine.energies:
        assert energy.per(cell.answers) is None or energy.joules is not None
    assert cell.machine.growth is None or cell.machine.growth >= 0


def test_the_provider_in_use_is_recorded(inputs: Inputs, plan: Planner) -> None:
    """If the requested provider is unavailable, it is the CPU."""
    cell = measure_cell(plan(Subject.LOCAL, Scenario.SINGLE_STREAM, providers=("coreml",)), inputs)
    assert cell.plan.providers == ("coreml",)
    assert cell.provider == "CPUExecutionProvider"
