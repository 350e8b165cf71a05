"""`edgecascade clean plant`: a copy of the labels of which some are wrong on purpose."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.commands.arguments import share
from edgecascade.calibration.commands.clean.suspects_file import new_files
from edgecascade.cli import rare
from edgecascade.types.errors import CalibrationError, first_line

__all__ = ["PlantedFile", "configure", "execute", "read_planted"]


@dataclass(frozen=True)
class PlantedFile:
    """Labels before and after planting.

    Attributes:
        original: int64 [n].
        planted: int64 [n].
        rows: int64, the rows that differ.
    """

    original: NDArray[np.int64]
    planted: NDArray[np.int64]
    rows: NDArray[np.int64]


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "example:\n"
        "  edgecascade clean plant outputs.npz -o planted.npz\n"
        "  edgecascade clean find outputs.npz --planted planted.npz --held-out held-out.npz -o suspects.parquet\n\n"
        "If models are trained on these labels, train them on the planted ones: a model that has seen the right label\n"
        "finds the planted one too easily."
    )
    text = "Labels [n], and names of classes if there are any, in an .npz or .parquet file; or an .npy file of labels. "
    text += "Outputs of experts in the same file say which options a row does not have (-inf)."
    parser.add_argument("labels", metavar="LABELS", help=text)
    text = "New .npz file with labels, names, rows (those that were changed) and original (the labels they had)."
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help=text)
    text = "Share of the labels to change (default 0.01)."
    parser.add_argument("--share", type=share, default=0.01, metavar="S", help=text)
    text = "Number of classes, if the labels have no names (default: the largest label + 1)."
    rare(parser.add_argument("--classes", type=int, metavar="N", help=text))
    rare(parser.add_argument("--seed", type=int, default=0, help="Seed of the draw (default 0)."))


def execute(arguments: Namespace) -> int:
    """Write the planted labels."""
    from edgecascade.calibration.cleaning import plant
    from edgecascade.calibration.commands.clean.expert_files import read_labels, read_options

    labels, names, text = read_labels(arguments.labels)
    if not arguments.output.endswith(".npz"):
        raise CalibrationError(f"--output: expected a file that ends in .npz, got {arguments.output!r}")
    classes = len(names) or arguments.classes or int(labels.max(initial=0)) + 1
    options = read_options(arguments.labels, len(labels), classes)
    planted = plant(labels, classes, arguments.share, arguments.seed, options)
    arrays = {"labels": planted.labels, "rows": planted.rows, "original": planted.original}
    if names:
        arrays["names"] = np.array(names)
    if text:
        arrays |= {name: np.array(names)[arrays[name]] for name in ("labels", "original")}
    with new_files(arguments.output):
        np.savez_compressed(arguments.output, allow_pickle=False, **arrays)
    print(f"changed {len(planted.rows)} of {len(labels)} labels, each to another class at random")
    print(f"next: train on the labels in {arguments.output} if the models learn from them, then run")
    print(f"  edgecascade clean find OUTPUTS --planted {arguments.output} ...")
    return 0


def read_planted(path: str, names: Sequence[str], labels: NDArray[np.int64]) -> PlantedFile:
    """Read a file of planted labels, and match it with the labels of the outputs.

    Args:
        path: what `plant` wrote.
        names: of the classes of the outputs; empty if they have none.
        labels: of the outputs, int64 [n]: those before or those after planting.

    Raises:
        CalibrationError: the file cannot be read, or has other labels.
    """
    from edgecascade.calibration.commands.outputs import numbered_labels

    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("labels", "rows", "original")}
            own = tuple(map(str, archive["names"].tolist())) if "names" in archive else tuple(names)
    except FileNotFoundError as error:
        raise CalibrationError(f"{path}: no such file") from error
    except Exception as error:  # numpy and zipfile raise many types
        raise CalibrationError(f"{path}: is not a file that `clean plant` wrote: {first_line(error)}") from error
    rows = arrays["rows"]
    if rows.dtype.kind not in "iu" or rows.ndim != 1 or arrays["original"].shape != rows.shape:
        raise CalibrationError(f"{path}: is not a file that `clean plant` wrote: rows and original do not fit")
    planted, before = (numbered_labels(arrays[name], own) for name in ("labels", "original"))
    if names and own != tuple(names):
        if sorted(own) != sorted(names):
            raise CalibrationError(f"{path}: expected the class names of the outputs, got others")
        order = np.array([list(names).index(one) for one in own])
        planted, before = order[planted], order[before]
    if len(planted) != len(labels) or (len(rows) and not 0 <= rows.min() <= rows.max() < len(labels)):
        raise CalibrationError(f"{path}: expected {len(labels)} labels as in the outputs, got {len(planted)}")
    original = planted.copy()
    original[rows] = before
    if not (np.array_equal(labels, original) or np.array_equal(labels, planted)):
        differ = int(np.minimum((labels != original).sum(), (labels != planted).sum()))
        raise CalibrationError(f"{path}: expected the labels of the outputs, got {differ} that differ")
    return PlantedFile(original, planted, rows)
