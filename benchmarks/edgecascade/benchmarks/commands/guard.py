"""`edgecascade bench guard`: every ratio that this project promises, with goal, figure and spread."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from edgecascade.benchmarks.commands.report_argument import add_report

__all__ = ["configure", "execute"]


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--splits", type=int, default=50, help="random splits behind each figure of plans (default 50)")
    parser.add_argument("--draws", type=int, default=1000, help="certificates drawn (default 1000)")
    parser.add_argument("--rounds", type=int, default=200, help="calls of each function that is timed (default 200)")
    parser.add_argument("--no-triton", action="store_true", help="leave out tritonclient (an environment of 500 MB)")
    add_report(parser)


def execute(arguments: Namespace) -> int:
    """Measure what an interrupted run did not, print, and write the three results: 1 if a goal is missed."""
    from edgecascade.benchmarks.flagship import Protocol, prepare_flagship
    from edgecascade.benchmarks.guard import Guard, calibration_checks, ratio_check, runtime_checks
    from edgecascade.benchmarks.packages import sha256_of
    from edgecascade.benchmarks.pairs import fashion_pair, flagship_pairs
    from edgecascade.benchmarks.promises import measure_promises, promises_steps, summarize
    from edgecascade.benchmarks.ratio import Ratio
    from edgecascade.benchmarks.results import write_result
    from edgecascade.benchmarks.runtime_cost import measure_runtime_cost, runtime_steps
    from edgecascade.benchmarks.steps import kept_steps
    from edgecascade.export.cache import cache_folder
    from studies.loadgen_agreement import measure_agreement

    cache, folder, triton = cache_folder(), Path(arguments.report), not arguments.no_triton
    flagship, pairs = prepare_flagship(Protocol(), cache), (*flagship_pairs(cache), fashion_pair(cache))
    asked = {name: getattr(arguments, name) for name in ("rounds", "splits", "draws")}
    about = {**asked, "cascade": sha256_of(flagship.cascade), "outputs": [pair.digest for pair in pairs]}
    total = runtime_steps(triton=triton) + 1 + promises_steps(pairs)
    with kept_steps(folder / "steps", about, total) as steps:
        cost = measure_runtime_cost(flagship, cache, steps, rounds=arguments.rounds, triton=triton)
        write_result(folder / "runtime", cost, str(cost))
        agreement = steps(Ratio, "agreement with LoadGen", lambda: measure_agreement(cache))
        promises = measure_promises(pairs, steps, splits=arguments.splits, draws=arguments.draws)
        write_result(folder / "promises", promises, summarize(promises))
        guard = Guard((*calibration_checks(promises), *runtime_checks(cost), ratio_check("benchmarks", agreement)))
        write_result(folder / "guard", guard, str(guard))
    print(guard)
    return 1 if guard.missed else 0
