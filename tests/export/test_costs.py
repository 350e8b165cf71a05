"""A cascade file for errors that cost differently decides as planned, from calibration to the answer on the device."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from edgecascade.calibration import LeastCost, MostAccuracy, decide, merged_labels
from edgecascade.cli import main
from edgecascade.export import ExportError, cascade_scores, move_threshold, unfold
from edgecascade.export.fold import rule_of
from edgecascade.export.graph import load_model
from edgecascade.runtime import ArgumentError, Cascade, ModelFileError, Reason
from edgecascade.types.costs import ErrorCosts
from edgecascade.types.document import CascadeDocument

SCHEMA = Path(__file__).parents[2] / "runtime/edgecascade/types/cascade-model.schema.json"
COSTS = {"red": 30.0, "green": 1.0, "blue": 2.0}


@pytest.fixture(scope="module", params=["by name", "matrix"])
def costly(request: pytest.FixtureRequest, pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cascade model that `calibrate` wrote for costs by class name, or for the same costs as a matrix."""
    folder = tmp_path_factory.mktemp("costly")
    matrix = (np.array([list(COSTS.values())]).T * (1 - np.eye(3))).tolist()
    (folder / "costs.json").write_text(json.dumps(COSTS if request.param == "by name" else matrix))
    names = ("corner.onnx", "remote.onnx", "calibration.npz")
    body, remote, data = (str(pair / name) for name in names)
    arguments = ["calibrate", body, "--remote", remote, "--data", data, "-o", str(folder / "local.onnx")]
    assert main([*arguments, "--cost", f"0,0.3,0.1,{folder / 'costs.json'}"]) == 0
    return folder / "local.onnx"


def test_the_labels_are_those_of_the_lowest_expected_cost(costly: Path, pair: Path) -> None:
    """Local and merged answers of the runtime equal those of the reference arithmetic."""
    x = np.load(pair / "test.npz")["x"]
    rule = rule_of(load_model(costly))
    decision = decide(np.asarray(cascade_scores(costly, x), np.float32), rule)
    with Cascade.load(costly, remote=pair / "remote.onnx", deadline=30) as cascade:
        answers = cascade.predict_batch(x)
        one = cascade.predict(x[0])
        policy = cascade.policy
    assert policy.costs is not None
    probabilities = np.stack([answer.local.probabilities for answer in answers])
    expected = np.sort(policy.costs.expected(probabilities), axis=1)
    clear = expected[:, 1] - expected[:, 0] > 1e-4
    labels = np.array([answer.local.label for answer in answers])
    np.testing.assert_array_equal(labels[clear], decision.label[clear])
    assert (labels != probabilities.argmax(axis=1)).mean() > 0.1
    assert all(answer.local.confidence == answer.local.probabilities[answer.local.label] for answer in answers)
    forwarded = [answer for answer in answers if answer.reason is Reason.OFFLOADED]
    assert forwarded
    for answer in forwarded:
        assert answer.remote is not None
        theirs = answer.remote.probabilities[None]
        assert answer.remote.label == policy.costs.labels(theirs)[0]
        merged = merged_labels(policy.merge, answer.local.probabilities[None], theirs, policy.costs)
        assert answer.label == merged[0]
    assert one.label == answers[0].label
    assert one.confidence == pytest.approx(answers[0].confidence, abs=1e-6)


def test_the_document_has_the_costs_and_both_kinds_of_figures(costly: Path) -> None:
    """It follows the schema and survives a round trip; the rates of errors name the classes."""
    document = Cascade.load(costly).document
    found = json.loads(document.to_json())
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(found)
    assert CascadeDocument.from_json(document.to_json(), "f") == document
    assert document.policy.costs is not None
    assert document.policy.costs.of(np.array([0, 1, 2]), np.array([1, 2, 0])).tolist() == [30, 1, 2]
    assert document.policy.errors is not None
    assert {one.true for one in document.policy.errors} <= set(COSTS)
    assert all("cost" in point and "cost_band" in point for point in found["operating_curve"])


def test_inspect_shows_the_costs_and_verifies_the_file(costly: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The golden inputs expect labels of the lowest expected cost."""
    assert main(["inspect", str(costly), "--verify"]) == 0
    assert main(["inspect", str(costly)]) == 0
    printed = capsys.readouterr().out
    assert "8 golden inputs decided as expected" in printed
    assert "labels of least expected cost, at 1 to 30 per error" in printed
    assert printed.index(" answered ") > printed.index(" advantage: ")  # which belongs to the policy


def test_the_body_comes_back(costly: Path, pair: Path) -> None:
    """Costs are part of the head, and unfolding removes it."""
    assert unfold(load_model(costly)).SerializeToString() == (pair / "corner.onnx").read_bytes()


def test_the_threshold_moves_for_the_same_costs_of_errors_only(costly: Path, tmp_path: Path) -> None:
    """Dearer forwards are fewer; other costs of errors need data."""
    document = Cascade.load(costly).document
    costs, out = document.policy.costs, tmp_path / "moved.onnx"
    assert costs is not None
    rates = [
        move_threshold(costly, out, LeastCost(0.0, price, 0.1, costs)).offload_rate for price in (0.0, 0.3, 3.0, 100.0)
    ]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > rates[-1] == 0.0
    moved = Cascade.load(out).document.policy
    assert (moved.costs, moved.errors) == (costs, None)
    for other in (20.0, [1.0, 2.0, 3.0]):
        with pytest.raises(ExportError, match=r"^objective: expected the costs of errors that the file was planned"):
            move_threshold(costly, out, LeastCost(0.0, 0.3, 0.1, other))
    assert move_threshold(costly, out, MostAccuracy(0.1)).offload_rate <= 0.1


def test_a_running_cascade_keeps_the_costs_of_its_file(costly: Path, pair: Path) -> None:
    """The graph chooses local labels by them, so a policy without them, or with others, is refused."""
    others = ErrorCosts((1.0, 2.0, 3.0))
    for path, costs in ((costly, None), (costly, others), (pair / "local.onnx", others)):
        with Cascade.load(path) as cascade:
            changed = replace(cascade.policy, costs=costs)
            with pytest.raises(ArgumentError, match=r"^policy: expected the costs of the file"):
                cascade.swap(changed)


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        ([1.0, 2.0], "costs: expected those of 3 classes, got 2"),
        ([1.0, -2.0, 1.0], "costs: expected numbers of 0 or more"),
        ("dear", "costs: expected a cost per class"),
        ([[0, 1, 1], [1, 0, 1]], "costs: expected a cost per class"),
    ],
)
def test_damaged_costs_are_refused(costly: Path, costs: Any, message: str) -> None:
    """The error names the file."""
    found = json.loads(Cascade.load(costly).document.to_json())
    found["policy"]["costs"] = costs
    with pytest.raises(ModelFileError, match=rf"^f: its `edgecascade` metadata is damaged: {message}"):
        CascadeDocument.from_json(json.dumps(found), "f")


def test_a_remote_that_replies_late_or_not_leaves_the_local_label(costly: Path, pair: Path) -> None:
    """Without a reply, the answer is the local label of the lowest expected cost."""
    answers = Cascade.load(costly).predict_batch(np.load(pair / "test.npz")["x"][:50])
    assert all(answer.label == answer.local.label for answer in answers)
    assert any(answer.reason is Reason.OFFLINE for answer in answers)
