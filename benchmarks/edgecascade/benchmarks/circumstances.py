"""Under what two results came about: whether on one machine, with one software, on the same inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Circumstances", "compare_circumstances"]

_MOVING = frozenset({"date", "megahertz"})  # differs from run to run and says nothing
_SOFTWARE = frozenset({"python", "versions", "kernel", "libc", "thread_variables"})


@dataclass(frozen=True)
class Circumstances:
    """What differs; each a line such as "cores: 2 > 4".

    Attributes:
        machine: of the hardware and how it is set.
        software: versions.
        untold: what only one of them tells.
        same_command: whether both ran the same command; None if one of them does not say.
    """

    machine: tuple[str, ...]
    software: tuple[str, ...]
    untold: tuple[str, ...]
    same_command: bool | None


def compare_circumstances(before: dict[str, Any], after: dict[str, Any]) -> Circumstances:
    """Of two documents, as `read_result` gives them."""
    first, second = (_flat(document["environment"]) for document in (before, after))
    both = {name: (first[name], second[name]) for name in first if name in second}
    differ = {name: f"{name}: {old} > {new}" for name, (old, new) in both.items() if old != new}
    commands = [document.get("command") for document in (before, after)]
    return Circumstances(
        machine=tuple(line for name, line in differ.items() if name.partition(" ")[0] not in _SOFTWARE),
        software=tuple(line for name, line in differ.items() if name.partition(" ")[0] in _SOFTWARE),
        untold=tuple(sorted(first.keys() ^ second.keys())),
        same_command=None if None in commands else commands[0] == commands[1],
    )


def _flat(environment: dict[str, Any]) -> dict[str, str]:
    """Name to value, versions one by one; without what is not told."""
    flat: dict[str, str] = {}
    for name, value in environment.items():
        if isinstance(value, dict):
            flat.update({f"{name} {key}": str(one) for key, one in value.items() if one is not None})
        elif value is not None and name not in _MOVING:
            flat[name] = f"{value:.0f}" if isinstance(value, float) else str(value)
    return flat
