"""Inputs with the predictions of both models, recorded on the device for the next calibration."""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.batch import Batch
from edgecascade.runtime.private_file import replace_file
from edgecascade.types.answer import Prediction
from edgecascade.types.errors import ArgumentError

__all__ = ["PAIRS", "PairRecorder"]

PAIRS = "pairs.npz"
"""The file in the folder of a recorder."""

_BESIDE = ("y", "local", "remote", "confidence", "audited")  # the arrays of a pair beside its inputs
_RESERVED = (*_BESIDE, "names", "file")  # names that an input cannot have, the last because of numpy.savez
_log = logging.getLogger(__name__)

_Pair: TypeAlias = Mapping[str, NDArray[Any]]
"""The arrays of one input by name, without the batch axis."""


@dataclass(eq=False)
class PairRecorder:
    """A ring of the latest pairs in memory, and a folder to which `save` writes them.

    It holds the latest inputs, not a uniform sample of all time: a new calibration is mostly needed because the inputs
    have changed, and then old inputs would mislead it. A folder belongs to one process.

    `save` writes `pairs.npz` in the folder, which `edgecascade calibrate --data` and `recalibrate --data` read:

    - `x` [n, ...], or one array for each input of the model, by name;
    - `y` int64 [n], a label drawn from the remote's calibrated probabilities; `names` [classes];
    - `local` and `remote`, float32 [n, classes]: calibrated probabilities. The largest of `remote` is the remote's
      label; saved alone (.npy), they serve as `--remote` without asking the remote again;
    - `confidence` float32 [n], of the local model; `audited` bool [n]: true if the local answer stood, false if the
      input was forwarded.

    `y` is the remote's estimate, not the truth. It is drawn, instead of the remote's own label, because measured on
    its own labels the remote is always right: then no temperature is best, and `recalibrate` raises an error. As far as
    the remote is calibrated, a drawn label is right as often as the truth would be, and temperature, accuracies and
    advantages come out right on average. Where it is not (under noise it may be sure and wrong), all of them are off
    by as much, and a certificate from such data does not hold for the true labels.

    A file holds inputs of one shape and type. Where they differ, those of the most common one are written, and the
    sample is one of such inputs only; `save` logs how many were left out. Encoded files (bytes) and other objects are
    not recorded.

    Args:
        folder: made if it does not exist. Only the owner can read the file in it. Its pairs are read and continued; a
            file that is damaged, or of other classes, is set aside under another name.
        names: names of the classes.
        most: the most pairs.
        most_bytes: the most bytes of their inputs and probabilities.
        seed: seed of the drawn labels; None takes one from the system.

    Raises:
        ArgumentError: a bound is below 1, or the folder cannot be made.
    """

    folder: Path
    names: Sequence[str]
    most: int = 2000
    most_bytes: int = 64 << 20
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ArgumentError(f"most_pairs: expected 1 or more, got {self.most}")
        if self.most_bytes < 1:
            raise ArgumentError(f"most_bytes: expected 1 or more, got {self.most_bytes}")
        self.folder = Path(self.folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArgumentError(f"record: expected a folder that can be made, got {self.folder}: {error}") from error
        self._random = Random(self.seed).random
        self._lock, self._saving = Lock(), Lock()
        self._pairs: deque[_Pair] = deque()
        self._bytes = 0
        for pair in self._read():
            self._append(pair)

    def __len__(self) -> int:
        return len(self._pairs)

    def add(self, x: Batch, local: Prediction, remote: Prediction, *, audited: bool) -> bool:
        """Record a copy of one input, in place of the oldest if there is no room.

        Args:
            x: the input as a batch of one, as the local model takes it.
            local: the local model's prediction.
            remote: the remote's prediction, calibrated.
            audited: whether the local answer stood.

        Returns:
            Whether it was recorded: only arrays of numbers or text are, and only if they fit into the room.
        """
        arrays = x if isinstance(x, Mapping) else {"x": x}
        pair = {name: np.array(array[0]) for name, array in arrays.items()}  # of str, also from an array of objects
        if any(array.dtype.kind not in "biufU" or name in _RESERVED for name, array in pair.items()):
            return False
        ours, theirs = (np.array(one.probabilities, np.float32) for one in (local, remote))
        if not ours.shape == theirs.shape == (len(self.names),):
            return False
        pair |= {
            "y": np.array(_drawn(theirs, self._random()), np.int64),
            "local": ours,
            "remote": theirs,
            "confidence": np.array(local.confidence, np.float32),
            "audited": np.array(audited),
        }
        if _size(pair) > self.most_bytes:
            return False
        with self._lock:
            self._append(pair)
        return True

    def save(self) -> Path | None:
        """Write `pairs.npz` in one step: a reader, or a power cut, finds the old file or the new one.

        It writes all recorded pairs, up to `most_bytes`, and temporarily needs as much memory again. Only this
        method writes, so the application decides how often the flash memory is written.

        Returns:
            The path of `pairs.npz`, or None if there is nothing to write.

        Raises:
            OSError: it cannot be written; the old file is still there.
        """
        with self._saving:
            with self._lock:
                pairs = list(self._pairs)
            if not pairs:
                return None
            kinds = Counter(map(_kind, pairs))
            (commonest, n), *others = kinds.most_common()
            if others:
                _log.warning("%d recorded inputs have other shapes or types, and are not saved", len(pairs) - n)
            chosen = [pair for pair in pairs if _kind(pair) == commonest]
            arrays = {name: np.stack([pair[name] for pair in chosen]) for name in chosen[0]}
            path = self.folder / PAIRS
            arrays["names"] = np.array(self.names)
            place = Path(os.path.realpath(path))  # a symbolic link stays one
            replace_file(place, lambda file: np.savez(file, **arrays), durable=True)  # type: ignore[arg-type]
            return path

    def _append(self, pair: _Pair) -> None:
        self._pairs.append(pair)
        self._bytes += _size(pair)
        while len(self._pairs) > self.most or self._bytes > self.most_bytes:
            self._bytes -= _size(self._pairs.popleft())

    def _read(self) -> list[_Pair]:
        path = self.folder / PAIRS
        if not path.exists():
            return []
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return _split({name: arrays[name] for name in arrays}, list(self.names))
        except Exception as error:  # numpy and zipfile raise many kinds
            _log.warning("%s: cannot be continued, and is moved to %s.old: %s", path, PAIRS, error)
            try:
                os.replace(path, path.with_name(path.name + ".old"))
            except OSError as failure:
                _log.warning("%s: cannot be moved: %s", path, failure)
            return []


def _split(arrays: dict[str, NDArray[Any]], names: list[str]) -> list[_Pair]:
    """Return the pairs of a file of these classes; raise if it is not such a file."""
    found = arrays.pop("names").tolist()
    if found != names:
        raise ValueError(f"expected the classes {names[:5]}, got {found[:5]}")
    lengths = {len(array) for array in arrays.values()}
    table = (len(arrays["y"]), len(names))
    if len(arrays) <= len(_BESIDE) or len(lengths) > 1 or not arrays["local"].shape == arrays["remote"].shape == table:
        raise ValueError(f"its arrays do not fit together: {sorted(lengths)} entries")
    types = {"y": np.int64, "local": np.float32, "remote": np.float32, "confidence": np.float32, "audited": np.bool_}
    arrays |= {name: arrays[name].astype(kind) for name, kind in types.items()}
    return [{name: np.array(array[i]) for name, array in arrays.items()} for i in range(len(arrays["y"]))]


def _kind(pair: _Pair) -> tuple[Any, ...]:
    """Return what the pairs of one file must share; texts of any length are of one kind."""
    return tuple(
        (name, "U" if array.dtype.kind == "U" else array.dtype.str, array.shape)
        for name, array in pair.items()
        if name not in _BESIDE
    )


def _size(pair: _Pair) -> int:
    return sum(array.nbytes for name, array in pair.items() if name not in ("y", "confidence", "audited"))


def _drawn(probabilities: NDArray[np.float32], chance: float) -> int:
    """Return the class in which a number from 0 to 1 falls; never one of probability 0."""
    rising = np.cumsum(probabilities, dtype=np.float64)
    return min(int(np.searchsorted(rising, chance * rising[-1], side="right")), len(rising) - 1)
