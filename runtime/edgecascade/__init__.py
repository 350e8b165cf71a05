"""A small calibrated model answers on the device, and forwards the inputs on which a large remote model is better.

    from edgecascade import Cascade

    with Cascade.load("local.onnx", remote="http://host:8000/v2/models/large", deadline=0.15) as cascade:
        answer = cascade.predict(image)

The parts are `edgecascade.runtime` (the device), `edgecascade.calibration`, `edgecascade.export` and, in a separate
distribution, `edgecascade.benchmarks`. Importing this package does not import them, but it turns off the telemetry of
ONNX Runtime, unless the environment variable `ORT_DISABLE_TELEMETRY` has a value.
"""

import os
from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgecascade.runtime.cascade import Cascade

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime reads it when it is imported
__path__ = extend_path(__path__, __name__)  # the parts lie in four source roots of one checkout
__all__ = ["Cascade", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Cascade":
        from edgecascade.runtime import Cascade

        return Cascade
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
