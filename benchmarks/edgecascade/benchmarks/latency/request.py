"""What is asked of `bench latency`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from edgecascade.benchmarks.latency.plan import DIRECT, Plan
from edgecascade.benchmarks.latency.scenario import Scenario
from edgecascade.benchmarks.latency.subject import Kind
from edgecascade.runtime.providers import CPU, preferred
from edgecascade.types.errors import BenchmarkError

__all__ = ["Request"]

_LONGEST = 3600.0  # seconds of one cell
_MOST_QUERIES = 100_000


@dataclass(frozen=True)
class Request:
    """Arguments, as `Plan` explains those that are of a cell.

    Attributes:
        file: the cascade model's path.
        data: the labelled inputs' path.
        report: folder of what is written.
        remote: an address, or an ONNX file to serve from a second process; None if there is none.
        subjects: who is measured.
        scenarios: how queries come.
        networks: names of profiles, and `DIRECT`.
        seconds: of each cell, at least.
        queries: of each cell, at least.
        qps: arrivals per second of the server scenario; None for a share of what single stream reached.
        deadline: seconds.
        warm_up: answers before each cell that do not count.
        threads: the engine's.
        providers: execution providers by preference; empty for the CPU.
    """

    file: str
    data: str
    report: str
    remote: str | None = None
    subjects: tuple[Kind, ...] = tuple(Kind)
    scenarios: tuple[Scenario, ...] = tuple(Scenario)
    networks: tuple[str, ...] = (DIRECT,)
    seconds: float = 10.0
    queries: int = 64
    qps: float | None = None
    deadline: float = 1.0
    warm_up: int = 20
    threads: int = 1
    providers: tuple[str, ...] = ()

    def check(self) -> None:
        """Refuse what cannot mean anything.

        Raises:
            BenchmarkError: one sentence about the argument.
        """
        if not Path(self.file).is_file():
            raise BenchmarkError(f"{self.file}: expected a cascade model, got no such file")
        for name, value, most in (("seconds", self.seconds, _LONGEST), ("deadline", self.deadline, 86_400.0)):
            _expect(0 < value <= most, f"--{name}", f"seconds above 0, and at most {most:g}", value)
        _expect(1 <= self.queries <= _MOST_QUERIES, "--queries", f"1 to {_MOST_QUERIES}", self.queries)
        _expect(self.qps is None or 0 < self.qps < math.inf, "--qps", "arrivals per second above 0", self.qps)
        _expect(0 <= self.warm_up <= _MOST_QUERIES, "--warm-up", f"0 to {_MOST_QUERIES} answers", self.warm_up)
        _expect(1 <= self.threads <= 1024, "--threads", "1 to 1024", self.threads)
        asking = [subject.value for subject in self.subjects if subject.asks]
        _expect(self.remote is not None or not asking, "--subject", "--remote with it, since it asks one", *asking[:1])
        for name, values in (("subject", self.subjects), ("scenario", self.scenarios), ("network", self.networks)):
            _expect(len(values) > 0, f"--{name}", "at least one", "none")
            twice = [one for one in values if values.count(one) > 1]
            _expect(not twice, f"--{name}", "each once", *(getattr(one, "value", one) for one in twice[:1]))
        if self.providers:
            preferred("auto" if self.providers == ("auto",) else (*self.providers, "cpu"), fallback=True)

    def plan(self, subject: Kind, scenario: Scenario, network: str) -> Plan:
        """One cell, before its remote's address and the server's arrivals are known."""
        return Plan(
            subject=subject,
            scenario=scenario,
            network=network,
            file=self.file,
            data=self.data,
            remote=None,
            deadline=self.deadline,
            seconds=self.seconds,
            queries=self.queries,
            qps=0.0,
            warm_up=self.warm_up,
            threads=self.threads,
            providers=self.providers,
            engines=str(Path(self.report, "engines")) if self._compiles else None,
        )

    @property
    def _compiles(self) -> bool:
        """Whether a provider may compile the model, and keep what it compiled."""
        return bool(set(self.providers) - {"cpu", CPU})

    def notes(self) -> tuple[str, ...]:
        """What whoever reads the figures should know of where the remote was."""
        if self.remote is None or not any(subject.asks for subject in self.subjects):
            return ()
        if "://" not in self.remote:
            return ("The remote ran in a second process on the same machine, and took its share of the processor.",)
        return ()


def _expect(met: bool, name: str, expected: str, *got: object) -> None:
    if not met:
        raise BenchmarkError(f"{name}: expected {expected}, got {', '.join(map(str, got)) or 'none'}")
