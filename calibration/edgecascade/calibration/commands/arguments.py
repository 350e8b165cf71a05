"""What every command that plans is asked: what to achieve, and what to choose among."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import Any

from edgecascade.calibration.cascade_plan import Promise
from edgecascade.calibration.objective import LeastCost, LeastOffload, MostAccuracy, Objective, WhileItHelps
from edgecascade.calibration.plan import ESTIMATES
from edgecascade.calibration.scores import SCORES
from edgecascade.types.merge import MERGES

__all__ = ["add_plan_arguments", "objective_if_any", "objective_of", "plan_options", "share"]


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.0 <= number <= 1.0:
        raise ArgumentTypeError(f"expected a share from 0 to 1, such as 0.2, got {text!r}")
    return number


def add_plan_arguments(parser: ArgumentParser, *, required: bool = True) -> None:
    """One objective, and what the plan may choose among."""
    objective = parser.add_argument_group("what to achieve, one of").add_mutually_exclusive_group(required=required)
    objective.add_argument(
        "--offload-rate", type=share, metavar="R", help="most accuracy, forwarding at most this share of inputs"
    )
    objective.add_argument("--accuracy", type=share, metavar="A", help="least offload at this accuracy")
    objective.add_argument(
        "--max-loss", type=share, metavar="E", help="least offload at this loss against asking the remote always"
    )
    objective.add_argument(
        "--certify",
        type=share,
        metavar="E",
        help="the same as a promise that holds with probability 1 - RISK; two thirds of the data are kept to test it",
    )
    objective.add_argument(
        "--cost",
        type=_costs,
        metavar="L,R,B,X",
        help="least cost: of a local inference, a remote one, the bytes of one forward, and a wrong answer",
    )
    objective.add_argument(
        "--while-it-helps", action="store_true", help="forward wherever the remote is expected to do better"
    )
    parser.add_argument(
        "--risk", type=share, default=0.05, help="of --certify, that the promise is false (default .05)"
    )
    parser.add_argument(
        "--score", choices=("auto", *SCORES), default="auto", help="what orders inputs (default auto: cross-fitted)"
    )
    parser.add_argument(
        "--merge",
        choices=("auto", *MERGES),
        default="auto",
        help="what the answer is once the remote has replied (default auto: cross-fitted)",
    )
    parser.add_argument(
        "--estimate",
        choices=ESTIMATES,
        default="shrunk",
        help="of the advantage: from calibrated confidences alone (the paper's rule), from labels, or from labels "
        "in small bins that borrow from their neighbours (default shrunk)",
    )
    parser.add_argument("--bins", type=int, help="of the advantage table (default 15; for shrunk up to 50)")


def objective_of(arguments: Namespace) -> Objective | Promise:
    """The objective that was asked for, where one is required."""
    objective = objective_if_any(arguments)
    assert objective is not None
    return objective


def objective_if_any(arguments: Namespace) -> Objective | Promise | None:
    """The objective that was asked for, or None."""
    if arguments.offload_rate is not None:
        return MostAccuracy(arguments.offload_rate)
    if arguments.accuracy is not None:
        return LeastOffload(accuracy=arguments.accuracy)
    if arguments.max_loss is not None:
        return LeastOffload(loss=arguments.max_loss)
    if arguments.certify is not None:
        return Promise(arguments.certify, arguments.risk)
    if arguments.cost is not None:
        return LeastCost(*arguments.cost)
    return WhileItHelps() if arguments.while_it_helps else None


def plan_options(arguments: Namespace) -> dict[str, Any]:
    """The other arguments, as `plan_cascade` takes them."""
    return {
        "scores": SCORES if arguments.score == "auto" else (arguments.score,),
        "merges": MERGES if arguments.merge == "auto" else (arguments.merge,),
        "estimate": arguments.estimate,
        "bins": arguments.bins,
    }


def _costs(text: str) -> tuple[float, float, float, float]:
    try:
        local, remote, transfer, error = (float(part) for part in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"expected four costs such as 0,1,0.2,20, got {text!r}") from None
    return local, remote, transfer, error
