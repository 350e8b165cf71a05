"""Golden inputs: a few inputs stored in the file with their expected decisions, to replay on any machine.

They reveal a preprocessing, execution provider or runtime version that changes the answers.
"""

from __future__ import annotations

import base64
import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.batch import size
from edgecascade.runtime.engine import Engine, read_properties, run_in_batches
from edgecascade.runtime.model_inputs import ModelInputs
from edgecascade.types.document import GOLDEN_KEY
from edgecascade.types.errors import ModelFileError

__all__ = ["GOLDEN_KEY", "Expected", "ExpectedTask", "Golden", "compare", "decision_vectors", "read_golden"]

_INPUT = "input:"
_DECIDED = ("score", "label", "confidence", "advantage", "forward")  # those of a kind of file are its outputs
_LARGEST_TEXT, _LARGEST_ARRAYS = 16 << 20, 64 << 20  # bytes: far above any real file, far below a device's memory


@dataclass(frozen=True)
class Expected:
    """The decisions of the reference arithmetic, each [n].

    Attributes:
        label: int64.
        confidence: float32.
        advantage: float32.
        forward: bool.
        distance: float32, from the score to the nearest edge of the advantage table, relative to the score where
            the score is above 1. Within the tolerance, `advantage` and `forward` may differ.
        label_distance: float32, from the expected cost of the label to that of the next answer, as a share of the
            costliest error. Within the tolerance, `label` and `confidence` may differ. None if all errors cost the
            same.
    """

    label: NDArray[np.int64]
    confidence: NDArray[np.float32]
    advantage: NDArray[np.float32]
    forward: NDArray[np.bool_]
    distance: NDArray[np.float32]
    label_distance: NDArray[np.float32] | None = None

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name."""
        return {name: column for name, column in vars(self).items() if column is not None}


@dataclass(frozen=True)
class ExpectedTask:
    """The decisions of the reference arithmetic about a general task, each [n].

    Attributes:
        score: float32.
        confidence: float32.
        advantage: float32.
        forward: bool.
        distance: float32, from the score to the nearest edge of the advantage table, as a share of `scale`. Within the
            tolerance, `advantage` and `forward` may differ.
        scale: float32, the absolute score, or the largest absolute edge of the table if that is larger.
    """

    score: NDArray[np.float32]
    confidence: NDArray[np.float32]
    advantage: NDArray[np.float32]
    forward: NDArray[np.bool_]
    distance: NDArray[np.float32]
    scale: NDArray[np.float32]

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name."""
        return dict(vars(self))


@dataclass(frozen=True)
class Golden:
    """Inputs [n, ...] by name, and their expected decisions."""

    inputs: Mapping[str, NDArray[Any]]
    expected: Expected | ExpectedTask

    def __len__(self) -> int:
        """Return the number of inputs."""
        return size(self.inputs)

    def text(self) -> str:
        """Return base64 text for the metadata: an npz of `input:NAME` for each input and the expected arrays."""
        packed = io.BytesIO()
        named = {f"{_INPUT}{name}": array for name, array in self.inputs.items()}
        np.savez_compressed(packed, allow_pickle=False, **named, **self.expected.columns())
        return base64.b64encode(packed.getvalue()).decode("ascii")


def read_golden(session: Engine, path: str | os.PathLike[str]) -> Golden | None:
    """Return the golden inputs of an open model, or None if the file has none.

    Raises:
        ModelFileError: they are damaged, or too large to be real.
    """
    text = read_properties(session, path).get(GOLDEN_KEY)
    if text is None:
        return None
    if len(text) > _LARGEST_TEXT:
        raise ModelFileError(f"{path}: its golden inputs have {len(text)} characters, over the limit {_LARGEST_TEXT}")
    try:
        packed = io.BytesIO(base64.b64decode(text, validate=True))
        with zipfile.ZipFile(packed) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > _LARGEST_ARRAYS:
            raise ModelFileError(f"{path}: its golden inputs unpack to {unpacked} bytes, over {_LARGEST_ARRAYS}")
        with np.load(packed, allow_pickle=False) as arrays:
            kind = Expected if "label" in arrays else ExpectedTask
            expected = kind(**{one.name: arrays[one.name] for one in fields(kind) if one.name in arrays})
            inputs = {name.removeprefix(_INPUT): arrays[name] for name in arrays if name.startswith(_INPUT)}
        if len({len(array) for array in (*inputs.values(), *expected.columns().values())}) != 1 or not inputs:
            raise ValueError("arrays of different lengths")
    except ModelFileError:
        raise
    except Exception as error:  # base64, zipfile and numpy raise many kinds
        raise ModelFileError(f"{path}: its golden inputs are damaged: {error}") from error
    return Golden(inputs, expected)


def decision_vectors(golden: Golden, threshold: float) -> dict[str, Any]:
    """Return golden inputs and decisions as JSON types, to test a reader in another language.

    `decisions` has what the file gives for each input. `comparisons` has what follows under other thresholds: those
    that forward all and nothing, the file's own, every advantage of the inputs, written with as few digits as tell it
    from other float32 numbers, and its neighbours; also without a confidence, for which null stands instead of NaN.

    Args:
        golden: inputs and their expected decisions.
        threshold: the file's own.
    """
    expected = golden.expected
    inputs = {
        name: {
            "dtype": array.dtype.name,
            "shape": list(array.shape),
            "base64": base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode("ascii"),
        }
        for name, array in golden.inputs.items()
        if array.dtype.kind in "fiub"
    }
    decided = [one for one in _DECIDED if hasattr(expected, one)]
    decisions = [
        {name: _json(number) for name, number in zip(decided, row, strict=True)}
        for row in zip(*(getattr(expected, name) for name in decided), strict=True)
    ]
    advantages = np.unique(expected.advantage[~np.isnan(expected.advantage)])
    near = [np.nextafter(advantages, np.float32(end)) for end in (-np.inf, np.inf)]
    thresholds = np.unique(np.concatenate([advantages, *near, np.array([-1, threshold, 2], np.float32)]))
    return {
        "inputs": inputs,
        "decisions": decisions,
        "comparisons": [
            {
                "confidence": confidence,
                "advantage": _number(advantage),
                "threshold": _number(limit),
                "forward": confidence is None or bool(advantage < limit),
            }
            for confidence in (0.5, None)
            for advantage in advantages
            for limit in thresholds
        ],
    }


def _json(value: np.generic) -> float | int | bool | None:
    """Return a number or a truth value as a JSON type."""
    return _number(value) if isinstance(value, np.float32) else value.item()


def _number(value: np.float32) -> float | None:
    """Return a float32 number with as few digits as it needs, or None for NaN."""
    return None if np.isnan(value) else float(str(value))


def compare(
    session: Engine,
    inputs: Mapping[str, NDArray[Any]] | Sequence[Mapping[str, NDArray[Any]]],
    expected: Expected | ExpectedTask,
    tolerance: float,
) -> tuple[float, str | None]:
    """Run the inputs, and return the largest difference of a confidence and the first wrong decision in words, or None.

    Args:
        session: an open cascade model.
        inputs: [n, ...] by name; or several such batches, where inputs differ in shape.
        expected: their expected decisions.
        tolerance: largest accepted difference of a confidence, and of a score as a share of its scale.

    Raises:
        InputError: the inputs do not fit the model.
    """
    names = [name for name in _DECIDED if hasattr(expected, name)]
    declared = ModelInputs(tuple(session.get_inputs()))
    parts = [inputs] if isinstance(inputs, Mapping) else inputs
    decided = [run_in_batches(session, names, declared.feeds("golden", part)) for part in parts]
    got = dict(zip(names, map(np.concatenate, zip(*decided, strict=True)), strict=True))
    number, near_edge = ~np.isnan(expected.confidence), expected.distance <= tolerance
    tied = np.zeros_like(number)
    if isinstance(expected, Expected) and expected.label_distance is not None:
        tied = expected.label_distance <= tolerance
    difference = np.abs(np.where(number & ~tied, got["confidence"] - expected.confidence, 0.0))
    if isinstance(expected, Expected):
        first = {"label": number & ~tied & (got["label"] != expected.label)}
    else:
        first = {"score": number & ~(np.abs(got["score"] - expected.score) <= tolerance * expected.scale)}
    wrong = {
        **first,
        "confidence": (np.isnan(got["confidence"]) == number) | ~(difference <= tolerance),
        "forward": ~near_edge & (got["forward"] != expected.forward),
        "advantage": ~near_edge & number & (got["advantage"] != expected.advantage),
    }
    largest = float(difference.max())
    for name, where in wrong.items():
        if where.any():
            one = int(np.flatnonzero(where)[0])
            return largest, (
                f"{name} of input {one} is {got[name][one]}, expected {getattr(expected, name)[one]} "
                f"({int(where.sum())} of {len(where)} inputs differ)"
            )
    return largest, None
