"""Where a body comes from: a torch module, or a Hugging Face classifier; and the image preprocessing in its graph."""

from edgecascade.export.sources.hugging_face import TASKS, HuggingFaceBody, export_hugging_face
from edgecascade.export.sources.preprocess import after_resizing, prepend, standalone, suited
from edgecascade.export.sources.tokenizer import TOKENIZER
from edgecascade.export.sources.torch_module import export_torch, load_torch_module

__all__ = [
    "TASKS",
    "TOKENIZER",
    "HuggingFaceBody",
    "after_resizing",
    "export_hugging_face",
    "export_torch",
    "load_torch_module",
    "prepend",
    "standalone",
    "suited",
]
