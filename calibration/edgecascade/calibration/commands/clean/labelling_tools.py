"""Audits in the JSON forms of Label Studio and Argilla, written for them and read from their exports.

Label Studio takes a list of tasks beside a labelling configuration in XML, and exports the tasks with annotations
(https://labelstud.io/guide/task_format). Argilla takes records and settings (`Settings.from_json`,
`dataset.records.from_json`), and `dataset.records(with_responses=True).to_json` exports the records with responses
(https://docs.argilla.io/latest/how_to_guides/import_export). Neither form says which label is the given one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from edgecascade.calibration.commands.clean.drawn import Item
from edgecascade.calibration.commands.clean.suspects_file import SuspectsFile
from edgecascade.types.errors import CalibrationError, first_line

__all__ = [
    "Said",
    "argilla_records",
    "argilla_settings",
    "label_studio_config",
    "label_studio_tasks",
    "read_export",
]

# Answers other than a label, by verdict, as a person sees them.
_ANSWERS = {"both": "Both labels are right", "other": "Neither label is right", "cannot_tell": "Cannot tell"}
_HELP = (
    "One of the two labels is the one that the data have, the other is what models suggest. If more than one label "
    "fits the input, both are right."
)
_LABEL = "The right label, if it is one of the classes and you know it"


@dataclass(frozen=True)
class Said:
    """One verdict as a file has it; what it says is not checked.

    Attributes:
        where: the place in the file, for messages.
        row: number among the judged rows.
        verdict: a word.
        label: name of the class that is right where both labels are wrong; may be empty.
        audit: tag of the audit.
        time: when, as text; may be empty.
        given: name of the given class, None if the file does not have it.
        suggested: the same of the suggested class.
    """

    where: str
    row: Any
    verdict: str
    label: str
    audit: str
    time: str = ""
    given: str | None = None
    suggested: str | None = None


def label_studio_tasks(items: Iterable[Item], tag: str) -> list[dict[str, Any]]:
    """Return the tasks of an audit.

    Raises:
        CalibrationError: a class has the name of another answer.
    """
    tasks = []
    for item in items:
        clash = set(item.labels) & set(_ANSWERS.values())
        if clash:
            raise CalibrationError(f"names: expected classes with other names than the answers, got {clash.pop()!r}")
        options = [{"value": one} for one in (*item.labels, *_ANSWERS.values())]
        name, value = _input(item)
        tasks.append({"data": {name: value, "options": options, "row": item.row, "audit": tag}})
    return tasks


def label_studio_config(items: Sequence[Item], question: str) -> str:
    """Return the labelling configuration for the tasks of an audit, in XML."""
    name, _ = _input(items[0])
    tag = {"image": "Image", "text": "Text", "audio": "Audio", "video": "Video", "link": "HyperText"}[name]
    return "\n".join(
        [
            "<View>",
            f"  <Header value={quoteattr(question)}/>",
            f'  <{tag} name="input" value="${name}"/>',
            '  <Choices name="verdict" toName="input" value="$options" choice="single" required="true"/>',
            f'  <TextArea name="label" toName="input" placeholder={quoteattr(_LABEL)} rows="1" maxSubmissions="1" '
            f'visibleWhen="choice-selected" whenTagName="verdict" whenChoiceValue={quoteattr(_ANSWERS["other"])}/>',
            "</View>",
            "",
        ]
    )


def argilla_settings(items: Sequence[Item], question: str) -> dict[str, Any]:
    """Return the settings of an Argilla dataset for an audit, as `Settings.from_json` reads them."""
    name, _ = _input(items[0])
    answers = {"first": "The first label", "second": "The second label", **_ANSWERS}
    label = {"type": "text", "use_markdown": False}
    image = {"type": "image"} if name == "image" else label
    fields = (("input", "Input", image), ("first", "First label", label), ("second", "Second label", label))
    options = [{"value": value, "text": text} for value, text in answers.items()]
    verdict = {"type": "label_selection", "options": options, "visible_options": len(options)}
    return {
        "guidelines": _HELP,
        "allow_extra_metadata": True,
        "fields": [
            {"name": one, "title": title, "required": True, "type": settings["type"], "settings": settings}
            for one, title, settings in fields
        ],
        "questions": [
            {"name": "verdict", "title": question, "required": True, "type": "label_selection", "settings": verdict},
            {"name": "label", "title": _LABEL, "required": False, "type": "text", "settings": label},
        ],
        "vectors": [],
        "metadata": [],
    }


def argilla_records(items: Iterable[Item], tag: str) -> list[dict[str, Any]]:
    """Return the records of an audit, as `dataset.records.from_json` reads them."""
    return [
        {
            "id": str(item.row),
            "fields": {"input": _input(item)[1], "first": item.labels[0], "second": item.labels[1]},
            "metadata": {"row": item.row, "audit": tag},
            "suggestions": {},
            "responses": {},
            "vectors": {},
        }
        for item in items
    ]


def read_export(path: Path, file: SuspectsFile) -> Iterator[Said]:
    """Read the verdicts in an export of Label Studio or Argilla; tasks without one are left out.

    Raises:
        CalibrationError: the file is neither, or has answers to one task that differ.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise CalibrationError(f"{path}: is not valid JSON: {first_line(error)}") from error
    if not isinstance(found, list):
        raise CalibrationError(f"{path}: expected the JSON export of Label Studio or the records of Argilla, a list")
    for number, one in enumerate(found):
        if isinstance(one, dict) and {"row", "audit"} <= one.keys():
            raise CalibrationError(f"{path}: expected Label Studio's export as JSON, got JSON-MIN")
        try:
            said = _label_studio(one, file) if "data" in one else _argilla(one, file)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            if isinstance(error, CalibrationError):
                raise CalibrationError(f"{path}: {error}") from error
            raise CalibrationError(
                f"{path}: expected tasks or records that `clean export` wrote, got another in place {number + 1}"
            ) from error
        if said is not None:
            yield said


def _input(item: Item) -> tuple[str, str]:
    """Return what an input is, and its content or address."""
    shown = item.shown
    if shown.text is not None:
        return "text", shown.text
    if shown.image is not None:
        return "image", shown.image
    assert shown.link is not None
    return shown.media or "link", shown.link


def _label_studio(task: Mapping[str, Any], file: SuspectsFile) -> Said | None:
    row, where = int(task["data"]["row"]), f"task {task.get('id', task['data']['row'])}"
    done = [one for one in task.get("annotations", ()) if not one.get("was_cancelled")]
    found = {answer for answer in map(_chosen, done) if answer[0]}
    if not found:
        return None
    if len(found) > 1:
        raise CalibrationError(f"{where}: expected one annotation, or several that agree, got some that differ")
    ((chosen, label),) = found
    verdict = _verdict_of(chosen, row, file)
    time = str(done[0].get("updated_at") or done[0].get("created_at") or "")
    return Said(where, row, verdict, label if verdict == "other" else "", str(task["data"]["audit"]), time)


def _chosen(annotation: Mapping[str, Any]) -> tuple[str, str]:
    """Return the chosen text and the label that was typed; empty where there is none."""
    found = {"verdict": "", "label": ""}
    for one in annotation["result"]:
        values = one["value"].get("choices") or one["value"].get("text") or ""
        found[one["from_name"]] = values if isinstance(values, str) else str(values[0])
    return found["verdict"], found["label"].strip()


def _argilla(record: Mapping[str, Any], file: SuspectsFile) -> Said | None:
    row, where = int(record["metadata"]["row"]), f"record {record.get('id')}"
    responses = record.get("responses") or {}
    if record.get("status", "completed") != "completed" or not responses.get("verdict"):
        return None
    said = {name: {str(one["value"]).strip() for one in responses.get(name, ())} for name in ("verdict", "label")}
    if max(map(len, said.values())) > 1:
        raise CalibrationError(f"{where}: expected one response, or several that agree, got some that differ")
    (answer,), label = said["verdict"], "".join(said["label"])
    verdict = _verdict_of(record["fields"][answer], row, file) if answer in ("first", "second") else answer
    return Said(where, row, verdict, label if verdict == "other" else "", str(record["metadata"]["audit"]))


def _verdict_of(text: str, row: int, file: SuspectsFile) -> str:
    """Return the verdict of an answer: the name of one of the two labels, or one of the other answers."""
    words = {text: verdict for verdict, text in _ANSWERS.items()}
    if 0 <= row < file.suspects.n:
        words |= dict(zip(file.pair(row), ("given", "suggested"), strict=True))
    return words.get(text, text)
