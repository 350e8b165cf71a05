"""Bodies of several tasks become cascade files that decide as planned and give the body's outputs unchanged."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from jsonschema import Draft202012Validator
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from referencing import Registry, Resource

from edgecascade import Cascade
from edgecascade.calibration import CalibrationError, CertifiedLoss, LeastCost, MostAccuracy, decide_task
from edgecascade.cli import main
from edgecascade.export import (
    ExportError,
    cascade_scores,
    export_tflite,
    load_model,
    move_threshold,
    quantize_int8,
    recalibrate_task,
    save_model,
    to_float16,
    unfold,
)
from edgecascade.export.task.calibrate import CalibratedTask, calibrate_task
from edgecascade.export.task.confidence import CONFIDENCES
from edgecascade.export.task.fold import TASK, task_rule_of
from edgecascade.runtime.engine import open_session, read_document
from edgecascade.runtime.golden import read_golden
from edgecascade.types.document import TaskDocument
from edgecascade.types.errors import ArgumentError, ModelFileError

ROOT = Path(__file__).parents[2]
TYPES = ROOT / "runtime/edgecascade/types"
DOCUMENTED = (ROOT / "docs" / "file-format.md").read_text()
RNG = np.random.default_rng(0)
BEGUN = RNG.bit_generator.state
N = 240
NAMES = ["score", "confidence", "advantage", "forward"]
Arrays = Mapping[str, NDArray[Any]]


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    """Draw the same numbers in each test, whichever tests ran before it."""
    RNG.bit_generator.state = BEGUN


@dataclass
class Case:
    """A body, its inputs with references, and how its answers are read."""

    model: ModelProto
    inputs: NDArray[np.float32]
    references: Any
    confidence: str
    decode: Callable[[Arrays], Any]
    verifier: Any
    remote: Callable[[NDArray[Any]], Any]
    singly: bool = False


def model_of(
    nodes: list[Any], sides: list[int | str | None], outputs: Mapping[str, list[int | str | None]], constants: Arrays
) -> ModelProto:
    """Return a body with the input `x`, a layer that changes nothing, and float32 outputs."""
    layer = helper.make_node("MatMul", ["x", "identity"], ["hidden"])
    assert isinstance(sides[-1], int)
    constants = {**constants, "identity": np.eye(sides[-1], dtype=np.float32)}
    for position, node in enumerate([layer, *nodes]):
        node.name = f"node {position}"  # the quantizer knows the last layers by their names
    for node in nodes:
        node.input[:] = ["hidden" if name == "x" else name for name in node.input]
    graph = helper.make_graph(
        [layer, *nodes],
        "body",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def weights(*shape: int) -> NDArray[np.float32]:
    """Return random weights."""
    return RNG.normal(0, 1 / np.sqrt(shape[0]), shape).astype(np.float32)


def places_of(x: NDArray[Any], inputs: NDArray[Any]) -> list[int]:
    """Return the positions of inputs among all."""
    return [int(np.flatnonzero((inputs == row).reshape(len(inputs), -1).all(axis=1))[0]) for row in x]


def detector() -> Case:
    """Return a detector of six boxes with scores; its reference says how many of them are real."""
    inputs = RNG.normal(size=(N, 16)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "to_scores"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
        helper.make_node("MatMul", ["x", "to_boxes"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["boxes"]),
    ]
    constants = {"to_scores": 3 * weights(16, 6), "to_boxes": weights(16, 24), "shape": np.array([-1, 6, 4])}
    model = model_of(nodes, ["batch", 16], {"boxes": ["batch", 6, 4], "scores": ["batch", 6]}, constants)
    scores = 1 / (1 + np.exp(-inputs @ constants["to_scores"]))
    sure = np.abs(scores - 0.5).mean(axis=1)
    real = (scores > 0.5) ^ (RNG.uniform(size=scores.shape) > 0.5 + sure[:, None])
    return Case(
        model,
        inputs,
        list(real),
        "max:output=scores,floor=0.3",
        lambda outputs: outputs["scores"] > 0.5,
        lambda answers, references: [(a == r).mean() for a, r in zip(answers, references, strict=True)],
        lambda x: {"scores": real[places_of(x, inputs)].astype(np.float32)},
    )


def recognizer() -> Case:
    """Return a recognizer of eight steps and five classes, of which the last is CTC's blank."""
    inputs = RNG.normal(size=(N, 8, 12)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "to_classes"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    constants = {"to_classes": 4 * weights(12, 5)}
    model = model_of(nodes, ["batch", 8, 12], {"probabilities": ["batch", 8, 5]}, constants)
    logits = inputs @ constants["to_classes"]
    noisy = logits + RNG.gumbel(size=logits.shape)

    def text(steps: NDArray[Any]) -> str:
        best = steps.argmax(axis=1)
        return "".join("abcd"[k] for k, last in zip(best, [-1, *best[:-1]], strict=True) if k not in (4, last))

    def remote(x: NDArray[Any]) -> Any:
        return [{"steps": 0.3 * logits[i] + 0.7 * noisy[i]} for i in places_of(x, inputs)]

    return Case(
        model,
        inputs,
        [text(one) for one in noisy],
        "mean-log-probability:blank=-1",
        lambda outputs: text(next(iter(outputs.values()))),
        "character-accuracy",
        remote,
    )


def regressor() -> Case:
    """Return a regressor that also gives its variance."""
    inputs = RNG.normal(size=(N, 10)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "to_value"], ["value"]),
        helper.make_node("MatMul", ["x", "to_log"], ["log"]),
        helper.make_node("Exp", ["log"], ["variance"]),
    ]
    constants = {"to_value": weights(10, 1), "to_log": weights(10, 1)}
    model = model_of(nodes, ["batch", 10], {"value": ["batch", 1], "variance": ["batch", 1]}, constants)
    spread = np.exp(inputs @ constants["to_log"] / 2)
    truth = (inputs @ constants["to_value"] + spread * RNG.normal(size=(N, 1))).ravel()

    def remote(x: NDArray[Any]) -> Any:
        return {"value": (truth + RNG.normal(0, 0.3, N))[places_of(x, inputs)]}

    return Case(
        model,
        inputs,
        truth,
        "output:output=variance,negate=yes",
        lambda outputs: float(np.ravel(outputs["value"])[0]),
        "within:tolerance=1",
        remote,
    )


def suppressed() -> Case:
    """Return a detector after non-maximum suppression, whose outputs have no batch axis."""
    case = detector()
    nodes = [
        *case.model.graph.node[1:],
        helper.make_node("Reshape", ["scores", "row"], ["all"]),
        helper.make_node("Greater", ["all", "half"], ["good"]),
        helper.make_node("Compress", ["all", "good"], ["kept"], axis=0),
    ]
    constants = {one.name: numpy_helper.to_array(one) for one in case.model.graph.initializer}
    constants |= {"row": np.array([-1]), "half": np.array(0.5, np.float32)}
    model = model_of(nodes, ["batch", 16], {"boxes": [None, 6, 4], "kept": ["kept"]}, constants)

    def remote(x: NDArray[Any]) -> Any:
        return [{"kept": np.ones(int(one.sum()), np.float32)} for one in case.remote(x)["scores"]]

    return Case(
        model,
        case.inputs,
        [int(one.sum()) for one in case.references],
        "mean:output=kept",
        lambda outputs: outputs["kept"].size,
        lambda answers, references: 1 / (1 + np.abs(np.subtract(answers, references))),
        remote,
        singly=True,
    )


CASES = {one.__name__: one for one in (detector, recognizer, regressor, suppressed)}


@pytest.fixture(scope="module", params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    """Return each case."""
    return CASES[request.param]()


def calibrated(case: Case, folder: Path, **changes: Any) -> CalibratedTask:
    """Write the cascade file `task.onnx` in a folder, and the body beside it."""
    save_model(changes.pop("model", case.model), folder / "body.onnx")
    given: dict[str, Any] = {
        "confidence": case.confidence,
        "verifier": case.verifier,
        "remote": case.remote,
        "decode": case.decode,
        "remote_decode": case.decode,
        "objective": MostAccuracy(0.5),
        **changes,
    }
    inputs, references = given.pop("inputs", case.inputs), given.pop("references", case.references)
    return calibrate_task(folder / "body.onnx", folder / "task.onnx", inputs, references, **given)


def outputs_of(path: Path, inputs: NDArray[Any], names: list[str], singly: bool) -> list[list[NDArray[Any]]]:
    """Return the outputs of a file for each run."""
    session = open_session(path)
    parts = [inputs[[i]] for i in range(len(inputs))] if singly else [inputs]
    return [session.run(names, {"x": part}) for part in parts]


def assert_decides_as_planned(case: Case, found: CalibratedTask, folder: Path) -> None:
    """Assert that decisions follow from the scores, and that the body's outputs are unchanged."""
    body, file = load_model(folder / "body.onnx"), load_model(folder / "task.onnx")
    assert unfold(file) == body
    names = [one.name for one in body.graph.output]
    assert [one.name for one in file.graph.output] == [*names, *NAMES]
    runs = outputs_of(folder / "task.onnx", case.inputs, [*names, *NAMES], found.singly)
    plain = outputs_of(folder / "body.onnx", case.inputs, names, found.singly)
    for ours, theirs in zip(runs, plain, strict=True):
        for one, other in zip(ours, theirs, strict=False):
            np.testing.assert_allclose(one.astype(float), other.astype(float), rtol=0, atol=1e-5)
    decided = zip(*[one[len(names) :] for one in runs], strict=True)
    score, confidence, advantage, forward = map(np.concatenate, decided)
    np.testing.assert_allclose(score, found.score, rtol=1e-4, atol=1e-6)
    wanted = decide_task(score, task_rule_of(file))
    np.testing.assert_allclose(confidence, wanted.confidence, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(advantage, wanted.advantage)
    np.testing.assert_array_equal(forward, wanted.forward)
    assert 0 < forward.mean() < 1


def test_a_body_of_any_task_becomes_a_cascade_file(case: Case, tmp_path: Path) -> None:
    """The file decides as planned, its document tells how, and its golden inputs verify."""
    found = calibrated(case, tmp_path, task="a task")
    assert found.singly == case.singly
    assert_decides_as_planned(case, found, tmp_path)
    session = open_session(tmp_path / "task.onnx")
    document = read_document(session, "task.onnx")
    assert isinstance(document, TaskDocument)
    assert document == found.document
    assert document.task.name == "a task"
    assert document.task.confidence == case.confidence.partition(":")[0]
    assert document.task.outputs == tuple(one.name for one in case.model.graph.output)
    assert document.calibration.value.value == pytest.approx(found.local_value.mean())
    assert document.remote.value == pytest.approx(found.remote_value.mean())
    golden = read_golden(session, "task.onnx")
    assert golden is not None
    assert len(golden) == found.golden
    assert main(["inspect", str(tmp_path / "task.onnx"), "--verify"]) == 0


@pytest.mark.parametrize("quantized", [False, True], ids=["float16", "int8"])
def test_a_body_of_lower_precision_becomes_a_cascade_file(case: Case, tmp_path: Path, quantized: bool) -> None:
    """In float16, and in int8 with float32 outputs, the scores are those of that body."""
    if quantized:
        save_model(case.model, tmp_path / "float.onnx")
        model = quantize_int8(load_model(tmp_path / "float.onnx"), case.inputs)
        assert any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    else:
        model = to_float16(case.model)
    found = calibrated(case, tmp_path, model=model, decode=lambda outputs: case.decode(outputs))
    assert_decides_as_planned(case, found, tmp_path)


def test_decoders_may_be_named(tmp_path: Path) -> None:
    """As confidence function and verifier may; one reads the outputs of both models unless there are two."""
    case = regressor()
    named, given = (
        calibrated(case, tmp_path, decode=decode, remote_decode=other)
        for decode, other in (("value:output=value", None), (case.decode, case.decode))
    )
    np.testing.assert_array_equal(named.local_value, given.local_value)
    np.testing.assert_allclose(named.remote_value.mean(), given.remote_value.mean(), atol=0.1)
    with pytest.raises(ArgumentError, match=r"^remote_decode: expected boxes, .*, got 'values'"):
        calibrated(case, tmp_path, remote_decode="values")


def test_outputs_with_reserved_names_move(tmp_path: Path) -> None:
    """A body with an output `score` keeps it under another name, by which the document knows it."""
    case = regressor()
    for part in (*case.model.graph.node, case.model.graph.output[1]):
        if isinstance(part, onnx.NodeProto):
            part.output[:] = ["score" if name == "variance" else name for name in part.output]
        else:
            part.name = "score"
    found = calibrated(replace(case, confidence="output:output=score,negate=yes"), tmp_path)
    assert found.document.task.outputs == ("value", "body/score")
    assert unfold(load_model(tmp_path / "task.onnx")) == case.model
    value = outputs_of(tmp_path / "task.onnx", case.inputs, ["body/score", "score"], False)[0]
    np.testing.assert_array_equal(value[1], -value[0].ravel())
    with Cascade.load(tmp_path / "task.onnx", decode=lambda outputs: outputs["score"].item()) as cascade:
        assert list(cascade.outputs) == ["value", "score"]
        (answer,) = cascade.predict_batch(case.inputs[:1])
    assert answer.result == answer.outputs["score"] == value[0][0]
    with Cascade.load(tmp_path / "task.onnx", outputs=["score"]) as cascade:
        assert list(cascade.predict(case.inputs[0]).outputs) == ["score"]


def test_a_certificate_and_a_map(tmp_path: Path) -> None:
    """A certified loss is in the document; a map of the score is in the graph."""
    case = regressor()
    found = calibrated(case, tmp_path, objective=CertifiedLoss(0.2, risk=0.1), calibrator="map")
    assert found.document.certificate is not None
    assert found.document.calibration.method == "map"
    names = {one.name for one in open_session(tmp_path / "task.onnx").get_overridable_initializers()}
    assert {"confidence_starts", "confidence_rates", "confidence_rises"} <= names


@pytest.mark.parametrize("name", ["recognizer", "suppressed"])
def test_new_data_give_a_new_plan_for_the_same_body(tmp_path: Path, name: str) -> None:
    """Body and confidence function stay, and so do the names of task and verifier; the plan is that of the new data."""
    case = CASES[name]()
    save_model(case.model, tmp_path / "body.onnx")
    before = calibrated(case, tmp_path, task="first")
    given: dict[str, Any] = {
        "remote": case.remote,
        "decode": case.decode,
        "remote_decode": case.decode,
        "objective": MostAccuracy(0.3),
    }
    some, verifier = slice(0, N, 2), None if isinstance(case.verifier, str) else case.verifier
    again = recalibrate_task(
        tmp_path / "task.onnx",
        tmp_path / "again.onnx",
        case.inputs[some],
        case.references[some],
        verifier=verifier,
        **given,
    )
    fresh = calibrated(
        case, tmp_path, task="first", inputs=case.inputs[some], references=case.references[some], **given
    )
    assert again.document == fresh.document
    assert again.document != before.document
    assert load_model(tmp_path / "again.onnx") == load_model(tmp_path / "task.onnx")


def test_outputs_without_a_batch_axis_are_recorded(tmp_path: Path) -> None:
    """Also where the first inputs do not show it, so that a single detection has the same shape on the device."""
    case = suppressed()
    found: list[tuple[int, ...]] = []

    def kept(outputs: Any) -> int:
        found.append(outputs["kept"].shape)
        return int(outputs["kept"].size)

    calibrated(replace(case, decode=kept), tmp_path)
    local = found[-2 * N : -N]  # the last N are the remote's
    order = np.argsort([shape != (1,) for shape in local], kind="stable")
    assert local.count((1,)) > 3
    given: dict[str, Any] = {
        "inputs": case.inputs[order],
        "references": [case.references[i] for i in order],
        "decode": kept,
    }
    assert calibrated(replace(case, **given), tmp_path).document.task.unbatched == ("kept",)
    assert {len(shape) for shape in found[-2 * N :]} == {1}
    with Cascade.load(tmp_path / "task.onnx", decode=kept) as cascade:
        answers = cascade.predict_batch(case.inputs[order[:3]])
    assert [one.local.outputs["kept"].shape for one in answers] == [(1,)] * 3
    assert calibrated(detector(), tmp_path).document.task.unbatched == ()


def test_a_threshold_moves_along_the_curve(tmp_path: Path) -> None:
    """Another point of the curve is chosen without data; the golden inputs get its decisions."""
    case = recognizer()
    found = calibrated(case, tmp_path)
    chosen = move_threshold(tmp_path / "task.onnx", tmp_path / "moved.onnx", MostAccuracy(0.2))
    assert chosen in found.document.operating_curve
    assert chosen.offload_rate <= 0.2 < found.document.policy.chosen.offload_rate
    assert main(["inspect", str(tmp_path / "moved.onnx"), "--verify"]) == 0
    assert task_rule_of(load_model(tmp_path / "moved.onnx")).threshold == np.float32(chosen.threshold)
    costs = LeastCost(0.0, 1.0, 0.0, 10.0)
    assert move_threshold(tmp_path / "task.onnx", tmp_path / "moved.onnx", costs) in found.document.operating_curve


def test_a_classifier_is_no_task_and_a_task_no_classifier(tmp_path: Path, pair: Path) -> None:
    """Each function refuses the other's file in one sentence."""
    case = regressor()
    calibrated(case, tmp_path)
    with pytest.raises(ModelFileError, match="expected the cascade file of a general task, got that of a classifier"):
        recalibrate_task(pair / "local.onnx", tmp_path / "a.onnx", [], [], remote="", objective=MostAccuracy(0.5))
    with pytest.raises(ModelFileError, match="expected the cascade file of a classifier, got that of 'task'"):
        cascade_scores(tmp_path / "task.onnx", case.inputs)


def test_a_golden_decision_that_differs_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file whose map was changed by hand does not verify."""
    calibrated(regressor(), tmp_path, calibrator="platt")
    model = onnx.load(tmp_path / "task.onnx")
    for one in model.graph.initializer:
        if one.name == "confidence_intercept":
            one.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(one) + np.float32(0.5), one.name))
    onnx.save(model, tmp_path / "changed.onnx")
    assert main(["inspect", str(tmp_path / "changed.onnx"), "--verify"]) == 1
    assert "confidence of input" in capsys.readouterr().out


def test_a_task_has_no_litert_file(tmp_path: Path) -> None:
    """The error is one sentence, before the converter runs."""
    calibrated(regressor(), tmp_path)
    with pytest.raises(ExportError, match=r"task.onnx: expected a classifier, .* got the cascade file of 'task'"):
        export_tflite(tmp_path / "task.onnx", tmp_path / "task.tflite", converter="false")
    assert not (tmp_path / "task.tflite").exists()


def test_vectors_of_a_task_have_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`inspect --vectors` gives a reader in another language the four numbers of each golden input."""
    found = calibrated(regressor(), tmp_path)
    assert main(["inspect", str(tmp_path / "task.onnx"), "--vectors"]) == 0
    vectors = json.loads(capsys.readouterr().out)
    assert len(vectors["decisions"]) == found.golden
    assert all(list(one) == NAMES for one in vectors["decisions"])


def validator() -> Draft202012Validator:
    """Return the validator of documents of general tasks, whose schema refers to that of classifiers."""
    read = [json.loads((TYPES / f"{name}-model.schema.json").read_text()) for name in ("task", "cascade")]
    registry: Any = Registry().with_resources([(one["$id"], Resource.from_contents(one)) for one in read])
    Draft202012Validator.check_schema(read[0])
    return Draft202012Validator(read[0], registry=registry)


def keys(value: Any) -> Any:
    """Return the keys and types of a document, without its numbers."""
    if isinstance(value, dict):
        return {key: keys(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [keys(value[0])] if value else []
    return "number" if isinstance(value, (int, float)) else type(value).__name__


@pytest.mark.parametrize("calibrator", ["platt", "map"])
def test_a_written_document_follows_the_schema(tmp_path: Path, calibrator: str) -> None:
    """Every key is in the schema, with either map; other numbers are refused."""
    groups = np.arange(N) % 3
    document = calibrated(recognizer(), tmp_path, calibrator=calibrator, groups=groups).document.to_dict()
    schema = validator()
    schema.validate(json.loads(json.dumps(document)))
    assert document.keys() | {"effective_n"} == schema.schema["properties"].keys()
    method = "map" if calibrator == "platt" else "platt"
    assert not schema.is_valid({**document, "calibration": {**document["calibration"], "method": method}})


def test_the_documented_example_has_the_shape_of_a_written_document(tmp_path: Path) -> None:
    """The example has the same keys and types as a newly written file with a certificate."""
    _, example = re.findall(r"```json\n(.*?)```", DOCUMENTED, re.DOTALL)
    shown = json.loads(example)
    validator().validate(shown)
    found = calibrated(recognizer(), tmp_path, objective=CertifiedLoss(0.15, risk=0.1)).document.to_dict()
    assert keys(shown) == keys(json.loads(json.dumps(found)))


def test_the_documentation_names_every_output_input_and_confidence_function() -> None:
    """The tables list them."""
    for name in (*TASK.outputs, *TASK.overridable):
        assert f"| `{name}` |" in DOCUMENTED
    for name in CONFIDENCES:
        assert f"`{name}`" in DOCUMENTED


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("no reference", {"references": [0.0]}, "references: expected 240"),
    ("no output", {"confidence": "max:output=boxes"}, "confidence: expected max:output=one of value, variance"),
    ("a constant", {"confidence": "max:output=value,floor=1e9"}, "confidence: expected scores of max that tell"),
    (
        "an odd verifier",
        {"verifier": lambda answers, _: np.full(len(answers), 2.0)},
        r"verifier: expected values in \[0, 1\], got 2",
    ),
    ("a decoder", {"decode": lambda outputs: outputs["text"]}, "decode: it raised KeyError for input 0"),
    ("a remote's decoder", {"remote_decode": lambda outputs: outputs["text"]}, "remote_decode: it raised KeyError"),
    (
        "a remote of labels",
        {"remote": lambda x: np.zeros((len(x), 3))},
        "remote: it failed after 0 inputs: .*arrays by",
    ),
    ("a remote of one row", {"remote": lambda _: {"value": np.zeros(1)}}, "remote: .*rows in the output 'value'"),
    ("a remote of NaN", {"remote": lambda x: {"value": np.full(len(x), np.nan)}}, "remote: .*got only NaN"),
    ("a remote without it", {"remote_outputs": ["text"]}, "remote: .*text"),
    ("nothing", {"inputs": np.zeros((0, 10), np.float32), "references": []}, "inputs: expected at least one, got none"),
]


@pytest.mark.parametrize(("changes", "message"), [one[1:] for one in BAD], ids=[one[0] for one in BAD])
def test_what_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """The error is one sentence, and nothing is written."""
    with pytest.raises((ExportError, CalibrationError), match=f"^{message}") as refusal:
        calibrated(regressor(), tmp_path, **changes)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "task.onnx").exists()


def test_neither_model_is_overwritten(tmp_path: Path) -> None:
    """A body or a remote's file that is named as the output too stays as it is."""
    case = regressor()
    for name in ("body.onnx", "remote.onnx"):
        save_model(case.model, tmp_path / name)
    content = (tmp_path / "body.onnx").read_bytes()
    given: dict[str, Any] = {"confidence": case.confidence, "verifier": case.verifier, "objective": MostAccuracy(0.5)}
    for name, which in (("body.onnx", "the body"), ("remote.onnx", "the remote")):
        with pytest.raises(ExportError, match=f"^out: .*{which}"):
            calibrate_task(
                tmp_path / "body.onnx",
                tmp_path / name,
                case.inputs,
                case.references,
                remote=str(tmp_path / "remote.onnx"),
                decode=case.decode,
                remote_decode=case.decode,
                **given,
            )
        assert (tmp_path / name).read_bytes() == content


def test_scores_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    """The error names the input."""
    case = regressor()
    case.inputs[7] = np.nan
    with pytest.raises(ExportError, match="confidence: expected finite scores of output, got nan for input 7"):
        calibrated(case, tmp_path)
