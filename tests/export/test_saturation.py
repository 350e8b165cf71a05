"""Int8 files decide alike on CPUs with and without VNNI: no pair of weights saturates 16 bits."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from edgecascade.calibration import MostAccuracy
from edgecascade.cli import main
from edgecascade.export import (
    LabelledData,
    ParityError,
    calibrate,
    check_parity,
    export_torch,
    load_model,
    local_scores,
    quantize_int8,
    quantize_int8_dynamic,
    save_model,
)
from edgecascade.export.fold import rule_of
from edgecascade.runtime.saturation import saturates_here, unsafe_weights

Emulate = Callable[..., dict[str, Any]]

# Run a file with defaults, with the session option, and as the runtime does; print all outputs as JSON.
SCRIPT = """
import json, sys
import numpy as np
import onnxruntime as ort
from edgecascade.runtime.saturation import saturates_here
from edgecascade.runtime.engine import open_session
def plain(option):
    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", option)
    return ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
inputs = dict(np.load(sys.argv[2]))
sessions = {"plain": plain("0"), "exact": plain("1"), "runtime": open_session(sys.argv[1])}
found = {name: session.run(None, inputs)[0].tolist() for name, session in sessions.items()}
print(json.dumps({"saturates": saturates_here(), **found}))
"""


@pytest.fixture(scope="session")
def haswell() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Return a command that runs Python on an emulated CPU with AVX2 and without VNNI, or skip the test."""
    emulator = shutil.which("qemu-x86_64")
    if emulator is None:
        pytest.skip("qemu-x86_64 is not installed")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        python = os.path.realpath(sys.executable)
        command = [emulator, "-cpu", "Haswell", python, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    return run


@pytest.fixture
def emulate(haswell: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path) -> Emulate:
    """Run `SCRIPT` with a model and inputs on the emulated CPU and return its outputs."""

    def emulate(model: ModelProto, **inputs: NDArray[Any]) -> dict[str, Any]:
        onnx.save(model, tmp_path / "model.onnx")
        np.savez(tmp_path / "inputs.npz", allow_pickle=False, **inputs)
        done = haswell("-c", SCRIPT, str(tmp_path / "model.onnx"), str(tmp_path / "inputs.npz"))
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    return emulate


class Net(torch.nn.Module):
    """A network with every kind of kernel: 3 x 3, grouped, depthwise, 1 x 1, of odd and even depth, and a matrix."""

    def __init__(self) -> None:
        """Draw heavy-tailed weights: one in ten is large."""
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, 16, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv2d(16, 16, 3, padding=1, groups=16),
            torch.nn.Conv2d(16, 24, 1),
            torch.nn.ReLU(),
            torch.nn.Conv2d(24, 24, 3, padding=1, groups=4),
            torch.nn.AdaptiveAvgPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Linear(96, 33),
            torch.nn.ReLU(),
            torch.nn.Linear(33, 5),
        )
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(torch.where(torch.rand_like(parameter) < 0.1, 4.0, 1.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        found: torch.Tensor = self.layers(x)
        return found


INPUTS = np.random.default_rng(0).normal(size=(64, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def body() -> ModelProto:
    """Return the float body."""
    torch.manual_seed(0)
    return export_torch(Net().eval(), (3, 8, 8))


@pytest.fixture(scope="module")
def unsafe(body: ModelProto, tmp_path_factory: pytest.TempPathFactory) -> ModelProto:
    """Return the body quantized with onnxruntime's defaults: full range, without a limit on pairs."""
    folder = tmp_path_factory.mktemp("unsafe")

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self._left = iter([{body.graph.input[0].name: INPUTS}])

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            return next(self._left, None)

    onnx.save(body, folder / "body.onnx")
    head = [node.name for node in body.graph.node if node.op_type == "Gemm"][-1]
    quantize_static(
        folder / "body.onnx",
        folder / "int8.onnx",
        Reader(),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        nodes_to_exclude=[head],
    )
    return onnx.load(folder / "int8.onnx")


def clipped_pairs(model: ModelProto) -> int:
    """Count the pairs of int8 weights whose sum can saturate, in any order in which a kernel may pair them."""
    tensors = {one.name: numpy_helper.to_array(one).astype(int) for one in model.graph.initializer}
    dequantized = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    found = 0
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul", "MatMulInteger", "DynamicQuantizeLSTM"):
            continue
        attributes = {one.name: one.i for one in node.attribute}
        for name in (dequantized.get(name, name) for name in node.input[1:3]):
            if name not in tensors or tensors[name].ndim < 2 or not name.endswith("_quantized"):
                continue
            weights = tensors[name]
            if node.op_type == "Conv":
                if attributes["group"] == len(weights) and weights.shape[1] == 1:
                    continue
                orders = [weights.reshape(len(weights), -1), weights.transpose(0, 2, 3, 1).reshape(len(weights), -1)]
            else:
                orders = [weights if attributes.get("transB") else weights.swapaxes(-1, -2)]
            for order in orders:
                even, odd = order[..., 0::2], order[..., 1::2]
                both = even[..., : odd.shape[-1]]
                for sign in (1, -1):
                    worst = 255 * (np.maximum(sign * both, 0) + np.maximum(sign * odd, 0))
                    found += int((worst > np.iinfo(np.int16).max + (sign < 0)).sum())
    return found


def matmul(weights: NDArray[np.int8]) -> ModelProto:
    """Return a model of one integer matrix product that outputs its sums."""
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "sums",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["batch", weights.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["batch", weights.shape[1]])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def product(activations: type) -> ModelProto:
    """Return a quantized product of weights at both ends, in the QOperator format."""
    weights = np.full((64, 8), 127, np.int8)
    weights[:, ::2] = -127
    zero = activations(128 if activations is np.uint8 else 0)
    scales = {"scale": np.float32(1), "coarse": np.float32(20_000)}
    constants: dict[str, Any] = {**scales, "zero": zero, "w": weights, "w_zero": np.int8(0)}
    kind = TensorProto.UINT8 if activations is np.uint8 else TensorProto.INT8
    node = helper.make_node("QLinearMatMul", ["x", "scale", "zero", "w", "scale", "w_zero", "coarse", "zero"], ["y"])
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", kind, ["batch", 64])],
        [helper.make_tensor_value_info("y", kind, ["batch", 8])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def worst_weights(k: int, n: int) -> NDArray[np.int8]:
    """Return pairs that add up to exactly 128 or -128, with a single last weight where k is odd."""
    first = np.random.default_rng(k).integers(1, 128, (k // 2, n))
    pairs = np.stack([first, 128 - first], axis=1).reshape(-1, n)
    signed = pairs * np.where(np.arange(n) % 2, -1, 1)
    return np.concatenate([signed, np.full((k % 2, n), 127)]).astype(np.int8)


def test_no_pair_of_weights_can_saturate(body: ModelProto, unsafe: ModelProto) -> None:
    """The written file has no such pair; onnxruntime's default has many in every layer but the depthwise one."""
    assert clipped_pairs(quantize_int8(body, INPUTS)) == 0
    assert clipped_pairs(unsafe) > 100
    assert len(unsafe_weights(unsafe.SerializeToString())) == 4


def test_dynamic_weights_cannot_saturate() -> None:
    """The weights of a matrix and of an LSTM in both directions are limited too."""

    class Text(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(16, 24, batch_first=True, bidirectional=True)
            self.layers = torch.nn.Sequential(torch.nn.Linear(48, 33), torch.nn.ReLU(), torch.nn.Linear(33, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.layers(self.lstm(x)[0][:, -1])
            return found

    torch.manual_seed(0)
    model = quantize_int8_dynamic(export_torch(Text().eval(), (7, 16)))
    assert {"DynamicQuantizeLSTM", "MatMulInteger"} <= {node.op_type for node in model.graph.node}
    assert clipped_pairs(model) == 0


def test_dynamic_quantization_includes_convolutions(body: ModelProto) -> None:
    """One scale serves all weights of a layer, as onnxruntime's integer convolution requires."""
    model = quantize_int8_dynamic(body)
    assert "ConvInteger" in {node.op_type for node in model.graph.node}
    assert clipped_pairs(model) == 0


def test_pairwise_limits_lose_less_than_seven_bits(body: ModelProto, logits_of: Callable[..., Any]) -> None:
    """The error of the logits stays near that of the full range."""
    expected = logits_of(body, INPUTS)
    error = np.abs(logits_of(quantize_int8(body, INPUTS), INPUTS) - expected).mean()
    assert error < 0.05 * expected.std()


@pytest.mark.parametrize("k", [2, 7, 64, 401])
def test_the_worst_case_is_summed_exactly(k: int) -> None:
    """Activations of 255 and pairs at the limit give exact sums on the CPU that runs the tests."""
    weights = worst_weights(k, 40)
    x = np.random.default_rng(0).choice([0, 255], (5, k), p=[0.1, 0.9]).astype(np.uint8)
    x[0] = 255
    model = matmul(weights)
    assert unsafe_weights(model.SerializeToString()) == []
    assert np.array_equal(run(model, x), x.astype(int) @ weights.astype(int))
    assert np.array_equal(run(model, x[:1]), x[:1].astype(int) @ weights.astype(int))


def run(model: ModelProto, x: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Run the model on an unmodified onnxruntime session."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def test_without_vnni_the_limit_is_exact(emulate: Emulate) -> None:
    """A pair of 127 and 2 saturates without VNNI, while the runtime still returns the exact sum."""
    k = 37
    x = np.full((2, k), 255, np.uint8)
    weights = worst_weights(k, 40)
    found = emulate(matmul(weights), x=x)
    assert found["saturates"]
    assert np.array_equal(found["plain"], x.astype(int) @ weights.astype(int))
    weights[:2, 0] = 127, 2
    expected = x.astype(int) @ weights.astype(int)
    assert unsafe_weights(matmul(weights).SerializeToString()) == ["w"]
    found = emulate(matmul(weights), x=x)
    assert (np.asarray(found["plain"]) - expected)[:, 0].tolist() == [32767 - 255 * 129] * 2
    assert np.array_equal(found["exact"], expected)
    assert np.array_equal(found["runtime"], expected)


def test_without_vnni_a_written_file_gives_the_same_outputs(
    body: ModelProto, unsafe: ModelProto, emulate: Emulate, logits_of: Callable[..., Any]
) -> None:
    """They agree up to rounding; onnxruntime's default file needs the session option that the runtime sets."""
    name = body.graph.input[0].name
    ours = quantize_int8(body, INPUTS)
    here, found = logits_of(ours, INPUTS), emulate(ours, **{name: INPUTS})
    assert np.abs(np.asarray(found["plain"]) - here).max() < 0.02 * here.std()
    assert found["runtime"] == found["plain"]
    here, found = logits_of(unsafe, INPUTS), emulate(unsafe, **{name: INPUTS})
    assert np.abs(np.asarray(found["plain"]) - here).max() > 0.2 * here.std()
    assert np.abs(np.asarray(found["runtime"]) - here).max() < 0.02 * here.std()


def test_inspect_reports_a_file_that_can_saturate(
    unsafe: ModelProto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`inspect` prints a line for such a file and none for a safe one, and verifies it."""
    path = cascade_of(unsafe, tmp_path)
    assert main(["inspect", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "session.x64quantprecision" in shown
    assert "reduce_range=True" in shown
    assert main(["inspect", str(path), "--verify"]) == 0


def test_scoring_a_body_of_unsafe_weights_names_the_cure(
    body: ModelProto, unsafe: ModelProto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its maker can quantize it again; a float body needs no such advice."""
    for model, advised in ((unsafe, True), (body, False)):
        save_model(model, tmp_path / "body.onnx")
        caplog.clear()
        local_scores(tmp_path / "body.onnx", INPUTS)
        assert ("quantize with reduce_range=True" in caplog.text) == advised


def test_signed_activations_in_the_operator_format_are_exact(
    tmp_path: Path, haswell: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    """They need no session option, with which onnxruntime has no kernel for them; unsigned ones do need it."""
    assert unsafe_weights(product(np.uint8).SerializeToString()) == ["w"]
    assert unsafe_weights(product(np.int8).SerializeToString()) == []
    onnx.save(product(np.int8), tmp_path / "signed.onnx")
    script = (
        "import numpy as np; from edgecascade.runtime.engine import open_session;"
        f"session = open_session({str(tmp_path / 'signed.onnx')!r});"
        "run = lambda level: session.run(None, {'x': np.full((1, 64), level, np.int8)})[0][0, :2].tolist();"
        "print(run(127), run(-128))"
    )
    done = haswell("-c", script)
    assert done.stdout.strip() == "[-52, 52] [52, -52]", done.stdout + done.stderr


def test_parity_that_fails_on_such_a_cpu_names_the_cure(
    unsafe: ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scores given here are wrong on purpose."""
    model = load_model(cascade_of(unsafe, tmp_path))
    wrong = np.random.default_rng(0).normal(size=(len(INPUTS), 5)).astype(np.float32)
    for clips, advised in ((True, True), (False, False)):
        monkeypatch.setattr("edgecascade.export.parity.saturates_here", lambda clips=clips: clips)
        with pytest.raises(ParityError) as refusal:
            check_parity(model, INPUTS, wrong, rule_of(model))
        assert ("quantize with reduce_range=True" in str(refusal.value)) == advised


def test_without_vnni_golden_inputs_detect_saturation(
    unsafe: ModelProto, tmp_path: Path, haswell: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    """`inspect --verify` passes with the runtime's session option, and would fail without it."""
    path = cascade_of(unsafe, tmp_path)
    verify = f"sys.exit(main(['inspect', {str(path)!r}, '--verify']))"
    start = "import sys; from edgecascade.cli import main;"
    done = haswell("-c", f"{start} {verify}")
    assert done.returncode == 0, done.stdout + done.stderr
    alone = "import edgecascade.runtime.saturation as s; s.unsafe_weights = lambda source: [];"
    done = haswell("-c", f"{start} {alone} {verify}")
    assert done.returncode == 1, done.stdout + done.stderr


def cascade_of(body: ModelProto, folder: Path) -> Path:
    """Calibrate a body on labels that follow its logits."""
    save_model(body, folder / "body.onnx")
    inputs = np.random.default_rng(1).normal(size=(256, 3, 8, 8)).astype(np.float32)
    scores = local_scores(folder / "body.onnx", inputs)
    rng = np.random.default_rng(2)
    centred = (scores - scores.mean(axis=0)) / scores.std(axis=0)
    labels = (3 * centred + rng.gumbel(size=scores.shape)).argmax(axis=1)
    remote = (4 * np.eye(5)[labels] + rng.gumbel(size=scores.shape)).astype(np.float32)
    data = LabelledData(inputs, labels, (), "0" * 64)
    calibrate(folder / "body.onnx", folder / "cascade.onnx", data, scores, remote, objective=MostAccuracy(0.2), bins=8)
    return folder / "cascade.onnx"


def test_saturation_of_this_cpu_is_detected_by_a_trial() -> None:
    """The result equals what the kernel itself computes."""
    weights, x = np.full((2, 1), 127, np.int8), np.full((1, 2), 255, np.uint8)
    assert saturates_here() == bool(run(matmul(weights), x)[0, 0] != 2 * 255 * 127)


@pytest.mark.parametrize("content", [b"", b"\x3a\xff\xff\xff", os.urandom(500), b"\x3a\x02\x2a\x00"])
def test_a_file_that_is_not_a_model_has_no_saturating_weights(content: bytes, tmp_path: Path) -> None:
    """The engine reports the invalid file when it opens it."""
    (tmp_path / "model.onnx").write_bytes(content)
    assert unsafe_weights(content) == unsafe_weights(tmp_path / "model.onnx") == []
    assert unsafe_weights(tmp_path / "nowhere.onnx") == []
