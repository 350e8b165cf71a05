"""The calibration part imports no other part: it maps arrays to numbers."""

import subprocess
import sys

USE = """
import sys
import numpy as np
from edgecascade.calibration import calibrate_temperature, proportion_interval

calibrate_temperature(np.array([[4.0, 0.0]] * 10), np.array([0] * 9 + [1]))
proportion_interval(1, 2)
print(*sys.modules)
"""


def test_calibration_imports_no_other_part() -> None:
    """Fitting a temperature imports neither export nor runtime, and neither torch, onnx nor onnxruntime."""
    ran = subprocess.run([sys.executable, "-c", USE], capture_output=True, text=True, check=True)
    imported = {".".join(name.split(".")[:2]) for name in ran.stdout.split()}
    assert "edgecascade.calibration" in imported
    beyond = {"edgecascade.export", "edgecascade.runtime", "edgecascade.benchmarks", "torch", "onnx", "onnxruntime"}
    assert imported & beyond == set()
