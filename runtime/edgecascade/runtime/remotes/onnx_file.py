"""An ONNX file as a remote in this process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecascade.runtime.batch import Batch, rows, size
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.engine import open_session, read_properties, run_in_batches, score_output
from edgecascade.runtime.model_inputs import model_inputs
from edgecascade.runtime.outputs import by_input, lacks_batch, share_batch
from edgecascade.runtime.recipe import Remade
from edgecascade.runtime.remotes.remote import Replied
from edgecascade.types.class_names import names_in
from edgecascade.types.document import AskedChat
from edgecascade.types.errors import ArgumentError, InvalidReply, ModelFileError

__all__ = ["OnnxFile"]


class OnnxFile(Remade):
    """A model in this process that runs on ONNX Runtime.

    Args:
        path: the file.
        threads: the engine's threads within one operator.
        output: the output that holds the logits, if it is not evident.

    Raises:
        ModelFileError: the file is missing, or has no output of this name.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 1, output: str | None = None) -> None:
        self._path, self._session = path, open_session(path, threads=threads)
        self._inputs = model_inputs(self._session, path)
        self._outputs = {one.name: one for one in self._session.get_outputs()}
        if output is not None and output not in self._outputs:
            raise ModelFileError(f"{path}: expected an output {output!r}, got {', '.join(self._outputs)}")
        self._output = output
        self._names: tuple[str, ...] | None = None  # of the outputs for a general task
        self.class_names = names_in(read_properties(self._session, path))

    def expect(self, labels: Sequence[str]) -> None:  # noqa: ARG002
        """Find the output with the logits.

        Raises:
            ModelFileError: there is none, or several may be it.
        """
        self._logits()

    def expect_asked(self, asked: AskedChat) -> None:  # noqa: ARG002
        """Refuse a cascade that was calibrated with a generative model.

        Raises:
            ArgumentError: always; its scores would be read as that model's probabilities.
        """
        raise ArgumentError(
            f"remote: expected a generative model, as in calibration, got an ONNX file, {self._path}; recalibrate"
        )

    def expect_outputs(self, names: Sequence[str]) -> None:
        """Answer with these outputs from now on, or with all.

        Raises:
            ArgumentError: the file lacks one, or it is no array.
        """
        tensors = [name for name, one in self._outputs.items() if one.type.startswith("tensor(")]
        missing = [name for name in names if name not in tensors]
        if missing or not tensors:
            raise ArgumentError(
                f"remote: expected the outputs {', '.join(names) or 'as arrays'} in {self._path}, got "
                f"{', '.join(tensors) or 'none'}"
            )
        self._names = tuple(names) or tuple(tensors)

    def infer(self, inputs: Batch, deadline: Deadline) -> Replied:  # noqa: ARG002
        """Return logits [n, classes] of inputs [n, ...], or the outputs that were asked for, of each input.

        Raises:
            InputError: the inputs do not fit.
            ModelFileError: it is not evident which output holds the logits.
        """
        if self._names is not None:
            return self._named(inputs, self._names)
        logits = self._logits()
        parts = self._inputs.parts("remote input", inputs)
        return np.concatenate([run_in_batches(self._session, [logits], feeds)[0] for feeds in parts])

    def close(self) -> None:
        """Do nothing."""

    def _logits(self) -> str:
        if self._output is None:
            try:
                self._output = score_output(self._session, self._path)
            except ModelFileError as error:
                raise ModelFileError(f"{error}; name it with `output` (--remote-output)") from error
        return self._output

    def _named(self, inputs: Batch, names: Sequence[str]) -> list[dict[str, NDArray[Any]]]:
        together = share_batch(self._inputs.declared, [self._outputs[name] for name in names])
        step = self._inputs.batch or (None if together else 1)
        unbatched = {name for name in names if lacks_batch(self._inputs.declared, self._outputs[name])}
        found: list[dict[str, NDArray[Any]]] = []
        for feeds in self._inputs.parts("remote input", inputs):
            n = size(feeds)
            for start in range(0, n, step or n):
                places = np.minimum(np.arange(start, start + (step or n)), n - 1)  # the last batch is filled up
                arrays = self._session.run(list(names), rows(feeds, places))
                try:
                    found += by_input(dict(zip(names, arrays, strict=True)), len(places), unbatched)[: n - start]
                except ValueError as error:
                    raise InvalidReply(f"remote: {error}") from error
        return found
