"""The device: load a cascade model, decide, forward, merge.

    from edgecascade.runtime import Cascade

    with Cascade.load("local.onnx", remote="http://host:8000/v2/models/large", deadline=0.15) as cascade:
        answer = cascade.predict(image)      # always an answer, always in time
        print(answer.name, answer.confidence, answer.source.value, answer.reason.value)

Needs numpy and onnxruntime, and nothing else. Read `cascade.py` first. What only some applications use is imported
when it is first named.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgecascade.runtime.answer import Answer, LateAnswer, Reason, Source, Verdict
from edgecascade.runtime.cascade import Cascade
from edgecascade.runtime.counts import Counts
from edgecascade.runtime.deadline import Deadline
from edgecascade.runtime.errors import (
    ArgumentError,
    CircuitOpen,
    EdgecascadeError,
    ForkedError,
    InputError,
    ModelFileError,
    RemoteError,
    RemoteUnreachable,
)
from edgecascade.runtime.policy import Policy
from edgecascade.runtime.remote import InProcess, Opinions, Remote

if TYPE_CHECKING:
    from edgecascade.runtime.alarms import Alarm
    from edgecascade.runtime.budget import Budget
    from edgecascade.runtime.chat import Chat
    from edgecascade.runtime.circuit import CircuitBreaker
    from edgecascade.runtime.health import Health
    from edgecascade.runtime.hedge import Hedged
    from edgecascade.runtime.open_inference import OpenInference
    from edgecascade.runtime.open_inference_grpc import OpenInferenceGrpc
    from edgecascade.runtime.outbox import Outbox
    from edgecascade.runtime.prometheus import prometheus_text
    from edgecascade.runtime.rate import Rate
    from edgecascade.runtime.retry import Retrying
    from edgecascade.runtime.telemetry import export_to_opentelemetry
    from edgecascade.runtime.watch import Watch

__all__ = [
    "Alarm",
    "Answer",
    "ArgumentError",
    "Budget",
    "Cascade",
    "Chat",
    "CircuitBreaker",
    "CircuitOpen",
    "Counts",
    "Deadline",
    "EdgecascadeError",
    "ForkedError",
    "Health",
    "Hedged",
    "InProcess",
    "InputError",
    "LateAnswer",
    "ModelFileError",
    "OpenInference",
    "OpenInferenceGrpc",
    "Opinions",
    "Outbox",
    "Policy",
    "Rate",
    "Reason",
    "Remote",
    "RemoteError",
    "RemoteUnreachable",
    "Retrying",
    "Source",
    "Verdict",
    "Watch",
    "export_to_opentelemetry",
    "prometheus_text",
]

_LATER = {
    "Alarm": "alarms",
    "Budget": "budget",
    "Chat": "chat",
    "CircuitBreaker": "circuit",
    "Health": "health",
    "Hedged": "hedge",
    "OpenInference": "open_inference",
    "OpenInferenceGrpc": "open_inference_grpc",
    "Outbox": "outbox",
    "Rate": "rate",
    "Retrying": "retry",
    "Watch": "watch",
    "export_to_opentelemetry": "telemetry",
    "prometheus_text": "prometheus",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
