"""A file's metadata is valid, or the file is refused in one sentence."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from documents import some_document
from edgecascade.export import save_model
from edgecascade.runtime import Cascade, ModelFileError
from edgecascade.runtime.engine import open_session
from edgecascade.types.policy import RemoteCalibration


def test_labels_merge_and_the_remotes_temperature_are_read(make_file: Callable[..., Path]) -> None:
    """An unknown key is ignored."""
    path = make_file(policy={"merge": "average"}, remote={"temperature": 2.5, "scores": "probabilities"}, note="x")
    document = Cascade.load(path).document
    assert document.labels == ("red", "green", "blue")
    assert document.policy.merge == "average"
    assert document.calibrate_remote == RemoteCalibration(2.5, True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"format": 4}, "version is 4, this edgecascade knows versions 1, 2, 3", id="a newer format"),
        pytest.param({"format": "1"}, "its format version is 1, this", id="a version that is text"),
        pytest.param({"labels": None}, "damaged", id="no labels"),
        pytest.param({"policy": None}, "damaged: TypeError", id="no policy"),
        pytest.param({"policy": {"merge": "vote"}}, "damaged: merge: .*'vote'", id="an unknown merge rule"),
        pytest.param(
            {"remote": {"temperature": 0, "scores": "logits"}}, "damaged: remote temperature: .*0.0", id="T of 0"
        ),
        pytest.param({"remote": {"temperature": "hot", "scores": "logits"}}, "damaged", id="T of text"),
        pytest.param({"remote": []}, "damaged", id="a list"),
        pytest.param({"metadata": "{"}, "damaged", id="half a document"),
        pytest.param({"metadata": "[" * 100_000}, "damaged", id="a document without bottom"),
        pytest.param({"metadata": "7"}, "damaged", id="a number"),
        pytest.param({"metadata": " " * (1 << 24) + "{}"}, "over the limit", id="a document without end"),
    ],
)
def test_an_invalid_document_is_refused(make_file: Callable[..., Path], changes: dict[str, Any], message: str) -> None:
    """The error names the file."""
    path = make_file(**changes)
    with pytest.raises(ModelFileError, match=message) as refusal:
        Cascade.load(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)


def plain(path: Path, **properties: str) -> Path:
    """Return an ONNX model that is not a cascade model."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["z"], ["logits"])],
        "plain",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, properties)
    save_model(model, path)
    return path


def test_a_plain_model_is_refused_with_instructions(tmp_path: Path) -> None:
    """It lacks the metadata, or has it and lacks the outputs."""
    with pytest.raises(ModelFileError, match=r"not a cascade model .*; create one with `edgecascade calibrate`"):
        Cascade.load(plain(tmp_path / "plain.onnx"))
    forged = plain(tmp_path / "forged.onnx", edgecascade=some_document().to_json())
    with pytest.raises(ModelFileError, match=r"not a cascade model: it lacks the outputs \['advantage', 'confidence'"):
        Cascade.load(forged)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not onnx", os.urandom(1000)], ids=["empty", "a zip", "noise"])
def test_a_file_that_is_not_a_model_is_refused(tmp_path: Path, content: bytes) -> None:
    """The error has onnxruntime's reason on one line."""
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"broken\.onnx: onnxruntime cannot load it: ") as refusal:
        Cascade.load(path)
    assert "\n" not in str(refusal.value)


def test_a_truncated_file_is_refused(file: Path) -> None:
    """This holds at any length."""
    whole = file.read_bytes()
    for share in (0.1, 0.5, 0.9):
        file.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ModelFileError, match=r"local\.onnx: "):
            Cascade.load(file)


def test_a_missing_file_is_refused() -> None:
    """The error names it."""
    with pytest.raises(ModelFileError, match=r"^nowhere\.onnx: no such file"):
        Cascade.load("nowhere.onnx")


def test_an_unavailable_provider_is_refused(file: Path) -> None:
    """The error names it and the available ones, with no silent fallback."""
    with pytest.raises(ModelFileError, match=r"^providers: .* got TensorrtExecutionProvider; .*CPUExecution"):
        Cascade.load(file, providers=["TensorrtExecutionProvider", "CPUExecutionProvider"])


def test_a_session_uses_one_thread_and_does_not_spin(file: Path) -> None:
    """The device's other programs need the CPU."""
    session: Any = open_session(file)
    options = session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
