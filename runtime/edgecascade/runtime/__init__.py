"""The device: load a cascade model, decide, forward, merge.

    from edgecascade.runtime import Cascade

    with Cascade.load("local.onnx", remote="http://host:8000/v2/models/large", deadline=0.15) as cascade:
        answer = cascade.predict(image)      # always an answer, always in time
        print(answer.name, answer.confidence, answer.source.value, answer.reason.value)

It needs numpy and onnxruntime only. Read `cascade.py` first. Each name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgecascade.runtime.budget import Budget, Rate
    from edgecascade.runtime.cascade import Cascade
    from edgecascade.runtime.counts import Counts
    from edgecascade.runtime.deadline import Deadline
    from edgecascade.runtime.metrics.opentelemetry import export_to_opentelemetry
    from edgecascade.runtime.metrics.prometheus import prometheus_text
    from edgecascade.runtime.outbox import Outbox
    from edgecascade.runtime.remotes.chat import Chat
    from edgecascade.runtime.remotes.circuit import CircuitBreaker
    from edgecascade.runtime.remotes.hedge import Hedged
    from edgecascade.runtime.remotes.open_inference import OpenInference
    from edgecascade.runtime.remotes.open_inference_grpc import OpenInferenceGrpc
    from edgecascade.runtime.remotes.remote import InProcess, Remote, RemoteLabels, Scores, Traffic
    from edgecascade.runtime.remotes.retry import Retrying
    from edgecascade.runtime.watch.alarms import Alarm
    from edgecascade.runtime.watch.watch import Health, Watch
    from edgecascade.types.answer import Answer, LateAnswer, Prediction, Reason, Source
    from edgecascade.types.document import CascadeDocument
    from edgecascade.types.errors import (
        ArgumentError,
        CircuitOpen,
        EdgecascadeError,
        ForkedError,
        InputError,
        ModelFileError,
        RemoteError,
        RemoteUnreachable,
    )
    from edgecascade.types.estimate import Estimate
    from edgecascade.types.policy import Policy, RemoteCalibration

__all__ = [
    "Alarm",
    "Answer",
    "ArgumentError",
    "Budget",
    "Cascade",
    "CascadeDocument",
    "Chat",
    "CircuitBreaker",
    "CircuitOpen",
    "Counts",
    "Deadline",
    "EdgecascadeError",
    "Estimate",
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
    "Prediction",
    "Rate",
    "Reason",
    "Remote",
    "RemoteCalibration",
    "RemoteError",
    "RemoteLabels",
    "RemoteUnreachable",
    "Retrying",
    "Scores",
    "Source",
    "Traffic",
    "Watch",
    "export_to_opentelemetry",
    "prometheus_text",
]

_MODULES = {
    "Alarm": "edgecascade.runtime.watch.alarms",
    "Answer": "edgecascade.types.answer",
    "ArgumentError": "edgecascade.types.errors",
    "Budget": "edgecascade.runtime.budget",
    "Cascade": "edgecascade.runtime.cascade",
    "CascadeDocument": "edgecascade.types.document",
    "Chat": "edgecascade.runtime.remotes.chat",
    "CircuitBreaker": "edgecascade.runtime.remotes.circuit",
    "CircuitOpen": "edgecascade.types.errors",
    "Counts": "edgecascade.runtime.counts",
    "Deadline": "edgecascade.runtime.deadline",
    "EdgecascadeError": "edgecascade.types.errors",
    "Estimate": "edgecascade.types.estimate",
    "ForkedError": "edgecascade.types.errors",
    "Health": "edgecascade.runtime.watch.watch",
    "Hedged": "edgecascade.runtime.remotes.hedge",
    "InProcess": "edgecascade.runtime.remotes.remote",
    "InputError": "edgecascade.types.errors",
    "LateAnswer": "edgecascade.types.answer",
    "ModelFileError": "edgecascade.types.errors",
    "OpenInference": "edgecascade.runtime.remotes.open_inference",
    "OpenInferenceGrpc": "edgecascade.runtime.remotes.open_inference_grpc",
    "Outbox": "edgecascade.runtime.outbox",
    "Policy": "edgecascade.types.policy",
    "Prediction": "edgecascade.types.answer",
    "Rate": "edgecascade.runtime.budget",
    "Reason": "edgecascade.types.answer",
    "Remote": "edgecascade.runtime.remotes.remote",
    "RemoteCalibration": "edgecascade.types.policy",
    "RemoteError": "edgecascade.types.errors",
    "RemoteLabels": "edgecascade.runtime.remotes.remote",
    "RemoteUnreachable": "edgecascade.types.errors",
    "Retrying": "edgecascade.runtime.remotes.retry",
    "Scores": "edgecascade.runtime.remotes.remote",
    "Source": "edgecascade.types.answer",
    "Traffic": "edgecascade.runtime.remotes.remote",
    "Watch": "edgecascade.runtime.watch.watch",
    "export_to_opentelemetry": "edgecascade.runtime.metrics.opentelemetry",
    "prometheus_text": "edgecascade.runtime.metrics.prometheus",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(_MODULES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
