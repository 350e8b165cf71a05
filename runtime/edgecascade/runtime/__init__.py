"""The device: load a cascade model, decide, forward, merge.

    from edgecascade.runtime import Cascade

    with Cascade.load("local.onnx", remote="http://host:8000/v2/models/large", deadline=0.15) as cascade:
        answer = cascade.predict(image)      # always an answer, always in time
        print(answer.name, answer.confidence, answer.source.value, answer.reason.value)

It needs numpy and an ONNX Runtime only. Read `cascade.py` first. The types in public signatures are public, too:
here, or for the outbox in `edgecascade.runtime.outbox`. Each name is imported when it is first used.
"""

from typing import TYPE_CHECKING

from edgecascade.types.extras import when_used

if TYPE_CHECKING:
    from edgecascade.runtime.batch import Batch
    from edgecascade.runtime.budget import Budget, Rate
    from edgecascade.runtime.cascade import Cascade
    from edgecascade.runtime.columns import Columns
    from edgecascade.runtime.counts import CascadeHealth, Counts, Durations
    from edgecascade.runtime.deadline import Deadline
    from edgecascade.runtime.decode import Boxes, ClassMap, Ctc, Ranking, Value, decoder_named
    from edgecascade.runtime.engine import Declared
    from edgecascade.runtime.metrics.opentelemetry import export_to_opentelemetry
    from edgecascade.runtime.metrics.prometheus import prometheus_text
    from edgecascade.runtime.model_inputs import ModelInputs
    from edgecascade.runtime.outbox import Outbox
    from edgecascade.runtime.remotes.chat import Chat
    from edgecascade.runtime.remotes.circuit import CircuitBreaker
    from edgecascade.runtime.remotes.hedge import Hedged
    from edgecascade.runtime.remotes.open_inference import OpenInference
    from edgecascade.runtime.remotes.open_inference_grpc import OpenInferenceGrpc
    from edgecascade.runtime.remotes.remote import (
        InProcess,
        NamedArrays,
        Remote,
        RemoteLabels,
        Replied,
        Scores,
        Traffic,
    )
    from edgecascade.runtime.remotes.retry import Retrying
    from edgecascade.runtime.remotes.second_opinion import SecondOpinion
    from edgecascade.runtime.watch.alarms import Alarm
    from edgecascade.runtime.watch.watch import Health, Watch
    from edgecascade.types.answer import Answer, Decode, LateAnswer, Outputs, Prediction, Reason, Source
    from edgecascade.types.confidence_map import ConfidenceMap
    from edgecascade.types.costs import ErrorCosts
    from edgecascade.types.detections import Detections
    from edgecascade.types.document import (
        Calibration,
        CascadeDocument,
        Certificate,
        Confusion,
        ImagePreprocessing,
        PolicyRecord,
        Routing,
        ScoreCalibration,
        SourceRecord,
        TaskDocument,
        TaskRecord,
        TaskSource,
        TextPreprocessing,
    )
    from edgecascade.types.errors import (
        ArgumentError,
        CircuitOpen,
        EdgecascadeError,
        ForkedError,
        InputError,
        InvalidReply,
        ModelFileError,
        NoReply,
        RemoteError,
        RemoteRefusal,
        RemoteUnreachable,
        UnsendableInput,
    )
    from edgecascade.types.estimate import Estimate, OperatingPoint
    from edgecascade.types.platt import Platt
    from edgecascade.types.policy import Policy, RemoteCalibration

__all__ = [
    "Alarm",
    "Answer",
    "ArgumentError",
    "Batch",
    "Boxes",
    "Budget",
    "Calibration",
    "Cascade",
    "CascadeDocument",
    "CascadeHealth",
    "Certificate",
    "Chat",
    "CircuitBreaker",
    "CircuitOpen",
    "ClassMap",
    "Columns",
    "ConfidenceMap",
    "Confusion",
    "Counts",
    "Ctc",
    "Deadline",
    "Declared",
    "Decode",
    "Detections",
    "Durations",
    "EdgecascadeError",
    "ErrorCosts",
    "Estimate",
    "ForkedError",
    "Health",
    "Hedged",
    "ImagePreprocessing",
    "InProcess",
    "InputError",
    "InvalidReply",
    "LateAnswer",
    "ModelFileError",
    "ModelInputs",
    "NamedArrays",
    "NoReply",
    "OpenInference",
    "OpenInferenceGrpc",
    "OperatingPoint",
    "Outbox",
    "Outputs",
    "Platt",
    "Policy",
    "PolicyRecord",
    "Prediction",
    "Ranking",
    "Rate",
    "Reason",
    "Remote",
    "RemoteCalibration",
    "RemoteError",
    "RemoteLabels",
    "RemoteRefusal",
    "RemoteUnreachable",
    "Replied",
    "Retrying",
    "Routing",
    "ScoreCalibration",
    "Scores",
    "SecondOpinion",
    "Source",
    "SourceRecord",
    "TaskDocument",
    "TaskRecord",
    "TaskSource",
    "TextPreprocessing",
    "Traffic",
    "UnsendableInput",
    "Value",
    "Watch",
    "decoder_named",
    "export_to_opentelemetry",
    "prometheus_text",
]

_MODULES = {
    "Alarm": "edgecascade.runtime.watch.alarms",
    "Answer": "edgecascade.types.answer",
    "ArgumentError": "edgecascade.types.errors",
    "Batch": "edgecascade.runtime.batch",
    "Boxes": "edgecascade.runtime.decode",
    "Budget": "edgecascade.runtime.budget",
    "Calibration": "edgecascade.types.document",
    "Cascade": "edgecascade.runtime.cascade",
    "CascadeDocument": "edgecascade.types.document",
    "CascadeHealth": "edgecascade.runtime.counts",
    "Certificate": "edgecascade.types.document",
    "Chat": "edgecascade.runtime.remotes.chat",
    "CircuitBreaker": "edgecascade.runtime.remotes.circuit",
    "CircuitOpen": "edgecascade.types.errors",
    "ClassMap": "edgecascade.runtime.decode",
    "Columns": "edgecascade.runtime.columns",
    "ConfidenceMap": "edgecascade.types.confidence_map",
    "Confusion": "edgecascade.types.document",
    "Counts": "edgecascade.runtime.counts",
    "Ctc": "edgecascade.runtime.decode",
    "Deadline": "edgecascade.runtime.deadline",
    "Declared": "edgecascade.runtime.engine",
    "Decode": "edgecascade.types.answer",
    "Detections": "edgecascade.types.detections",
    "Durations": "edgecascade.runtime.counts",
    "EdgecascadeError": "edgecascade.types.errors",
    "ErrorCosts": "edgecascade.types.costs",
    "Estimate": "edgecascade.types.estimate",
    "ForkedError": "edgecascade.types.errors",
    "Health": "edgecascade.runtime.watch.watch",
    "Hedged": "edgecascade.runtime.remotes.hedge",
    "ImagePreprocessing": "edgecascade.types.document",
    "InProcess": "edgecascade.runtime.remotes.remote",
    "InputError": "edgecascade.types.errors",
    "InvalidReply": "edgecascade.types.errors",
    "LateAnswer": "edgecascade.types.answer",
    "ModelFileError": "edgecascade.types.errors",
    "ModelInputs": "edgecascade.runtime.model_inputs",
    "NamedArrays": "edgecascade.runtime.remotes.remote",
    "NoReply": "edgecascade.types.errors",
    "OpenInference": "edgecascade.runtime.remotes.open_inference",
    "OpenInferenceGrpc": "edgecascade.runtime.remotes.open_inference_grpc",
    "OperatingPoint": "edgecascade.types.estimate",
    "Outbox": "edgecascade.runtime.outbox",
    "Outputs": "edgecascade.types.answer",
    "Platt": "edgecascade.types.platt",
    "Policy": "edgecascade.types.policy",
    "PolicyRecord": "edgecascade.types.document",
    "Prediction": "edgecascade.types.answer",
    "Ranking": "edgecascade.runtime.decode",
    "Rate": "edgecascade.runtime.budget",
    "Reason": "edgecascade.types.answer",
    "Remote": "edgecascade.runtime.remotes.remote",
    "RemoteCalibration": "edgecascade.types.policy",
    "RemoteError": "edgecascade.types.errors",
    "RemoteLabels": "edgecascade.runtime.remotes.remote",
    "RemoteRefusal": "edgecascade.types.errors",
    "RemoteUnreachable": "edgecascade.types.errors",
    "Replied": "edgecascade.runtime.remotes.remote",
    "Retrying": "edgecascade.runtime.remotes.retry",
    "Routing": "edgecascade.types.document",
    "ScoreCalibration": "edgecascade.types.document",
    "Scores": "edgecascade.runtime.remotes.remote",
    "SecondOpinion": "edgecascade.runtime.remotes.second_opinion",
    "Source": "edgecascade.types.answer",
    "SourceRecord": "edgecascade.types.document",
    "TaskDocument": "edgecascade.types.document",
    "TaskRecord": "edgecascade.types.document",
    "TaskSource": "edgecascade.types.document",
    "TextPreprocessing": "edgecascade.types.document",
    "Traffic": "edgecascade.runtime.remotes.remote",
    "UnsendableInput": "edgecascade.types.errors",
    "Value": "edgecascade.runtime.decode",
    "Watch": "edgecascade.runtime.watch.watch",
    "decoder_named": "edgecascade.runtime.decode",
    "export_to_opentelemetry": "edgecascade.runtime.metrics.opentelemetry",
    "prometheus_text": "edgecascade.runtime.metrics.prometheus",
}


__getattr__ = when_used(globals(), _MODULES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
