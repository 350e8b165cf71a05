"""The tasks of BIG-bench (Srivastava et al., arXiv 2206.04615), read from its source archive and never imported.

The archive on the package index, `bigbench` 1.0.0 (Apache-2.0), is pinned by checksum; it holds 200 tasks with
choices.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgecascade.benchmarks.cache import Package, fetch, once
from edgecascade.benchmarks.choices.questions import Question
from edgecascade.types.errors import BenchmarkError

__all__ = ["BIG_BENCH", "read_tasks", "task_files"]

BIG_BENCH = Package(
    "bigbench",
    "1.0.0",
    "1bb398a5512c6d798cdebe0dfa0ac03f67f6033fa6b39c6ef71df978c7cbc5c2",
    megabytes=358,
    sdist=True,
)
_TASKS = "bigbench-1.0.0/bigbench/benchmark_tasks/"
_RECIPE = 1  # part of the names of stored tasks: raise it when `_questions` changes


def task_files(names: Sequence[str], archive: Path) -> list[bytes]:
    """Return the content of each task's `task.json`, in the order of the names.

    Args:
        names: Folders of tasks, such as `arithmetic/2_digit_addition`.
        archive: The source archive.

    Raises:
        BenchmarkError: The archive has no such task.
    """
    wanted = {f"{_TASKS}{name}/task.json": name for name in names}
    found: dict[str, bytes] = {}
    with tarfile.open(archive, "r|gz") as stream:
        for member in stream:
            if member.name in wanted and (extracted := stream.extractfile(member)) is not None:
                found[wanted[member.name]] = extracted.read()
                if len(found) == len(wanted):
                    break
    for name in names:
        if name not in found:
            raise BenchmarkError(f"bigbench: expected a task of BIG-bench 1.0.0, such as hindu_knowledge, got {name!r}")
    return [found[name] for name in names]


def read_tasks(names: Sequence[str], cache: Path) -> list[Question]:
    """Return the multiple-choice questions of tasks, in a random order that depends on each question alone.

    A question counts if it has at least two choices and one of them is better than all others. The choices are in
    random order too, because some tasks have the right one always last. The subject is the task.

    Args:
        names: Folders of tasks, such as `hindu_knowledge`.
        cache: The folder of downloads; each task is stored there by itself.

    Raises:
        BenchmarkError: There is no such task, it has no choices, or the archive cannot be downloaded.
    """
    found: list[Question] = []
    paths = {name: cache / f"bigbench-r{_RECIPE}" / f"{name.strip('/').replace('/', '-')}.json" for name in names}
    missing = [name for name in names if not paths[name].exists()]
    if missing:
        for name, content in zip(missing, task_files(missing, fetch(BIG_BENCH, cache)), strict=True):
            once(paths[name], lambda part, content=content: part.write_bytes(content))  # type: ignore[misc]
    for name in names:
        questions = list(_questions(name, json.loads(paths[name].read_bytes())))
        if not questions:
            raise BenchmarkError(f"bigbench: expected a task with choices, got {name!r}, which has none")
        found += questions
    return found


def _questions(name: str, task: dict[str, Any]) -> Iterator[Question]:
    every: dict[str, Question] = {}
    for example in task.get("examples", ()):
        scores = example.get("target_scores")
        if not isinstance(scores, dict) or len(scores) < 2 or not isinstance(example.get("input"), str):
            continue
        best = max(scores.values())
        right = [choice for choice, score in scores.items() if score == best]
        if len(right) == 1 and len(scores) <= 26:
            one = _shuffled(example["input"].strip(), tuple(scores), right[0], name)
            every.setdefault(one.digest, one)
    yield from (every[digest] for digest in sorted(every))


def _shuffled(question: str, choices: tuple[str, ...], right: str, name: str) -> Question:
    def key(choice: str) -> str:
        whole = json.dumps([name, question, choice], ensure_ascii=False)
        return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()

    ordered = tuple(sorted(choices, key=key))
    return Question(question, ordered, ordered.index(right), name)
