"""The inputs that a model declares, and the check that an input fits them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from edgecascade.runtime.batch import Batch, are_sentences, as_batch, rows, size
from edgecascade.runtime.engine import Declared, Engine, fixed_batch, numpy_dtype, read_properties
from edgecascade.types.errors import InputError, ModelFileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgecascade.runtime.text import TextInput

__all__ = ["ModelInputs", "as_declared", "listed", "model_inputs"]


class ModelInputs(NamedTuple):
    """The inputs that a model takes.

    Attributes:
        declared: its inputs, without those that have a default.
        text: encodes sentences as these inputs; None if the model does not take text.
    """

    declared: tuple[Declared, ...]
    text: TextInput | None = None

    @property
    def batch(self) -> int | None:
        """Number of inputs that the file takes at once, or None for any number."""
        return fixed_batch(self.declared)

    @property
    def images(self) -> bool:
        """Whether it takes RGB pixels, so that image files can be read for it."""
        if len(self.declared) != 1 or self.declared[0].type != "tensor(uint8)":
            return False
        shape = self.declared[0].shape
        return len(shape) == 4 and shape[3] == 3

    def read(self, x: Any) -> tuple[Any, bytes | None]:
        """Return one input as `feeds` takes it, and the encoded bytes if it is an image's bytes or path.

        A row of bytes (`bytes`, `bytearray`, `memoryview`) is an image file; a memoryview of three axes is pixels. A
        PIL image gives the same pixels as its file.

        Raises:
            InputError: an image cannot be read.
            ModuleNotFoundError: the `images` extra (Pillow) is not installed.
        """
        if not self.images or isinstance(x, (np.ndarray, Mapping, list, tuple)):
            return x, None
        from edgecascade.runtime.inputs import read_bytes, read_image  # needed for images only

        if isinstance(x, (bytearray, memoryview)) and memoryview(x).ndim == 1:
            x = bytes(x)
        if isinstance(x, (str, bytes, os.PathLike)):
            encoded = x if isinstance(x, bytes) else read_bytes(x)
            return read_image(encoded), encoded
        if hasattr(x, "convert"):  # a PIL image
            return read_image(x), None
        return x, None

    def read_batch(self, x: Any) -> tuple[Batch | list[NDArray[Any]], list[bytes | None] | None]:
        """Return inputs as arrays [n, ...], or images of several sizes as a list; and the encoded bytes as `read` does.

        Args:
            x: an array-like, or several by name; for a model of images also a list of what `read` takes; a table or a
                tensor, as `Cascade.decide` takes it.

        Raises:
            InputError: `x` is no such thing, or an image cannot be read.
            ModuleNotFoundError: the `images` extra (Pillow) is not installed.
        """
        if not isinstance(x, (np.ndarray, list, tuple, Mapping)):
            from edgecascade.runtime.tables import as_inputs  # needed for tables and tensors only

            x = as_inputs(self, x)
            if not isinstance(x, Mapping) and np.ndim(x) == 0:
                what = "a list of images or an array" if self.images else "an array"
                raise InputError(f"x: expected {what} [n, ...], got {type(x).__name__}")
        if not self.images or isinstance(x, Mapping) or (isinstance(x, np.ndarray) and x.dtype != object):
            batch = as_batch("x", x)
            arrays = () if isinstance(batch, list) else batch.values() if isinstance(batch, Mapping) else (batch,)
            lengths = {one.shape[:1] for one in arrays}
            if not isinstance(batch, list) and (len(lengths) != 1 or () in lengths):
                self.feeds("x", batch)  # which says what is wrong
            return batch, None
        if not isinstance(x, (list, tuple, np.ndarray)) or (isinstance(x, np.ndarray) and x.ndim != 1):
            raise InputError(f"x: expected a list of images or an array [n, ...], got {type(x).__name__}")
        pixels, files = [], []
        for i, one in enumerate(x):
            try:
                image, file = self.read(one)
            except InputError as error:
                raise InputError(f"x[{i}]: {str(error).removeprefix('x: ')}") from error
            pixels.append(image)
            files.append(file)
        return as_batch("x", pixels), files

    def feeds(self, argument: str, batch: Batch) -> dict[str, NDArray[Any]]:
        """Return the arrays by input name, checked.

        Args:
            argument: name of the batch in an error message.
            batch: inputs [n, ...]; by name if the model has several; or sentences [n], if it takes text.

        Raises:
            InputError: the batch does not fit.
        """
        if self.text is not None and are_sentences(batch):
            batch = self.text.encode(cast("NDArray[Any]", batch).tolist())
        if not isinstance(batch, Mapping):
            if len(self.declared) != 1:
                text = "" if self.text is None else "sentences (str), or "
                got = f"{batch.dtype} {list(batch.shape)}"
                raise InputError(f"{argument}: expected {text}one array for each of {self}, got one array, {got}")
            return {self.declared[0].name: as_declared(argument, batch, self.declared[0])}
        if batch.keys() != {one.name for one in self.declared}:
            raise InputError(f"{argument}: expected one array for each of {self}, got {', '.join(batch) or 'no array'}")
        feeds = {one.name: as_declared(f"{argument}[{one.name!r}]", batch[one.name], one) for one in self.declared}
        if len({len(array) for array in feeds.values()}) != 1:
            counts = ", ".join(f"{len(array)} in {name}" for name, array in feeds.items())
            raise InputError(f"{argument}: expected as many inputs in every array, got {counts}")
        return feeds

    def parts(self, argument: str, batch: Batch) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield the arrays by input name, checked: all inputs at once, or single sentences if the file takes one.

        Sentences that are encoded together are padded, which may change the answers of such a file. Arguments and
        errors are as in `feeds`.
        """
        if isinstance(batch, np.ndarray) and batch.shape == (0,):  # of an empty list, whatever it would hold
            return
        singly = self.text is not None and self.batch == 1 and are_sentences(batch)
        for part in (rows(batch, [i]) for i in range(size(batch))) if singly else (batch,):
            yield self.feeds(argument, part)

    def __str__(self) -> str:
        return f"sentences ({self.text.name})" if self.text is not None else listed(self.declared)


def listed(declared: Sequence[Declared]) -> str:
    """Return name, type and shape of every input or output."""
    return ", ".join(
        f"{one.name}: {numpy_dtype(one.type)} [{', '.join(str(side) for side in one.shape)}]" for one in declared
    )


def model_inputs(session: Engine, path: str | os.PathLike[str]) -> ModelInputs:
    """Return the inputs that a caller must give.

    Raises:
        ModelFileError: the file has no input, or its names or its tokenizer are damaged.
    """
    try:
        found = session.get_inputs()  # onnxruntime's objects would keep the session in memory
        declared = tuple(Declared(one.name, one.type, one.shape) for one in found)
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{path}: the names of its inputs are damaged: {error}") from error
    if not declared:
        raise ModelFileError(f"{path}: expected a model with an input, got one with none")
    from edgecascade.types.document import PREPROCESSING_KEY  # needed to load a file, not to import the runtime

    if '"text"' not in read_properties(session, path).get(PREPROCESSING_KEY, ""):
        return ModelInputs(declared)
    from edgecascade.runtime.text import text_input  # hashes and a tokenizer, 4 MB, needed for text only

    return ModelInputs(declared, text_input(session, path))


def as_declared(argument: str, x: NDArray[Any], declared: Declared) -> NDArray[Any]:
    """Return a batch in the type of a declared input, after a check of its shape.

    Floating numbers are rounded to another floating type; whole numbers are cast where they fit, and strings to
    objects. Whole numbers do not become floating ones: nothing says whether a model takes pixels from 0 to 255 or from
    0 to 1.

    Raises:
        InputError: the shape differs, a side is 0, or the numbers are of another kind or out of range.
    """
    dtype, shape = numpy_dtype(declared.type), declared.shape
    alike = x.dtype.kind == dtype.kind or (x.dtype.kind + dtype.kind) in ("iu", "ui", "UO")
    fits = len(x.shape) == len(shape) and all(
        have == want for have, want in zip(x.shape[1:], shape[1:], strict=True) if isinstance(want, int)
    )
    if not alike or not fits:
        expected = ", ".join(str(side) for side in shape[1:])
        raise InputError(f"{argument}: expected {dtype} [{expected}] per input, got {x.dtype} {list(x.shape[1:])}")
    if 0 in x.shape[1:]:
        raise InputError(f"{argument}: expected at least one number in every input, got {list(x.shape[1:])}")
    if x.dtype == dtype:
        return x
    with np.errstate(over="ignore"):
        cast = x.astype(dtype)
    lost = (np.isinf(cast) & np.isfinite(x)) if dtype.kind == "f" else (cast != x)
    if lost.any():
        raise InputError(f"{argument}: expected numbers that fit {dtype}, got {x[lost][0]}")
    return cast
