"""Import boundaries of the runtime: a device needs numpy and onnxruntime only."""

import subprocess
import sys
from pathlib import Path

BEYOND = {
    *("torch", "onnx", "scipy", "matplotlib", "sklearn", "PIL", "starlette", "uvicorn", "pydantic", "grpc"),
    *("opentelemetry", "prometheus_client", "av", "aiohttp", "pyarrow", "pandas", "polars"),
    *("edgecascade.export", "edgecascade.calibration", "edgecascade.benchmarks"),
}


def imported(code: str, *arguments: str) -> set[str]:
    """Return the modules, and the parts of edgecascade, that the code imports."""
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    names = ran.stdout.splitlines()[-1].split()
    return {n.split(".")[0] for n in names} | {".".join(n.split(".")[:2]) for n in names if n.startswith("edgec")}


def test_importing_the_runtime_imports_no_other_part() -> None:
    """Packages that only other parts need are not imported either."""
    found = imported("from edgecascade import Cascade")
    assert {"numpy", "onnxruntime", "edgecascade.runtime"} <= found
    assert found & (BEYOND | {"concurrent", "hashlib", "http", "json", "logging", "sqlite3", "ssl"}) == set()


def test_every_public_name_can_be_imported() -> None:
    """Each is listed by `dir`, and has a docstring unless it is an alias."""
    import edgecascade.runtime as runtime

    assert set(runtime.__all__) <= set(dir(runtime))
    for name in runtime.__all__:
        found = getattr(runtime, name)
        assert found.__doc__ or name in ("Batch", "Decode", "Scores")


def test_answering_imports_no_other_part(file: Path) -> None:
    """This includes a forward over HTTP, even one that fails."""
    code = (
        "import numpy as np\n"
        "from edgecascade.runtime import Cascade\n"
        "with Cascade.load(sys.argv[1], remote='http://127.0.0.1:9/v2/models/m') as cascade:\n"
        "    assert cascade.predict(np.array([0, 0.5, 0], np.float32)).reason.value == 'offline'"
    )
    assert imported(code, str(file)) & BEYOND == set()


def test_the_commands_of_a_device_import_no_other_part(file: Path) -> None:
    """`inspect` and `run` work in the device install."""
    code = "from edgecascade.cli import main\nassert main(['run', sys.argv[1], sys.argv[2]]) == 0"
    inputs = file.with_suffix(".npy")
    inputs.write_bytes(b"")
    import numpy as np

    np.save(inputs, np.zeros((1, 3), np.float32))
    assert imported(code, str(file), str(inputs)) & BEYOND == set()


def test_handing_a_cascade_over_imports_no_other_part() -> None:
    """Nor the engine that takes it."""
    modules = ", ".join(f"edgecascade.deploy.{one}" for one in ("triton", "kserve", "ray", "stages"))
    assert imported(f"import {modules}") & (BEYOND | {"ray"}) == set()


def test_the_gateway_needs_no_engine() -> None:
    """Two chat endpoints need no ONNX Runtime on the device that stands between them."""
    both = "edgecascade.chat.commands.gateway, edgecascade.chat.gateway"
    assert imported(f"sys.modules['onnxruntime'] = None\nimport {both}") & (BEYOND - {"aiohttp"}) == set()
