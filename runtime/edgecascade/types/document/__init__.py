"""The document inside a cascade file, which is JSON: write it, read it and tell its version.

An ONNX file carries it under the metadata key `edgecascade`, a `.tflite` file in an archive behind the flatbuffer. Here
it is one tree of frozen dataclasses, `CascadeDocument` for a classifier and `TaskDocument` for a general task;
docs/file-format.md describes both for other languages.
"""

from edgecascade.types.document.asked import ANSWER_FORMS, AnswerForm, AskedChat, Template, template_sha256
from edgecascade.types.document.calibration import (
    Calibration,
    LabelNoise,
    ScoreCalibration,
    calibration_dict,
    calibration_rows,
    remote_dict,
    score_calibration_dict,
)
from edgecascade.types.document.chat import CHAT_SCORES, ChatDocument, ChatScore, ChatSide, TokenPrice, is_chat_file
from edgecascade.types.document.classifier import CascadeDocument, SourceRecord
from edgecascade.types.document.evidence import (
    Certificate,
    Confusion,
    PolicyRecord,
    Routing,
    certificate_dict,
    confusion_rows,
    point_dict,
    policy_dict,
)
from edgecascade.types.document.metadata import (
    BATCH_KEY,
    FORMAT,
    GOLDEN_KEY,
    KEY,
    LABELS_KEY,
    MOVED_KEY,
    PREPROCESSING_KEY,
    PROMPT_KEY,
    TASK_FORMAT,
    WEIGHTS_KEY,
    body_names,
)
from edgecascade.types.document.preprocessing import (
    ImagePreprocessing,
    Preprocessing,
    TextPreprocessing,
    preprocessing_dict,
    read_preprocessing,
)
from edgecascade.types.document.task import TaskDocument, TaskRecord, TaskSource, read_any_document

__all__ = [
    "ANSWER_FORMS",
    "BATCH_KEY",
    "CHAT_SCORES",
    "FORMAT",
    "GOLDEN_KEY",
    "KEY",
    "LABELS_KEY",
    "MOVED_KEY",
    "PREPROCESSING_KEY",
    "PROMPT_KEY",
    "TASK_FORMAT",
    "WEIGHTS_KEY",
    "AnswerForm",
    "AskedChat",
    "Calibration",
    "CascadeDocument",
    "Certificate",
    "ChatDocument",
    "ChatScore",
    "ChatSide",
    "Confusion",
    "ImagePreprocessing",
    "LabelNoise",
    "PolicyRecord",
    "Preprocessing",
    "Routing",
    "ScoreCalibration",
    "SourceRecord",
    "TaskDocument",
    "TaskRecord",
    "TaskSource",
    "Template",
    "TextPreprocessing",
    "TokenPrice",
    "body_names",
    "calibration_dict",
    "calibration_rows",
    "certificate_dict",
    "confusion_rows",
    "is_chat_file",
    "point_dict",
    "policy_dict",
    "preprocessing_dict",
    "read_any_document",
    "read_preprocessing",
    "remote_dict",
    "score_calibration_dict",
    "template_sha256",
]
