"""Everything that one cell of the measurement depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from edgecascade.benchmarks.latency.scenario import Scenario
from edgecascade.benchmarks.latency.subject import Kind
from edgecascade.benchmarks.stored import hash_of

__all__ = ["DIRECT", "Plan", "key_of", "named"]

P = TypeVar("P")
_PLACES = ("file", "data", "remote", "engines", "report")

DIRECT = "direct"  # the name of no network in between
_RECIPE = 1  # raise it when a cell is measured in another way


@dataclass(frozen=True)
class Plan:
    """One subject in one scenario over one network.

    Attributes:
        subject: who answers.
        scenario: how queries come.
        network: the profile's name, or `DIRECT`.
        file: the cascade model's path.
        data: the labelled inputs' path.
        remote: the address to ask, which the network may shape; None if there is none.
        deadline: seconds that the cascade has for an answer; also LoadGen's bound for the server's latencies.
        seconds: of LoadGen's run, at least.
        queries: at least.
        qps: arrivals per second of the server; 0 of others.
        warm_up: answers before the run that do not count.
        threads: the engine's.
        providers: execution providers by preference; empty for the CPU.
        engines: a folder in which providers keep what they compiled; None keeps nothing.
    """

    subject: Kind
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
        """Which cell it is."""
        return f"{self.subject.value}, {self.scenario.words}" + (f", {self.network}" if self.subject.asks else "")


def key_of(plan: Any, content: Mapping[str, Any]) -> str:
    """A name for the cell: a hash of all that it depends on.

    Args:
        plan: a dataclass of what was asked for. Its paths and addresses are left out: they are places, and change.
        content: what is at these places, by name: hashes of file, data and remote, and the network's figures.
    """
    asked = {name: value for name, value in asdict(plan).items() if name not in _PLACES}
    return hash_of({"recipe": _RECIPE, "plan": asked, "content": dict(content)})


def named(plan: P) -> P:
    """The plan, or the request, with names in place of paths: what may be kept, and shown to others.

    Args:
        plan: a dataclass.
    """
    held = {field.name: getattr(plan, field.name) for field in fields(plan) if field.name in _PLACES}  # type: ignore[arg-type]
    names = {name: value if value is None or "://" in value else Path(value).name for name, value in held.items()}
    return replace(plan, **names)  # type: ignore[type-var]
