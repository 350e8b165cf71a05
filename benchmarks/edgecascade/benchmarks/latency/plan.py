"""What to measure: scenarios, subjects, the plan of one cell, and the request for all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from edgecascade.benchmarks.stored import hash_of
from edgecascade.runtime.providers import CPU, preferred
from edgecascade.types.errors import BenchmarkError

__all__ = ["DIRECT", "STREAMS", "Plan", "Request", "Scenario", "Subject", "key_of", "without_paths"]

P = TypeVar("P")
DIRECT = "direct"  # the name of having no network in between
STREAMS = 8  # samples in a query of multi stream, as in MLPerf
_PLACES = ("file", "data", "remote", "engines", "report")
_RECIPE = 1  # raise it when cells are measured in another way
_PATIENCE = 30.0  # seconds that "remote only" waits for an answer: longer than the outages of any profile
_LONGEST = 3600.0  # seconds of one cell
_MOST_QUERIES = 100_000


class Scenario(str, Enum):
    """How LoadGen issues queries."""

    SINGLE_STREAM = "single-stream"  # the next one when the last is answered
    MULTI_STREAM = "multi-stream"  # eight inputs at once; the next eight when all are answered
    SERVER = "server"  # one by one at the times of a Poisson process, whether or not the last is answered
    OFFLINE = "offline"  # all at once

    @property
    def words(self) -> str:
        """The name as text."""
        return self.value.replace("-", " ")


class Subject(str, Enum):
    """Which system answers."""

    ALONE = "model alone"  # a bare session of the same file, with prepared inputs and bound outputs
    LOCAL = "local only"  # the cascade, which forwards nothing
    REMOTE = "remote only"  # the cascade, which forwards everything, waits, and takes the remote's label
    CASCADE = "cascade"  # the cascade as planned, with its deadline

    @property
    def asks(self) -> bool:
        """Whether it needs a remote."""
        return self in (Subject.REMOTE, Subject.CASCADE)


@dataclass(frozen=True)
class Plan:
    """One cell: a subject in a scenario over a network.

    Attributes:
        subject: the system that answers.
        scenario: how queries are issued.
        network: name of a profile, or `DIRECT`.
        file: path of the cascade model.
        data: path of the labelled inputs.
        remote: the remote's address, behind the network if there is one; None without a remote.
        deadline: seconds that the cascade has for an answer; also LoadGen's bound on the server's latencies.
        seconds: minimum duration of LoadGen's run.
        queries: minimum number of queries.
        qps: arrivals per second in the server scenario; 0 in the others.
        warm_up: answers before the run that do not count.
        threads: threads of the engine.
        providers: execution providers in order of preference; empty for the CPU.
        engines: folder in which providers store compiled engines; None to store none.
    """

    subject: Subject
    scenario: Scenario
    network: str
    file: str
    data: str
    remote: str | None
    deadline: float
    seconds: float
    queries: int
    qps: float
    warm_up: int
    threads: int
    providers: tuple[str, ...]
    engines: str | None

    def __str__(self) -> str:
        """Return the cell's name."""
        return f"{self.subject.value}, {self.scenario.words}" + (f", {self.network}" if self.subject.asks else "")

    @property
    def allowed(self) -> float:
        """Seconds that an answer may take: the deadline, and longer for a subject that only waits for the remote."""
        return max(_PATIENCE, self.deadline) if self.subject is Subject.REMOTE else self.deadline


@dataclass(frozen=True)
class Request:
    """The arguments of `bench latency`; `Plan` documents those that belong to a cell.

    Attributes:
        file: path of the cascade model.
        data: path of the labelled inputs.
        report: folder of the report.
        remote: an address, or an ONNX file that a second process serves; None without a remote.
        subjects: the systems to measure.
        scenarios: the scenarios to run.
        networks: names of profiles, and `DIRECT`.
        seconds: minimum duration of each cell.
        queries: minimum number of queries of each cell.
        qps: arrivals per second in the server scenario; None for a share of single stream's throughput.
        deadline: seconds.
        warm_up: answers before each cell that do not count.
        threads: threads of the engine.
        providers: execution providers in order of preference; empty for the CPU.
    """

    file: str
    data: str
    report: str
    remote: str | None = None
    subjects: tuple[Subject, ...] = tuple(Subject)
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
        """Check every argument but the remote and the networks.

        Raises:
            BenchmarkError: an argument is out of range or missing.
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
        _expect(self.remote is not None or not asking, "--subject", "--remote for a subject that asks it", *asking[:1])
        for name, values in (("subject", self.subjects), ("scenario", self.scenarios), ("network", self.networks)):
            _expect(len(values) > 0, f"--{name}", "at least one", "none")
            twice = [one for one in values if values.count(one) > 1]
            _expect(not twice, f"--{name}", "each once", *(getattr(one, "value", one) for one in twice[:1]))
        if self.providers:
            preferred("auto" if self.providers == ("auto",) else (*self.providers, "cpu"), fallback=True)

    def plan(self, subject: Subject, scenario: Scenario, network: str) -> Plan:
        """Return the plan of one cell, before the remote's address and the server's arrivals are known."""
        compiles = set(self.providers) - {"cpu", CPU}  # other providers may compile the model
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
            engines=str(Path(self.report, "engines")) if compiles else None,
        )

    def notes(self) -> tuple[str, ...]:
        """Return what a reader of the figures should know about the remote."""
        asks = any(subject.asks for subject in self.subjects)
        if self.remote is None or "://" in self.remote or not asks:
            return ()
        return ("The remote ran in a second process on the same machine, and shared its processor.",)


def key_of(plan: Plan, content: Mapping[str, Any]) -> str:
    """Return the name under which a cell is stored: a hash of everything it depends on.

    Args:
        plan: of the cell. Its paths and addresses are left out: they may change.
        content: what lies at these places, by name: hashes of file, data and remote, and the network's figures.
    """
    asked = {name: value for name, value in asdict(plan).items() if name not in _PLACES}
    return hash_of({"recipe": _RECIPE, "plan": asked, "content": dict(content)})


def without_paths(plan: P) -> P:
    """Return a plan or request with file names in place of paths, as a result may show them."""
    places = {field.name: getattr(plan, field.name) for field in fields(plan) if field.name in _PLACES}  # type: ignore[arg-type]
    names = {name: value if value is None or "://" in value else Path(value).name for name, value in places.items()}
    return replace(plan, **names)  # type: ignore[type-var]


def _expect(met: bool, name: str, expected: str, *got: object) -> None:
    if not met:
        raise BenchmarkError(f"{name}: expected {expected}, got {', '.join(map(str, got)) or 'none'}")
