"""The arguments of every command that plans: the objective, and what to choose among."""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

from edgecascade.calibration.cross_fit import ESTIMATES
from edgecascade.calibration.decision import COST_SCORE, LEARNED, SCORES
from edgecascade.calibration.objective import (
    CertifiedLoss,
    LeastCost,
    LeastOffload,
    MostAccuracy,
    Objective,
    WhileItHelps,
)
from edgecascade.calibration.scaling import CALIBRATORS, SCORE_CALIBRATORS
from edgecascade.cli import rare
from edgecascade.types.errors import CalibrationError
from edgecascade.types.merge import MERGES

__all__ = [
    "add_calibrator_argument",
    "add_plan_arguments",
    "objective_if_any",
    "objective_of",
    "plan_options",
    "share",
    "task_plan_options",
]


_BY_CLASS = (
    " Where errors cost differently, X is a JSON file with the cost of an error by true class (an object by class "
    "name, or a list), or a matrix by true class and answer."
)
_FROM_CONFIDENCES = "; or from calibrated confidences alone, the paper's rule"


def share(text: str) -> float:
    """Parse a number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.0 <= number <= 1.0:
        raise ArgumentTypeError(f"expected a share from 0 to 1, such as 0.2, got {text!r}")
    return number


def add_plan_arguments(parser: ArgumentParser, *, required: bool = True, classes: bool = True) -> None:
    """Add one objective, and what the plan may choose among.

    Args:
        parser: the command's parser.
        required: whether an objective must be given.
        classes: whether the outputs may be classes, about which some arguments are.
    """
    objective = parser.add_argument_group("objective (choose one)").add_mutually_exclusive_group(required=required)
    objective.add_argument(
        "--offload-rate", type=share, metavar="R", help="Most accuracy, forwarding about this share of the inputs."
    )
    objective.add_argument("--accuracy", type=share, metavar="A", help="Least offload at this accuracy, or mean value.")
    objective.add_argument(
        "--max-loss",
        type=share,
        metavar="E",
        help="Least offload at this loss against the remote's own answers to all inputs.",
    )
    objective.add_argument(
        "--certify",
        type=share,
        metavar="E",
        help="Least offload at a loss that is certified with probability 1 - RISK.",
    )
    objective.add_argument(
        "--cost",
        type=_costs,
        metavar="L,R,B,X",
        help="Least cost, given the costs of a local inference, a remote inference, the bytes of one forward and a "
        f"wrong answer.{_BY_CLASS if classes else ''}",
    )
    objective.add_argument(
        "--while-it-helps", action="store_true", help="Forward wherever the remote is expected to do better."
    )
    _add_choice(parser.add_argument_group("policy"), classes)


def _add_choice(choice: Any, classes: bool) -> None:
    """Add to a group what holds for more than one objective."""
    choice.add_argument("--risk", type=share, help="Probability that a certificate does not hold (default 0.05).")
    choice.add_argument(
        "--confidence",
        type=_probability,
        metavar="C",
        help="Probability of meeting --accuracy or --max-loss (default 0.5: the estimate meets it), or of keeping to "
        "--offload-rate (default: about that rate).",
    )
    options = (
        ("--score", (*SCORES, LEARNED, COST_SCORE), "Routing score (default auto: cross-fitted)."),
        ("--merge", MERGES, "Merge rule (default auto: cross-fitted)."),
    )
    for name, values, text in options if classes else ():
        rare(choice.add_argument(name, choices=("auto", *values), default="auto", help=text))
    rare(
        choice.add_argument(
            "--estimate",
            choices=("auto", *(ESTIMATES if classes else ESTIMATES[:-1])),
            default="auto",
            help="Estimate of the advantage from labels: rising with the score (monotone), in small bins that borrow "
            "strength from their neighbours (shrunk), or in each bin alone (labels)"
            f"{_FROM_CONFIDENCES if classes else ''} (default auto: monotone, unless shrunk is shown to gain more).",
        )
    )
    rare(
        choice.add_argument(
            "--looks",
            type=_sizes,
            default=(),
            metavar="N1,N2,...",
            help="Numbers of inputs at which --certify is tested as data are collected, chosen before the first test. "
            "Each test gets an equal share of RISK; of more inputs, the first are used (default: one test of all).",
        )
    )
    text = "Bins of the advantage table (default up to 15; for monotone and shrunk one per 20 inputs, up to 50)."
    rare(choice.add_argument("--bins", type=int, help=text))
    rare(
        choice.add_argument(
            "--even-without-gain",
            action="store_true",
            help="Forward although cross-fitting shows no gain from it; by default nothing is forwarded then.",
        )
    )
    if classes:
        add_calibrator_argument(choice)
    else:
        text = "Map from score to confidence (default auto: the one that is better by cross-fitting)."
        rare(choice.add_argument("--calibrator", choices=SCORE_CALIBRATORS, default="auto", help=text))


def add_calibrator_argument(parser: Any) -> None:
    """Add how the confidences are calibrated to a parser or a group."""
    rare(
        parser.add_argument(
            "--label-noise",
            action="store_true",
            help="Fit the temperature together with a share of wrong labels, and use it where the labels show some. "
            "It allows for labels that are wrong at random; for classes that are mistaken for each other, in part.",
        )
    )
    rare(
        parser.add_argument(
            "--calibrator",
            choices=tuple(dict.fromkeys((*CALIBRATORS, *SCORE_CALIBRATORS))),
            default="auto",
            help="Calibration of confidences: by a temperature alone, or by a rising map after it; of other scores by "
            "Platt scaling or by a map (default auto: a map where it is better, cross-fitted).",
        )
    )


def objective_of(arguments: Namespace) -> Objective:
    """Return the objective, where one is required."""
    objective = objective_if_any(arguments)
    assert objective is not None
    return objective


def objective_if_any(arguments: Namespace) -> Objective | None:
    """Return the objective, or None if none was given.

    Raises:
        CalibrationError: a confidence, a risk, or planned tests, were given for an objective that has none, or no bins.
    """
    if getattr(arguments, "bins", None) is not None and arguments.bins < 1:  # before the models run
        raise CalibrationError(f"--bins: expected 1 or more, got {arguments.bins}")
    for name in ("looks", "risk"):
        if getattr(arguments, name) and arguments.certify is None:
            raise CalibrationError(f"--{name}: expected --certify with it")
    confidence: float | None = arguments.confidence
    if arguments.offload_rate is not None:
        return MostAccuracy(arguments.offload_rate, confidence)
    if arguments.accuracy is not None or arguments.max_loss is not None:
        sure = 0.5 if confidence is None else confidence
        return LeastOffload(accuracy=arguments.accuracy, loss=arguments.max_loss, confidence=sure)
    if confidence is not None:
        raise CalibrationError("--confidence: expected --offload-rate, --accuracy or --max-loss with it")
    if arguments.certify is not None:
        risk = 0.05 if arguments.risk is None else arguments.risk
        return CertifiedLoss(arguments.certify, risk, looks=arguments.looks)
    if arguments.cost is not None:
        return LeastCost(*arguments.cost)
    return WhileItHelps() if arguments.while_it_helps else None


def plan_options(arguments: Namespace) -> dict[str, Any]:
    """Return the other arguments, as `plan_cascade` takes them."""
    return {
        "scores": None if arguments.score == "auto" else (arguments.score,),
        "merges": MERGES if arguments.merge == "auto" else (arguments.merge,),
        "estimate": arguments.estimate,
        "bins": arguments.bins,
        "even_without_gain": arguments.even_without_gain,
        "calibrator": arguments.calibrator,
        "label_noise": arguments.label_noise,
    }


def task_plan_options(arguments: Namespace) -> dict[str, Any]:
    """Return the other arguments, as `plan_task` takes them.

    Raises:
        CalibrationError: an argument is about classes.
    """
    usual = {"score": "auto", "merge": "auto", "label_noise": False}
    for name, value in usual.items():
        if getattr(arguments, name, value) != value:
            option = name.replace("_", "-")
            raise CalibrationError(f"--{option}: expected outputs of classes with it, got a general task")
    return {
        "estimate": arguments.estimate,
        "bins": arguments.bins,
        "even_without_gain": arguments.even_without_gain,
        "calibrator": arguments.calibrator,
    }


def _probability(text: str) -> float:
    number = share(text)
    if not 0.0 < number < 1.0:
        raise ArgumentTypeError(f"expected a probability between 0 and 1, such as 0.95, got {text!r}")
    return number


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"expected numbers of inputs such as 1500,3000, got {text!r}") from None


def _costs(text: str) -> tuple[float, float, float, Any]:
    """Parse four costs, of which the last may be a JSON file with the costs of the errors."""
    *forwarding, error = text.split(",", 3)
    try:
        local, remote, transfer = (float(part) for part in forwarding)
    except ValueError:
        raise ArgumentTypeError(f"expected four costs such as 0,1,0.2,20 or 0,1,0.2,FILE, got {text!r}") from None
    try:
        return local, remote, transfer, float(error)
    except ValueError:
        pass
    if not Path(error).is_file():
        raise ArgumentTypeError(f"expected a number or a JSON file as the cost of an error, got {error!r}")
    try:
        found = json.loads(Path(error).read_text(encoding="utf-8"))
    except ValueError:
        raise ArgumentTypeError(f"{error} is not valid JSON") from None
    if not isinstance(found, (dict, list)):
        raise ArgumentTypeError(f"{error}: expected an object by class name, a list or a matrix, got {found!r}")
    return local, remote, transfer, found
