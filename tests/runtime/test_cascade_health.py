"""`Cascade.health` says whether the certificate in the file applies, and how much may be added to the loss."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecascade.runtime import (
    Budget,
    Cascade,
    CascadeDocument,
    CascadeHealth,
    Certificate,
    CircuitBreaker,
    InProcess,
    Policy,
    Rate,
    Reason,
    RemoteError,
    RemoteUnreachable,
    Watch,
)

CERTIFICATE = Certificate(loss=0.01, risk=0.05, threshold=0.0, offload_rate=0.3, n=1000, p_value=0.02)
SURE, UNSURE = np.array([5, 0, 0], np.float32), np.array([0, 0.5, 0], np.float32)
LOST = np.array([np.nan, 0, 0], np.float32)
JSON = {"loss": 0.01, "risk": 0.05, "threshold": 0.0, "offload_rate": 0.3, "n": 1000, "p_value": 0.02}


def says_blue(inputs: NDArray[Any]) -> NDArray[Any]:
    """Return blue for every input."""
    return np.tile(np.array([0, 0, 4], np.float32), (len(inputs), 1))


def raises(error: Exception) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Raise an error."""

    def remote(_: NDArray[Any]) -> NDArray[Any]:
        raise error

    return remote


@pytest.fixture
def certified(make_file: Callable[..., Path]) -> Path:
    """Return a cascade model with a certificate."""
    return make_file(certificate=JSON)


def test_a_certificate_applies_while_every_forward_is_answered(certified: Path) -> None:
    """Local and remote answers, and those to inputs whose confidence is NaN, add nothing to the loss."""
    with Cascade.load(certified, remote=says_blue) as cascade:
        for x in (SURE, UNSURE, LOST):
            cascade.predict(x)
        health = cascade.health()
    assert health == CascadeHealth(CERTIFICATE, 3, {}, overridden=False)
    assert (health.excess, health.bound) == (0.0, 0.01)
    assert "no input yet" in str(health._replace(inputs=0))
    assert str(health).startswith("certificate applies: loss against asking the remote always at most 1.0%")


MISSES: dict[Reason, dict[str, Any]] = {
    Reason.OFFLINE: {"remote": raises(RemoteUnreachable("gone"))},
    Reason.REMOTE_ERROR: {"remote": raises(RemoteError("bad"))},
    Reason.DEADLINE: {"remote": raises(TimeoutError())},
    Reason.EGRESS: {"remote": says_blue, "egress": lambda _: False},
    Reason.BUDGET: {"remote": says_blue, "budget": lambda: Budget(bytes=Rate(0.001, 1e9))},
    Reason.CIRCUIT_OPEN: {"remote": lambda: CircuitBreaker(InProcess(raises(RemoteUnreachable("gone"))), failures=1)},
}


@pytest.mark.parametrize("reason", MISSES)
def test_each_missed_forward_is_counted_by_its_reason(certified: Path, reason: Reason) -> None:
    """One of four inputs was to be forwarded and was not: the loss may be exceeded by a quarter."""
    given_parts = {
        name: part() if name == "budget" or reason is Reason.CIRCUIT_OPEN else part
        for name, part in MISSES[reason].items()
    }
    with Cascade.load(certified, **given_parts) as cascade:
        if reason is Reason.CIRCUIT_OPEN:
            cascade.predict(UNSURE)
        cascade.predict_batch(np.stack([SURE, SURE, SURE, UNSURE]))
        health = cascade.health()
        assert cascade.metrics()["certificate"] == {"loss": 0.01, "excess": health.excess, "bound": health.bound}
    assert health.missed[reason] == 1
    assert health.excess == sum(health.missed.values()) / health.inputs
    assert health.bound == pytest.approx(0.01 + health.excess)
    assert f"{reason.value}: 1" in str(health)


def test_all_reasons_but_those_of_a_reply_are_misses() -> None:
    """A new reason has to be put on one of the two sides."""
    assert {*MISSES, Reason.CONFIDENT, Reason.OFFLOADED, Reason.NOT_A_NUMBER} == set(Reason)


def test_another_policy_voids_the_certificate(certified: Path) -> None:
    """A threshold at loading or a swap voids it, also after swapping back; the file's own policy does not."""
    with Cascade.load(certified, threshold=-0.5) as cascade:
        assert cascade.health().overridden
        assert cascade.health().bound == cascade.metrics()["certificate"]["bound"] == 1.0
    with Cascade.load(certified, threshold=0.0) as cascade:
        assert not cascade.health().overridden
        before = cascade.swap(replace(cascade.policy, merge="average"))
        cascade.swap(before)
        assert str(cascade.health()) == "certificate void: a policy other than the file's is or was in force"


def test_swaps_in_two_threads_do_not_hide_an_override(certified: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A swap to the file's own policy, in the middle of which another thread swaps to a different one."""
    own_policy = CascadeDocument.device_policy
    with Cascade.load(certified) as cascade:

        def interrupted(document: CascadeDocument) -> Policy:
            monkeypatch.undo()
            cascade.swap(replace(cascade.policy, merge="average"))
            return own_policy(document)

        monkeypatch.setattr(CascadeDocument, "device_policy", interrupted)
        cascade.swap(cascade.policy)
        assert cascade.health().overridden


def test_a_file_without_a_certificate_has_no_bound(file: Path) -> None:
    """The counts are there all the same, and metrics say nothing of a certificate."""
    with Cascade.load(file) as cascade:
        cascade.predict(UNSURE)
        health = cascade.health()
        assert "certificate" not in cascade.metrics()
    assert (health.bound, health.missed, str(health)) == (None, {Reason.OFFLINE: 1}, "no certificate")


def test_active_alarms_put_the_certificate_in_doubt(certified: Path) -> None:
    """They are named."""
    watch = Watch(share=1.0, least_agreement=0.9)
    with Cascade.load(certified, remote=says_blue, watch=watch) as cascade:
        for _ in range(200):
            cascade.predict(SURE)
        while watch.health().compared < 100:
            cascade.predict(SURE)
        assert "agreement" in cascade.health().alarms
        assert "in doubt while alarms are active: agreement" in str(cascade.health())


@given(st.integers(0, 50), st.integers(1, 200), st.integers(0, 50), st.integers(0, 2**32 - 1))
def test_the_bound_holds_for_any_outcome(misses: int, answered: int, forwards: int, seed: int) -> None:
    """Whatever the models say, misses add at most `excess` to the loss against asking the remote always."""
    rng = np.random.default_rng(seed)
    n = misses + answered
    local, merged = rng.random((2, n)) < rng.random((2, 1))
    planned = np.arange(n) < misses + forwards
    given_answers = np.where(planned & (np.arange(n) >= misses), merged, local)
    added = np.where(planned, merged, local).mean() - given_answers.mean()
    health = CascadeHealth(CERTIFICATE, n, {Reason.DEADLINE: misses}, overridden=False)
    assert added <= health.excess + 1e-12
    assert not math.isnan(health.excess)
