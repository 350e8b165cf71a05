"""ONNX Runtime's telemetry is off before the engine is loaded, unless the user asks for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

USE = """
import os, sys, threading, time
{first}
most = 0
with Cascade.load(sys.argv[1]) as cascade:
    for _ in range(20):
        cascade.predict(np.zeros(3, np.float32))
        time.sleep(0.05)
        tasks = "/proc/self/task"
        most = max(most, len(os.listdir(tasks)) if os.path.exists(tasks) else threading.active_count())
print(most)
"""
OURS = "import numpy as np\nfrom edgecascade import Cascade"


def threads(file: Path, home: Path, first: str, **variables: str) -> int:
    """Return the most threads that a process has in the second in which it answers; `home` gets its caches."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY",)}
    home.mkdir()
    places = {name: str(home) for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "TMPDIR")}
    ran = subprocess.run(
        [sys.executable, "-B", "-c", USE.format(first=first), str(file)],
        env={**inherited, **places, "OPENBLAS_NUM_THREADS": "1", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return int(ran.stdout)


def written(home: Path) -> list[str]:
    """Return the files below a folder."""
    return [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]


def test_nothing_is_written_and_no_thread_is_started(file: Path, tmp_path: Path) -> None:
    """An engine whose telemetry is on, by the user's will, writes files and has one thread more."""
    ours = threads(file, tmp_path / "ours", OURS)
    assert written(tmp_path / "ours") == []
    asked = threads(file, tmp_path / "asked", OURS, ORT_DISABLE_TELEMETRY="0")
    if not written(tmp_path / "asked"):
        pytest.skip("this build of ONNX Runtime has no telemetry")
    assert ours == asked - 1


@pytest.mark.parametrize("first", [OURS, "from edgecascade.runtime import Cascade", "import edgecascade.export"])
def test_the_variable_is_set_before_the_engine_is_imported(first: str) -> None:
    """Whichever part is imported first, the engine sees it; a value that the user has set stays."""
    code = f"""
import os, sys
class Watch:
    def find_spec(self, name, *_):
        if name == "onnxruntime":
            print(os.environ.get("ORT_DISABLE_TELEMETRY"))
sys.meta_path.insert(0, Watch())
{first}
import onnxruntime
"""
    for given, seen in ((None, "1"), ("0", "0")):
        environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
        environment |= {} if given is None else {"ORT_DISABLE_TELEMETRY": given}
        ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert ran.stdout.split() == [seen]
