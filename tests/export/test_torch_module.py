"""A torch module and its ONNX export are the same classifier."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto

from edgecascade.cli import main
from edgecascade.export import ExportError, ParityError, export_torch
from edgecascade.export.graph import opset
from edgecascade.export.sources import load_torch_module
from edgecascade.runtime.engine import open_session

INPUTS = np.random.default_rng(0).normal(size=(7, 3, 12, 12)).astype(np.float32)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_export_agrees_with_torch(
    network: torch.nn.Module,
    exported: ModelProto,
    logits_of: Callable[[ModelProto, NDArray[np.float32]], NDArray[np.float32]],
    n: int,
) -> None:
    """The export is in eval mode, whatever the module's mode, and agrees at any batch size."""
    with torch.no_grad():
        wanted = network.eval()(torch.from_numpy(INPUTS[:n])).numpy()
    np.testing.assert_allclose(logits_of(exported, INPUTS[:n]), wanted, atol=1e-5)


def test_old_runtimes_can_read_it(exported: ModelProto) -> None:
    """The opset and IR version are supported by ONNX Runtime 1.19."""
    assert opset(exported) <= 21
    assert exported.ir_version <= 10


def test_the_export_contains_no_paths_of_the_machine(exported: ModelProto) -> None:
    """The stack traces that torch writes into the graph are removed."""
    for path in (os.getcwd(), str(Path.home()), os.path.dirname(torch.__file__)):
        assert path.encode() not in exported.SerializeToString()


def test_an_object_that_is_not_a_module_is_refused() -> None:
    """The error names the type."""
    with pytest.raises(ExportError, match=r"^module: expected a torch\.nn\.Module, got dict"):
        export_torch({}, (3, 12, 12))


def test_an_export_failure_is_one_sentence(network: torch.nn.Module) -> None:
    """The error names the shape that was tried."""
    with pytest.raises(ExportError, match=r"^module: it fails for inputs \[4, 12, 12\]: ") as refusal:
        export_torch(network, (4, 12, 12))
    assert "\n" not in str(refusal.value)


def test_an_export_failure_names_the_reason(network: torch.nn.Module) -> None:
    """The error holds torch's reason, without terminal codes."""
    with pytest.raises(ExportError, match="to have 3 channels, but got 4 channels") as refusal:
        export_torch(network, (4, 12, 12))
    assert "\x1b" not in str(refusal.value)


class Branching(torch.nn.Module):
    """A module that runs, and whose graph depends on its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        return x * 2 if bool(x.sum() > 1e9) else x


def test_a_module_that_runs_and_cannot_be_exported_is_refused_in_one_sentence() -> None:
    """The error of torch's exporter is shortened, without terminal codes."""
    with pytest.raises(ExportError, match=r"^module: torch cannot export it for inputs \[3\]: .") as refusal:
        export_torch(Branching(), (3,))
    assert not {"\n", "\x1b"} & set(str(refusal.value))


def test_nothing_of_torch_is_shown(tmp_path: Path) -> None:
    """An export, and one that torch refuses, show no log lines and no graphs of torch; the error is one line."""
    (tmp_path / "nets.py").write_text(NETWORKS)
    for name, code in (("Traced", 0), ("Branching", 2)):
        command = [
            sys.executable,
            "-m",
            "edgecascade.cli",
            "export",
            f"nets.py:{name}",
            "--shape",
            "5,8",
            "-o",
            "b.onnx",
        ]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ran.returncode == code, ran.stderr
        said = [line for line in ran.stderr.splitlines() if not line.endswith(" ...")]
        assert [line.startswith("edgecascade: module: torch cannot export it") for line in said] == [True] * (code // 2)


NETWORKS = """
import torch
class Traced(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = torch.nn.LSTM(8, 16, batch_first=True), torch.nn.Linear(16, 3)
    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])
class Branching(Traced):
    def forward(self, x):
        return super().forward(x * 2 if x.sum() > 1e9 else x)
"""


def test_the_logging_of_torch_is_restored() -> None:
    """Torch's own log messages appear again after the export."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        export_torch(torch.nn.Flatten(), (3,))
        assert logger.level == logging.INFO
    finally:
        logger.setLevel(before)


class Two(torch.nn.Module):
    """A model from token counts and three numbers to three logits."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(10, 3)

    def forward(self, tokens: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Return logits [batch, 3] of int64 tokens [batch, 4] and float32 numbers [batch, 3]."""
        looked_up: torch.Tensor = self.table(tokens)
        return looked_up.sum(dim=1) + numbers


TWO: dict[str, NDArray[Any]] = {
    "numbers": np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32),
    "tokens": np.random.default_rng(0).integers(0, 10, (5, 4)),
}


def test_several_inputs_are_exported_by_name() -> None:
    """They have the order of the module's arguments and the types of the examples, at any batch size."""
    torch.manual_seed(0)
    module = Two()
    model = export_torch(module, TWO)
    assert [one.name for one in model.graph.input] == ["tokens", "numbers"]
    one = {name: array[:1] for name, array in TWO.items()}
    (got,) = open_session(model.SerializeToString()).run(["logits"], one)
    with torch.no_grad():
        wanted = module(*(torch.from_numpy(one[name]) for name in ("tokens", "numbers")))
    np.testing.assert_allclose(got, wanted.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"tokens": TWO["tokens"], "other": TWO["numbers"]}, "expected arrays called tokens, numbers, got tokens, oth"),
        ({"tokens": TWO["tokens"][:2], "numbers": TWO["numbers"][:2]}, r"expected 3 .* got \[2, 4\] in 'tok"),
        ({"tokens": TWO["tokens"], "numbers": TWO["numbers"][:4]}, r"got \[4, 3\] in 'numbers'"),
    ],
)
def test_examples_of_the_wrong_shape_are_refused(inputs: dict[str, NDArray[Any]], message: str) -> None:
    """The error names the module's arguments and the shape found."""
    with pytest.raises(ExportError, match=rf"^inputs: .*{message}"):
        export_torch(Two(), inputs)


def test_a_graph_with_different_outputs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter that drops a constant is detected."""
    export = torch.onnx.export

    def wrong(module: Any, *arguments: Any, **options: Any) -> Any:
        module = torch.nn.Sequential(module, torch.nn.Flatten(), torch.nn.Hardtanh(-0.5, 0.5))
        return export(module, *arguments, **options)

    monkeypatch.setattr(torch.onnx, "export", wrong)
    with pytest.raises(ParityError, match=r"^parity with the module failed: torch gives .* \[3, 4\] and the exported"):
        export_torch(torch.nn.Linear(4, 4), [4])


def test_examples_are_read_from_a_file(tmp_path: Path) -> None:
    """`edgecascade export models.py:Two --example inputs.npz` works with or without labels in the file."""
    (tmp_path / "models.py").write_text(
        "import torch\n"
        "class Two(torch.nn.Module):\n"
        "    def forward(self, tokens, numbers):\n"
        "        return tokens.float().sum(dim=1, keepdim=True) + numbers\n"
        "def two():\n"
        "    return Two()\n"
    )
    np.savez(tmp_path / "inputs.npz", y=np.zeros(5, int), **TWO)  # type: ignore[arg-type]
    arguments = ["export", f"{tmp_path / 'models.py'}:two", "--example", str(tmp_path / "inputs.npz")]
    assert main([*arguments, "-o", str(tmp_path / "o.onnx")]) == 0
    assert main([*arguments, "--shape", "3", "-o", str(tmp_path / "p.onnx")]) == 2


class Recurrent(torch.nn.Module):
    """Gives its state beside the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.GRU(4, 3, batch_first=True)

    def forward(self, x: torch.Tensor) -> Any:
        """Return the outputs of every step, and the last state."""
        return self.layer(x)


class Counting(torch.nn.Module):
    """Keeps a state between calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> Any:
        """Return the inputs, changed by how often it was called."""
        self.calls += 1
        return x * self.calls


class Named(torch.nn.Module):
    """Gives a dictionary."""

    def forward(self, x: torch.Tensor) -> Any:
        """Return the inputs as logits, and as features."""
        return {"logits": x, "features": x}


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Recurrent(), r"expected one tensor of logits \[n, classes\] from it, got a tuple; wrap it"),
        (Named(), r"expected one tensor .* got a dict of logits, features; wrap it"),
        (Counting(), r"expected the same logits for the same inputs, got others in a second call: it carries a state"),
        (torch.nn.Linear(9, 3), r"it fails for inputs \[5, 4\]: mat1 and mat2"),
    ],
)
def test_a_module_that_gives_more_than_logits_or_others_each_time_is_refused(
    module: torch.nn.Module, message: str
) -> None:
    """The error says what to do."""
    with pytest.raises(ExportError, match=rf"^module: {message}"):
        export_torch(module, (5, 4))


class Detector(torch.nn.Module):
    """Gives a map of scores, whole numbers and a flag for each input."""

    def forward(self, x: torch.Tensor) -> Any:
        """Return a dict."""
        return {"map": torch.stack([x, -x], dim=1), "largest": x.flatten(1).argmax(1), "any": (x > 0).any(2).any(1)}


class InOrder(Detector):
    """Gives the same as a tuple."""

    def forward(self, x: torch.Tensor) -> Any:
        """Return the values of the dict."""
        return tuple(super().forward(x).values())


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (Detector(), ["map", "largest", "any"]),
        (Detector(), ["any", "map"]),
        (InOrder(), ["map", "largest", "any"]),
        (torch.nn.Conv2d(5, 2, 1), ["score"]),
    ],
)
def test_the_body_of_a_general_task_has_named_outputs_of_any_shape(module: torch.nn.Module, names: list[str]) -> None:
    """They have the order of the names, and equal what the module gives at any batch size."""
    x = np.random.default_rng(1).normal(size=(4, 5, *((4, 3) if isinstance(module, torch.nn.Conv2d) else (4,))))
    x = x.astype(np.float32)
    model = export_torch(module, x.shape[1:], outputs=names)
    assert [one.name for one in model.graph.output] == names
    with torch.no_grad():
        wanted = module(torch.from_numpy(x))
    by_name = wanted if isinstance(wanted, dict) else dict(zip(names, _tuple(wanted), strict=True))
    for name, got in zip(names, open_session(model.SerializeToString()).run(names, {"input": x}), strict=True):
        np.testing.assert_allclose(got, by_name[name].numpy(), atol=1e-5)


def _tuple(given: Any) -> tuple[Any, ...]:
    return given if isinstance(given, tuple) else (given,)


@pytest.mark.parametrize(
    ("module", "names", "message"),
    [
        (Detector(), ["boxes"], "outputs: expected among map, largest, any, which it gives, got boxes"),
        (InOrder(), ["a", "b"], "outputs: expected 3, a name for each of what it gives, got 2: a, b"),
        (InOrder(), ["a", "b", "a"], "outputs: expected a name of its own for each output, got 'a'"),
        (
            Recurrent(),
            ["steps", "state"],
            r"module: expected a tensor \[n, ...\] for 3 inputs in 'state', got a Tensor",
        ),
        (Counting(), ["numbers"], "module: expected the same outputs for the same inputs"),
        (
            torch.nn.Conv2d(5, 2, 1),
            [],
            r"module: expected one tensor of logits .* got a Tensor \[3, 2, 4, 4\].*--outputs",
        ),
    ],
)
def test_outputs_that_are_not_those_of_the_module_are_refused(
    module: torch.nn.Module, names: list[str], message: str
) -> None:
    """The error names what the module gives."""
    with pytest.raises(ExportError, match=f"^{message}"):
        export_torch(module, (5, 4, 4) if isinstance(module, torch.nn.Conv2d) else (5, 4), outputs=names)


SMALL = "import torch\ndef small():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))\n"
FITTING = {"1.weight": torch.zeros(3, 12), "1.bias": torch.ones(3)}


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        pytest.param({"1.weight": torch.zeros(3, 12)}, r'Missing key\(s\) in state_dict: "1\.bias"', id="incomplete"),
        pytest.param(
            {**FITTING, "1.weight": torch.zeros(5, 12)}, r"size mismatch for 1\.weight: .*\[5, 12\]", id="size"
        ),
        pytest.param(
            {"state_dict": FITTING, "epoch": 3}, "a checkpoint with state_dict, epoch; save its 'state", id="more"
        ),
        pytest.param(
            {f"module.{name}": value for name, value in FITTING.items()},
            "DataParallel adds: save model.module",
            id="parallel",
        ),
        pytest.param(torch.nn.Linear(12, 3), r"Python objects.*save module\.state_dict\(\)", id="a module"),
        pytest.param(torch.zeros(3), r"it holds a Tensor; save module\.state_dict\(\)", id="a tensor"),
    ],
)
def test_weights_that_do_not_fit_are_refused_with_the_reason(tmp_path: Path, saved: Any, message: str) -> None:
    """In one sentence that names the file and what differs."""
    (tmp_path / "nets.py").write_text(SMALL)
    torch.save(saved, tmp_path / "small.pt")
    with pytest.raises(ExportError, match=rf"^--weights: .*small\.pt is not a state dict .*{message}") as refusal:
        load_torch_module(f"{tmp_path / 'nets.py'}:small", tmp_path / "small.pt")
    assert "\n" not in str(refusal.value)
    torch.save(FITTING, tmp_path / "small.pt")
    load_torch_module(f"{tmp_path / 'nets.py'}:small", tmp_path / "small.pt")
