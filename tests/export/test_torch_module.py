"""From torch to ONNX, the same classifier."""

import logging
import os
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
from edgecascade.runtime.engine import open_session

INPUTS = np.random.default_rng(0).normal(size=(7, 3, 12, 12)).astype(np.float32)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_export_agrees_with_torch(
    network: torch.nn.Module,
    exported: ModelProto,
    logits_of: Callable[[ModelProto, NDArray[np.float32]], NDArray[np.float32]],
    n: int,
) -> None:
    """In eval mode, whatever mode it was handed over in, at any batch."""
    with torch.no_grad():
        wanted = network.eval()(torch.from_numpy(INPUTS[:n])).numpy()
    np.testing.assert_allclose(logits_of(exported, INPUTS[:n]), wanted, atol=1e-5)


def test_old_runtimes_can_read_it(exported: ModelProto) -> None:
    """Opset and IR within ONNX Runtime 1.19."""
    assert opset(exported) <= 21
    assert exported.ir_version <= 10


def test_it_tells_nothing_about_the_machine(exported: ModelProto) -> None:
    """Torch writes stack traces into the graph; they are gone."""
    for path in (os.getcwd(), str(Path.home()), os.path.dirname(torch.__file__)):
        assert path.encode() not in exported.SerializeToString()


def test_what_is_no_module_is_refused() -> None:
    """By type."""
    with pytest.raises(ExportError, match=r"^module: expected a torch\.nn\.Module, got dict"):
        export_torch({}, (3, 12, 12))


def test_what_torch_cannot_export_is_one_sentence(network: torch.nn.Module) -> None:
    """With the shape that was tried."""
    with pytest.raises(ExportError, match=r"^module: torch cannot export it for inputs \[4, 12, 12\]: ") as refusal:
        export_torch(network, (4, 12, 12))
    assert "\n" not in str(refusal.value)


def test_what_torch_cannot_export_says_why(network: torch.nn.Module) -> None:
    """The reason that torch found, and no terminal codes."""
    with pytest.raises(ExportError, match="to have 3 channels, but got 4 channels") as refusal:
        export_torch(network, (4, 12, 12))
    assert "\x1b" not in str(refusal.value)


def test_torchs_own_logging_is_left_as_found() -> None:
    """Whoever debugs their own export afterwards still gets its messages."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        export_torch(torch.nn.Flatten(), (3,))
        assert logger.level == logging.INFO
    finally:
        logger.setLevel(before)


class Two(torch.nn.Module):
    """Counts of tokens and three numbers, to three logits."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(10, 3)

    def forward(self, tokens: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Logits [batch, 3] of int64 tokens [batch, 4] and float32 numbers [batch, 3]."""
        looked_up: torch.Tensor = self.table(tokens)
        return looked_up.sum(dim=1) + numbers


TWO: dict[str, NDArray[Any]] = {
    "numbers": np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32),
    "tokens": np.random.default_rng(0).integers(0, 10, (5, 4)),
}


def test_several_inputs_are_taken_by_name() -> None:
    """In the order of the module's arguments, with the types of the examples, at any batch."""
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
def test_examples_that_do_not_fit_are_refused(inputs: dict[str, NDArray[Any]], message: str) -> None:
    """By the names of the module's arguments, and with the shape that came."""
    with pytest.raises(ExportError, match=rf"^inputs: .*{message}"):
        export_torch(Two(), inputs)


def test_a_graph_that_gives_something_else_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter that drops a constant, say."""
    export = torch.onnx.export

    def wrong(module: Any, *arguments: Any, **options: Any) -> Any:
        module = torch.nn.Sequential(module, torch.nn.Flatten(), torch.nn.Hardtanh(-0.5, 0.5))
        return export(module, *arguments, **options)

    monkeypatch.setattr(torch.onnx, "export", wrong)
    with pytest.raises(ParityError, match=r"^parity with the module failed: torch gives .* \[3, 4\] and the exported"):
        export_torch(torch.nn.Linear(4, 4), [4])


def test_examples_come_from_a_file(tmp_path: Path) -> None:
    """`edgecascade export models.py:Two --example inputs.npz`, labels in it or not."""
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
