"""Confidence functions of one's own: an ONNX file, or a torch function of the body's outputs."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx.inliner
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from edgecascade.export.graph import keep, load_model, open_model, opset, own_inputs, with_versions
from edgecascade.export.sources.torch_module import quiet
from edgecascade.export.task.confidence import SCORE_PREFIX, Confidence, Outputs, confidence_named
from edgecascade.export.task.operators import Operators
from edgecascade.types.errors import ExportError, ParityError, first_line
from edgecascade.types.extras import naming_extras

__all__ = ["OnnxConfidence", "TorchConfidence", "as_confidence"]

_TORCH_OPSET = 18  # the oldest that torch exports
_SAME = 1e-4  # of the largest score


@dataclass(frozen=True)
class OnnxConfidence:
    """An ONNX model whose inputs are outputs of a body, by name, and whose one output is the score float32 [batch].

    Attributes:
        model: the model.
        name: what the document calls it, such as the name of its file.
    """

    model: ModelProto
    name: str = "onnx"

    def graph(self, samples: Sequence[Outputs], opset: int) -> ModelProto:
        """Return the model, converted to the body's version of the operators."""
        return _checked(self.model, samples, opset, self.name)


@dataclass(frozen=True)
class TorchConfidence:
    """A torch function or module: its arguments have the names of a body's outputs, it returns the score [batch].

    Attributes:
        function: the function, or a `torch.nn.Module`.
    """

    function: Callable[..., Any]

    @property
    def name(self) -> str:
        """The name of the function, or of the module's class."""
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    def graph(self, samples: Sequence[Outputs], opset: int) -> ModelProto:
        """Return the function as torch exports it.

        Raises:
            ExportError: the arguments are no outputs of the body, or torch cannot export the function.
            ParityError: the exported function gives other scores.
            ModuleNotFoundError: the `torch` extra is not installed.
        """
        with naming_extras():
            import torch
        given = isinstance(self.function, torch.nn.Module)
        module: Any = self.function if given else _module(self.function)
        module.eval()
        names = list(inspect.signature(getattr(self.function, "forward", self.function)).parameters)
        missing = [name for name in names if name not in samples[0]]
        if missing or not names:
            raise ExportError(
                f"confidence: expected arguments of {self.name} named like outputs of the body "
                f"({', '.join(samples[0])}), got {', '.join(names) or 'none'}"
            )
        example = {name: torch.from_numpy(_example(samples, name)) for name in names}
        sides = tuple(dict.fromkeys(range(x.ndim), torch.export.Dim.AUTO) for x in example.values())
        try:
            with quiet("torch"):
                program = torch.onnx.export(
                    module,
                    tuple(example.values()),
                    dynamo=True,
                    verbose=False,
                    opset_version=max(opset, _TORCH_OPSET),
                    input_names=names,
                    output_names=["own_score"],
                    dynamic_shapes=sides if given else (sides,),
                )
        except ModuleNotFoundError:
            raise
        except Exception as error:  # torch's exporter raises whatever its passes raise
            cause = first_line(error.__cause__ or error)
            raise ExportError(f"confidence: torch cannot export {self.name}: {cause}; export it as ONNX") from error
        assert program is not None
        made = _checked(program.model_proto, samples, opset, self.name)
        _compare(made, module, {name: _example(samples, name) for name in names}, self.name)
        return made


def as_confidence(given: Any) -> Confidence:
    """Return what describes a confidence function as one.

    Args:
        given: a `Confidence`; text, as `confidence_named` takes it; the path of an ONNX file, or its content; or a
            torch function or module.

    Raises:
        ExportError: it is none of these, or the file cannot be read.
        ArgumentError: there is no confidence function of this name, or it has no such option.
    """
    if isinstance(given, os.PathLike) or (isinstance(given, str) and given.endswith(".onnx")):
        return OnnxConfidence(load_model(given), Path(given).name)
    if isinstance(given, str):
        return as_confidence(confidence_named(given))
    if isinstance(given, ModelProto):
        return OnnxConfidence(given)
    if hasattr(given, "graph") and hasattr(given, "name"):
        return cast(Confidence, given)
    if callable(given):
        return TorchConfidence(given)
    raise ExportError(f"confidence: expected a confidence function, got {type(given).__name__}")


def _module(function: Callable[..., Any]) -> Any:
    import torch

    class Function(torch.nn.Module):
        def forward(self, *outputs: Any) -> Any:
            return function(*outputs)

    return Function()


def _example(samples: Sequence[Outputs], name: str) -> NDArray[Any]:
    """Return an output with two rows or more, since torch takes a side of one for a constant."""
    largest = max((one[name] for one in samples), key=len)
    return np.ascontiguousarray(np.concatenate([largest, largest]) if len(largest) == 1 else largest)


def _compare(model: ModelProto, module: Any, example: Outputs, name: str) -> None:
    """Compare the graph with the torch function on other numbers than those of the export, and one row more."""
    import torch

    def other(array: NDArray[Any]) -> NDArray[Any]:
        more = np.concatenate([array, array[:1]])
        return (more * 0.75).astype(array.dtype) if array.dtype.kind == "f" else more

    changed = {key: other(array) for key, array in example.items()}
    try:
        with torch.no_grad():
            scores = module(*map(torch.from_numpy, changed.values())).numpy()
        (got,) = open_model(model).run(None, changed)
    except Exception as error:  # of torch, or of onnxruntime where a side became a constant
        raise ExportError(
            f"confidence: {name} fails for other inputs: {first_line(error)}; export it as ONNX"
        ) from error
    rows, wanted = max(map(len, changed.values())), np.ravel(scores)
    if wanted.size not in (1, rows):
        raise ExportError(
            f"confidence: expected one score for each input from {name}, got {list(scores.shape)} for {rows}"
        )
    if got.shape != wanted.shape:
        raise ParityError(
            f"confidence: torch exported {name} as a function that gives {list(got.shape)} where it gives "
            f"{list(wanted.shape)}; it may depend on values that become constants: export it as ONNX"
        )
    apart = ~np.isclose(got, wanted, 0, _SAME * max(1.0, np.abs(wanted).max()), True)
    if apart.any():
        row = int(apart.argmax())
        raise ParityError(
            f"confidence: torch exported {name} as a function that gives {got[row]:.9g} where it gives "
            f"{wanted[row]:.9g}; it may depend on values that become constants: export it as ONNX"
        )


def _checked(model: ModelProto, samples: Sequence[Outputs], version: int, name: str) -> ModelProto:
    """Return a model that gives a score [batch], float32, in operators of this version or a newer one.

    Raises:
        ExportError: its inputs are no outputs of the body, or it has not one output or other operators.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    if copy.functions:
        copy = onnx.inliner.inline_local_functions(copy)
    inputs = {one.name: one.type.tensor_type.elem_type for one in copy.graph.input if one.name in own_inputs(copy)}
    given = {key: helper.np_dtype_to_tensor_dtype(array.dtype) for key, array in samples[0].items()}
    if len(copy.graph.output) != 1 or not inputs or any(given.get(one) != kind for one, kind in inputs.items()):
        raise ExportError(
            f"confidence: expected inputs of {name} among the body's outputs, {_described(given)}, and one output, got "
            f"{_described(inputs)} and {', '.join(one.name for one in copy.graph.output)}"
        )
    foreign = sorted({node.domain for node in copy.graph.node} - {"", "ai.onnx"})
    if foreign or copy.graph.sparse_initializer:
        raise ExportError(
            f"confidence: expected standard ONNX operators in {name}, got {', '.join(foreign) or 'sparse weights'}"
        )
    keep(copy.opset_import, lambda one: one.domain in ("", "ai.onnx"))
    for part in (copy, copy.graph, *copy.graph.node, *copy.graph.input, *copy.graph.output):
        del part.metadata_props[:]  # torch leaves stack traces there, with paths of this machine
    copy = with_versions(copy, name, version)
    add = Operators(f"{SCORE_PREFIX}end/", opset(copy))
    score = add("Reshape", add("Cast", copy.graph.output[0].name, to=TensorProto.FLOAT), [-1])
    copy.graph.node.extend(add.nodes)
    copy.graph.initializer.extend(add.constants)
    copy.graph.output[0].CopyFrom(helper.make_tensor_value_info(score, TensorProto.FLOAT, ["batch"]))
    return copy


def _described(types: Mapping[str, int]) -> str:
    named = (f"{name} {TensorProto.DataType.Name(kind).lower()}" for name, kind in types.items())
    return ", ".join(named) or "none"
