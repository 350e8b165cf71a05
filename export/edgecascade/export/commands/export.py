"""`edgecascade export`: from a torch module, a Hugging Face model or an ONNX file to the body of a cascade model."""

from __future__ import annotations

import json
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from os.path import samefile
from pathlib import Path
from shlex import quote

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgecascade.calibration.commands.arguments import share
from edgecascade.cli import rare
from edgecascade.export.class_names import labelled_as, model_names, name_classes
from edgecascade.export.commands.calibrate import check_out
from edgecascade.export.compare import check_quantized
from edgecascade.export.data import Inputs, batches, read_labelled
from edgecascade.export.graph import load_model, save_model
from edgecascade.export.logits import declared_classes, find_logits
from edgecascade.export.quantize import quantize_int8, quantize_int8_dynamic, to_float16
from edgecascade.export.sources import (
    TASKS,
    TOKENIZER,
    export_hugging_face,
    export_torch,
    load_torch_module,
    prepend,
    standalone,
    suited,
)
from edgecascade.runtime.engine import open_session
from edgecascade.runtime.inputs import read_arrays
from edgecascade.runtime.model_inputs import model_inputs
from edgecascade.types.class_names import read_names, some_names
from edgecascade.types.document import KEY, ImagePreprocessing
from edgecascade.types.errors import ExportError, first_line

__all__ = ["configure", "execute"]

_HUB = "hf:"
_SERIALIZABLE = 2 << 30  # bytes
_SHAPING = ("mean", "std", "crop", "letterbox", "channels")  # arguments that need --image-size


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
    parser.add_argument(
        "--names",
        metavar="NAMES",
        help="Class names in the order of the model's outputs: a list such as cat,dog, a .txt file with one name a "
        "line, or a .json file with a list or an object by number. They replace those that the model has.",
    )
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
        "--mean",
        type=_floats,
        help="Mean of each channel, or of all, in pixel values 0 to 255 and the body's order (default 0).",
    )
    image.add_argument(
        "--std",
        type=_floats,
        help="Standard deviation of each channel, or of all (default 255; a body that takes uint8 has none).",
    )
    fit = image.add_mutually_exclusive_group()
    fit.add_argument(
        "--crop", type=int, metavar="EDGE", help="Resize the shorter side to this many pixels, then crop the centre."
    )
    fit.add_argument(
        "--letterbox",
        type=float,
        metavar="LEVEL",
        help="Keep the aspect ratio, and fill the borders with this pixel value, such as 114.",
    )
    image.add_argument(
        "--channels",
        choices=("rgb", "bgr", "grey"),
        help="Channels that the body takes (default rgb, or grey for a body of one channel).",
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
    check_out(arguments.out)
    if Path(arguments.out).exists() and Path(arguments.source).exists() and samefile(arguments.source, arguments.out):
        raise ExportError(f"--out: expected another file than the source, got {arguments.out}")
    model, tokenizer = _load(arguments)
    names, preprocessing = _names(arguments, model), _preprocessing(arguments, model)
    if arguments.int8:
        data = labelled_as(read_labelled(arguments.int8), names)
        _step(f"quantizing on {len(data.labels)} inputs, and comparing the accuracy")
        data = replace(data, inputs=_body_inputs(data.inputs, preprocessing, model))
        quantized = quantize_int8(model, np.asarray(data.inputs))
        print(f"int8        {check_quantized(model, quantized, data, arguments.int8_loss)}")
        model = quantized
    if arguments.int8_dynamic or arguments.float16:
        _step("converting the weights")
    if arguments.int8_dynamic:
        model = quantize_int8_dynamic(model)
    if arguments.float16:
        model = to_float16(model)
    if preprocessing:
        model = prepend(preprocessing, model)
    if names:
        name_classes(model, names)
    out = Path(arguments.out)
    if model.ByteSize() < _SERIALIZABLE:
        open_session(model.SerializeToString())  # a model that cannot run is not written
    if tokenizer is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        (out.parent / TOKENIZER).write_bytes(tokenizer)
    save_model(model, out)
    beside = f", with {TOKENIZER} beside it" if tokenizer is not None else ""
    print(f"wrote       {out} ({out.stat().st_size / 1e6:.1f} MB){beside}")
    print("\n".join(_described(model, out, names)))
    print(f"next        edgecascade calibrate {quote(str(out))} --remote REMOTE --data DATA --offload-rate 0.2 -o FILE")
    return 0


def _described(model: ModelProto, out: Path, names: Sequence[str] | None) -> Iterator[str]:
    """Yield what a body takes and gives, one line each."""
    inputs = model_inputs(open_session(out), out)
    yield f"inputs      {'sentences' if inputs.text is not None else inputs}"
    if names:
        yield f"classes     {len(names)}: {some_names(names)}"
    else:
        yield f"classes     {declared_classes(model) or 'of an unknown number'}, without names (see --names)"


def _step(sentence: str) -> None:
    """Say on standard error what takes a while now."""
    print(f"{sentence} ...", file=sys.stderr, flush=True)


def _load(arguments: Namespace) -> tuple[ModelProto, bytes | None]:
    """Return the model that was asked for, and its tokenizer file."""
    source = arguments.source
    if source.startswith(_HUB) or Path(source).is_dir():
        if arguments.weights or arguments.shape or arguments.example or arguments.image_size or arguments.int8:
            raise ExportError(
                "--weights, --shape, --example, --image-size, --int8: a Hugging Face model brings its own"
            )
        _step(f"exporting {source}, and comparing the file with the model")
        found = export_hugging_face(source.removeprefix(_HUB), arguments.task)
        for note in found.notes:
            print(f"note        {note}")
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
    _step(f"exporting {source}, and comparing the file with the module")
    return export_torch(module, arguments.shape or read_arrays(arguments.example)), None


def _names(arguments: Namespace, model: ModelProto) -> tuple[str, ...]:
    """Return the class names that the user gives, or else those that the model has; none if it has none."""
    find_logits(model)
    classes = declared_classes(model)
    if arguments.names is None:
        return () if classes is None else model_names(model, arguments.source, classes)
    names = _listed(arguments.names)
    if not all(names):
        raise ExportError(f"--names: expected a name for each class, got none for class {names.index('')}")
    if len(names) != (classes or len(names)) or len(names) < 2:
        raise ExportError(
            f"--names: expected {classes or '2 or more'} class names, got {len(names)}: {some_names(names)}"
        )
    return names


def _listed(text: str) -> tuple[str, ...]:
    """Return the names in a list, a .txt file or a .json file."""
    if not text.endswith((".txt", ".json")):
        return tuple(name.strip() for name in text.split(","))
    try:
        said = Path(text).read_text(encoding="utf-8-sig")  # editors on Windows mark the file
        names = tuple(filter(None, said.splitlines())) if text.endswith(".txt") else read_names(json.loads(said))
    except (OSError, ValueError, RecursionError) as error:
        raise ExportError(f"--names: cannot read class names from {text}: {first_line(error)}") from error
    if not names:
        raise ExportError(f"--names: expected a list, or an object by number from 0, in {text}, got something else")
    return names


def _preprocessing(arguments: Namespace, model: ModelProto) -> ImagePreprocessing | None:
    if arguments.image_size:
        height, width = arguments.image_size
        for name, values in (("mean", arguments.mean), ("std", arguments.std)):
            if any(0 < abs(value) < 1 for value in values or ()):
                pixels = ",".join(f"{255 * value:g}" for value in values)
                raise ExportError(
                    f"--{name}: expected pixel values from 0 to 255, got fractions; if they are of values from 0 to 1, "
                    f"write --{name} {pixels}"
                )
        usual = ImagePreprocessing(height, width, (0.0,) * 3, (1.0,) * 3, arguments.interpolation)
        wanted = suited(replace(usual, channels=arguments.channels or usual.channels), model)
        return replace(
            wanted,
            mean=arguments.mean or usual.mean,
            std=arguments.std or ((1.0,) * 3 if wanted.dtype == "uint8" else (255.0,) * 3),
            shortest_edge=arguments.crop,
            letterbox=arguments.letterbox,
        )
    given = [name for name in _SHAPING if getattr(arguments, name) is not None]
    if given:
        raise ExportError(f"--{given[0]}: expected with --image-size, which puts preprocessing into the graph")
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
        numbers = [float(part) for part in text.split(",")]
        red, green, blue = numbers * 3 if len(numbers) == 1 else numbers
    except ValueError:
        raise ArgumentTypeError(f"expected one number or three, such as 127,127,127, got {text!r}") from None
    return red, green, blue
