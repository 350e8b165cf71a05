"""`edgecascade bench clean`: find planted wrong labels, beside cleanlab on the same outputs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from edgecascade.cli import rare
from edgecascade.types.errors import BenchmarkError

__all__ = ["configure", "execute"]

_DATA = ("flagship", "flagship-small", "fashion-mnist", "languages", "languages-small", "digits")
_PACKAGES = {
    "cleaning": ("cleanlab", "sklearn"),
    "languages": ("lingua", "tokenizers"),
    "images": ("torch", "onnxscript", "efficientnet_lite_pytorch", "debian"),
}  # what each extra installs to import
_NEEDED = {"flagship": "images", "flagship-small": "images", "fashion-mnist": "images", "languages": "languages"}


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--data",
        action="append",
        choices=_DATA,
        metavar="NAME",
        help=f"Data set, repeatable: {', '.join(_DATA)} (default: all but digits).",
    )
    parser.add_argument(
        "--runs", type=int, metavar="N", help="Runs of each cell, each with other wrong labels (default 3)."
    )
    parser.add_argument("--quick", action="store_true", help="Measure digits only, once, and small arrays: seconds.")
    parser.add_argument("--no-costs", action="store_true", help="Leave CPU time and memory out.")
    rare(
        parser.add_argument(
            "--large", action="store_true", help="Measure 1.3 million rows of 1,000 classes too (8 GB of files)."
        )
    )
    parser.add_argument(
        "-o", "--out", metavar="DIR", default="report", help="Folder of the page and figures (default report)."
    )


def execute(arguments: Namespace) -> int:
    """Measure, print, and write the report."""
    if arguments.runs is not None and arguments.runs < 1:
        raise BenchmarkError(f"--runs: expected 1 or more, got {arguments.runs}")
    _check_packages(arguments.data or (_DATA[-1:] if arguments.quick else _DATA[:-1]))
    from edgecascade.benchmarks.cache import cache_folder
    from edgecascade.benchmarks.cleaning.report import cleaning_report, cleaning_summary
    from edgecascade.benchmarks.cleaning.run import Extent, about, measure_cleaning
    from edgecascade.benchmarks.report import write_page
    from edgecascade.benchmarks.stored import stored_steps

    extent = Extent()
    if arguments.quick:
        extent = Extent(data=("digits",), shares=(0.02, 0.1), runs=1, crowd=None, rows=2000, classes=100, rounds=1)
    extent = replace(
        extent,
        data=tuple(arguments.data or extent.data),
        runs=arguments.runs or extent.runs,
        rows=0 if arguments.no_costs else extent.rows,
        large=arguments.large,
    )
    with stored_steps(Path(arguments.out) / "steps", about(extent), extent.steps) as steps:
        result = measure_cleaning(extent, cache_folder(), steps)
        summary = cleaning_summary(result)
        page = write_page(cleaning_report(result, _command(arguments)), arguments.out, summary=summary)
    print(f"report: {page.resolve()}\n\n{summary}")
    return 0


def _check_packages(names: tuple[str, ...] | list[str]) -> None:
    extras = dict.fromkeys(["cleaning", *(_NEEDED[name.removesuffix("-small")] for name in names if name != "digits")])
    missing = {extra: [one for one in _PACKAGES[extra] if find_spec(one) is None] for extra in extras}
    lacking = [extra for extra, packages in missing.items() if packages]
    if lacking:
        packages = ", ".join(one for extra in lacking for one in missing[extra])
        raise BenchmarkError(f"bench clean needs {packages}: pip install 'edgecascade-benchmarks[{','.join(lacking)}]'")


def _command(arguments: Namespace) -> str:
    words = ["edgecascade bench clean", *(f"--data {name}" for name in arguments.data or ())]
    words += [f"--runs {arguments.runs}"] if arguments.runs else []
    return " ".join(
        [*words, *(f"--{name}" for name in ("quick", "no-costs", "large") if vars(arguments)[name.replace("-", "_")])]
    )
