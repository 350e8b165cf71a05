"""What LoadGen leaves in its files: its verdict, and every sample's latency."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.types.errors import BenchmarkError

__all__ = ["Samples", "Verdict", "read_detail", "read_samples", "verdict_of"]

_SAMPLE = re.compile(
    rb'"sample_seq":(\d+),"query_seq":(\d+),"sample_idx":(\d+),"issue_start_ns":(\d+),"complete_ns":(\d+)'
)
_DETAIL = ":::MLLOG "
_EARLY = ("early_stopping_met", "result_min_duration_met", "result_min_queries_met", "result_perf_constraints_met")


@dataclass(frozen=True)
class Verdict:
    """Whether LoadGen calls its run valid.

    Attributes:
        valid: its word.
        unmet: the conditions that were not met, by LoadGen's names.
        reason: what it says of them, in its own words; empty if nothing.
        errors: that it counted.
        version: LoadGen's own.
    """

    valid: bool
    unmet: tuple[str, ...]
    reason: str
    errors: int
    version: str


@dataclass(frozen=True)
class Samples:
    """Every sample of a run in the order of issue: int64 [n] each.

    Attributes:
        query: number of its query.
        index: of its input.
        delay: nanoseconds from the scheduled moment to the issue.
        latency: nanoseconds from the scheduled moment to the answer.
    """

    query: NDArray[np.int64]
    index: NDArray[np.int64]
    delay: NDArray[np.int64]
    latency: NDArray[np.int64]

    def per_query(self) -> NDArray[np.int64]:
        """Nanoseconds until a query's last sample was answered, for each query."""
        longest = np.zeros(int(self.query.max(initial=-1)) + 1, np.int64)
        np.maximum.at(longest, self.query, self.latency)
        return longest


def read_samples(trace: Path) -> Samples:
    """The samples in `mlperf_log_trace.json`, which LoadGen writes as they are answered.

    Raises:
        BenchmarkError: it does not hold every sample once.
    """
    with trace.open("rb") as lines:
        rows = [[int(one) for one in found.groups()] for line in lines if (found := _SAMPLE.search(line)) is not None]
    table = np.array(sorted(rows), np.int64).reshape(-1, 5)
    if not np.array_equal(table[:, 0], np.arange(len(table))):
        raise BenchmarkError(f"LoadGen's trace: expected samples 0 to {len(table) - 1} once each, got others")
    return Samples(*(np.ascontiguousarray(table[:, column]) for column in range(1, 5)))


def read_detail(detail: Path) -> dict[str, Any]:
    """The keys and values in `mlperf_log_detail.txt`; of a key that comes again, the last."""
    found: dict[str, Any] = {}
    for line in detail.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(_DETAIL):
            try:
                entry = json.loads(line.removeprefix(_DETAIL), strict=False)
            except ValueError:  # LoadGen does not escape every text
                continue
            found[entry["key"]] = entry["value"]
    return found


def verdict_of(detail: dict[str, Any]) -> Verdict:
    """LoadGen's verdict, from `read_detail`.

    Raises:
        BenchmarkError: there is none: the run did not end.
    """
    if "result_validity" not in detail:
        raise BenchmarkError("LoadGen: expected a verdict in its log, got none")
    reasons = [str(detail.get(key, "")) for key in ("result_invalid_reason", "early_stopping_result")]
    valid = detail["result_validity"] == "VALID"
    return Verdict(
        valid=valid,
        unmet=tuple(key for key in _EARLY if detail.get(key) is False),
        reason="" if valid else " ".join(" ".join(reasons).replace("*", " ").split()),
        errors=int(detail.get("num_errors", 0)),
        version=str(detail.get("loadgen_version", "")).partition(" ")[0],
    )
