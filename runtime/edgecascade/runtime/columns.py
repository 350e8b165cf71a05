"""The decisions or answers of many inputs as arrays, one per property."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecascade.types.answer import NO_OUTPUTS, Prediction, Reason, Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgecascade.runtime.decisions import Decided

__all__ = ["REASONS", "SOURCES", "Columns", "column_of"]

SOURCES, REASONS = tuple(Source), tuple(Reason)
_CONFIDENT, _OFFLINE = REASONS.index(Reason.CONFIDENT), REASONS.index(Reason.OFFLINE)


@dataclass(frozen=True, eq=False)
class Columns:
    """What `Cascade.decide`, `merged` and `predict_columns` return about n inputs. `len` is n.

    Attributes:
        label: int64 [n], the index of the class; -1 for a general task.
        confidence: float32 [n], as in `Answer`.
        advantage: float32 [n], NaN where the local confidence is NaN.
        forward: bool [n], whether the policy forwards the input.
        probabilities: float32 [n, classes], calibrated, behind the label; [n, 0] for a general task.
        source_codes: uint8 [n], positions in `tuple(Source)`.
        reason_codes: uint8 [n], positions in `tuple(Reason)`.
        outputs: the outputs that were asked for, or those of a general task, by name: [n, ...], or an object array
            [n] of arrays if their shapes differ. A classifier's are the local model's. Those of a general task are of
            the model that answered; None stands where that model has no such output.
    """

    label: NDArray[np.int64]
    confidence: NDArray[np.float32]
    advantage: NDArray[np.float32]
    forward: NDArray[np.bool_]
    probabilities: NDArray[np.float32]
    source_codes: NDArray[np.uint8]
    reason_codes: NDArray[np.uint8]
    outputs: Mapping[str, NDArray[Any]] = field(default_factory=lambda: NO_OUTPUTS)

    @classmethod
    def decided(
        cls,
        label: NDArray[np.int64],
        confidence: NDArray[np.float32],
        advantage: NDArray[np.float32],
        forward: NDArray[np.bool_],
        probabilities: NDArray[np.float32],
        outputs: Mapping[str, NDArray[Any]] = NO_OUTPUTS,
    ) -> Columns:
        """Return the columns of decisions: local answers, for the reason `confident`, or `offline` where to forward."""
        reasons = np.where(forward, np.uint8(_OFFLINE), np.uint8(_CONFIDENT))
        sources = np.full(len(label), SOURCES.index(Source.LOCAL), np.uint8)
        return cls(label, confidence, advantage, forward, probabilities, sources, reasons, outputs)

    @classmethod
    def of(cls, decided: Sequence[Decided], classes: int) -> Columns:
        """Return the columns of decisions that were read one by one."""
        predictions = [one.prediction for one in decided]
        outputs = {name: column_of([one.outputs[name] for one in predictions]) for name in _names(predictions)}
        return cls.decided(
            np.array([one.label for one in predictions], np.int64),
            np.array([one.confidence for one in predictions], np.float32),
            np.array([one.advantage for one in decided], np.float32),
            np.array([one.forward for one in decided], np.bool_),
            np.array([one.probabilities for one in predictions], np.float32).reshape(len(decided), classes),
            outputs,
        )

    def __len__(self) -> int:
        """Return the number of inputs."""
        return len(self.label)

    @property
    def source(self) -> NDArray[np.str_]:
        """Which model each label came from, as text [n]."""
        return np.array([one.value for one in SOURCES])[self.source_codes]

    @property
    def reason(self) -> NDArray[np.str_]:
        """Why each answer has that source, as text [n]."""
        return np.array([one.value for one in REASONS])[self.reason_codes]

    def prediction(self, i: int) -> Prediction:
        """Return the prediction behind the i-th label, as `Answer.local` has it."""
        outputs = {name: column[i] for name, column in self.outputs.items()} or NO_OUTPUTS
        return Prediction(int(self.label[i]), float(self.confidence[i]), self.probabilities[i], outputs)

    def counts(self) -> Counter[tuple[Source, Reason]]:
        """Return the number of inputs by source and reason."""
        pairs, found = np.unique(
            self.source_codes.astype(np.intp) * len(REASONS) + self.reason_codes, return_counts=True
        )
        places = (divmod(pair, len(REASONS)) for pair in pairs.tolist())
        return Counter({(SOURCES[s], REASONS[r]): n for (s, r), n in zip(places, found.tolist(), strict=True)})

    def _repr_html_(self) -> str:
        from edgecascade.types.notebook import as_html, picture

        rows = [("inputs", str(len(self)))]
        for (source, reason), n in self.counts().most_common():
            rows.append((f"{source.value}, {reason.value}", f"{n} ({n / len(self):.1%})"))
        shares, ends = np.histogram(self.confidence[np.isfinite(self.confidence)], 20, (0, 1))
        middles, axes = (ends[:-1] + ends[1:]) / 2, ("confidence", "inputs")
        return as_html(rows, picture(middles, shares, axes) if shares.any() else "")


def column_of(arrays: Sequence[NDArray[Any] | None]) -> NDArray[Any]:
    """Return arrays of one shape and type as one array [n, ...], and others as an object array [n]."""
    kinds = {None if one is None else (one.dtype, one.shape) for one in arrays}
    if len(kinds) == 1 and None not in kinds:
        return np.stack([one for one in arrays if one is not None])
    column = np.empty(len(arrays), object)
    for i, one in enumerate(arrays):
        column[i] = one
    return column


def _names(predictions: Sequence[Any]) -> tuple[str, ...]:
    return tuple(predictions[0].outputs) if predictions else ()
