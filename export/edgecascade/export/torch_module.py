"""A torch module as an ONNX model with a dynamic batch, by torch's own exporter."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgecascade.runtime.engine import open_session
from edgecascade.types.errors import ExportError, ParityError, first_line

__all__ = ["export_torch"]

_TRACED = 2  # a batch of one would be taken for a constant
_BATCH = 3  # and the proof is on more than what was traced
_TOLERANCE = 1e-3  # of the largest output


def export_torch(
    module: Any, inputs: Sequence[int] | Mapping[str, NDArray[Any]], *, output: str = "logits"
) -> ModelProto:
    """Export a classifier to `logits` [batch, classes], and prove that the graph gives what the module gives.

    Args:
        module: a `torch.nn.Module`; it is put in eval mode.
        inputs: the shape of its one float32 `input`, without the batch axis; or real inputs [n, ...], three or more,
            by the names of its arguments.
        output: what to call the output.

    Raises:
        ExportError: not a module, or torch cannot export it.
        ParityError: the graph gives other outputs than the module.
    """
    import torch

    if not isinstance(module, torch.nn.Module):
        raise ExportError(f"module: expected a torch.nn.Module, got {type(module).__name__}")
    module.eval()
    example = _example(module, inputs)
    shapes = ", ".join(str(list(array.shape[1:])) for array in example.values())
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in example.values()]
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # else it reports on a torchvision nobody asked for
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                tuple(tensor[:_TRACED] for tensor in tensors),
                dynamo=True,
                verbose=False,
                input_names=list(example),
                output_names=[output],
                dynamic_shapes=tuple({0: torch.export.Dim("batch")} for _ in tensors),
            )
    except Exception as error:  # torch's exporter raises whatever its passes raise
        cause = error.__cause__ or error
        raise ExportError(f"module: torch cannot export it for inputs {shapes}: {first_line(cause)}") from error
    finally:
        logger.setLevel(level)
    assert program is not None
    model = program.model_proto
    for part in (model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]  # torch leaves stack traces there, with paths of this machine
    with torch.no_grad():
        _prove(module(*tensors).numpy(), model, example)
    return model


def _example(module: Any, inputs: Sequence[int] | Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Inputs by name, in the order of the module's arguments; noise where only a shape is known."""
    if not isinstance(inputs, Mapping):
        return {"input": np.random.default_rng(0).standard_normal((_BATCH, *inputs)).astype(np.float32)}
    arguments = list(inspect.signature(module.forward).parameters)[: len(inputs)]
    if set(arguments) != inputs.keys():
        raise ExportError(f"inputs: expected arrays called {', '.join(arguments)}, got {', '.join(inputs) or 'none'}")
    for name in arguments:
        if inputs[name].ndim == 0 or len(inputs[name]) < _BATCH or len(inputs[name]) != len(inputs[arguments[0]]):
            raise ExportError(
                f"inputs: expected at least {_BATCH} in every array, and as many in all, "
                f"got {list(inputs[name].shape)} in {name!r}"
            )
    return {name: inputs[name] for name in arguments}


def _prove(wanted: NDArray[Any], model: ModelProto, example: Mapping[str, NDArray[Any]]) -> None:
    (got,) = open_session(model.SerializeToString()).run(None, dict(example))
    if got.shape != wanted.shape or not np.allclose(got, wanted, 0, _TOLERANCE * max(1.0, np.abs(wanted).max()), True):
        raise ParityError(
            f"parity with the module failed: torch gives {wanted.flat[0]:.6g}, ... {list(wanted.shape)} and the "
            f"exported graph {got.flat[0]:.6g}, ... {list(got.shape)}; nothing was written"
        )
