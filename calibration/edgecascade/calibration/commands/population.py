"""The arguments that say which population the labelled inputs stand for, and what groups it has."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.calibration.commands.arguments import share
from edgecascade.calibration.commands.outputs import read_array
from edgecascade.calibration.outcomes import Groups
from edgecascade.calibration.weights import class_weights
from edgecascade.cli import rare
from edgecascade.types.errors import CalibrationError

__all__ = ["add_population_arguments", "array_names", "population_options", "task_population_options"]

_CLASSES = "class"  # the groups that need no array


def add_population_arguments(parser: ArgumentParser) -> None:
    """Add sample weights, class frequencies, groups, and the largest loss within them."""
    population = parser.add_argument_group("population")
    options = (
        (
            "--weights",
            "NAME",
            "Array of sample weights [n] in the data, or an .npy file: numbers above 0, on any scale, by which inputs "
            "count.",
        ),
        (
            "--prior",
            "P",
            "Class frequencies expected on the device, on any scale: a list such as 0.97,0.03, or a JSON file of an "
            "object by class name. Inputs are weighted by expected over observed frequency.",
        ),
        (
            "--groups",
            "NAME",
            "Array of group numbers or names [n] in the data, or an .npy file, for accuracies by group; or `class` "
            "(default class, if there are at most 50 classes).",
        ),
    )
    for name, metavar, text in options:
        rare(population.add_argument(name, metavar=metavar, help=text))
    population.add_argument(
        "--max-group-loss",
        type=share,
        metavar="X",
        help="Largest loss to the remote in any class or group; certified under --certify.",
    )


def array_names(arguments: Namespace) -> tuple[str, ...]:
    """Return the names of the arrays that the arguments ask for beside the data's own."""
    given = (arguments.weights, arguments.groups)
    return tuple(dict.fromkeys(name for name in given if name and name != _CLASSES and not _is_file(name)))


def population_options(
    arguments: Namespace,
    arrays: Mapping[str, NDArray[Any]],
    labels: NDArray[np.integer],
    classes: int,
    names: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the arguments as `plan_cascade` takes them.

    Args:
        arguments: the parsed arguments.
        arrays: those that `array_names` asked for.
        labels: integer [n].
        classes: number of classes.
        names: class names; empty if unknown.

    Raises:
        CalibrationError: an array or a prior is missing, or does not fit the labels.
    """
    found = _weight_and_groups(arguments, arrays)
    if arguments.prior is not None:
        called = names or tuple(map(str, range(classes)))
        found["weight"] = class_weights(labels, read_prior(arguments.prior, called), found["weight"], names=called)
    if arguments.groups == _CLASSES:
        found["groups"] = Groups.of_classes(labels, names)
    return found


def task_population_options(arguments: Namespace, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return the arguments as `plan_task` takes them; arguments as in `population_options`.

    Raises:
        CalibrationError: an array is missing, or an argument is about classes.
    """
    if arguments.prior is not None or arguments.groups == _CLASSES:
        option = "--groups class" if arguments.prior is None else "--prior"
        raise CalibrationError(f"{option}: expected outputs of classes with it, got the values of a general task")
    return _weight_and_groups(arguments, arrays)


def read_prior(text: str, names: Sequence[str]) -> list[float]:
    """Return one frequency per class, from a list or from a JSON file by class name.

    Raises:
        CalibrationError: the text is neither, or a class is missing or unknown.
    """
    if not text.endswith(".json"):
        try:
            found = [float(part) for part in text.split(",")]
        except ValueError:
            raise CalibrationError(
                f"--prior: expected frequencies such as 0.97,0.03, or a .json file, got {text!r}"
            ) from None
        if len(found) != len(names):
            raise CalibrationError(f"--prior: expected {len(names)} frequencies, one per class, got {len(found)}")
        return found
    try:
        by_name = {str(name): float(share) for name, share in json.loads(Path(text).read_text("utf-8")).items()}
    except FileNotFoundError as error:
        raise CalibrationError(f"{text}: no such file") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise CalibrationError(f"{text}: is not a JSON object of frequencies by class name: {error}") from error
    if by_name.keys() != set(names):
        missing, unknown = sorted(set(names) - by_name.keys()), sorted(by_name.keys() - set(names))
        what = f"no {', '.join(missing[:5])}" if missing else f"the unknown {', '.join(unknown[:5])}"
        raise CalibrationError(f"{text}: expected a frequency for each of the {len(names)} classes, got {what}")
    return [by_name[name] for name in names]


def _weight_and_groups(arguments: Namespace, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    def array(name: str) -> NDArray[Any]:
        return read_array(name) if _is_file(name) else arrays[name]

    groups = None
    if arguments.groups not in (None, _CLASSES):
        by = Path(arguments.groups).stem if _is_file(arguments.groups) else arguments.groups
        groups = Groups.of(array(arguments.groups), by)
    weight = None if arguments.weights is None else array(arguments.weights)
    return {"weight": weight, "groups": groups, "max_group_loss": arguments.max_group_loss}


def _is_file(name: str) -> bool:
    return name.endswith(".npy")
