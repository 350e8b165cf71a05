"""Which of onnxruntime's execution providers run a model, and which one really does."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from edgecascade.types.errors import ArgumentError, ModelFileError

__all__ = ["CPU", "ELSEWHERE", "PROVIDERS", "available", "engine_options", "preferred"]

CPU = "CPUExecutionProvider"
ELSEWHERE = {"AzureExecutionProvider"}  # calls a cloud service: not a way to run a file here
# Short names, fastest first where a machine has several.
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
    """The execution providers that this onnxruntime was built with, but for those that send the input elsewhere."""
    import onnxruntime as ort

    return [name for name in ort.get_available_providers() if name not in ELSEWHERE]


def preferred(providers: str | Sequence[str], *, fallback: bool = False) -> list[str]:
    """The full names of those that are here, by preference.

    Args:
        providers: names, short or full, the one wanted first; or `auto`, which is every one, fastest first.
        fallback: whether another one may stand in for the first.

    Raises:
        ArgumentError: none, or a name that no provider has.
        ModelFileError: the first is not in this onnxruntime, and nothing may stand in for it.
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
        raise ModelFileError(f"providers: {names[0]} not in this onnxruntime, which has {', '.join(here)}")
    return found


def engine_options(provider: str, cache: str | os.PathLike[str] | None, threads: int) -> Mapping[str, Any]:
    """What a provider is told: its threads, and where it keeps the engines that it compiles.

    Args:
        provider: full name.
        cache: a folder for compiled engines, made if need be; None keeps none.
        threads: within one operator.
    """
    options: dict[str, Any] = {}
    if provider == PROVIDERS["xnnpack"]:  # has a pool of its own; onnxruntime's should then have one thread
        options["intra_op_num_threads"] = str(threads)
    if provider == PROVIDERS["openvino"]:
        options["num_of_threads"] = str(threads)
    if cache is None:
        return options
    folder = os.fspath(cache)
    os.makedirs(folder, exist_ok=True)
    kept = {
        PROVIDERS["tensorrt"]: {
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": folder,
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": folder,
        },
        PROVIDERS["openvino"]: {"cache_dir": folder},
        PROVIDERS["coreml"]: {"ModelCacheDirectory": folder},
    }
    return {**options, **kept.get(provider, {})}
