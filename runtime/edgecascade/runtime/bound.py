"""A cascade model run on one input at a time through output buffers that are made once and bound to the session."""

from __future__ import annotations

import math
import struct
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from edgecascade.runtime.model_inputs import check_input, numpy_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Bound"]

# label, confidence, advantage and forward lie side by side in one buffer, so that one call reads them all.
_NUMBERS = struct.Struct("=qff?")
_OFFSETS = {"label": (0, np.int64), "confidence": (8, np.float32), "advantage": (12, np.float32), "forward": (16, bool)}
_KEPT = 16  # sets of buffers that are kept for reuse: more threads at once make new ones
_COPIED = 1 << 15  # bytes: up to here, copying an input costs less than binding it


class Bound:
    """Safe to share between threads: each call takes a set of buffers that no other call has.

    Against `session.run` this saves the allocation of five outputs and the search for names: a third of a run of a
    very small model.

    Args:
        session: onnxruntime's, of a cascade model with one input.
        declared: that input, as the session declares it.
        classes: how many the probabilities are.
        overrides: arrays by name in place of the file's defaults.
    """

    def __init__(self, session: Any, declared: Any, classes: int, overrides: Mapping[str, NDArray[np.float32]]) -> None:
        self._session, self._declared, self._classes, self._overrides = session, declared, classes, overrides
        self._dtype = numpy_dtype(declared.type)
        self._options = ort.RunOptions()  # None would make one for each run, which costs a microsecond
        self._idle: deque[_Buffers] = deque(maxlen=_KEPT)

    def __call__(self, x: NDArray[Any]) -> tuple[int, float, float, bool, NDArray[np.float32]]:
        """Label, confidence, advantage, forward and probabilities [classes] of one input, without the batch axis.

        The advantage is NaN where the confidence is, whatever the file says of it.

        Raises:
            InputError: `x` is not what the file declares.
            Exception: whatever else onnxruntime raises.
        """
        try:
            buffers = self._idle.pop()
        except IndexError:
            buffers = _Buffers(self._session, self._classes, self._overrides)
        if x.shape == buffers.shape and x.dtype == self._dtype:
            buffers.input[...] = x
        else:
            check_input("x", x[None], self._declared)
            buffers.take(self._declared.name, x)
        buffers.run(buffers.binding, self._options)
        label, confidence, advantage, forward = _NUMBERS.unpack_from(buffers.numbers)
        probabilities = buffers.probabilities.copy()
        self._idle.append(buffers)
        if confidence != confidence:
            advantage = math.nan
        return label, confidence, advantage, forward, probabilities


class _Buffers:
    __slots__ = ("binding", "input", "kept", "numbers", "probabilities", "run", "shape")

    def __init__(self, session: Any, classes: int, overrides: Mapping[str, NDArray[np.float32]]) -> None:
        self.numbers = bytearray(_NUMBERS.size)
        numbers = np.frombuffer(self.numbers, np.uint8)
        rows = np.zeros((1, classes), np.float32)
        binding = session.io_binding()
        outputs = {name: numbers[at : at + np.dtype(kind).itemsize].view(kind) for name, (at, kind) in _OFFSETS.items()}
        values = {
            name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in (*outputs.items(), ("probabilities", rows))
        }
        for name, value in values.items():
            binding.bind_ortvalue_output(name, value)
        for name, array in overrides.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
        self.kept = (binding, values, overrides)  # the session reads and writes their memory
        self.probabilities = rows[0]
        # onnxruntime's own Python layer around these costs a microsecond
        self.binding, self.run = binding._iobinding, session._sess.run_with_iobinding
        self.shape: tuple[int, ...] | None = None
        self.input: NDArray[Any] = rows

    def take(self, name: str, x: NDArray[Any]) -> None:
        """Bind an input, or a buffer that holds it and the next ones of its shape."""
        small = x.nbytes <= _COPIED
        batch = np.array(x[None], order="C", copy=True) if small else np.ascontiguousarray(x[None])
        self.binding.bind_input(name, batch)
        self.input, self.shape = batch[0], x.shape if small else None
