"""A confidence function of one's own, in torch or ONNX, becomes part of the file."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto, helper

from documents import some_task_document
from edgecascade.calibration import AdvantageTable, TaskRule
from edgecascade.export import ExportError, ParityError, save_model, unfold
from edgecascade.export.task.calibrate import scored_body
from edgecascade.export.task.confidence import Output
from edgecascade.export.task.fold import confidence_of, fold_task, with_score
from edgecascade.export.task.own import as_confidence
from edgecascade.types.platt import Platt

INPUTS = np.random.default_rng(0).uniform(0.1, 1.0, (12, 5)).astype(np.float32)


def body_of(opset: int = 17) -> ModelProto:
    """Return a body that gives `scores` [batch, 5] and `boxes` [batch, 5, 1]."""
    nodes = [
        helper.make_node("Identity", ["x"], ["scores"]),
        helper.make_node("Reshape", ["x", "shape"], ["boxes"]),
    ]
    outputs: dict[str, list[str | int | None]] = {"scores": ["batch", 5], "boxes": ["batch", 5, 1]}
    graph = helper.make_graph(
        nodes,
        "body",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 5])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name, sides in outputs.items()],
        [onnx.numpy_helper.from_array(np.array([-1, 5, 1]), "shape")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def ratio(scores: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Return the largest score for each unit of area."""
    return scores.max(dim=1).values / boxes.abs().mean(dim=(1, 2))


class Ratio(torch.nn.Module):
    """The same with a weight, as a module."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, scores: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Return twice the ratio."""
        return self.weight * ratio(scores, boxes)


def in_onnx(opset: int = 17, kind: int = TensorProto.FLOAT, name: str = "scores", domain: str = "") -> ModelProto:
    """Return an ONNX model that gives the mean of an output of a body, with all its sides."""
    sides: list[str | int | None] = ["n", 5, 1] if name == "boxes" else ["n", 5]
    output = "scores" if name == "boxes" else "score"
    nodes = [helper.make_node("ReduceMean", [name], [output], axes=list(range(1, len(sides))), domain=domain)]
    graph = helper.make_graph(
        nodes,
        "own",
        [helper.make_tensor_value_info(name, kind, sides)],
        [helper.make_tensor_value_info(output, kind, [None] * len(sides))],
    )
    imports = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


LARGEST = INPUTS.max(axis=1) / INPUTS.mean(axis=1)
TABLE = AdvantageTable(np.zeros(0, np.float32), np.zeros(1, np.float32), np.array([9]))
RULE = TaskRule(Platt(1.0, 0.0), TABLE, 0.0)


@pytest.mark.parametrize("opset", [13, 18, 21])
@pytest.mark.parametrize(("given", "expected"), [(ratio, LARGEST), (Ratio(), 2 * LARGEST)], ids=["function", "module"])
def test_a_torch_function_is_part_of_the_file(tmp_path: Path, opset: int, given: Any, expected: Any) -> None:
    """Its arguments are outputs of the body by name; the body is converted where torch needs newer operators."""
    save_model(body_of(opset), tmp_path / "body.onnx")
    found = scored_body(tmp_path / "body.onnx", INPUTS, given)
    assert found.confidence == ("Ratio" if isinstance(given, Ratio) else "ratio")
    np.testing.assert_allclose(found.answers(INPUTS, None).score, expected, rtol=1e-5)
    assert not found.singly
    file = fold_task(found.model, confidence=found.graph, rule=RULE, document=some_task_document())
    onnx.checker.check_model(file, full_check=True)
    assert unfold(file) == found.model
    again = confidence_of(file)
    assert [one.name for one in again.graph.input] == ["scores", "boxes"]
    assert (
        list(again.graph.node)
        == list(fold_task(found.model, confidence=again, rule=RULE, document=some_task_document()).graph.node)[
            2 : 2 + len(again.graph.node)
        ]
    )


@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize("as_file", [True, False])
def test_an_onnx_model_is_part_of_the_file(tmp_path: Path, opset: int, as_file: bool) -> None:
    """Its input is an output of the body by name; older operators are converted. It can be taken out again."""
    save_model(body_of(), tmp_path / "body.onnx")
    onnx.save(in_onnx(opset), tmp_path / "own.onnx")
    found = scored_body(tmp_path / "body.onnx", INPUTS, tmp_path / "own.onnx" if as_file else in_onnx(max(13, opset)))
    assert found.confidence == ("own.onnx" if as_file else "onnx")
    np.testing.assert_allclose(found.answers(INPUTS, None).score, INPUTS.mean(axis=1), rtol=1e-6)
    file = fold_task(found.model, confidence=found.graph, rule=RULE, document=some_task_document())
    assert unfold(file) == found.model
    again = with_score(found.model, confidence_of(file))
    assert again[1] == found.score
    assert again[0].graph.node == file.graph.node[: len(again[0].graph.node)]


def test_names_inside_do_not_collide_with_those_of_the_body(tmp_path: Path) -> None:
    """A tensor inside may be called like an output of the body that is not read."""
    save_model(body_of(), tmp_path / "body.onnx")
    model = in_onnx(name="boxes")
    assert model.graph.output[0].name == "scores"
    found = scored_body(tmp_path / "body.onnx", INPUTS, model)
    np.testing.assert_allclose(found.answers(INPUTS, None).score, INPUTS.mean(axis=1), rtol=1e-6)


def stretched(scores: torch.Tensor) -> torch.Tensor:
    """Return more than one number per input."""
    return scores[:, :2]


def other(logits: torch.Tensor) -> torch.Tensor:
    """Return a score of an output that the body does not have."""
    return logits


def stubborn(scores: torch.Tensor) -> torch.Tensor:
    """Return what depends on a number in a way that torch cannot export."""
    return scores.amax(dim=1) if scores.sum() > 1 else scores.amin(dim=1)


BAD: list[tuple[Any, str]] = [
    (other, r"expected arguments of other named like outputs of the body \(scores, boxes\), got logits"),
    (in_onnx(kind=TensorProto.DOUBLE), "expected inputs of onnx among the body's outputs, scores float, boxes float"),
    (in_onnx(domain="ai.onnx.ml"), "expected standard ONNX operators in onnx, got ai.onnx.ml"),
    (3, "expected a confidence function, got int"),
    (stubborn, "torch cannot export stubborn"),
]


@pytest.mark.parametrize(("given", "message"), BAD, ids=[one[1].split()[1] + str(i) for i, one in enumerate(BAD)])
def test_what_does_not_fit_is_refused(tmp_path: Path, given: Any, message: str) -> None:
    """The error is one sentence."""
    save_model(body_of(), tmp_path / "body.onnx")
    with pytest.raises(ExportError, match=f"^confidence: {message}") as refusal:
        scored_body(tmp_path / "body.onnx", INPUTS, given)
    assert "\n" not in str(refusal.value)


def test_more_than_one_score_per_input_is_refused(tmp_path: Path) -> None:
    """The error tells the shape, that of the function itself if it is one of torch."""
    save_model(body_of(), tmp_path / "body.onnx")
    with pytest.raises(ExportError, match=r"one score for each input from stretched, got \[3, 2\] for 3$"):
        scored_body(tmp_path / "body.onnx", INPUTS, stretched)
    wide = in_onnx()
    wide.graph.node[0].CopyFrom(helper.make_node("Identity", ["scores"], ["score"]))
    with pytest.raises(ExportError, match=r"one score for each input, got an array \[5\] for 1"):
        scored_body(tmp_path / "body.onnx", INPUTS, wide).answers(INPUTS, None)


def constant(scores: torch.Tensor) -> torch.Tensor:
    """Return what the export takes for constants, one for each input that it sees."""
    return torch.tensor([one.max().item() for one in scores])


def test_a_function_that_torch_exports_as_another_is_refused(tmp_path: Path) -> None:
    """The error tells what differs."""
    save_model(body_of(), tmp_path / "body.onnx")
    with pytest.raises(ParityError, match=r"^confidence: torch exported constant .* gives \[2\] where it gives \[3\]"):
        scored_body(tmp_path / "body.onnx", INPUTS, constant)


def test_a_confidence_function_stays_what_it_is() -> None:
    """A text names one that ships."""
    assert as_confidence("output:negate=yes") == Output(negate=True)
    assert as_confidence(Output("variance")) == Output("variance")
