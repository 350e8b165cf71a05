"""A torch module as an ONNX model with a dynamic batch, by torch's own exporter."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto

from edgecascade.export.errors import ExportError, ParityError
from edgecascade.runtime.session import open_session

__all__ = ["export_torch"]

_BATCH = 3  # not the batch it was traced with
_TOLERANCE = 1e-3  # of the largest output


def export_torch(module: Any, shape: Sequence[int], *, output: str = "logits") -> ModelProto:
    """Export a classifier from float32 `input` [batch, *shape] to `logits` [batch, classes].

    Args:
        module: a `torch.nn.Module`; it is put in eval mode.
        shape: of one input, without the batch axis.
        output: what to call the output.

    Raises:
        ExportError: not a module, or torch cannot export it.
        ParityError: the graph gives other outputs than the module.
    """
    import torch

    if not isinstance(module, torch.nn.Module):
        raise ExportError(f"module: expected a torch.nn.Module, got {type(module).__name__}")
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # else it reports on a torchvision nobody asked for
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(),
                (torch.zeros(2, *shape),),  # a batch of one would be taken for a constant
                dynamo=True,
                verbose=False,
                input_names=["input"],
                output_names=[output],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
    except Exception as error:  # torch's exporter raises whatever its passes raise
        cause = error.__cause__ or error
        first = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        raise ExportError(f"module: torch cannot export it for inputs {list(shape)}: {first}") from error
    finally:
        logger.setLevel(level)
    assert program is not None
    model = program.model_proto
    for part in (model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]  # torch leaves stack traces there, with paths of this machine
    _prove(module, model, shape)
    return model


def _prove(module: Any, model: ModelProto, shape: Sequence[int]) -> None:
    """The graph gives what the module gives, on noise."""
    import torch

    inputs = torch.randn(_BATCH, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = module(inputs).numpy()
    (got,) = open_session(model.SerializeToString()).run(None, {"input": inputs.numpy()})
    if got.shape != wanted.shape or not np.allclose(got, wanted, 0, _TOLERANCE * max(1.0, np.abs(wanted).max()), True):
        raise ParityError(
            f"parity with the module failed: for noise {list(shape)} torch gives {wanted.flat[0]:.6g}, ... "
            f"{list(wanted.shape)} and the exported graph {got.flat[0]:.6g}, ... {list(got.shape)}"
        )
