"""How a generative model was asked as a remote: the part of a classifier's document, and what it refuses."""

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from documents import some_document
from edgecascade.types.document import AskedChat, CascadeDocument, Template, template_sha256
from edgecascade.types.errors import ArgumentError, ModelFileError

TURNS = ({"role": "user", "content": "{labels}: {input} ü"},)


def asked(prompt: Template | None = "{input}?", **changes: Any) -> AskedChat:
    """Return how a model was asked for a label."""
    sha256 = None if prompt is None else template_sha256(prompt)
    given = {"model": "large", "reported": "large-7", "top_logprobs": 20, "fields": {"seed": 3, "stop": None}}
    return AskedChat("label", prompt, sha256, **{**given, **changes})


@pytest.mark.parametrize(
    "written",
    [
        asked(),
        asked(TURNS),
        asked(None),
        asked(top_logprobs=None, model=None, reported="", fields={}),
        replace(asked(top_logprobs=None), answer="text", scale=(1.5, -0.25)),
    ],
)
def test_it_survives_json_and_follows_the_schema(written: AskedChat) -> None:
    """With a text, messages or a function as the prompt; without it, the document has no such part."""
    document = replace(some_document(), remote_chat=written)
    assert CascadeDocument.from_json(document.to_json(), "x").remote_chat == written
    schema = json.loads(files("edgecascade.types").joinpath("cascade-model.schema.json").read_text("utf-8"))
    found = json.loads(document.to_json())["remote"]
    Draft202012Validator({**schema["properties"]["remote"], "$defs": schema["$defs"]}).validate(found)
    assert "chat" in found
    assert "chat" not in some_document().to_dict()["remote"]


def test_the_hash_is_that_of_the_text_or_of_plain_json() -> None:
    """Other programs can compute it; the order of keys does not matter."""
    import hashlib

    assert template_sha256("é {input}") == hashlib.sha256("é {input}".encode()).hexdigest()
    text = '[{"content":"{labels}: {input} \\u00fc","role":"user"}]'
    assert template_sha256(TURNS) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        lambda chat: chat.update(answer="word"),
        lambda chat: chat.update(prompt="another"),
        lambda chat: chat.pop("prompt_sha256"),
        lambda chat: chat.update(prompt=["words"]),
        lambda chat: chat.update(top_logprobs=0),
        lambda chat: chat.update(scale=[1, 2]),
        lambda chat: chat.update(answer="text", scale=[1, 2, 3]),
        lambda chat: chat.update(fields=[1]),
        lambda chat: chat.pop("answer"),
    ],
)
def test_a_damaged_part_is_refused(change: Callable[[dict[str, Any]], Any]) -> None:
    """The file cannot be loaded then."""
    document = replace(some_document(), remote_chat=asked()).to_dict()
    change(document["remote"]["chat"])
    with pytest.raises(ModelFileError):
        CascadeDocument.from_json(json.dumps(document), "x")


def test_a_scale_is_of_text_alone() -> None:
    """It is finite, too."""
    for wrong in (asked, lambda **options: replace(asked(), answer="text", **options)):
        with pytest.raises(ArgumentError):
            wrong(scale=(float("nan"), 1.0))
