"""The document follows its schema in files and in the documentation; any other document is refused in one sentence."""

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from jsonschema import Draft202012Validator

from edgecascade.cli import main
from edgecascade.export.fold import CLASSIFIER
from edgecascade.export.logits import KINDS
from edgecascade.runtime import Cascade, EdgecascadeError, ModelFileError
from edgecascade.types.document import CascadeDocument

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "runtime/edgecascade/types/cascade-model.schema.json").read_text())
FORMAT = (ROOT / "docs" / "file-format.md").read_text()


@pytest.fixture(scope="module")
def document(pair: Path) -> dict[str, Any]:
    """Return the document of the pair's cascade model."""
    found: dict[str, Any] = json.loads(Cascade.load(pair / "local.onnx").document.to_json())
    return found


def _paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a document, with the first element of a list for all of them."""
    if at:
        yield at
    items = value.items() if isinstance(value, dict) else list(enumerate(value))[:1] if isinstance(value, list) else ()
    for key, inner in items:
        yield from _paths(inner, (*at, key))


def _shape(value: Any) -> Any:
    """Return the document's keys and types, without its numbers."""
    if isinstance(value, dict):
        return {key: _shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shape(value[0])] if value else []
    return "number" if isinstance(value, (int, float)) else type(value).__name__


def test_the_schema_is_valid() -> None:
    """The schema is valid under draft 2020-12."""
    Draft202012Validator.check_schema(SCHEMA)


def test_a_written_document_follows_the_schema(document: dict[str, Any]) -> None:
    """Every key that is written is in the schema; the effective number of inputs needs weights."""
    Draft202012Validator(SCHEMA).validate(document)
    assert document.keys() | {"effective_n"} == SCHEMA["properties"].keys()


def test_the_documented_example_has_the_shape_of_a_written_document(document: dict[str, Any]) -> None:
    """The example has the same keys and types as a newly written file, and also a certificate."""
    example, _ = re.findall(r"```json\n(.*?)```", FORMAT, re.DOTALL)
    shown = json.loads(example)
    Draft202012Validator(SCHEMA).validate(shown)
    assert shown["certificate"] is not None
    assert {key: _shape(shown[key]) for key in shown if key != "certificate"} == {
        key: _shape(document[key]) for key in document if key != "certificate"
    }


def test_the_documentation_names_every_output_input_and_kind() -> None:
    """The documentation lists the outputs, inputs and kinds in tables."""
    for name in (*CLASSIFIER.outputs, *CLASSIFIER.overridable, *KINDS):
        assert f"| `{name}` |" in FORMAT


JUNK: list[Any] = [None, -1, "x" * 5000, [], {}, [[[]]], True, 1e400]


def test_a_changed_document_is_read_or_refused(
    pair: Path, tmp_path: Path, document: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """With any value removed or replaced by junk, `inspect` prints the document or one sentence."""
    model = onnx.load(pair / "local.onnx")
    (entry,) = (one for one in model.metadata_props if one.key == "edgecascade")
    path = tmp_path / "hostile.onnx"
    refused = 0
    for place in _paths(document):
        hostile = copy.deepcopy(document)
        inner = hostile
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = JUNK[len(place) * 7 % 5 if len(str(place)) % 2 else len(str(place)) % len(JUNK)]
        entry.value = json.dumps(hostile)
        onnx.save(model, path)
        code = main(["inspect", str(path)])
        captured = capsys.readouterr()
        assert code in (0, 2)
        if code == 2:
            refused += 1
            assert re.fullmatch(r"edgecascade: .*hostile\.onnx: its .*\n", captured.err)
    assert refused > 10


def test_a_document_survives_a_round_trip(document: dict[str, Any]) -> None:
    """A document that is read and written again has the same keys in the same order."""
    again = CascadeDocument.from_json(json.dumps(document), "f").to_json()
    assert again == json.dumps(document)


CHANGES: list[Callable[[dict[str, Any]], Any]] = [
    lambda d: d.pop("policy"),
    lambda d: d["policy"].update(merge="vote"),
    lambda d: d["policy"].update(counts=[1]),
    lambda d: d["calibration"].update(temperature=0),
    lambda d: d["remote"].update(scores="odds"),
    lambda d: d.update(labels="red"),
    lambda d: d["source"].pop("model_sha256"),
    lambda d: d["operating_curve"][0].update(accuracy_band=[1]),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_damaged_document_is_refused(document: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> None:
    """The error names the file."""
    hostile = copy.deepcopy(document)
    change(hostile)
    with pytest.raises(ModelFileError, match=r"^f: its `edgecascade` metadata is damaged"):
        CascadeDocument.from_json(json.dumps(hostile), "f")


def test_a_file_with_fewer_names_than_classes_is_refused(pair: Path, tmp_path: Path, document: dict[str, Any]) -> None:
    """The error is raised before a label without a name is returned."""
    model = onnx.load(pair / "local.onnx")
    for one in model.metadata_props:
        if one.key == "edgecascade":
            one.value = json.dumps({**document, "labels": ["red", "green"]})
    onnx.save(model, tmp_path / "f.onnx")
    with Cascade.load(tmp_path / "f.onnx") as cascade, pytest.raises(EdgecascadeError, match="2 classes"):
        cascade.predict_batch(np.zeros((1, 8, 8, 3), np.uint8))
