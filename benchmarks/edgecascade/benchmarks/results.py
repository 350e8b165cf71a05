"""Results kept: every figure as JSON with the machine it was measured on, and what was printed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgecascade.benchmarks.device.environment import read_environment

__all__ = ["write_result"]

_SCHEMA = 1


def write_result(folder: Path, found: Any, summary: str) -> None:
    """Write `result.json`, from a dataclass, and `summary.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"schema": _SCHEMA, "environment": asdict(read_environment()), **asdict(found)}
    (folder / "result.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (folder / "summary.txt").write_text(summary + "\n", encoding="utf-8")
