"""Measure one cell in a process of its own: its memory, its first session and its connections are nobody else's."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from edgecascade.benchmarks.errors import BenchmarkError
from edgecascade.benchmarks.latency.plan import Plan
from edgecascade.benchmarks.stored import decode

__all__ = ["measured_apart"]

T = TypeVar("T")
_SLACK = 3600.0  # seconds beyond the run that a dead remote, a long first compilation and a slow board may take


def measured_apart(what: str, kind: type[T], plan: Plan) -> T:
    """What `what` finds of a plan, in a new process.

    Args:
        what: "cell" or "agreement".
        kind: the dataclass that comes of it.
        plan: the cell.

    Raises:
        BenchmarkError: it failed; the message ends with its last line.
    """
    with TemporaryDirectory(prefix="latency-") as folder:
        out = Path(folder, "found.json")
        command = [sys.executable, "-m", "edgecascade.benchmarks.latency.worker", what, str(out)]
        try:
            done = subprocess.run(
                command,
                input=json.dumps(asdict(plan)),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                timeout=_SLACK + 10 * plan.seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise BenchmarkError(f"{plan}: expected an end within {error.timeout:.0f} s, got none") from error
        if done.returncode or not out.exists():
            last = (done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"])[-1]
            raise BenchmarkError(f"{plan}: {last}")
        return decode(kind, json.loads(out.read_text(encoding="utf-8")))


def _measure(what: str, plan: Plan) -> Any:
    from edgecascade.benchmarks.latency.data import read_inputs_as_given

    inputs = read_inputs_as_given(plan.data)
    if what == "cell":
        from edgecascade.benchmarks.latency.measure import measure_cell

        return measure_cell(plan, inputs)
    from edgecascade.benchmarks.latency.agreement import compare_with_loop

    return compare_with_loop(plan, inputs)


def _main(what: str, out: str) -> int:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # else an interrupt would be one more exception inside LoadGen
    from edgecascade.runtime.errors import EdgecascadeError

    try:
        found = _measure(what, decode(Plan, json.load(sys.stdin)))
    except EdgecascadeError as error:
        print(error, file=sys.stderr)
        return 2
    Path(out).write_text(json.dumps(asdict(found)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
