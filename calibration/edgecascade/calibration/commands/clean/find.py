"""`edgecascade clean find`: rank the rows whose labels several models dispute."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.cleaning import (
    RULES,
    Experts,
    Planted,
    Pool,
    Suspects,
    check_columns,
    check_held_out,
    detection,
    find_suspects,
    fit_pool,
)
from edgecascade.calibration.commands.arguments import share
from edgecascade.calibration.commands.clean.expert_files import (
    ExpertOutputs,
    add_expert_arguments,
    read_experts,
    sha256,
)
from edgecascade.calibration.commands.clean.media import open_inputs
from edgecascade.calibration.commands.clean.plant import PlantedFile, read_planted
from edgecascade.calibration.commands.clean.suspects_file import SuspectsFile, new_files, write_suspects
from edgecascade.calibration.intervals import proportion
from edgecascade.cli import rare
from edgecascade.types.errors import CalibrationError
from edgecascade.types.estimate import Estimate

__all__ = ["configure", "execute"]


_NEARLY_ALL = 0.995  # of the judged labels: who agrees with more of them may have seen them


@dataclass(frozen=True)
class _Found:
    """What was found, and what is printed about it.

    Attributes:
        suspects: of every row.
        pool: the experts combined.
        accuracies: the share of labels that each expert agrees with, of the rows that the weights were fitted on.
        agreements: the same of the judged rows.
        detected: the share of planted labels that is flagged; None without plants.
        across_folds: whether the weights were fitted on the judged rows.
    """

    suspects: Suspects
    pool: Pool
    accuracies: tuple[Estimate, ...]
    agreements: tuple[Estimate, ...]
    detected: Estimate | None
    across_folds: bool


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "examples:\n"
        "  edgecascade clean find outputs.npz --held-out held-out.npz -o suspects.parquet\n"
        "  edgecascade clean find outputs.npz --folds fold -o suspects.parquet\n"
        "  edgecascade clean find a.npy b.npy labels.npy --held-out a2.npy b2.npy labels2.npy -o suspects.parquet\n\n"
        "No model may have been trained on the labels that it judges: give outputs on rows that it never saw, or\n"
        "out-of-fold outputs. The held-out rows are other labelled rows, which no model was trained on either."
    )
    add_expert_arguments(parser)
    text = "New .parquet file of all judged rows, most suspect first."
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help=text)
    held_out = parser.add_argument_group("what the weights are fitted on (one or both)")
    text = "The same experts' outputs on held-out labelled rows, in files of the same form."
    held_out.add_argument("--held-out", nargs="+", metavar="FILE", help=text)
    text = "Array of folds [n] in the file of outputs, or an .npy file: the outputs are out of fold, and without "
    text += "--held-out the weights are fitted on the judged rows themselves."
    held_out.add_argument("--folds", metavar="NAME", help=text)
    parser.add_argument(
        "--planted", metavar="FILE", help="What `plant` wrote: report how many planted labels are found."
    )
    parser.add_argument("--json", metavar="FILE", help="Write the figures as JSON to FILE, or - for standard output.")
    text = (
        "Order of the rows: the pool's odds with the confusions that this data set shows (posterior, the default), the "
        "pool's odds alone (pool), or the least confidence where every expert disagrees with the label (all-disagree)."
    )
    rare(parser.add_argument("--rule", choices=RULES, default=RULES[0], help=text))
    text = "Flag rows from this model chance on (default: that of the rule)."
    rare(parser.add_argument("--threshold", type=share, metavar="P", help=text))


def execute(arguments: Namespace) -> int:
    """Find suspects, then write and print."""
    if not arguments.output.endswith(".parquet"):
        raise CalibrationError(f"--output: expected a file that ends in .parquet, got {arguments.output!r}")
    if not arguments.held_out and not arguments.folds:
        raise CalibrationError("--held-out: expected held-out labelled rows, or --folds for out-of-fold outputs")
    new = [arguments.output, *([arguments.json] if arguments.json not in (None, "-") else [])]
    with new_files(*new):
        judged = read_experts(arguments.outputs, arguments, folds=arguments.folds)
        held_out = read_experts(arguments.held_out, arguments, like=judged) if arguments.held_out else None
        planted = read_planted(arguments.planted, judged.names, judged.labels) if arguments.planted else None
        found = _find(arguments, judged, held_out, planted)
        file = SuspectsFile(found.suspects, judged.names, judged.ids, _provenance(arguments, judged, held_out, found))
        write_suspects(arguments.output, file)
        document = json.dumps(_document(file, found), allow_nan=False, indent=1)
        if arguments.json not in (None, "-"):
            Path(arguments.json).write_text(document + "\n", encoding="utf-8")
    print(document if arguments.json == "-" else "\n".join(_lines(found, arguments.output, judged.ids)))
    return 0


def _find(
    arguments: Namespace, judged: ExpertOutputs, held_out: ExpertOutputs | None, planted: PlantedFile | None
) -> _Found:
    """Find suspects among the labels as they were before planting."""
    labels = judged.labels if planted is None else planted.original

    def found(labels: NDArray[np.int64]) -> tuple[Suspects, Pool]:
        fitted = held_out or judged
        if held_out is not None:
            check_held_out(judged.experts, labels, held_out.experts, held_out.labels, names=judged.names)
        else:
            check_columns(judged.experts, labels, names=judged.names)
        pool = fit_pool(fitted.experts, labels if held_out is None else held_out.labels)
        options = {"rule": arguments.rule, "threshold": arguments.threshold}
        return find_suspects(judged.experts, labels, pool, every_row=True, **options), pool

    suspects, pool = found(labels)
    detected = None
    if planted is not None:
        about = Planted(planted.planted, planted.rows, planted.original[planted.rows])
        try:
            detected = detection(about, found(planted.planted)[0])
        except CalibrationError as error:
            raise CalibrationError(f"{arguments.planted}: {error}") from error
    agreements = _accuracies(judged.experts, labels)
    accuracies = agreements if held_out is None else _accuracies(held_out.experts, held_out.labels)
    return _Found(suspects, pool, accuracies, agreements, detected, held_out is None)


def _accuracies(experts: Experts, labels: NDArray[np.int64]) -> tuple[Estimate, ...]:
    right = np.zeros(len(experts), np.int64)
    for part, block in experts.chunks():
        right += (block.argmax(axis=2) == labels[part]).sum(axis=1)
    return tuple(proportion(int(one) / len(labels), len(labels)) for one in right)


def _provenance(
    arguments: Namespace, judged: ExpertOutputs, held_out: ExpertOutputs | None, found: _Found
) -> dict[str, Any]:
    files = {"outputs": judged.files, "held_out": held_out.files if held_out else ()}
    for name in ("folds", "planted", "names", "ids"):
        path = getattr(arguments, name)
        if path and path.endswith((".npy", ".npz")):
            files[name] = ((path, sha256(path)),)
    return {
        "written_by": f"edgecascade {version('edgecascade')}",
        "numpy": np.__version__,
        "files": {use: [{"file": file, "sha256": hashed} for file, hashed in some] for use, some in files.items()},
        "options": {"rule": arguments.rule, "threshold": arguments.threshold, "folds": arguments.folds},
        "experts": [
            {
                "name": name,
                "weight": asdict(weight),
                "agreement": asdict(accuracy),
                "agreement_judged": asdict(agreement),
            }
            for name, weight, accuracy, agreement in _by_expert(found)
        ],
        "fitted_on": found.pool.n,
        "rho": asdict(found.pool.rho),
        "text_labels": judged.text,
    }


def _by_expert(found: _Found) -> Iterator[tuple[str, Estimate, Estimate, Estimate]]:
    """Yield the name, the weight, and the agreement with the labels of the fitted and of the judged rows."""
    yield from zip(found.pool.names, found.pool.weights, found.accuracies, found.agreements, strict=True)


def _document(file: SuspectsFile, found: _Found) -> dict[str, Any]:
    return {
        "rows": found.suspects.n,
        "classes": found.suspects.classes,
        "flagged": int(found.suspects.flagged.sum()),
        "disputed": _disputed(found.suspects),
        "detection": None if found.detected is None else asdict(found.detected),
        "shrunk": found.pool.shrunk,
        **file.provenance,
    }


def _disputed(suspects: Suspects) -> int:
    return int((suspects.score > 0).sum())


def _lines(found: _Found, output: str, ids: Sequence[str]) -> Iterator[str]:
    suspects, pool = found.suspects, found.pool
    rows = f"the {pool.n} judged rows, out of fold" if found.across_folds else f"{pool.n} held-out rows"
    yield f"judged     {suspects.n} rows, {suspects.classes} classes"
    weights = [f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})" for one in pool.weights]
    width, wide = max(6, *map(len, pool.names)), max(22, *map(len, weights))
    yield f"weights    fitted on {rows}"
    agrees = (
        "agrees with the judged labels"
        if found.across_folds
        else f"{'agrees with held-out labels':<27}  with judged ones"
    )
    yield f"  {'expert':<{width}}  {'weight (95 % interval)':<{wide}}  {agrees}"
    for weight, (name, _, accuracy, agreement) in zip(weights, _by_expert(found), strict=True):
        agrees = accuracy.percent() if found.across_folds else f"{accuracy.percent():<27}  {agreement.percent()}"
        yield f"  {name:<{width}}  {weight:<{wide}}  {agrees}"
    if pool.shrunk:
        yield "  The weights are drawn towards equal ones, as few of these rows show which expert is better."
    sure = [name for name, _, _, one in _by_expert(found) if found.across_folds and one.value >= _NEARLY_ALL]
    if sure:
        yield f"warning    {', '.join(sure)}: agrees with nearly all labels, as an expert does that was trained on them"
        yield "           and finds nothing. Was each row's output made by a model that was trained without its fold?"
    if found.detected is not None:
        yield f"planted    {found.detected.percent()} of {found.detected.n} planted labels are flagged"
        yield "           Labels that people got wrong are often harder to find than planted ones."
    flagged = int(suspects.flagged.sum())
    share = f"{100 * flagged / suspects.n:.2f} % of the rows"
    yield f"flagged    {flagged} labels ({share}), by the rule {suspects.rule} from {suspects.threshold:g} on"
    if flagged:
        yield "           How many of these labels are wrong is not known until a person has judged some of them."
    else:
        yield f"           {_why_none(suspects)}"
    yield f"wrote      {output}: all rows, most suspect first"
    data, design = "" if _shown_by(ids, suspects.n) else " --data DATA", "" if flagged else " --design all"
    yield f"next       edgecascade clean review {quote(output)}{data}{design} -o review.html"


def _shown_by(ids: Sequence[str], n: int) -> bool:
    """Whether the ids alone say what there is to show for n rows."""
    try:
        open_inputs(None, ids, n)
    except CalibrationError:
        return False
    return True


def _why_none(suspects: Suspects) -> str:
    if suspects.score[0] <= 0:
        return "The experts together hold every label for more likely right than wrong."
    return (
        f"The experts dispute {_disputed(suspects)} labels, but none surely enough for the threshold "
        f"{suspects.threshold:g}."
    )
