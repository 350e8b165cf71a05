"""Write a cascade as a model repository of NVIDIA Triton: both models, and a third that is the whole cascade."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np

import edgecascade
from edgecascade.deploy.pair import Pair, open_pair
from edgecascade.runtime.engine import Declared, numpy_dtype
from edgecascade.runtime.protobuf import fields
from edgecascade.runtime.remotes.tensors import DATATYPES
from edgecascade.runtime.weights_file import check_weights
from edgecascade.types.errors import ArgumentError, ModelFileError

__all__ = ["write_triton"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
_ANSWERS = {
    "label": "TYPE_INT64",
    "name": "TYPE_STRING",
    "confidence": "TYPE_FP32",
    "advantage": "TYPE_FP32",
    "source": "TYPE_STRING",
    "reason": "TYPE_STRING",
    "forwarded": "TYPE_BOOL",
}  # the outputs of the cascade with one value per input, as those of `edgecascade serve`
_FILE = "model.onnx"  # which Triton looks for
_LOCATION, _PLACE, _EXTERNAL = 14, 13, 1  # fields of onnx.TensorProto, and what the first is for data in another file
_PARTS = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
}  # messages of onnx.proto in which there may be tensors, by the number of their field


def write_triton(
    local: str | os.PathLike[str],
    remote: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    name: str = "cascade",
    remote_output: str | None = None,
    threshold: float | None = None,
    max_batch: int = 64,
    instances: int = 4,
) -> Path:
    """Write a model repository with the models NAME, NAME_local and NAME_remote, and return its path.

    Args:
        local: a cascade file.
        remote: the large model as an ONNX file with the same inputs.
        output: a folder that is empty or does not exist.
        name: the name of the cascade among Triton's models.
        remote_output: the remote's output with the scores, if it is not evident.
        threshold: forward inputs whose advantage is below this, instead of the decision in the graph.
        max_batch: most inputs that Triton puts into one batch.
        instances: processes of the cascade; each answers one batch at a time, and waits for the remote.

    Raises:
        ArgumentError: an argument has an invalid value, or the models do not fit together.
        ModelFileError: a file is missing, damaged or of another kind.
    """
    if not _NAME.fullmatch(name):
        raise ArgumentError(f"name: expected up to 200 letters, digits, '_', '-' and '.', got {name!r}")
    for argument, value in (("max batch", max_batch), ("instances", instances)):
        if not 1 <= value < 1 << 31:
            raise ArgumentError(f"{argument}: expected a number from 1 to {(1 << 31) - 1}, got {value}")
    if threshold is not None and threshold != threshold:
        raise ArgumentError("threshold: expected a number, got NaN")
    place = Path(output)
    if place.is_symlink() or (place.exists() and (not place.is_dir() or any(place.iterdir()))):
        raise ArgumentError(f"output: expected a folder that is empty or does not exist, got {place}")
    pair = open_pair(local, remote, remote_output=remote_output)
    place.parent.mkdir(parents=True, exist_ok=True)
    there = place.exists()
    with tempfile.TemporaryDirectory(dir=place if there else place.parent, prefix=".edgecascade-") as folder:
        part = Path(folder) / "repository"
        _write(part, pair, name, threshold, max_batch, instances)
        for model in part.iterdir() if there else ():  # it may be a volume, or the working folder
            model.rename(place / model.name)
        if not there:
            part.rename(place)
    return place


def _write(folder: Path, pair: Pair, name: str, threshold: float | None, max_batch: int, instances: int) -> None:
    models = {"local": f"{name}_local", "remote": f"{name}_remote"}
    for one, path, inputs, outputs in (
        ("local", pair.local, pair.inputs, pair.outputs),
        ("remote", pair.remote, pair.remote_inputs, (pair.remote_output,)),
    ):
        version = folder / models[one] / "1"
        version.mkdir(parents=True)
        _copy_model(path, version)
        tensors = (_tensors("input", map(_declared, inputs)), _tensors("output", map(_declared, outputs)))
        config = _config(models[one], "onnxruntime", max_batch, *tensors, "{ count: 1, kind: KIND_AUTO }")
        (version.parent / "config.pbtxt").write_text(config, encoding="utf-8")
    _write_cascade(folder / name, pair, models, threshold, max_batch, instances)


def _write_cascade(
    folder: Path, pair: Pair, models: Mapping[str, str], threshold: float | None, max_batch: int, instances: int
) -> None:
    version = folder / "1"
    version.mkdir(parents=True)
    answers = [_tensor(one, datatype, [1]) for one, datatype in _ANSWERS.items()]
    answers.append(_tensor("probabilities", "TYPE_FP32", [len(pair.document.labels)]))
    passed_on = [_declared(one, reshaped=False) for one in pair.inputs]
    tensors = (_tensors("input", passed_on), _tensors("output", answers))
    config = _config(folder.name, "python", max_batch, *tensors, f"{{ count: {instances}, kind: KIND_CPU }}")
    if threshold is not None:
        value = json.dumps(repr(float(threshold)))
        config += f'parameters [\n  {{ key: "threshold", value: {{ string_value: {value} }} }}\n]\n'
    (folder / "config.pbtxt").write_text(config, encoding="utf-8")
    cascade = {
        **models,
        "remote_inputs": {ours.name: theirs.name for ours, theirs in zip(pair.inputs, pair.remote_inputs, strict=True)},
        "remote_output": pair.remote_output.name,
        "class_names": pair.class_names,
        "document": pair.document.to_dict(),
    }
    (version / "cascade.json").write_text(json.dumps(cascade, indent=2) + "\n")
    (version / "edgecascade.zip").write_bytes(_sources())
    shutil.copyfile(Path(__file__).with_name("triton_model.py"), version / "model.py")


def _copy_model(path: Path, folder: Path) -> None:
    """Copy a model file with the files that hold its weights, under the names that it has for them."""
    check_weights(path)
    shutil.copyfile(path, folder / _FILE)
    for name in sorted(set(_external(np.memmap(path, np.uint8, "r").data, "model"))):
        inside = Path(os.path.normpath(name))
        if inside.is_absolute() or inside.parts[:1] in ((), ("..",), (_FILE,)):
            raise ModelFileError(f"{path}: expected weights in its folder, and not as {_FILE}, got {name}")
        (folder / inside).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path.parent / inside, folder / inside)


def _external(message: memoryview, kind: str) -> Iterator[str]:
    """Yield the names of the files in which a message of onnx.proto keeps tensors."""
    found = [*fields(message)]
    if kind == "tensor" and (_LOCATION, _EXTERNAL) in found:
        places = (dict(fields(entry)) for number, entry in found if number == _PLACE)
        yield from (bytes(one[2]).decode() for one in places if bytes(one[1]) == b"location")
    for number, inner in found:
        if number in _PARTS.get(kind, ()):
            yield from _external(inner, _PARTS[kind][number])


def _config(name: str, backend: str, max_batch: int, inputs: str, outputs: str, instances: str) -> str:
    return (
        f"name: {json.dumps(name)}\nbackend: {json.dumps(backend)}\nmax_batch_size: {max_batch}\n{inputs}{outputs}"
        f"dynamic_batching {{ }}\ninstance_group [\n  {instances}\n]\n"
    )


def _tensors(kind: str, tensors: Iterable[str]) -> str:
    return f"{kind} [\n" + ",\n".join(f"  {one}" for one in tensors) + "\n]\n"


def _declared(tensor: Declared, *, reshaped: bool = True) -> str:
    """Return an input or output without its batch axis. Triton has no tensors without a further one: it is reshaped."""
    try:
        dtype = numpy_dtype(tensor.type).name
        datatype = "STRING" if dtype == "object" else DATATYPES[dtype]
    except (KeyError, TypeError):
        raise ModelFileError(f"{tensor.name}: expected a type of Triton's, got {tensor.type}") from None
    sides = [side if isinstance(side, int) else -1 for side in tensor.shape[1:]]
    reshape = "" if sides or not reshaped else ", reshape: { shape: [ ] }"
    return _tensor(tensor.name, f"TYPE_{datatype}", sides or [1], reshape)


def _tensor(name: str, datatype: str, sides: Sequence[int], more: str = "") -> str:
    return f"{{ name: {json.dumps(name, ensure_ascii=False)}, data_type: {datatype}, dims: {[*sides]}{more} }}"


def _sources() -> bytes:
    """Return this package without its other parts, as an archive that Python imports from."""
    root, archive = Path(edgecascade.__file__).parent, BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for module in sorted([root / "__init__.py", *root.glob("runtime/**/*.py"), *root.glob("types/**/*.py")]):
            entry = zipfile.ZipInfo((Path("edgecascade") / module.relative_to(root)).as_posix())
            file.writestr(entry, module.read_bytes(), zipfile.ZIP_DEFLATED)
    return archive.getvalue()
