"""Cascades and remotes are pickled as recipes, and opened once in every process that unpickles them."""

import multiprocessing
import pickle
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecascade.runtime import (
    Budget,
    Cascade,
    Chat,
    CircuitBreaker,
    Hedged,
    ModelFileError,
    OpenInference,
    Outbox,
    Rate,
    Retrying,
    Watch,
)
from edgecascade.runtime.dispatch import AT_ONCE
from edgecascade.runtime.remotes.onnx_file import OnnxFile
from edgecascade.types.costs import ErrorCosts
from edgecascade.types.errors import ArgumentError


def again(one: Any) -> Any:
    """Return what another process would get."""
    return pickle.loads(pickle.dumps(one))


@pytest.fixture
def images(pair: Path) -> NDArray[np.uint8]:
    """Return some images."""
    found: NDArray[np.uint8] = np.load(pair / "test.npz")["x"][:50]
    return found


def test_another_process_answers_the_same(
    pair: Path, images: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the policy in force, from any working folder, and with one cascade for all calls of a process."""
    monkeypatch.chdir(pair)
    with Cascade.load("local.onnx", remote="remote.onnx") as cascade:
        cascade.swap(replace(cascade.policy, threshold=0.3, merge="average"))
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            pool.apply(np.ones, (1,))
            monkeypatch.chdir("/")
            for n in (20, 50):
                theirs = pool.apply(Cascade.predict_columns, (cascade, images[:n]))
                ours = cascade.predict_columns(images[:n])
                assert theirs.source.tolist() == ours.source.tolist()
                np.testing.assert_array_equal(theirs.probabilities, ours.probabilities)
            assert pool.apply(Cascade.counts, (cascade,)).inputs == 70
            pool.apply(Cascade.close, (cascade,))
            assert pool.apply(Cascade.counts, (cascade,)).inputs == 0  # a closed one is opened again


def test_a_process_opens_a_recipe_once(file: Path) -> None:
    """Also in several threads; two loads, two policies, and the original are different cascades."""
    with Cascade.load(file) as cascade, Cascade.load(file) as other:
        pickled = pickle.dumps(cascade)
        found: list[Cascade] = []
        threads = [threading.Thread(target=lambda: found.append(pickle.loads(pickled))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({*map(id, found)}) == 1
        assert again(found[0]) is found[0]
        assert again(other) is not found[0]
        assert found[0] is not cascade
        cascade.swap(replace(cascade.policy, threshold=-2.0))
        assert again(cascade) is not found[0]
        assert again(cascade).policy == cascade.policy


def test_the_pickled_policy_is_in_force_after_a_swap(file: Path) -> None:
    """And what was swapped in this process is found again by its new policy."""
    with Cascade.load(file) as cascade:
        pickled, before = pickle.dumps(cascade), cascade.policy
        copied = pickle.loads(pickled)
        copied.swap(replace(before, threshold=0.5))
        assert again(copied) is copied
        assert copied.policy.threshold == 0.5
        other = pickle.loads(pickled)
        assert other.policy == before
        assert pickle.loads(pickled) is other
        copied.close()
        other.close()


def test_another_file_at_the_path_is_refused(make_file: Callable[..., Path]) -> None:
    """Whether it was written before or after pickling, and if there is none."""
    path = make_file()
    with Cascade.load(path) as cascade:
        pickled = pickle.dumps(cascade)
        path.write_bytes(path.read_bytes() + b"\0")
        with pytest.raises(ModelFileError):
            pickle.loads(pickled)
        with pytest.raises(ModelFileError):
            pickle.dumps(cascade)
        path.unlink()
        with pytest.raises(ModelFileError):
            pickle.loads(pickled)


@pytest.mark.parametrize("name", ["remote", "egress", "budget", "watch", "outbox"])
def test_what_cannot_be_pickled_is_named(file: Path, tmp_path: Path, name: str) -> None:
    """A function without a name, and what belongs to one process, such as a budget."""
    made: dict[str, Callable[[], Any]] = {
        "remote": lambda: lambda x: x,
        "egress": lambda: lambda _: True,
        "budget": lambda: Budget(forwards=Rate.per_day(1)),
        "watch": Watch,
        "outbox": lambda: Outbox(tmp_path / "outbox.db"),
    }
    with Cascade.load(file, **{name: made[name]()}) as cascade, pytest.raises(ArgumentError, match=f"^{name}: "):
        pickle.dumps(cascade)


def test_remotes_are_made_again(pair: Path, images: NDArray[np.uint8]) -> None:
    """With all that they were given; connections are opened when they are first asked."""
    address = "http://127.0.0.1:9/v2/models/m"
    remote: Any = CircuitBreaker(Retrying(Hedged(OpenInference(address, headers={"Authorization": "x"})), attempts=2))
    copied = again(remote)
    assert isinstance(copied, CircuitBreaker)
    assert again(copied)._made[0][0]._made[1] == {"attempts": 2}
    inside: Any = copied
    assert inside._remote._remote._remote._made == ((address,), {"headers": {"Authorization": "x"}})
    assert again(Chat("http://127.0.0.1:9/v1", model="m"))._made[1] == {"model": "m"}
    theirs = again(OnnxFile(pair / "remote.onnx")).infer(images, AT_ONCE)
    np.testing.assert_array_equal(theirs, OnnxFile(pair / "remote.onnx").infer(images, AT_ONCE))


def test_a_policy_is_pickled_as_it_is(file: Path) -> None:
    """With everything by which the device decides."""
    with Cascade.load(file) as cascade:
        policy = replace(cascade.policy, costs=ErrorCosts((1.0, 2.0, 3.0)))
        assert policy.costs is not None
        assert policy.costs.shares.max() == 1  # it remembers them
    assert again(policy) == policy
