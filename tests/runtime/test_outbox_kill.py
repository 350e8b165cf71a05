"""Kill -9 at random moments loses no acknowledged input and delivers each once.

Run as a script, this file is the parent that forks and kills: a small process, so that a round takes milliseconds.
"""

import os
import random
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.outbox import Late, Outbox
from edgecascade.runtime.outbox.sender import Sender
from edgecascade.types.answer import Prediction

LOCAL = Prediction(1, 0.5, np.array([0.2, 0.5, 0.3], np.float32))


def ask(inputs: Any, _: Deadline) -> list[Prediction]:
    """Return a prediction for each input."""
    return [Prediction(int(one[0]), 0.9, LOCAL.probabilities) for one in inputs]


def killed(child: int, begun: int) -> None:
    """Kill a child, usually while it works and sometimes while it starts, and check that it had not ended before."""
    if random.random() < 0.85:
        select.select([begun], [], [], 10)
    time.sleep(random.uniform(0.0, 0.02))
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status), f"the child ended by itself: {status}"


def forked(work: Any, *arguments: Any) -> int:
    """Fork a child that works until it is killed."""
    child = os.fork()
    if child == 0:
        try:
            work(*arguments)
            time.sleep(60)  # to be killed
        finally:
            os._exit(1)
    return child


def put_many(path: Path, n: int, said: int) -> None:
    """Print each key when it is acknowledged; meanwhile answer some, and move the write-ahead log."""
    outbox, last = Outbox(path), np.zeros((1, 3), np.int64)
    for i in range(1000):
        key, inputs = f"{n}/{i}", np.full((1, random.choice([3, 5000])), i, np.int64)
        if i % 7 == 3:
            outbox.answer(last, Prediction(i - 1, 0.9, LOCAL.probabilities))
        last = inputs
        if outbox.put(key, inputs, LOCAL):
            os.write(said, key.encode() + b"\n")
        if i % 20 == 19:
            outbox._store.sync()


def kill_while_putting(path: Path, n: int) -> bool:
    """Assert that each acknowledged input is delivered once with its answer, and at most one other appears."""
    heard, said = os.pipe()
    child = forked(put_many, path, n, said)
    os.close(said)
    killed(child, heard)
    with os.fdopen(heard) as lines:
        acknowledged = Counter(lines.read().split())
    delivered = Counter(drained(path, f"{n}/"))
    assert acknowledged - delivered == Counter(), "lost"
    assert sum((delivered - acknowledged).values()) <= 1, "delivered twice"
    return bool(acknowledged)


def drained(path: Path, start: str) -> list[str]:
    """Return the keys of all deliveries, after checking that the counts add up."""
    delivered: list[Late] = []
    outbox = Outbox(path)
    before = outbox.counts()
    drain = Sender(outbox._store, ask, delivered.append, keep=1e9, patience=1.0)
    while drain.step() == 0.0:
        pass
    after = outbox.counts()
    assert (after.waiting, after.answered, after.damaged_files, after.damaged) == (0, 0, 0, 0), after
    assert after.acknowledged == before.acknowledged
    assert after.delivered - before.delivered == len(delivered)
    for late in delivered:
        assert late.key.startswith(start)
        assert late.key == f"{start}{late.remote.label}"
    outbox.close()
    return [late.key for late in delivered]


def deliver(path: Path, taken: Path, said: int) -> None:
    """Write each key to a file before its delivery is acknowledged."""
    file = os.open(taken, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    outbox = Outbox(path)

    def on_late(late: Late) -> None:
        os.write(file, late.key.encode() + b"\n")
        os.write(said, b".")

    outbox.start(ask, on_late)


def kill_while_delivering(path: Path, n: int) -> bool:
    """Assert that each is delivered once, except that the one in progress may be repeated."""
    taken = path.with_suffix(".taken")
    outbox = Outbox(path)
    keys = [f"{n}/{i}" for i in range(100) if outbox.put(f"{n}/{i}", np.full((1, 3), i, np.int64), LOCAL)]
    outbox.close()
    heard, said = os.pipe()
    child = forked(deliver, path, taken, said)
    os.close(said)
    killed(child, heard)
    os.close(heard)
    first = taken.read_text().split() if taken.exists() else []
    rest = drained(path, f"{n}/")
    taken.unlink(missing_ok=True)
    assert {*first, *rest} == {*keys}, "lost"
    assert len(set(first)) == len(first), "delivered twice"
    assert {*first} & {*rest} <= {*first[-1:]}, "delivered again, though it had been taken"
    return 0 < len(first) < len(keys)


def main(folder: str, rounds: str, seed: str) -> None:
    """Run this many rounds of both kinds."""
    random.seed(int(seed))
    path = Path(folder) / "outbox.db"
    at_work = Counter[str]()
    for n in range(int(rounds)):
        way = random.choice([kill_while_putting, kill_while_putting, kill_while_delivering])
        at_work[way.__name__] += way(path, n)
    assert all(at_work[way.__name__] for way in (kill_while_putting, kill_while_delivering)), at_work
    print("all well", *at_work.items())


def run(folder: Path, rounds: int) -> None:
    """Run the rounds in a separate process."""
    seed = random.randrange(1 << 30)
    ran = subprocess.run(
        [sys.executable, __file__, folder, str(rounds), str(seed)],
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    assert ran.stdout.startswith("all well"), f"seed {seed}: {ran.stdout}{ran.stderr}"


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@needs_fork
def test_kill_at_random_moments_loses_nothing(tmp_path: Path) -> None:
    """Twenty-five rounds kill during putting and during delivering."""
    run(tmp_path, 25)


@needs_fork
@pytest.mark.slow
def test_kill_at_a_thousand_random_moments_loses_nothing(tmp_path: Path) -> None:
    """A thousand rounds do the same."""
    run(tmp_path, 1000)


if __name__ == "__main__":
    main(*sys.argv[1:])
