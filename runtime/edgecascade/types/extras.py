"""The extras of edgecascade that install optional packages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

__all__ = ["installing", "naming_extras", "when_used"]

_EXTRAS = {
    "PIL": "images",
    "accelerate": "hf",
    "ai_edge_litert": "litert",
    "ai_edge_quantizer": "tflite",
    "aiohttp": "gateway",
    "av": "video",
    "google": "grpc",
    "gguf": "hf",
    "grpc": "grpc",
    "huggingface_hub": "hf",
    "mlperf_loadgen": "latency",
    "onnxruntime": "cpu",
    "onnxscript": "torch",
    "opentelemetry": "otel",
    "optimum": "hf",
    "pyarrow": "parquet",
    "rapidfuzz": "tasks",
    "starlette": "serve",
    "tokenizers": "text",
    "torch": "torch",
    "transformers": "hf",
    "uvicorn": "serve",
}  # by the package's import name
_OF_PARTS = {"matplotlib": "plan", "onnx": "export", "scipy": "calibration"}  # where no command names its own extra
_TOGETHER = {"clean": ("PIL", "pyarrow")}  # packages of other extras that the extra of a command has as well


def installing(module: str, otherwise: str = "") -> str:
    """Return how to install a missing module, as a command, or an empty text for one that no extra brings.

    Args:
        module: its dotted import name.
        otherwise: the extra of the command that needs it, for a package that several extras install.
    """
    package = module.partition(".")[0]
    extra = _EXTRAS.get(package) or otherwise or _OF_PARTS.get(package)
    if package in _TOGETHER.get(otherwise, ()):
        extra = otherwise
    if not extra:
        return ""
    other = ", or the ONNX Runtime of this device (see docs/how-to/devices.md)" if package == "onnxruntime" else ""
    return f"pip install 'edgecascade[{extra}]'{other}"


@contextmanager
def naming_extras() -> Iterator[None]:
    """Within this context, the error of a missing package names the extra that installs it.

    Raises:
        ModuleNotFoundError: a package cannot be imported; its `name` is the package's, as usual.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = error.name or ""
        command = installing(name)
        if not command or command in str(error):
            raise
        raise ModuleNotFoundError(f"{name} is not installed: {command}", name=name) from error


def when_used(package: dict[str, Any], modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package whose names are imported when they are first used.

    Args:
        package: its `globals()`, to which a name is added once it is imported.
        modules: the module of each name.
    """

    def found(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package['__name__']!r} has no attribute {name!r}")
        with naming_extras():
            package[name] = value = getattr(import_module(modules[name]), name)
        return value

    return found
