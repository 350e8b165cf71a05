"""`edgecascade export`: from a torch module, a Hugging Face model or an ONNX file to the body of a cascade model."""

from __future__ import annotations

import json
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgecascade.calibration import Estimate
from edgecascade.calibration.commands.arguments import share
from edgecascade.cli import rare
from edgecascade.export.class_names import labelled_as, model_names, name_classes
from edgecascade.export.compare import agreement, check_quantized
from edgecascade.export.data import Inputs, batches, read_labelled
from edgecascade.export.graph import is_large, keep_outputs, load_model, open_model, save_model
from edgecascade.export.logits import declared_classes, find_logits, is_one_number
from edgecascade.export.quantize import quantize_int8, quantize_int8_dynamic, to_float16
from edgecascade.export.sources import (
    GGUF,
    TASKS,
    TOKENIZER,
    export_causal,
    export_hugging_face,
    export_torch,
    load_torch_module,
    prepend,
    standalone,
    suited,
)
from edgecascade.export.weight_only import quantize_weights
from edgecascade.export.writing import check_out, refuse_same, write_tokenizer
from edgecascade.runtime.engine import open_session
from edgecascade.runtime.inputs import read_arrays
from edgecascade.runtime.model_inputs import listed, model_inputs
from edgecascade.types.class_names import read_names, some_names
from edgecascade.types.document import KEY, ImagePreprocessing
from edgecascade.types.errors import ExportError, first_line

__all__ = ["configure", "execute"]

_HUB = "hf:"
_TEXTS = np.array(
    [
        "The train to the coast leaves at half past nine.",
        "I have waited for my refund for three weeks, and nothing happens.",
        "What is the capital of Australia?",
        "This film is a wonderful surprise from beginning to end.",
        "The soup was cold and the waiter was rude.",
        "Please cancel my order and send the money back.",
        "Water boils at a lower temperature on a high mountain.",
        "My card was declined although there is money in the account.",
        "The two companies will merge next year.",
        "How do I change the password of my router?",
        "She won the final in three sets.",
        "The new phone has a better camera, but the battery is worse.",
        "It rained all night, and the river rose above its banks.",
        "Could you turn on the light in the kitchen?",
        "The judge postponed the hearing until Monday.",
        "All birds can fly.",
        "The patient has a fever and a dry cough.",
        "Book a table for two at seven.",
        "The parcel arrived with a broken corner.",
        "Iron is heavier than wood.",
        "I am not sure whether this is what I ordered.",
        "The museum is closed on Tuesdays.",
        "Nobody answered the phone, so I went there myself.",
        "Der Zug kommt zehn Minuten später an.",
        "La réunion est reportée à vendredi.",
        "Play some quiet music.",
        "The price went up by 12 percent in 2024.",
        "Thank you, that was very helpful.",
        "The function returns the sum of its arguments.",
        "No, that is wrong.",
        "Plants need light to grow.",
        "He forgot to save the file before the computer crashed.",
    ]
)  # without labels: for the agreement of a body with itself in another precision
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
        "model, or hf:NAME of one on the hub; GGUF file of a language model.",
    )
    parser.add_argument("-o", "--out", metavar="FILE", required=True, help="ONNX file to write.")
    parser.add_argument(
        "--names",
        metavar="NAMES",
        help="Class names in the order of the model's outputs: a list such as cat,dog, a .txt file with one name a "
        "line, or a .json file with a list or an object by number. They replace those that the model has.",
    )
    parser.add_argument(
        "--outputs",
        type=_listed_outputs,
        metavar="NAMES",
        help="Outputs of a general task's body, such as boxes,scores: names for what a torch module returns in order, "
        "keys of its dict, or those of an ONNX file to keep.",
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
    language = parser.add_argument_group("causal language models as classifiers")
    language.add_argument(
        "--prompt",
        metavar="FILE",
        help="Text with {input} where the text to classify goes, or a .json list of turns with role and content.",
    )
    language.add_argument(
        "--answers",
        metavar="JSON",
        help='What the model may answer, as it would write it: an object by label, such as {"yes": " yes"}, or a list.',
    )
    language.add_argument(
        "--chat", action="store_true", help="Put the prompt into the model's chat template, as what the user says."
    )
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
            help="Largest loss of accuracy by --int8 on its inputs, or by another precision on --data: a model is "
            "refused if the whole 95 %% interval of its loss is above (default 0.02; 1 allows any loss).",
        )
    )
    precision.add_argument("--int8-dynamic", action="store_true", help="Use int8 weights, for transformers on CPUs.")
    precision.add_argument("--float16", action="store_true", help="Use half precision, for GPUs.")
    precision.add_argument(
        "--int8-weights",
        action="store_true",
        help="Store weights in 8 bits, and compute in float: for language models.",
    )
    precision.add_argument(
        "--int4", action="store_true", help="Keep weights in 4 bits, and compute in float: for large language models."
    )
    rare(
        group.add_argument(
            "--data",
            metavar="DATA",
            help="Labelled inputs, in the forms of `calibrate --data`, on which the loss by --int8-weights, --int4, "
            "--int8-dynamic or --float16 is measured.",
        )
    )


def execute(arguments: Namespace) -> int:
    """Export, quantize, put preprocessing in front, write."""
    check_out(arguments.out, "--out")
    refuse_same(arguments.out, {"the source": arguments.source}, "--out")
    if arguments.outputs:
        _refuse_those_of_classifiers(arguments)
    _check_early(arguments)
    try:
        model, tokenizer = _load(arguments)
    except ExportError as error:
        raise ExportError(re.sub("^(?=outputs:)", "--", str(error))) from error
    names, preprocessing = _names(arguments, model), _preprocessing(arguments, model)
    if arguments.int8:
        data = labelled_as(read_labelled(arguments.int8), names)
        _step(f"quantizing on {len(data.labels)} inputs, and comparing the accuracy")
        data = replace(data, inputs=_body_inputs(data.inputs, preprocessing, model))
        quantized = quantize_int8(model, np.asarray(data.inputs))
        print(f"int8        {check_quantized(model, quantized, data, arguments.int8_loss)}")
        model = quantized
    model = _converted(arguments, model, names, tokenizer)
    if preprocessing:
        model = prepend(preprocessing, model)
    if names:
        name_classes(model, names)
    out = Path(arguments.out)
    open_model(model)  # a model that cannot run is not written
    if tokenizer is not None:
        write_tokenizer(TOKENIZER, tokenizer, out)
    weights = save_model(model, out)
    files = [*([weights.name] if weights else []), *([TOKENIZER] if tokenizer is not None else [])]
    beside = f", with {' and '.join(files)} beside it" if files else ""
    print(f"wrote       {out} ({out.stat().st_size / 1e6:.1f} MB){beside}")
    print("\n".join(_described(model, out, names, general=bool(arguments.outputs))))
    task = "--task TASK " if arguments.outputs else ""
    rest = "--remote REMOTE --data DATA --offload-rate 0.2 -o FILE"
    print(f"next        edgecascade calibrate {quote(str(out))} {task}{rest}")
    print(f"            edgecascade serve {quote(str(out))} --name {quote(out.stem)}    # if it is the remote")
    return 0


def _check_early(arguments: Namespace) -> None:
    """Check what needs no model, before an exporter runs for a while."""
    if arguments.names is not None:
        _listed(arguments.names)
    given = [name for name in _SHAPING if getattr(arguments, name) is not None]
    if given and not arguments.image_size:
        raise ExportError(f"--{given[0]}: expected with --image-size, which puts preprocessing into the graph")
    fractions = {
        f"--{name}": ",".join(f"{255 * value:g}" for value in values)
        for name, values in (("mean", arguments.mean), ("std", arguments.std))
        if any(0 < abs(value) < 1 for value in values or ())
    }
    if fractions:
        raise ExportError(
            f"{', '.join(fractions)}: expected pixel values from 0 to 255, got fractions; if they are of values from 0 "
            f"to 1, write {' '.join(f'{name} {pixels}' for name, pixels in fractions.items())}"
        )
    shape, size = arguments.shape or (), list(arguments.image_size or ())
    if size and len(shape) == 3 and size not in (list(shape[1:]), list(shape[:2])):
        sides = ",".join(map(str, shape))
        raise ExportError(f"--image-size: expected the height and width in --shape {sides}, got {size[0]}x{size[1]}")


def _refuse_those_of_classifiers(arguments: Namespace) -> None:
    """Check that no argument is given that needs class names, labels or a Hugging Face classifier."""
    for name in ("names", "task", "int8", "data", "answers", "prompt"):
        if getattr(arguments, name) is not None:
            raise ExportError(f"--{name}: expected of a classifier, got --outputs, which is for general tasks")


def _converted(arguments: Namespace, model: ModelProto, names: Sequence[str], tokenizer: bytes | None) -> ModelProto:
    """Return a body in the precision that was asked for without inputs, after printing what is lost by it."""
    conversions: dict[str, Callable[[ModelProto], ModelProto]] = {
        "--int8-dynamic": quantize_int8_dynamic,
        "--float16": to_float16,
        "--int8-weights": lambda model: quantize_weights(model, 8),
        "--int4": lambda model: quantize_weights(model, 4),
    }
    option = next((name for name in conversions if getattr(arguments, name[2:].replace("-", "_"))), None)
    if option is None:
        if arguments.data is not None:
            raise ExportError(f"--data: expected with one of {', '.join(conversions)}, whose loss it measures")
        return model
    if option in ("--int8-dynamic", "--float16") and is_large(model):
        raise ExportError(
            f"{option}: expected a model of at most 2 GiB, got a larger one; use --int8-weights or --int4"
        )
    data = None if arguments.data is None else labelled_as(read_labelled(arguments.data), names)
    _step("converting the weights")
    converted = conversions[option](model)
    if data is None and (tokenizer is None or arguments.outputs):
        return converted
    _step("comparing the answers with those in float")
    with TemporaryDirectory() as folder:
        place = Path(folder, "data")  # beside the tokenizer
        if tokenizer is not None:
            (place.parent / TOKENIZER).write_bytes(tokenizer)
        if data is None:
            print("\n".join(_changes(option, *agreement(model, converted, _TEXTS, str(place)))))
        else:
            sentence = check_quantized(
                model, converted, data, arguments.int8_loss, option=option, purpose="of --data", place=place
            )
            print(f"precision   {option[2:]}: {sentence}")
    return converted


def _changes(option: str, same: Estimate, difference: float) -> Iterator[str]:
    """Yield what a change of precision does to labels and probabilities, one line each."""
    yield (
        f"precision   {option[2:]}: the same label as in float on {same.percent()} of {same.n} sentences, "
        f"probabilities within {difference:.2g}; measure the accuracy with --data"
    )
    if same.value < 1:
        yield (
            f"warning     {option} changes answers; compare the accuracy on labelled data before you use the file, or "
            "use more bits"
        )


def _described(model: ModelProto, out: Path, names: Sequence[str] | None, *, general: bool) -> Iterator[str]:
    """Yield what a body takes and gives, one line each."""
    session = open_session(out)
    inputs = model_inputs(session, out)
    yield f"inputs      {'sentences' if inputs.text is not None else inputs}"
    if general:
        yield f"outputs     {listed(session.get_outputs())}"
    elif names:
        yield f"classes     {len(names)}: {some_names(names)}"
    else:
        yield f"classes     {declared_classes(model) or 'of an unknown number'}, without names (see --names)"
        if is_one_number(model):
            yield "            its output is read as the score of a binary classifier; for a number, give --outputs"


def _step(sentence: str) -> None:
    """Say on standard error what takes a while now."""
    print(f"{sentence} ...", file=sys.stderr, flush=True)


def _load(arguments: Namespace) -> tuple[ModelProto, bytes | None]:
    """Return the model that was asked for, and its tokenizer file."""
    source = arguments.source
    language = bool(arguments.answers or arguments.prompt or arguments.chat)
    hugging = source.startswith(_HUB) or Path(source).is_dir() or source.endswith(GGUF)
    if language and not (hugging and arguments.answers and arguments.prompt):
        raise ExportError(
            "--answers, --prompt: expected both, with the folder or the GGUF file of a causal language model"
        )
    if hugging:
        if source.endswith(GGUF) and not (arguments.answers and arguments.prompt):
            raise ExportError(f"--answers, --prompt: expected with a language model, {source}, which needs both")
        if arguments.outputs:
            raise ExportError(f"--outputs: expected with a torch module or an ONNX file, got {source}")
        if arguments.weights or arguments.shape or arguments.example or arguments.image_size or arguments.int8:
            raise ExportError(
                "--weights, --shape, --example, --image-size, --int8: expected without a Hugging Face model, which "
                "brings its own; --int8-dynamic quantizes it"
            )
        _step(f"exporting {source}, and comparing the file with the model")
        name = source.removeprefix(_HUB)
        if language:
            found = export_causal(name, arguments.answers, arguments.prompt, chat=arguments.chat)
        else:
            found = export_hugging_face(name, arguments.task)
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
        if arguments.outputs:
            model = keep_outputs(model, arguments.outputs)
        takes_text = model_inputs(open_session(source), source).text is not None
        return model, (Path(source).parent / TOKENIZER).read_bytes() if takes_text else None
    if ":" not in source:
        raise ExportError(
            f"source: expected an ONNX file, FILE.py:NAME, a folder that exists or hf:NAME, got {source!r}"
        )
    if (arguments.shape is None) == (arguments.example is None):
        raise ExportError("--shape: a torch module needs the shape of one input, such as --shape 3,96,96, or --example")
    module = load_torch_module(source, arguments.weights)
    if arguments.weights is None:
        print("note        the weights are as the module makes them; --weights loads others")
    _step(f"exporting {source}, and comparing the file with the module")
    inputs = arguments.shape or read_arrays(arguments.example)
    return export_torch(module, inputs, outputs=arguments.outputs or ()), None


def _names(arguments: Namespace, model: ModelProto) -> tuple[str, ...]:
    """Return the class names that the user gives, or else those that the model has; none if it has none."""
    if arguments.outputs:
        return ()
    find_logits(model)
    classes = declared_classes(model)
    if arguments.names is None:
        return () if classes is None else model_names(model, arguments.source, classes)
    names = _listed(arguments.names)
    if len(names) != (classes or len(names)) or len(names) < 2:
        raise ExportError(
            f"--names: expected {classes or '2 or more'} class names, got {len(names)}: {some_names(names)}"
        )
    if twice := [name for name in names if names.count(name) > 1]:
        raise ExportError(f"--names: expected a name of its own for each class, got {twice[0]!r} twice")
    return names


def _listed(text: str) -> tuple[str, ...]:
    """Return the names in a list, a .txt file or a .json file."""
    if not text.endswith((".txt", ".json")):
        names = tuple(name.strip() for name in text.split(","))
        if not all(names):
            raise ExportError(f"--names: expected a name for each class, got none for class {names.index('')}")
        return names
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
        usual = ImagePreprocessing(height, width, (0.0,) * 3, (1.0,) * 3, arguments.interpolation)
        wanted = suited(replace(usual, channels=arguments.channels or usual.channels), model)
        return replace(
            wanted,
            mean=arguments.mean or usual.mean,
            std=arguments.std or ((1.0,) * 3 if wanted.dtype == "uint8" else (255.0,) * 3),
            shortest_edge=arguments.crop,
            letterbox=arguments.letterbox,
        )
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


def _listed_outputs(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ArgumentTypeError(f"expected names such as boxes,scores, got {text!r}")
    return names


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
