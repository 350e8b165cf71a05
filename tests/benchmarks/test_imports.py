"""Import boundaries of the benchmarks: generic measuring imports no built-in pair, and the light demo no torch."""

import subprocess
import sys

import pytest

GENERIC = (
    "commands.offload",
    "commands.latency",
    "commands.compare",
    "commands.clean",
    "commands.choices",
    "commands.chat",
    "offload",
    "report",
    "latency.run",
    "cleaning.run",
)
PAIRS = "edgecascade.benchmarks.pairs"


def imported(*modules: str) -> set[str]:
    """Return the names of all modules in a new process after importing these."""
    code = f"import sys, {', '.join(modules)}\nprint(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("module", GENERIC)
def test_generic_measuring_never_imports_the_built_in_pairs(module: str) -> None:
    """Studies are not imported either."""
    found = imported(f"edgecascade.benchmarks.{module}")
    assert {name for name in found if name.startswith((PAIRS, "studies"))} == set()


def test_the_light_pair_needs_no_torch_no_server_and_no_scikit_learn() -> None:
    """The table of pairs names all pairs and imports none; the light pair imports only what the demo installs."""
    assert {name for name in imported(f"{PAIRS}.built_in") if name.startswith(f"{PAIRS}.")} == {
        f"{PAIRS}.built_in",
        f"{PAIRS}.prepared",
    }
    beyond = {"torch", "sklearn", "starlette", "onnxscript", "pyarrow", "efficientnet_lite_pytorch"}
    assert imported(f"{PAIRS}.languages", f"{PAIRS}.bag_of_tokens") & beyond == set()
