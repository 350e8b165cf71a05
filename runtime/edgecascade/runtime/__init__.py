"""The device: load a cascade model, decide, forward, merge.

    from edgecascade.runtime import Cascade

    with Cascade.load("local.onnx", remote="http://host:8000/v2/models/large", deadline=0.15) as cascade:
        answer = cascade.predict(image)      # always an answer, always in time
        print(answer.name, answer.confidence, answer.source.value, answer.reason.value)

Needs numpy and onnxruntime, and nothing else. Read `cascade.py` first.
"""

from edgecascade.runtime.answer import Answer, Reason, Source, Verdict
from edgecascade.runtime.cascade import Cascade
from edgecascade.runtime.counts import Counts
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.errors import (
    ArgumentError,
    EdgecascadeError,
    InputError,
    ModelFileError,
    RemoteError,
    RemoteUnreachable,
)
from edgecascade.runtime.open_inference import OpenInference
from edgecascade.runtime.policy import Policy
from edgecascade.runtime.remote import InProcess, Opinions, Remote

__all__ = [
    "Answer",
    "ArgumentError",
    "Cascade",
    "Counts",
    "Deadline",
    "EdgecascadeError",
    "InProcess",
    "InputError",
    "ModelFileError",
    "OpenInference",
    "Opinions",
    "Policy",
    "Reason",
    "Remote",
    "RemoteError",
    "RemoteUnreachable",
    "Source",
    "Verdict",
]
