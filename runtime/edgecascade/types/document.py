"""Write, read and version the document inside a cascade file.

An ONNX file carries it as JSON under the metadata key `edgecascade`, a `.tflite` file in an archive behind the
flatbuffer. Here it is one tree of frozen dataclasses; docs/file-format.md describes it for other languages.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgecascade.types.confidence_map import ConfidenceMap
from edgecascade.types.costs import ErrorCosts
from edgecascade.types.errors import ArgumentError, ModelFileError
from edgecascade.types.estimate import Estimate, GroupAccuracy, GroupedAccuracy, OperatingPoint
from edgecascade.types.policy import Policy, RemoteCalibration
from edgecascade.types.softmax import SMALLEST

__all__ = [
    "BATCH_KEY",
    "FORMAT",
    "GOLDEN_KEY",
    "KEY",
    "LABELS_KEY",
    "MOVED_KEY",
    "PREPROCESSING_KEY",
    "Calibration",
    "CascadeDocument",
    "Certificate",
    "Confusion",
    "ImagePreprocessing",
    "LabelNoise",
    "PolicyRecord",
    "Preprocessing",
    "Routing",
    "SourceRecord",
    "TextPreprocessing",
    "calibration_dict",
    "calibration_rows",
    "certificate_dict",
    "confusion_rows",
    "point_dict",
    "policy_dict",
    "preprocessing_dict",
    "read_preprocessing",
    "remote_dict",
]

FORMAT = 1
KEY = "edgecascade"
BATCH_KEY = f"{KEY}.batch"  # the first sides of the body's inputs, where the file takes one input at a time
GOLDEN_KEY = f"{KEY}.golden"  # inputs with the decisions that they must get
LABELS_KEY = f"{KEY}.labels"  # the class names of a body
MOVED_KEY = f"{KEY}.moved"  # names in the body that were changed to make room for ours, old to new
PREPROCESSING_KEY = f"{KEY}.preprocessing"  # what happens to an input before the body
_LARGEST = 1 << 24  # characters: far above any real document, far below a device's memory
_CONSIDERED_INTERVALS = ("offload_interval", "accuracy_interval")
_ALTERNATIVES = {  # of an image's form, the usual one first
    "channels": ("rgb", "bgr", "grey"),
    "layout": ("NCHW", "NHWC"),
    "dtype": ("float32", "float16", "uint8"),
}
_DAMAGE = (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError, OverflowError)


@dataclass(frozen=True)
class ImagePreprocessing:
    """From uint8 RGB [batch, height, width, 3] of any size to what the body takes.

    Attributes:
        height: rows that the body takes.
        width: columns that the body takes.
        mean: subtracted from each channel, in pixel values 0 to 255 and in the body's order of channels.
        std: divides each channel after that.
        interpolation: `linear` or `cubic`, with antialiasing, as Pillow resizes.
        shortest_edge: the shorter side is resized to it, and the centre of height x width is cropped; None resizes to
            height x width and ignores the aspect ratio.
        letterbox: the image is resized to fit into height x width with its aspect ratio, and this pixel value, 0 to
            255, fills the borders on both sides; None adds no borders.
        channels: `rgb`, `bgr`, or `grey`: one channel, the luma 0.299 R + 0.587 G + 0.114 B.
        layout: `NCHW` or `NHWC`.
        dtype: `float32`, `float16`, or `uint8`: pixel values as they are, rounded after resizing.

    Raises:
        ArgumentError: a value is invalid.
    """

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "linear"
    shortest_edge: int | None = None
    letterbox: float | None = None
    channels: str = "rgb"
    layout: str = "NCHW"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise ArgumentError(f"size: expected at least 1 x 1 pixels, got {self.height} x {self.width}")
        if self.interpolation not in ("linear", "cubic"):
            raise ArgumentError(f"interpolation: expected linear or cubic, got {self.interpolation!r}")
        if self.shortest_edge is not None and self.shortest_edge < max(self.height, self.width):
            raise ArgumentError(
                f"shortest_edge: expected at least {max(self.height, self.width)}, of which the centre is cropped, "
                f"got {self.shortest_edge}"
            )
        if not all(map(math.isfinite, self.mean)):
            raise ArgumentError(f"mean: expected finite numbers, got {self.mean}")
        if 0.0 in self.std or not all(map(math.isfinite, self.std)):
            raise ArgumentError(f"std: expected finite numbers other than 0, got {self.std}")
        if self.letterbox is not None and (self.shortest_edge is not None or not 0 <= self.letterbox <= 255):
            raise ArgumentError(
                f"letterbox: expected a pixel value from 0 to 255 and no shortest_edge, got {self.letterbox} and "
                f"{self.shortest_edge}"
            )
        for name, allowed in _ALTERNATIVES.items():
            if getattr(self, name) not in allowed:
                raise ArgumentError(f"{name}: expected {', '.join(allowed)}, got {getattr(self, name)!r}")
        if self.channels == "grey" and (len(set(self.mean)) > 1 or len(set(self.std)) > 1):
            raise ArgumentError(f"mean, std: expected equal numbers for the one channel, got {self.mean}, {self.std}")
        if self.dtype == "uint8" and (any(self.mean) or set(self.std) != {1.0}):
            raise ArgumentError(f"mean, std: expected 0 and 1 with uint8, got {self.mean} and {self.std}")


@dataclass(frozen=True)
class TextPreprocessing:
    """From a sentence to token arrays, by a tokenizer file that lies beside the model file.

    Attributes:
        tokenizer: name of that file.
        sha256: its SHA-256, in hexadecimal.
        max_length: tokens; a longer sentence is truncated.
        inputs: the model's inputs that it makes.
    """

    tokenizer: str
    sha256: str
    max_length: int
    inputs: tuple[str, ...]


Preprocessing = ImagePreprocessing | TextPreprocessing


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
            f"about {self.wrong.percent()} of the labels look wrong; T is {self.temperature:.3g} allowing for that, "
            f"{self.without:.3g} without"
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
        return (
            f"accuracy {self.accuracy.percent()}, T = {self.temperature:.4f}{about}{knots} on n = {self.n}, "
            f"ECE {before.value:.3f} -> {after.value:.3f} ({after.low:.3f} to {after.high:.3f})"
        )


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


@dataclass(frozen=True)
class SourceRecord:
    """Where the body, its logits and the calibration data came from.

    Attributes:
        model: name of the body's file.
        model_sha256: its SHA-256, in hexadecimal.
        logits: the tensor in the body that holds the logits, or what they are computed from.
        kind: contents of that tensor: `logits`, `probabilities`, `binary-logits` or `binary-probabilities`.
        data_sha256: SHA-256 of the calibration data, in hexadecimal.
        floor: the number that smaller probabilities in that tensor are raised to before the logarithm.
    """

    model: str
    model_sha256: str
    logits: str
    kind: str
    data_sha256: str
    floor: float = SMALLEST


@dataclass(frozen=True)
class CascadeDocument:
    """The document in a cascade file: its labels, calibration, policy and evidence.

    Attributes:
        written_by: program and version.
        labels: class names, in the order of the columns of `probabilities`.
        preprocessing: what happens to an input before the body, or None.
        calibration: calibration of the local model.
        remote: calibration of the remote.
        remote_scores: what the remote's scores are, `logits` or `probabilities`.
        policy: the policy and the evidence for it.
        operating_curve: every operating point that the threshold can reach, by rising offload rate.
        certificate: the guarantee, or None if none was requested.
        source: where the body and the data came from.
        groups: accuracies by class or group, or None if there are none.
        effective_n: number of equally weighted inputs that the weighted calibration inputs are worth; None where all
            counted alike.
        remote_floor: the number that smaller probabilities of the remote are raised to before the logarithm.
        remote_columns: the column of the remote's scores for each class; None if they are in the order of the labels.
    """

    written_by: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing | None
    calibration: Calibration
    remote: Calibration
    remote_scores: str
    policy: PolicyRecord
    operating_curve: tuple[OperatingPoint, ...]
    certificate: Certificate | None
    source: SourceRecord
    groups: GroupedAccuracy | None = None
    effective_n: float | None = None
    remote_floor: float = SMALLEST
    remote_columns: tuple[int, ...] | None = None

    @property
    def calibrate_remote(self) -> RemoteCalibration:
        """How to read the remote's scores."""
        remote = self.remote
        return RemoteCalibration(
            remote.temperature,
            self.remote_scores == "probabilities",
            remote.confidence_map,
            self.remote_floor,
            self.remote_columns,
        )

    def device_policy(self) -> Policy:
        """Return the policy that the device decides by."""
        planned = self.policy
        return Policy(
            merge=planned.merge,
            calibrate_remote=self.calibrate_remote,
            threshold=planned.threshold,
            temperature=self.calibration.temperature,
            edges=planned.edges,
            values=planned.values,
            costs=planned.costs,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the document as it is in JSON, in the order of its fields."""
        return {
            "format": FORMAT,
            "written_by": self.written_by,
            "labels": list(self.labels),
            "preprocessing": None if self.preprocessing is None else preprocessing_dict(self.preprocessing),
            "calibration": calibration_dict(self.calibration),
            "remote": remote_dict(self.remote, self.remote_scores, self.remote_floor, self.remote_columns),
            "policy": policy_dict(self.policy),
            "operating_curve": [point_dict(point) for point in self.operating_curve],
            "certificate": None if self.certificate is None else certificate_dict(self.certificate),
            "source": _without_default_floor(asdict(self.source)),
            **_without_none(
                {
                    "groups": None if self.groups is None else asdict(self.groups),
                    "effective_n": self.effective_n,
                }
            ),
        }

    def to_json(self, indent: int | None = None) -> str:
        """Return the document as JSON text.

        Raises:
            ValueError: a number is not finite.
        """
        return json.dumps(self.to_dict(), allow_nan=False, indent=indent)

    @classmethod
    def from_json(cls, text: str, where: str) -> CascadeDocument:
        """Read a document.

        Args:
            text: JSON.
            where: the file's name, for error messages.

        Raises:
            ModelFileError: the text is too long, damaged, or of a format that this version does not know.
        """
        if len(text) > _LARGEST:
            raise ModelFileError(f"{where}: its `{KEY}` metadata has {len(text)} characters, over the limit {_LARGEST}")
        try:
            found = json.loads(text)
            version = found["format"]
        except _DAMAGE as error:
            raise ModelFileError(f"{where}: its `{KEY}` metadata is damaged ({type(error).__name__})") from error
        if version != FORMAT or isinstance(version, bool):
            raise ModelFileError(
                f"{where}: its format version is {version}, this edgecascade knows version {FORMAT}; "
                "install a newer edgecascade, or write the file again"
            )
        try:
            document = _document(found)
            document.device_policy()
        except _DAMAGE as error:
            said = str(error) if isinstance(error, ArgumentError) else repr(error)
            raise ModelFileError(f"{where}: its `{KEY}` metadata is damaged: {said}") from error
        return document


def calibration_dict(calibration: Calibration) -> dict[str, Any]:
    """Return a calibration as it is in JSON, where `knots` and `values` are those of its map, if it has one."""
    found = asdict(calibration)
    mapped = found.pop("confidence_map")
    if calibration.label_noise is not None:
        found["label_noise"] = _without_none(found["label_noise"])
    return {name: value for name, value in {**found, **(mapped or {})}.items() if value is not None}


def remote_dict(
    calibration: Calibration, scores: str, floor: float, columns: Sequence[int] | None = None
) -> dict[str, Any]:
    """Return how to read the remote's scores, as it is in JSON."""
    order = {} if columns is None else {"columns": list(columns)}
    return _without_default_floor({**calibration_dict(calibration), "scores": scores, "floor": floor, **order})


def certificate_dict(certificate: Certificate) -> dict[str, Any]:
    """Return a certificate as it is in JSON, with `looks` and `attempt` only if several tests were planned."""
    unplanned = {} if certificate.looks > 1 else {"looks": None, "attempt": None}
    return _without_none({**asdict(certificate), **unplanned})


def policy_dict(record: PolicyRecord) -> dict[str, Any]:
    """Return a policy as it is in JSON, where its advice is called `verdict`."""
    policy = {
        **asdict(record),
        "chosen": point_dict(record.chosen),
        "considered": [_without_none(asdict(one)) for one in record.considered],
        "costs": None if record.costs is None else record.costs.values,
    }
    return {"verdict" if name == "advice" else name: value for name, value in _without_none(policy).items()}


def point_dict(point: OperatingPoint) -> dict[str, Any]:
    """Return an operating point as it is in JSON."""
    return _without_none(asdict(point))


def _without_none(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value is not None}


def calibration_rows(heading: str, calibration: Calibration) -> Iterator[tuple[str, str]]:
    """Yield the heading and the text of a line about a calibration, and of one about wrong labels if it shows any."""
    yield heading, str(calibration)
    if calibration.label_noise is not None and calibration.label_noise.shown:
        yield "", str(calibration.label_noise)


def confusion_rows(errors: Sequence[Confusion]) -> Iterator[tuple[str, str]]:
    """Yield the heading and the text of a line for each kind of error."""
    classes = {name for one in errors for name in (one.true, one.answered)}
    two = len(errors) == 2 and len(classes) == 2 and errors[0].true == errors[1].answered
    for position, one in enumerate(errors):
        heading = ("missed", "false alarm")[position] if two else "" if position else "errors"
        yield heading, str(one)


def preprocessing_dict(preprocessing: Preprocessing) -> dict[str, Any]:
    """Return a preprocessing as it is in JSON."""
    if isinstance(preprocessing, TextPreprocessing):
        return {"kind": "text", **asdict(preprocessing)}
    usual = {"letterbox": None, **{name: allowed[0] for name, allowed in _ALTERNATIVES.items()}}
    return {name: value for name, value in asdict(preprocessing).items() if name not in usual or value != usual[name]}


def read_preprocessing(text: str | None, where: str) -> Preprocessing | None:
    """Read the JSON under the metadata key `edgecascade.preprocessing`, or None if there is none.

    Raises:
        ModelFileError: it is damaged.
    """
    if text is None:
        return None
    try:
        return _preprocessing(json.loads(text))
    except _DAMAGE as error:
        raise ModelFileError(f"{where}: its `{PREPROCESSING_KEY}` metadata is damaged: {error!r}") from error


def _document(found: Mapping[str, Any]) -> CascadeDocument:
    labels, policy, scores = _strings(found["labels"]), _policy(found["policy"]), found["remote"]["scores"]
    if scores not in ("logits", "probabilities"):
        raise ArgumentError(f"remote scores: expected logits or probabilities, got {scores!r}")
    columns = found["remote"].get("columns")
    if columns is not None:
        columns = tuple(int(column) for column in columns)
        if sorted(columns) != list(range(len(labels))):
            raise ArgumentError(f"remote columns: expected each of 0 to {len(labels) - 1} once, got {columns}")
    if policy.costs is not None and policy.costs.classes != len(labels):
        raise ArgumentError(f"costs: expected those of {len(labels)} classes, got {policy.costs.classes}")
    curve = tuple(_point(one) for one in found["operating_curve"])
    groups = None if found.get("groups") is None else _groups(found["groups"])
    for one in () if groups is None else groups.groups:
        if len(one.curve) != len(curve):
            raise ArgumentError(
                f"groups: expected {len(curve)} points, as in the operating curve, got {len(one.curve)}"
            )
    return CascadeDocument(
        written_by=str(found["written_by"]),
        labels=labels,
        preprocessing=_preprocessing(found["preprocessing"]),
        calibration=_calibration(found["calibration"]),
        remote=_calibration(found["remote"]),
        remote_scores=scores,
        policy=policy,
        operating_curve=curve,
        certificate=None if found["certificate"] is None else _certificate(found["certificate"]),
        source=_source(found["source"]),
        groups=groups,
        effective_n=None if found.get("effective_n") is None else float(found["effective_n"]),
        remote_floor=float(found["remote"].get("floor", SMALLEST)),
        remote_columns=columns,
    )


def _source(found: Mapping[str, Any]) -> SourceRecord:
    return SourceRecord(
        model=str(found["model"]),
        model_sha256=str(found["model_sha256"]),
        logits=str(found["logits"]),
        kind=str(found["kind"]),
        data_sha256=str(found["data_sha256"]),
        floor=float(found.get("floor", SMALLEST)),
    )


def _without_default_floor(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != "floor" or value != SMALLEST}


def _preprocessing(found: Mapping[str, Any] | None) -> Preprocessing | None:
    if found is None:
        return None
    if found.get("kind") == "text":
        return TextPreprocessing(
            tokenizer=str(found["tokenizer"]),
            sha256=str(found["sha256"]),
            max_length=int(found["max_length"]),
            inputs=_strings(found["inputs"]),
        )
    return ImagePreprocessing(
        height=int(found["height"]),
        width=int(found["width"]),
        mean=_three(found["mean"]),
        std=_three(found["std"]),
        interpolation=str(found["interpolation"]),
        shortest_edge=None if found.get("shortest_edge") is None else int(found["shortest_edge"]),
        letterbox=None if found.get("letterbox") is None else float(found["letterbox"]),
        **{name: str(found[name]) for name in _ALTERNATIVES if name in found},
    )


def _calibration(found: Mapping[str, Any]) -> Calibration:
    measured = ("accuracy", "nll_before", "nll_after", "ece_before", "ece_after")
    mapped = found.get("knots") is not None
    return Calibration(
        method=str(found["method"]),
        temperature=float(found["temperature"]),
        n=int(found["n"]),
        **{name: _estimate(found[name]) for name in measured},
        confidence_map=ConfidenceMap(_numbers(found["knots"]), _numbers(found["values"])) if mapped else None,
        bound=None if found.get("bound") is None else str(found["bound"]),
        temperature_interval=(
            None if found.get("temperature_interval") is None else _two(found["temperature_interval"])
        ),
        label_noise=None if found.get("label_noise") is None else _label_noise(found["label_noise"]),
    )


def _label_noise(found: Mapping[str, Any]) -> LabelNoise:
    return LabelNoise(
        wrong=_estimate(found["wrong"]),
        rho=_estimate(found["rho"]),
        temperature=float(found["temperature"]),
        temperature_interval=_two(found["temperature_interval"]),
        without=float(found["without"]),
        used=bool(found["used"]),
        bound=None if found.get("bound") is None else str(found["bound"]),
    )


def _estimate(found: Mapping[str, Any]) -> Estimate:
    value = math.nan if found["value"] is None else float(found["value"])
    return Estimate(value, float(found["low"]), float(found["high"]), int(found["n"]))


def _point(found: Mapping[str, Any]) -> OperatingPoint:
    return OperatingPoint(
        threshold=float(found["threshold"]),
        offload_rate=float(found["offload_rate"]),
        accuracy=float(found["accuracy"]),
        offload_interval=_two(found["offload_interval"]),
        accuracy_interval=_two(found["accuracy_interval"]),
        accuracy_band=_two(found["accuracy_band"]),
        n=int(found["n"]),
        loss=None if found.get("loss") is None else _estimate(found["loss"]),
        cost=None if found.get("cost") is None else _estimate(found["cost"]),
        cost_band=None if found.get("cost_band") is None else _two(found["cost_band"]),
    )


def _confusion(found: Mapping[str, Any]) -> Confusion:
    rates = (_estimate(found[name]) for name in ("local", "cascade", "remote"))
    return Confusion(str(found["true"]), str(found["answered"]), float(found["cost"]), *rates)


def _groups(found: Mapping[str, Any]) -> GroupedAccuracy:
    return GroupedAccuracy(
        by=str(found["by"]),
        groups=tuple(
            GroupAccuracy(
                name=str(one["name"]),
                n=int(one["n"]),
                local=_estimate(one["local"]),
                remote=_estimate(one["remote"]),
                cascade=_estimate(one["cascade"]),
                curve=tuple(_three(point) for point in one["curve"]),
            )
            for one in found["groups"]
        ),
    )


def _certificate(found: Mapping[str, Any]) -> Certificate:
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


def _policy(found: Mapping[str, Any]) -> PolicyRecord:
    considered = found["considered"]
    record = PolicyRecord(
        score=str(found["score"]),
        merge=found["merge"],
        estimate=str(found["estimate"]),
        objective=str(found["objective"]),
        threshold=float(found["threshold"]),
        chosen=_point(found["chosen"]),
        advice=_strings(found["verdict"]),
        bins=int(found["bins"]),
        edges=None if found.get("edges") is None else _numbers(found["edges"]),
        values=None if found.get("values") is None else _numbers(found["values"]),
        counts=tuple(int(count) for count in found["counts"]),
        intervals=tuple(_two(one) for one in found["intervals"]),
        considered=tuple(
            Routing(
                str(one["score"]),
                str(one["merge"]),
                float(one["offload_rate"]),
                float(one["accuracy"]),
                float(one["merit"]),
                None if one.get("estimate") is None else str(one["estimate"]),
                *(None if one.get(name) is None else _two(one[name]) for name in _CONSIDERED_INTERVALS),
            )
            for one in considered
        ),
        chance=None if found.get("chance") is None else float(found["chance"]),
        learned=None if found.get("learned") is None else _numbers(found["learned"]),
        costs=None if found.get("costs") is None else ErrorCosts(found["costs"]),
        errors=None if found.get("errors") is None else tuple(_confusion(one) for one in found["errors"]),
    )
    if record.values is not None and len(record.values) != len(record.counts):
        raise ArgumentError(f"counts: expected {len(record.values)}, one per bin, got {len(record.counts)}")
    return record


def _strings(found: Sequence[Any]) -> tuple[str, ...]:
    if isinstance(found, (str, Mapping)):
        raise TypeError(f"expected a list, got {type(found).__name__}")
    return tuple(str(one) for one in found)


def _numbers(found: Sequence[Any]) -> tuple[float, ...]:
    return tuple(float(one) for one in found)


def _two(found: Sequence[Any]) -> tuple[float, float]:
    low, high = _numbers(found)
    return low, high


def _three(found: Sequence[Any]) -> tuple[float, float, float]:
    first, second, third = _numbers(found)
    return first, second, third
