"""Models are read, their logits found, and files written atomically."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgecascade.export import ExportError, ParityError, find_logits, load_model, save_model
from edgecascade.export.writing import write_whole
from edgecascade.runtime.engine import open_session

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
        pytest.param(with_outputs(a=TABLE, b=TABLE), None, r"got a \[batch, 3\], b \[batch, 3\]", id="two"),
        pytest.param(with_outputs(label=LABEL), None, r"got label \[batch\]", id="none"),
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


def classifier(opset: int, ir: int, *, constants_are_inputs: bool = False) -> ModelProto:
    """Return a classifier whose operators changed between versions: axes, attributes that became inputs."""
    rng = np.random.default_rng(0)
    squeezed = helper.make_node("Squeeze", ["pooled"], ["rows"], axes=[2, 3])
    clipped = helper.make_node("Clip", ["rows"], ["kept"], min=-1.0, max=1.0)
    constants = {"kernel": rng.normal(size=(8, 3, 3, 3)), "head": rng.normal(size=(8, 4))}
    if opset >= 11:
        clipped = helper.make_node("Clip", ["rows", "low", "high"], ["kept"])
        constants |= {"low": np.array(-1.0), "high": np.array(1.0)}
    if opset >= 13:
        squeezed = helper.make_node("Squeeze", ["pooled", "axes"], ["rows"])
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    if opset >= 13:
        tensors.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    nodes = [
        helper.make_node("Conv", ["z", "kernel"], ["planes"]),
        helper.make_node("GlobalAveragePool", ["planes"], ["pooled"]),
        squeezed,
        clipped,
        helper.make_node("MatMul", ["kept", "head"], ["raw"]),
        helper.make_node("Softmax", ["raw"], ["probabilities"]),
    ]
    inputs = [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 3, 8, 8])]
    if constants_are_inputs:
        inputs += [helper.make_tensor_value_info(one.name, one.data_type, list(one.dims)) for one in tensors]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 4])]
    graph = helper.make_graph(nodes, "classifier", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    model.metadata_props.add(key="kept", value="yes")
    return model


@pytest.mark.parametrize(
    ("opset", "ir", "becomes"),
    [(8, 3, 13), (9, 4, 13), (11, 6, 13), (12, 7, 13), (17, 13, 17), (22, 10, 21), (23, 11, 21), (25, 13, 21)],
)
def test_a_model_of_another_version_is_converted(tmp_path: Path, opset: int, ir: int, becomes: int) -> None:
    """It gives what the original gives, and keeps its metadata; the file itself is not changed."""
    model = classifier(opset, ir, constants_are_inputs=ir < 4)
    onnx.save(model, tmp_path / "m.onnx")
    before = (tmp_path / "m.onnx").read_bytes()
    found = load_model(tmp_path / "m.onnx")
    assert [(one.domain, one.version) for one in found.opset_import] == [("", becomes)]
    assert 4 <= found.ir_version <= 10
    assert [one.name for one in found.graph.input] == ["z"]
    assert [(one.key, one.value) for one in found.metadata_props] == [("kept", "yes")]
    assert (tmp_path / "m.onnx").read_bytes() == before
    images = np.random.default_rng(1).normal(size=(5, 3, 8, 8)).astype(np.float32)
    reference = classifier(17, 8).SerializeToString()
    wanted, got = (open_session(one).run(None, {"z": images})[0] for one in (reference, found.SerializeToString()))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-6)


def test_a_model_within_the_versions_is_not_changed(tmp_path: Path) -> None:
    """Not a byte."""
    for opset, ir in ((13, 7), (21, 10)):
        onnx.save(classifier(opset, ir), tmp_path / "m.onnx")
        assert load_model(tmp_path / "m.onnx").SerializeToString() == (tmp_path / "m.onnx").read_bytes()


def test_a_model_of_trees_alone_gets_the_import_that_it_lacks(tmp_path: Path) -> None:
    """Converters of gradient boosting write no version of ONNX's own operators where they use none."""
    tree = helper.make_node(
        "TreeEnsembleClassifier",
        ["z"],
        ["label", "probabilities"],
        domain="ai.onnx.ml",
        nodes_treeids=[0] * 3,
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[0] * 3,
        nodes_values=[0.5, 0.0, 0.0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        class_treeids=[0] * 4,
        class_nodeids=[1, 1, 2, 2],
        class_ids=[0, 1, 0, 1],
        class_weights=[0.75, 0.25, 0.125, 0.875],
        classlabels_int64s=[0, 1],
        post_transform="NONE",
    )
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2]),
    ]
    inputs = [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 1])]
    graph = helper.make_graph([tree], "trees", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 1)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    found = load_model(tmp_path / "m.onnx")
    assert {one.domain: one.version for one in found.opset_import} == {"": 13, "ai.onnx.ml": 1}
    (got,) = open_session(found.SerializeToString()).run(["probabilities"], {"z": np.array([[0.0], [1.0]], np.float32)})
    np.testing.assert_array_equal(got, np.array([[0.75, 0.25], [0.125, 0.875]], np.float32))


def test_functions_of_a_model_are_converted_too(tmp_path: Path) -> None:
    """The converter alone would drop them."""
    double = helper.make_function(
        "mine", "Double", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 11)]
    )
    graph = helper.make_graph(
        [helper.make_node("Double", ["z"], ["logits"], domain="mine")],
        "with a function",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
    )
    imports = [helper.make_opsetid("", 11), helper.make_opsetid("mine", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8, functions=[double]), tmp_path / "m.onnx")
    found = load_model(tmp_path / "m.onnx")
    rows = np.eye(3, dtype=np.float32)
    np.testing.assert_array_equal(open_session(found.SerializeToString()).run(None, {"z": rows})[0], 2 * rows)


@pytest.mark.parametrize(
    ("opset", "operator", "inputs"), [(23, "RMSNormalization", ["z", "scale"]), (99, "Identity", ["z"])]
)
def test_a_model_that_cannot_be_converted_is_refused_with_the_way_to_export_it(
    build: Body, tmp_path: Path, opset: int, operator: str, inputs: list[str]
) -> None:
    """The error names the file, both versions, and the option of each exporter."""
    node = helper.make_node(operator, inputs, ["logits"])
    onnx.save(build([node], [3], [3], {"scale": np.ones(3, np.float32)}, opset=opset), tmp_path / "m.onnx")
    with pytest.raises(ExportError, match=rf"m\.onnx: its opset is {opset}, .*opset_version=21 \(torch\)") as refusal:
        load_model(tmp_path / "m.onnx")
    assert "\n" not in str(refusal.value)


def test_a_conversion_that_changes_the_outputs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both models are run before anything is made of the new one."""

    def wrong(_: ModelProto, version: int) -> ModelProto:
        converted = classifier(version, 8)
        (head,) = (one for one in converted.graph.initializer if one.name == "head")
        head.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(head), "head"))
        return converted

    onnx.save(classifier(11, 6), tmp_path / "m.onnx")
    monkeypatch.setattr(onnx.version_converter, "convert_version", wrong)
    with pytest.raises(ParityError, match=r"m\.onnx: converted from opset 11 to 13, it gives another 'probabilities'"):
        load_model(tmp_path / "m.onnx")


def test_weights_larger_than_the_model_declares_are_refused(build: Body, tmp_path: Path) -> None:
    """Its weights are not read first; the file of weights here takes no space on disk."""
    node = helper.make_node("MatMul", ["z", "weight"], ["logits"])
    model = build([node], [3], [3])
    weight = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[3, 3], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="weights.bin")
    model.graph.initializer.append(weight)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with (tmp_path / "weights.bin").open("wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(ExportError, match=r"m\.onnx: expected weights of 0\.0 GB, .* got 3\.2 GB"):
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


def test_links_stay_links_and_devices_devices(tmp_path: Path) -> None:
    """What is written goes where the path leads."""
    (tmp_path / "target.onnx").write_bytes(b"old")
    (tmp_path / "link.onnx").symlink_to("target.onnx")
    write_whole(b"new", tmp_path / "link.onnx")
    assert (tmp_path / "link.onnx").is_symlink()
    assert (tmp_path / "target.onnx").read_bytes() == b"new"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_whole(b"new", tmp_path / "pipe")
    assert os.read(reader, 10) == b"new"
    os.close(reader)
