"""A torch module: found by name, and exported by torch's own exporter as an ONNX model with a dynamic batch."""

from __future__ import annotations

import inspect
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgecascade.export.graph import open_model
from edgecascade.types.errors import ExportError, ParityError, cut, first_line, no_file
from edgecascade.types.extras import naming_extras
from edgecascade.types.named import like

__all__ = ["export_torch", "load_torch_module", "quiet"]

_TRACED = 2  # a batch of one would be taken for a constant
_BATCH = 3  # so that the proof is on more than what was traced
_TOLERANCE = 1e-3  # of the largest output
_LONGEST = 300  # characters of torch's reasons


def export_torch(
    module: Any,
    inputs: Sequence[int] | Mapping[str, NDArray[Any]],
    *,
    output: str = "logits",
    outputs: Sequence[str] = (),
    sides: Sequence[str] = ("batch",),
) -> ModelProto:
    """Export a module as a body, and check that the graph gives what the module gives.

    A classifier gives one tensor of logits [batch, classes]. The body of a general task gives any number of tensors
    [batch, ...] of any shape, as a dict or in order.

    Args:
        module: a `torch.nn.Module`; it is put in eval mode.
        inputs: the shape of its only input, float32 and called `input`, without the batch axis; or real inputs
            [n, ...], three or more, by the names of its arguments.
        output: the name of a classifier's output.
        outputs: those of the body of a general task: the keys of the dict that the module returns, of which others are
            left out, or names for the tensors that it returns in order. Empty for a classifier.
        sides: names of the first sides of every input, which may have any length.

    Raises:
        ExportError: the argument is not a module, or torch cannot export it.
        ParityError: the graph gives other outputs than the module.
        ModuleNotFoundError: the `torch` extra is not installed.
    """
    with naming_extras():
        import torch

    if not isinstance(module, torch.nn.Module):
        raise ExportError(f"module: expected a torch.nn.Module, got {type(module).__name__}")
    module.eval()
    example = _example(module, inputs)
    shapes = ", ".join(str(list(array.shape[1:])) for array in example.values())
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in example.values()]
    wanted = _given(module, tensors, outputs)
    names = list(outputs or [output])
    firsts = tuple(dict(enumerate(map(torch.export.Dim, sides))) for _ in tensors)
    try:
        with quiet("torch"):
            program = torch.onnx.export(
                _in_order(module, outputs) if outputs else module,
                tuple(tensor[:_TRACED] for tensor in tensors),
                dynamo=True,
                verbose=False,
                input_names=list(example),
                output_names=names,
                dynamic_shapes=(firsts,) if outputs else firsts,
            )
    except ModuleNotFoundError:
        raise
    except Exception as error:  # torch's exporter raises whatever its passes raise
        cause = error.__cause__ or error
        raise ExportError(f"module: torch cannot export it for inputs {shapes}: {first_line(cause)}") from error
    assert program is not None
    model = program.model_proto
    for part in (model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]  # torch leaves stack traces there, with paths of this machine
    for name, first, got in zip(names, wanted, open_model(model).run(names, dict(example)), strict=True):
        if not _same(first, got):
            raise ParityError(
                f"parity with the module failed: torch gives {_start(first)} and the exported graph {_start(got)} in "
                f"{name!r}; nothing was written"
            )
    return model


def _start(array: NDArray[Any]) -> str:
    return f"{', '.join(f'{one:.6g}' for one in array.flat[:1])}, ... {list(array.shape)}"


def _in_order(module: Any, outputs: Sequence[str]) -> Any:
    """Return a module that gives the named tensors of another in order."""
    import torch

    class InOrder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *inputs: Any) -> Any:
            return tuple(_parts(self.module(*inputs), outputs))

    return InOrder().eval()


def _parts(given: Any, outputs: Sequence[str]) -> list[Any]:
    """Return the tensors that a module gives, those of the names where it gives a dict."""
    if isinstance(given, Mapping):
        return [given[name] for name in outputs]
    return list(given) if isinstance(given, (tuple, list)) else [given]


def _given(module: Any, tensors: Sequence[Any], outputs: Sequence[str]) -> list[NDArray[Any]]:
    """Return what a module gives, if that is what a body gives, and the same in a second call."""
    import torch

    with torch.no_grad():
        try:
            first = module(*tensors)
            second = module(*tensors)
        except Exception as error:  # whatever the module raises
            shapes = ", ".join(str(list(tensor.shape[1:])) for tensor in tensors)
            raise ExportError(f"module: it fails for inputs {shapes}: {first_line(error)}") from error
    if outputs:
        _check_named(first, outputs, len(tensors[0]))
    elif not isinstance(first, torch.Tensor):
        raise _no_logits(first)
    arrays, again = ([np.asarray(one.numpy()) for one in _parts(given, outputs)] for given in (first, second))
    if not all(map(_same, arrays, again)):
        raise ExportError(
            f"module: expected the same {'outputs' if outputs else 'logits'} for the same inputs, got others in a "
            "second call: it carries a state or draws random numbers; a cascade answers each input alone"
        )
    if not outputs and again[0].ndim not in (1, 2):
        raise _no_logits(first)
    return again


def _no_logits(given: Any) -> ExportError:
    return ExportError(
        f"module: expected one tensor of logits [n, classes] from it, got {_described(given)}; wrap it in a module "
        "that returns the logits only, without a state or features beside them; for a general task, name what it gives "
        "with `outputs` (--outputs)"
    )


def _same(wanted: NDArray[Any], got: NDArray[Any]) -> bool:
    tolerance = _TOLERANCE * max(1.0, float(np.abs(wanted).max(initial=0)))
    return got.shape == wanted.shape and np.allclose(got, wanted, 0, tolerance, True)


def _check_named(given: Any, outputs: Sequence[str], n: int) -> None:
    """Check that a module gives a tensor for each input [n, ...] under each name.

    Raises:
        ExportError: it does not.
    """
    import torch

    if repeated := [name for name in outputs if outputs.count(name) > 1 or not name]:
        raise ExportError(f"outputs: expected a name of its own for each output, got {repeated[0]!r}")
    if isinstance(given, Mapping):
        if missing := [name for name in outputs if name not in given]:
            raise ExportError(f"outputs: expected among {', '.join(map(str, given))}, which it gives, got {missing[0]}")
    elif len(_parts(given, outputs)) != len(outputs):
        raise ExportError(
            f"outputs: expected {len(_parts(given, outputs))}, a name for each of what it gives, got {len(outputs)}: "
            f"{', '.join(outputs)}"
        )
    for name, one in zip(outputs, _parts(given, outputs), strict=True):
        if not isinstance(one, torch.Tensor) or one.shape[:1] != (n,):
            raise ExportError(f"module: expected a tensor [n, ...] for {n} inputs in {name!r}, got {_described(one)}")


def _described(given: Any) -> str:
    """Return the kind of what a module gives, and its parts or its shape."""
    shape = getattr(given, "shape", None)
    parts = f" of {', '.join(map(str, given))}" if isinstance(given, Mapping) else ""
    return f"a {type(given).__name__}{parts}" if shape is None else f"a {type(given).__name__} {list(shape)}"


def load_torch_module(source: str, weights: str | os.PathLike[str] | None = None) -> Any:
    """Import a torch module, or call the function that makes one.

    Args:
        source: `FILE.py:NAME` or `PACKAGE.MODULE:NAME`; of a module, or of a function without arguments.
        weights: a state dict for it (.pt), which is loaded with `weights_only`.

    Raises:
        ExportError: there is no such module, or the weights do not fit.
        ModuleNotFoundError: the `torch` extra is not installed.
    """
    where, _, name = source.rpartition(":")
    if not where:
        raise ExportError(f"source: expected an ONNX file, FILE.py:NAME, a folder or hf:NAME, got {source!r}")
    path = Path(where)
    if path.suffix == ".py" and not path.is_file():
        raise ExportError(f"source: {no_file(path)}")
    import torch

    folder, module_name = (path.parent, path.stem) if path.suffix == ".py" else (Path(), where)
    sys.path.insert(0, str(folder.resolve()))
    try:
        file = _imported(path) if path.suffix == ".py" else import_module(module_name)
        if not hasattr(file, name):
            raise ExportError(f"source: cannot find {name!r} in {where}{like(name, vars(file))}")
        found = getattr(file, name)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ExportError(f"source: cannot find {name!r} in {where}: {error}") from error
    finally:
        sys.path.pop(0)
    if not isinstance(found, torch.nn.Module):
        try:
            inspect.signature(found).bind()
        except (TypeError, ValueError) as error:
            raise ExportError(f"source: expected a module, or a function without arguments: {error}") from error
        found = found()
    if weights is not None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found.load_state_dict(_state_dict(torch.load(weights, map_location="cpu", weights_only=True)))
        except OSError:
            raise
        except Exception as error:  # torch and pickle each raise their own
            raise ExportError(f"--weights: {weights} is not a state dict for this module: {_misfit(error)}") from error
    return found


def _state_dict(loaded: Any) -> Any:
    """Return the state dict in what was saved, and refuse a checkpoint that holds it beside other things.

    Raises:
        TypeError: it is no state dict.
    """
    if not isinstance(loaded, Mapping):
        raise TypeError(f"it holds a {type(loaded).__name__}; save module.state_dict() instead")
    inner = [name for name, value in loaded.items() if isinstance(value, Mapping)]
    if inner:
        raise TypeError(f"it is a checkpoint with {', '.join(map(str, loaded))}; save its {inner[0]!r} alone")
    return loaded


def _misfit(error: Exception) -> str:
    """Return torch's reasons in one line, without its heading; they begin in the second line."""
    if "weights_only" in str(error) or "Weights only" in str(error):
        return "it holds Python objects, which are not loaded; save module.state_dict() instead"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reasons = lines[1:] or lines or [type(error).__name__]
    text = " ".join(reasons)
    cure = "; its names begin with `module.`, which DataParallel adds: save model.module.state_dict()"
    return cut(text, _LONGEST) + (cure if '"module.' in text else "")


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Silence some loggers, those below them, and warnings: exporters report and print their own internals.

    What they print goes nowhere, too; their exceptions tell why they failed.
    """
    known = {*loggers, *logging.Logger.manager.loggerDict}
    silenced = [name for name in known if any(f"{name}.".startswith(f"{one}.") for one in loggers)]
    levels = {name: logging.getLogger(name).level for name in silenced}
    try:
        for name in silenced:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _imported(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _example(module: Any, inputs: Sequence[int] | Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return inputs by name, in the order of the module's arguments; noise where only a shape is known."""
    if not isinstance(inputs, Mapping):
        return {"input": np.random.default_rng(0).standard_normal((_BATCH, *inputs)).astype(np.float32)}
    arguments = list(inspect.signature(module.forward).parameters)[: len(inputs)]
    if set(arguments) != inputs.keys():
        raise ExportError(f"inputs: expected arrays called {', '.join(arguments)}, got {', '.join(inputs) or 'none'}")
    for name in arguments:
        if inputs[name].ndim == 0 or len(inputs[name]) < _BATCH or len(inputs[name]) != len(inputs[arguments[0]]):
            raise ExportError(
                f"inputs: expected {_BATCH} inputs or more, as many in every array, got {list(inputs[name].shape)} in "
                f"{name!r}"
            )
    return {name: inputs[name] for name in arguments}
