"""A million answers: memory stays constant, and every answer is counted."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from itertools import islice
import numpy as np
from edgecascade.runtime import Budget, Cascade, Outbox, Rate, Reason, Watch, RemoteUnreachable

N = int(sys.argv[3])
SURE, UNSURE, LOST = np.array([5, 0, 0], np.float32), np.array([0, 0.5, 0], np.float32), np.full(3, np.nan, np.float32)
asked = 0

def remote(inputs):
    global asked
    asked += len(inputs)
    if asked % 50 == 0:
        raise RemoteUnreachable("for a moment")
    return np.tile(np.array([0, 0, 4], np.float32), (len(inputs), 1))

def inputs(n):  # nine are kept, one is forwarded
    for i in range(n):
        yield (UNSURE if i % 20 else LOST) if i % 10 == 0 else SURE

def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))

budget, watch = Budget(forwards=Rate(1e9, 60)), Watch(share=0.01, record=sys.argv[2])
parts = dict(budget=budget, watch=watch, outbox=Outbox(sys.argv[2] + "/outbox"))
with Cascade.load(sys.argv[1], remote=remote, deadline=30, **parts) as cascade:
    seen = dict.fromkeys(Reason, 0)
    for answer in cascade.stream(inputs(N // 10)):
        seen[answer.reason] += 1
    for _ in cascade.late(): pass
    before = resident()
    for answer in cascade.stream(inputs(N - N // 10)):
        seen[answer.reason] += 1
    for _ in cascade.late(): pass
    grown = resident() - before
    found = cascade.metrics()
assert found["inputs"] == N and found["local"] == N // 10 * 9 and found["forwarded"] == N // 10, found
assert found["reasons"] == {reason.value: n for reason, n in seen.items()}, (found["reasons"], seen)
assert found["latency"]["local"]["count"] + found["latency"]["forwarded"]["count"] == N
assert found["watch"]["inputs"] == N and found["watch"]["audited"] > N // 200
assert seen[Reason.OFFLOADED] > 0 and seen[Reason.NOT_A_NUMBER] > 0 and seen[Reason.OFFLINE] > 0, seen
print(grown)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads its memory from /proc")
def test_a_million_answers_leave_no_memory_in_use(file: Path, tmp_path: Path) -> None:
    """The cascade has a budget, a watch, an outbox, and a remote that fails occasionally."""
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(file), str(tmp_path), "1000000"],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < 8 << 10, f"{ran.stdout} KiB more after 900,000 answers"  # a leak of 10 bytes each is 9 MB
