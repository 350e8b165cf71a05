"""Proof, before anything is written, that a body gives what its source gave and a cascade model decides as planned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper

from edgecascade.calibration import DecisionRule, are_probabilities, decide, routing_score, softmax
from edgecascade.export.graph import own_inputs, runnable
from edgecascade.export.logits import logits_of
from edgecascade.runtime.batch import Batch, rows, size
from edgecascade.runtime.engine import sessions
from edgecascade.runtime.golden import Expected, ExpectedTask, Golden, compare
from edgecascade.runtime.saturation import saturates_here
from edgecascade.types.errors import ExportError, ModelFileError, ParityError

__all__ = ["Parity", "check_parity", "check_source", "choose_golden", "expected_decisions", "shuffled"]

_MOST_GOLDEN = 8
_GOLDEN_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class Parity:
    """What was compared with the reference arithmetic.

    Attributes:
        providers: execution providers that agree with it.
        n: number of inputs compared on each.
        largest: the largest difference of a confidence.
        tolerance: the largest difference allowed.
        unusable: execution providers that this onnxruntime has, but that cannot run the model on this machine.
    """

    providers: tuple[str, ...]
    n: int
    largest: float
    tolerance: float
    unusable: tuple[str, ...] = ()


def check_parity(
    model: ModelProto,
    inputs: Batch | Sequence[Batch],
    logits: NDArray[np.floating],
    rule: DecisionRule,
    tolerance: float = 1e-5,
) -> Parity:
    """Run a cascade model on every execution provider here, and compare with `decide` on the body's logits.

    Labels must be equal, confidences within the tolerance, and `forward` and advantage equal wherever the score is
    further than the tolerance (of 1, or of the score if that is larger) from an edge of the advantage table. With
    costs, label and confidence are compared where the expected costs of the two best answers differ by more than the
    tolerance, as a share of the costliest error.

    Args:
        model: the cascade model, as it would be written.
        inputs: inputs [n, ...] of the model, by name if it takes several; or several such batches, where inputs differ
            in shape.
        logits: floating [n, classes], from the body alone on these inputs.
        rule: the rule that was folded into the model.
        tolerance: on confidences.

    Raises:
        ParityError: a decision differs; the message shows the first one.
    """
    expected = expected_decisions(logits, rule)
    parts = [inputs] if isinstance(inputs, (Mapping, np.ndarray)) else inputs
    name = own_inputs(model)[0]
    feeds = [part if isinstance(part, Mapping) else {name: part} for part in parts]
    largest = 0.0
    providers, unusable = [], []
    with runnable(model) as source:
        for provider, session in sessions(source):
            if isinstance(session, ModelFileError):
                unusable.append(provider)
                continue
            providers.append(provider)
            difference, sentence = compare(session, feeds, expected, tolerance)
            if sentence is not None:
                raise ParityError(f"parity failed on {provider}: {sentence}; nothing was written{_int8_advice(model)}")
            largest = max(largest, difference)
    return Parity(tuple(providers), len(logits), largest, tolerance, tuple(unusable))


def _int8_advice(model: ModelProto) -> str:
    """Return what helps where the int8 kernels of this CPU clip sums, or nothing elsewhere."""
    quantized = any("Integer" in node.op_type or "Quantize" in node.op_type for node in model.graph.node)
    if not (quantized and saturates_here()):
        return ""
    return (
        "; this CPU has no VNNI, and its int8 kernels clip sums: quantize with reduce_range=True, or by "
        "`edgecascade export --int8`"
    )


def expected_decisions(logits: NDArray[np.floating], rule: DecisionRule) -> Expected:
    """Return the decisions of the reference arithmetic on logits [n, classes]."""
    wanted = decide(logits, rule)
    score = routing_score(rule.score, logits, rule.temperature, rule.costs, rule.learned)
    edges = np.append(rule.table.edges, np.float32(np.inf))
    with np.errstate(invalid="ignore"):
        distance = np.abs(score[:, None] - edges).min(axis=1) / np.maximum(1.0, np.abs(score))
    from_next = None
    if rule.costs is not None:
        least = np.partition(rule.costs.expected(wanted.probabilities), 1, axis=1)
        from_next = least[:, 1] - least[:, 0]
    return Expected(
        wanted.label, wanted.confidence, wanted.advantage, wanted.forward, distance.astype(np.float32), from_next
    )


def shuffled(batch: Batch, rng: np.random.Generator) -> Batch:
    """Return inputs made of the same numbers in random order: valid, but unlike any real input."""
    if isinstance(batch, Mapping):
        return {name: rng.permuted(array) for name, array in batch.items()}
    return rng.permuted(batch)


def choose_golden(inputs: Batch, body: ModelProto, expected: Expected | ExpectedTask) -> Golden | None:
    """Choose the inputs that travel in the file: up to eight, spread over the confidences; fewer if they are large.

    Args:
        inputs: [n, ...], all of one shape; by name if the model takes several.
        body: the model that takes them; the golden inputs have the types that it declares.
        expected: the decisions about them.

    Returns:
        The inputs and their decisions, or None if a single input is larger than a megabyte.
    """
    declared = {one.name: one.type.tensor_type.elem_type for one in body.graph.input}
    by_name = inputs if isinstance(inputs, Mapping) else {own_inputs(body)[0]: inputs}
    by_name = {
        name: array.astype(np.str_ if array.dtype.kind in "UO" else helper.tensor_dtype_to_np_dtype(declared[name]))
        for name, array in by_name.items()
    }
    order = np.argsort(expected.confidence, kind="stable")
    for many in (_MOST_GOLDEN, 4, 2, 1):
        chosen = order[np.unique(np.linspace(0, size(by_name) - 1, many).astype(int))]
        golden = Golden(
            rows(by_name, chosen),
            type(expected)(**{name: column[chosen] for name, column in expected.columns().items()}),
        )
        if len(golden.text()) <= _GOLDEN_CHARACTERS:
            return golden
    return None


def check_source(scores: NDArray[np.floating], kind: str, expected: NDArray[np.floating], tolerance: float) -> float:
    """Compare a body's scores with those of the model that it was converted from, on the same inputs.

    Converters can err silently and with plausible numbers. Probabilities are compared as such, if the source gives
    them; otherwise logits less their row's mean, as a share of the largest.

    Args:
        scores: raw scores of the body.
        kind: their kind, one of `KINDS`.
        expected: logits or probabilities of the source, [n, classes]; for a binary source, [n] or [n, 1] will do.
        tolerance: on the difference.

    Returns:
        The largest difference.

    Raises:
        ParityError: a score differs; the message shows the first one.
        ExportError: `expected` has another shape.
    """
    logits = logits_of(scores, kind)
    expected = np.asarray(expected)
    if expected.dtype.kind not in "fiu" or expected.ndim not in (1, 2) or len(expected) != len(logits):
        raise ExportError(
            f"expected: expected numbers {list(logits.shape)}, the source's scores for the data, "
            f"got {expected.dtype} {list(expected.shape)}"
        )
    binary = expected.ndim == 1 or expected.shape[1] == 1
    probabilities = bool(((expected >= 0) & (expected <= 1)).all()) if binary else are_probabilities(expected)
    wanted = logits_of(expected, f"{'binary-' if binary else ''}{'probabilities' if probabilities else 'logits'}")
    if wanted.shape != logits.shape:
        raise ExportError(f"expected: expected {logits.shape[1]} classes, as the body has, got {wanted.shape[1]}")
    ours, theirs = (softmax(part) if probabilities else _centred(part) for part in (logits, wanted))
    difference = np.abs(ours - theirs) / (1.0 if probabilities else max(1.0, float(np.abs(theirs).max())))
    wrong = ~(difference <= tolerance)
    if wrong.any():
        row, column = (int(index[0]) for index in np.nonzero(wrong))
        what = "probability" if probabilities else "logit (less the row's mean)"
        raise ParityError(
            f"parity with the source failed: the {what} of class {column} for input {row} is {ours[row, column]:.6g}, "
            f"expected {theirs[row, column]:.6g} ({int(wrong.any(axis=1).sum())} of {len(wrong)} inputs differ by more "
            f"than {tolerance:g}); nothing was written"
        )
    return float(difference.max())


def _centred(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    centred: NDArray[np.floating] = logits - logits.mean(axis=1, keepdims=True)
    return centred
