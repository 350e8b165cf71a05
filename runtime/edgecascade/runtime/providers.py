"""Execution providers: those available on this machine, and their options."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from edgecascade.types.errors import ArgumentError, ModelFileError

__all__ = ["CPU", "ELSEWHERE", "PROVIDERS", "available", "engine_options", "preferred"]

CPU = "CPUExecutionProvider"
ELSEWHERE = {"AzureExecutionProvider"}  # it calls a cloud service
# Short names; where a machine has several, the fastest comes first.
PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
    "cpu": CPU,
}


def available() -> list[str]:
    """Return the execution providers of this onnxruntime, except those that send inputs to a service."""
    import onnxruntime as ort

    return [name for name in ort.get_available_providers() if name not in ELSEWHERE]


def preferred(providers: str | Sequence[str], *, fallback: bool = False) -> list[str]:
    """Return the full names of the wanted providers that are available, by preference.

    Args:
        providers: short or full names, the preferred one first; or `auto`, all of them, fastest first.
        fallback: whether another one may replace the first.

    Raises:
        ArgumentError: no name is given, or a name is unknown.
        ModelFileError: this onnxruntime does not have the first, and nothing may replace it.
    """
    here = available()
    if providers == "auto":
        return [name for name in PROVIDERS.values() if name in here]
    asked = [providers] if isinstance(providers, str) else list(providers)
    names = [PROVIDERS.get(one.lower(), one) for one in asked]
    unknown = [one for one, name in zip(asked, names, strict=True) if not name.endswith("ExecutionProvider")]
    if unknown or not names:
        raise ArgumentError(
            f"providers: expected names among auto, {', '.join(PROVIDERS)}, got {', '.join(unknown) or 'none'}"
        )
    found = [name for name in names if name in here]
    if names[0] not in found and not (found and fallback):
        raise ModelFileError(
            f"providers: expected one that this onnxruntime has, got {names[0]}; it has {', '.join(here)}"
        )
    return found


def engine_options(provider: str, cache: str | os.PathLike[str] | None, threads: int) -> Mapping[str, Any]:
    """Return the options of a provider: its threads, and the folder for the engines that it compiles.

    Args:
        provider: full name.
        cache: a folder for compiled engines, created if it is missing; None stores none.
        threads: within one operator.
    """
    options: dict[str, Any] = {}
    if provider == PROVIDERS["xnnpack"]:  # it has its own thread pool; onnxruntime's should then have one thread
        options["intra_op_num_threads"] = str(threads)
    if provider == PROVIDERS["openvino"]:
        options["num_of_threads"] = str(threads)
    if cache is None:
        return options
    folder = os.fspath(cache)
    os.makedirs(folder, exist_ok=True)
    folders = {
        PROVIDERS["tensorrt"]: {
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": folder,
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": folder,
        },
        PROVIDERS["openvino"]: {"cache_dir": folder},
        PROVIDERS["coreml"]: {"ModelCacheDirectory": folder},
    }
    return {**options, **folders.get(provider, {})}
