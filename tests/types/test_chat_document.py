"""The document of two chat endpoints: it survives JSON, and its score is what it says."""

import math
from dataclasses import replace

import numpy as np
import pytest

from edgecascade.calibration import MostAccuracy, plan_task
from edgecascade.types.document import ChatDocument, ChatScore, ChatSide, TokenPrice
from edgecascade.types.errors import ArgumentError, ModelFileError


@pytest.fixture(scope="module")
def document() -> ChatDocument:
    """Planned on simulated replies."""
    rng = np.random.default_rng(5)
    score = rng.normal(size=400)
    plan = plan_task(score, rng.random(400) < 1 / (1 + np.exp(-score)), rng.random(400) < 0.8, MostAccuracy(0.3))
    return ChatDocument(
        written_by="edgecascade 0",
        local=ChatSide("http://127.0.0.1:8080/v1", None, "small.gguf"),
        remote=ChatSide("https://example.com/v1", "large", "large-2026", TokenPrice(0.5, 1.5)),
        judge="exact",
        score=ChatScore("mean"),
        fields={"temperature": 0, "max_tokens": 128},
        turns=(("user",), ("system", "user")),
        calibration=plan.calibration,
        remote_value=plan.remote,
        policy=plan.record,
        operating_curve=plan.policy.curve,
        certificate=plan.certificate,
        data_sha256="0" * 64,
    )


def test_it_survives_json(document: ChatDocument) -> None:
    """Everything that is written is read."""
    assert ChatDocument.from_json(document.to_json(), "f") == document


@pytest.mark.parametrize("name", ["score", "policy", "turns", "local", "calibration"])
def test_a_damaged_document_is_refused(document: ChatDocument, name: str) -> None:
    """A missing part is damage."""
    with pytest.raises(ModelFileError, match=r"^f: .*damaged"):
        ChatDocument.from_json(document.to_json().replace(f'"{name}"', '"other"'), "f")


def test_a_policy_without_its_table_is_refused(document: ChatDocument) -> None:
    """There is no graph that could hold the table instead."""
    without = replace(document, policy=replace(document.policy, edges=None, values=None))
    with pytest.raises(ModelFileError, match="values: expected the advantages"):
        ChatDocument.from_json(without.to_json(), "f")


def test_long_replies_are_scored_by_their_beginning() -> None:
    """Up to 64 tokens count; of more, the first 32."""
    logprobs = -np.random.default_rng(0).exponential(size=80)
    for kind, reduce in (("mean", np.mean), ("minimum", np.min), ("first", lambda some: some[0])):
        score = ChatScore(kind)
        assert score(list(logprobs[:64])) == pytest.approx(reduce(logprobs[:64]))
        assert score(list(logprobs[:65])) == score(list(logprobs)) == pytest.approx(reduce(logprobs[:32]))
        assert math.isnan(score([]))


@pytest.mark.parametrize("wrong", [{"kind": "median"}, {"start": 0}, {"start": 65}])
def test_a_score_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    """The error names the value."""
    with pytest.raises(ArgumentError, match=f"^{next(iter(wrong))}: expected"):
        ChatScore(**wrong)  # type: ignore[arg-type]
