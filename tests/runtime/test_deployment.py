"""Budget, egress, outbox and watch in one cascade: which inputs leave the device, and what happens to the others."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.runtime import (
    Budget,
    Cascade,
    CircuitOpen,
    LateAnswer,
    Outbox,
    Rate,
    Reason,
    RemoteError,
    RemoteUnreachable,
    Source,
    Watch,
    prometheus_text,
)

SURE = np.array([5, 0, 0], np.float32)
UNSURE = np.array([0, 0.5, 0], np.float32)


class Link:
    """A remote that returns blue for every input while its link is up."""

    def __init__(self) -> None:
        self.up = True
        self.seconds = 0.0
        self.asked: list[NDArray[Any]] = []

    def __call__(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """Return scores, or raise `RemoteUnreachable`."""
        if not self.up:
            raise RemoteUnreachable("the link is down")
        self.asked += list(inputs)
        time.sleep(self.seconds)
        return np.tile(np.array([0, 0, 4], np.float32), (len(inputs), 1))


@pytest.fixture
def link() -> Link:
    """Return a link that is up."""
    return Link()


def until(done: Callable[[], bool]) -> None:
    """Wait for a condition as long as a busy machine may need."""
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_spent_budget_causes_local_answers(file: Path, link: Link) -> None:
    """Each has its reason, and the counts add up."""
    budget = Budget(forwards=Rate(10, 3600))
    with Cascade.load(file, remote=link, budget=budget, deadline=5) as cascade:
        reasons = [cascade.predict(x).reason for x in [UNSURE, SURE] * 100]
        counts = cascade.counts()
        assert cascade.metrics()["budget"] == {"forwards/3600s": pytest.approx(1 - len(link.asked) / 10, abs=0.05)}
    assert 5 <= len(link.asked) == reasons.count(Reason.OFFLOADED) <= 10
    assert reasons.count(Reason.BUDGET) == 100 - len(link.asked)
    assert (counts.local, counts.forwarded, counts.reasons[Reason.OFFLOADED]) == (100, 100, len(link.asked))


def test_an_input_that_is_not_sent_costs_no_budget(file: Path) -> None:
    """While the circuit is open, the budget stays."""

    def refuses(_: Any) -> Any:
        raise CircuitOpen("left alone")

    budget = Budget(forwards=Rate(10, 3600))
    with Cascade.load(file, remote=refuses, budget=budget, watch=Watch(share=1.0), deadline=5) as cascade:
        assert {cascade.predict(UNSURE).reason for _ in range(50)} == {Reason.CIRCUIT_OPEN}
        for _ in range(50):
            cascade.predict(SURE)
        until(lambda: budget.levels["forwards/3600s"] > 0.99)


def test_inputs_refused_by_egress_are_answered_locally(file: Path, link: Link, tmp_path: Path) -> None:
    """The application gets each input as it would be sent; if it raises, the input is neither sent nor stored."""
    seen = []

    def egress(x: NDArray[Any]) -> bool:
        seen.append(x)
        if len(seen) == 2:
            raise RuntimeError("no idea")
        return len(seen) > 2

    with Cascade.load(file, remote=link, egress=egress, outbox=Outbox(tmp_path / "outbox"), deadline=5) as cascade:
        answers = [cascade.predict(UNSURE) for _ in range(3)]
        assert cascade.metrics()["outbox"]["waiting"] == 0
    assert [a.reason for a in answers] == [Reason.EGRESS, Reason.EGRESS, Reason.OFFLOADED]
    assert [a.queued for a in answers] == [""] * 3
    np.testing.assert_array_equal(seen[0], UNSURE)
    assert len(link.asked) == 1


@pytest.mark.parametrize("says", [1, "true", None])
def test_only_true_lets_an_input_leave(file: Path, link: Link, says: Any) -> None:
    """Neither does a coroutine, which is true to Python; numpy's true and false are as good as Python's."""

    async def later(_: NDArray[Any]) -> bool:
        return True

    egresses: list[Any] = [lambda _: says, later, lambda _: np.False_]
    for egress in egresses:
        with Cascade.load(file, remote=link, egress=egress, deadline=5) as cascade:
            assert cascade.predict(UNSURE).reason is Reason.EGRESS
    assert not link.asked
    with Cascade.load(file, remote=link, egress=lambda _: np.True_, deadline=5) as cascade:  # type: ignore[arg-type,return-value]
        assert cascade.predict(UNSURE).reason is Reason.OFFLOADED


def test_egress_cannot_change_what_is_sent(file: Path, link: Link) -> None:
    """An input that it tries to write to stays on the device: it is not sent in another form than egress saw."""

    def egress(x: NDArray[Any]) -> bool:
        x[:] = 0
        return True

    with Cascade.load(file, remote=link, egress=egress, deadline=5) as cascade:
        assert cascade.predict(UNSURE).reason is Reason.EGRESS
        assert [one.reason for one in cascade.predict_batch(UNSURE[None])] == [Reason.EGRESS]
    assert not link.asked


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_signal_that_comes_during_egress_is_not_lost(file: Path, link: Link, kind: type[BaseException]) -> None:
    """What its handler raises ends the call, and the input is not sent; other calls go on."""
    signals = [kind]

    def egress(_: NDArray[Any]) -> bool:
        if signals:
            raise signals.pop()
        return True

    with Cascade.load(file, remote=link, egress=egress, deadline=5) as cascade:
        with pytest.raises(kind):
            cascade.predict(UNSURE)
        assert not link.asked
        assert cascade.predict(UNSURE).reason is Reason.OFFLOADED


def test_inputs_refused_by_egress_are_not_stored(file: Path, tmp_path: Path) -> None:
    """An input that no queue can hold costs no answer either."""
    with Cascade.load(file, egress=lambda _: False, outbox=Outbox(tmp_path / "a")) as cascade:
        assert (cascade.predict(UNSURE).reason, cascade.predict(UNSURE).queued) == (Reason.EGRESS, "")
    with Cascade.load(file, outbox=Outbox(tmp_path / "b")) as cascade:
        answer = cascade.predict(UNSURE, original=np.array({"not": "an array"}, object))
        assert (answer.reason, answer.queued) == (Reason.OFFLINE, "")


def test_unsent_inputs_are_answered_late(file: Path, link: Link, tmp_path: Path) -> None:
    """Each is answered once, under the caller's key, when the link is up again."""
    late: list[LateAnswer] = []
    link.up = False
    with Cascade.load(
        file, remote=link, outbox=Outbox(tmp_path / "outbox"), on_late=late.append, deadline=5
    ) as cascade:
        answers = [cascade.predict(UNSURE + i / 100, key=f"frame {i}") for i in range(20)]
        assert {(a.reason, a.source) for a in answers} == {(Reason.OFFLINE, Source.LOCAL)}
        assert [a.queued for a in answers] == [f"frame {i}" for i in range(20)]
        assert cascade.metrics()["outbox"]["waiting"] == 20
        link.up = True
        assert cascade.predict(UNSURE).reason is Reason.OFFLOADED
        until(lambda: len(late) == 20)
        assert cascade.metrics()["outbox"]["waiting"] == 0
        assert cascade.counts().inputs == 21
    assert sorted(one.key for one in late) == sorted(f"frame {i}" for i in range(20))
    assert {(one.answer.name, one.answer.source, one.answer.reason) for one in late} == {
        ("blue", Source.REMOTE, Reason.OFFLOADED)
    }
    assert all(one.answer.local.label == 1 and 0 < one.answer.elapsed < 60 for one in late)


def test_the_same_input_is_sent_once(file: Path, link: Link, tmp_path: Path) -> None:
    """It is answered under each of its keys, without a comparison of inputs in the caller."""
    link.up = False
    with Cascade.load(file, remote=link, outbox=Outbox(tmp_path / "outbox")) as cascade:
        keys = [cascade.predict(x, key=key).queued for x in (UNSURE, UNSURE * 0.9) for key in (None, None, "mine")]
        assert (len({*keys}), keys[2], keys[5]) == (5, "mine", "mine")
        cascade.predict(UNSURE, key="other")
        until(lambda: cascade.metrics()["outbox"]["waiting"] == 7)  # each input of a key is stored
        link.up = True
        coming = cascade.late(timeout=20)
        assert sorted(next(coming).key for _ in range(7)) == sorted([*keys, "other"])
    assert len(link.asked) == 2


def test_a_late_reply_needs_no_second_request(file: Path, link: Link, tmp_path: Path) -> None:
    """The call returns at its deadline and the answer follows, also through the iterator."""
    link.seconds = 0.3
    with Cascade.load(file, remote=link, outbox=Outbox(tmp_path / "outbox"), deadline=0.1) as cascade:
        answer = cascade.predict(UNSURE, key="a")
        assert (answer.reason, answer.queued) == (Reason.DEADLINE, "a")
        late = next(cascade.late(timeout=5))
        assert (late.key, late.answer.name) == ("a", "blue")
    assert len(link.asked) == 1


def test_waiting_inputs_survive_the_process(file: Path, link: Link, tmp_path: Path) -> None:
    """The next process sends them."""
    link.up = False
    with Cascade.load(file, remote=link, outbox=Outbox(tmp_path / "outbox")) as cascade:
        assert cascade.predict(UNSURE, key="a").queued == "a"
    link.up = True
    with Cascade.load(file, remote=link, outbox=Outbox(tmp_path / "outbox")) as cascade:
        assert next(cascade.late(timeout=10)).key == "a"


def test_a_refused_input_is_stored(file: Path, tmp_path: Path) -> None:
    """As is every input without a remote: what refuses may be a proxy, or a server that is loading."""

    def refuses(_: Any) -> Any:
        raise RemoteError("no such thing")

    for remote in (refuses, None):
        with Cascade.load(file, remote=remote, outbox=Outbox(tmp_path / f"outbox {remote is None}")) as cascade:
            assert cascade.predict(UNSURE, key="a").queued == "a"


def test_audited_answers_stay_local(file: Path, link: Link, stalled: Callable[[], float]) -> None:
    """They are returned at once, however slow the remote, and count as local."""
    link.seconds = 0.2
    watch = Watch(share=1.0)
    with Cascade.load(file, remote=link, watch=watch, deadline=5) as cascade:
        answers = [cascade.predict(SURE) for _ in range(10)]
        assert {(a.source, a.reason) for a in answers} == {(Source.LOCAL, Reason.CONFIDENT)}
        assert max(a.elapsed for a in answers) < 0.15 + stalled()
        until(lambda: watch.health().compared == 10)
        health = watch.health()
        assert (health.inputs, health.audited, health.agreement_local.value) == (10, 10, 0.0)
        assert cascade.metrics()["watch"]["audited"] == 10
        assert cascade.counts().local == 10


def test_an_audit_uses_a_request_no_longer_than_a_forward(file: Path) -> None:
    """Otherwise four audits of a silent remote would block all requests after it recovers."""
    given: list[float] = []

    class Remembering:
        def infer(self, inputs: Any, deadline: Any) -> Any:
            given.append(deadline.remaining())
            return np.tile(np.array([0, 0, 4], np.float32), (len(inputs), 1))

        def close(self) -> None: ...

    watch = Watch(share=1.0)
    with Cascade.load(file, remote=Remembering(), watch=watch, deadline=0.5) as cascade:
        cascade.predict(SURE)
        cascade.predict_batch(SURE[None])
        until(lambda: watch.health().compared == 2)
    assert max(given) < 0.6


def test_the_watch_gets_the_input_of_the_local_model(file: Path, link: Link, tmp_path: Path) -> None:
    """It does not get the original that is sent in its place, from `predict` or from batches."""
    watch = Watch(share=1.0, record=tmp_path)
    with Cascade.load(file, remote=link, watch=watch, deadline=5) as cascade:
        cascade.predict(SURE, original=np.zeros(7, np.float32))
        cascade.predict(UNSURE, original=np.zeros(7, np.float32))
        cascade.predict_batch(np.stack([SURE, UNSURE]), originals=np.zeros((2, 7), np.float32))
        until(lambda: watch.health().compared == 4)
    kept = np.load(tmp_path / "pairs.npz")
    assert {tuple(x) for x in kept["x"].tolist()} == {tuple(SURE.tolist()), tuple(UNSURE.tolist())}
    assert len(kept["x"]) == 4


def test_a_caller_may_reuse_its_buffer_at_once(file: Path, link: Link) -> None:
    """Inputs sent in the background are copied, because cameras reuse their buffers."""
    link.seconds = 0.05
    buffer = np.empty(3, np.float32)

    def frames() -> Iterator[NDArray[np.float32]]:
        for i in range(30):
            buffer[:] = 0, 0.5 + i / 1000, 0
            yield buffer

    with Cascade.load(file, remote=link, deadline=10) as cascade:
        assert [a.name for a in cascade.stream(frames())] == ["blue"] * 30
    assert sorted(round(float(x[1]) * 1000) for x in link.asked) == list(range(500, 530))


def test_all_counts_can_be_scraped(file: Path, link: Link, tmp_path: Path) -> None:
    """With all parts and many threads, the counts add up."""
    link.seconds = 0.001
    parts: dict[str, Any] = {"budget": Budget(forwards=Rate(50, 60)), "outbox": Outbox(tmp_path / "outbox")}
    with Cascade.load(file, remote=link, watch=Watch(share=0.2), deadline=5, **parts) as cascade:

        def ask() -> None:
            for x in [SURE, UNSURE] * 50:
                cascade.predict(x)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = cascade.metrics()
        text = prometheus_text(found)
    assert found["inputs"] == found["local"] + found["forwarded"] == sum(found["reasons"].values()) == 400
    assert found["latency"]["local"]["count"] == found["local"] == 200
    assert found["latency"]["forwarded"]["count"] == 200
    assert 'edgecascade_answers_total{source="local",reason="confident"} 200' in text
