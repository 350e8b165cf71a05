"""A Hugging Face classifier, exported by optimum: from a local folder, or by the name of a model on the hub."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto

from edgecascade.export.graph import set_first_sides
from edgecascade.export.sources.preprocess import prepend
from edgecascade.export.sources.tokenizer import add_tokenizer, load_tokenizer, pad_token
from edgecascade.export.sources.torch_module import quiet
from edgecascade.types.class_names import numbers_in
from edgecascade.types.document import (
    LABELS_KEY,
    PREPROCESSING_KEY,
    ImagePreprocessing,
    preprocessing_dict,
)
from edgecascade.types.errors import ExportError, cut, first_line
from edgecascade.types.extras import naming_extras

__all__ = ["TASKS", "HuggingFaceBody", "export_hugging_face"]

TASKS = {
    "ForSequenceClassification": "text-classification",
    "ForMultipleChoice": "multiple-choice",
    "ForImageClassification": "image-classification",
}
_OPSET = 18
_NO_PAD = -1  # an id that no token has
_LOGGERS = ("transformers", "optimum", "torch")
_INTERPOLATIONS = {2: "linear", 3: "cubic"}  # Pillow's numbers, which the processors use


@dataclass(frozen=True)
class HuggingFaceBody:
    """An exported Hugging Face classifier.

    Attributes:
        model: the body, with class names and preprocessing in its metadata.
        tokenizer: the content of `tokenizer.json`, which must lie beside the file, or None if the model takes no text.
        notes: sentences about the tokenizer that the user should read.
    """

    model: ModelProto
    tokenizer: bytes | None
    notes: tuple[str, ...] = ()


def export_hugging_face(source: str, task: str | None = None) -> HuggingFaceBody:
    """Export a classifier with everything that it needs to take pixels or sentences.

    Args:
        source: a folder that `save_pretrained` wrote (nothing is downloaded then), or the name of a model on the hub.
        task: `text-classification`, `multiple-choice` or `image-classification`, if the model's class does not tell.

    Raises:
        ExportError: there is no such model, it is not a classifier, its preprocessing cannot be put in the graph, or it
            gives other scores than in transformers.
        ModuleNotFoundError: the `hf` extra is not installed.
    """
    with quiet(*_LOGGERS), naming_extras():
        from huggingface_hub.constants import HF_HUB_CACHE
        from optimum.exporters.onnx import main_export
        from transformers import AutoConfig, AutoModelForSequenceClassification

    with quiet(*_LOGGERS), tempfile.TemporaryDirectory() as folder:
        offline = Path(source).is_dir()
        try:
            config = AutoConfig.from_pretrained(source, local_files_only=offline, trust_remote_code=False)
            task = task or _task_of(config.architectures, source)
            if getattr(config, "problem_type", None) == "multi_label_classification":
                raise ExportError(
                    f"source: {source!r} is a model of independent labels (multi_label_classification), of which "
                    "several may be right; expected a classifier whose classes exclude each other"
                )
            text = load_tokenizer(source, offline) if task == "text-classification" else None
            main_export(
                source,
                output=folder,
                task=task,
                opset=_OPSET,
                do_validation=False,
                no_post_process=True,
                pad_token_id=_NO_PAD if text is not None and pad_token(config, text) is None else None,
                cache_dir=HF_HUB_CACHE,  # optimum itself knows only the variable's older name
                local_files_only=offline,
                trust_remote_code=False,
            )
            model, proved = onnx.load(str(Path(folder, "model.onnx"))), None
            if text is not None:
                network = AutoModelForSequenceClassification.from_pretrained(
                    source, local_files_only=offline, trust_remote_code=False
                )
                proved = add_tokenizer(model, source, network.float().eval(), text, Path(folder))
        except ExportError:
            raise
        except Exception as error:  # optimum and transformers raise whatever their parts raise
            raise ExportError(f"source: cannot export {source!r}: {cut(first_line(error), 200)}") from error
        if task == "image-classification":
            model = prepend(_image_preprocessing(Path(folder), source), model)
    if proved is not None:
        model = set_first_sides(proved.model, dict.fromkeys(proved.text.inputs, 1)) if proved.singly else proved.model
        model.metadata_props.add(key=PREPROCESSING_KEY, value=json.dumps(preprocessing_dict(proved.text)))
    if task != "multiple-choice":
        names = [str(config.id2label[label]) for label in range(len(config.id2label))]
        if numbers_in(names, len(names)) is None:  # LABEL_0, LABEL_1, ... are no names
            model.metadata_props.add(key=LABELS_KEY, value=json.dumps(names))
    return HuggingFaceBody(model, None if proved is None else proved.content, () if proved is None else proved.notes)


def _task_of(architectures: list[str] | None, source: str) -> str:
    for architecture in architectures or []:
        for ending, task in TASKS.items():
            if architecture.endswith(ending):
                return task
    raise ExportError(
        f"source: expected a model of a class {', '.join(f'...{ending}' for ending in TASKS)}, or --task; "
        f"{source!r} is {', '.join(architectures or ['of an unknown class'])}"
    )


def _image_preprocessing(folder: Path, source: str) -> ImagePreprocessing:
    """Read `preprocessor_config.json`; mean and std in the scale of pixels, 0 to 255."""
    said = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    size = said.get("crop_size" if said.get("do_center_crop") else "size") or {}
    size = {"height": size, "width": size} if isinstance(size, int) else size
    resized = said.get("size") or {}
    shortest = resized.get("shortest_edge") if isinstance(resized, dict) else resized
    crop = bool(said.get("do_center_crop"))
    if not said.get("do_resize", True) or not {"height", "width"} <= size.keys() or (crop and not shortest):
        raise ExportError(
            f"source: the image processor of {source!r} does not resize to a height and width, or to a shortest edge "
            "of which the centre is cropped; export the model without preprocessing and prepend your own"
        )
    scale = 1 / float(said.get("rescale_factor", 1 / 255)) if said.get("do_rescale", True) else 1.0
    normalize = said.get("do_normalize", True)
    mean = said.get("image_mean") if normalize else None
    std = said.get("image_std") if normalize else None
    resample = said.get("resample", 2)
    if resample not in _INTERPOLATIONS:
        raise ExportError(f"source: the image processor of {source!r} resamples by {resample}, expected 2 or 3")
    return ImagePreprocessing(
        int(size["height"]),
        int(size["width"]),
        _channels(mean or [0.0] * 3, scale),
        _channels(std or [1.0] * 3, scale),
        _INTERPOLATIONS[resample],
        int(shortest) if crop and shortest else None,
    )


def _channels(values: Sequence[float], scale: float) -> tuple[float, float, float]:
    red, green, blue = (scale * float(value) for value in values)
    return red, green, blue
