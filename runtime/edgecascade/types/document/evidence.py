"""The policy that was planned, and the evidence for it: candidates, errors, operating points, certificate, groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgecascade.types.costs import ErrorCosts
from edgecascade.types.document.fields import numbers, read_estimate, strings, three, two, without_none
from edgecascade.types.errors import ArgumentError
from edgecascade.types.estimate import Estimate, GroupAccuracy, GroupedAccuracy, OperatingPoint

__all__ = [
    "Certificate",
    "Confusion",
    "PolicyRecord",
    "Routing",
    "certificate_dict",
    "confusion_rows",
    "point_dict",
    "policy_dict",
    "read_certificate",
    "read_curve",
    "read_policy",
]

_CONSIDERED_INTERVALS = ("offload_interval", "accuracy_interval")


@dataclass(frozen=True)
class Certificate:
    """A guarantee: the loss against asking the remote always is at most `loss`, with probability 1 - `risk`.

    Attributes:
        loss: e, the largest loss of accuracy against asking the remote always.
        risk: d, the probability, over the draw of the data, that the loss is larger.
        threshold: inputs whose advantage is below it are forwarded.
        offload_rate: share of these inputs that it forwards.
        n: number of labelled inputs that it was tested on; nothing was chosen by their labels.
        p_value: of the threshold's test, at most d / `looks`.
        group_loss: the largest loss within each class or group, certified with the same d; None if none was requested.
        looks: number of tests on growing data that were planned before the first; d is for all of them together.
        attempt: which of them this is, from 1.
    """

    loss: float
    risk: float
    threshold: float
    offload_rate: float
    n: int
    p_value: float
    group_loss: float | None = None
    looks: int = 1
    attempt: int = 1

    def __str__(self) -> str:
        test = f"; test {self.attempt} of {self.looks} planned" if self.looks > 1 else ""
        groups = "" if self.group_loss is None else f", and at most {self.group_loss:.1%} within each group,"
        return (
            f"loss against asking the remote always at most {self.loss:.1%}{groups} with probability "
            f"{1 - self.risk:.4g} (n = {self.n}{test}), forwarding {self.offload_rate:.1%}"
        )


@dataclass(frozen=True)
class Routing:
    """One score with one merge rule and one estimate, judged on inputs that it was not planned on.

    Attributes:
        score: `confidence`, `margin`, `entropy` or `learned`.
        merge: `replace`, `confident` or `average`.
        offload_rate: cross-fitted offload rate, in [0, 1].
        accuracy: cross-fitted accuracy, in [0, 1].
        merit: the accuracy, less the cost of the forwards in units of a wrong answer.
        estimate: of the advantage, as in `PolicyRecord`; None in a file without it, as are the intervals.
        offload_interval: 95 % interval of the offload rate.
        accuracy_interval: 95 % interval of the accuracy.
    """

    score: str
    merge: str
    offload_rate: float
    accuracy: float
    merit: float
    estimate: str | None = None
    offload_interval: tuple[float, float] | None = None
    accuracy_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Confusion:
    """How often inputs of one class get the label of another. Rates are among the inputs of the true class.

    Attributes:
        true: name of the true class.
        answered: name of the class that was answered.
        cost: of one such error.
        local: rate if all inputs are answered locally.
        cascade: rate under the policy, on inputs that it was not fitted on.
        remote: rate if the remote answers all inputs.
    """

    true: str
    answered: str
    cost: float
    local: Estimate
    cascade: Estimate
    remote: Estimate

    def __str__(self) -> str:
        rates = ", ".join(f"{name} {getattr(self, name).percent()}" for name in ("local", "cascade", "remote"))
        return f"{self.true} answered {self.answered} (cost {self.cost:g}): {rates} of {self.local.n} inputs"


@dataclass(frozen=True)
class PolicyRecord:
    """The policy that was planned, and the evidence for it.

    Attributes:
        score: the score that the advantage table is indexed by: `confidence`, `margin`, `entropy` or `learned`.
        merge: `replace`, `confident` or `average`.
        estimate: how the advantage was estimated: `monotone`, `shrunk`, `labels` or `confidences`.
        objective: the aim of the plan, in words.
        threshold: inputs whose advantage is below it are forwarded.
        chosen: the operating point of `threshold` on the calibration data.
        advice: sentences about whether this pair is worth a cascade.
        bins: number of bins of the advantage table.
        edges: scores at which the table steps, ascending; None in a file that has them in the graph only.
        values: advantages between them; likewise.
        counts: calibration inputs in each bin.
        intervals: 95 % interval of local minus merged accuracy in each bin.
        considered: every score, merge rule and estimate considered, the chosen one first.
        chance: the probability that an aim of the objective is met; None without one.
        learned: with the score `learned`, the weight of the largest probability, then of each; else None.
        costs: of the errors, by which labels are chosen; None if all cost the same.
        errors: the costliest kinds of error, where errors cost differently; else None.
    """

    score: str
    merge: str
    estimate: str
    objective: str
    threshold: float
    chosen: OperatingPoint
    advice: tuple[str, ...]
    bins: int
    edges: tuple[float, ...] | None
    values: tuple[float, ...] | None
    counts: tuple[int, ...]
    intervals: tuple[tuple[float, float], ...]
    considered: tuple[Routing, ...]
    chance: float | None = None
    learned: tuple[float, ...] | None = None
    costs: ErrorCosts | None = None
    errors: tuple[Confusion, ...] | None = None


def certificate_dict(certificate: Certificate) -> dict[str, Any]:
    """Return a certificate as it is in JSON, with `looks` and `attempt` only if several tests were planned."""
    unplanned = {} if certificate.looks > 1 else {"looks": None, "attempt": None}
    return without_none({**asdict(certificate), **unplanned})


def policy_dict(record: PolicyRecord) -> dict[str, Any]:
    """Return a policy as it is in JSON, where its advice is called `verdict`."""
    policy = {
        **asdict(record),
        "chosen": point_dict(record.chosen),
        "considered": [without_none(asdict(one)) for one in record.considered],
        "costs": None if record.costs is None else record.costs.values,
    }
    return {"verdict" if name == "advice" else name: value for name, value in without_none(policy).items()}


def point_dict(point: OperatingPoint) -> dict[str, Any]:
    """Return an operating point as it is in JSON."""
    return without_none(asdict(point))


def confusion_rows(errors: Sequence[Confusion]) -> Iterator[tuple[str, str]]:
    """Yield the heading and the text of a line for each kind of error."""
    classes = {name for one in errors for name in (one.true, one.answered)}
    two = len(errors) == 2 and len(classes) == 2 and errors[0].true == errors[1].answered
    for position, one in enumerate(errors):
        heading = ("missed", "false alarm")[position] if two else "" if position else "errors"
        yield heading, str(one)


def read_curve(found: Mapping[str, Any]) -> tuple[tuple[OperatingPoint, ...], GroupedAccuracy | None]:
    """Read the operating curve of a document from its JSON object, and the groups that have its points."""
    curve = tuple(_point(one) for one in found["operating_curve"])
    groups = None if found.get("groups") is None else _groups(found["groups"])
    for one in () if groups is None else groups.groups:
        if len(one.curve) != len(curve):
            raise ArgumentError(
                f"groups: expected {len(curve)} points, as in the operating curve, got {len(one.curve)}"
            )
    return curve, groups


def _point(found: Mapping[str, Any]) -> OperatingPoint:
    return OperatingPoint(
        threshold=float(found["threshold"]),
        offload_rate=float(found["offload_rate"]),
        accuracy=float(found["accuracy"]),
        offload_interval=two(found["offload_interval"]),
        accuracy_interval=two(found["accuracy_interval"]),
        accuracy_band=two(found["accuracy_band"]),
        n=int(found["n"]),
        loss=None if found.get("loss") is None else read_estimate(found["loss"]),
        cost=None if found.get("cost") is None else read_estimate(found["cost"]),
        cost_band=None if found.get("cost_band") is None else two(found["cost_band"]),
    )


def _confusion(found: Mapping[str, Any]) -> Confusion:
    rates = (read_estimate(found[name]) for name in ("local", "cascade", "remote"))
    return Confusion(str(found["true"]), str(found["answered"]), float(found["cost"]), *rates)


def _groups(found: Mapping[str, Any]) -> GroupedAccuracy:
    return GroupedAccuracy(
        by=str(found["by"]),
        groups=tuple(
            GroupAccuracy(
                name=str(one["name"]),
                n=int(one["n"]),
                local=read_estimate(one["local"]),
                remote=read_estimate(one["remote"]),
                cascade=read_estimate(one["cascade"]),
                curve=tuple(three(point) for point in one["curve"]),
            )
            for one in found["groups"]
        ),
    )


def read_certificate(found: Mapping[str, Any]) -> Certificate:
    """Read a certificate from its JSON object."""
    return Certificate(
        loss=float(found["loss"]),
        risk=float(found["risk"]),
        threshold=float(found["threshold"]),
        offload_rate=float(found["offload_rate"]),
        n=int(found["n"]),
        p_value=float(found["p_value"]),
        group_loss=None if found.get("group_loss") is None else float(found["group_loss"]),
        looks=int(found.get("looks", 1)),
        attempt=int(found.get("attempt", 1)),
    )


def read_policy(found: Mapping[str, Any]) -> PolicyRecord:
    """Read a policy from its JSON object."""
    considered = found["considered"]
    record = PolicyRecord(
        score=str(found["score"]),
        merge=found["merge"],
        estimate=str(found["estimate"]),
        objective=str(found["objective"]),
        threshold=float(found["threshold"]),
        chosen=_point(found["chosen"]),
        advice=strings(found["verdict"]),
        bins=int(found["bins"]),
        edges=None if found.get("edges") is None else numbers(found["edges"]),
        values=None if found.get("values") is None else numbers(found["values"]),
        counts=tuple(int(count) for count in found["counts"]),
        intervals=tuple(two(one) for one in found["intervals"]),
        considered=tuple(
            Routing(
                str(one["score"]),
                str(one["merge"]),
                float(one["offload_rate"]),
                float(one["accuracy"]),
                float(one["merit"]),
                None if one.get("estimate") is None else str(one["estimate"]),
                *(None if one.get(name) is None else two(one[name]) for name in _CONSIDERED_INTERVALS),
            )
            for one in considered
        ),
        chance=None if found.get("chance") is None else float(found["chance"]),
        learned=None if found.get("learned") is None else numbers(found["learned"]),
        costs=None if found.get("costs") is None else ErrorCosts(found["costs"]),
        errors=None if found.get("errors") is None else tuple(_confusion(one) for one in found["errors"]),
    )
    if record.values is not None and len(record.values) != len(record.counts):
        raise ArgumentError(f"counts: expected {len(record.values)}, one per bin, got {len(record.counts)}")
    return record
