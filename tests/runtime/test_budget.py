"""A budget is never exceeded, is used completely, and serves the inputs with the lowest advantage."""

import json
import math
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecascade.runtime import ArgumentError, private_file
from edgecascade.runtime.budget import Budget, Rate, TokenBucket
from edgecascade.runtime.budget_file import BudgetFile

DAY = 86400.0
ADVANTAGES = np.linspace(-0.5, -0.02, 12)  # as many values as an advantage table has bins


class Clock:
    """A clock that is set by the test."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class Run:
    """The result for a stream of candidates: which were admitted, and the level after each."""

    def __init__(self, times: NDArray[Any], advantages: NDArray[Any], confidences: NDArray[Any], **limits: Any) -> None:
        clock = Clock(float(times[0]))
        budget = Budget(**limits, clock=clock, seed=1)
        self.advantages, self.confidences = advantages, confidences
        admitted, levels = [], []
        for now, advantage, confidence in zip(times.tolist(), advantages.tolist(), confidences.tolist(), strict=True):
            clock.now = now
            admitted.append(budget.admits(advantage, confidence, 100))
            levels.append(min(budget.levels.values()))
        self.admitted, self.levels = np.array(admitted), np.array(levels)

    @property
    def mean(self) -> float:
        """Return the mean advantage of the forwarded inputs."""
        return float(self.advantages[self.admitted].mean())

    @property
    def ideal(self) -> float:
        """Return the lowest possible mean for the same number of forwards, if all candidates were known in advance."""
        order = np.lexsort((self.confidences, self.advantages))
        return float(self.advantages[order[: self.admitted.sum()]].mean())


def first_come(times: NDArray[Any], rates: Sequence[Rate]) -> NDArray[Any]:
    """Return the inputs that a plain token bucket would serve."""
    tokens, before, served = [rate.amount for rate in rates], float(times[0]), []
    for now in times.tolist():
        tokens = [min(r.amount, t + (now - before) * r.amount / r.seconds) for t, r in zip(tokens, rates, strict=True)]
        before = now
        served.append(min(tokens) >= 1)
        tokens = [t - served[-1] for t in tokens]
    return np.array(served)


def steady(per_second: float, n: int) -> NDArray[Any]:
    """Return arrivals of a Poisson process."""
    return np.cumsum(np.random.default_rng(5).exponential(1 / per_second, n))


def bursts(on: float, off: float, per_second: float, n: int) -> NDArray[Any]:
    """Return arrivals of an on-off process."""
    t = steady(per_second, n)
    return t + np.floor(t / on) * off


def diurnal(per_second: float, days: float) -> NDArray[Any]:
    """Return arrivals nineteen times as frequent at noon as at midnight."""
    rng = np.random.default_rng(6)
    t = np.sort(rng.random(rng.poisson(2 * per_second * days * DAY))) * days * DAY
    return t[rng.random(len(t)) < (1 + 0.9 * np.sin(2 * np.pi * t / DAY)) / 2]


def candidates(n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return advantages with twelve distinct values, and confidences of two digits, so that many are equal."""
    rng = np.random.default_rng(7)
    return rng.choice(ADVANTAGES, n), rng.random(n).round(2)


@pytest.mark.parametrize("per_second", [2.5, 5.0, 20.0, 50.0])
def test_under_steady_overload_the_lowest_advantages_are_forwarded(per_second: float) -> None:
    """At 1.5 to 30 times the affordable rate, all tokens are used, nearly as well as with knowledge of the future."""
    times, rate = steady(per_second, 15000), Rate.per_minute(100)
    run = Run(times, *candidates(len(times)), forwards=rate)
    after = slice(5000, None)  # the first half of the bucket is available to all inputs
    inflow = (times[-1] - times[5000]) * rate.amount / rate.seconds
    assert 0.95 * inflow < run.admitted[after].sum() < 1.05 * inflow
    run.advantages, run.confidences, run.admitted = run.advantages[after], run.confidences[after], run.admitted[after]
    average = float(run.advantages.mean())
    assert average - run.mean > 0.9 * (average - run.ideal)


def test_under_steady_overload_the_level_settles_above_zero() -> None:
    """It settles at one sixth, as the formula predicts."""
    times = steady(20.0, 20000)
    levels = Run(times, *candidates(len(times)), forwards=Rate.per_minute(100)).levels[5000:]
    assert levels.min() > 0.05
    assert abs(np.median(levels) - 1 / 6) < 0.03


def test_a_sufficient_budget_admits_every_input() -> None:
    """Below the affordable rate, the budget changes nothing."""
    times = steady(1.0, 3000)
    assert Run(times, *candidates(3000), forwards=Rate.per_minute(100)).admitted.all()


@pytest.mark.parametrize(
    ("times", "rates", "least_used"),
    [
        (bursts(5, 10, 30, 15000), [Rate.per_minute(100)], 0.95),
        (bursts(2, 20, 200, 15000), [Rate.per_minute(100)], 0.95),
        (bursts(10, 50, 50, 15000), [Rate.per_minute(100)], 0.95),
        (bursts(60, 240, 40, 30000), [Rate.per_minute(100)], 0.88),  # tokens are left at the end of a long burst
        (diurnal(0.05, 6), [Rate.per_day(1000)], 0.95),
        (diurnal(0.05, 6), [Rate.per_day(1000), Rate.per_minute(3)], 0.95),
    ],
    ids=["short bursts", "steep bursts", "bursts a minute", "long bursts", "diurnal", "diurnal, two windows"],
)
def test_uneven_arrivals_are_served_better_than_first_come(
    times: NDArray[Any], rates: list[Rate], least_used: float
) -> None:
    """Nearly as many are served, with at least a quarter of the possible gain over first come, first served."""
    run, cliff = Run(times, *candidates(len(times)), forwards=rates), first_come(times, rates)
    assert least_used * cliff.sum() < run.admitted.sum() <= cliff.sum()
    cliff_mean = float(run.advantages[cliff].mean())
    assert cliff_mean - run.mean > (cliff_mean - run.ideal) / 4


@pytest.mark.parametrize("shift", [-1.0, 1.0])
def test_a_shift_of_all_advantages_keeps_the_rate(shift: float) -> None:
    """Ranks follow the distribution; meanwhile the bucket is neither empty nor always full."""
    times = steady(20.0, 20000)
    advantages, confidences = candidates(len(times))
    advantages[10000:] += shift
    run = Run(times, advantages, confidences, forwards=Rate.per_minute(100))
    inflow = (times[-1] - times[10000]) * 100 / 60
    assert 0.95 * inflow < run.admitted[10000:].sum() < 1.05 * inflow
    assert run.levels[10000:].min() > 0.02


def test_a_surge_after_quiet_weeks_does_not_empty_the_bucket() -> None:
    """Past demand does not predict the surge."""
    quiet = np.arange(0, 20 * DAY, 20000.0)
    times = np.concatenate([quiet, 20 * DAY + steady(20.0, 20000)])
    run = Run(times, *candidates(len(times)), forwards=Rate.per_day(100))
    assert run.levels[: len(quiet)].min() > 0.5
    assert run.levels.min() > 0.02


def test_equal_inputs_are_admitted_at_the_affordable_rate() -> None:
    """Ties are broken at random."""
    times, same = steady(10.0, 10000), np.full(10000, -0.25)
    run = Run(times, same, same, forwards=Rate.per_minute(60))
    inflow = (times[-1] - times[3000]) / 1.0
    assert 0.9 * inflow < run.admitted[3000:].sum() < 1.1 * inflow


def test_the_less_confident_of_equal_advantages_is_admitted() -> None:
    """Confidence is the second key of the ranking."""
    times = steady(10.0, 10000)
    confidences = np.random.default_rng(8).random(10000)
    run = Run(times, np.full(10000, -0.25), confidences, forwards=Rate.per_minute(60))
    assert confidences[3000:][run.admitted[3000:]].mean() < 0.1


@pytest.mark.parametrize(("advantage", "confidence"), [(math.nan, 0.5), (-0.1, math.nan), (math.nan, math.nan)])
def test_nan_ranks_first(advantage: float, confidence: float) -> None:
    """One NaN in a thousand is admitted while ten in eleven other inputs are not."""
    times = steady(11.0, 10000)
    advantages, confidences = candidates(10000)
    odd = np.arange(4000, 10000, 1000)
    advantages[odd], confidences[odd] = advantage, confidence
    run = Run(times, advantages, confidences, forwards=Rate.per_minute(60))
    assert run.admitted[odd].all()
    assert run.admitted[4000:].mean() < 0.12


def test_a_spent_budget_admits_nothing() -> None:
    """An empty bucket refuses even NaN."""
    budget = Budget(forwards=Rate.per_day(2), clock=Clock())
    assert [budget.admits(math.nan, math.nan, 1) for _ in range(4)] == [True, True, False, False]


def test_a_forward_is_charged_to_all_buckets_or_to_none() -> None:
    """A refusal by one bucket costs nothing in the others."""
    budget = Budget(forwards=Rate.per_day(10), bytes=Rate.per_day(100), clock=Clock())
    assert not budget.admits(-1.0, 0.0, 101)
    assert budget.levels == {"forwards/86400s": 1.0, "bytes/86400s": 1.0}
    assert budget.admits(-1.0, 0.0, 40)
    assert budget.levels == {"forwards/86400s": 0.9, "bytes/86400s": 0.6}


def test_a_money_bucket_charges_the_price_of_a_forward() -> None:
    """The size does not matter, and a refund restores the price."""
    clock = Clock()
    budget = Budget(money=Rate.per_day(10.0), price=2.5, clock=clock)
    assert budget.admits(-1.0, 0.0, 200)
    assert budget.levels == {"money/86400s": 0.75}
    budget.refund(200)
    assert budget.levels == {"money/86400s": 1.0}
    budget.refund(200)
    assert budget.levels == {"money/86400s": 1.0}


candidate = st.tuples(
    st.floats(0, 40),  # seconds since the previous one
    st.sampled_from([-0.5, -0.25, -0.1, math.nan, math.inf]),
    st.sampled_from([0.2, 0.5, 0.9, math.nan]),
    st.integers(0, 60),
)


@given(
    st.lists(candidate, max_size=80),
    st.lists(st.tuples(st.floats(1, 20), st.floats(1, 100)), min_size=1, max_size=3, unique_by=lambda r: f"{r[1]:g}"),
    st.floats(10, 300),
    st.booleans(),
)
def test_no_window_is_ever_overspent(
    stream: list[tuple[float, float, float, int]],
    forwards: list[tuple[float, float]],
    most_bytes: float,
    greedy: bool,
) -> None:
    """For any two forwards T apart, at most amount * (1 + T / seconds) is spent in every bucket, both included.

    The bound holds with and without the ranking.
    """
    clock = Clock()
    rates = [Rate(*one) for one in forwards]
    budget = Budget(forwards=rates, bytes=Rate(most_bytes, 30.0), clock=clock)
    spent: list[tuple[float, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        if greedy:
            patch.setattr(TokenBucket, "share", lambda _: 1.0)
        for pause, advantage, confidence, nbytes in stream:
            clock.now += pause
            if budget.admits(advantage, confidence, nbytes):
                spent.append((clock.now, nbytes))
    for first, (start, _) in enumerate(spent):
        for last, (end, _) in enumerate(spent[first:], first):
            within = [nbytes for _, nbytes in spent[first : last + 1]]
            for rate in rates:
                assert len(within) <= rate.amount * (1 + (end - start) / rate.seconds) + 1e-6
            assert sum(within) <= most_bytes * (1 + (end - start) / 30.0) + 1e-6


def test_a_clock_set_back_neither_adds_nor_removes_tokens() -> None:
    """No interval is counted twice or lost."""
    clock = Clock(100.0)
    budget = Budget(forwards=Rate(2, 10), clock=clock)
    assert budget.admits(math.nan, 0, 0)
    clock.now = 0.0
    assert budget.admits(math.nan, 0, 0)
    for clock.now in (0.0, 99.0, 100.0, 50.0, 100.0):
        assert not budget.admits(math.nan, 0, 0)


def test_concurrent_threads_stay_within_the_budget() -> None:
    """Eight threads spend at once while the clock does not advance."""
    budget = Budget(forwards=Rate.per_day(500), clock=Clock())
    admitted: list[bool] = []
    threads = [
        threading.Thread(target=lambda: admitted.extend([budget.admits(math.nan, 0.0, 1) for _ in range(200)]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(admitted) == 1600
    assert 250 <= sum(admitted) <= 500
    assert budget.levels["forwards/86400s"] == pytest.approx(1 - sum(admitted) / 500)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "budget: expected one or more rates"),
        ({"forwards": []}, "budget: expected one or more rates"),
        ({"forwards": [Rate(1, 60), Rate(2, 60)]}, "no two of a kind over the same time"),
        ({"forwards": 3}, "forwards: expected a Rate or several, got 3"),
        ({"forwards": [3]}, "forwards: expected a Rate or several, got 3"),
        ({"forwards": Rate(0.5, 60)}, "forwards: expected an amount that pays for one forward, 1, got 0.5"),
        ({"money": Rate(5, 60)}, "price: expected if and only if"),
        ({"money": Rate(0.5, 60), "price": 1.0}, "money: expected an amount that pays for one forward, 1, got 0.5"),
        ({"forwards": Rate(5, 60), "price": 1.0}, "price: expected if and only if"),
        ({"forwards": Rate(5, 60), "price": -1.0}, "price: expected a finite number of 0 or more, got -1.0"),
        ({"forwards": Rate(5, 60), "path": "/no/such/folder/b"}, "path: expected a file in a folder that exists"),
    ],
)
def test_invalid_arguments_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    """The error names the argument, the value expected and the value found."""
    with pytest.raises(ArgumentError, match=sentence):
        Budget(**arguments)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "5", None])
def test_a_rate_needs_finite_positive_numbers(value: Any) -> None:
    """Both the amount and the time are checked."""
    with pytest.raises(ArgumentError, match="amount: expected a finite number above 0"):
        Rate(value, 60)
    with pytest.raises(ArgumentError, match="seconds: expected a finite number above 0"):
        Rate(1, value)


def test_a_negative_size_is_refused() -> None:
    """A negative size would add tokens."""
    with pytest.raises(ArgumentError, match="nbytes: expected 0 or more, got -1"):
        Budget(bytes=Rate(5, 60)).admits(-1.0, 0.0, -1)


class Device:
    """A device that restarts with the same budget while the wall clock goes on."""

    def __init__(self, path: Path, **limits: Any) -> None:
        self.path, self.limits = path, limits or {"forwards": Rate.per_day(640)}
        self.clock, self.wall = Clock(), Clock(1.7e9)

    def start(self) -> Budget:
        """Start a new process."""
        return Budget(**self.limits, path=self.path, clock=self.clock, wall_clock=self.wall)

    def wait(self, seconds: float) -> None:
        """Advance both clocks."""
        self.clock.now += seconds
        self.wall.now += seconds


def spend(budget: Budget, most: int) -> int:
    """Forward NaN inputs, which are admitted while there are tokens, and return the number admitted."""
    return sum(budget.admits(math.nan, math.nan, 1) for _ in range(most))


def level(budget: Budget) -> float:
    """Return the level of the only bucket."""
    (found,) = budget.levels.values()
    return found


def test_a_new_file_starts_full_and_a_closed_one_resumes_its_level(tmp_path: Path) -> None:
    """Tokens that accrue while no process runs are added."""
    device = Device(tmp_path / "budget.json")
    with device.start() as budget:
        assert level(budget) == 1.0
        assert spend(budget, 160) == 160
    assert level(device.start()) == pytest.approx(0.75)
    device = Device(tmp_path / "budget.json")
    device.wait(DAY / 8)
    assert level(device.start()) == pytest.approx(0.75 - 1 / 64 + 1 / 8)


@given(st.lists(st.tuples(st.integers(0, 200), st.floats(0, 20000)), min_size=1, max_size=60))
@settings(max_examples=40)
def test_a_crash_loop_overspends_at_most_one_part(
    tmp_path_factory: pytest.TempPathFactory, lives: list[tuple[int, float]]
) -> None:
    """For any number of crashes, the excess over the bound of one process is at most 1/64 of the amount."""
    device = Device(tmp_path_factory.mktemp("crash") / "budget.json")
    start, total = device.wall.now, 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TokenBucket, "share", lambda _: 1.0)  # spends every available token
        for wanted, pause in lives:
            budget = device.start()  # and the previous process crashes without closing
            total += spend(budget, wanted)
            device.wait(pause)
            total += spend(budget, wanted)
            assert total <= 640 * (1 + 1 / 64 + (device.wall.now - start) / DAY) + 1e-6


def test_a_crash_costs_at_most_one_part_of_the_budget(tmp_path: Path) -> None:
    """The part was reserved in the file and not spent."""
    device = Device(tmp_path / "budget.json")
    assert spend(device.start(), 100) == 100
    assert 1 - 110 / 640 - 1 / 64 <= level(device.start()) <= 1 - 100 / 640


def test_the_file_is_written_once_per_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flash memory wears out: 100 forwards of 640 need at most a dozen writes."""
    writes = []
    replace = Path.replace

    def counted(self: Path, target: Path) -> Path:
        writes.append(target)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", counted)
    budget = Device(tmp_path / "budget.json").start()
    assert spend(budget, 100) == 100
    assert 2 <= len(writes) <= 12
    assert [path.name for path in tmp_path.iterdir()] == ["budget.json"]


GOOD = {"format": 1, "at": 1.7e9, "levels": {"forwards/86400s": 0.5}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 200,
        b"{",
        b'{"format": ' + b"[" * 100_000,
        json.dumps(GOOD).encode()[:-9],
        json.dumps({**GOOD, "format": 2}).encode(),
        json.dumps({**GOOD, "at": math.nan}).encode(),
        json.dumps({**GOOD, "at": None}).encode(),
        json.dumps({**GOOD, "levels": [1]}).encode(),
        json.dumps({**GOOD, "levels": {"forwards/86400s": math.nan}}).encode(),
        json.dumps({**GOOD, "levels": {"forwards/86400s": 1e9}}).encode(),
        json.dumps({**GOOD, "levels": {"forwards/86400s": -1}}).encode(),
        json.dumps({**GOOD, "levels": {"forwards/86400s": {}}}).encode(),
        json.dumps({**GOOD, "at": 10**400}).encode(),
    ],
)
def test_a_damaged_file_starts_empty(tmp_path: Path, content: bytes) -> None:
    """The amount spent is unknown, so the bucket fills from 0."""
    device = Device(tmp_path / "budget.json")
    device.path.write_bytes(content)
    budget = device.start()
    assert level(budget) == 0.0
    assert spend(budget, 5) == 0
    device.wait(DAY / 4)
    assert level(budget) == pytest.approx(0.25)
    assert spend(budget, 5) > 0
    budget.close()
    assert 0.2 < level(device.start()) < 0.25


@pytest.mark.parametrize("content", [b"my notes\n", b'{"a": 1}', b"[]", b"\xff\xfe"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    """The file stays as it is."""
    device = Device(tmp_path / "mine.txt")
    device.path.write_bytes(content)
    with pytest.raises(ArgumentError, match=r"^path: .*mine\.txt"):
        device.start()
    assert device.path.read_bytes() == content


def test_a_folder_is_no_budget_file(tmp_path: Path) -> None:
    """Its level could never be written, and so nothing would be forwarded."""
    with pytest.raises(ArgumentError, match=r"^path: .*folder"):
        Budget(forwards=Rate.per_minute(9), path=tmp_path)


def test_an_unreadable_file_starts_empty(tmp_path: Path) -> None:
    """It is treated like a damaged one."""
    (tmp_path / "budget.json").symlink_to("budget.json")
    assert level(Device(tmp_path / "budget.json").start()) == 0.0


def test_a_window_missing_from_the_file_starts_full(tmp_path: Path) -> None:
    """A new configuration is not a crash; the other windows keep their levels."""
    path = tmp_path / "budget.json"
    path.write_text(json.dumps(GOOD))
    device = Device(path, forwards=[Rate.per_day(1000), Rate.per_minute(10)])
    assert device.start().levels == {"forwards/86400s": 0.5, "forwards/60s": 1.0}


def test_a_wall_clock_set_back_adds_nothing(tmp_path: Path) -> None:
    """A device without a battery starts in 1970 and later learns the time; neither change adds tokens."""
    device = Device(tmp_path / "budget.json")
    with device.start() as budget:
        assert spend(budget, 128) == 128
    device.wall.now = 0.0
    budget = device.start()
    assert level(budget) == pytest.approx(0.8)
    assert spend(budget, 64) == 64
    device.wall.now = 1.7e9 + 60
    assert level(device.start()) < 0.702


def test_a_wall_clock_that_was_ahead_stops_no_inflow(tmp_path: Path) -> None:
    """Once it is right again, tokens come in from then on, however far ahead it was."""
    device = Device(tmp_path / "budget.json")
    device.wall.now = 4e9
    with device.start() as budget:
        spend(budget, 300)
        before = level(budget)
    device.wall.now = 1.7e9
    with device.start() as budget:
        assert level(budget) == pytest.approx(before - 1 / 64, abs=1 / 64)
        before = level(budget)
    device.wait(DAY / 8)
    assert level(device.start()) == pytest.approx(before + 1 / 8, abs=2 / 64)


@pytest.mark.parametrize(("wrong", "buckets"), [(0.0, 1), (1.2e9, 1), (4e9, 2)])
def test_restarts_under_a_wrong_clock_do_not_refill_the_budget(tmp_path: Path, wrong: float, buckets: int) -> None:
    """Every other start is under the same wrong clock; only the first jump ahead brings a full bucket."""
    device, total, start = Device(tmp_path / "budget.json"), 0, 1.7e9
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TokenBucket, "share", lambda _: 1.0)  # spends every available token
        for life in range(12):
            device.wall.now = wrong if life % 2 else start
            with device.start() as budget:
                total += spend(budget, 2000)
                device.wait(DAY / 100)
                total += spend(budget, 2000)
            start += DAY / 100
    assert 640 <= total <= 640 * (buckets + 12 / 100 + 6 / 100 + 1 / 64)


def test_a_full_disk_stops_no_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry is written in the place of the old one, which needs no space."""
    device = Device(tmp_path / "budget.json")
    with device.start() as budget:
        size = device.path.stat().st_size

        def full(path: str, flags: int) -> int:  # noqa: ARG001
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(private_file, "_made_anew", full)
        assert spend(budget, 200) == 200
        before = level(budget)
    assert device.path.stat().st_size < size + 40
    assert level(device.start()) == pytest.approx(before - 1 / 64, abs=1 / 64)


def test_only_the_owner_can_read_the_file_and_a_link_stays_one(tmp_path: Path) -> None:
    """The link's target has the levels."""
    (tmp_path / "link.json").symlink_to(tmp_path / "budget.json")
    with Device(tmp_path / "link.json").start() as budget:
        spend(budget, 100)
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "budget.json").stat().st_mode & 0o777 == 0o600
    assert level(Device(tmp_path / "budget.json").start()) < 0.9


def test_nothing_is_admitted_while_the_file_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a device that crashes because its disk is full would spend its budget repeatedly."""
    device = Device(tmp_path / "budget.json")
    budget = device.start()
    tries = []

    def full(*given: Any) -> Path:
        tries.append(given)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        patch.setattr(BudgetFile, "_overwrite", full)
        assert spend(budget, 100) == 10  # the part that was reserved before
        assert len(tries) == 2
        assert (before := level(budget)) == pytest.approx(630 / 640)  # the refused forwards cost nothing
        assert spend(Device(tmp_path / "another.json").start(), 5) == 0
    device.wait(1.0)
    assert level(budget) == pytest.approx(before, abs=1e-4)
    assert spend(budget, 100) == 100


def test_a_closed_budget_admits_nothing(tmp_path: Path) -> None:
    """What it spends after its last write would be lost; closing twice is allowed."""
    budget = Device(tmp_path / "budget.json").start()
    budget.close()
    budget.close()
    assert spend(budget, 3) == 0


def test_a_pipe_is_no_budget_file(tmp_path: Path) -> None:
    """Reading it would never end, and writing would replace it."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArgumentError, match=r"^path: .*device or pipe"):
        Budget(forwards=Rate.per_minute(9), path=tmp_path / "pipe")
