"""A Hugging Face classifier, exported by optimum: from a local folder, or by the name of a model on the hub."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto

from edgecascade.export.sources.preprocess import prepend
from edgecascade.export.sources.torch_module import quiet
from edgecascade.types.class_names import numbers_in
from edgecascade.types.document import (
    LABELS_KEY,
    PREPROCESSING_KEY,
    ImagePreprocessing,
    TextPreprocessing,
    preprocessing_dict,
)
from edgecascade.types.errors import ExportError, first_line
from edgecascade.types.extras import naming_extras

__all__ = ["TASKS", "TOKENIZER", "HuggingFaceBody", "export_hugging_face"]

TOKENIZER = "tokenizer.json"
TASKS = {
    "ForSequenceClassification": "text-classification",
    "ForMultipleChoice": "multiple-choice",
    "ForImageClassification": "image-classification",
}
_OPSET = 18
_LOGGERS = ("transformers", "optimum", "torch")
_INTERPOLATIONS = {2: "linear", 3: "cubic"}  # Pillow's numbers, which the processors use


@dataclass(frozen=True)
class HuggingFaceBody:
    """An exported Hugging Face classifier.

    Attributes:
        model: the body, with class names and preprocessing in its metadata.
        tokenizer: the content of `tokenizer.json`, which must lie beside the file, or None if the model takes no text.
    """

    model: ModelProto
    tokenizer: bytes | None


def export_hugging_face(source: str, task: str | None = None) -> HuggingFaceBody:
    """Export a classifier with everything that it needs to take pixels or sentences.

    Args:
        source: a folder that `save_pretrained` wrote (nothing is downloaded then), or the name of a model on the hub.
        task: `text-classification`, `multiple-choice` or `image-classification`, if the model's class does not tell.

    Raises:
        ExportError: there is no such model, it is not a classifier, or its preprocessing cannot be put in the graph.
        ModuleNotFoundError: the `hf` extra is not installed.
    """
    with quiet(*_LOGGERS), naming_extras():
        from huggingface_hub.constants import HF_HUB_CACHE
        from optimum.exporters.onnx import main_export
        from transformers import AutoConfig

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
            main_export(
                source,
                output=folder,
                task=task,
                opset=_OPSET,
                do_validation=False,
                no_post_process=True,
                cache_dir=HF_HUB_CACHE,  # optimum itself knows only the variable's older name
                local_files_only=offline,
                trust_remote_code=False,
            )
        except ExportError:
            raise
        except Exception as error:  # optimum and transformers raise whatever their parts raise
            raise ExportError(f"source: cannot export {source!r}: {first_line(error)[:200]}") from error
        model = onnx.load(str(Path(folder, "model.onnx")))
        if task == "image-classification":
            model = prepend(_image_preprocessing(Path(folder), source), model)
        tokenizer = Path(folder, TOKENIZER).read_bytes() if task == "text-classification" else None
        if tokenizer is not None:
            text = TextPreprocessing(
                tokenizer=TOKENIZER,
                sha256=hashlib.sha256(tokenizer).hexdigest(),
                max_length=_max_length(config, Path(folder)),
                inputs=tuple(one.name for one in model.graph.input),
            )
            model.metadata_props.add(key=PREPROCESSING_KEY, value=json.dumps(preprocessing_dict(text)))
    if task != "multiple-choice":
        names = [str(config.id2label[label]) for label in range(len(config.id2label))]
        if numbers_in(names, len(names)) is None:  # LABEL_0, LABEL_1, ... are no names
            model.metadata_props.add(key=LABELS_KEY, value=json.dumps(names))
    return HuggingFaceBody(model, tokenizer)


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


def _max_length(config: Any, folder: Path) -> int:
    """Return the number of tokens that the model's positions and its tokenizer both allow."""
    said = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("model_max_length")
    limits = [getattr(config, "max_position_embeddings", None), said]
    return int(min(limit for limit in (*limits, 512) if isinstance(limit, (int, float)) and limit > 0))
