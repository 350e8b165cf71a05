"""A torch module as an ONNX model with a dynamic batch, by torch's own exporter."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

from onnx import ModelProto

from edgecascade.export.errors import ExportError

__all__ = ["export_torch"]


def export_torch(module: Any, shape: Sequence[int], *, output: str = "logits") -> ModelProto:
    """Export a classifier from float32 `input` [batch, *shape] to `logits` [batch, classes].

    Args:
        module: a `torch.nn.Module`; it is put in eval mode.
        shape: of one input, without the batch axis.
        output: what to call the output.

    Raises:
        ExportError: not a module, or torch cannot export it.
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
    return model
