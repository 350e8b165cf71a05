"""The classes of body, data and remote: their names are found in each, and their orders are matched by name."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from edgecascade.calibration.class_order import better_order
from edgecascade.export.data import LabelledData
from edgecascade.types.class_names import columns_for, names_in, numbers_in, positions, read_names, some_names
from edgecascade.types.document import LABELS_KEY
from edgecascade.types.errors import ExportError, InvalidReply

__all__ = ["check_numbers", "class_count", "columns_by_name", "labelled_as", "model_names", "name_classes"]

_CONFIG = "config.json"  # of Hugging Face, beside its models or above their folder `onnx`
_CLASS_LABELS = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")  # attributes of ai.onnx.ml
_CURE = "name the model's classes in its own order with `edgecascade export FILE --names`, or rename those of the data"


def class_count(scores: NDArray[Any]) -> int:
    """Return the number of classes of raw scores [n, classes], or 2 for those of a binary head, [n] or [n, 1]."""
    return int(scores.shape[1]) if scores.ndim > 1 and scores.shape[1] > 1 else 2


def model_names(model: ModelProto, path: str | os.PathLike[str], classes: int) -> tuple[str, ...]:
    """Return the class names that an ONNX file gives, in the order of its scores; none if it gives only numbers.

    They are in its metadata (see `names_in`), in the class labels of a scikit-learn or boosting converter, or in the
    `id2label` of Hugging Face's `config.json` beside the file. Other than those that `export` wrote, names of another
    number of classes are ignored.

    Args:
        model: the model.
        path: its file.
        classes: number of its classes.

    Raises:
        ExportError: the names that `export` wrote are those of another number of classes.
    """
    properties = {entry.key: entry.value for entry in model.metadata_props}
    written = names_in({key: value for key, value in properties.items() if key == LABELS_KEY})
    if written and len(written) != classes:
        raise ExportError(
            f"{path}: expected {classes} class names, one per score, got {len(written)}: {some_names(written)}"
        )
    configured = _configured(Path(path)) if str(path).endswith(".onnx") else ()
    found = (written, names_in(properties), *_converted(model), configured)
    fitting = (names for names in found if len(names) == classes)
    return next((names for names in fitting if numbers_in(names, classes) != list(range(classes))), ())


def name_classes(model: ModelProto, names: Sequence[str]) -> None:
    """Write class names, in the order of the scores, into the metadata of a body, in place of those there."""
    others = [(entry.key, entry.value) for entry in model.metadata_props if entry.key != LABELS_KEY]
    del model.metadata_props[:]
    for key, value in (*others, (LABELS_KEY, json.dumps(list(names), ensure_ascii=False))):
        model.metadata_props.add(key=key, value=value)


def labelled_as(data: LabelledData, names: Sequence[str]) -> LabelledData:
    """Return data whose labels are those of a model, matched by name where both have names.

    The data may lack classes of the model, but not the reverse. Names that are whole numbers, such as those of folders,
    are class numbers, unless the model has classes of these names. Where only the data has names, its classes are taken
    to be in the order of the model's scores. Whole numbers as labels are class numbers; they are names where the model
    has such names and the labels are no class numbers, as of a classifier of the labels 1, 2 and 3.

    Args:
        data: labelled data.
        names: of the model's classes in the order of its scores; empty if they are not known.

    Raises:
        ExportError: the classes of the data are not those of the model; the message lists both.
    """
    if not names:
        return data
    if not data.names:
        return _by_value(data, names)
    used = np.unique(data.labels)
    if used[0] < 0 or used[-1] >= len(data.names):
        raise ExportError(
            f"data: expected labels from 0 to {len(data.names) - 1}, one per name, got {used[0]} to {used[-1]}"
        )
    if list(data.names) == list(names):  # also where a name stands for several classes
        return data
    theirs = [data.names[label] for label in used]
    found = positions(theirs, names) or numbers_in(theirs, len(names))
    if found is None and numbers_in(names, len(names)) == list(range(len(names))):
        if len(data.names) != len(names):
            raise ExportError(
                f"data: expected {len(names)} classes, as many as the unnamed ones of the model, got "
                f"{len(data.names)}: {some_names(data.names)}; {_CURE}"
            )
        return data
    if found is None:
        raise ExportError(
            f"data: expected the classes of the model ({some_names(names)}), got {some_names(data.names)}: "
            f"{some_names(_strange(theirs, names))} cannot be matched by name; {_CURE}"
        )
    places = np.zeros(len(data.names), np.int64)
    places[used] = found
    return replace(data, labels=places[data.labels], names=tuple(names))


def check_numbers(data: LabelledData, answers: NDArray[np.integer]) -> None:
    """Check that labels that came without names number the classes as the model does, which names them.

    Args:
        data: labelled data from `labelled_as`.
        answers: integer [n], the model's labels for it.

    Raises:
        ExportError: they are numbers, and another order fits far better; the message has the names in that order.
    """
    names = data.names
    order = better_order(answers, data.labels, len(names)) if data.numbered else None
    if order is None:
        return
    now, then = (float((found == data.labels).mean()) for found in (answers, order[answers]))
    theirs = [names[k] for k in np.argsort(order)]
    raise ExportError(
        f"data: expected labels `y` that number the classes as the model names them ({some_names(names)}), got "
        f"numbers of another order: {then:.1%} of its answers are right instead of {now:.1%} if 0 to {len(names) - 1} "
        f"stand for {some_names(theirs)}; give the npz file these as an array `names`, or labels in text"
    )


def columns_by_name(
    names: Sequence[str], theirs: Sequence[str], what: str = "remote", known: tuple[int, ...] | None = None
) -> tuple[int, ...] | None:
    """Return the column of another model's scores for each class, as `columns_for`, which the device uses.

    Args:
        names: of the classes in order.
        theirs: those of the other model, in the order of its scores; empty if they are not known.
        what: the other model, for error messages.
        known: the columns where one of them has no names.

    Raises:
        ExportError: they have other names; the message lists both.
    """
    try:
        return columns_for(tuple(names), tuple(theirs), known)
    except InvalidReply as error:
        said = str(error).removeprefix("remote: ")
        strange = some_names(_strange(theirs, names))
        raise ExportError(f"{what}: {said}: {strange} cannot be matched by name; {_CURE}") from error


def _by_value(data: LabelledData, names: Sequence[str]) -> LabelledData:
    """Return data with whole numbers as labels, which are class numbers, or the names of classes."""
    values = dict(zip(names, range(len(names)), strict=True)) if all(map(_is_whole, names)) else {}
    used = [int(label) for label in np.unique(data.labels)]
    named, numbered = all(str(label) in values for label in used), used[0] >= 0 and used[-1] < len(names)
    if not named or all(values[str(label)] == label for label in used):
        return replace(data, names=tuple(names), numbered=not named) if numbered else data
    if numbered:
        raise ExportError(
            f"data: the labels {some_names(list(map(str, used)))} may be names of the model's classes "
            f"({some_names(names)}) or their numbers from 0; give the data an array `names`"
        )
    places = np.array([values[str(label)] for label in used])
    return replace(data, labels=places[np.searchsorted(used, data.labels)], names=tuple(names))


def _is_whole(name: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,18}", name) is not None


def _strange(theirs: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the names that are not in the other list once; all of them, if each is."""
    return [name for name in theirs if positions([name], names) is None] or list(theirs)


def _converted(model: ModelProto) -> Iterator[tuple[str, ...]]:
    """Yield the class labels in operators for classifiers, the last first."""
    constants = {one.name: one for one in model.graph.initializer}
    for node in reversed(model.graph.node):
        if node.op_type == "ArrayFeatureExtractor" and node.input[0] in constants:
            yield tuple(map(_text, numpy_helper.to_array(constants[node.input[0]]).ravel().tolist()))
        yield from _attributes(node)


def _attributes(node: NodeProto) -> Iterator[tuple[str, ...]]:
    for attribute in node.attribute:
        if attribute.name in _CLASS_LABELS:
            yield tuple(map(_text, attribute.strings or attribute.ints))


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _configured(path: Path) -> tuple[str, ...]:
    """Return the names in the configuration of a Hugging Face model, which lies beside its ONNX file."""
    above = [path.parent.parent] if path.parent.name == "onnx" else []
    for folder in (path.parent, *above):
        try:
            found = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
            if names := read_names(found.get("id2label")):
                return names
        except (OSError, ValueError, AttributeError, RecursionError):
            continue  # there is none, or it is of something else
    return ()
