"""The decision about a local reply is that of calibration, bit for bit."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_files import SOME, chat_document
from edgecascade.calibration import AdvantageTable, TaskRule, decide_task
from edgecascade.chat.decision import ChatRule, unlike_calibration
from edgecascade.types.confidence_map import ConfidenceMap
from edgecascade.types.document import ChatScore, ScoreCalibration
from edgecascade.types.platt import Platt

LOGPROBS = st.lists(st.floats(-9999, 0, width=32), max_size=80)
KNOTS = ((-2.0, -1.0, -0.1), (0.1, 0.30000001, 0.9))


@given(LOGPROBS, st.sampled_from(["mean", "minimum", "first"]), st.booleans(), st.floats(-0.3, 0.2))
def test_it_is_that_of_calibration(logprobs: list[float], kind: str, platt: bool, threshold: float) -> None:
    """For any tokens, score, map and threshold: the same float32 numbers and the same decision."""
    confidence = Platt(1.7, 0.3) if platt else ConfidenceMap(*KNOTS)
    score = ChatScore(kind)
    document = chat_document(score=score, calibration=ScoreCalibration(confidence, 100, SOME, SOME))
    found = ChatRule(document, threshold)(logprobs)
    edges, values = (np.asarray(some, np.float32) for some in (document.policy.edges, document.policy.values))
    rule = TaskRule(confidence, AdvantageTable(edges, values, np.array([50, 50])), threshold)
    wanted = decide_task(np.array([score(logprobs)]), rule)
    assert found.forward == wanted.forward[0]
    for name in ("score", "confidence", "advantage"):
        np.testing.assert_equal(np.float32(getattr(found, name)), getattr(wanted, name)[0])


def test_the_documents_own_threshold_is_the_default() -> None:
    """A reply exactly at an edge belongs to the bin above it."""
    rule = ChatRule(chat_document())
    assert [rule([score]).forward for score in (-1.5, -1.0, math.nextafter(-1.0, -2))] == [True, False, False]
    assert rule([np.nextafter(np.float32(-1), np.float32(-2))]).forward


def test_a_reply_without_tokens_is_forwarded() -> None:
    """Nothing is known of it."""
    found = ChatRule(chat_document())([])
    assert found.forward
    assert math.isnan(found.score)


@pytest.mark.parametrize("threshold", [-1.0, 1.0])
def test_a_threshold_can_keep_or_forward_everything(threshold: float) -> None:
    """It takes the place of the document's."""
    assert {ChatRule(chat_document(), threshold)([score]).forward for score in (-5.0, -0.1)} == {threshold > 0}


@pytest.mark.parametrize(
    ("calibrated", "given", "unlike"),
    [
        (256, 1024, ()),
        (256, None, ()),
        (None, 65, ()),
        (64, 64, ()),
        (256, 64, ("max_tokens",)),
        (16, 256, ("max_tokens",)),
    ],
)
def test_a_bound_counts_where_it_can_change_the_tokens_that_are_scored(
    calibrated: int | None, given: int | None, unlike: tuple[str, ...]
) -> None:
    """A reply of more than 64 tokens is scored by its first 32, wherever it ends."""
    document = chat_document(score=ChatScore("mean"), fields={"max_tokens": calibrated})
    for name in ("max_tokens", "max_completion_tokens"):
        request = {"messages": [{"role": "user", "content": "Hi"}], name: given}
        assert unlike_calibration(document, request) == unlike
    assert unlike_calibration(document, {**request, name: "many"}) == ("max_tokens",)
