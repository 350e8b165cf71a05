"""Files of two chat endpoints, for tests of the gateway."""

from dataclasses import replace
from typing import Any

from edgecascade.types.document import (
    ChatDocument,
    ChatScore,
    ChatSide,
    PolicyRecord,
    ScoreCalibration,
    TokenPrice,
)
from edgecascade.types.estimate import Estimate, OperatingPoint
from edgecascade.types.platt import Platt

SOME = Estimate(0.5, 0.4, 0.6, 100)
POINT = OperatingPoint(0.0, 0.3, 0.7, (0.2, 0.4), (0.6, 0.8), (0.6, 0.8), 100)


def chat_document(**changes: Any) -> ChatDocument:
    """Return a document that keeps replies whose mean log-probability is -1 or more; the remote's tokens cost money."""
    policy = PolicyRecord(
        score="mean",
        merge="replace",
        estimate="monotone",
        objective="as accurate as possible, forwarding at most 30%",
        threshold=0.0,
        chosen=POINT,
        advice=(),
        bins=2,
        edges=(-1.0,),
        values=(-0.25, 0.125),
        counts=(50, 50),
        intervals=((-0.3, -0.2), (0.1, 0.15)),
        considered=(),
    )
    document = ChatDocument(
        written_by="edgecascade 0",
        local=ChatSide("http://127.0.0.1:1/v1", "small", "fake"),
        remote=ChatSide("http://127.0.0.1:1/v1", "large", "fake", TokenPrice(1.0, 4.0)),
        judge="exact",
        score=ChatScore("mean", whole=8, start=4),
        fields={"temperature": 0},
        turns=(("user",),),
        calibration=ScoreCalibration(Platt(2.0, 2.0), 100, SOME, SOME),
        remote_value=SOME,
        policy=policy,
        operating_curve=(POINT,),
        certificate=None,
        data_sha256="0" * 64,
    )
    return replace(document, **changes)
