"""From a trained model to the one file that a device needs.

The order of work is always the same: export the body, quantize it, run *that* model on the calibration data, fit, plan,
fold, prove parity, write. Read `calibrate.py` first, then `fold.py`. The names of `chat` and `hub` are
imported when they are first used. `calibrate_chat` needs neither onnx nor ONNX Runtime: where one is missing, the names
that need it raise an error that says how to install it.
"""

from typing import TYPE_CHECKING, Any

from edgecascade.types.extras import installing, naming_extras, when_used

if TYPE_CHECKING:
    from edgecascade.export.chat.ask import Asked, ask_both
    from edgecascade.export.chat.calibrate import CalibratedChat, PlannedChat, calibrate_chat, plan_chat
    from edgecascade.export.chat.endpoint import AskedEndpoint
    from edgecascade.export.chat.prompts import ChatPrompt, read_prompts
    from edgecascade.export.chat.remote import ChatScores, KeptReplies, ask_chat
    from edgecascade.export.chat.replies import ChatReply, Replies, RepliesToPrompt, read_replies
    from edgecascade.export.hub import from_hub, model_card, push_to_hub

try:
    with naming_extras():
        from edgecascade.export.calibrate import Calibrated, calibrate
        from edgecascade.export.class_names import labelled_as
        from edgecascade.export.compare import Compared, compare_bodies
        from edgecascade.export.data import LabelledData, ReferencedData, read_coco, read_labelled, read_references
        from edgecascade.export.fold import fold, unfold
        from edgecascade.export.graph import keep_outputs, load_model, save_model
        from edgecascade.export.logits import KINDS, LogitsSource, find_logits, kind_of, logits_of
        from edgecascade.export.parity import Parity, check_parity
        from edgecascade.export.quantize import quantize_int8, quantize_int8_dynamic, to_float16
        from edgecascade.export.recalibrate import cascade_scores, move_threshold, recalibrate
        from edgecascade.export.scores import RemoteOutputs, ask_remote, local_scores, remote_scores
        from edgecascade.export.sources import HuggingFaceBody, export_hugging_face, export_torch, prepend
        from edgecascade.export.task.calibrate import CalibratedTask, calibrate_task
        from edgecascade.export.task.recalibrate import recalibrate_task
        from edgecascade.export.tflite import export_tflite, export_tflite_int8
        from edgecascade.types.document import ImagePreprocessing
        from edgecascade.types.errors import ExportError, ParityError
except ModuleNotFoundError as error:
    if not installing(error.name or ""):
        raise
    _absent: ModuleNotFoundError | None = error
else:
    _absent = None

__all__ = [
    "KINDS",
    "Asked",
    "AskedEndpoint",
    "Calibrated",
    "CalibratedChat",
    "CalibratedTask",
    "ChatPrompt",
    "ChatReply",
    "ChatScores",
    "Compared",
    "ExportError",
    "HuggingFaceBody",
    "ImagePreprocessing",
    "KeptReplies",
    "LabelledData",
    "LogitsSource",
    "Parity",
    "ParityError",
    "PlannedChat",
    "ReferencedData",
    "RemoteOutputs",
    "Replies",
    "RepliesToPrompt",
    "ask_both",
    "ask_chat",
    "ask_remote",
    "calibrate",
    "calibrate_chat",
    "calibrate_task",
    "cascade_scores",
    "check_parity",
    "compare_bodies",
    "export_hugging_face",
    "export_tflite",
    "export_tflite_int8",
    "export_torch",
    "find_logits",
    "fold",
    "from_hub",
    "keep_outputs",
    "kind_of",
    "labelled_as",
    "load_model",
    "local_scores",
    "logits_of",
    "model_card",
    "move_threshold",
    "plan_chat",
    "prepend",
    "push_to_hub",
    "quantize_int8",
    "quantize_int8_dynamic",
    "read_coco",
    "read_labelled",
    "read_prompts",
    "read_references",
    "read_replies",
    "recalibrate",
    "recalibrate_task",
    "remote_scores",
    "save_model",
    "to_float16",
    "unfold",
]

_MODULES = {
    "Asked": "edgecascade.export.chat.ask",
    "AskedEndpoint": "edgecascade.export.chat.endpoint",
    "CalibratedChat": "edgecascade.export.chat.calibrate",
    "ChatPrompt": "edgecascade.export.chat.prompts",
    "ChatReply": "edgecascade.export.chat.replies",
    "ChatScores": "edgecascade.export.chat.remote",
    "KeptReplies": "edgecascade.export.chat.remote",
    "PlannedChat": "edgecascade.export.chat.calibrate",
    "Replies": "edgecascade.export.chat.replies",
    "RepliesToPrompt": "edgecascade.export.chat.replies",
    "ask_both": "edgecascade.export.chat.ask",
    "ask_chat": "edgecascade.export.chat.remote",
    "calibrate_chat": "edgecascade.export.chat.calibrate",
    "from_hub": "edgecascade.export.hub",
    "model_card": "edgecascade.export.hub",
    "plan_chat": "edgecascade.export.chat.calibrate",
    "push_to_hub": "edgecascade.export.hub",
    "read_prompts": "edgecascade.export.chat.prompts",
    "read_replies": "edgecascade.export.chat.replies",
}
_when_used = when_used(globals(), _MODULES)


def __getattr__(name: str) -> Any:
    if _absent is not None and name in __all__ and name not in _MODULES:
        raise ModuleNotFoundError(*_absent.args, name=_absent.name) from _absent
    return _when_used(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
