"""What was fitted to a model on calibration data: temperature and map of a classifier, or the map of a raw score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgecascade.types.confidence_map import ConfidenceMap
from edgecascade.types.document.fields import numbers, read_estimate, two, without_none
from edgecascade.types.errors import ArgumentError
from edgecascade.types.estimate import Estimate
from edgecascade.types.platt import Platt
from edgecascade.types.softmax import SMALLEST

__all__ = [
    "Calibration",
    "LabelNoise",
    "ScoreCalibration",
    "calibration_dict",
    "calibration_rows",
    "read_calibration",
    "read_score_calibration",
    "remote_dict",
    "score_calibration_dict",
    "without_default_floor",
]


@dataclass(frozen=True)
class LabelNoise:
    """The share of labels that look wrong to a model, and the temperature that allows for them.

    Attributes:
        wrong: share of wrong labels, with its 95 % interval.
        rho: share of labels that are as if drawn at random among the C classes, of which 1 in C is right by chance.
        temperature: T that allows for wrong labels.
        temperature_interval: 95 % interval of that T.
        without: T that takes every label for right.
        used: whether the calibration uses the T that allows for wrong labels.
        bound: how that T was bounded and why, where no finite T is likeliest; otherwise None.
    """

    wrong: Estimate
    rho: Estimate
    temperature: float
    temperature_interval: tuple[float, float]
    without: float
    used: bool = False
    bound: str | None = None

    @property
    def shown(self) -> bool:
        """Whether the interval of the wrong labels excludes 0."""
        return self.wrong.low > 0

    def __str__(self) -> str:
        return (
            f"about {self.wrong.percent()} of the labels look wrong to this model; "
            f"T is {self.temperature:.3g} allowing for that, {self.without:.3g} without"
        )


@dataclass(frozen=True)
class Calibration:
    """A fitted temperature, and a map of the confidence where no temperature is enough. "Before" is T = 1.

    The temperature is measured on the data that it was fitted on. With a map, "after" is the final confidence of each
    input, by a map that was fitted without that input.

    Attributes:
        method: `temperature` or `temperature + map`.
        temperature: T, which divides the logits.
        n: number of labelled inputs that it was fitted on.
        accuracy: share of right labels among them, which a temperature does not change.
        nll_before: mean negative log-likelihood, in nats.
        nll_after: the same at T.
        ece_before: expected calibration error in 15 equal-width bins, less the bias that finite data gives it.
        ece_after: the same at T.
        confidence_map: from the label's probability at T to the confidence; None if the two are the same.
        bound: how T was bounded and why, where every label was right and no finite T is likeliest; otherwise None.
        temperature_interval: 95 % interval of T; None in a file without it.
        label_noise: the wrong labels that the calibration data seem to have; None in a file without it.
    """

    method: str
    temperature: float
    n: int
    accuracy: Estimate
    nll_before: Estimate
    nll_after: Estimate
    ece_before: Estimate
    ece_after: Estimate
    confidence_map: ConfidenceMap | None = None
    bound: str | None = None
    temperature_interval: tuple[float, float] | None = None
    label_noise: LabelNoise | None = None

    def __str__(self) -> str:
        before, after, found = self.ece_before, self.ece_after, self.confidence_map
        knots = "" if found is None else f" and a map of {len(found.knots)} knots"
        ends = self.temperature_interval
        interval = "" if ends is None else f"{ends[0]:.4g} to {ends[1]:.4g}"
        about = f" ({'; '.join(filter(None, (interval, self.bound)))})" if interval or self.bound else ""
        same = ", unchanged within noise" if after.low <= before.value <= after.high else ""
        return (
            f"accuracy {self.accuracy.percent()}, T = {self.temperature:.4f}{about}{knots} on n = {self.n}, "
            f"ECE {before.value:.3f} -> {after.value:.3f} ({after.low:.3f} to {after.high:.3f}){same}"
        )


@dataclass(frozen=True)
class ScoreCalibration:
    """A fitted map from a raw score to the confidence: the expected value of an answer, in [0, 1], given the score.

    Attributes:
        confidence: the map.
        n: number of answers with a known value that it was fitted on.
        value: mean value of these answers.
        ece_after: expected calibration error of the confidence of each answer, by a map that was fitted without it.
    """

    confidence: Platt | ConfidenceMap
    n: int
    value: Estimate
    ece_after: Estimate

    @property
    def method(self) -> str:
        """What the map is: `platt` or `map`."""
        return "platt" if isinstance(self.confidence, Platt) else "map"

    def __str__(self) -> str:
        found, after = self.confidence, self.ece_after
        if isinstance(found, Platt):
            how = f"Platt with slope {found.slope:.4g} and intercept {found.intercept:.4g}"
        else:
            how = f"a map of {len(found.knots)} knots"
        return (
            f"mean value {self.value.percent()}, {how} on n = {self.n}, "
            f"ECE {after.value:.3f} ({after.low:.3f} to {after.high:.3f})"
        )


def calibration_dict(calibration: Calibration) -> dict[str, Any]:
    """Return a calibration as it is in JSON, where `knots` and `values` are those of its map, if it has one."""
    found = asdict(calibration)
    mapped = found.pop("confidence_map")
    if calibration.label_noise is not None:
        found["label_noise"] = without_none(found["label_noise"])
    return {name: value for name, value in {**found, **(mapped or {})}.items() if value is not None}


def remote_dict(
    calibration: Calibration, scores: str, floor: float, columns: Sequence[int] | None = None
) -> dict[str, Any]:
    """Return how to read the remote's scores, as it is in JSON."""
    order = {} if columns is None else {"columns": list(columns)}
    return without_default_floor({**calibration_dict(calibration), "scores": scores, "floor": floor, **order})


def calibration_rows(heading: str, calibration: Calibration) -> Iterator[tuple[str, str]]:
    """Yield the heading and the text of a line about a calibration, and of one about wrong labels if it shows any."""
    yield heading, str(calibration)
    if calibration.label_noise is not None and calibration.label_noise.shown:
        yield "", str(calibration.label_noise)


def read_calibration(found: Mapping[str, Any]) -> Calibration:
    """Read the calibration of a classifier from its JSON object."""
    measured = ("accuracy", "nll_before", "nll_after", "ece_before", "ece_after")
    mapped = found.get("knots") is not None
    return Calibration(
        method=str(found["method"]),
        temperature=float(found["temperature"]),
        n=int(found["n"]),
        **{name: read_estimate(found[name]) for name in measured},
        confidence_map=ConfidenceMap(numbers(found["knots"]), numbers(found["values"])) if mapped else None,
        bound=None if found.get("bound") is None else str(found["bound"]),
        temperature_interval=(
            None if found.get("temperature_interval") is None else two(found["temperature_interval"])
        ),
        label_noise=None if found.get("label_noise") is None else _label_noise(found["label_noise"]),
    )


def _label_noise(found: Mapping[str, Any]) -> LabelNoise:
    return LabelNoise(
        wrong=read_estimate(found["wrong"]),
        rho=read_estimate(found["rho"]),
        temperature=float(found["temperature"]),
        temperature_interval=two(found["temperature_interval"]),
        without=float(found["without"]),
        used=bool(found["used"]),
        bound=None if found.get("bound") is None else str(found["bound"]),
    )


def score_calibration_dict(calibration: ScoreCalibration) -> dict[str, Any]:
    """Return a calibration of a score as it is in JSON, with `slope` and `intercept`, or with `knots` and `values`."""
    measured = {"n": calibration.n, "value": asdict(calibration.value), "ece_after": asdict(calibration.ece_after)}
    return {"method": calibration.method, **asdict(calibration.confidence), **measured}


def read_score_calibration(found: Mapping[str, Any]) -> ScoreCalibration:
    """Read the calibration of a score from its JSON object."""
    confidence: Platt | ConfidenceMap
    if found["method"] == "platt":
        confidence = Platt(float(found["slope"]), float(found["intercept"]))
    elif found["method"] == "map":
        confidence = ConfidenceMap(numbers(found["knots"]), numbers(found["values"]))
    else:
        raise ArgumentError(f"method: expected platt or map, got {found['method']!r}")
    return ScoreCalibration(
        confidence, int(found["n"]), read_estimate(found["value"]), read_estimate(found["ece_after"])
    )


def without_default_floor(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object of JSON without the key `floor` where it has its default."""
    return {name: value for name, value in found.items() if name != "floor" or value != SMALLEST}
