"""The time of an answer on the device: the head inside the graph, `predict`, and a stream of which a share waits.

Everything is timed against the same model without it, in turn, in one process; the temperature fit is timed against
scikit-learn's.
"""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgecascade.benchmarks.ratio import Ratio, medians, ratio
from edgecascade.calibration import MostAccuracy, fit_temperature
from edgecascade.export import LabelledData, calibrate, local_scores, save_model, unfold
from edgecascade.export.fold import CLASSIFIER
from edgecascade.export.graph import load_model
from edgecascade.runtime import Cascade, Deadline
from edgecascade.runtime.batch import Batch, size
from edgecascade.runtime.engine import open_session

__all__ = [
    "Distant",
    "FitSpeed",
    "HeadCost",
    "cascade_of",
    "compare_fits",
    "measure_head_cost",
    "measure_hot_path",
    "measure_stream",
    "tiny_cascade",
    "two_layers",
]

_GOAL = 1.02  # of the head
_ALL_LOCAL = -2.0  # below every advantage


@dataclass(frozen=True)
class HeadCost:
    """A folded model against its body, one thread, one input per run.

    Attributes:
        bound: Through buffers bound to both sessions, as the runtime does it.
        run: Through `session.run`, which also makes new arrays of five outputs instead of one.
    """

    bound: Ratio
    run: Ratio

    def __str__(self) -> str:
        """Return two lines of text."""
        return f"{self.bound}\n{self.run}"


def measure_head_cost(
    path: str | os.PathLike[str], inputs: NDArray[Any], *, rounds: int = 200, builds: int = 45
) -> HeadCost:
    """Time a cascade model and the body inside it on the same inputs, one by one.

    Args:
        path: A cascade model with one input.
        inputs: [n, ...], taken in turn.
        rounds: Runs of each for every pair of sessions.
        builds: Pairs of sessions.
    """
    model = load_model(path)
    files = {"folded": model.SerializeToString(), "bare": unfold(model).SerializeToString()}
    outputs = {"folded": list(CLASSIFIER.outputs), "bare": [_body_output(model)]}
    batches = [one[None] for one in inputs]

    def running() -> dict[str, Callable[[int], object]]:
        return {name: _running(open_session(files[name]), outputs[name], batches) for name in files}

    def bound() -> dict[str, Callable[[int], object]]:
        return {name: _bound(open_session(files[name]), outputs[name], batches) for name in files}

    through, ordinary = (medians(build, builds=builds, rounds=rounds) for build in (bound, running))
    return HeadCost(
        bound=ratio("folded head, bound buffers", through["folded"], through["bare"], goal=_GOAL),
        run=ratio("folded head, session.run", ordinary["folded"], ordinary["bare"]),
    )


def _body_output(model: ModelProto) -> str:
    """Return the name of the body's own output in a cascade model."""
    return str(next(output.name for output in model.graph.output if output.name not in CLASSIFIER.outputs))


def _running(session: Any, outputs: Sequence[str], batches: Sequence[NDArray[Any]]) -> Callable[[int], object]:
    name = session.get_inputs()[0].name
    return lambda turn: session.run(outputs, {name: batches[turn % len(batches)]})


def _bound(session: Any, outputs: Sequence[str], batches: Sequence[NDArray[Any]]) -> Callable[[int], object]:
    """Return a function that runs with every output in a buffer made once."""
    name, binding = session.get_inputs()[0].name, session.io_binding()
    first = session.run(outputs, {name: batches[0]})
    buffers = [ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array)) for array in first]
    for output, value in zip(outputs, buffers, strict=True):
        binding.bind_ortvalue_output(output, value)

    def run(turn: int) -> object:
        binding.bind_cpu_input(name, batches[turn % len(batches)])
        session.run_with_iobinding(binding)
        return buffers

    return run


def measure_hot_path(
    name: str,
    path: str | os.PathLike[str],
    inputs: Sequence[NDArray[Any]],
    *,
    goal: float,
    rounds: int,
    builds: int = 15,
) -> list[Ratio]:
    """Time `Cascade.predict`, `session.run` of the body inside, and the usual lines of numpy after it, in turn.

    Args:
        name: The name of the model in the table.
        path: A cascade model with one input whose body gives logits.
        inputs: Inputs without the batch axis, taken in turn.
        goal: The goal for `predict` against the bare run.
        rounds: Calls of each for every pair of sessions.
        builds: Pairs of sessions.
    """
    model = load_model(path)
    body, output = unfold(model).SerializeToString(), _body_output(model)

    def predicting() -> dict[str, Callable[[int], object]]:
        cascade = Cascade.load(path, threshold=_ALL_LOCAL)
        return {"ours": lambda turn: cascade.predict(inputs[turn % len(inputs)]), "bare": _bare(body, output, inputs)}

    def by_hand() -> dict[str, Callable[[int], object]]:
        run = _bare(body, output, inputs)
        return {"by hand": lambda turn: _decision(run(turn)[0][0]), "bare": _bare(body, output, inputs)}

    ours, theirs = medians(predicting, builds=builds, rounds=rounds), medians(by_hand, builds=builds, rounds=rounds)
    return [
        ratio(f"predict against a bare run, {name}", ours["ours"], ours["bare"], goal=goal),
        ratio(f"numpy by hand against a bare run, {name}", theirs["by hand"], theirs["bare"]),
    ]


def _bare(body: bytes, output: str, inputs: Sequence[NDArray[Any]]) -> Callable[[int], list[NDArray[Any]]]:
    session = open_session(body)
    name = session.get_inputs()[0].name

    def run(turn: int) -> list[NDArray[Any]]:
        got: list[NDArray[Any]] = session.run([output], {name: inputs[turn % len(inputs)][None]})
        return got

    return run


def _decision(logits: NDArray[Any]) -> tuple[int, float, bool]:
    """Decide by the usual code: softmax with a temperature, and a threshold."""
    scaled = logits / np.float32(1.5)
    raised = np.exp(scaled - scaled.max())
    probabilities = raised / raised.sum()
    label = int(probabilities.argmax())
    confidence = float(probabilities[label])
    return label, confidence, confidence < 0.8


def tiny_cascade(folder: Path, hidden: int = 128) -> tuple[Path, list[NDArray[np.float32]]]:
    """Write a cascade of two layers on 784 numbers with random weights, which takes tens of microseconds."""
    rng = np.random.default_rng(0)
    body, path = folder / "body.onnx", folder / "tiny.onnx"
    save_model(two_layers(rng, hidden), body)
    inputs = rng.normal(size=(600, 784)).astype(np.float32)
    cascade_of(body, path, inputs, rng)
    return path, list(inputs[:64])


def cascade_of(body: Path, path: Path, inputs: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Write the cascade file of a network with ten logits and an invented remote; a fifth of the inputs are forwarded.

    Args:
        body: The network.
        path: The cascade file.
        inputs: What to calibrate on, [n, ...].
        rng: Draws labels and the remote's scores.
    """
    logits = local_scores(body, inputs)
    remote = logits + rng.normal(size=logits.shape)
    labels = (remote + rng.gumbel(size=logits.shape)).argmax(axis=1)
    data = LabelledData(inputs, labels, tuple(map(str, range(10))), "0" * 64)
    calibrate(body, path, data, logits, remote, objective=MostAccuracy(0.2), scores=["confidence"], merges=["replace"])


def two_layers(rng: np.random.Generator, hidden: int) -> ModelProto:
    """Return two layers with random weights, from 784 numbers `x` to ten `logits`."""
    shapes = {"w1": (784, hidden), "b1": (hidden,), "w2": (hidden, 10), "b2": (10,)}
    weights = [
        numpy_helper.from_array((rng.normal(size=shape) / 28).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("Gemm", ["r", "w2", "b2"], ["logits"]),
        ],
        "two layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 784])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


class Distant:
    """A remote that takes a round trip and nothing else of this machine: it sleeps.

    Args:
        seconds: The round trip.
        classes: The number of scores.
    """

    def __init__(self, seconds: float, classes: int) -> None:
        self._seconds, self._classes = seconds, classes

    def infer(self, inputs: Batch, deadline: Deadline) -> NDArray[Any]:  # noqa: ARG002
        """Return the same scores for every input."""
        time.sleep(self._seconds)
        return np.eye(1, self._classes, dtype=np.float32).repeat(size(inputs), axis=0)

    def close(self) -> None:
        """Do nothing."""


def measure_stream(
    path: str | os.PathLike[str],
    inputs: Sequence[NDArray[Any]],
    *,
    share: float = 0.3,
    seconds: float = 0.05,
    goal: float = 0.95,
    rounds: int = 31,
    length: int = 5000,
) -> Ratio:
    """Measure answers per second of `Cascade.stream` with a share forwarded, against the same stream all local.

    The threshold is set so that the share of these inputs is forwarded.

    Args:
        path: A cascade model with one input.
        inputs: Inputs without the batch axis, taken in turn.
        share: The share of inputs to forward.
        seconds: The round trip to the remote.
        goal: The goal for the ratio.
        rounds: Rounds of each, in turn.
        length: Answers in one round; the last ones wait for the remote with nothing else to do.
    """
    with Cascade.load(path) as probe:
        advantages = np.sort([answer.advantage for answer in probe.stream(inputs)])
        classes = len(probe.document.labels)
    threshold = float(np.nextafter(advantages[int(share * len(inputs))], -np.inf, dtype=np.float32))
    speeds: dict[str, list[float]] = {"local": [], "asking": []}
    with (
        Cascade.load(path, threshold=_ALL_LOCAL) as local,
        Cascade.load(path, remote=Distant(seconds, classes), deadline=10.0, threshold=threshold) as asking,
    ):
        for turn in range(rounds + 1):
            for name, cascade in (("local", local), ("asking", asking))[:: 1 if turn % 2 else -1]:
                started = time.perf_counter()
                answered = sum(1 for _ in cascade.stream(islice(cycle(inputs), length)))
                speeds[name].append(answered / (time.perf_counter() - started))
        counts = asking.counts()
    forwarded = counts.forwarded / counts.inputs
    return ratio(
        f"stream with {forwarded:.0%} forwarded, {seconds * 1e3:g} ms away, against local only",
        np.array(speeds["asking"][1:]),
        np.array(speeds["local"][1:]),
        goal=goal,
        better="higher",
        unit="answers/s",
        scale=1.0,
    )


@dataclass(frozen=True)
class FitSpeed:
    """Both fits on logits [n, classes] in float32.

    Attributes:
        n: Rows.
        classes: Columns.
        seconds: The seconds of each of our runs.
        theirs: The seconds of each of scikit-learn's runs, in turn with ours.
        memory: Our peak memory beyond the logits, as a share of theirs.
        difference: The relative difference of the two temperatures.
    """

    n: int
    classes: int
    seconds: tuple[float, ...]
    theirs: tuple[float, ...]
    memory: float
    difference: float

    @property
    def ratio(self) -> float:
        """The median of our time over scikit-learn's, pair by pair."""
        return float(np.median(np.array(self.seconds) / np.array(self.theirs)))

    def __str__(self) -> str:
        """Return one line of text."""
        ours, theirs = (f"{min(all_of_it):.2f} to {max(all_of_it):.2f} s" for all_of_it in (self.seconds, self.theirs))
        return (
            f"temperature on {self.n} x {self.classes} float32: {self.ratio:.3f} of scikit-learn's time (goal .1; "
            f"{ours} against {theirs}, {len(self.seconds)} runs in turn), {self.memory:.1%} of the logits' memory "
            f"on top (goal 5 %), T differs by {self.difference:.0e}"
        )


def compare_fits(n: int = 50_000, classes: int = 1_000, repeats: int = 5, seed: int = 0) -> FitSpeed:
    """Fit logits that are 1.7 times too sharp for labels drawn from them."""
    from sklearn.calibration import _TemperatureScaling

    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, classes)).astype(np.float32)
    labels = (logits + rng.gumbel(size=logits.shape).astype(np.float32)).argmax(axis=1)
    logits *= np.float32(1.7)
    ours, theirs, scaling = [], [], _TemperatureScaling()
    for _ in range(repeats):
        ours.append(_seconds(lambda: fit_temperature(logits, labels)))
        theirs.append(_seconds(lambda: scaling.fit(logits, labels)))
    tracemalloc.start()
    temperature = fit_temperature(logits, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return FitSpeed(
        n, classes, tuple(ours), tuple(theirs), peak / logits.nbytes, abs(temperature * float(scaling.beta_) - 1)
    )


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
