"""Images kept as the bytes they came in, and decoded when they are asked for: a data set larger than memory allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.files import read_image
from edgecascade.types.errors import ExportError, InputError

__all__ = ["EncodedImages"]


class EncodedImages(Sequence[NDArray[np.uint8]]):
    """A sequence of images uint8 RGB [height, width, 3], each decoded anew whenever it is looked at.

    Args:
        column: a pyarrow column of binary values, one image file each.
        where: the file that they are from, for a refusal.
        start: which row of that file the first one is.
    """

    def __init__(self, column: Any, where: str, start: int = 0) -> None:
        self._column, self._where, self._start = column, where, start

    def __len__(self) -> int:
        """How many images."""
        return len(self._column)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, index: slice) -> EncodedImages: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.uint8] | EncodedImages:
        """One image's pixels; or consecutive images, still encoded.

        Raises:
            ExportError: the bytes are no readable image.
        """
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                raise ExportError(f"images: expected a slice of consecutive ones, got a step of {step}")
            return EncodedImages(self._column.slice(start, max(0, stop - start)), self._where, self._start + start)
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        try:
            return read_image(self._column[index].as_py())
        except InputError as error:
            said = str(error).removeprefix("x: ")
            raise ExportError(f"{self._where}: row {self._start + index}: {said}") from error

    def encoded(self) -> Iterator[bytes]:
        """One image file's bytes after the other."""
        for chunk in self._column.chunks:
            for value in chunk:
                yield value.as_py()
