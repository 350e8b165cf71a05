"""The scores that a model gives every input: from a file, a server, or saved by an earlier run."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from edgecascade.export.class_names import class_count, model_names
from edgecascade.export.data import Inputs, batches, count, first
from edgecascade.export.fold import CLASSIFIER
from edgecascade.export.graph import carried_states, has_batch_scale, load_model, open_model, own_inputs
from edgecascade.export.head import check_foldable
from edgecascade.export.logits import find_logits
from edgecascade.runtime.batch import rows, size
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.engine import Engine, run_in_batches
from edgecascade.runtime.model_inputs import ModelInputs, model_inputs
from edgecascade.runtime.remotes.remote import Remote, RemoteLabels, connect, shown
from edgecascade.runtime.saturation import unsafe_weights
from edgecascade.types.errors import ExportError, RemoteError, first_line

__all__ = [
    "Progress",
    "RemoteOutputs",
    "ask_remote",
    "local_scores",
    "mixes_inputs",
    "read_scores",
    "remote_scores",
    "tensor_scores",
]

_log = logging.getLogger(__name__)
_FEW = 8  # inputs that are run alone and together
_SAME = 1e-4  # of the largest score: more than float32 differs between batches
_PATIENCE = 60.0  # seconds for one request while calibrating, which has no deadline

Progress = Callable[[int], object]


def local_scores(
    path: str | os.PathLike[str],
    inputs: Inputs,
    *,
    output: str | None = None,
    kind: str | None = None,
    model: ModelProto | None = None,
    progress: Progress | None = None,
) -> NDArray[np.floating]:
    """Return the raw scores [n, classes] or [n] of an ONNX classifier, from the tensor that `find_logits` finds.

    It runs on one thread, as on the device.

    Args:
        path: the file.
        inputs: [n, ...].
        output: the output that holds the logits, if it is not evident.
        kind: one of `KINDS`, if the values do not tell.
        model: the file's content from `load_model`, if it has been read already.
        progress: called with the number of inputs just done.
    """
    model = load_model(path) if model is None else model
    source = find_logits(model, output, kind)
    check_foldable(model, CLASSIFIER)
    states = carried_states(model, source.tensor)
    if states and not isinstance(inputs, Mapping):
        raise ExportError(
            f"{path}: expected a model without a state, got one that takes {', '.join(states)} and gives them back "
            "changed; a cascade answers each input alone, so begin with a constant state inside the model"
        )
    _log_casts(model, inputs, path)
    if unsafe := unsafe_weights(path):
        _log.warning(
            "%s: the fast int8 kernels of x86 CPUs without VNNI clip sums of %d of its weight tensors, and the runtime "
            "uses slower ones there; quantize with reduce_range=True, or by `edgecascade export --int8`, to avoid it",
            path,
            len(unsafe),
        )
    return tensor_scores(model, source.tensor, inputs, str(path), progress=progress)


def _log_casts(model: ModelProto, inputs: Inputs, path: str | os.PathLike[str]) -> None:
    """Log which inputs have another precision than the model takes."""
    declared = {one.name: one.type.tensor_type.elem_type for one in model.graph.input}
    given = inputs if isinstance(inputs, Mapping) else {own_inputs(model)[0]: inputs}
    for name, array in given.items():
        if isinstance(array, np.ndarray) and array.dtype.kind in "fiu" and name in declared:
            wanted = helper.tensor_dtype_to_np_dtype(declared[name])
            if array.dtype != wanted and (array.dtype.kind == "f") == (wanted.kind == "f"):  # others are refused
                _log.warning("%s: the data are %s, and the model takes %s: they are cast", path, array.dtype, wanted)


def tensor_scores(
    model: ModelProto,
    tensor: str,
    inputs: Inputs,
    argument: str,
    *,
    singly: bool | None = None,
    progress: Progress | None = None,
) -> NDArray[np.floating]:
    """Return the values of a tensor inside a model for all inputs.

    Args:
        model: the model.
        tensor: the name of the tensor, which need not be an output.
        inputs: [n, ...].
        argument: the name of the inputs in error messages, and the path beside which a tokenizer lies.
        singly: whether to run one input at a time; None does so where `mixes_inputs` finds that the model needs it.
        progress: called with the number of inputs just done.
    """
    if singly is None:
        singly = mixes_inputs(model, tensor, inputs, argument)
    session, declared, output = _opened(model, tensor, argument)
    parts = []
    for batch in batches(inputs, declared.batch or (1 if singly else 32)):
        parts.append(_run(session, output, declared.feeds(argument, batch), argument))
        if progress:
            progress(size(batch))
    return np.concatenate(parts)


def _run(session: Engine, output: str, feeds: Mapping[str, NDArray[Any]], argument: str) -> NDArray[Any]:
    """Return an output for checked inputs.

    Raises:
        ExportError: the model fails for them.
    """
    try:
        return run_in_batches(session, [output], feeds)[0]
    except Exception as error:  # onnxruntime's exceptions have no common base but this one
        raise ExportError(
            f"{argument}: the model fails for {size(feeds)} of the inputs: {first_line(error)}; if the size of a "
            "batch is fixed in it, export it with one of any size"
        ) from error


def mixes_inputs(model: ModelProto, tensor: str, inputs: Inputs, argument: str) -> bool:
    """Return whether an input's scores depend on the other inputs of its batch, so that it must be run alone.

    They do where activations are quantized as they come, by one scale for the whole batch, and where padding changes
    the scores of a text. A model that declares a fixed batch runs in that batch and is left as it is; one that runs a
    single input only, whatever it declares, must be run so.

    Args:
        model: the model.
        tensor: the name of the tensor that holds the scores.
        inputs: [n, ...], of which the first ones are run alone and together.
        argument: as `tensor_scores` takes it.
    """
    session, declared, output = _opened(model, tensor, argument)
    if declared.batch is not None or has_batch_scale(model):
        return declared.batch is None
    few = next(batches(first(inputs, _FEW), _FEW))
    singles = (rows(few, [position]) for position in range(size(few)))
    alone = np.concatenate([_run(session, output, declared.feeds(argument, one), argument) for one in singles])
    try:
        together = _run(session, output, declared.feeds(argument, few), argument)
    except ExportError:
        return True
    again = _run(session, output, declared.feeds(argument, few), argument)
    largest = max(1.0, float(np.abs(alone[np.isfinite(alone)]).max(initial=0)))
    if not np.allclose(together, again, rtol=0, atol=_SAME * largest, equal_nan=True):
        raise ExportError(
            f"{argument}: expected the same scores for an input each time, got others; export the model in evaluation "
            "mode, without random operators"
        )
    return not np.allclose(together, alone, rtol=0, atol=_SAME * largest, equal_nan=True)


def _opened(model: ModelProto, tensor: str, argument: str) -> tuple[Engine, ModelInputs, str]:
    """Open a model with a tensor among its outputs, and return the output that has its values.

    Half precision is read as the head of a cascade model reads it, through a division by an input that has a default:
    where a CPU has no kernels for it, onnxruntime computes in float32, and does not round what goes on inside a graph.
    """
    watched = ModelProto()
    watched.CopyFrom(model)
    if tensor not in {o.name for o in model.graph.output}:
        watched.graph.output.append(ValueInfoProto(name=tensor))  # onnxruntime infers its type
    session = open_model(watched)
    output = tensor
    if any(one.name == tensor and one.type == "tensor(float16)" for one in session.get_outputs()):
        output, wide, one = (f"edgecascade/{name}" for name in ("scores", "wide", "one"))
        watched.graph.initializer.append(numpy_helper.from_array(np.array(1, np.float32), one))
        watched.graph.input.append(helper.make_tensor_value_info(one, TensorProto.FLOAT, []))
        watched.graph.node.append(helper.make_node("Cast", [tensor], [wide], to=TensorProto.FLOAT))
        watched.graph.node.append(helper.make_node("Div", [wide, one], [output]))
        watched.graph.output.append(ValueInfoProto(name=output))
        session = open_model(watched)
    return session, model_inputs(session, argument), output


class RemoteOutputs(NamedTuple):
    """What a remote gives for labelled inputs.

    Attributes:
        scores: floating [n, classes], or [n] or [n, 1] of a binary head.
        names: of its classes in the order of the scores; empty if it does not tell.
    """

    scores: NDArray[np.floating]
    names: tuple[str, ...]


def remote_scores(
    remote: str | Remote,
    inputs: Inputs,
    *,
    threads: int = 1,
    output: str | None = None,
    progress: Progress | None = None,
) -> NDArray[np.floating]:
    """Return the scores [n, classes] of a remote, as `ask_remote` gets them."""
    return ask_remote(remote, inputs, threads=threads, output=output, progress=progress).scores


def ask_remote(
    remote: str | Remote,
    inputs: Inputs,
    *,
    threads: int = 1,
    output: str | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> RemoteOutputs:
    """Return the scores [n, classes] of a remote, and the names of its classes if it tells them.

    Args:
        remote: an address, an ONNX file, saved logits (.npy), or a `Remote`, which is closed afterwards.
        inputs: [n, ...].
        threads: of an ONNX file's engine.
        output: the output of an address or a file that holds the logits, if it is not evident.
        name: what to call a `Remote` in error messages, such as its address.
        progress: called with the number of inputs just done.

    Raises:
        ExportError: the remote failed on an input, or the saved logits are not one row per input.
    """
    if isinstance(remote, str) and remote.endswith(".npy"):
        if output is not None:
            raise ExportError(f"output: expected with an address or an ONNX file, got saved logits, {remote}")
        saved = read_scores(remote)
        if saved.ndim != 2 or len(saved) != count(inputs):
            raise ExportError(f"{remote}: expected logits [{count(inputs)}, classes], got {list(saved.shape)}")
        return RemoteOutputs(saved, ())
    connection = connect(remote, threads=threads, output=output)
    assert connection is not None
    name = shown(remote if isinstance(remote, str) else name or "remote")
    parts = []
    try:
        for batch in batches(inputs, 32):
            said = connection.infer(batch, Deadline.after(_PATIENCE))
            if isinstance(said, RemoteLabels):
                raise ExportError(f"{name}: expected scores of every class, got labels with confidences")
            parts.append(np.asarray(said))
            if progress:
                progress(size(batch))
    except (RemoteError, TimeoutError) as error:
        raise ExportError(f"{name}: it failed after {sum(map(len, parts))} inputs: {error}") from error
    finally:
        connection.close()
    scores = np.concatenate(parts)
    names = tuple(getattr(connection, "class_names", ()))
    if isinstance(remote, str) and remote.endswith(".onnx"):  # a file has names in other places too
        names = model_names(onnx.load(remote, load_external_data=False), remote, class_count(scores))
    return RemoteOutputs(scores, names)


def read_scores(path: str | os.PathLike[str]) -> NDArray[np.floating]:
    """Read one array that numpy saved.

    Raises:
        ExportError: the file is not one array (.npy).
    """
    try:
        saved = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ExportError(f"{path}: not an array saved by numpy: {error}") from error
    if not isinstance(saved, np.ndarray):
        raise ExportError(f"{path}: expected one array (.npy), got several (.npz)")
    return saved
