"""Several models' outputs on the same rows, read in chunks: the experts that judge labels.

The arrays may be logits or probabilities, of any floating type, and memory-mapped. Nothing here copies them: rows are
read, converted and passed on a megabyte at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgecascade.types.arrays import as_array
from edgecascade.types.errors import CalibrationError
from edgecascade.types.softmax import SMALLEST, Recognised, in_unit_interval, recognise, resolution

__all__ = ["ABSENT", "Experts", "check_labels"]

ABSENT = np.float32(-1e30)  # the score of an option that a row does not have; products with weights stay finite

_CHUNK = 1 << 20  # float32 numbers, 4 MB: a call of numpy then costs little beside its work
_HELD = 4  # arrays of a chunk's size that a fit has beside it
_SAMPLE = 1 << 16  # numbers that show what an array holds
_COMPARED = 512  # rows in which experts are compared with one another
_FEWEST_COMPARED = 10
_HASHED = 64  # columns
_COMMON = 0.01  # share of zeros among logits, as quantised models give them: a row may then be zero as a whole
_SUM_TOLERANCE = 1e-2  # of probabilities
_HALF_UNIT = np.float32(2.0**-112)  # the float32 number whose exponent has the bits of 1 as float16
_HALF_MOST = 65520.0  # between the largest float16 number and infinity


@dataclass(frozen=True)
class Experts:
    """Outputs of K models on the same rows; make it with `Experts.of`, which checks them.

    Attributes:
        arrays: K arrays [n, classes], as they were given.
        names: of the experts.
        read: what each array holds: logits, or probabilities and how they were rounded.
        rows: int64, the rows of the arrays that these are, after `select`; None for all.
    """

    arrays: tuple[NDArray[Any], ...]
    names: tuple[str, ...]
    read: tuple[Recognised, ...]
    rows: NDArray[np.int64] | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        arrays: Sequence[ArrayLike],
        names: Sequence[str] | None = None,
        kinds: Sequence[str | None] | None = None,
    ) -> Experts:
        """Return outputs [n, classes] of several models as experts.

        Shapes are checked now, and what the arrays hold by a sample of rows. Every row is checked when it is read.

        Args:
            arrays: one per expert, floating, of the same shape, of numpy, torch, pandas or polars: logits or
                probabilities. In logits, -inf stands for an
                option that a row does not have.
            names: of the experts; `expert 1`, `expert 2` and so on if not given.
            kinds: of each array, `logits` or `probabilities`; None where its values are to tell.

        Raises:
            CalibrationError: names the expert, what was expected and what came.

        >>> experts = Experts.of([np.array([[2.0, -1.0]]), np.array([[0.9, 0.1]])], ["small", "large"])
        >>> experts.n, experts.classes, [one.kind for one in experts.read]
        (1, 2, ['logits', 'probabilities'])
        """
        names = [f"expert {k + 1}" for k in range(len(arrays))] if names is None else [str(name) for name in names]
        kinds = [None] * len(arrays) if kinds is None else list(kinds)
        if not len(arrays) == len(names) == len(kinds) or not arrays:
            raise CalibrationError(
                f"experts: expected one array or more, each with a name and a kind, got {len(arrays)} arrays, "
                f"{len(names)} names and {len(kinds)} kinds"
            )
        if len(set(names)) < len(names):
            raise CalibrationError(f"experts: expected names that differ, got {', '.join(names)}")
        # Slices of numpy's class of mapped arrays take longer than those of the same memory as a plain array.
        given = [np.asarray(as_array(array, name)) for name, array in zip(names, arrays, strict=True)]
        for name, array in zip(names, given, strict=True):
            _check_shape(name, array, names[0], given[0])
        read = tuple(_recognised(*one) for one in zip(names, given, kinds, strict=True))
        experts = cls(tuple(given), tuple(names), read)
        _check_different(experts)
        return experts

    @property
    def n(self) -> int:
        """The number of rows."""
        return len(self.arrays[0]) if self.rows is None else len(self.rows)

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(self.arrays[0].shape[1])

    def __len__(self) -> int:
        """The number of experts K."""
        return len(self.arrays)

    def select(self, rows: NDArray[Any]) -> Experts:
        """Return the experts on some of the rows, given as integers or as bool [n]; nothing is copied."""
        chosen = np.arange(self.n)[rows].astype(np.int64)
        return replace(self, rows=chosen if self.rows is None else self.rows[chosen])

    def only(self, expert: int) -> Experts:
        """Return one of the experts alone."""
        some = slice(expert, expert + 1)
        return replace(self, arrays=self.arrays[some], names=self.names[some], read=self.read[some])

    def chunks(self, rows: NDArray[np.integer] | None = None) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield the scores of all rows, or of those given, with their place among them.

        The scores are float32 [K, m, classes]: logits, or logarithms of probabilities, less the largest of each row and
        expert. An absent option has `ABSENT`. The next chunk overwrites the array, and the caller may.

        Raises:
            CalibrationError: a row holds something else than logits or probabilities.
        """
        some = self if rows is None else self.select(rows)
        for part in some.parts(_HELD * len(self)):
            if part.start == 0:
                buffer = np.empty((len(self), part.stop, self.classes), np.float32)
            block = buffer[:, : part.stop - part.start]
            for k, target in enumerate(block):
                some.read_into(target, k, part)
                target -= target.max(axis=1, keepdims=True)
                if target.min() < ABSENT:
                    np.maximum(target, ABSENT, out=target)
            yield part, block

    def parts(self, held: int = 1) -> Iterator[slice]:
        """Yield slices of the rows, such that `held` float32 arrays of their outputs stay in a processor's cache."""
        count = max(1, _CHUNK // (held * self.classes))
        for start in range(0, self.n, count):
            yield slice(start, min(start + count, self.n))

    def read_into(self, target: NDArray[np.float32], expert: int, part: slice, weight: float = 1.0) -> None:
        """Write weighted logits of some rows of an expert, or logarithms of probabilities, to float32 [m, classes].

        Raises:
            CalibrationError: a row holds something else than logits or probabilities.
        """
        array, read = self.arrays[expert], self.read[expert]
        rows = array[part if self.rows is None else self.rows[part]]
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            values, unit = _as_float32(rows, target, read.kind)
            smallest = values.min()
            if _look_wrong(values, smallest, unit, read.kind):
                if unit != 1:
                    np.copyto(target, rows, casting="unsafe")
                    unit, smallest = np.float32(1), values.min()
                if _faults(values, read):
                    _check_rows(self.names[expert], array, read)
            if read.kind == "probabilities":
                values = np.log(values, out=target)
                least = np.log(np.float32(read.floor)) + np.log(unit)
                if smallest < 0:
                    np.fmax(values, least, out=target)  # the logarithm of less than nothing is NaN
                elif smallest < np.float32(read.floor) * unit:
                    np.clip(values, least, np.inf, out=target)  # takes half as long as a bound on one side
            elif weight / float(unit) < np.finfo(np.float32).max:
                weight /= float(unit)
            else:
                values = np.multiply(values, 1 / unit, out=target)
            np.multiply(values, np.float32(weight), out=target)

    def hashes(self) -> NDArray[np.uint64]:
        """Return a hash of the outputs of all experts for each row, uint64 [n]: the same input has the same.

        Up to 64 columns of each expert are looked at.
        """
        found = np.empty(self.n, np.uint64)
        columns = np.unique(np.linspace(0, self.classes - 1, _HASHED).astype(np.int64))
        for part in self.parts():
            rows = part if self.rows is None else self.rows[part]
            with np.errstate(over="ignore"):
                seen = np.stack([array[rows][:, columns].astype(np.float32) for array in self.arrays], axis=1)
            found[part] = [int.from_bytes(blake2b(row.tobytes(), digest_size=8).digest(), "little") for row in seen]
        return found

    def check(self) -> None:
        """Read every row, and refuse those that are neither logits nor probabilities.

        Raises:
            CalibrationError: names the expert, the fault, the first row that has it, and how many have it.
        """
        for name, array, read in zip(self.names, self.arrays, self.read, strict=True):
            _check_rows(name, array, read)


def check_labels(labels: ArrayLike, experts: Experts, argument: str = "labels") -> NDArray[np.int64]:
    """Return labels [n] as int64, or refuse those that do not fit the experts' rows and classes.

    Raises:
        CalibrationError: names the argument, what was expected and what came.
    """
    labels = as_array(labels, argument)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise CalibrationError(f"{argument}: expected integers [{experts.n}], got {labels.dtype} {list(labels.shape)}")
    if len(labels) != experts.n:
        raise CalibrationError(f"{argument}: expected {experts.n}, one per row of the experts, got {len(labels)}")
    if experts.n == 0:
        raise CalibrationError(f"{argument}: expected at least one labelled row, got none")
    wrong = np.flatnonzero((labels < 0) | (labels >= experts.classes))
    if len(wrong):
        raise CalibrationError(
            f"{argument}: expected 0 to {experts.classes - 1}, one per column, got {labels[wrong[0]]} in row "
            f"{wrong[0]}{_of_how_many(wrong)}"
        )
    return labels.astype(np.int64)


def _check_shape(name: str, array: NDArray[Any], first_name: str, first: NDArray[Any]) -> None:
    if array.ndim != 2 or array.shape[1] < 2 or array.dtype.kind != "f":
        raise CalibrationError(
            f"{name}: expected floating [n, classes] with at least 2 classes, got {array.dtype} {list(array.shape)}"
        )
    if array.shape != first.shape:
        raise CalibrationError(
            f"{name}: expected the same rows and classes as {first_name}, {list(first.shape)}, got {list(array.shape)}"
        )


def _recognised(name: str, array: NDArray[Any], kind: str | None) -> Recognised:
    """Return what an array holds, judged by rows spread over all of it."""
    if kind not in (None, "logits", "probabilities"):
        raise CalibrationError(f"{name}: expected the kind logits or probabilities, got {kind}")
    if kind == "logits":
        return Recognised("logits")
    every = max(1, array.size // _SAMPLE)
    sample = _plausible(array[::every])
    read = recognise(sample) if kind is None else resolution(sample)
    if read.doubt:
        remedy = "; say which kind they are" if in_unit_interval(sample) else ""
        raise CalibrationError(f"{name}: expected logits or probabilities, got {read.doubt}{remedy}")
    return replace(read, floor=max(read.floor, SMALLEST))


def _plausible(rows: NDArray[Any]) -> NDArray[Any]:
    """Return the rows with numbers in them; `_check_rows` refuses the others."""
    with np.errstate(invalid="ignore"):
        chosen = (rows < np.inf).all(axis=1) & (rows != 0).any(axis=1)
    return np.asarray(rows[chosen])


def _check_rows(name: str, array: NDArray[Any], read: Recognised) -> None:
    """Refuse rows that are not what the array holds."""
    count = max(1, _CHUNK // array.shape[1])
    bad: dict[str, list[NDArray[np.intp]]] = {}
    for start in range(0, len(array), count):
        for what, wrong in _faults(np.asarray(array[start : start + count]), read).items():
            bad.setdefault(what, []).append(start + np.flatnonzero(wrong))
    for what, parts in bad.items():
        found = np.concatenate(parts)
        expected = "numbers" if what == "NaN or +inf" else read.kind
        raise CalibrationError(f"{name}: expected {expected}, got {what} in row {found[0]}{_of_how_many(found)}")


def _as_float32(rows: NDArray[Any], target: NDArray[np.float32], kind: str) -> tuple[NDArray[np.float32], np.float32]:
    """Return numbers as float32, and what a number of 1 became; `target` is written to where they are of another type.

    Numbers of 16 bits become 2^-112 times as large: their bits are those of such float32 numbers, which numpy converts
    several times as fast. Infinite ones and NaN become large ones, and so do negative probabilities.
    """
    if rows.dtype == np.float32:
        return rows, np.float32(1)
    if rows.dtype != np.float16:
        np.copyto(target, rows, casting="unsafe")
        return target, np.float32(1)
    bits = target.view(np.int32)
    np.copyto(bits, rows.view(np.uint16 if kind == "probabilities" else np.int16))
    np.left_shift(bits, 13, out=bits)
    if kind == "logits":
        np.bitwise_and(bits, ~np.int32(0x70001FFF), out=bits)
    return target, _HALF_UNIT


def _look_wrong(values: NDArray[np.float32], smallest: np.float32, unit: np.float32, kind: str) -> bool:
    """Return whether rows, of which the smallest number is known, may have faults, after a look that costs little."""
    if kind == "probabilities":
        sums = np.einsum("ij->i", values)
        return not ((np.abs(sums - unit) <= np.float32(_SUM_TOLERANCE) * unit).all() and smallest >= 0)
    most = unit * np.float32(_HALF_MOST) if unit != 1 else np.float32(np.inf)
    return not (values.max() < most and smallest > -most and values[:, 0].all())


def _faults(rows: NDArray[Any], read: Recognised) -> dict[str, NDArray[np.bool_]]:
    """Return which rows have which fault, for faults that occur; the gravest first."""
    with np.errstate(invalid="ignore", over="ignore"):
        sums = rows.sum(axis=1)  # costs little, and shows whether a closer look is needed
        if read.kind == "probabilities":
            if (np.abs(sums - 1) <= _SUM_TOLERANCE).all() and rows.min() >= 0:
                return {}
            most, least = rows.max(axis=1), rows.min(axis=1)
            rounded = bool(read.rounding) and recognise(_plausible(rows)).kind == "probabilities"
            faults = {
                "NaN or +inf": ~(most < np.inf) | np.isnan(least),
                "only zeros": (most == 0) & (least == 0),
                "numbers outside [0, 1]": (least < -1e-6) | (most > 1 + _SUM_TOLERANCE),
                "numbers that do not sum to 1": (np.abs(sums - 1) > _SUM_TOLERANCE) & (not rounded),
            }
        else:
            if np.isfinite(sums).all() and sums.all():
                return {}
            most, least = rows.max(axis=1), rows.min(axis=1)
            faults = {
                "NaN or +inf": ~(most <= np.finfo(np.float32).max) | np.isnan(least),
                "no option at all (only -inf)": np.isneginf(most),
            }
            zeros, others = (most == 0) & (least == 0), _plausible(rows)
            if np.count_nonzero(others == 0) <= _COMMON * others.size:
                faults["only zeros"] = zeros
    return {what: wrong for what, wrong in faults.items() if wrong.any()}


def _check_different(experts: Experts) -> None:
    """Refuse experts whose outputs are those of another, up to a scale and a constant per row."""
    if experts.n < _FEWEST_COMPARED:
        return
    count = min(_COMPARED, max(_FEWEST_COMPARED, _SAMPLE // (len(experts) * experts.classes)))
    rows = np.unique(np.linspace(0, experts.n - 1, count).astype(np.int64))
    scores = np.concatenate([block.copy() for _, block in experts.chunks(rows)], axis=1)
    scores[scores <= ABSENT] = 0
    lengths = [float(np.abs(one).mean()) or 1.0 for one in scores]
    for k, name in enumerate(experts.names):
        for other in range(k):
            if np.allclose(scores[k] / lengths[k], scores[other] / lengths[other], rtol=1e-3, atol=1e-3):
                raise CalibrationError(
                    f"{name}: expected outputs of another model than {experts.names[other]}, got the same in every row"
                )


def _of_how_many(rows: NDArray[np.intp]) -> str:
    return f" ({len(rows)} such rows)" if len(rows) > 1 else ""
