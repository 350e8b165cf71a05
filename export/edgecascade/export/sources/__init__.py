"""Where a body comes from: a torch module, a Hugging Face classifier, a language model; and its preprocessing."""

from edgecascade.export.sources.causal import GGUF, export_causal
from edgecascade.export.sources.hugging_face import TASKS, HuggingFaceBody, export_hugging_face
from edgecascade.export.sources.preprocess import after_resizing, prepend, standalone, suited
from edgecascade.export.sources.tokenizer import TOKENIZER
from edgecascade.export.sources.torch_module import export_torch, load_torch_module

__all__ = [
    "GGUF",
    "TASKS",
    "TOKENIZER",
    "HuggingFaceBody",
    "after_resizing",
    "export_causal",
    "export_hugging_face",
    "export_torch",
    "load_torch_module",
    "prepend",
    "standalone",
    "suited",
]
