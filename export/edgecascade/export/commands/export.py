"""`edgecascade export`: from a torch module or an ONNX file to the body of a cascade model."""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgecascade.calibration import paired_difference_interval, proportion
from edgecascade.calibration.commands.arguments import share
from edgecascade.export.graph import load_model, save_model
from edgecascade.export.hugging_face import TASKS, TOKENIZER, export_hugging_face
from edgecascade.export.labelled import LabelledData, batches, read_labelled
from edgecascade.export.logits import find_logits, logits_of, settle
from edgecascade.export.preprocess import prepend, standalone
from edgecascade.export.quantize import quantize_int8, quantize_int8_dynamic, to_float16
from edgecascade.export.scores import tensor_scores
from edgecascade.export.torch_module import export_torch
from edgecascade.runtime.engine import open_session
from edgecascade.runtime.files import read_arrays
from edgecascade.runtime.model_inputs import model_inputs
from edgecascade.types.document import ImagePreprocessing
from edgecascade.types.errors import ExportError, first_line

__all__ = ["configure", "execute"]

_HUB = "hf:"
_MAX_LOSS = 0.02


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "examples:\n"
        "  edgecascade export mymodels.py:small_net --shape 3,96,96 -o small.onnx\n"
        "  edgecascade export small.onnx --image-size 96x96 --mean 127,127,127 --std 128,128,128 \\\n"
        "      --int8 unlabelled-use.npz -o body.onnx\n\n"
        "With --image-size the file takes camera pixels, uint8 RGB [batch, height, width, 3] of any size: resizing\n"
        "and normalising become part of the graph. With --int8 the body is quantized first, on real inputs."
    )
    parser.add_argument(
        "source",
        help="an ONNX file; FILE.py:NAME of a torch module or of a function that makes one; a folder with a Hugging "
        "Face model, or hf:NAME of one on the hub",
    )
    parser.add_argument("-o", "--out", required=True, help="the ONNX file to write")
    parser.add_argument(
        "--task", choices=sorted(TASKS.values()), help="of a Hugging Face model, if its class does not tell"
    )
    parser.add_argument("--shape", type=_integers, help="of one input of a torch module, such as 3,96,96")
    parser.add_argument(
        "--example",
        metavar="NPZ",
        help="real inputs for a torch module, one array [n, ...] under the name of each of its arguments; instead of "
        "--shape, and needed where it takes several or other than float32",
    )
    parser.add_argument("--weights", help="state dict for the torch module (.pt; loaded with weights_only)")
    parser.add_argument("--image-size", type=_size, metavar="HxW", help="put image preprocessing into the graph")
    parser.add_argument("--mean", type=_floats, default=(0.0,) * 3, help="per channel, in 0..255 (default 0,0,0)")
    parser.add_argument("--std", type=_floats, default=(255.0,) * 3, help="per channel (default 255,255,255)")
    parser.add_argument("--interpolation", choices=("linear", "cubic"), default="linear")
    bits = parser.add_mutually_exclusive_group()
    bits.add_argument(
        "--int8", metavar="DATA", help="quantize the body on these inputs (npz with x and y, or class folders)"
    )
    parser.add_argument(
        "--int8-loss",
        type=share,
        default=_MAX_LOSS,
        metavar="SHARE",
        help="accuracy that --int8 may cost on its inputs: refused if the whole 95 %% interval of the loss is above it "
        "(default 0.02; 1 allows any loss)",
    )
    bits.add_argument("--int8-dynamic", action="store_true", help="int8 weights, for transformers on CPUs")
    bits.add_argument("--float16", action="store_true", help="half precision, for GPUs")


def execute(arguments: Namespace) -> int:
    """Export, quantize, put preprocessing in front, write."""
    model, tokenizer = _load(arguments)
    find_logits(model)
    if not arguments.image_size and (arguments.mean, arguments.std) != ((0.0,) * 3, (255.0,) * 3):
        raise ExportError("--mean, --std: expected --image-size with them, which puts preprocessing into the graph")
    preprocessing = None
    if arguments.image_size:
        height, width = arguments.image_size
        preprocessing = ImagePreprocessing(height, width, arguments.mean, arguments.std, arguments.interpolation)
    if arguments.int8:
        data = read_labelled(arguments.int8)
        inputs = _body_inputs(data, preprocessing, model)
        quantized = quantize_int8(model, inputs)
        print(_int8_loss(model, quantized, LabelledData(inputs, data.labels, (), data.digest), arguments.int8_loss))
        model = quantized
    if arguments.int8_dynamic:
        model = quantize_int8_dynamic(model)
    if arguments.float16:
        model = to_float16(model)
    if preprocessing:
        model = prepend(preprocessing, model)
    if tokenizer is not None:
        folder = Path(arguments.out).parent
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TOKENIZER).write_bytes(tokenizer)
    save_model(model, arguments.out)
    size = Path(arguments.out).stat().st_size / 1e6
    beside = f", with {TOKENIZER} beside it" if tokenizer is not None else ""
    print(f"{arguments.out}: {size:.1f} MB{beside}, ready for `edgecascade calibrate`")
    return 0


def _int8_loss(before: ModelProto, after: ModelProto, data: LabelledData, allowed: float) -> str:
    """Compare both models on labelled inputs; return a sentence about it.

    Raises:
        ExportError: the whole interval of the loss is above what is allowed.
    """
    right = []
    for model in (before, after):
        source = find_logits(model)
        raw = tensor_scores(model, source.tensor, data.inputs, "--int8")
        kind = settle(source, raw).kind
        assert kind is not None
        right.append(logits_of(raw, kind).argmax(axis=1) == data.labels)
    n, (low, high) = len(data.labels), paired_difference_interval(right[0], right[1])
    loss = float(right[0].mean() - right[1].mean())
    sentence = (
        f"int8: accuracy {proportion(float(right[1].mean()), n).percent()}, in float "
        f"{proportion(float(right[0].mean()), n).percent()}; loss {100 * loss:+.1f} points "
        f"({100 * low:+.1f} to {100 * high:+.1f}), on the {n} inputs that it was quantized on"
    )
    if low > allowed:
        raise ExportError(f"--int8: expected a loss of at most {100 * allowed:g} points (--int8-loss), got {sentence}")
    return sentence


def _load(arguments: Namespace) -> tuple[ModelProto, bytes | None]:
    if arguments.source.startswith(_HUB) or Path(arguments.source).is_dir():
        if arguments.weights or arguments.shape or arguments.example or arguments.image_size or arguments.int8:
            raise ExportError(
                "--weights, --shape, --example, --image-size, --int8: a Hugging Face model brings its own"
            )
        found = export_hugging_face(arguments.source.removeprefix(_HUB), arguments.task)
        return found.model, found.tokenizer
    return _load_model(arguments), None


def _load_model(arguments: Namespace) -> ModelProto:
    if arguments.source.endswith(".onnx"):
        if arguments.weights:
            raise ExportError("--weights: expected a torch module with them, got an ONNX file, which has its own")
        return load_model(arguments.source)
    if (arguments.shape is None) == (arguments.example is None):
        raise ExportError("--shape: a torch module needs the shape of one input, such as --shape 3,96,96, or --example")
    module = _find(arguments.source)
    if arguments.weights:
        _load_weights(module, arguments.weights)
    return export_torch(module, arguments.shape or read_arrays(arguments.example))


def _load_weights(module: Any, path: str) -> None:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except OSError:
        raise
    except Exception as error:  # torch and pickle each raise their own
        raise ExportError(f"--weights: {path} is no state dict for this module: {first_line(error)}") from error


def _find(source: str) -> Any:
    where, _, name = source.rpartition(":")
    if not where:
        raise ExportError(f"source: expected an ONNX file, FILE.py:NAME, a folder or hf:NAME, got {source!r}")
    path = Path(where)
    folder, module_name = (path.parent, path.stem) if path.suffix == ".py" else (Path(), where)
    sys.path.insert(0, str(folder.resolve()))
    try:
        module = _module_of(path) if path.suffix == ".py" and path.is_file() else import_module(module_name)
        found = getattr(module, name)
    except (ImportError, AttributeError, SyntaxError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "torch":
            raise
        raise ExportError(f"source: cannot find {name!r} in {where}: {error}") from error
    finally:
        sys.path.pop(0)
    import torch

    if isinstance(found, torch.nn.Module):
        return found
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError) as error:
        raise ExportError(f"source: expected a module, or a function of no arguments: {error}") from error
    return found()


def _module_of(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _body_inputs(
    data: LabelledData, preprocessing: ImagePreprocessing | None, model: ModelProto
) -> NDArray[np.floating]:
    session = open_session((standalone(preprocessing, model) if preprocessing else model).SerializeToString())
    declared = model_inputs(session, "body")
    parts = []
    for batch in batches(data.inputs, 32):
        (array,) = (feeds := declared.feeds("--int8", batch)).values()
        parts.append(session.run(None, feeds)[0] if preprocessing else array)
    return np.concatenate(parts)


def _integers(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise ArgumentTypeError(f"expected whole numbers such as 3,96,96, got {text!r}")
    return tuple(int(part) for part in text.split(","))


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise ArgumentTypeError(f"expected HEIGHTxWIDTH such as 96x96, got {text!r}")
    return int(match[1]), int(match[2])


def _floats(text: str) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"expected three numbers such as 127,127,127, got {text!r}") from None
    return red, green, blue
