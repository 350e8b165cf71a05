"""Mutants that atheris guides: it keeps those that reach new lines of a parser, and changes them further.

It needs `atheris` (`pip install edgecascade[fuzz]`). A finding ends the run with another code than 0, and is kept in
the folder.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import Random

from edgecascade.types.errors import EdgecascadeError

__all__ = ["main"]

_LARGEST = 1 << 17  # bytes of a mutant
_OURS = 0.3  # share of the mutants that are changed in their structure, not in their bytes alone


def main(arguments: Sequence[str] | None = None) -> None:
    """Read mutants of one kind until a finding, or until there were enough, and end the process."""
    parser = ArgumentParser(prog="python -m studies.coverage_guided", description=__doc__)
    parser.add_argument("kind", help="What to change, as the table of studies.mutations names it.")
    parser.add_argument("-n", type=int, default=100_000, help="Mutants (default: 100000).")
    parser.add_argument("--seed", type=int, default=1, help="The seed (default: 1).")
    parser.add_argument("-o", "--out", type=Path, default=Path("report"), help="The folder (default: report).")
    asked = parser.parse_args(arguments)
    import atheris

    with atheris.instrument_imports(include=["edgecascade"], exclude=["edgecascade.benchmarks", "edgecascade.export"]):
        from studies.parsers import make_parser

    logging.disable()
    with tempfile.TemporaryDirectory() as place:
        own, corpus = Path(place, "own"), Path(place, "corpus")
        own.mkdir()
        corpus.mkdir()
        made = make_parser(asked.kind, own)
        for i, sample in enumerate(made.samples):
            (corpus / str(i)).write_bytes(sample)

        def read(content: bytes) -> None:
            with suppress(EdgecascadeError, TimeoutError):
                made.read(content)

        def mutate(content: bytes, most: int, seed: int) -> bytes:
            rng = Random(seed)
            if rng.random() > _OURS:
                return bytes(atheris.Mutate(content, most))
            with suppress(Exception):  # it has no structure any more
                return made.mutate(content, rng)[:most]
            return made.mutant(rng)[:most]

        asked.out.mkdir(parents=True, exist_ok=True)
        options = [f"-runs={asked.n}", f"-seed={asked.seed}", f"-max_len={_LARGEST}", "-timeout=30"]
        options += ["-rss_limit_mb=2048", "-verbosity=1", "-print_final_stats=1", f"-artifact_prefix={asked.out}/"]
        atheris.Setup(["coverage_guided", *options, str(corpus)], read, custom_mutator=mutate)
        try:
            atheris.Fuzz()
        finally:
            shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
