"""`compare` measures the difference between two bodies: none, half precision, int8, or broken."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto, numpy_helper

from edgecascade.cli import main
from edgecascade.export import (
    ExportError,
    LabelledData,
    compare_bodies,
    export_torch,
    quantize_int8_dynamic,
    save_model,
    to_float16,
)
from edgecascade.runtime.engine import open_session


@pytest.fixture(scope="module")
def body() -> ModelProto:
    """Return a body of two dense layers with random weights."""
    torch.manual_seed(0)
    return export_torch(torch.nn.Sequential(torch.nn.Linear(32, 256), torch.nn.ReLU(), torch.nn.Linear(256, 4)), [32])


@pytest.fixture(scope="module")
def folder(body: ModelProto, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `body.onnx`, `data.npz` whose labels follow its logits, and the body in fewer bits."""
    folder = tmp_path_factory.mktemp("compare")
    x = np.random.default_rng(0).normal(0, 3, (1000, 32)).astype(np.float32)
    save_model(body, folder / "body.onnx")
    (logits,) = open_session(body.SerializeToString()).run(None, {"input": x})
    labels = (2 * logits + np.random.default_rng(1).gumbel(size=logits.shape)).argmax(axis=1)
    np.savez(folder / "data.npz", x=x, y=labels)
    save_model(to_float16(body), folder / "half.onnx")
    save_model(quantize_int8_dynamic(body), folder / "int8.onnx")
    return folder


def _data(folder: Path) -> LabelledData:
    with np.load(folder / "data.npz") as arrays:
        return LabelledData(arrays["x"], arrays["y"], (), "0" * 64)


def test_a_body_equals_itself(folder: Path) -> None:
    """A body compared with itself differs in nothing, and the interval reflects n."""
    found = compare_bodies(folder / "body.onnx", folder / "body.onnx", _data(folder))
    assert (found.agreement.value, found.difference.value, found.difference.n) == (1.0, 0.0, 1000)
    assert found.difference.low < 0 < found.difference.high
    assert found.before == found.after


@pytest.mark.parametrize(("name", "bytes_", "agreement"), [("half", 0.6, 0.99), ("int8", 0.45, 0.93)])
def test_fewer_bits_change_few_labels(folder: Path, name: str, bytes_: float, agreement: float) -> None:
    """The weights take half or a quarter of the bytes plus a scale per output, and nearly all labels agree."""
    found = compare_bodies(folder / "body.onnx", folder / f"{name}.onnx", _data(folder))
    assert found.megabytes[1] < bytes_ * found.megabytes[0]
    assert agreement < found.agreement.value
    assert found.difference.low <= 0 <= found.difference.high
    assert found.after.temperature == pytest.approx(found.before.temperature, rel=0.1)


def test_the_layer_before_the_logits_stays_in_float(folder: Path) -> None:
    """The last layer stays in float, so confidences are not limited to a few hundred values."""
    weights = {i.data_type for i in onnx.load(folder / "int8.onnx").graph.initializer if len(i.dims) == 2}
    assert weights == {TensorProto.INT8, TensorProto.FLOAT}


def test_a_broken_body_is_detected(folder: Path, body: ModelProto, tmp_path: Path) -> None:
    """With noise as large as the weights, the interval of the difference excludes 0."""
    broken = ModelProto()
    broken.CopyFrom(body)
    for initializer in broken.graph.initializer:
        if len(initializer.dims) == 2:
            weight = numpy_helper.to_array(initializer)
            noise = np.random.default_rng(0).normal(0, weight.std(), weight.shape).astype(np.float32)
            initializer.CopyFrom(numpy_helper.from_array(weight + noise, initializer.name))
    save_model(broken, tmp_path / "broken.onnx")
    found = compare_bodies(folder / "body.onnx", tmp_path / "broken.onnx", _data(folder))
    assert found.difference.high < -0.1


def test_the_command_prints_a_table_and_a_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints a table and a sentence, and writes all figures as JSON."""
    arguments = ["compare", *(str(folder / f"{name}.onnx") for name in ("body", "half"))]
    arguments += ["--data", str(folder / "data.npz")]
    assert main(arguments) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[1:3]] == ["body.onnx", "half.onnx"]
    assert printed[3].startswith("The same label on ")
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["difference"]["n"] == 1000


def test_a_different_number_of_classes_is_refused(folder: Path, tmp_path: Path) -> None:
    """The error names both numbers of classes."""
    save_model(export_torch(torch.nn.Linear(32, 5), [32]), tmp_path / "five.onnx")
    with pytest.raises(ExportError, match=r"five\.onnx: expected 4 classes as .*body\.onnx has, got 5"):
        compare_bodies(folder / "body.onnx", tmp_path / "five.onnx", _data(folder))


def test_a_body_of_one_layer_has_nothing_to_quantize() -> None:
    """The only layer is the last one, which stays in float, so nothing is left to quantize."""
    with pytest.raises(ExportError, match=r"^body: expected a MatMul or convolution"):
        quantize_int8_dynamic(export_torch(torch.nn.Linear(8, 3), [8]))


@pytest.mark.parametrize("bits", ["--float16", "--int8-dynamic"])
def test_export_writes_fewer_bits(folder: Path, tmp_path: Path, bits: str) -> None:
    """`edgecascade export` writes the same files as the functions, and refuses both reductions at once."""
    out = tmp_path / "o.onnx"
    assert main(["export", str(folder / "body.onnx"), bits, "-o", str(out)]) == 0
    assert out.stat().st_size < 0.6 * (folder / "body.onnx").stat().st_size
    with pytest.raises(SystemExit):
        main(["export", str(folder / "body.onnx"), "--float16", "--int8-dynamic", "-o", str(out)])
