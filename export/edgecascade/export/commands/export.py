"""`edgecascade export`: from a torch module, a Hugging Face model or an ONNX file to the body of a cascade model."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgecascade.calibration.commands.arguments import share
from edgecascade.cli import rare
from edgecascade.export.compare import check_quantized
from edgecascade.export.data import Inputs, batches, read_labelled
from edgecascade.export.graph import load_model, save_model
from edgecascade.export.logits import find_logits
from edgecascade.export.quantize import quantize_int8, quantize_int8_dynamic, to_float16
from edgecascade.export.sources import (
    TASKS,
    TOKENIZER,
    export_hugging_face,
    export_torch,
    load_torch_module,
    prepend,
    standalone,
)
from edgecascade.runtime.engine import open_session
from edgecascade.runtime.inputs import read_arrays
from edgecascade.runtime.model_inputs import model_inputs
from edgecascade.types.document import KEY, ImagePreprocessing
from edgecascade.types.errors import ExportError

__all__ = ["configure", "execute"]

_HUB = "hf:"
_MEAN, _STD = (0.0,) * 3, (255.0,) * 3


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "examples:\n"
        "  edgecascade export mymodels.py:small_net --shape 3,96,96 -o small.onnx\n"
        "  edgecascade export small.onnx --image-size 96x96 --mean 127,127,127 --std 128,128,128 \\\n"
        "      --int8 quantize.npz -o body.onnx\n\n"
        "With --image-size the file takes camera pixels, uint8 RGB [batch, height, width, 3] of any size: resizing\n"
        "and normalization become part of the graph. With --int8 the body is quantized first, on real inputs.\n"
        "Torch modules need edgecascade[torch], Hugging Face models edgecascade[hf]."
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="ONNX file; FILE.py:NAME of a torch module or of a function that makes one; folder with a Hugging Face "
        "model, or hf:NAME of one on the hub.",
    )
    parser.add_argument("-o", "--out", metavar="FILE", required=True, help="ONNX file to write.")
    source = parser.add_argument_group("torch modules and Hugging Face models")
    source.add_argument("--shape", type=_integers, help="Shape of one input of a torch module, such as 3,96,96.")
    source.add_argument("--weights", metavar="PT", help="State dict of the torch module, loaded with weights_only.")
    rare(
        source.add_argument(
            "--example",
            metavar="NPZ",
            help="Real inputs of a torch module, one array [n, ...] under the name of each argument. They replace "
            "--shape for a module that takes several inputs, or other types than float32.",
        )
    )
    rare(source.add_argument("--task", choices=sorted(TASKS.values()), help="Task of a Hugging Face model."))
    image = parser.add_argument_group("image preprocessing in the graph")
    image.add_argument("--image-size", type=_size, metavar="HxW", help="Resize images to this size.")
    image.add_argument(
        "--mean", type=_floats, default=_MEAN, help="Mean of each channel, in pixel values 0 to 255 (default 0,0,0)."
    )
    image.add_argument(
        "--std", type=_floats, default=_STD, help="Standard deviation of each channel (default 255,255,255)."
    )
    rare(
        image.add_argument(
            "--interpolation",
            choices=("linear", "cubic"),
            default="linear",
            help="How images are resized (default linear).",
        )
    )
    group = parser.add_argument_group("precision")
    precision = group.add_mutually_exclusive_group()
    precision.add_argument(
        "--int8", metavar="DATA", help="Quantize the body on these labelled inputs, in the forms of `calibrate --data`."
    )
    rare(
        group.add_argument(
            "--int8-loss",
            type=share,
            default=0.02,
            metavar="SHARE",
            help="Largest loss of accuracy by --int8 on its inputs: a model is refused if the whole 95 %% interval of "
            "its loss is above (default 0.02; 1 allows any loss).",
        )
    )
    precision.add_argument("--int8-dynamic", action="store_true", help="Use int8 weights, for transformers on CPUs.")
    precision.add_argument("--float16", action="store_true", help="Use half precision, for GPUs.")


def execute(arguments: Namespace) -> int:
    """Export, quantize, put preprocessing in front, write."""
    model, tokenizer = _load(arguments)
    find_logits(model)
    preprocessing = _preprocessing(arguments)
    if arguments.int8:
        data = read_labelled(arguments.int8)
        data = replace(data, inputs=_body_inputs(data.inputs, preprocessing, model))
        quantized = quantize_int8(model, np.asarray(data.inputs))
        print(f"int8        {check_quantized(model, quantized, data, arguments.int8_loss)}")
        model = quantized
    if arguments.int8_dynamic:
        model = quantize_int8_dynamic(model)
    if arguments.float16:
        model = to_float16(model)
    if preprocessing:
        model = prepend(preprocessing, model)
    out = Path(arguments.out)
    if tokenizer is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        (out.parent / TOKENIZER).write_bytes(tokenizer)
    save_model(model, out)
    beside = f", with {TOKENIZER} beside it" if tokenizer is not None else ""
    print(f"wrote       {out} ({out.stat().st_size / 1e6:.1f} MB){beside}")
    print(f"next        edgecascade calibrate {out} --remote REMOTE --data DATA --offload-rate 0.2 -o FILE")
    return 0


def _load(arguments: Namespace) -> tuple[ModelProto, bytes | None]:
    """Return the model that was asked for, and its tokenizer file."""
    source = arguments.source
    if source.startswith(_HUB) or Path(source).is_dir():
        if arguments.weights or arguments.shape or arguments.example or arguments.image_size or arguments.int8:
            raise ExportError(
                "--weights, --shape, --example, --image-size, --int8: a Hugging Face model brings its own"
            )
        found = export_hugging_face(source.removeprefix(_HUB), arguments.task)
        return found.model, found.tokenizer
    if source.endswith(".onnx"):
        if arguments.weights:
            raise ExportError("--weights: expected a torch module with them, got an ONNX file, which has its own")
        model = load_model(source)
        if any(entry.key == KEY for entry in model.metadata_props):
            raise ExportError(
                f"source: expected a model to make a body of, got a cascade model, {source}; export the "
                "body that it was made of, or change the file with `edgecascade recalibrate`"
            )
        return model, None
    if (arguments.shape is None) == (arguments.example is None):
        raise ExportError("--shape: a torch module needs the shape of one input, such as --shape 3,96,96, or --example")
    module = load_torch_module(source, arguments.weights)
    return export_torch(module, arguments.shape or read_arrays(arguments.example)), None


def _preprocessing(arguments: Namespace) -> ImagePreprocessing | None:
    if arguments.image_size:
        height, width = arguments.image_size
        return ImagePreprocessing(height, width, arguments.mean, arguments.std, arguments.interpolation)
    if (arguments.mean, arguments.std) != (_MEAN, _STD):
        raise ExportError("--mean, --std: expected --image-size with them, which puts preprocessing into the graph")
    return None


def _body_inputs(inputs: Inputs, preprocessing: ImagePreprocessing | None, model: ModelProto) -> NDArray[np.floating]:
    """Return what the body gets for the inputs."""
    session = open_session((standalone(preprocessing, model) if preprocessing else model).SerializeToString())
    declared = model_inputs(session, "body")
    parts = []
    for batch in batches(inputs, 32):
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
