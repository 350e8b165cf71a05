"""Models are read, their logits found, and files written atomically."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper

from edgecascade.export import ExportError, find_logits, load_model, save_model

Body = Callable[..., ModelProto]


def with_outputs(**outputs: tuple[int, list[int | str]]) -> ModelProto:
    """Return a model with outputs of these types and shapes."""
    nodes = [helper.make_node("Identity", ["z"], [name]) for name in outputs]
    graph = helper.make_graph(
        nodes,
        "outputs",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8)


TABLE: tuple[int, list[int | str]] = (TensorProto.FLOAT, ["batch", 3])
HALF: tuple[int, list[int | str]] = (TensorProto.FLOAT16, ["batch", 3])
LABEL: tuple[int, list[int | str]] = (TensorProto.INT64, ["batch"])


def test_the_logits_output_is_found() -> None:
    """The user's name comes first, then an output called `logits`, then the only two-dimensional output."""
    assert find_logits(with_outputs(a=TABLE, logits=TABLE)).tensor == "logits"
    assert find_logits(with_outputs(label=LABEL, scores=TABLE)).tensor == "scores"
    assert find_logits(with_outputs(scores=HALF)).tensor == "scores"
    assert find_logits(with_outputs(a=TABLE, logits=TABLE), "a").tensor == "a"


@pytest.mark.parametrize(
    ("model", "name", "message"),
    [
        pytest.param(with_outputs(a=TABLE, b=TABLE), None, r"got a \[batch, 3\], b \[batch, 3\]; name it", id="two"),
        pytest.param(with_outputs(label=LABEL), None, r"got label \[batch\]; name it", id="none"),
        pytest.param(with_outputs(a=TABLE), "b", r"no output 'b', but a", id="another name"),
        pytest.param(with_outputs(a=LABEL), "a", r"expected float32, float16, float64 in 'a'", id="whole numbers"),
        pytest.param(
            with_outputs(logits=LABEL, a=TABLE), None, r"expected float32, float16, float64 in 'logits'", id="named so"
        ),
        pytest.param(
            with_outputs(logits=(TensorProto.FLOAT, ["batch", 3, 4, 4])),
            None,
            r"got logits \[batch, 3, 4, 4\]",
            id="a map",
        ),
    ],
)
def test_logits_are_never_guessed(model: ModelProto, name: str | None, message: str) -> None:
    """The error lists the outputs of the model."""
    with pytest.raises(ExportError, match=rf"^logits: .*{message}"):
        find_logits(model, name)


def test_logits_before_a_softmax_are_found(build: Body) -> None:
    """The logits are the input of the softmax."""
    nodes = [helper.make_node("Neg", ["z"], ["raw"]), helper.make_node("Softmax", ["raw"], ["probabilities"])]
    assert find_logits(build(nodes, [3], [3], output="probabilities")).tensor == "raw"


@pytest.mark.parametrize(
    "after",
    [
        helper.make_node("Identity", ["inner"], ["probabilities"]),
        helper.make_node("Cast", ["inner"], ["probabilities"], to=TensorProto.FLOAT),
    ],
    ids=["Identity", "Cast"],
)
def test_a_softmax_is_found_behind_identity_and_cast(build: Body, after: NodeProto) -> None:
    """Exporters rename an output by an Identity, and half-precision bodies end in a Cast."""
    nodes = [helper.make_node("Neg", ["z"], ["raw"]), helper.make_node("Softmax", ["raw"], ["inner"]), after]
    assert find_logits(build(nodes, [3], [3], output="probabilities")).tensor == "raw"


@pytest.mark.parametrize(
    ("opset", "ir", "message"),
    [(12, 8, "its opset is 12, expected 13 to 21"), (22, 10, "its opset is 22"), (20, 11, "its IR version is 11")],
)
def test_versions_that_old_runtimes_cannot_read_are_refused(
    identity: Body, tmp_path: Path, opset: int, ir: int, message: str
) -> None:
    """The error names the file, the version found and the version expected."""
    onnx.save(identity(3, opset=opset, ir=ir), tmp_path / "m.onnx")
    with pytest.raises(ExportError, match=rf"m\.onnx: {message}"):
        load_model(tmp_path / "m.onnx")


@pytest.mark.parametrize("content", [None, b"", b"noise" * 100], ids=["missing", "empty", "noise"])
def test_a_file_that_is_not_a_model_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """The error is one sentence."""
    if content is not None:
        (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ExportError, match=r"m\.onnx: (no such file|not a valid ONNX model: )") as refusal:
        load_model(tmp_path / "m.onnx")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_truncated_model_is_refused(identity: Body, tmp_path: Path, share: float) -> None:
    """A model cut at any byte is refused."""
    whole = identity(3).SerializeToString()
    (tmp_path / "m.onnx").write_bytes(whole[: max(1, int(share * len(whole)))])
    with pytest.raises(ExportError, match=r"m\.onnx: not a valid ONNX model: "):
        load_model(tmp_path / "m.onnx")


def test_a_failed_replacement_leaves_no_temporary_file(identity: Body, tmp_path: Path) -> None:
    """The file is written beside the target, and removed if the target is a folder."""
    (tmp_path / "m.onnx").mkdir()
    with pytest.raises(IsADirectoryError):
        save_model(identity(3), tmp_path / "m.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_an_existing_file_is_replaced(identity: Body, tmp_path: Path) -> None:
    """The new model is readable for all users, and no temporary file is left."""
    for sides in (3, 4):
        save_model(identity(sides), tmp_path / "m.onnx")
    assert load_model(tmp_path / "m.onnx") == identity(4)
    assert (tmp_path / "m.onnx").stat().st_mode & 0o444 == 0o444
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_writing_is_atomic(identity: Body, tmp_path: Path) -> None:
    """A model that the checker refuses leaves the old file unchanged and no other file."""
    save_model(identity(3), tmp_path / "deep" / "m.onnx")
    before = (tmp_path / "deep" / "m.onnx").read_bytes()
    broken = identity(3)
    broken.graph.node[0].input[0] = "nowhere"
    with pytest.raises(onnx.checker.ValidationError):
        save_model(broken, tmp_path / "deep" / "m.onnx")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["m.onnx"]
    assert (tmp_path / "deep" / "m.onnx").read_bytes() == before
    assert np.array_equal(load_model(tmp_path / "deep" / "m.onnx").SerializeToString(), before)
