"""Mutations: changed files, documents, replies and requests, of which none may crash, hang or fill the memory.

A process reads the mutants of one kind after another. If one ends it, or takes too long, another process goes on with
the next. Each mutant follows from the seed, its kind and its number alone.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import resource
import signal
import tempfile
import time
import traceback
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

from edgecascade.benchmarks.report import LOWER, write_study
from edgecascade.benchmarks.stored import Steps, at_once, stored_steps
from edgecascade.types.errors import BenchmarkError, EdgecascadeError
from studies.parsers import PARSERS, Parser, make_parser

__all__ = ["Finding", "Mutations", "Row", "chance", "main", "measure_mutations", "outcome", "read_one", "summarize"]

Make: TypeAlias = Callable[[str, Path], Parser]

_N = 100_000
_SLOW = 5.0  # seconds of CPU time for one mutant
_HANGS = 60.0  # seconds after which a process without progress is ended
_MOST_MEMORY = 512.0  # MiB by which one mutant may raise the peak
_ADDRESSES = 16 << 30  # bytes that a process may map
_MOST_FINDINGS = 20  # of a kind, that are kept
_SKIPPED = 77  # exit code of a process whose parser needs a package that is not installed
_AT, _READ, _REFUSED, _SLOWEST, _BEFORE, _PEAK = range(6)  # numbers that a process shares


@dataclass(frozen=True)
class Finding:
    """A mutant that was neither read nor refused as it should be.

    Attributes:
        kind: What it is a mutant of.
        number: Its number.
        what: What happened.
    """

    kind: str
    number: int
    what: str

    def __str__(self) -> str:
        return f"{self.kind} {self.number}: {self.what}"


@dataclass(frozen=True)
class Row:
    """The mutants of one kind.

    Attributes:
        kind: What they are mutants of.
        n: How many there were.
        read: Those that were read as valid.
        refused: Those that were refused with an error of edgecascade.
        found: Those that are findings; some of them are in `findings`.
        seconds: What it took on this machine.
        slowest: Seconds of CPU time of the slowest one.
        memory: MiB of the process at its peak, beyond what the samples needed.
        findings: The first findings.
    """

    kind: str
    n: int
    read: int
    refused: int
    found: int = field(metadata=LOWER)
    seconds: float
    slowest: float
    memory: float
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Mutations:
    """The whole measurement.

    Attributes:
        seed: The seed of every mutant.
        rows: One row per kind.
        skipped: Kinds whose packages are not installed.
    """

    seed: int
    rows: tuple[Row, ...]
    skipped: tuple[str, ...]

    @property
    def found(self) -> int:
        """The number of findings."""
        return sum(row.found for row in self.rows)


def measure_mutations(
    shares: Mapping[str, int],
    n: int,
    steps: Steps = at_once,
    *,
    seed: int = 0,
    hangs: float = _HANGS,
    make: Make = make_parser,
) -> Mutations:
    """Read `n` mutants, in as many steps as there are kinds.

    Args:
        shares: How many of a hundred mutants are of each kind.
        n: The number of mutants.
        steps: Stores what is measured.
        seed: The seed of every mutant.
        hangs: Seconds after which a process without progress is ended.
        make: Makes the parser of a kind, in each process.
    """
    whole, rows, skipped = sum(shares.values()), [], []
    for kind, share in shares.items():
        row = steps(Row, kind, partial(_measure, kind, max(1, n * share // whole), seed, hangs, make))
        if row.n:
            rows.append(row)
        else:
            skipped.append(kind)
    return Mutations(seed, tuple(rows), tuple(skipped))


def read_one(kind: str, number: int, seed: int, folder: Path) -> str:
    """Read one mutant in this process, and return what comes of it: `read`, or the error that refuses it."""
    parser = make_parser(kind, folder)
    try:
        parser.read(parser.mutant(chance(kind, number, seed)))
    except (EdgecascadeError, TimeoutError) as error:
        return f"{type(error).__name__}: {error}"
    return "read"


def chance(kind: str, number: int, seed: int) -> Random:
    """Return the source of chance of one mutant."""
    return Random(f"{seed} {kind} {number}")


def _measure(kind: str, n: int, seed: int, hangs: float, make: Make) -> Row:
    started, findings, memory, slowest = time.monotonic(), [], 0.0, 0.0
    read = refused = at = 0
    with tempfile.TemporaryDirectory() as folder:
        while at < n:
            numbers, some, ended = _one_process(kind, range(at, n), seed, hangs, make, Path(folder))
            if ended == "skipped":
                return Row(kind, 0, 0, 0, 0, 0.0, 0.0, 0.0)
            findings += some
            read, refused = read + int(numbers[_READ]), refused + int(numbers[_REFUSED])
            slowest, memory = max(slowest, numbers[_SLOWEST]), max(memory, numbers[_PEAK] - numbers[_BEFORE])
            at = int(numbers[_AT])
            if ended:
                findings.append(Finding(kind, at, ended))
                at += 1
    return Row(
        kind=kind,
        n=n,
        read=read,
        refused=refused,
        found=len(findings),
        seconds=time.monotonic() - started,
        slowest=slowest,
        memory=memory,
        findings=tuple(findings[:_MOST_FINDINGS]),
    )


def _one_process(
    kind: str, numbers: range, seed: int, hangs: float, make: Make, folder: Path
) -> tuple[list[float], list[Finding], str]:
    """Read mutants until one ends the process.

    Returns:
        The shared numbers, the findings, and how it ended, which is empty if it came to the end.
    """
    context = get_context("spawn")
    shared = context.Array("d", 6, lock=False)
    shared[_AT] = numbers.start
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(kind, numbers, seed, make, str(folder), shared, theirs), daemon=True)
    process.start()
    theirs.close()
    findings, before, since, hung = list[Finding](), -1.0, time.monotonic(), False
    while process.is_alive() and not hung:
        process.join(0.1)
        _receive(ours, findings)
        if shared[_AT] != before or not shared[_BEFORE]:  # the samples are no mutants
            before, since = shared[_AT], time.monotonic()
        hung = time.monotonic() - since > hangs
    if hung:
        process.kill()
    process.join()
    _receive(ours, findings)
    code, ended = process.exitcode or 0, ""
    if hung:
        ended = f"hangs for {hangs:.0f} s"
    elif code == _SKIPPED:
        ended = "skipped"
    elif code and not shared[_BEFORE]:
        raise BenchmarkError(f"{kind}: its samples cannot be read: {_last_words(folder)}")
    elif code:
        named = signal.Signals(-code).name if code < 0 else f"code {code}"
        ended = f"ends the process with {named}: {_last_words(folder)}"
    return list(shared), findings, ended


def _receive(connection: Connection, findings: list[Finding]) -> None:
    with contextlib.suppress(EOFError, OSError):
        while connection.poll():
            findings.append(connection.recv())


def _last_words(folder: Path) -> str:
    """Return where the process was when it ended, from its standard error."""
    try:
        text = (folder / "stderr").read_text(errors="replace")
    except FileNotFoundError:
        return "it did not start"
    start = text.rfind("Fatal Python error")
    said = text[start : start + 800] if start >= 0 else text[-800:]
    return " < ".join(line.strip() for line in said.splitlines() if line.strip())


def _work(kind: str, numbers: range, seed: int, make: Make, folder: str, shared: Any, found: Connection) -> None:
    parent = os.getppid()
    log = os.open(os.path.join(folder, "stderr"), os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(log, 2)
    faulthandler.enable(log)
    logging.disable()
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESSES, _ADDRESSES))
    with tempfile.TemporaryDirectory(dir=folder) as own:
        try:
            parser = make(kind, Path(own))
        except ModuleNotFoundError:
            os._exit(_SKIPPED)
        for sample in parser.samples:
            with contextlib.suppress(EdgecascadeError):  # some samples are errors of a server
                parser.read(sample)
        shared[_BEFORE] = shared[_PEAK] = _peak()
        for number in numbers:
            if os.getppid() != parent:  # it was ended
                os._exit(0)
            shared[_AT] = number
            mutant = parser.mutant(chance(kind, number, seed))
            before, started = _peak(), time.process_time()
            valid, what = outcome(parser.read, mutant)
            seconds = time.process_time() - started
            shared[_SLOWEST] = max(shared[_SLOWEST], seconds)
            shared[_PEAK] = _peak()
            if seconds > _SLOW:
                what = what or f"takes {seconds:.1f} s of CPU time"
            if shared[_PEAK] - before > _MOST_MEMORY:
                what = what or f"takes {shared[_PEAK] - before:.0f} MiB"
            shared[_READ] += valid and not what
            shared[_REFUSED] += not valid and not what
            if what:
                found.send(Finding(kind, number, what))
        shared[_AT] = numbers.stop
    found.close()
    os._exit(0)  # no need to wait for threads of the readers


def outcome(read: Callable[[bytes], object], mutant: bytes) -> tuple[bool, str]:
    """Read a mutant; return whether it was read as valid, and what is wrong, which is empty if it was refused."""
    try:
        read(mutant)
    except (EdgecascadeError, TimeoutError) as error:
        return False, "" if "\n" not in str(error) else f"its error has several lines: {str(error)[:200]!r}"
    except BaseException as error:
        calls = traceback.extract_tb(error.__traceback__)
        ours = [f"{Path(one.filename).name}:{one.lineno}" for one in calls if "edgecascade" in one.filename]
        return False, f"{type(error).__name__} through {' '.join(ours[-4:])}: {str(error)[:200]!r}"
    return True, ""


def _peak() -> float:
    """Return the largest MiB of this process so far (Linux); getrusage has that of the parent in it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split(maxsplit=1)[0]) / 1024


def summarize(found: Mutations) -> str:
    """Return a table as plain text, and the findings."""
    n, seconds = sum(row.n for row in found.rows), sum(row.seconds for row in found.rows)
    lines = [
        f"mutations: {n} mutants, seed {found.seed}, {seconds:.0f} s; {found.found} findings",
        f"{'':<16}{'mutants':>9}{'read':>9}{'refused':>9}{'findings':>10}{'s':>7}{'slowest, ms':>13}{'MiB added':>11}",
    ]
    lines += [
        f"{row.kind:<16}{row.n:>9}{row.read:>9}{row.refused:>9}{row.found:>10}{row.seconds:>7.0f}"
        f"{1e3 * row.slowest:>13.0f}{row.memory:>11.0f}"
        for row in found.rows
    ]
    lines += [f"skipped, since a package is not installed: {', '.join(found.skipped)}"] if found.skipped else []
    return "\n".join([*lines, *(str(one) for row in found.rows for one in row.findings)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Read what an interrupted run did not, print, and write the result; return 1 if there are findings."""
    parser = ArgumentParser(prog="python -m studies.mutations", description=__doc__)
    parser.add_argument("-n", type=int, default=_N, help=f"Mutants of all kinds together (default: {_N}).")
    parser.add_argument("--seed", type=int, default=0, help="The seed of every mutant (default: 0).")
    parser.add_argument("--kind", choices=list(PARSERS), help="Mutants of this kind only, as many as -n says.")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="Read this mutant of --kind only, in this process.")
    parser.add_argument("-o", "--out", type=Path, default=Path("report"), help="The folder (default: report).")
    asked = parser.parse_args(arguments)
    if asked.only is not None:
        if asked.kind is None:
            parser.error("--only needs --kind")
        with tempfile.TemporaryDirectory() as folder:
            print(read_one(asked.kind, asked.only, asked.seed, Path(folder)))
        return 0
    shares = {asked.kind: 1} if asked.kind else PARSERS
    about = {"shares": shares, "n": asked.n, "seed": asked.seed}
    command = f"python -m studies.mutations -n {asked.n} --seed {asked.seed}"
    command += f" --kind {asked.kind!r}" if asked.kind else ""
    with stored_steps(asked.out / "steps", about, len(shares)) as steps:
        found = measure_mutations(shares, asked.n, steps, seed=asked.seed)
        write_study(asked.out, "mutations", found, command=command, summary=summarize(found))
    print(summarize(found))
    return int(found.found > 0)


if __name__ == "__main__":
    raise SystemExit(main())
