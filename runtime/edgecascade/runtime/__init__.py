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

if TYPE_CHECKING:
    from edgecascade.runtime.budget import Budget, Rate
    from edgecascade.runtime.counts import Counts
    from edgecascade.runtime.metrics.opentelemetry import export_to_opentelemetry
    from edgecascade.runtime.metrics.prometheus import prometheus_text
    from edgecascade.runtime.outbox.outbox import Outbox
    from edgecascade.runtime.remotes.chat import Chat
    from edgecascade.runtime.remotes.circuit import CircuitBreaker
    from edgecascade.runtime.remotes.hedge import Hedged
    from edgecascade.runtime.remotes.open_inference import OpenInference
    from edgecascade.runtime.remotes.open_inference_grpc import OpenInferenceGrpc
    from edgecascade.runtime.remotes.remote import InProcess, Remote, RemoteLabels
    from edgecascade.runtime.remotes.retry import Retrying
    from edgecascade.runtime.watch.alarms import Alarm
    from edgecascade.runtime.watch.watch import Health, Watch

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
    "Outbox",
    "Policy",
    "Rate",
    "Reason",
    "Remote",
    "RemoteError",
    "RemoteLabels",
    "RemoteUnreachable",
    "Retrying",
    "Source",
    "Verdict",
    "Watch",
    "export_to_opentelemetry",
    "prometheus_text",
]

_LATER = {
    "Alarm": "watch.alarms",
    "Budget": "budget",
    "Chat": "remotes.chat",
    "CircuitBreaker": "remotes.circuit",
    "Counts": "counts",
    "Health": "watch.watch",
    "Hedged": "remotes.hedge",
    "InProcess": "remotes.remote",
    "OpenInference": "remotes.open_inference",
    "OpenInferenceGrpc": "remotes.open_inference_grpc",
    "RemoteLabels": "remotes.remote",
    "Outbox": "outbox.outbox",
    "Rate": "budget",
    "Remote": "remotes.remote",
    "Retrying": "remotes.retry",
    "Watch": "watch.watch",
    "export_to_opentelemetry": "metrics.opentelemetry",
    "prometheus_text": "metrics.prometheus",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
