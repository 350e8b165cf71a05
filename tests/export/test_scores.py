"""Scores of every input are computed by a local model or a remote, or read from a file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from sklearn.linear_model import LogisticRegression

from edgecascade.cli import main
from edgecascade.export import (
    ExportError,
    ImagePreprocessing,
    load_model,
    local_scores,
    prepend,
    remote_scores,
    save_model,
)
from edgecascade.runtime import Cascade, InProcess, RemoteLabels
from edgecascade.runtime.engine import open_session
from edgecascade.runtime.golden import read_golden
from edgecascade.types.errors import EdgecascadeError, InputError, ModelFileError

skl2onnx = pytest.importorskip("skl2onnx")

Body = Callable[..., ModelProto]
INPUTS = np.random.default_rng(0).normal(0, 2, (70, 3)).astype(np.float32)


@pytest.mark.parametrize("batch", ["batch", 1, 7, pytest.param(32), pytest.param(100)])
def test_a_local_model_runs_at_its_batch_size(identity: Body, tmp_path: Path, batch: int | str) -> None:
    """With a free or fixed batch, there is one row for each input, in order."""
    save_model(identity(3, batch=batch), tmp_path / "m.onnx")
    np.testing.assert_array_equal(local_scores(tmp_path / "m.onnx", INPUTS), INPUTS)


@pytest.mark.parametrize(
    "batch",
    [
        "batch",
        pytest.param(1),
    ],
)
def test_a_remote_file_runs_at_its_batch_size(identity: Body, tmp_path: Path, batch: int | str) -> None:
    """Any remote of the runtime can be used in calibration."""
    save_model(identity(3, batch=batch), tmp_path / "m.onnx")
    np.testing.assert_array_equal(remote_scores(str(tmp_path / "m.onnx"), INPUTS), INPUTS)


@pytest.mark.parametrize(
    "kind",
    [
        TensorProto.FLOAT,
        pytest.param(
            TensorProto.FLOAT16,
        ),
    ],
    ids=["float32", "float16"],
)
def test_a_local_model_that_ends_in_softmax_gives_its_logits(build: Body, tmp_path: Path, kind: int) -> None:
    """The temperature is fitted on the values that it divides."""
    nodes = [helper.make_node("Neg", ["z"], ["raw"]), helper.make_node("Softmax", ["raw"], ["probabilities"])]
    save_model(build(nodes, [3], [3], output="probabilities", kind=kind), tmp_path / "m.onnx")
    inputs = INPUTS.astype(helper.tensor_dtype_to_np_dtype(kind))
    np.testing.assert_array_equal(local_scores(tmp_path / "m.onnx", inputs), -inputs)


def test_the_output_can_be_named(build: Body, tmp_path: Path) -> None:
    """The name selects one of several outputs."""
    body = build([helper.make_node("Neg", ["z"], ["a"]), helper.make_node("Neg", ["a"], ["logits"])], [3], [3])
    body.graph.output.add().CopyFrom(helper.make_tensor_value_info("a", TensorProto.FLOAT, ["batch", 3]))
    save_model(body, tmp_path / "m.onnx")
    np.testing.assert_array_equal(local_scores(tmp_path / "m.onnx", INPUTS, output="a"), -INPUTS)


def test_progress_adds_up_to_the_number_of_inputs(identity: Body, tmp_path: Path) -> None:
    """Progress is reported after every batch, local or remote."""
    save_model(identity(3), tmp_path / "m.onnx")
    local: list[int] = []
    remote: list[int] = []
    local_scores(tmp_path / "m.onnx", INPUTS, progress=local.append)
    remote_scores(str(tmp_path / "m.onnx"), INPUTS, progress=remote.append)
    assert local == remote == [32, 32, 6]


def test_images_of_different_sizes_are_scored(build: Body, tmp_path: Path) -> None:
    """Images of different sizes are scored one at a time."""
    body = build(
        [helper.make_node("ReduceMean", ["z", "axes"], ["logits"], keepdims=0)],
        [3, 4, 4],
        [3],
        {"axes": np.array([2, 3])},
    )
    save_model(prepend(ImagePreprocessing(4, 4, (0.0,) * 3, (1.0,) * 3), body), tmp_path / "m.onnx")
    images = [np.full((side, 5, 3), side, np.uint8) for side in (4, 4, 9, 6)]
    np.testing.assert_allclose(local_scores(tmp_path / "m.onnx", images)[:, 0], [4, 4, 9, 6], rtol=1e-5)


def test_inputs_of_another_shape_are_refused(identity: Body, tmp_path: Path) -> None:
    """The error names the shape found and the one expected, local or remote."""
    save_model(identity(3), tmp_path / "m.onnx")
    with pytest.raises(EdgecascadeError, match=r"m\.onnx: expected float32 \[3\] per input, got float32 \[2\]$"):
        local_scores(tmp_path / "m.onnx", INPUTS[:, :2])
    with pytest.raises(EdgecascadeError, match=r"^remote input: expected float32 \[3\] per input, got int64 \[3\]$"):
        remote_scores(str(tmp_path / "m.onnx"), INPUTS.astype(np.int64))


def test_saved_scores_are_read(tmp_path: Path) -> None:
    """Saved scores are returned unchanged."""
    np.save(tmp_path / "saved.npy", 2 * INPUTS)
    np.testing.assert_array_equal(remote_scores(str(tmp_path / "saved.npy"), INPUTS), 2 * INPUTS)


@pytest.mark.parametrize("shape", [(69, 3), (70,), (70, 3, 1), (0, 3)], ids=str)
def test_saved_scores_of_another_shape_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """The error names the file and the number of inputs."""
    np.save(tmp_path / "saved.npy", np.zeros(shape))
    with pytest.raises(ExportError, match=r"saved\.npy: expected logits \[70, classes\], got \[\d+"):
        remote_scores(str(tmp_path / "saved.npy"), INPUTS)


@pytest.mark.parametrize(
    "content", [None, b"", b"noise" * 9, b"\x93NUMPY\x01\x00"], ids=["missing", "empty", "noise", "cut short"]
)
def test_invalid_saved_scores_are_refused(tmp_path: Path, content: bytes | None) -> None:
    """The error names the file."""
    if content is not None:
        (tmp_path / "saved.npy").write_bytes(content)
    with pytest.raises(ExportError, match=r"saved\.npy: "):
        remote_scores(str(tmp_path / "saved.npy"), INPUTS)


def test_pickled_scores_are_not_loaded(tmp_path: Path) -> None:
    """Pickles can hold code."""
    np.save(tmp_path / "saved.npy", np.array([[print]] * 70, object), allow_pickle=True)
    with pytest.raises(ExportError, match=r"saved\.npy: "):
        remote_scores(str(tmp_path / "saved.npy"), INPUTS)


def test_an_unreachable_remote_is_reported() -> None:
    """The error names the reason and the number of inputs scored before it."""
    with pytest.raises(ExportError, match=r"^http://127\.0\.0\.1:9/v2/models/m: it failed after 0 inputs: cannot"):
        remote_scores("http://127.0.0.1:9/v2/models/m", INPUTS[:2])


@pytest.mark.parametrize("remote", ["ftp://host/v2/models/m", "http://127.0.0.1:9/models/m", "missing.onnx"])
def test_an_invalid_remote_is_refused(remote: str) -> None:
    """The error names the accepted kinds."""
    with pytest.raises(EdgecascadeError, match=r"^remote: expected http\[s\]://|^missing\.onnx: no such file$"):
        remote_scores(remote, INPUTS)


def test_numbers_are_cast_to_the_precision_of_the_model(
    identity: Body, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A word says so; whole numbers for a model of floating ones are refused, since their scale is unknown."""
    for kind, given in ((TensorProto.FLOAT, np.float64), (TensorProto.FLOAT16, np.float32)):
        save_model(identity(3, kind=kind), tmp_path / "m.onnx")
        caplog.clear()
        wanted = INPUTS.astype(helper.tensor_dtype_to_np_dtype(kind))
        np.testing.assert_array_equal(local_scores(tmp_path / "m.onnx", INPUTS.astype(given)), wanted)
        assert "m.onnx: the data are float" in caplog.text
        caplog.clear()
        np.testing.assert_array_equal(local_scores(tmp_path / "m.onnx", wanted), wanted)
        assert not caplog.text
        with pytest.raises(EdgecascadeError, match=r"expected float\d\d \[3\] per input, got int64"):
            local_scores(tmp_path / "m.onnx", INPUTS.astype(np.int64))
    with pytest.raises(EdgecascadeError, match=r"expected numbers that fit float16, got 100000\.0"):
        local_scores(tmp_path / "m.onnx", np.full((3, 3), 1e5, np.float32))


@pytest.mark.parametrize("given", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE])
def test_a_body_of_any_precision_becomes_a_cascade_that_answers(
    build: Body, tmp_path: Path, kind: int, given: type
) -> None:
    """The golden inputs in the file have the type that it declares, and `predict` takes the data as they are."""
    rng = np.random.default_rng(0)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    body = build(
        [helper.make_node("MatMul", ["z", "w"], ["logits"])], [4], [3], {"w": np.eye(4, 3).astype(dtype)}, kind=kind
    )
    onnx.save(body, tmp_path / "body.onnx")
    x: NDArray[Any] = rng.normal(0, 1.5, (400, 4)).astype(given)
    y = (x[:, :3] + rng.gumbel(size=(400, 3))).argmax(axis=1)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    np.save(tmp_path / "remote.npy", np.eye(3)[y] * 3 + rng.gumbel(size=(400, 3)))
    np.save(tmp_path / "x.npy", x[:5])
    arguments = ["--data", tmp_path / "data.npz", "--remote", tmp_path / "remote.npy", "--offload-rate", "0.3"]
    local = tmp_path / "local.onnx"
    assert main(["calibrate", *map(str, (tmp_path / "body.onnx", *arguments, "-o", local))]) == 0
    assert main(["inspect", str(local), "--verify"]) == 0
    golden = read_golden(open_session(local), local)
    assert golden is not None
    assert golden.inputs["z"].dtype == dtype
    assert main(["run", str(local), str(tmp_path / "x.npy")]) == 0
    with Cascade.load(local) as cascade:
        assert [cascade.predict(one).label for one in x] == [answer.label for answer in cascade.stream(x)]


def test_a_list_of_dictionaries_is_refused_with_the_option_that_avoids_it(tmp_path: Path) -> None:
    """It is the default output of skl2onnx; as a remote it gets the same advice."""
    rng = np.random.default_rng(0)
    model = LogisticRegression().fit(INPUTS, rng.integers(0, 3, len(INPUTS)))
    (tmp_path / "m.onnx").write_bytes(skl2onnx.to_onnx(model, INPUTS[:1], target_opset=17).SerializeToString())
    for scores in (local_scores, lambda path, x: remote_scores(str(path), x)):
        with pytest.raises(EdgecascadeError, match=r"options=\{'zipmap': False\} \(skl2onnx\)"):
            scores(tmp_path / "m.onnx", INPUTS)
    with pytest.raises(EdgecascadeError, match=r"options=\{'zipmap': False\} \(skl2onnx\)"):
        local_scores(tmp_path / "m.onnx", INPUTS, output="output_probability")


def test_a_model_that_carries_a_state_is_refused(build: Body, tmp_path: Path) -> None:
    """Its second input comes back as an output, which a cascade would have to keep between unrelated inputs."""
    nodes = [helper.make_node("Add", ["z", "state"], ["logits"]), helper.make_node("Neg", ["state"], ["next"])]
    body = build(nodes, [3], [3])
    body.graph.input.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, [1, 3]))
    body.graph.output.append(helper.make_tensor_value_info("next", TensorProto.FLOAT, [1, 3]))
    save_model(body, tmp_path / "m.onnx")
    with pytest.raises(ExportError, match=r"m\.onnx: expected a model without a state, got one that takes state and"):
        local_scores(tmp_path / "m.onnx", INPUTS)


def test_the_output_of_a_remote_can_be_named(build: Body, tmp_path: Path) -> None:
    """Otherwise the error says how, if there are several."""
    body = build([helper.make_node("Neg", ["z"], ["a"]), helper.make_node("Neg", ["a"], ["b"])], [3], [3], output="b")
    body.graph.output.add().CopyFrom(helper.make_tensor_value_info("a", TensorProto.FLOAT, ["batch", 3]))
    save_model(body, tmp_path / "m.onnx")
    np.testing.assert_array_equal(remote_scores(str(tmp_path / "m.onnx"), INPUTS, output="a"), -INPUTS)
    with pytest.raises(ModelFileError, match=r"name it with `output` \(--remote-output\)"):
        remote_scores(str(tmp_path / "m.onnx"), INPUTS)


def _calibrated(folder: Path, body: ModelProto, x: NDArray[Any], scores: NDArray[Any]) -> Path:
    """Return the cascade model that `calibrate` writes, for labels that follow from scores [n, 3]."""
    rng = np.random.default_rng(0)
    save_model(body, folder / "body.onnx")
    y = (scores + rng.gumbel(size=scores.shape)).argmax(axis=1)
    np.savez(folder / "data.npz", x=x, y=y)
    np.save(folder / "remote.npy", np.eye(3)[y] * 3 + rng.gumbel(size=scores.shape))
    arguments = ["--data", folder / "data.npz", "--remote", folder / "remote.npy", "--offload-rate", "0.3"]
    assert main(["calibrate", *map(str, (folder / "body.onnx", *arguments, "-o", folder / "local.onnx"))]) == 0
    return folder / "local.onnx"


FEW_ROWS = np.random.default_rng(0).normal(0, 1.5, (300, 3)).astype(np.float32)
WORDS = np.array(["red", "green", "blue"])[np.random.default_rng(0).integers(0, 3, 300)]


def _one_row(build: Body) -> tuple[ModelProto, NDArray[Any], NDArray[Any]]:
    """Return a body that declares any batch and runs a single input only, as careless exporters write them."""
    nodes = [helper.make_node("Reshape", ["z", "row"], ["logits"])]
    return build(nodes, [3], [3], {"row": np.array([1, 3])}), FEW_ROWS, FEW_ROWS


def _fixed(build: Body) -> tuple[ModelProto, NDArray[Any], NDArray[Any]]:
    """Return a body of a fixed batch."""
    return build([helper.make_node("Identity", ["z"], ["logits"])], [3], [3], batch=16), FEW_ROWS, FEW_ROWS


def _rankless(build: Body) -> tuple[ModelProto, NDArray[Any], NDArray[Any]]:
    """Return a body whose output is declared without a shape."""
    body = build([helper.make_node("Neg", ["z"], ["logits"])], [3], [3])
    body.graph.output[0].type.tensor_type.ClearField("shape")
    return body, FEW_ROWS, -FEW_ROWS


def _numbers(build: Body) -> tuple[ModelProto, NDArray[Any], NDArray[Any]]:
    """Return a body that takes one number per input, without further sides."""
    body = build([helper.make_node("Gather", ["table", "z"], ["logits"])], [], [3], {"table": FEW_ROWS})
    body.graph.input[0].CopyFrom(helper.make_tensor_value_info("z", TensorProto.INT64, ["batch"]))
    return body, np.arange(300), FEW_ROWS


def _words(build: Body) -> tuple[ModelProto, NDArray[Any], NDArray[Any]]:
    """Return a body that takes strings."""
    encoder = helper.make_node(
        "LabelEncoder",
        ["z"],
        ["rows"],
        domain="ai.onnx.ml",
        keys_strings=["red", "green", "blue"],
        values_int64s=[0, 1, 2],
    )
    table = np.array([[2, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    body = build([encoder, helper.make_node("Gather", ["table", "rows"], ["logits"])], [], [3], {"table": table})
    body.graph.input[0].CopyFrom(helper.make_tensor_value_info("z", TensorProto.STRING, ["batch"]))
    body.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    return body, WORDS, table[[["red", "green", "blue"].index(word) for word in WORDS]]


@pytest.mark.parametrize("make", [_one_row, _fixed, _rankless, _numbers, _words])
def test_what_calibrate_writes_runs_in_predict_run_and_stream(
    build: Body, tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Body], Any]
) -> None:
    """Whatever the body's batch, rank and type are, the file answers one input, several, and its golden inputs."""
    body, x, scores = make(build)
    if make is _rankless:
        (tmp_path / "body.onnx").write_bytes(body.SerializeToString())
        body = load_model(tmp_path / "body.onnx")
    local = _calibrated(tmp_path, body, x, scores)
    wanted = scores.argmax(axis=1).tolist()
    with Cascade.load(local) as cascade:
        assert [cascade.predict(one).label for one in x] == wanted
        assert [answer.label for answer in cascade.stream(x)] == wanted
        assert [answer.label for answer in cascade.predict_batch(x[:7])] == wanted[:7]
        if make is _numbers:
            with pytest.raises(InputError, match=r"^x: the model fails for this input: .*out of (bounds|data bounds)"):
                cascade.predict(np.int64(300))
    assert main(["inspect", str(local), "--verify"]) == 0
    np.save(tmp_path / "x.npy", x[:3])
    capsys.readouterr()
    assert main(["run", str(local), str(tmp_path / "x.npy")]) == 0
    assert [json.loads(line)["label"] for line in capsys.readouterr().out.splitlines()] == wanted[:3]


def test_a_body_that_runs_only_in_another_batch_than_it_declares_is_refused(build: Body, tmp_path: Path) -> None:
    """Before anything is calibrated, and not by the device."""
    body = build([helper.make_node("Reshape", ["z", "rows"], ["logits"])], [3], [3], {"rows": np.array([32, 3])})
    save_model(body, tmp_path / "m.onnx")
    with pytest.raises(
        ExportError, match=r"m\.onnx: the model fails for 1 of the inputs: .*export it with one of any size"
    ):
        local_scores(tmp_path / "m.onnx", FEW_ROWS)


def test_a_body_that_no_decision_fits_into_is_refused_before_it_runs(
    identity: Body, pair: Path, tmp_path: Path
) -> None:
    """Its input has a name that the head needs, or it is a cascade model already."""
    save_model(identity(3, source="threshold"), tmp_path / "m.onnx")
    with pytest.raises(ExportError, match=r"^body: its input 'threshold' has a name that cascade models reserve"):
        local_scores(tmp_path / "m.onnx", INPUTS)
    with pytest.raises(ExportError, match=r"^body: expected a model without a decision, got a cascade model"):
        local_scores(pair / "local.onnx", INPUTS)


def test_a_remote_object_is_asked_and_closed() -> None:
    """One that gives labels only cannot be calibrated."""
    closed = []

    class Given(InProcess):
        def close(self) -> None:
            closed.append(self)

    np.testing.assert_array_equal(remote_scores(Given(lambda x: -x), INPUTS), -INPUTS)
    with pytest.raises(ExportError, match="expected scores of every class, got labels with confidences"):
        remote_scores(Given(lambda x: RemoteLabels(np.zeros(len(x), int), np.ones(len(x)))), INPUTS)
    assert len(closed) == 2
