"""Inputs with what both models said of them, kept on the device for the next calibration."""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.batch import Batch
from edgecascade.types.answer import Prediction
from edgecascade.types.errors import ArgumentError

__all__ = ["KeptPairs"]

_FILE = "pairs.npz"
_BESIDE = ("y", "names", "local", "remote", "confidence", "audited")  # what is in the file but the inputs
_RESERVED = (*_BESIDE, "file")  # the last by numpy.savez
_log = logging.getLogger(__name__)


class _Pair(NamedTuple):
    x: Mapping[str, NDArray[Any]]  # without the batch axis
    y: int
    local: NDArray[np.float32]
    remote: NDArray[np.float32]
    confidence: float
    audited: bool
    bytes: int

    @property
    def kind(self) -> tuple[Any, ...]:
        """What pairs in one file must share; sentences of any length are of one kind."""
        return tuple(
            (name, "U" if array.dtype.kind == "U" else array.dtype.str, array.shape) for name, array in self.x.items()
        )


@dataclass(eq=False)
class KeptPairs:
    """A ring of the latest pairs, in memory, and a folder to which `save` writes them.

    The latest, and not a uniform sample of all time: they are for calibrating anew, mostly because the inputs have
    changed, and then the old ones are what is wrong. One process to a folder.

    `save` writes `pairs.npz` in the folder, which `edgecascade calibrate --data` and `recalibrate --data` read:

    - `x` [n, ...], or one array for each input of the model, by name;
    - `y` int64 [n], a label drawn from the remote's calibrated probabilities; `names` [classes];
    - `local` and `remote`, float32 [n, classes]: calibrated probabilities. The largest of `remote` is its label; saved
      alone (.npy), they are a `--remote` that need not be asked again;
    - `confidence` float32 [n], the local one's; `audited` bool [n]: kept by the local model, or else forwarded.

    `y` is the remote's opinion and not the truth. It is drawn, and not the remote's own label, because on its own
    labels the remote is right every time: no temperature of it is best then, and `recalibrate` refuses. As far as the
    remote is calibrated, a drawn label is right as often as the truth would be, and temperature, accuracies and
    advantages come out right on average. Where it is not (under noise it may well be sure and wrong), all of them are
    off by as much, and a certificate from such data promises nothing about the truth.

    One file holds inputs of one shape and type. Where they differ, those of the commonest are written, and the sample
    is one of inputs of that shape only; `save` logs how many were left out. Encoded files (bytes) and other objects
    are not kept: give what the local model takes.

    Args:
        folder: made if it is not there. What it holds is read and continued; what is damaged, or of other classes,
            is set aside under another name.
        names: of the classes.
        most: pairs.
        most_bytes: of their arrays.
        seed: of the labels drawn; None takes one from the system.
    """

    folder: Path
    names: Sequence[str]
    most: int = 2000
    most_bytes: int = 64 << 20
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ArgumentError(f"most_kept: expected 1 or more, got {self.most}")
        if self.most_bytes < 1:
            raise ArgumentError(f"most_bytes: expected 1 or more, got {self.most_bytes}")
        self.folder = Path(self.folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArgumentError(f"keep: expected a folder that can be made, got {self.folder}: {error}") from error
        self._random = Random(self.seed).random
        self._lock, self._saving = Lock(), Lock()
        self._pairs: deque[_Pair] = deque()
        self._bytes = 0
        for pair in self._read():
            self._append(pair)

    def __len__(self) -> int:
        return len(self._pairs)

    def add(self, x: Batch, local: Prediction, remote: Prediction, *, audited: bool) -> bool:
        """Keep one input, in place of the oldest if there is no room.

        Args:
            x: the input as a batch of one, as the local model takes it. It is copied.
            local: the local model's verdict.
            remote: the remote's.
            audited: whether the local model was to keep this input.

        Returns:
            Whether it was kept: not if it is no array of numbers or text, or larger than all the room.
        """
        arrays = x if isinstance(x, Mapping) else {"x": x}
        own = {name: np.array(array[0]) for name, array in arrays.items()}  # of str, whatever array holds it
        if any(array.dtype.kind not in "biufU" or name in _RESERVED for name, array in own.items()):
            return False
        ours, theirs = (np.array(verdict.probabilities, np.float32) for verdict in (local, remote))
        if not ours.shape == theirs.shape == (len(self.names),):
            return False
        pair = _pair(own, _drawn(theirs, self._random()), ours, theirs, local.confidence, audited)
        if pair.bytes > self.most_bytes:
            return False
        with self._lock:
            self._append(pair)
        return True

    def save(self) -> Path | None:
        """Write `pairs.npz` in one step: a reader, or a power cut, meets the old file or the new one.

        It writes all that is kept, up to `most_bytes`, and needs as much memory again meanwhile. Nothing but this
        writes: how often a flash memory can bear it is the application's to know.

        Returns:
            The path of `pairs.npz`; None if there is nothing to write.

        Raises:
            OSError: it cannot be written; what was there before is still there.
        """
        with self._saving:
            with self._lock:
                pairs = list(self._pairs)
            if not pairs:
                return None
            kinds = Counter(pair.kind for pair in pairs)
            (commonest, n), *others = kinds.most_common()
            if others:
                _log.warning("%d kept inputs are of other shapes or types, and not saved", len(pairs) - n)
            self._write([pair for pair in pairs if pair.kind == commonest])
            return self.folder / _FILE

    def _append(self, pair: _Pair) -> None:
        self._pairs.append(pair)
        self._bytes += pair.bytes
        while len(self._pairs) > self.most or self._bytes > self.most_bytes:
            self._bytes -= self._pairs.popleft().bytes

    def _write(self, pairs: Sequence[_Pair]) -> None:
        arrays = {name: np.stack([pair.x[name] for pair in pairs]) for name in pairs[0].x}
        arrays |= {
            "y": np.array([pair.y for pair in pairs], np.int64),
            "names": np.array(self.names),
            "local": np.stack([pair.local for pair in pairs]),
            "remote": np.stack([pair.remote for pair in pairs]),
            "confidence": np.array([pair.confidence for pair in pairs], np.float32),
            "audited": np.array([pair.audited for pair in pairs]),
        }
        _replace(self.folder / _FILE, arrays)

    def _read(self) -> Iterable[_Pair]:
        path = self.folder / _FILE
        if not path.exists():
            return []
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return self._pairs_of({name: arrays[name] for name in arrays})
        except Exception as error:  # numpy and zipfile raise many kinds
            _log.warning("%s: cannot be continued, and is set aside as %s.old: %s", path, _FILE, error)
            _set_aside(path)
            return []

    def _pairs_of(self, arrays: dict[str, NDArray[Any]]) -> list[_Pair]:
        beside = {name: arrays.pop(name) for name in _BESIDE}
        names, y = beside.pop("names").tolist(), beside["y"]
        if names != list(self.names):
            raise ValueError(f"its classes are {names[:5]}, and not {list(self.names)[:5]}")
        local, remote = beside["local"], beside["remote"]
        sizes = {len(array) for array in (*beside.values(), *arrays.values())}
        if not arrays or len(sizes) > 1 or not local.shape == remote.shape == (len(y), len(names)):
            raise ValueError(f"its arrays do not fit together: {sorted(sizes)} entries")
        return [
            _pair(
                {name: np.array(array[i]) for name, array in arrays.items()},
                int(y[i]),
                np.array(local[i], np.float32),
                np.array(remote[i], np.float32),
                float(beside["confidence"][i]),
                bool(beside["audited"][i]),
            )
            for i in range(len(y))
        ]


def _pair(
    x: dict[str, NDArray[Any]],
    y: int,
    local: NDArray[Any],
    remote: NDArray[Any],
    confidence: float,
    audited: bool,
) -> _Pair:
    size = sum(array.nbytes for array in x.values()) + local.nbytes + remote.nbytes
    return _Pair(x, y, local, remote, confidence, audited, size)


def _drawn(probabilities: NDArray[np.float32], chance: float) -> int:
    """The class in which a number from 0 to 1 falls; none of probability 0."""
    rising = np.cumsum(probabilities, dtype=np.float64)
    return min(int(np.searchsorted(rising, chance * rising[-1], side="right")), len(rising) - 1)


def _replace(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _set_aside(path: Path) -> None:
    try:
        os.replace(path, path.with_name(path.name + ".old"))
    except OSError as error:
        _log.warning("%s: cannot be set aside: %s", path, error)
